package provision

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"
)

// disk is a file system that is changed in steps of which each leaves it
// consistent. os.Root keeps every access within it, whatever links it may hold.
type disk struct {
	root *os.Root
	dry  bool
	// fault, where a test sets it, is called before each step: where the power may
	// go or the disk fail.
	fault func() error
}

func (d *disk) step() error {
	if d.fault == nil {
		return nil
	}
	return d.fault()
}

// device is the root file system and what is mounted in it.
type device struct{ disk }

// inside is the path within the root.
func inside(name string) string { return strings.TrimPrefix(path.Clean(name), "/") }

// get reads a file; nil if there is none.
func (d *device) get(name string) ([]byte, error) {
	data, err := d.root.ReadFile(d.resolve(inside(name)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading /%s on the device: %w", inside(name), err)
	}
	if data == nil {
		data = []byte{}
	}
	return data, nil
}

// place is how a file is to be on the device.
type place struct {
	path string
	mode fs.FileMode
	// dirMode is for its folder, where that has to be made.
	dirMode fs.FileMode
	// group that may read it; root if empty or not there.
	group string
}

// put writes the file whole or not at all. When it returns without an error the
// file is on stable storage.
func (d *device) put(p place, data []byte) error {
	if d.dry {
		return nil
	}
	name := d.resolve(inside(p.path))
	fail := func(err error) error { return fmt.Errorf("writing /%s on the device: %w", name, err) }
	dir := path.Dir(name)
	if err := d.root.MkdirAll(path.Dir(dir), 0o755); err != nil {
		return fail(err)
	}
	switch err := d.root.Mkdir(dir, p.dirMode); {
	case err == nil:
		if err := d.syncDir(path.Dir(dir)); err != nil {
			return fail(err)
		}
	case !errors.Is(err, fs.ErrExist):
		return fail(err)
	}
	if old, err := d.root.ReadFile(name); err == nil && bytes.Equal(old, data) {
		if info, err := d.root.Lstat(name); err == nil && info.Mode() == p.mode {
			// It may have been put there just before the power went.
			return d.syncFile(name)
		}
	}
	if err := d.replace(name, data, p.mode, d.gid(p.group)); err != nil {
		return fail(err)
	}
	return nil
}

// resolve follows the links that the file itself may be, so that they stay.
func (d *device) resolve(name string) string {
	for range 8 {
		target, err := d.root.Readlink(name)
		switch {
		case err != nil:
			return name
		case path.IsAbs(target):
			name = inside(target)
		default:
			name = path.Join(path.Dir(name), target)
		}
	}
	return name
}

// gid is the number of a group of the device, or -1. It is looked up in the
// device's own file, which need not be that of the running system.
func (d *device) gid(group string) int {
	if group == "" {
		return -1
	}
	data, err := d.root.ReadFile("etc/group")
	if err != nil {
		return -1
	}
	for l := range strings.SplitSeq(string(data), "\n") {
		if fields := strings.Split(l, ":"); len(fields) == 4 && fields[0] == group {
			if gid, err := strconv.Atoi(fields[2]); err == nil {
				return gid
			}
		}
	}
	return -1
}

// replace writes a file beside its place, makes it durable, and renames it.
func (d *disk) replace(name string, data []byte, mode fs.FileMode, gid int) error {
	root := d.root
	if err := d.step(); err != nil {
		return err
	}
	// One fixed name: a power cut leaves one such file at most, which the next
	// attempt replaces. The dot and the ending keep others from reading it.
	temporary := path.Join(path.Dir(name), "."+path.Base(name)+".new")
	if err := root.Remove(temporary); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := root.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if err = d.step(); err == nil {
		_, err = f.Write(data)
	}
	if err == nil && gid >= 0 && os.Geteuid() == 0 {
		err = f.Chown(0, gid)
	}
	if err == nil {
		// FAT has no modes, and says so where it is mounted with others.
		if err = f.Chmod(mode); errors.Is(err, fs.ErrPermission) && mode&0o044 != 0 {
			err = nil
		}
	}
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = d.step()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = root.Rename(temporary, name)
	}
	if err != nil {
		root.Remove(temporary)
		return err
	}
	if err := d.step(); err != nil {
		return err
	}
	return d.syncDir(path.Dir(name))
}

func (d *disk) syncFile(name string) error {
	f, err := d.root.Open(name)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return err
	}
	return d.syncDir(path.Dir(name))
}

func (d *disk) syncDir(name string) error {
	dir, err := d.root.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
