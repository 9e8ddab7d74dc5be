package emulator

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"math/bits"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

const (
	sector = 512
	// leastCard is the size that a copy of the image is put on: like a real card
	// it has room for the data partition to grow, and QEMU takes powers of two.
	leastCard = 2 << 30
)

// Card is an SD card: a file with the image's bytes. Its methods are for when
// the device is off; they do what a user does who puts the card into another
// computer.
type Card struct {
	path  string
	start int64 // of the FAT partition, in bytes
}

// NewCard copies an image to path, as flashing does, onto a card of at least
// 2 GiB. The image stays as it is. The copy is sparse and takes no more room
// than what is in it.
//
// It is a plain copy and not a qcow2 overlay: an overlay keeps its own tables in
// QEMU's memory, and QEMU killed would lose writes that the card acknowledged.
func NewCard(image, path string) (*Card, error) {
	out, err := exec.Command("cp", "--reflink=auto", "--sparse=always", "--no-preserve=all", image, path).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("copying %s to a card: %w: %s", image, err, bytes.TrimSpace(out))
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	size := int64(leastCard)
	for size < info.Size() {
		size *= 2
	}
	if err := os.Truncate(path, size); err != nil {
		return nil, fmt.Errorf("making the card %d bytes large: %w", size, err)
	}
	return OpenCard(path)
}

// OpenCard opens a card that exists. What the device writes stays in the file.
func OpenCard(path string) (*Card, error) {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: truncate --size 2G makes a card, and make flash writes the image to it as a loop device (README.md)", err)
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if size := uint64(info.Size()); bits.OnesCount64(size) != 1 {
		larger := uint64(1) << bits.Len64(size)
		return nil, fmt.Errorf("%s has %d bytes, and the emulated card reader takes powers of two only: make it larger with truncate --size %d %[1]s", path, size, larger)
	}
	mbr := make([]byte, sector)
	if _, err := file.ReadAt(mbr, 0); err != nil {
		return nil, fmt.Errorf("reading the partition table of %s: %w", path, err)
	}
	first := mbr[446:] // the first entry of an MBR
	begin := int64(binary.LittleEndian.Uint32(first[8:])) * sector
	if mbr[510] != 0x55 || mbr[511] != 0xaa || begin == 0 || !slices.Contains([]byte{0x0b, 0x0c, 0x0e}, first[4]) {
		return nil, fmt.Errorf("%s is no card image: it does not begin with a FAT partition", path)
	}
	return &Card{path: path, start: begin}, nil
}

// Path is the card's file.
func (c *Card) Path() string { return c.path }

// mtool runs a program of mtools on the FAT partition.
func (c *Card) mtool(name string, args ...string) ([]byte, error) {
	if _, err := exec.LookPath(name); err != nil {
		return nil, fmt.Errorf("%s is missing: scripts/setup emulator installs it (Debian package mtools)", name)
	}
	var stdout, stderr bytes.Buffer
	cmd := exec.Command(name, append([]string{"-i", fmt.Sprintf("%s@@%d", c.path, c.start)}, args...)...)
	cmd.Env = append(os.Environ(), "MTOOLS_SKIP_CHECK=1")
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if said := stderr.String(); err != nil && strings.Contains(said, "not found") {
		err = fs.ErrNotExist
	} else if err != nil {
		err = fmt.Errorf("%w: %s", err, strings.TrimSpace(said))
	}
	return stdout.Bytes(), err
}

// ReadFile returns a file of the FAT partition; the error is fs.ErrNotExist if
// there is none of that name.
func (c *Card) ReadFile(name string) ([]byte, error) {
	content, err := c.mtool("mcopy", "::/"+name, "-")
	if err != nil {
		return nil, fmt.Errorf("reading %s from the card's FAT partition: %w", name, err)
	}
	return content, nil
}

// WriteFile writes a file of the FAT partition, with the folders it is in.
func (c *Card) WriteFile(name string, content []byte) error {
	dir := path.Dir(name)
	if dir != "." {
		if _, err := c.mtool("mdir", "-b", "::/"+dir); err != nil {
			if _, err := c.mtool("mmd", "::/"+dir); err != nil {
				return fmt.Errorf("making the folder %s on the card's FAT partition: %w", dir, err)
			}
		}
	}
	temporary, err := os.MkdirTemp("", "tuxwatch-card-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temporary)
	file := filepath.Join(temporary, path.Base(name))
	if err := os.WriteFile(file, content, 0o600); err != nil {
		return err
	}
	if _, err := c.mtool("mcopy", "-D", "o", file, "::/"+name); err != nil {
		return fmt.Errorf("writing %s to the card's FAT partition: %w", name, err)
	}
	return nil
}

// List returns the names in a folder of the FAT partition.
func (c *Card) List(dir string) ([]string, error) {
	out, err := c.mtool("mdir", "-b", "::/"+dir)
	if err != nil {
		return nil, fmt.Errorf("listing %s on the card's FAT partition: %w", dir, err)
	}
	var names []string
	for line := range strings.Lines(string(out)) {
		name := path.Base(strings.TrimSuffix(strings.TrimSpace(line), "/"))
		if name != "." && name != "" {
			names = append(names, name)
		}
	}
	return names, nil
}

// The boot script's variables are in two files, of which one is whole whatever
// happens (scripts/image/boot.cmd).
const (
	environment     = "slots.env"
	environmentCopy = "slots.bak" // written first
	environmentSize = 0x1000
)

// Environment returns the variables that the boot script reads: which slot to
// start (slot_order, slot_a_left, slot_b_left) and what to add to the kernel's
// command line (extraargs). It is empty where there are none or both files are
// damaged, as the boot script then takes its defaults.
func (c *Card) Environment() (map[string]string, error) {
	for _, name := range []string{environment, environmentCopy} {
		content, err := c.ReadFile(name)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		if variables, ok := parseEnvironment(content); ok {
			return variables, nil
		}
	}
	return map[string]string{}, nil
}

// SetEnvironment sets variables of the boot script; an empty value removes one.
// The others stay.
func (c *Card) SetEnvironment(set map[string]string) error {
	variables, err := c.Environment()
	if err != nil {
		return err
	}
	for name, value := range set {
		if value == "" {
			delete(variables, name)
		} else {
			variables[name] = value
		}
	}
	content, err := formatEnvironment(variables, environmentSize)
	if err != nil {
		return err
	}
	if err := c.WriteFile(environmentCopy, content); err != nil {
		return err
	}
	return c.WriteFile(environment, content)
}

// parseEnvironment reads U-Boot's form: a CRC-32 of the rest, then NAME=VALUE
// with a zero byte after each and one more at the end (U-Boot, env/common.c).
// It returns false if the sum is wrong.
func parseEnvironment(content []byte) (map[string]string, bool) {
	if len(content) < 5 || binary.LittleEndian.Uint32(content) != crc32.ChecksumIEEE(content[4:]) {
		return nil, false
	}
	variables := map[string]string{}
	for entry := range bytes.SplitSeq(content[4:], []byte{0}) {
		if len(entry) == 0 {
			break
		}
		name, value, _ := strings.Cut(string(entry), "=")
		variables[name] = value
	}
	return variables, true
}

func formatEnvironment(variables map[string]string, size int) ([]byte, error) {
	var entries []string
	for name, value := range variables {
		entries = append(entries, name+"="+value+"\x00")
	}
	slices.Sort(entries)
	text := strings.Join(entries, "")
	if len(text)+5 > size {
		return nil, fmt.Errorf("U-Boot's environment has room for %d bytes, not %d", size-5, len(text))
	}
	content := make([]byte, size)
	copy(content[4:], text)
	binary.LittleEndian.PutUint32(content, crc32.ChecksumIEEE(content[4:]))
	return content, nil
}

// RestoreEnvironment gives a variable the value that it had before the device
// ran; an empty one removes it.
func (c *Card) RestoreEnvironment(name, value string) error {
	variables, err := c.Environment()
	if err != nil || variables[name] == value {
		return err
	}
	return c.SetEnvironment(map[string]string{name: value})
}
