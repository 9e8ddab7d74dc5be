package emulator_test

import (
	"bytes"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"tuxwatch/scripts/emulator"
)

// damagedData starts the device from a card whose data partition has lost what
// file systems begin with, and then from one that has lost all of it. The device
// comes up each time and says what became of it.
func (p *pi) damagedData() {
	const settings = "/etc/tuxwatch/tuxwatch.yaml"
	original := func() {
		p.Helper()
		if is, want := p.sh("sha256sum <"+settings), p.sh("sha256sum </usr/share/tuxwatch/tuxwatch.yaml"); is != want {
			p.Errorf("the original configuration did not come back: %s", p.sh("head -n 5 "+settings))
		}
	}
	notes := func(want string) {
		p.Helper()
		if said := p.sh("cat /run/tuxwatch/boot-notes"); !strings.Contains(said, want) {
			p.Errorf("the notes of the boot lack %q:\n%s", want, said)
		}
	}
	p.PowerCut()
	// Not to be taken for the original.
	p.put("tuxwatch.yaml", "modules:\n  filterModule:\n    desired: {TemperatureThreshold: warm}\n")
	// Needed once nothing is left on the data partition.
	p.put("authorized_keys", string(emulator.AuthorizedKey(p.key)))
	p.switchOn(emulator.Options{})
	p.ready()
	before := p.identity()
	// The way of somebody to have the original configuration again.
	p.sh("sudo truncate --size 0 " + settings + " && sudo sync")

	// The superblock and the descriptors behind it; there are copies of both.
	p.PowerCut()
	offset, size := extent(p.T, p.card.Path(), 4)
	p.overwrite(offset, bytes.Repeat([]byte{0xff}, 8192))
	p.switchOn(emulator.Options{})
	p.ready()
	notes("was damaged; repaired by e2fsck -y")
	if after := p.identity(); after != before {
		p.Errorf("the device has another identity after the repair:\n%s\nbefore:\n%s", after, before)
	}
	original()
	// Whole again: the kernel finds nothing while the device is at work.
	p.sh("sudo cp -r /usr/share/tuxwatch /data/trial && sudo sync && sudo rm -r /data/trial && sudo sync")
	if said := p.sh("sudo dmesg"); strings.Contains(said, "EXT4-fs error") {
		p.Errorf("the data partition is not whole after its repair:\n%s", said)
	}

	p.PowerCut()
	file, err := os.OpenFile(p.card.Path(), os.O_WRONLY, 0)
	if err != nil {
		p.Fatal(err)
	}
	err = unix.Fallocate(int(file.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, offset, size)
	if closeErr := file.Close(); err != nil || closeErr != nil {
		p.Fatalf("%v, %v", err, closeErr)
	}
	p.switchOn(emulator.Options{})
	p.ready() // with the key on the FAT partition
	notes("it was made anew")
	original()
	if after := p.identity(); after == before {
		p.Errorf("the device has its identity from a partition that was wiped: %s", after)
	}
	p.dataHasGrown()
	p.bootsClean()
}

// overwrite writes to the card of a device that is off.
func (p *pi) overwrite(offset int64, content []byte) {
	p.Helper()
	file, err := os.OpenFile(p.card.Path(), os.O_WRONLY, 0)
	if err != nil {
		p.Fatal(err)
	}
	_, err = file.WriteAt(content, offset)
	if closeErr := file.Close(); err != nil || closeErr != nil {
		p.Fatalf("%v, %v", err, closeErr)
	}
}
