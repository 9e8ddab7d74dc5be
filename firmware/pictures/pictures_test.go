package pictures_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"tuxwatch/firmware/pictures"
	"tuxwatch/firmware/pictures/picturestest"
	"tuxwatch/firmware/vision"
)

// Each odd file gives one entry: with the reason if it cannot be used.
func TestBadFolder(t *testing.T) {
	dir := t.TempDir()
	odd := picturestest.Bad(t, dir)
	files, err := pictures.List(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != len(odd) {
		t.Errorf("%d entries, want %d", len(files), len(odd))
	}
	if !slices.IsSortedFunc(files, func(a, b pictures.File) int { return strings.Compare(a.Path, b.Path) }) {
		t.Error("they are not sorted")
	}
	for _, o := range odd {
		at := slices.IndexFunc(files, func(f pictures.File) bool { return f.Path == filepath.Join(dir, o.Name) })
		if at < 0 {
			t.Errorf("%q is not listed", o.Name)
			continue
		}
		data, err := files[at].Read(vision.DefaultMaxBytes)
		if err == nil {
			_, err = vision.Upright(data, 32, vision.Limits{})
		}
		if (err == nil) != o.Used {
			t.Errorf("%q: %v", o.Name, err)
			continue
		}
		says := pictures.Note(data)
		if err != nil {
			says = pictures.Reason(err).Error()
		}
		if says == "" != (o.Says == "") || !strings.Contains(says, o.Says) || strings.ContainsAny(says, "\n\r") || strings.Contains(says, dir) {
			t.Errorf("%q says %q, want %q", o.Name, says, o.Says)
		}
		if name := pictures.Name(files[at].Path); strings.Contains(name, "\n") || !utf8.ValidString(name) {
			t.Errorf("the name does not print: %q", name)
		}
	}
}

// A folder is read once, by its own name, whichever ways lead to it.
func TestLinks(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "z"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "z", "p.jpg"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a", "zz"} {
		if err := os.Symlink("z", filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	files, err := pictures.List(dir)
	if err != nil || len(files) != 3 || files[1].Path != filepath.Join(dir, "z", "p.jpg") || files[1].Err != nil || files[0].Err == nil || files[2].Err == nil {
		t.Errorf("%+v, %v", files, err)
	}
	// A link to a folder from elsewhere is followed.
	other := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(filepath.Join(dir, "z"), other); err != nil {
		t.Fatal(err)
	}
	if files, err := pictures.List(other); err != nil || len(files) != 1 || files[0].Err != nil {
		t.Errorf("%+v, %v", files, err)
	}
}

func TestNotAFolder(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := pictures.List(file); err == nil || !strings.Contains(err.Error(), "is a file, not a folder") {
		t.Error(err)
	}
	if _, err := pictures.List(file + "/x"); err == nil || !strings.Contains(err.Error(), "file/x: stat") {
		t.Error(err)
	}
	if _, err := pictures.List(t.TempDir()); err != nil {
		t.Error(err)
	}
}

func TestSizeLimit(t *testing.T) {
	file := filepath.Join(t.TempDir(), "p.jpg")
	if err := os.WriteFile(file, []byte("\xff\xd8\xff1234567"), 0o644); err != nil {
		t.Fatal(err)
	}
	if data, err := (pictures.File{Path: file}).Read(10); err != nil || len(data) != 10 {
		t.Errorf("at the limit: %d bytes, %v", len(data), err)
	}
	if _, err := (pictures.File{Path: file}).Read(9); !errors.Is(err, vision.ErrTooLarge) {
		t.Errorf("beyond: %v", err)
	}
}
