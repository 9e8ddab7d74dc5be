// Package pictures reads folders of pictures as people have them: with videos,
// half-copied files, links and odd names among the photographs. What cannot be
// used is told in one line and never ends the reading.
//
// It does not decode pictures; package vision does. Start with [List].
package pictures

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"unicode"
	"unicode/utf8"

	"tuxwatch/firmware/vision"
)

// A File is one file of a folder, or what stands where one should be.
type File struct {
	Path string
	// Err is why it cannot be read, as far as that is known without opening it.
	Err error
}

// List gives the files of a folder and of the folders in it, sorted by path.
// Links are followed, each folder is read once. What begins with a point, and
// the files in which file managers keep their notes, are left out. The error is
// that the folder itself cannot be read.
func List(dir string) ([]File, error) {
	info, err := os.Stat(dir)
	if err != nil {
		return nil, fmt.Errorf("reading the folder of pictures %s: %w", Name(dir), Reason(err))
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("%s is a file, not a folder of pictures", Name(dir))
	}
	l := &lister{}
	if err := l.folder(dir, info); err != nil {
		return nil, fmt.Errorf("reading the folder of pictures %s: %w", Name(dir), Reason(err))
	}
	slices.SortFunc(l.files, func(a, b File) int { return cmp.Compare(a.Path, b.Path) })
	return l.files, nil
}

type lister struct {
	files []File
	seen  []os.FileInfo // folders
}

var errAgain = errors.New("it leads to a folder that is read already")

func (l *lister) folder(dir string, info os.FileInfo) error {
	if slices.ContainsFunc(l.seen, func(other os.FileInfo) bool { return os.SameFile(other, info) }) {
		return errAgain
	}
	l.seen = append(l.seen, info)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	// Real folders come before links to them, so that a file has its own name.
	slices.SortStableFunc(entries, func(a, b os.DirEntry) int {
		return cmp.Compare(a.Type()&fs.ModeSymlink, b.Type()&fs.ModeSymlink)
	})
	for _, e := range entries {
		if name := e.Name(); strings.HasPrefix(name, ".") || name == "Thumbs.db" || name == "desktop.ini" {
			continue
		}
		path := filepath.Join(dir, e.Name())
		info, err := os.Stat(path)
		switch {
		case errors.Is(err, fs.ErrNotExist) && e.Type()&fs.ModeSymlink != 0:
			err = errors.New("it is a link to nothing")
		case errors.Is(err, syscall.ELOOP):
			err = errors.New("it is a link that leads round in a circle")
		case err != nil:
		case info.IsDir():
			if err = l.folder(path, info); err == nil {
				continue
			}
		case !info.Mode().IsRegular():
			err = fmt.Errorf("it is not a file (%s)", kind(info.Mode()))
		}
		l.files = append(l.files, File{Path: path, Err: err})
	}
	return nil
}

func kind(mode fs.FileMode) string {
	switch {
	case mode&fs.ModeNamedPipe != 0:
		return "a named pipe"
	case mode&fs.ModeSocket != 0:
		return "a socket"
	default:
		return "a device"
	}
}

// Read reads the file, no more of it than the limit allows; then the error is
// vision.ErrTooLarge. A file that no JPEG or PNG begins like gives
// vision.ErrNotPicture and what it seems to be.
func (f File) Read(limit int) ([]byte, error) {
	if f.Err != nil {
		return nil, f.Err
	}
	// Without O_NONBLOCK a named pipe that took the file's place would hold up
	// everything.
	file, err := os.OpenFile(f.Path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, int64(limit)+1))
	if err != nil {
		return nil, err
	}
	switch what := describe(data); {
	case len(data) == 0:
		return nil, fmt.Errorf("%w: the file is empty (0 bytes)", vision.ErrNotPicture)
	case what != "":
		return nil, fmt.Errorf("%w: %s", vision.ErrNotPicture, what)
	case len(data) > limit:
		return nil, fmt.Errorf("%w: more than %d MB", vision.ErrTooLarge, limit/1_000_000)
	}
	return data, nil
}

// kinds are files that are often found among pictures, by how they begin (at an
// offset).
var kinds = []struct {
	offset  int
	begins  string
	meaning string
}{
	{0, "GIF8", "it is a GIF; save it as JPEG or PNG"},
	{8, "WEBP", "it is WebP; save it as JPEG or PNG"},
	{8, "AVI ", "it is a video (AVI); take single pictures from it"},
	{4, "ftypheic", "it is HEIC; set the phone's camera to JPEG (\"most compatible\"), or save it as JPEG"},
	{4, "ftypmif1", "it is HEIC; set the phone's camera to JPEG (\"most compatible\"), or save it as JPEG"},
	{4, "ftypavif", "it is AVIF; save it as JPEG or PNG"},
	{4, "ftyp", "it is a video (MP4, MOV); take single pictures from it"},
	{4, "moov", "it is a video (MOV); take single pictures from it"},
	{0, "\x1aE\xdf\xa3", "it is a video (WebM, Matroska); take single pictures from it"},
	{0, "\x00\x00\x01\xba", "it is a video (MPEG); take single pictures from it"},
	{0, "\x00\x00\x01\xb3", "it is a video (MPEG); take single pictures from it"},
	{0, "II*\x00", "it is a TIFF or a camera's raw file; save it as JPEG or PNG"},
	{0, "MM\x00*", "it is a TIFF or a camera's raw file; save it as JPEG or PNG"},
	{0, "BM", "it is a BMP; save it as JPEG or PNG"},
	{0, "%PDF", "it is a PDF"},
	{0, "PK\x03\x04", "it is a ZIP archive; unpack it"},
}

func describe(data []byte) string {
	if bytes.HasPrefix(data, []byte("\xff\xd8\xff")) || bytes.HasPrefix(data, []byte("\x89PNG\r\n\x1a\n")) {
		return ""
	}
	for _, k := range kinds {
		if len(data) > k.offset && bytes.HasPrefix(data[k.offset:], []byte(k.begins)) {
			return k.meaning
		}
	}
	return "it begins like neither"
}

// Note says what is odd about a picture that can be used all the same; empty
// for most.
func Note(data []byte) string {
	// The chunk acTL comes before the picture's data in an animated PNG.
	if bytes.HasPrefix(data, []byte("\x89PNG")) {
		head, _, _ := bytes.Cut(data[:min(len(data), 64<<10)], []byte("IDAT"))
		if bytes.Contains(head, []byte("acTL")) {
			return "it is animated; only its first picture is used"
		}
	}
	return ""
}

// Name gives a path as it may stand in a line of text: quoted when there is
// something in it that does not print, such as a line break.
func Name(path string) string {
	if !utf8.ValidString(path) || strings.ContainsFunc(path, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.Quote(path)
	}
	return path
}

// Reason takes the path out of an error of the file system, for lines that name
// the file already.
func Reason(err error) error {
	var onPath *fs.PathError
	if errors.As(err, &onPath) {
		return fmt.Errorf("%s: %w", onPath.Op, onPath.Err)
	}
	return err
}
