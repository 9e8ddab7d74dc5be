package camera

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"tuxwatch/firmware/edge"
)

// directory gives the pictures of a folder in the order of their names, over
// and over. Changes of the folder are seen at the next picture.
type directory struct {
	path string
	max  int
	c    *edge.Client

	names  []string
	listed time.Time // the folder's modification time when names were read
	last   string    // the picture given last
	told   map[string]string
}

func openDirectory(path string, max int, c *edge.Client) (*directory, error) {
	d := &directory{path: path, max: max, c: c, told: make(map[string]string)}
	return d, d.list()
}

func (d *directory) String() string {
	return fmt.Sprintf("folder %s (%d pictures)", d.path, len(d.names))
}

func (d *directory) close() {}

// list reads which pictures the folder holds.
func (d *directory) list() error {
	info, err := os.Stat(d.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("there is no folder %s: make it and put pictures into it, or name another with the setting path", d.path)
	case err != nil:
		return fmt.Errorf("reading the folder of pictures: %w", err)
	case !info.IsDir():
		return fmt.Errorf("%s is not a folder: name one that holds pictures with the setting path", d.path)
	}
	entries, err := os.ReadDir(d.path) // sorted by name
	if err != nil {
		return fmt.Errorf("reading the folder of pictures: %w", err)
	}
	d.listed = info.ModTime()
	d.names = nil
	for _, e := range entries {
		switch strings.ToLower(filepath.Ext(e.Name())) {
		case ".jpg", ".jpeg", ".png":
			if !e.IsDir() && !strings.HasPrefix(e.Name(), ".") {
				d.names = append(d.names, e.Name())
			}
		}
	}
	if len(d.names) == 0 {
		return fmt.Errorf("the folder %s holds no pictures: put .jpg, .jpeg or .png files into it, or name another with the setting path", d.path)
	}
	return nil
}

// refresh reads the folder again if it has changed.
func (d *directory) refresh() error {
	info, err := os.Stat(d.path)
	if err == nil && info.ModTime().Equal(d.listed) {
		return nil
	}
	return d.list()
}

// next returns the picture after the last one. Files that cannot be used are
// skipped; if there are no others that is an error.
func (d *directory) next(ctx context.Context) (picture, error) {
	if err := d.refresh(); err != nil {
		return picture{}, err
	}
	var first error
	// Twice round the folder: the list is read anew at its end.
	for range 2 * len(d.names) {
		if err := ctx.Err(); err != nil {
			return picture{}, err
		}
		at, found := slices.BinarySearch(d.names, d.last)
		if found {
			at++
		}
		if at >= len(d.names) {
			// The modification time alone may miss what happened in the same
			// tick of the file system's clock.
			if err := d.list(); err != nil {
				return picture{}, err
			}
			at = 0
		}
		d.last = d.names[at]
		body, contentType, err := d.read(d.last)
		if err == nil {
			delete(d.told, d.last)
			return picture{body: body, contentType: contentType, source: d.last, captured: time.Now()}, nil
		}
		d.skip(d.last, err)
		if first == nil {
			first = err
		}
	}
	return picture{}, fmt.Errorf("no file in the folder %s can be used; the first: %w", d.path, first)
}

// skip counts a file that cannot be used and says so once.
func (d *directory) skip(name string, err error) {
	if errors.Is(err, fs.ErrNotExist) {
		return // removed since the folder was read
	}
	d.c.Count("files_skipped", 1)
	if d.told[name] != err.Error() {
		if len(d.told) > 1000 {
			clear(d.told)
		}
		d.told[name] = err.Error()
		d.c.Log().Warn("skipping a file in the folder of pictures", "error", err)
	}
}

// read returns a picture's bytes and media type.
func (d *directory) read(name string) ([]byte, string, error) {
	path := filepath.Join(d.path, name)
	// A named pipe would hold up a blocking open for ever.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, "", err
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, "", err
	case !info.Mode().IsRegular():
		return nil, "", fmt.Errorf("%s is not a file", path)
	case info.Size() > int64(d.max):
		return nil, "", fmt.Errorf("%s has %d bytes, more than max_picture_bytes (%d) allows", path, info.Size(), d.max)
	}
	body, err := io.ReadAll(io.LimitReader(f, int64(d.max)+1))
	if err != nil {
		return nil, "", fmt.Errorf("reading %s: %w", path, err)
	}
	if len(body) > d.max {
		return nil, "", fmt.Errorf("%s grew beyond max_picture_bytes (%d)", path, d.max)
	}
	contentType := pictureType(body)
	if contentType == "" {
		return nil, "", fmt.Errorf("%s is neither a JPEG nor a PNG", path)
	}
	return body, contentType, nil
}

// pictureType returns the media type that a picture's first bytes tell (ITU-T
// T.81, B.1.1.3; PNG specification, 5.2), or "".
func pictureType(body []byte) string {
	switch {
	case bytes.HasPrefix(body, []byte("\xff\xd8\xff")):
		return "image/jpeg"
	case bytes.HasPrefix(body, []byte("\x89PNG\r\n\x1a\n")):
		return "image/png"
	}
	return ""
}
