package vision

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
)

// A Head is a logistic regression on a model's embedding: what "tuxwatch teach"
// learns from two folders of pictures. The manifest's output.head names the file
// with it, in JSON; it takes the place of the model's own probabilities. The
// folder's labels are two, and the head tells the probability of the first.
//
// The logit is (Weights·x + Bias) / Temperature − ln(Threshold / (1 − Threshold)),
// where x is the embedding, divided by its length if Normalize says so. The
// threshold is part of it so that one half is where to decide, for everyone who
// asks the model: the alerts' rule, clients over HTTP, and people.
type Head struct {
	// Format is HeadFormat.
	Format int `json:"format"`
	// Normalize is that the embedding is made a vector of length 1 first.
	Normalize bool `json:"normalize"`
	// Weights has a number for each of the embedding's.
	Weights []float32 `json:"weights"`
	Bias    float64   `json:"bias"`
	// Temperature calibrates: above 1 it makes the head less sure of itself.
	Temperature float64 `json:"temperature"`
	// Threshold is the calibrated probability from which on the first label is
	// the better decision.
	Threshold float64 `json:"threshold"`
}

// HeadFormat is the version of Head's JSON form that this package reads.
const HeadFormat = 1

// ReadHead reads a head from a file and checks that it makes sense.
func ReadHead(file string) (*Head, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var h Head
	if err := json.Unmarshal(data, &h); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Base(file), err)
	}
	if err := h.validate(); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Base(file), err)
	}
	return &h, nil
}

func (h *Head) validate() error {
	switch {
	case h.Format != HeadFormat:
		return fmt.Errorf("its format is %d, this version of tuxwatch reads %d; teach the model again", h.Format, HeadFormat)
	case len(h.Weights) == 0:
		return errors.New("it has no weights")
	case !(h.Temperature > 0) || math.IsInf(h.Temperature, 0):
		return fmt.Errorf("temperature %v is not above 0", h.Temperature)
	case !(h.Threshold > 0 && h.Threshold < 1):
		return fmt.Errorf("threshold %v is not between 0 and 1", h.Threshold)
	case math.IsNaN(h.Bias) || math.IsInf(h.Bias, 0):
		return fmt.Errorf("bias %v is not a number", h.Bias)
	}
	return nil
}

// Probability is that of the first label for an embedding, which has as many
// numbers as there are weights.
func (h *Head) Probability(embedding []float32) float64 {
	dot, square := 0.0, 0.0
	for i, v := range embedding {
		dot += float64(h.Weights[i]) * float64(v)
		square += float64(v) * float64(v)
	}
	if h.Normalize && square > 0 {
		dot /= math.Sqrt(square)
	}
	logit := (dot+h.Bias)/h.Temperature - math.Log(h.Threshold/(1-h.Threshold))
	return 1 / (1 + math.Exp(-logit))
}

// bindHead reads the head that the manifest names and holds it against the
// model's embedding.
func (c *Classifier) bindHead() error {
	name := c.manifest.Output.Head
	if name == "" {
		return nil
	}
	if !filepath.IsLocal(name) {
		return fmt.Errorf("the head %s is not in the folder", name)
	}
	head, err := ReadHead(filepath.Join(c.info.Folder, name))
	if err != nil {
		return err
	}
	if c.embedding < 0 {
		return fmt.Errorf("%s names a head, but not the embedding that it works on (output.embedding)", ManifestFile)
	}
	out := c.model.Outputs()[c.embedding]
	if n := out.Elements(); n != len(head.Weights) {
		return fmt.Errorf("%s is for an embedding of %d numbers, the model's has %d: it was taught on another model", name, len(head.Weights), n)
	}
	if n := len(c.info.Labels); n != 2 {
		return fmt.Errorf("%s tells two labels apart, but %s has %d", name, c.manifest.Labels, n)
	}
	c.head = head
	return nil
}

// Manifest is the folder's manifest, what it left out filled in.
func (c *Classifier) Manifest() Manifest { return c.manifest }
