package teach

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"golang.org/x/sys/unix"

	"tuxwatch/firmware/vision"
)

// The files of a model folder, beside vision.ManifestFile.
const (
	modelFile  = "model.tflite"
	labelsFile = "labels.txt"
	headFile   = "head.json"
	sumsFile   = "SHA256SUMS"
	// ReportJSON and ReportPage are the report, for programs and for people.
	ReportJSON = "report.json"
	ReportPage = "report.html"
)

// ErrNotReplaced is that something else than a model is where the model's folder
// is to be.
var ErrNotReplaced = errors.New("it is not a model folder, so it is not replaced")

// CheckFolder tells beforehand whether a model can be written to a folder: it
// is not there yet, is empty, or holds nothing but a model. The error is
// ErrNotReplaced otherwise.
func CheckFolder(dir string) error {
	info, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fmt.Errorf("%s: %w: it is a file; name another folder", dir, ErrNotReplaced)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	own := []string{modelFile, labelsFile, headFile, sumsFile, ReportJSON, ReportPage, vision.ManifestFile}
	hasModel := len(entries) == 0
	for _, e := range entries {
		if !slices.Contains(own, e.Name()) || !e.Type().IsRegular() {
			return fmt.Errorf("%s: %w: there is %q in it; name another folder, or move that away first", dir, ErrNotReplaced, e.Name())
		}
		hasModel = hasModel || e.Name() == labelsFile || e.Name() == vision.ManifestFile
	}
	if !hasModel {
		return fmt.Errorf("%s: %w: there is no %s in it; name another folder", dir, ErrNotReplaced, labelsFile)
	}
	return nil
}

// Folder is what a model's folder is made of.
type Folder struct {
	// Name of the model.
	Name string
	// Base is the classifier that Learn built on.
	Base *vision.Classifier
	// Page is the report for people, if there is to be one.
	Page []byte
	// Runtime proves the folder: it is loaded and asked about a picture before
	// it takes its place.
	Runtime vision.Runtime
}

// Write writes the model to a folder, which it replaces as a whole if there is a
// model in it: whoever reads the folder sees the one or the other. A copy of the
// base's network makes it complete in itself.
func (m *Model) Write(dir string, f Folder) (err error) {
	if err := CheckFolder(dir); err != nil {
		return err
	}
	// Through a link the folder that it leads to is replaced, not the link.
	if target, err := filepath.EvalSymlinks(dir); err == nil {
		dir = target
	}
	dir, err = filepath.Abs(dir)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return fmt.Errorf("making the folder for the model: %w", err)
	}
	temporary, err := os.MkdirTemp(filepath.Dir(dir), "."+filepath.Base(dir)+"-*")
	if err != nil {
		return fmt.Errorf("making the model's folder: %w", err)
	}
	defer os.RemoveAll(temporary)
	if err := os.Chmod(temporary, 0o755); err != nil { // the daemon reads it as another user
		return err
	}
	m.Report.Name = f.Name
	files, err := m.files(f)
	if err != nil {
		return err
	}
	for _, file := range files {
		if err := writeDurably(filepath.Join(temporary, file.name), file.content); err != nil {
			return fmt.Errorf("writing the model: %w", err)
		}
	}
	if err := m.prove(temporary, f.Runtime); err != nil {
		return fmt.Errorf("trying the model that was written: %w", err)
	}
	if err := syncFolder(temporary); err != nil {
		return fmt.Errorf("writing the model: %w", err)
	}
	if err := replace(temporary, dir); err != nil {
		return fmt.Errorf("putting the model into its place: %w", err)
	}
	return syncFolder(filepath.Dir(dir))
}

type file struct {
	name    string
	content []byte
}

func (m *Model) files(f Folder) ([]file, error) {
	manifest := f.Base.Manifest()
	network, err := os.ReadFile(filepath.Join(m.base.Folder, manifest.Model))
	if err != nil {
		return nil, fmt.Errorf("copying the network: %w", err)
	}
	text, err := describeModel(f.Name, m, manifest)
	if err != nil {
		return nil, err
	}
	head, err := json.Marshal(m.Head)
	if err != nil {
		return nil, fmt.Errorf("writing the head: %w", err)
	}
	report, err := json.MarshalIndent(m.Report, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("writing the report: %w", err)
	}
	files := []file{
		{modelFile, network},
		{labelsFile, []byte(strings.Join(m.Report.Labels[:], "\n") + "\n")},
		{headFile, append(head, '\n')},
		{vision.ManifestFile, text},
	}
	var sums strings.Builder
	for _, file := range files {
		sum := sha256.Sum256(file.content)
		fmt.Fprintf(&sums, "%s  %s\n", hex.EncodeToString(sum[:]), file.name)
	}
	files = append(files, file{sumsFile, []byte(sums.String())}, file{ReportJSON, append(report, '\n')})
	if len(f.Page) > 0 {
		files = append(files, file{ReportPage, f.Page})
	}
	return files, nil
}

// describeModel writes the manifest: the base's way to prepare pictures, with
// the head in place of the base's probabilities.
func describeModel(name string, m *Model, base vision.Manifest) ([]byte, error) {
	input := yaml.MapSlice{
		{Key: "resize", Value: string(base.Input.Resize)},
		{Key: "filter", Value: string(base.Input.Filter)},
		{Key: "channels", Value: base.Input.Channels},
	}
	if base.Input.Mean != nil {
		input = append(input, yaml.MapItem{Key: "mean", Value: base.Input.Mean[:]}, yaml.MapItem{Key: "std", Value: base.Input.Std[:]})
	}
	manifest := yaml.MapSlice{
		{Key: "name", Value: name},
		{Key: "version", Value: m.Report.Version},
		{Key: "description", Value: fmt.Sprintf("Tells %s from %s. Taught with tuxwatch teach, from %d and %d pictures, on the model %s %s.",
			m.Report.Labels[0], m.Report.Labels[1], m.Report.Pictures.Positive, m.Report.Pictures.Negative,
			m.Report.Base.Name, m.Report.Base.Version)},
		{Key: "model", Value: modelFile},
		{Key: "labels", Value: labelsFile},
		{Key: "input", Value: input},
		{Key: "output", Value: yaml.MapSlice{
			{Key: "embedding", Value: *base.Output.Embedding},
			{Key: "head", Value: headFile},
		}},
	}
	if m.base.Licence != "" {
		// Of the network; what was learnt belongs to whoever took the pictures.
		manifest = slices.Insert(manifest, 2, yaml.MapItem{Key: "licence", Value: m.base.Licence})
	}
	text, err := yaml.Marshal(manifest)
	if err != nil {
		return nil, fmt.Errorf("writing the manifest: %w", err)
	}
	return text, nil
}

// prove loads the folder as the recognizer does and asks it about a picture.
func (m *Model) prove(dir string, runtime vision.Runtime) error {
	c, err := vision.OpenClassifier(runtime, dir, 1, vision.Limits{})
	if err != nil {
		return err
	}
	defer c.Close()
	result, err := c.Classify(m.check)
	if err != nil {
		return err
	}
	for _, p := range result.Predictions {
		if p.Label == m.Report.Labels[0] && math.Abs(p.Probability-m.says) > 1e-3 {
			return fmt.Errorf("it says %.4f of a picture that was %.4f when it was learnt", p.Probability, m.says)
		}
	}
	return nil
}

func writeDurably(path string, content []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	return errors.Join(err, f.Sync(), f.Close())
}

func syncFolder(path string) error {
	folder, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}

// replace puts the new folder where the old one is, if there is one. After it,
// the old one is where the new one was, for the caller to remove.
func replace(fresh, dir string) error {
	if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
		return os.Rename(fresh, dir)
	}
	err := unix.Renameat2(unix.AT_FDCWD, fresh, unix.AT_FDCWD, dir, unix.RENAME_EXCHANGE)
	if err == nil {
		return nil
	}
	if !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOSYS) {
		return &os.LinkError{Op: "exchange", Old: fresh, New: dir, Err: err}
	}
	// The file system (some FAT and network ones) cannot exchange: for a moment
	// there is no folder.
	aside := fresh + ".old"
	if err := os.Rename(dir, aside); err != nil {
		return err
	}
	defer os.RemoveAll(aside)
	if err := os.Rename(fresh, dir); err != nil {
		return errors.Join(err, os.Rename(aside, dir))
	}
	return nil
}
