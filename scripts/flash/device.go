package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// blockDevice is a disk, partition or volume as lsblk(8) shows it.
type blockDevice struct {
	Name       string        `json:"name"`
	Path       string        `json:"path"`
	Number     string        `json:"maj:min"`
	Type       string        `json:"type"`
	Size       int64         `json:"size"`
	Removable  bool          `json:"rm"`
	ReadOnly   bool          `json:"ro"`
	Transport  string        `json:"tran"`
	Vendor     string        `json:"vendor"`
	Model      string        `json:"model"`
	Serial     string        `json:"serial"`
	SectorSize int64         `json:"log-sec"`
	Table      string        `json:"pttype"`
	FileSystem string        `json:"fstype"`
	Label      string        `json:"label"`
	Mounts     []string      `json:"mountpoints"`
	Children   []blockDevice `json:"children"`
}

// lsblkColumns are the fields of blockDevice, as lsblk 2.37 and later has them.
const lsblkColumns = "NAME,PATH,MAJ:MIN,TYPE,SIZE,RM,RO,TRAN,VENDOR,MODEL,SERIAL,LOG-SEC,PTTYPE,FSTYPE,LABEL,MOUNTPOINTS"

// blockDevices are those of this machine.
func blockDevices(ctx context.Context) ([]blockDevice, error) {
	out, err := exec.CommandContext(ctx, "lsblk", "--json", "--bytes", "--all", "--output", lsblkColumns).Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = fmt.Errorf("%w: %s", err, strings.TrimSpace(string(exit.Stderr)))
		}
		return nil, fmt.Errorf("listing the disks (lsblk of util-linux 2.37 or later is needed): %w", err)
	}
	return parseDevices(out)
}

func parseDevices(text []byte) ([]blockDevice, error) {
	var list struct {
		Devices []blockDevice `json:"blockdevices"`
	}
	if err := json.Unmarshal(text, &list); err != nil {
		return nil, fmt.Errorf("reading what lsblk says: %w", err)
	}
	clean(list.Devices)
	return list.Devices, nil
}

// clean takes blanks away, and the nulls that stand for no mount.
func clean(devices []blockDevice) {
	for i := range devices {
		d := &devices[i]
		for _, s := range []*string{&d.Vendor, &d.Model, &d.Serial} {
			*s = strings.TrimSpace(*s)
		}
		d.Mounts = slices.DeleteFunc(d.Mounts, func(m string) bool { return m == "" })
		clean(d.Children)
	}
}

// deviceNumber is what the kernel calls the device at a path, "8:16". Links
// such as those in /dev/disk/by-id are followed.
func deviceNumber(path string) (string, error) {
	var st unix.Stat_t
	switch err := unix.Stat(path, &st); {
	case errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("there is no device %s; --list shows the cards there are", path)
	case err != nil:
		return "", fmt.Errorf("looking at %s: %w", path, err)
	case st.Mode&unix.S_IFMT == unix.S_IFREG:
		return "", fmt.Errorf("%s is a file, not a device; to write into a file make it one: sudo losetup --find --show --partscan %s", path, path)
	case st.Mode&unix.S_IFMT != unix.S_IFBLK:
		return "", fmt.Errorf("%s is not a disk", path)
	}
	return fmt.Sprintf("%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev)), nil
}

// find looks for a device by its number; disk is the one that lsblk shows it
// below.
func find(devices []blockDevice, number string) (device, disk *blockDevice) {
	for i := range devices {
		top := &devices[i]
		for d := range top.all() {
			if d.Number == number {
				return d, top
			}
		}
	}
	return nil, nil
}

// all are the device and everything on it.
func (d *blockDevice) all() func(yield func(*blockDevice) bool) {
	return func(yield func(*blockDevice) bool) { d.walk(yield) }
}

func (d *blockDevice) walk(yield func(*blockDevice) bool) bool {
	if !yield(d) {
		return false
	}
	for i := range d.Children {
		if !d.Children[i].walk(yield) {
			return false
		}
	}
	return true
}

// The sizes of a card, in bytes. A partition table as the Raspberry Pi's boot
// ROM reads it (MBR) ends at maxCard. Cards are sold in powers of ten.
const (
	maxCard   = 2 << 40
	largeCard = 256 << 30
)

// refusal says why nothing may be written to a device; nil if it may.
func (d *blockDevice) refusal(disk *blockDevice, fixedDisk bool, sys string) error {
	switch {
	case d.Type == "part":
		return fmt.Errorf("%s is a partition; the image has partitions of its own and goes onto the whole device: %s", d.Path, disk.Path)
	case d.Type != "disk" && d.Type != "loop":
		return fmt.Errorf("%s is neither a disk nor a loop device, but of the type %s", d.Path, d.Type)
	case d.Size == 0 && d.Type == "loop":
		return fmt.Errorf("no file is attached to %s; attach one: sudo losetup --partscan %s FILE", d.Path, d.Path)
	case d.Size == 0:
		return fmt.Errorf("there is no card in %s (%s)", d.Path, d.title())
	}
	if err := d.inUse(); err != nil {
		return err
	}
	switch {
	case d.ReadOnly:
		return fmt.Errorf("%s is write-protected; an SD card or its adapter has a small slide for that at the side", d.Path)
	case d.SectorSize != 512:
		return fmt.Errorf("%s has sectors of %d bytes, with which the image's partition table says something else; a Raspberry Pi starts from 512", d.Path, d.SectorSize)
	case !d.pluggable(sys) && !fixedDisk:
		return fmt.Errorf("%s (%s, %s) is neither a memory card nor plugged in: it is a disk of this machine. If you are sure that everything on it may be lost for good: --fixed-disk", d.Path, d.title(), bytesText(d.Size))
	case d.Size > maxCard:
		return fmt.Errorf("%s has %s; no card is larger than %s, and the image's partition table (MBR) could not describe it", d.Path, bytesText(d.Size), bytesText(maxCard))
	}
	return nil
}

// inUse says what uses the device. The kernel is asked again when it is opened.
func (d *blockDevice) inUse() error {
	var uses, undo []string
	system := false
	for part := range d.all() {
		for _, at := range part.Mounts {
			switch {
			case at == "[SWAP]":
				system = true
				uses = append(uses, part.Path+" is swap space")
				undo = append(undo, "sudo swapoff "+part.Path)
				continue
			case at == "/" || at == "/usr" || at == "/var" || at == "/home" || at == "/boot" || strings.HasPrefix(at, "/boot/") || at == "/nix" || at == "/nix/store":
				system = true
			}
			uses = append(uses, part.Path+" is mounted on "+at)
			undo = append(undo, "sudo umount "+shellWord(at))
		}
		if part != d && part.Type != "part" {
			uses = append(uses, fmt.Sprintf("%s (%s) is made of it", part.Path, part.Type))
		}
	}
	switch {
	case system:
		return fmt.Errorf("%s is a disk that this system runs from: %s. Nothing is written to it", d.Path, strings.Join(uses, "; "))
	case len(undo) == len(uses) && len(uses) > 0:
		return fmt.Errorf("%s is in use: %s. First: %s", d.Path, strings.Join(uses, "; "), strings.Join(undo, " && "))
	case len(uses) > 0:
		return fmt.Errorf("%s is in use: %s. Stop that first, if it is the right device", d.Path, strings.Join(uses, "; "))
	}
	return nil
}

// pluggable tells whether the device is a card or something that was plugged
// in. What the kernel calls removable is not enough: card readers on a PCI bus
// are not, and neither are disks on USB.
func (d *blockDevice) pluggable(sys string) bool {
	if strings.HasPrefix(d.Name, "mmcblk") {
		// Memory that is soldered in (eMMC) is MMC, a card is SD.
		kind, err := os.ReadFile(filepath.Join(sys, "block", d.Name, "device", "type"))
		return err == nil && strings.TrimSpace(string(kind)) == "SD"
	}
	return d.Type == "loop" || d.Removable || d.Transport == "usb"
}

// title is the maker's name for it.
func (d *blockDevice) title() string {
	if t := strings.TrimSpace(d.Vendor + " " + d.Model); t != "" && !strings.HasPrefix(d.Vendor, "0x") {
		return t
	}
	if d.Model != "" {
		return d.Model
	}
	if d.Type == "loop" {
		return "loop device"
	}
	return "no name"
}

// describe shows the device and what is on it.
func (d *blockDevice) describe(sys string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s  %s  %s", d.Path, bytesText(d.Size), d.title())
	if d.Serial != "" {
		fmt.Fprintf(&b, ", serial number %s", d.Serial)
	}
	if d.Transport != "" {
		fmt.Fprintf(&b, ", %s", d.Transport)
	}
	if file := d.backing(sys); file != "" {
		fmt.Fprintf(&b, ", file %s", file)
	}
	b.WriteString("\n")
	if len(d.Children) == 0 {
		fmt.Fprintf(&b, "  on it: %s\n", contents(d))
	}
	for i := range d.Children {
		fmt.Fprintf(&b, "  %s  %s  %s\n", d.Children[i].Name, bytesText(d.Children[i].Size), contents(&d.Children[i]))
	}
	return b.String()
}

func contents(d *blockDevice) string {
	switch {
	case d.FileSystem != "" && d.Label != "":
		return fmt.Sprintf("%s %q", d.FileSystem, d.Label)
	case d.FileSystem != "":
		return d.FileSystem
	case d.Table != "" && d.Type != "part":
		return d.Table + " partition table without partitions"
	}
	return "nothing that is known"
}

// backing is the file of a loop device.
func (d *blockDevice) backing(sys string) string {
	if d.Type != "loop" {
		return ""
	}
	file, err := os.ReadFile(filepath.Join(sys, "block", d.Name, "loop", "backing_file"))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(file))
}

// partition is the path of one of its partitions.
func (d *blockDevice) partition(n int) string {
	if last := d.Path[len(d.Path)-1]; last >= '0' && last <= '9' {
		return fmt.Sprintf("%sp%d", d.Path, n)
	}
	return fmt.Sprintf("%s%d", d.Path, n)
}

// same tells whether it is the card that was looked at before.
func (d *blockDevice) same(other *blockDevice) bool {
	return d.Number == other.Number && d.Size == other.Size && d.Model == other.Model && d.Serial == other.Serial
}

// gone tells whether the kernel knows the device no longer.
func gone(sys, number string) bool {
	_, err := os.Stat(filepath.Join(sys, "dev", "block", number))
	return errors.Is(err, fs.ErrNotExist)
}

// openError explains why a device cannot be opened.
func openError(path string, err error) error {
	switch {
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		return fmt.Errorf("opening %s: %w; writing to a device takes root's rights: sudo, or scripts/flash/run, which asks for them", path, err)
	case errors.Is(err, syscall.EBUSY):
		return fmt.Errorf("opening %s: something uses it (a mount, swap, RAID, LVM, another program that writes to it): %w", path, err)
	case errors.Is(err, syscall.ENOMEDIUM), errors.Is(err, syscall.ENXIO), errors.Is(err, syscall.ENODEV):
		return fmt.Errorf("opening %s: there is no card in it: %w", path, err)
	case errors.Is(err, syscall.EROFS):
		return fmt.Errorf("opening %s: it is write-protected; an SD card or its adapter has a small slide for that at the side: %w", path, err)
	}
	return fmt.Errorf("opening the device: %w", err)
}

// bytesText writes a size as those who sell cards do.
func bytesText(n int64) string {
	units := []string{"bytes", "kB", "MB", "GB", "TB"}
	size, i := float64(n), 0
	for ; size >= 1000 && i < len(units)-1; i++ {
		size /= 1000
	}
	if i == 0 {
		return fmt.Sprintf("%d bytes", n)
	}
	return fmt.Sprintf("%.1f %s", size, units[i])
}

// shellWord quotes a word for a command that is to be copied.
func shellWord(s string) string {
	if strings.ContainsAny(s, " \t\n'\"\\$`&;<>()|*?[#~!") {
		return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
	}
	return s
}
