package emulator

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// fatImage makes an image with one FAT partition and nothing else.
func fatImage(t *testing.T) string {
	t.Helper()
	if _, err := exec.LookPath("mformat"); err != nil {
		setup := exec.Command("../setup", "emulator")
		if out, err := setup.CombinedOutput(); err != nil {
			t.Fatalf("scripts/setup emulator: %v: %s", err, out)
		}
	}
	const begin, size = 2048, 64 << 11 // sectors
	file := filepath.Join(t.TempDir(), "image")
	mbr := make([]byte, sector)
	mbr[446+4] = 0x0c
	binary.LittleEndian.PutUint32(mbr[446+8:], begin)
	binary.LittleEndian.PutUint32(mbr[446+12:], size)
	mbr[510], mbr[511] = 0x55, 0xaa
	if err := os.WriteFile(file, mbr, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, (begin+size)*sector); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mformat", "-i", file+"@@1M", "-F", "-T", "131072", "-v", "TUXWATCH", "::").CombinedOutput(); err != nil {
		t.Fatalf("mformat: %v: %s", err, out)
	}
	return file
}

func TestCard(t *testing.T) {
	image := fatImage(t)
	before, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	card, err := NewCard(image, filepath.Join(t.TempDir(), "card"))
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(card.Path())
	if err != nil {
		t.Fatal(err)
	}
	if info.Size() != 2<<30 {
		t.Errorf("the card has %d bytes", info.Size())
	}

	if _, err := card.ReadFile("tuxwatch/hostname"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
	for _, content := range []string{"greenhouse\n", "short", strings.Repeat("long\n", 100_000), ""} {
		for _, name := range []string{"tuxwatch/hostname", "config.txt", "tuxwatch/a name that is long.yaml"} {
			if err := card.WriteFile(name, []byte(content)); err != nil {
				t.Fatal(err)
			}
			if got, err := card.ReadFile(name); err != nil || string(got) != content {
				t.Errorf("%s with %d bytes came back with %d (%v)", name, len(content), len(got), err)
			}
		}
	}
	names, err := card.List("tuxwatch")
	if err != nil || !slices.Contains(names, "hostname") || !slices.Contains(names, "a name that is long.yaml") || len(names) != 2 {
		t.Errorf("in the folder: %q (%v)", names, err)
	}
	if after, err := os.ReadFile(image); err != nil || !slices.Equal(before, after) {
		t.Errorf("the image was changed (%v)", err)
	}
}

func TestCardsThatAreNone(t *testing.T) {
	image := fatImage(t)
	if err := os.Truncate(image, 100<<20); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenCard(image); err == nil || !strings.Contains(err.Error(), "truncate --size 134217728") {
		t.Errorf("a card of 100 MiB: %v", err)
	}
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, make([]byte, 4096), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenCard(empty); err == nil || !strings.Contains(err.Error(), "no card image") {
		t.Errorf("a file without partitions: %v", err)
	}
	if _, err := OpenCard(filepath.Join(t.TempDir(), "missing")); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "truncate --size 2G") {
		t.Errorf("no file: %v", err)
	}
}

func TestEnvironment(t *testing.T) {
	card, err := NewCard(fatImage(t), filepath.Join(t.TempDir(), "card"))
	if err != nil {
		t.Fatal(err)
	}
	want := func(want map[string]string) {
		t.Helper()
		if got, err := card.Environment(); err != nil || !maps.Equal(got, want) {
			t.Errorf("the environment is %v (%v), want %v", got, err, want)
		}
	}
	set := func(variables map[string]string) {
		t.Helper()
		if err := card.SetEnvironment(variables); err != nil {
			t.Fatal(err)
		}
	}
	want(map[string]string{})
	set(map[string]string{"extraargs": "mem=512M quiet=1", "slot_order": "b a"})
	want(map[string]string{"extraargs": "mem=512M quiet=1", "slot_order": "b a"})
	set(map[string]string{"extraargs": ""})
	want(map[string]string{"slot_order": "b a"})
	if err := card.RestoreEnvironment("slot_order", "a b"); err != nil {
		t.Fatal(err)
	}
	want(map[string]string{"slot_order": "a b"})

	// One damaged file is as good as none; the other one counts.
	content, err := card.ReadFile(environment)
	if err != nil {
		t.Fatal(err)
	}
	if len(content) != environmentSize {
		t.Errorf("the file has %d bytes; the boot script takes %d", len(content), environmentSize)
	}
	content[10] ^= 1
	if err := card.WriteFile(environment, content); err != nil {
		t.Fatal(err)
	}
	want(map[string]string{"slot_order": "a b"})
	if err := card.WriteFile(environmentCopy, content[:100]); err != nil {
		t.Fatal(err)
	}
	want(map[string]string{})
	if err := card.SetEnvironment(map[string]string{"extraargs": strings.Repeat("x", environmentSize)}); err == nil {
		t.Error("an environment that does not fit was written")
	}
}

// The sum was computed with Python's zlib.crc32, the form is that of U-Boot's
// env_t.
func TestEnvironmentIsUBoots(t *testing.T) {
	content, err := formatEnvironment(map[string]string{"b": "2", "a": "1"}, 16)
	if err != nil {
		t.Fatal(err)
	}
	if want := "\xe7\xcc%\xbea=1\x00b=2\x00\x00\x00\x00\x00"; string(content) != want {
		t.Errorf("%q, want %q", content, want)
	}
}
