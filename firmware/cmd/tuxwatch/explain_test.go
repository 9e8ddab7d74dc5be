package main

import (
	"encoding/json"
	"image"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func drawing(t *testing.T, file string) image.Image {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	img, err := png.Decode(f)
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return img
}

// TestClassifyExplainOne uses a foreign model, of three classes.
func TestClassifyExplainOne(t *testing.T) {
	picture := filepath.Join(testPictures, "png-rgb.png")
	file := filepath.Join(t.TempDir(), "looked at.png")
	out, errOut, code := runClassify(t, nil, "--model", testModel, picture, "--explain", file)
	if code != 0 || errOut != "" {
		t.Fatalf("exit status %d, %s", code, errOut)
	}
	lines := strings.Split(out, "\n")
	if lines[0] != picture+": dog 89.7 % (cat 7.3 %, penguin 3.0 %)" {
		t.Errorf("printed %q", lines[0])
	}
	if !strings.HasPrefix(lines[1], "  "+file+": ") || !strings.Contains(lines[1], "dog") {
		t.Errorf("printed %q", lines[1])
	}
	if got, want := drawing(t, file).Bounds(), drawing(t, picture).Bounds(); got != want {
		t.Errorf("drawn on %v, not %v", got, want)
	}
}

func TestClassifyExplainPenguin(t *testing.T) {
	file := filepath.Join(t.TempDir(), "out.png")
	samples, err := filepath.Glob("../../../models/samples/penguin-*.jpg")
	if err != nil || len(samples) == 0 {
		t.Fatalf("there are no samples (%v)", err)
	}
	out, errOut, code := runClassify(t, nil, "--model", "../../../models/penguin", samples[0], "--explain", file)
	if code != 0 || errOut != "" || !strings.Contains(out, file+": for penguin it looked at x ") || !strings.Contains(out, " pixels\n") {
		t.Errorf("exit status %d, %q, %s", code, out, errOut)
	}
	drawing(t, file)
}

func TestClassifyExplainFolderAndJSON(t *testing.T) {
	dir := t.TempDir()
	same := filepath.Join(dir, "png-rgb.png") // two pictures of one name
	data, err := os.ReadFile(filepath.Join(testPictures, "png-gray.png"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(same, data, 0o600); err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(dir, "looked", "at") + "/"
	out, _, code := runClassify(t, data, "--model", testModel, "--json", "--explain", folder, "--explain-label", "cat",
		filepath.Join(testPictures, "png-rgb.png"), "nowhere.jpg", same, "-")
	if code != 1 {
		t.Errorf("exit status %d, one picture is missing", code)
	}
	var files []string
	for line := range strings.Lines(out) {
		var answer struct {
			File        string
			Predictions []any
			Explanation *struct {
				Label, File string
				Peak        float64
				Region      map[string]float64
				Grid        [][]float64
			}
		}
		if err := json.Unmarshal([]byte(line), &answer); err != nil {
			t.Fatal(err)
		}
		e := answer.Explanation
		if answer.File == "nowhere.jpg" {
			if e != nil {
				t.Error("explained what is not there:", line)
			}
			continue
		}
		if e == nil || e.Label != "cat" || len(e.Grid) != 16 || len(e.Region) != 4 || len(answer.Predictions) != 3 {
			t.Fatalf("%s", line)
		}
		drawing(t, e.File)
		files = append(files, strings.TrimPrefix(e.File, filepath.Clean(folder)+"/"))
	}
	if want := "png-rgb.explained.png png-rgb.explained-2.png stdin.explained.png"; strings.Join(files, " ") != want {
		t.Errorf("drew %q, want %s", files, want)
	}
}

func TestClassifyExplainWrongUse(t *testing.T) {
	picture := filepath.Join(testPictures, "png-rgb.png")
	for name, c := range map[string]struct {
		args []string
		code int
		says string
	}{
		"two pictures, one file": {[]string{"--explain", "out.png", "a.jpg", "b.jpg"}, 2, "name a folder: --explain out/"},
		"not a PNG":              {[]string{"--explain", "out.jpg", picture}, 2, "out.jpg.png"},
		"the picture itself":     {[]string{"--explain", picture, picture}, 2, "overwrite"},
		"no such folder":         {[]string{"--explain", "nowhere/out.png", picture}, 1, "nowhere"},
		"only a label":           {[]string{"--explain-label", "dog", picture}, 2, "--explain"},
		"unknown label":          {[]string{"--explain", t.TempDir(), "--explain-label", "gnu", picture}, 2, "penguin"},
	} {
		if _, errOut, code := runClassify(t, nil, append([]string{"--model", testModel}, c.args...)...); code != c.code || !strings.Contains(errOut, c.says) {
			t.Errorf("%s: exit status %d, %q", name, code, errOut)
		}
	}
}
