package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bench is a folder with an image, and a loop device to write it to.
type bench struct {
	t       *testing.T
	dir     string
	image   []byte
	path    string // of the image
	file    string // behind the device
	device  string
	flasher *flasher
	said    bytes.Buffer
}

// newBench makes a device of the given size, full of what is not zero.
func newBench(t *testing.T, size int64) *bench {
	t.Helper()
	dir := fastDir(t)
	file := filepath.Join(dir, "card")
	if err := os.WriteFile(file, bytes.Repeat([]byte("old data"), int(size/8)), 0o600); err != nil {
		t.Fatal(err)
	}
	return benchOn(t, dir, file, attach(t, file))
}

func benchOn(t *testing.T, dir, file, device string) *bench {
	t.Helper()
	b := &bench{t: t, dir: dir, image: bytes.Clone(testImage(1)), file: file, device: device}
	b.path = filepath.Join(b.dir, "tuxwatch-1-arm64.img.xz")
	b.pack()
	b.flasher = &flasher{options: options{device: b.device, image: b.path, yes: true}, out: &b.said, in: strings.NewReader(""), sys: "/sys"}
	return b
}

// fastDir is a folder in memory where there is one: the tests wait for what
// they write to be safe, for which a busy disk takes long.
func fastDir(t *testing.T) string {
	dir, err := os.MkdirTemp("/dev/shm", "flash-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// attach makes a loop device of a file.
func attach(t *testing.T, file string) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("NOT TESTED: making a loop device needs root")
	}
	out, err := exec.Command("losetup", "--find", "--show", "--partscan", file).CombinedOutput()
	if err != nil {
		t.Skipf("NOT TESTED: there are no loop devices here: %v: %s", err, out)
	}
	device := strings.TrimSpace(string(out))
	t.Cleanup(func() {
		if out, err := exec.Command("losetup", "--detach", device).CombinedOutput(); err != nil {
			t.Errorf("losetup --detach %s: %v: %s", device, err, out)
		}
	})
	return device
}

// packed are archives that were made already: most tests use the same image.
var packed = map[[sha256.Size]byte][2]string{}

// pack writes the image with everything that belongs to it.
func (b *bench) pack() {
	b.t.Helper()
	sum := sha256.Sum256(b.image)
	if _, ok := packed[sum]; !ok {
		xz := exec.Command("xz", "-0", "--stdout", "--block-size=1MiB")
		xz.Stdin = bytes.NewReader(b.image)
		out, err := xz.Output()
		if err != nil {
			b.t.Skipf("NOT TESTED: xz is not installed: %v", err)
		}
		packed[sum] = [2]string{string(out), mapOf(b.image)}
	}
	b.put("tuxwatch-1-arm64.img.xz", packed[sum][0])
	b.put("tuxwatch-1-arm64.img.bmap", packed[sum][1])
	b.sums()
}

// sums writes SHA256SUMS for what is there.
func (b *bench) sums() {
	b.t.Helper()
	var lines strings.Builder
	for _, name := range []string{"tuxwatch-1-arm64.img.xz", "tuxwatch-1-arm64.img", "tuxwatch-1-arm64.img.bmap"} {
		data, err := os.ReadFile(filepath.Join(b.dir, name))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		fmt.Fprintf(&lines, "%x  %s\n", sha256.Sum256(data), name)
	}
	b.put("SHA256SUMS", lines.String())
}

func (b *bench) put(name, text string) {
	b.t.Helper()
	if err := os.WriteFile(filepath.Join(b.dir, name), []byte(text), 0o600); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) remove(name string) {
	b.t.Helper()
	if err := os.Remove(filepath.Join(b.dir, name)); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) run() (*result, error) { return b.flasher.run(context.Background()) }

// content is what is on the device.
func (b *bench) content() []byte {
	b.t.Helper()
	data, err := os.ReadFile(b.device)
	if err != nil {
		b.t.Fatal(err)
	}
	return data
}

// fails runs it and wants an error that says all that.
func (b *bench) fails(want ...string) {
	b.t.Helper()
	_, err := b.run()
	if err == nil {
		b.t.Fatalf("no error; want %q", want)
	}
	for _, w := range want {
		if !strings.Contains(err.Error(), w) {
			b.t.Errorf("%v\nwant %q", err, w)
		}
	}
}

// untouched wants the device's ends, which are written first, as they were.
func (b *bench) untouched() {
	b.t.Helper()
	f, err := os.Open(b.device)
	if err != nil {
		b.t.Fatal(err)
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		b.t.Fatal(err)
	}
	part := make([]byte, 4096)
	for _, at := range []int64{0, edge - 4096, size - edge, size - 4096} {
		if _, err := f.ReadAt(part, at); err != nil || !bytes.Equal(part, bytes.Repeat([]byte("old data"), len(part)/8)) {
			b.t.Fatalf("the device was written to, at byte %d (%v)", at, err)
		}
	}
}

// unusable wants a device without a partition table, after something was
// written.
func (b *bench) unusable() {
	b.t.Helper()
	data := b.content()
	if !zero(data[:edge]) || !zero(data[len(data)-sector:]) {
		b.t.Error("the device still looks as if there were something on it")
	}
}

func TestWrite(t *testing.T) {
	const deviceSize = 24 << 20
	for _, test := range []struct {
		name    string
		prepare func(b *bench)
		whole   bool // unused blocks are written as well
	}{
		{"xz and block map", func(b *bench) {}, false},
		{"plain image and block map", func(b *bench) {
			b.flasher.image = strings.TrimSuffix(b.path, ".xz")
			writeSparse(b.t, b.flasher.image, b.image)
			b.sums()
		}, false},
		{"no block map", func(b *bench) { b.remove("tuxwatch-1-arm64.img.bmap") }, true},
		{"everything asked for", func(b *bench) { b.flasher.all = true }, true},
		{"block map elsewhere", func(b *bench) {
			b.remove("tuxwatch-1-arm64.img.bmap")
			b.put("other.bmap", mapOf(b.image))
			b.flasher.bmap = filepath.Join(b.dir, "other.bmap")
		}, false},
		{"unchecked", func(b *bench) { b.remove("SHA256SUMS"); b.flasher.unchecked = true }, false},
		{"no whole number of sectors", func(b *bench) { b.image = b.image[:len(b.image)-300]; b.pack() }, false},
		{"smaller than what is kept for the end", func(b *bench) { b.image = b.image[:5000]; b.pack() }, true},
		{"written before", func(b *bench) {
			if _, err := b.run(); err != nil {
				b.t.Fatal(err)
			}
			b.image = bytes.Clone(testImage(2))
			b.pack()
		}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := newBench(t, deviceSize)
			b.flasher.noDiscard = true
			test.prepare(b)
			r, err := b.run()
			if err != nil {
				t.Fatalf("%v\n%s", err, &b.said)
			}
			got := b.content()
			// The other parts may hold anything.
			inUse := []extent{{0, int64(len(b.image))}}
			if !test.whole {
				inUse = nil
				for at := int64(0); at < int64(len(b.image)); at += 4096 {
					if e := (extent{at, min(4096, int64(len(b.image))-at)}); !zero(b.image[e.offset:e.end()]) {
						inUse = append(inUse, e)
					}
				}
			}
			inUse = append(inUse, extent{0, min(edge, int64(len(b.image)))}, extent{7 << 20, edge}, extent{10 << 20, edge}, extent{int64(len(b.image)) - edge, edge})
			for _, e := range inUse {
				if e = e.within(extent{0, int64(len(b.image))}); e.length > 0 && !bytes.Equal(got[e.offset:e.end()], b.image[e.offset:e.end()]) {
					t.Fatalf("bytes %d to %d differ", e.offset, e.end())
				}
			}
			if !zero(got[len(got)-edge:]) {
				t.Error("the end of the device has what a GPT or RAID may have left")
			}
			if !test.whole && bytes.Equal(got[8<<20:10<<20], b.image[8<<20:10<<20]) {
				t.Error("unused blocks were written, which takes long")
			}
			for at := roundUp(int64(len(b.image)), edge); at < deviceSize-edge; at += edge {
				if data := got[at : at+4096]; !zero(data) && !bytes.HasPrefix(data, []byte("old data")) {
					t.Fatalf("a mark is left at byte %d", at)
				}
			}
			if r.BlockMap == test.whole && test.name != "smaller than what is kept for the end" || r.Verified < 1<<20 || r.Boot != b.device+"p1" || r.ImageSize != int64(len(b.image)) {
				t.Errorf("%+v", r)
			}
			if len(b.image) == 16<<20 {
				name := filepath.Base(b.device)
				for n := 1; n <= 4; n++ {
					if _, err := os.Stat(fmt.Sprintf("/sys/block/%s/%sp%d", name, name, n)); err != nil {
						t.Errorf("the kernel has no partition %d: %v", n, err)
					}
				}
			}
			if !strings.Contains(b.said.String(), "sudo mount "+b.device+"p1") || !strings.Contains(b.said.String(), "verifying: ") {
				t.Errorf("said:\n%s", &b.said)
			}
		})
	}
}

// With discarding, what is not written is gone.
func TestDiscard(t *testing.T) {
	b := newBench(t, 20<<20)
	if _, err := b.run(); err != nil {
		t.Fatal(err)
	}
	if data := b.content(); bytes.Contains(data, []byte("old data")) {
		if out, _ := exec.Command("lsblk", "--noheadings", "--nodeps", "--output", "DISC-MAX", b.device).Output(); strings.TrimSpace(string(out)) == "0B" {
			t.Skip("NOT TESTED: loop devices discard nothing here")
		}
		t.Error("old data are still there")
	}
}

func TestRefusedBeforeWriting(t *testing.T) {
	shared := newBench(t, 20<<20)
	for _, test := range []struct {
		name    string
		prepare func(b *bench)
		want    string
	}{
		{"changed image", func(b *bench) {
			data, _ := os.ReadFile(b.path)
			data[len(data)/2] ^= 1
			b.put("tuxwatch-1-arm64.img.xz", string(data))
		}, "is damaged or not the one"},
		{"no checksums", func(b *bench) { b.remove("SHA256SUMS") }, "there is no"},
		{"other checksums", func(b *bench) { b.put("SHA256SUMS", unsealed+"  other.img.xz\n") }, "does not have tuxwatch-1-arm64.img.xz"},
		{"no checksum in the line", func(b *bench) { b.put("SHA256SUMS", "abc  tuxwatch-1-arm64.img.xz\n") }, "does not begin with a SHA-256"},
		{"cut off, checksum right", func(b *bench) {
			data, _ := os.ReadFile(b.path)
			b.put("tuxwatch-1-arm64.img.xz", string(data[:len(data)-100]))
			b.sums()
		}, "cut off or damaged"},
		{"device too small", func(b *bench) { b.image = make([]byte, 21<<20); b.pack() }, "is too small: it has 21.0 MB, and the image"},
		{"changed block map", func(b *bench) {
			b.put("tuxwatch-1-arm64.img.bmap", mapOf(testImage(2)))
		}, "not the one that SHA256SUMS is about"},
		{"damaged block map", func(b *bench) {
			b.put("tuxwatch-1-arm64.img.bmap", strings.Replace(mapOf(b.image), "an image file", "some image", 1))
			b.sums()
		}, "its own checksum does not fit"},
		{"block map of another size", func(b *bench) {
			b.put("tuxwatch-1-arm64.img.bmap", mapOf(b.image[:1<<20]))
			b.sums()
		}, "is of another image"},
		{"no such image", func(b *bench) { b.flasher.image = filepath.Join(b.dir, "none.img.xz") }, "opening the image"},
		{"a package", func(b *bench) { b.flasher.image = "tuxwatch.deb" }, "neither .img.xz nor .img"},
		{"no such device", func(b *bench) { b.flasher.device = filepath.Join(b.dir, "none") }, "there is no device"},
		{"a file", func(b *bench) { b.flasher.device = b.file }, "is a file, not a device; to write into a file make it one: sudo losetup"},
		{"a terminal", func(b *bench) { b.flasher.device = "/dev/null" }, "is not a disk"},
		{"nothing typed", func(b *bench) { b.flasher.yes = false }, "nothing was typed"},
		{"something else typed", func(b *bench) {
			b.flasher.yes = false
			b.flasher.in = strings.NewReader("yes\n")
		}, `"yes" is not loop`},
		{"in use by another program", func(b *bench) {
			f, err := os.OpenFile(b.device, os.O_RDONLY|os.O_EXCL, 0)
			if err != nil {
				b.t.Fatal(err)
			}
			b.t.Cleanup(func() { f.Close() })
		}, "something uses it"},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := benchOn(t, t.TempDir(), shared.file, shared.device)
			test.prepare(b)
			b.fails(test.want)
			b.untouched()
		})
	}
	if data := shared.content(); !bytes.Equal(data, bytes.Repeat([]byte("old data"), len(data)/8)) {
		t.Error("the device was written to")
	}
}

func TestAsks(t *testing.T) {
	b := newBench(t, 20<<20)
	b.flasher.yes = false
	b.flasher.in = strings.NewReader(filepath.Base(b.device) + "\n")
	if _, err := b.run(); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"EVERYTHING on it will be lost", b.device + "  21.0 MB  loop device", "file " + b.file} {
		if !strings.Contains(b.said.String(), want) {
			t.Errorf("said:\n%s\nwant %q", &b.said, want)
		}
	}
}

// A disk of the machine takes more than its name.
func TestAsksForFixedDisk(t *testing.T) {
	devices, err := parseDevices([]byte(laptop))
	if err != nil {
		t.Fatal(err)
	}
	d, _ := find(devices, "8:0")
	for _, test := range []struct {
		typed string
		ok    bool
	}{{"sda\n", false}, {"/dev/sda\n", false}, {"destroy sda\n", true}} {
		var said bytes.Buffer
		f := &flasher{options: options{device: "/dev/sda"}, in: strings.NewReader(test.typed), out: &said, sys: t.TempDir()}
		if err := f.ask(d, &image{}); (err == nil) != test.ok || !strings.Contains(said.String(), "THIS IS NOT A CARD") || !strings.Contains(said.String(), "CAREFUL") {
			t.Errorf("typed %q: %v\n%s", test.typed, err, &said)
		}
	}
}

func TestRefusesMounted(t *testing.T) {
	b := newBench(t, 20<<20)
	if out, err := exec.Command("mkfs.ext4", "-q", "-F", b.device).CombinedOutput(); err != nil {
		t.Skipf("NOT TESTED: mkfs.ext4: %v: %s", err, out)
	}
	at := filepath.Join(b.dir, "mnt")
	if err := os.Mkdir(at, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(b.device, at, "ext4", unix.MS_RDONLY, ""); err != nil {
		t.Skipf("NOT TESTED: nothing can be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(at, 0); err != nil {
			t.Error(err)
		}
	})
	before := sha256.Sum256(b.content())
	b.fails(b.device+" is mounted on "+at, "sudo umount "+at)
	b.flasher.fixedDisk = true
	b.fails("is mounted on")
	if sha256.Sum256(b.content()) != before {
		t.Error("the device was written to")
	}
	// What lsblk cannot see (another mount namespace), the kernel refuses.
	if _, _, err := openDevice(b.device); !errors.Is(err, syscall.EBUSY) {
		t.Errorf("opening it: %v", err)
	}
}

// TestRefusesPartition uses what the image before has left.
func TestRefusesPartition(t *testing.T) {
	b := newBench(t, 20<<20)
	if _, err := b.run(); err != nil {
		t.Fatal(err)
	}
	b.flasher.device = b.device + "p3"
	if _, err := os.Stat(b.flasher.device); err != nil {
		t.Skipf("NOT TESTED: nobody makes device nodes of partitions here: %v", err)
	}
	b.fails("is a partition", "goes onto the whole device: "+b.device)
}

// TestRefusesThisMachine looks at the disks of the machine that the test runs
// on, and only looks.
func TestRefusesThisMachine(t *testing.T) {
	devices, err := blockDevices(context.Background())
	if err != nil {
		t.Skipf("NOT TESTED: %v", err)
	}
	tried := 0
	for i := range devices {
		d := &devices[i]
		if _, err := os.Stat(d.Path); err != nil || d.Type != "disk" || d.pluggable("/sys") || d.Size == 0 {
			continue
		}
		tried++
		f := &flasher{options: options{device: d.Path}, sys: "/sys"}
		if _, err := f.look(context.Background()); err == nil {
			t.Errorf("%s would be written to", d.Path)
		}
		for part := range d.all() {
			for _, at := range part.Mounts {
				if at == "/" {
					f.fixedDisk = true
					if _, err := f.look(context.Background()); err == nil || !strings.Contains(err.Error(), "this system runs from") {
						t.Errorf("%s, with --fixed-disk: %v", d.Path, err)
					}
				}
			}
		}
	}
	if tried == 0 {
		t.Skip("NOT TESTED: this machine shows no disk of its own")
	}
}

// An image that turns out to be damaged only while it is unpacked.
func TestDamagedWhileUnpacking(t *testing.T) {
	for name, test := range map[string]struct {
		prepare func(b *bench)
		want    string
	}{
		"archive": {func(b *bench) {
			data, _ := os.ReadFile(b.path)
			data[len(data)/2] ^= 1
			b.put("tuxwatch-1-arm64.img.xz", string(data))
			b.flasher.unchecked = true
		}, "cut off or damaged"},
		"content": {func(b *bench) {
			text := mapOf(b.image)
			b.image[11<<20] ^= 1
			b.pack()
			b.put("tuxwatch-1-arm64.img.bmap", text)
			b.sums()
		}, "bytes 11534336 to 11542528 have the checksum"},
		"data that the map skips": {func(b *bench) {
			text := mapOf(b.image)
			b.image[9<<20] = 1
			b.pack()
			b.put("tuxwatch-1-arm64.img.bmap", text)
			b.sums()
		}, "skips data at byte 9437184"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, 20<<20)
			test.prepare(b)
			b.fails(test.want, b.device+" is unusable until it is written again")
			b.unusable()
		})
	}
}

// The file behind the device changes after it was written, as a card forgets.
func TestVerifyFindsChange(t *testing.T) {
	b := newBench(t, 20<<20)
	for _, at := range []int64{1 << 20, 5<<20 + 1000, 7<<20 + 5, 14<<20 + 99, 20<<20 - 1} {
		b.flasher.afterWrite = func() {
			f, err := os.OpenFile(b.file, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			var one [1]byte
			if _, err := f.ReadAt(one[:], at); err != nil {
				t.Fatal(err)
			}
			if _, err := f.WriteAt([]byte{one[0] ^ 0x10}, at); err != nil {
				t.Fatal(err)
			}
		}
		b.fails("is not what is there, in 1 of", fmt.Sprintf("first at byte %d ", at&^(blockSize-1)), "card, the reader or its cable is broken", "unusable")
		if data := b.content(); !zero(data[:edge]) {
			t.Errorf("byte %d: the partition table was written before everything was verified", at)
		}
	}
}

// fakeCard has less memory than it says.
type fakeCard struct {
	disk
	real int64
	// wraps is whether addresses begin again; what is beyond is lost otherwise.
	wraps bool
}

func (c *fakeCard) each(p []byte, at int64, do func(part []byte, at int64) error) (int, error) {
	for done := 0; done < len(p); {
		n := min(len(p)-done, blockSize)
		where := at + int64(done)
		if c.wraps {
			where %= c.real
		}
		if where < c.real {
			if err := do(p[done:done+n], where); err != nil {
				return done, err
			}
		}
		done += n
	}
	return len(p), nil
}

func (c *fakeCard) WriteAt(p []byte, at int64) (int, error) {
	return c.each(p, at, func(part []byte, at int64) error { _, err := c.disk.WriteAt(part, at); return err })
}

func (c *fakeCard) ReadAt(p []byte, at int64) (int, error) {
	clear(p)
	return c.each(p, at, func(part []byte, at int64) error { _, err := c.disk.ReadAt(part, at); return err })
}

func TestFakeCapacity(t *testing.T) {
	for _, test := range []struct {
		name  string
		size  int64 // that it says
		real  int64
		wraps bool
		want  string
	}{
		{"beyond the image, lost", 64 << 20, 40 << 20, false, "has less memory than it says: it claims 67.1 MB, but what was written at 41.9 MB"},
		{"beyond the image, wraps", 64 << 20, 32 << 20, true, "has less memory than it says"},
		{"within the image, lost", 16 << 20, 5 << 20, false, "from byte 5242880 (5.2 MB) on is there"},
		{"within the image, wraps", 16 << 20, 11 << 20, true, "there is what was written at byte"},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := newBench(t, test.size)
			b.flasher.wrap = func(d disk) disk { return &fakeCard{d, test.real, test.wraps} }
			b.fails(test.want, "unusable")
			if data := b.content(); !zero(data[:edge]) {
				t.Error("the device still looks as if there were something on it")
			}
		})
	}
}

// A file on a file system that is full: the kernel reports errors as for a
// broken card.
func TestWriteError(t *testing.T) {
	b := newBench(t, 20<<20)
	small := filepath.Join(b.dir, "small")
	if err := os.Mkdir(small, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", small, "tmpfs", 0, "size=6m"); err != nil {
		t.Skipf("NOT TESTED: no small disk can be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(small, 0); err != nil {
			t.Error(err)
		}
	})
	file := filepath.Join(small, "card")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, 64<<20); err != nil {
		t.Fatal(err)
	}
	b.flasher.device = attach(t, file)
	b.fails(b.flasher.device+": writing at byte ", "of 67.1 MB): the card is broken, or has less memory than it says", "unusable")
}

// pulled is a card that is taken out.
type pulled struct {
	disk
	after int64 // bytes
}

func (p *pulled) WriteAt(data []byte, at int64) (int, error) {
	if p.after -= int64(len(data)); p.after < 0 {
		return 0, &os.PathError{Op: "write", Path: "card", Err: syscall.ENODEV}
	}
	return p.disk.WriteAt(data, at)
}

func TestPulledOut(t *testing.T) {
	b := newBench(t, 20<<20)
	b.flasher.wrap = func(d disk) disk { return &pulled{d, 5 << 20} }
	b.fails("the device is gone; card or reader was pulled out", "unusable")
	number, err := deviceNumber(b.device)
	if err != nil || gone("/sys", number) || !gone("/sys", "1000:1000") {
		t.Errorf("gone: wrong about %s, or about 1000:1000, which is no device (%v)", number, err)
	}
}

func TestInterrupted(t *testing.T) {
	for name, stop := range map[string]func(f *flasher, kill func()){
		"while writing":   func(f *flasher, kill func()) { f.afterWindow = func(int64) { kill() } },
		"while verifying": func(f *flasher, kill func()) { f.afterWrite = kill },
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, 20<<20)
			stop(b.flasher, func() {
				// The signal's way is observed at the context, which stops the next step.
				if err := syscall.Kill(os.Getpid(), syscall.SIGINT); err != nil {
					t.Fatal(err)
				}
				<-b.flasher.stopping
			})
			_, err := b.run()
			if !errors.Is(err, errStopped) || !strings.Contains(err.Error(), "is unusable until it is written again") {
				t.Fatal(err)
			}
			b.unusable()
			b.flasher.afterWindow, b.flasher.afterWrite = nil, nil
			if _, err := b.run(); err != nil {
				t.Errorf("again: %v", err)
			}
		})
	}
}

func TestCommand(t *testing.T) {
	b := newBench(t, 20<<20)
	for _, test := range []struct {
		args        []string
		exit        int
		out, errOut string
	}{
		{[]string{"--help"}, exitDone, "usage: scripts/flash/run", ""},
		{nil, exitUsage, "", "which device?"},
		{[]string{""}, exitUsage, "", "which device?"},
		{[]string{"a", "b", "c"}, exitUsage, "", "at most one image"},
		{[]string{"--nonsense"}, exitUsage, "", "unknown flag"},
		{[]string{"--list", "/dev/sdb"}, exitUsage, "", "--list takes no device"},
		{[]string{"--yes", "--fixed-disk", "/dev/sdb"}, exitUsage, "", "answered for by a person"},
		{[]string{"--all", "--bmap", "x", "/dev/sdb"}, exitUsage, "", "either --bmap or --all"},
		{[]string{"/dev/none"}, exitFailed, "", "there is no device /dev/none"},
		{[]string{"--json", "/dev/none"}, exitFailed, `"error": "there is no device /dev/none`, ""},
		{[]string{"--list"}, exitDone, b.device + "  21.0 MB  loop device", ""},
		{[]string{"--yes", b.device, b.path}, exitDone, "Written and verified", ""},
	} {
		var out, errOut bytes.Buffer
		if exit := command(context.Background(), test.args, strings.NewReader(""), &out, &errOut); exit != test.exit || !strings.Contains(out.String(), test.out) || !strings.Contains(errOut.String(), test.errOut) {
			t.Errorf("%q: ended with %d\n%s\n%s\nwant %d, %q, %q", test.args, exit, &out, &errOut, test.exit, test.out, test.errOut)
		}
	}

	var out, errOut bytes.Buffer
	if exit := command(context.Background(), []string{"--json", "--yes", b.device, b.path}, strings.NewReader(""), &out, &errOut); exit != exitDone {
		t.Fatalf("ended with %d: %s", exit, &errOut)
	}
	var r result
	data, _ := os.ReadFile(b.path)
	sum := sha256.Sum256(data)
	if err := json.Unmarshal(out.Bytes(), &r); err != nil || r.Device != b.device || r.ImageSHA256 != hex.EncodeToString(sum[:]) || r.Verified == 0 || r.Size != 20<<20 {
		t.Errorf("%v: %s", err, &out)
	}
	out.Reset()
	var cards []listed
	if exit := command(context.Background(), []string{"--json", "--list"}, nil, &out, &errOut); exit != exitDone {
		t.Fatalf("ended with %d", exit)
	}
	if err := json.Unmarshal(out.Bytes(), &cards); err != nil {
		t.Fatal(err)
	}
	found := false
	for _, c := range cards {
		found = found || c.Device == b.device && c.File == b.file && c.Size == 20<<20 && c.Refused == ""
	}
	if !found {
		t.Errorf("%s is not in %s", b.device, &out)
	}
}

func TestNewestImage(t *testing.T) {
	t.Chdir(t.TempDir())
	if _, err := newestImage(); err == nil || !strings.Contains(err.Error(), "make image") {
		t.Errorf("none: %v", err)
	}
	if err := os.Mkdir("build", 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"tuxwatch-2-arm64.img.xz", "tuxwatch-1-arm64.img.xz"} {
		if err := os.WriteFile(filepath.Join("build", name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	info, err := os.Stat("build/tuxwatch-2-arm64.img.xz")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes("build/tuxwatch-1-arm64.img.xz", info.ModTime(), info.ModTime().Add(1e9)); err != nil {
		t.Fatal(err)
	}
	if got, err := newestImage(); err != nil || got != "build/tuxwatch-1-arm64.img.xz" {
		t.Errorf("%s, %v", got, err)
	}
}
