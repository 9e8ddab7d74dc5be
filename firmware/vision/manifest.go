package vision

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
)

// ManifestFile is the optional file of a model folder that Manifest describes.
const ManifestFile = "model.yaml"

// A Manifest says what a model file does not say itself: its name, and how
// pictures have to be prepared for it. Every field may be left out:
//
//	name: penguin                # default: the folder's name
//	version: "1.2.0"
//	licence: Apache-2.0
//	description: Tells whether a toy penguin is in the picture.
//	model: model.tflite          # default: this, model_unquant.tflite, or the only .tflite file;
//	                             # . in a folder that is a SavedModel (package savedmodel)
//	labels: labels.txt
//	input:
//	  resize: stretch            # or crop, letterbox
//	  filter: bilinear           # or box, bicubic, lanczos
//	  channels: rgb              # or bgr; a model with one channel gets gray
//	  mean: [127.5, 127.5, 127.5]   # what the model takes is (sample − mean) / std,
//	  std: [127.5, 127.5, 127.5]    # of samples 0 … 255; one number stands for all three
//	output:
//	  activation: auto           # or none, softmax, sigmoid: what is still to be applied
//	  probabilities: 0           # number of the output; default: the one as long as the labels
//	  embedding: 1               # number of the output with the features, if there is one
//	  head: head.json            # a Head on the embedding, in place of the probabilities
//
// Without mean and std, an input of whole numbers (uint8, int8) gets the
// samples as they are (for int8 less 128), and a float32 input gets −1 … 1.
//
// Defaults differ for two exporters that are recognised by their files. Custom
// Vision (cvexport.manifest): crop, BGR, float samples 0 … 255 or the mean and
// std of its metadata_properties.json. (Models of its "compact [S1]" domains
// take RGB, and their files do not tell: give them a manifest with channels:
// rgb.) Teachable Machine (labels that are numbered, "0 Penguin"): crop, and
// the numbers are not part of the labels.
type Manifest struct {
	Name        string `yaml:"name"`
	Version     string `yaml:"version"`
	Licence     string `yaml:"licence"`
	Description string `yaml:"description"`
	Model       string `yaml:"model"`
	Labels      string `yaml:"labels"`
	Input       struct {
		Resize   Policy    `yaml:"resize"`
		Filter   Filter    `yaml:"filter"`
		Channels string    `yaml:"channels"`
		Mean     *perColor `yaml:"mean"`
		Std      *perColor `yaml:"std"`
	} `yaml:"input"`
	Output struct {
		Activation    Activation `yaml:"activation"`
		Probabilities *int       `yaml:"probabilities"`
		Embedding     *int       `yaml:"embedding"`
		Head          string     `yaml:"head"`
	} `yaml:"output"`
}

// perColor is a number for each of red, green and blue.
type perColor [3]float64

func (c *perColor) UnmarshalYAML(data []byte) error {
	var one float64
	if err := yaml.Unmarshal(data, &one); err == nil {
		*c = perColor{one, one, one}
		return nil
	}
	var three []float64
	if err := yaml.Unmarshal(data, &three); err != nil || len(three) != 3 {
		return fmt.Errorf("%s is neither a number nor a list of three", bytes.TrimSpace(data))
	}
	*c = perColor(three)
	return nil
}

// readManifest reads a model folder's manifest and labels and fills in what
// they leave out.
func readManifest(dir string) (m Manifest, labels []string, err error) {
	if info, err := os.Stat(dir); err != nil {
		return m, nil, err
	} else if !info.IsDir() {
		return m, nil, errors.New("it is not a folder (a model is a folder with model.tflite and labels.txt)")
	}
	data, err := os.ReadFile(filepath.Join(dir, ManifestFile))
	switch {
	case err == nil:
		if err := yaml.UnmarshalWithOptions(data, &m, yaml.Strict()); err != nil {
			return m, nil, fmt.Errorf("%s: %w", ManifestFile, err)
		}
	case !errors.Is(err, fs.ErrNotExist):
		return m, nil, err
	}
	if m.Name == "" {
		if absolute, err := filepath.Abs(dir); err == nil {
			m.Name = filepath.Base(absolute)
		}
	}
	if err := m.adoptCustomVision(dir); err != nil {
		return m, nil, err
	}
	if m.Labels == "" {
		m.Labels = "labels.txt"
	}
	labels, numbered, err := readLabels(filepath.Join(dir, m.Labels))
	if err != nil {
		return m, nil, err
	}
	if m.Input.Resize == "" {
		m.Input.Resize = Stretch
		if numbered {
			m.Input.Resize = Crop
		}
	}
	if m.Input.Filter == "" {
		m.Input.Filter = Bilinear
	}
	if m.Input.Channels == "" {
		m.Input.Channels = "rgb"
	}
	if m.Output.Activation == "" {
		m.Output.Activation = Auto
	}
	if m.Model == "" {
		if m.Model, err = findModel(dir); err != nil {
			return m, nil, err
		}
	}
	if err := m.validate(); err != nil {
		return m, nil, fmt.Errorf("%s: %w", ManifestFile, err)
	}
	return m, labels, nil
}

func (m *Manifest) validate() error {
	if _, err := m.Input.Resize.place(pixel, pixel); err != nil {
		return fmt.Errorf("input.resize: %w", err)
	}
	if _, _, err := m.Input.Filter.kernel(); err != nil {
		return fmt.Errorf("input.filter: %w", err)
	}
	if m.Input.Channels != "rgb" && m.Input.Channels != "bgr" {
		return fmt.Errorf("input.channels: unknown order %q (rgb, bgr)", m.Input.Channels)
	}
	if (m.Input.Mean == nil) != (m.Input.Std == nil) {
		return errors.New("input: mean and std go together, one of them is missing")
	}
	if m.Input.Std != nil {
		for _, std := range m.Input.Std {
			if std == 0 {
				return errors.New("input.std: must not be 0")
			}
		}
	}
	if err := m.Output.Activation.validate(); err != nil {
		return fmt.Errorf("output.activation: %w", err)
	}
	return nil
}

// adoptCustomVision fills in what an export of Custom Vision says of itself.
// Its published examples show the rest: float samples 0 … 255 in BGR order, the
// shorter side resized to the input and the middle cut out.
func (m *Manifest) adoptCustomVision(dir string) error {
	const export = "cvexport.manifest"
	data, err := os.ReadFile(filepath.Join(dir, export))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var exported struct{ DomainType, ModelFileName, LabelFileName, MetadataPropsFileName string }
	if err := json.Unmarshal(bytes.TrimPrefix(data, byteOrderMark), &exported); err != nil {
		return fmt.Errorf("%s: %w", export, err)
	}
	if exported.DomainType != "" && exported.DomainType != "Classification" {
		return fmt.Errorf("%s: this is a model for %s, only Classification is supported", export, exported.DomainType)
	}
	var properties map[string]any
	if exported.MetadataPropsFileName != "" {
		name := filepath.Base(exported.MetadataPropsFileName)
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err == nil {
			err = json.Unmarshal(bytes.TrimPrefix(data, byteOrderMark), &properties)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	if m.Model == "" && exported.ModelFileName != "" {
		m.Model = filepath.Base(exported.ModelFileName)
	}
	if m.Labels == "" && exported.LabelFileName != "" {
		m.Labels = filepath.Base(exported.LabelFileName)
	}
	if m.Input.Resize == "" {
		m.Input.Resize = Crop
	}
	if m.Input.Channels == "" {
		m.Input.Channels = "bgr"
	}
	if m.Input.Mean == nil && m.Input.Std == nil {
		m.Input.Mean = propertyPerColor(properties["CustomVision.Preprocess.NormalizeMean"], perColor{0, 0, 0})
		m.Input.Std = propertyPerColor(properties["CustomVision.Preprocess.NormalizeStd"], perColor{1, 1, 1})
	}
	return nil
}

// propertyPerColor reads a list that Custom Vision stores as text: "[0.0, 0.0, 0.0]".
func propertyPerColor(property any, otherwise perColor) *perColor {
	text, _ := property.(string)
	var values []float64
	if json.Unmarshal([]byte(text), &values) == nil && len(values) == 3 {
		return (*perColor)(values)
	}
	return &otherwise
}

var byteOrderMark = []byte("\xef\xbb\xbf")

// readLabels reads one label a line. When every line begins with its own number,
// as Teachable Machine writes them, the numbers are taken off.
func readLabels(file string) (labels []string, numbered bool, err error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, false, err
	}
	text := strings.TrimSpace(string(bytes.TrimPrefix(data, byteOrderMark)))
	if text == "" {
		return nil, false, fmt.Errorf("%s: there are no labels in it", filepath.Base(file))
	}
	var plain []string
	numbered = true
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" {
			return nil, false, fmt.Errorf("%s: line %d is empty", filepath.Base(file), len(labels)+1)
		}
		rest, ok := strings.CutPrefix(line, strconv.Itoa(len(labels))+" ")
		numbered = numbered && ok
		labels = append(labels, line)
		plain = append(plain, strings.TrimSpace(rest))
	}
	if numbered {
		return plain, true, nil
	}
	return labels, false, nil
}

func findModel(dir string) (string, error) {
	for _, name := range []string{"model.tflite", "model_unquant.tflite"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			return name, nil
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "saved_model.pb")); err == nil {
		return ".", nil
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.tflite"))
	if err != nil {
		return "", err
	}
	switch len(files) {
	case 1:
		return filepath.Base(files[0]), nil
	case 0:
		return "", errors.New("there is no model.tflite in it")
	default:
		return "", fmt.Errorf("there are %d .tflite files in it; name one as model: in %s", len(files), ManifestFile)
	}
}
