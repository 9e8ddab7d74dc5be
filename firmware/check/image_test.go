package check

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// card is a healthy computer with the image's card of 2 GiB: data from 1 GiB on.
func card(t *testing.T, dataSectors int) Options {
	o := options(t, quiet)
	sys := o.System.Root + "/sys"
	const block = "/devices/mmc0/block/mmcblk0"
	write(t, o.System.Root+"/proc/cmdline", "console=ttyS1 root=PARTUUID=1-02 ro tuxwatch.slot=a panic=10\n")
	write(t, sys+block+"/size", "4194304\n")
	write(t, sys+block+"/mmcblk0p4/start", "2097152\n")
	write(t, sys+block+"/mmcblk0p4/size", fmt.Sprintln(dataSectors))
	write(t, sys+block+"/mmcblk0p4/partition", "4\n")
	if err := os.MkdirAll(sys+"/dev/block", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(sys+block+"/mmcblk0p4", sys+"/dev/block/179:4"); err != nil {
		t.Fatal(err)
	}
	o.System.Device = func(string) (uint64, error) { return unix.Mkdev(179, 4), nil }
	o.System.FileSystem = func(path string) (unix.Statfs_t, error) {
		s := unix.Statfs_t{Bsize: 4096, Bavail: 1 << 20, Files: 1 << 20, Ffree: 1 << 20, Blocks: 250_000, Type: unix.EXT4_SUPER_MAGIC}
		if path == "/" {
			s.Flags = unix.ST_RDONLY
		}
		return s, nil
	}
	return o
}

func TestImage(t *testing.T) {
	all := run(t, card(t, 2097152))
	all.has(t, "image", "root", OK, "slot A", "read-only")
	all.has(t, "image", "data", OK, "all of the card, 1.02 GB")
	if slices.ContainsFunc(all, func(f Finding) bool { return f.Check == "image" && f.Subject == "start" }) {
		t.Error("there was nothing at the start")
	}

	// 64 MiB in the image: not grown.
	run(t, card(t, 131072)).has(t, "image", "data", Warn, "1.01 GB of the card are not used", "start again", "tuxwatch-init")
	// A card larger than the table's numbers.
	o := card(t, 1<<32-1-2097152)
	write(t, o.System.Root+"/sys/devices/mmc0/block/mmcblk0/size", "8589934592\n")
	run(t, o).has(t, "image", "data", OK, "all of the card")

	o = card(t, 2097152)
	whole := o.System.FileSystem
	o.System.FileSystem = func(path string) (unix.Statfs_t, error) {
		s, err := whole(path)
		s.Flags = 0
		if path == "/data" {
			s.Type = unix.TMPFS_MAGIC
		}
		return s, err
	}
	write(t, o.System.Root+bootNotes, "the data partition cannot be used at all: the card is worn out or broken\nnothing is kept\n")
	all = run(t, o)
	all.has(t, "image", "root", Warn, "slot A can be written to", "/data")
	all.has(t, "image", "data", Fail, "in memory")
	all.has(t, "image", "start", Warn, "worn out or broken", "replace the card")
	all.has(t, "image", "start", Warn, "nothing is kept")

	o.System.FileSystem = func(path string) (unix.Statfs_t, error) {
		if path == "/data" || path == "/" {
			return unix.Statfs_t{}, errors.New("stale handle")
		}
		return whole(path)
	}
	all = run(t, o)
	all.has(t, "image", "root", Warn, "stale handle")
	all.has(t, "image", "data", Fail, "stale handle")
}

// What to do about the disk is something else where the state is on a partition
// of its own.
func TestDiskRemediesOnTheImage(t *testing.T) {
	o := card(t, 2097152)
	write(t, filepath.Join(o.System.Root, "sys/fs/ext4/mmcblk0p4/errors_count"), "3\n")
	o.System.FileSystem = func(string) (unix.Statfs_t, error) { return unix.Statfs_t{Bsize: 4096, Bavail: 10}, nil }
	all := run(t, o)
	all.has(t, "disk", "", Fail, "du -xh /data |")
	all.has(t, "disk", "health", Fail, "3 errors", "start again, which checks it")
}

func TestSlot(t *testing.T) {
	for line, want := range map[string]string{
		"ro tuxwatch.slot=b": "B", "tuxwatch.slot=a quiet\n": "A", "root=/dev/sda1 tuxwatch.slots=x": "", "": "",
	} {
		root := t.TempDir()
		write(t, root+"/proc/cmdline", line)
		if got := Slot(root); got != want {
			t.Errorf("%q: %q", line, got)
		}
	}
	if got := Slot(t.TempDir()); got != "" {
		t.Errorf("without /proc: %q", got)
	}
}
