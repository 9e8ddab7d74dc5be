package outbox

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"tuxwatch/firmware/message"
)

// onSmallFileSystem runs the calling test again in a mount namespace of its
// own, where it may mount, and then runs do there on an empty file system of
// size bytes: on a tmpfs, and on an ext4 with a journal as an SD card has it
// where the machine allows. Nothing of it is seen outside or stays.
func onSmallFileSystem(t *testing.T, size int64, do func(t *testing.T, dir string)) {
	t.Helper()
	if inNamespace(t, size, func(t *testing.T, dir, _ string) { do(t, dir) }) {
		return
	}
	t.Run("tmpfs", func(t *testing.T) { again(t, "tmpfs") })
	t.Run("ext4", func(t *testing.T) { again(t, ext4Image(t, size)) })
}

// onExt4 is onSmallFileSystem on an ext4 only; do gets its image as well.
func onExt4(t *testing.T, size int64, do func(t *testing.T, dir, image string)) {
	t.Helper()
	if !inNamespace(t, size, do) {
		again(t, ext4Image(t, size))
	}
}

// inNamespace returns false in the process that has yet to make the namespace.
func inNamespace(t *testing.T, size int64, do func(t *testing.T, dir, image string)) bool {
	t.Helper()
	kind, isChild := strings.CutPrefix(os.Getenv(childVariable), t.Name()+":")
	if !isChild {
		return false
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if kind == "tmpfs" {
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", size)); err != nil {
			t.Fatal(err)
		}
	} else {
		mount(t, "-o", "loop", kind, dir)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	do(t, dir, kind)
	return true
}

// ext4Image makes an ext4 with about size bytes to use.
func ext4Image(t *testing.T, size int64) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("NOT TESTED: mounting an ext4 needs root")
	}
	// In memory where possible: the file system counts, not the disk below.
	parent := "/dev/shm"
	if _, err := os.Stat(parent); err != nil {
		parent = ""
	}
	folder, err := os.MkdirTemp(parent, "outbox")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(folder) })
	image := filepath.Join(folder, "ext4.img")
	// The journal and the inodes take their part.
	if err := errors.Join(os.WriteFile(image, nil, 0o600), os.Truncate(image, size+4<<20)); err != nil {
		t.Fatal(err)
	}
	if output, err := exec.Command("mkfs.ext4", "-q", "-b", "1024", "-N", "64", "-m", "0", "-J", "size=1", image).CombinedOutput(); err != nil {
		t.Skipf("NOT TESTED: mkfs.ext4: %v: %s", err, output)
	}
	return image
}

func again(t *testing.T, kind string) {
	t.Helper()
	name, _, _ := strings.Cut(t.Name(), "/")
	child := exec.Command(os.Args[0], "-test.run=^"+name+"$", "-test.v", "-test.count=1")
	// The race detector would wait a second at the end of the process.
	child.Env = append(os.Environ(), childVariable+"="+name+":"+kind, "GORACE=atexit_sleep_ms=0")
	child.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	if os.Geteuid() != 0 {
		child.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		child.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
		child.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	output, err := child.CombinedOutput()
	switch {
	case errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOSPC) && len(output) == 0:
		t.Skipf("NOT TESTED: a file system cannot be mounted here (%v); run as root", err)
	case strings.Contains(string(output), "--- SKIP: "+name):
		t.Skipf("%s", output)
	case err != nil || !strings.Contains(string(output), "--- PASS: "+name):
		t.Fatalf("in a namespace of its own: %v\n%s", err, output)
	}
	t.Logf("%s", output)
}

// fill takes what is left of the file system, to the last block.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size := 64 << 10; size > 0; size /= 2 {
		for err = nil; err == nil; {
			_, err = f.Write(make([]byte, size))
		}
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
}

// expectNewest checks that the outbox holds an unbroken run of messages up to
// the last one that was acknowledged.
func expectNewest(t *testing.T, o *Outbox, acknowledged []string) []Record {
	t.Helper()
	records := all(t, o)
	got := names(records)
	if len(got) == 0 || len(got) > len(acknowledged) {
		t.Fatalf("%d records of %d acknowledged", len(got), len(acknowledged))
	}
	want := acknowledged[len(acknowledged)-len(got):]
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("record %d of %d is %s, want %s", i, len(got), got[i], want[i])
		}
	}
	return records
}

func TestAFullDiskDropsTheOldestKeepsRunningAndRecovers(t *testing.T) {
	onSmallFileSystem(t, 2<<20, func(t *testing.T, dir string) {
		o := open(t, filepath.Join(dir, "outbox"), Options{MaxBytes: 64 << 20})
		var acknowledged []string
		putSome := func(n int) {
			t.Helper()
			for range n {
				id := numbered(len(acknowledged))
				if err := o.Put(t.Context(), message.Message{ID: id, Body: make([]byte, 1500)}, 5, 0); err != nil {
					t.Fatalf("after %d: %v", len(acknowledged), err)
				}
				acknowledged = append(acknowledged, id)
			}
		}
		putSome(300)
		if s := o.Stats(); s.DiskFull || s.Depth != 300 || s.Fault != "" {
			t.Fatalf("%+v", s)
		}
		// Another program takes everything that is left.
		hog := filepath.Join(dir, "hog")
		fill(t, hog)
		putSome(600)
		s := o.Stats()
		if !s.DiskFull || s.Dropped[DiskFull] == 0 || int(s.Dropped[DiskFull])+s.Depth != 900 || s.Fault != "" {
			t.Errorf("on the full disk: %+v", s)
		}
		expectNewest(t, o, acknowledged)
		if s.Depth < 150 {
			t.Errorf("only %d messages are left of the 300 that had room", s.Depth)
		}
		// It also takes what our own reserve gave back.
		fill(t, hog+"2")
		putSome(300)
		expectNewest(t, o, acknowledged)

		// Reopened on the full disk, everything is still there.
		depth := o.Stats().Depth
		if err := o.Close(); err != nil {
			t.Fatal(err)
		}
		o = open(t, filepath.Join(dir, "outbox"), Options{MaxBytes: 64 << 20})
		if s := o.Stats(); s.Depth != depth || s.Damaged != 0 {
			t.Errorf("reopened: %+v, want depth %d", s, depth)
		}
		putSome(50)
		expectNewest(t, o, acknowledged)

		// There is room again.
		if err := errors.Join(os.Remove(hog), os.Remove(hog+"2")); err != nil {
			t.Fatal(err)
		}
		if err := o.Maintain(t.Context()); err != nil {
			t.Fatal(err)
		}
		before := o.Stats()
		putSome(100)
		s = o.Stats()
		if s.DiskFull || s.Dropped[DiskFull] != before.Dropped[DiskFull] || s.Depth != before.Depth+100 {
			t.Errorf("with room again: %+v, before %+v", s, before)
		}
		if info, err := os.Stat(filepath.Join(dir, "outbox", reserveName)); err != nil || info.Size() == 0 {
			t.Errorf("the reserve was not made again: %v", err)
		}
		expectNewest(t, o, acknowledged)
	})
}

func TestOpeningOnAFullDiskWaitsForRoom(t *testing.T) {
	onSmallFileSystem(t, 1<<20, func(t *testing.T, dir string) {
		if err := os.Mkdir(filepath.Join(dir, "outbox"), 0o700); err != nil {
			t.Fatal(err)
		}
		hog := filepath.Join(dir, "hog")
		fill(t, hog)
		clock := newFakeTime()
		o := open(t, filepath.Join(dir, "outbox"), clock.options())
		err := o.Put(t.Context(), text("early"), 5, 0)
		if !errors.Is(err, ErrDiskFull) {
			t.Errorf("putting without any room: %v", err)
		}
		if s := o.Stats(); s.Fault == "" || s.Rejected != 1 {
			t.Errorf("%+v", s)
		}
		if err := os.Remove(hog); err != nil {
			t.Fatal(err)
		}
		clock.pass(2 * reopenAfter)
		if err := o.Put(t.Context(), text("later"), 5, 0); err != nil {
			t.Fatal(err)
		}
		if got := names(all(t, o)); len(got) != 1 || got[0] != "later" || o.Stats().Fault != "" {
			t.Errorf("got %v, %+v", got, o.Stats())
		}
	})
}

// What the kernel does with an ext4 on a failing SD card: it shuts it down.
func TestAFileSystemThatFailsIsSurvived(t *testing.T) {
	onExt4(t, 2<<20, func(t *testing.T, dir, image string) {
		clock := newFakeTime()
		o := open(t, filepath.Join(dir, "outbox"), clock.options())
		put(t, o, text("before"), 5)
		mount(t, "-o", "remount,abort", dir)
		for range 5 {
			if err := o.Put(t.Context(), text("refused"), 5, 0); err == nil {
				t.Fatal("a message was taken on a file system that is shut down")
			}
			clock.pass(2 * reopenAfter)
		}
		if s := o.Stats(); s.Fault == "" || s.Rejected != 5 {
			t.Errorf("%+v", s)
		}
		// The way back is mounting it again, here with the outbox waiting.
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Fatal(err)
		}
		mount(t, "-o", "loop", image, dir)
		eventuallyPut(t, o, clock, text("after"))
		if s := o.Stats(); s.Fault != "" {
			t.Errorf("%+v", s)
		}
		if got := names(all(t, o)); !slices.Equal(got, []string{"before", "after"}) {
			t.Errorf("got %v", got)
		}
	})
}

func mount(t *testing.T, arguments ...string) {
	t.Helper()
	if output, err := exec.Command("mount", arguments...).CombinedOutput(); err != nil {
		t.Skipf("NOT TESTED: mount %v: %v: %s", arguments, err, output)
	}
}

// eventuallyPut puts m; the first tries may find the store not yet opened again.
func eventuallyPut(t *testing.T, o *Outbox, clock *fakeTime, m message.Message) {
	t.Helper()
	var err error
	for range 5 {
		clock.pass(2 * reopenAfter)
		if err = o.Put(t.Context(), m, 5, 0); err == nil {
			return
		}
	}
	t.Fatal(err)
}

func TestLargeMessagesOnAFullDisk(t *testing.T) {
	onSmallFileSystem(t, 4<<20, func(t *testing.T, dir string) {
		o := open(t, filepath.Join(dir, "outbox"), Options{MaxBytes: 64 << 20})
		for i := range 5 {
			put(t, o, message.Message{ID: fmt.Sprint("small", i), Body: make([]byte, 200)}, 0)
		}
		for i := range 100 {
			put(t, o, message.Message{ID: numbered(i), Body: make([]byte, 100_000)}, 9)
		}
		records := all(t, o)
		got := names(records)
		if len(got) < 15 || got[4] != "small4" || got[len(got)-1] != numbered(99) {
			t.Errorf("left are %v", got)
		}
		if s := o.Stats(); int(s.Dropped[DiskFull]+s.Dropped[FullBytes]) != 105-len(got) {
			t.Errorf("%+v", s)
		}
	})
}
