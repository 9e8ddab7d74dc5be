package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image/png"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/renameio/v2"

	"tuxwatch/firmware/vision"
)

// explainer is classify's --explain: it draws where the model looked.
type explainer struct {
	label  string
	file   string // one picture's explanation, or
	folder string // that of any number
	taken  map[string]bool
}

// newExplainer checks --explain and --explain-label before anything runs. It
// gives nil when no explanation is wanted.
func newExplainer(out, label string, files []string) (*explainer, error) {
	if out == "" {
		if label != "" {
			return nil, wrongUse("--explain-label says which label --explain is to explain; give --explain as well")
		}
		return nil, nil
	}
	e := &explainer{label: label, taken: map[string]bool{}}
	info, err := os.Stat(out)
	if err == nil && info.IsDir() || os.IsPathSeparator(out[len(out)-1]) {
		e.folder = out
		if err := os.MkdirAll(out, 0o755); err != nil {
			return nil, failed("making the folder of --explain: %w", err)
		}
		return e, nil
	}
	if len(files) > 1 {
		return nil, wrongUse("--explain %s is one file, but there are %d pictures; name a folder: --explain %s/",
			out, len(files), strings.TrimSuffix(out, filepath.Ext(out)))
	}
	if !strings.EqualFold(filepath.Ext(out), ".png") {
		return nil, wrongUse("--explain writes a PNG picture; name it %s.png, or a folder: %s/", out, out)
	}
	if _, err := os.Stat(filepath.Dir(out)); err != nil {
		return nil, failed("there is no folder for --explain %s: %w", out, err)
	}
	if same, err := sameFile(out, files[0]); err != nil {
		return nil, failed("%w", err)
	} else if same {
		return nil, wrongUse("--explain %s would overwrite the picture itself; give another name", out)
	}
	e.file = out
	return e, nil
}

// check holds the label against the model. A nil explainer has none.
func (e *explainer) check(model vision.ModelInfo) error {
	if e == nil || e.label == "" || slices.Contains(model.Labels, e.label) {
		return nil
	}
	return wrongUse("--explain-label %s: the model %s has no such label, it has %s", e.label, model.Name, strings.Join(model.Labels, ", "))
}

func sameFile(a, b string) (bool, error) {
	first, err := os.Stat(a)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	second, err := os.Stat(b)
	return err == nil && os.SameFile(first, second), nil // what b lacks is said later
}

// name gives the file for a picture's explanation, a different one for each.
func (e *explainer) name(picture string) string {
	if e.file != "" {
		return e.file
	}
	base := filepath.Base(picture)
	if picture == "-" {
		base = "stdin"
	}
	stem := strings.TrimSuffix(base, filepath.Ext(base)) + ".explained"
	name := stem
	for n := 2; e.taken[name]; n++ {
		name = fmt.Sprintf("%s-%d", stem, n)
	}
	e.taken[name] = true
	return filepath.Join(e.folder, name+".png")
}

// explained is an explanation that was drawn, in the form that --json prints.
type explained struct {
	Label  string        `json:"label"`
	File   string        `json:"file"`
	Peak   float64       `json:"peak"`
	Region vision.Region `json:"region"`
	Grid   [][]float64   `json:"grid"`

	where string
}

func (e *explainer) explain(ctx context.Context, classifier *vision.Classifier, picture string, data []byte) (vision.Result, *explained, error) {
	explanation, err := classifier.Explain(ctx, data, e.label)
	if err != nil {
		return vision.Result{}, nil, err
	}
	var drawn bytes.Buffer
	if err := png.Encode(&drawn, explanation.Picture); err != nil {
		return vision.Result{}, nil, fmt.Errorf("drawing the explanation: %w", err)
	}
	name := e.name(picture)
	if err := renameio.WriteFile(name, drawn.Bytes(), 0o644); err != nil {
		// Not wrapped: it is not about the picture's file.
		return vision.Result{}, nil, fmt.Errorf("writing the explanation: %v", err)
	}
	part := explanation.Region.In(explanation.Size)
	return explanation.Result, &explained{
		Label: explanation.Label, File: name, Peak: explanation.Peak, Region: explanation.Region, Grid: explanation.Grid,
		where: fmt.Sprintf("x %d–%d, y %d–%d of %d × %d pixels", part.Min.X, part.Max.X, part.Min.Y, part.Max.Y,
			explanation.Size.X, explanation.Size.Y),
	}, nil
}

func (e *explained) String() string {
	if e.Peak < vision.Telling {
		return fmt.Sprintf("%s: no part of the picture decides alone that it is %s", e.File, e.Label)
	}
	return fmt.Sprintf("%s: for %s it looked at %s", e.File, e.Label, e.where)
}
