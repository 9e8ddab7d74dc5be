package teach

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"tuxwatch/firmware/pictures/picturestest"
	"tuxwatch/firmware/vision"
)

var learnt struct {
	sync.Once
	model Model
}

// taught gives a small model, and what Write needs.
func taught(t testing.TB) (*Model, Folder) {
	t.Helper()
	base, runtime := openBase(t, baseModel)
	learnt.Do(func() {
		positive, negative := folders(t, 5, 5, small)
		model, err := Learn(t.Context(), base, options(positive, negative))
		if err != nil {
			t.Fatal(err)
		}
		learnt.model = *model
	})
	model := learnt.model
	return &model, Folder{Name: "rings", Base: base, Page: []byte("<html>"), Runtime: runtime}
}

// What is not a model stays untouched.
func TestReplacesNothingButModels(t *testing.T) {
	model, f := taught(t)
	for name, c := range map[string]struct {
		files map[string]string
		says  string // empty: it is replaced
	}{
		"empty":            {map[string]string{}, ""},
		"a model":          {map[string]string{"model.tflite": "x", "labels.txt": "a\nb"}, ""},
		"with a report":    {map[string]string{"model.tflite": "x", "labels.txt": "a\nb", "report.html": "x"}, ""},
		"photographs":      {map[string]string{"penguin.jpg": "x"}, `"penguin.jpg" in it; name another folder`},
		"model and photo":  {map[string]string{"labels.txt": "a\nb", "penguin.jpg": "x"}, `"penguin.jpg" in it`},
		"a report alone":   {map[string]string{"report.html": "x"}, "no labels.txt in it"},
		"a folder in it":   {map[string]string{"labels.txt": "a", "model.yaml/x": ""}, `"model.yaml" in it`},
		"a hidden history": {map[string]string{"labels.txt": "a", ".git/HEAD": ""}, `".git" in it`},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "m")
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			for file, content := range c.files {
				if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, file)), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(dir, file), []byte(content), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			err := model.Write(dir, f)
			if c.says == "" {
				if err != nil {
					t.Fatal(err)
				}
				if _, err := os.Stat(filepath.Join(dir, headFile)); err != nil {
					t.Error(err)
				}
			} else {
				if !errors.Is(err, ErrNotReplaced) || !strings.Contains(err.Error(), c.says) {
					t.Errorf("got %v, want %q", err, c.says)
				}
				for file, content := range c.files {
					if got, err := os.ReadFile(filepath.Join(dir, file)); err != nil || string(got) != content {
						t.Errorf("%s: %q, %v", file, got, err)
					}
				}
			}
			// Nothing temporary is left.
			if entries, _ := os.ReadDir(filepath.Dir(dir)); len(entries) != 1 {
				t.Errorf("beside the folder: %v", entries)
			}
		})
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("precious"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := model.Write(file, f); !errors.Is(err, ErrNotReplaced) {
		t.Errorf("a file: %v", err)
	}
}

// Through a link the folder that it leads to is replaced.
func TestWritesThroughALink(t *testing.T) {
	model, f := taught(t)
	dir := t.TempDir()
	target, link := filepath.Join(dir, "target"), filepath.Join(dir, "link")
	if err := errors.Join(os.Mkdir(target, 0o755), os.Symlink("target", link)); err != nil {
		t.Fatal(err)
	}
	if err := model.Write(link, f); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Lstat(link); err != nil || info.Mode()&fs.ModeSymlink == 0 {
		t.Error("the link is gone")
	}
	if _, err := os.Stat(filepath.Join(target, headFile)); err != nil {
		t.Error(err)
	}
}

// While a folder is replaced again and again, whoever opens it finds a whole
// model: a folder opened by its descriptor never has parts of two.
func TestReplacesInOneStep(t *testing.T) {
	model, f := taught(t)
	dir := filepath.Join(t.TempDir(), "m")
	if err := model.Write(dir, f); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var reader sync.WaitGroup
	looks := 0
	reader.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			root, err := os.OpenRoot(dir)
			if err != nil {
				t.Errorf("the folder is not there: %v", err)
				return
			}
			head, err := root.ReadFile(headFile)
			if err == nil && !strings.HasSuffix(string(head), "}\n") {
				t.Errorf("half a head: %d bytes", len(head))
			}
			// The old folder may be gone by the time its file is read.
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				t.Error(err)
			}
			root.Close()
			looks++
		}
	})
	for range 10 {
		if err := model.Write(dir, f); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	reader.Wait()
	if looks == 0 {
		t.Error("nobody looked")
	}
}

// What was written is asked about a picture before it takes its place.
func TestProvesWhatItWrote(t *testing.T) {
	model, f := taught(t)
	dir := filepath.Join(t.TempDir(), "m")
	model.says = 1 - model.says
	if err := model.Write(dir, f); err == nil || !strings.Contains(err.Error(), "when it was learnt") {
		t.Errorf("got %v", err)
	}
	if entries, _ := os.ReadDir(filepath.Dir(dir)); len(entries) != 0 {
		t.Errorf("left behind: %v", entries)
	}
}

// A folder full of what is no picture does not stop the work: one line each.
func TestBadFolder(t *testing.T) {
	base, _ := openBase(t, baseModel)
	positive, negative := folders(t, 6, 6, small)
	odd := picturestest.Bad(t, negative)
	lines := map[string][]Remark{}
	o := options(positive, negative)
	o.Remark = func(r Remark) { lines[r.File] = append(lines[r.File], r) }
	model, err := Learn(t.Context(), base, o)
	if err != nil {
		t.Fatal(err)
	}
	used := 6
	for _, f := range odd {
		if f.Used {
			used++
		}
		got := lines[filepath.Join(negative, f.Name)]
		switch {
		case f.Says == "" && len(got) > 0:
			t.Errorf("%q: %+v", f.Name, got)
		case f.Says != "" && (len(got) != 1 || !strings.Contains(got[0].Message, f.Says) || got[0].Used != f.Used || strings.Contains(got[0].Message, "\n")):
			t.Errorf("%q: %+v, want %q", f.Name, got, f.Says)
		}
	}
	if model.Report.Pictures.Negative != used || model.Report.Pictures.Positive != 6 {
		t.Errorf("%+v, want %d negative ones", model.Report.Pictures, used)
	}
}

// A picture that goes away meanwhile is left out.
func TestPictureGoesAway(t *testing.T) {
	base, _ := openBase(t, baseModel)
	positive, negative := folders(t, 6, 6, small)
	o := options(positive, negative)
	o.Progress = func(done, _ int) {
		if done == 1 {
			if err := os.Remove(filepath.Join(negative, "003.jpg")); err != nil {
				t.Error(err)
			}
		}
	}
	model, err := Learn(t.Context(), base, o)
	if err != nil {
		t.Fatal(err)
	}
	if n := model.Report.Pictures.Negative; n != 5 || len(model.Report.Remarks) != 1 {
		t.Errorf("%d negative ones, %+v", n, model.Report.Remarks)
	}
}

// The checks of vision.OpenClassifier hold for taught folders: damage is found.
func TestDamageIsFound(t *testing.T) {
	model, f := taught(t)
	dir := filepath.Join(t.TempDir(), "m")
	if err := model.Write(dir, f); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{modelFile, headFile, labelsFile, vision.ManifestFile} {
		path := filepath.Join(dir, name)
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, whole[:len(whole)-1], 0o644); err != nil {
			t.Fatal(err)
		}
		if c, err := vision.OpenClassifier(f.Runtime, dir, 1, vision.Limits{}); err == nil || !strings.Contains(err.Error(), name+" is damaged") {
			t.Errorf("%s: %v", name, err)
			if err == nil {
				c.Close()
			}
		}
		if err := os.WriteFile(path, whole, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
