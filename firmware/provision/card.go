package provision

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"
)

// card is the FAT partition.
type card struct{ disk }

// found is a file on the card.
type found struct {
	path string // as it is called there
	data []byte
}

var errTooLarge = errors.New("the file is too large")

// find looks for a file as FAT and Windows see names: whatever their case, and
// with the .txt that Notepad appends. It is nil if there is none.
func (c *card) find(name string, limit int64) (*found, error) {
	entries, err := c.list(path.Dir(name))
	if err != nil {
		return nil, err
	}
	base := path.Base(name)
	for _, want := range []string{base, base + ".txt"} {
		for _, e := range entries {
			if strings.EqualFold(e, want) {
				return c.read(path.Join(path.Dir(name), e), limit)
			}
		}
	}
	return nil, nil
}

// list gives the names in a folder, sorted; none if it is not there.
func (c *card) list(dir string) ([]string, error) {
	f, err := c.root.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("looking into the card's folder: %w", err)
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("looking into the card's folder: %w", err)
	}
	slices.Sort(names)
	return names, nil
}

// read reads a regular file of at most limit bytes. A pipe does not block it.
func (c *card) read(name string, limit int64) (*found, error) {
	f, err := c.root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return &found{path: name}, fmt.Errorf("reading it: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return &found{path: name}, fmt.Errorf("reading it: %w", err)
	case !info.Mode().IsRegular():
		return &found{path: name}, errors.New("it is not a file")
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	switch {
	case err != nil:
		return &found{path: name}, fmt.Errorf("reading it: %w", err)
	case int64(len(data)) > limit:
		return &found{path: name}, fmt.Errorf("%w: more than %d KB", errTooLarge, limit>>10)
	}
	return &found{path: name, data: data}, nil
}

// erase overwrites a file and removes it. Flash memory may keep an old copy
// where nothing but its controller can read it; overwriting in place is what a
// file system without a journal can do.
func (c *card) erase(name string) error {
	if err := c.step(); err != nil {
		return err
	}
	f, err := c.root.OpenFile(name, os.O_WRONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err == nil {
		_, err = f.Write(make([]byte, info.Size()))
	}
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := c.step(); err != nil {
		return err
	}
	if err := c.root.Remove(name); err != nil {
		return err
	}
	if err := c.step(); err != nil {
		return err
	}
	return c.syncDir(path.Dir(name))
}

// erasing tells whether the file is what a power cut left of one that was being
// erased: no text begins with a zero.
func (f *found) erasing() bool { return len(f.data) > 0 && f.data[0] == 0 }

// writeReport puts the report onto the card if it says anything new.
func (c *card) writeReport(text string) error {
	text = strings.ReplaceAll(text, "\n", "\r\n")
	if old, err := c.root.ReadFile(cardReport); err == nil && bytes.Equal(withoutDate(old), withoutDate([]byte(text))) {
		return nil
	}
	if c.dry {
		return nil
	}
	if err := c.root.MkdirAll(cardDir, 0o755); err != nil {
		return err
	}
	return c.replace(cardReport, []byte(text), 0o644, -1)
}

// withoutDate leaves out the line that changes each time.
func withoutDate(report []byte) []byte {
	before, rest, ok := bytes.Cut(report, []byte(reportDate))
	if !ok {
		return report
	}
	_, after, _ := bytes.Cut(rest, []byte("\n"))
	return append(bytes.Clone(before), after...)
}
