package check

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	// bootNotes has a line each.
	bootNotes = "/run/tuxwatch/boot-notes"
	// notGrown is how much room behind the data partition is worth a word.
	notGrown = 64 << 20
)

// Slot is the one of the card image's two systems that the boot loader started,
// in capitals: it says so on the kernel's command line. It is empty on other
// systems. root goes before /proc.
func Slot(root string) string {
	line, err := os.ReadFile(filepath.Join(root, "proc/cmdline"))
	if err != nil {
		return ""
	}
	for _, word := range strings.Fields(string(line)) {
		if s, ok := strings.CutPrefix(word, "tuxwatch.slot="); ok {
			return strings.ToUpper(s)
		}
	}
	return ""
}

// BootNotes are what the card image's initramfs had to put right, or could not,
// before the system started; none where all was well. root goes before /run.
func BootNotes(root string) ([]string, error) {
	data, err := os.ReadFile(filepath.Join(root, bootNotes))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("what happened at the start is not known: %w", err)
	}
	var notes []string
	for line := range strings.Lines(string(data)) {
		if line = strings.TrimSpace(line); line != "" {
			notes = append(notes, line)
		}
	}
	return notes, nil
}

// image looks at what is so on the card image alone: a root that nothing writes
// to, and a data partition as large as the card.
func (c *checker) image(context.Context) {
	slot := Slot(c.path("/"))
	if slot == "" {
		return
	}
	root, err := c.System.FileSystem("/")
	switch {
	case err != nil:
		c.warn("image", "root", err.Error(), "")
	case root.Flags&unix.ST_RDONLY == 0:
		c.warn("image", "root", "the root file system of slot "+slot+" can be written to: an update takes away what is changed there, and a power cut may damage it", "start again; what is to stay belongs on /data")
	default:
		c.ok("image", "root", "slot "+slot+" runs, its root file system is read-only")
	}
	c.dataPartition()
	notes, err := BootNotes(c.path("/"))
	if err != nil {
		c.warn("image", "start", err.Error(), "run it with sudo")
	}
	for _, note := range notes {
		c.warn("image", "start", "at the start of the device: "+note, "if it comes again at the next start, replace the card")
	}
}

// dataPartition sees that what is kept is kept on the card, on all of it.
func (c *checker) dataPartition() {
	const where = "/data"
	stat, err := c.System.FileSystem(where)
	if err != nil {
		c.fail("image", "data", err.Error(), "write the card anew, or replace it")
		return
	}
	if stat.Type == unix.TMPFS_MAGIC {
		c.fail("image", "data", "the data partition could not be used: settings, keys and waiting alerts are in memory, until the next start", "start again, and if it stays so, write the card anew or replace it")
		return
	}
	// In sectors of 512 bytes, whatever the card's are (Linux,
	// Documentation/ABI/stable/sysfs-block).
	device, err := c.System.Device(where)
	if err != nil {
		return
	}
	partition, err := filepath.EvalSymlinks(c.path(fmt.Sprintf("/sys/dev/block/%d:%d", unix.Major(device), unix.Minor(device))))
	if err != nil {
		return
	}
	card := number(filepath.Join(filepath.Dir(partition), "size"))
	// The partition table's numbers have 32 bits.
	card = min(card, 1<<32-1)
	end := number(filepath.Join(partition, "start")) + number(filepath.Join(partition, "size"))
	if rest := (card - end) * 512; rest > notGrown {
		c.warn("image", "data", fmt.Sprintf("%s of the card are not used: the data partition has not grown to its end", size(rest)), "start again, which tries it again; sudo journalctl -b -g tuxwatch-init says what went wrong")
		return
	}
	c.ok("image", "data", fmt.Sprintf("the data partition has all of the card, %s", size(int64(stat.Blocks)*int64(stat.Bsize))))
}
