package vision

import (
	"context"
	"errors"
	"fmt"
	"image"
	"math"
	"slices"
	"strings"
	"time"
)

var (
	// ErrExplaining is the ErrBusy of a picture that is to be explained while
	// another one is.
	ErrExplaining = fmt.Errorf("%w: another picture is being explained", ErrBusy)
	// ErrNoLabel is returned for a label that the model does not have.
	ErrNoLabel = errors.New("the model has no such label")
	// ErrModelChanged is the ErrBusy of a picture whose model was replaced
	// while it was explained.
	ErrModelChanged = fmt.Errorf("%w: the model was replaced while the picture was explained", ErrBusy)
)

// ExplanationGrid is the number of rows, and of columns, of Explanation.Grid.
const ExplanationGrid = 16

// Telling is the least Explanation.Peak of a map that tells where to look.
const Telling = 0.5

// ExplanationSize is the longest side of Explanation.Picture, in pixels.
const ExplanationSize = 1024

// An Explanation shows which parts of a picture a model decided by.
//
// It is an occlusion map (Zeiler and Fergus 2014) at several scales: parts of
// the picture are blurred, and it is measured how much less then speaks for the
// label, and how much speaks for it when a part is all that is shown. The model
// may be any: nothing but its answers is used. The same picture, model and
// number of threads give the same explanation.
type Explanation struct {
	// Result is what the model says of the whole picture.
	Result Result
	// Label is the label whose reasons are shown.
	Label string
	// Grid has ExplanationGrid rows of as many equal parts of the upright
	// picture: 0 where nothing speaks for the label, 1 where most does. What
	// the model does not see, because it is cropped off, is 0.
	Grid [][]float64
	// Peak is the map's highest value, 0 … 1. Below Telling, no part decides
	// alone, and the map says little: what a picture of nothing gets.
	Peak float64
	// Region bounds what counts at least half as much as the peak.
	Region Region
	// Size is the upright picture's size, in pixels.
	Size image.Point
	// Picture is the upright picture, at most ExplanationSize pixels wide and
	// high, with the map drawn over it.
	Picture *image.RGBA
}

// Region is a part of a picture, as shares (0 … 1) of its width and height.
type Region struct {
	Left   float64 `json:"left"`
	Top    float64 `json:"top"`
	Width  float64 `json:"width"`
	Height float64 `json:"height"`
}

// In gives the region in the pixels of a picture of the given size.
func (r Region) In(size image.Point) image.Rectangle {
	x, y := float64(size.X), float64(size.Y)
	return image.Rect(
		int(math.Round(r.Left*x)), int(math.Round(r.Top*y)),
		int(math.Round((r.Left+r.Width)*x)), int(math.Round((r.Top+r.Height)*y)))
}

// Explain finds what in a JPEG or PNG file speaks for a label; for an empty
// label, for the most likely one. It runs the model Invocations times and ends
// early when ctx does. Beside the errors of Classify and of ctx it returns
// ErrNoLabel.
func (c *Classifier) Explain(ctx context.Context, file []byte, label string) (Explanation, error) {
	return explain(ctx, file, label, func(ctx context.Context, step func(*Classifier) error) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		return step(c)
	})
}

// Explain is Classifier.Explain. Other pictures are classified between its
// runs of the model, so that none waits longer than for another picture; it
// takes none of the places for waiting pictures. One picture is explained at a
// time, others get ErrExplaining.
func (s *Service) Explain(ctx context.Context, file []byte, label string) (Explanation, error) {
	select {
	case s.explaining <- struct{}{}:
		defer func() { <-s.explaining }()
	default:
		return Explanation{}, ErrExplaining
	}
	var first *Classifier
	return explain(ctx, file, label, func(ctx context.Context, step func(*Classifier) error) error {
		if err := s.takeTurn(ctx); err != nil {
			return err
		}
		defer s.endTurn()
		switch {
		case s.classifier == nil:
			return s.whyNot()
		case first == nil:
			first = s.classifier
		case first != s.classifier:
			return ErrModelChanged
		}
		return step(s.classifier)
	})
}

// explain does the work. with calls a step with the classifier, which is the
// same each time and the step's own meanwhile.
func explain(ctx context.Context, file []byte, label string, with func(context.Context, func(*Classifier) error) error) (Explanation, error) {
	var e Explanation
	var limits Limits
	var view view
	var canvas *canvas
	err := with(ctx, func(c *Classifier) (err error) {
		start := time.Now()
		p, err := decode(file, c.limits, aim{c.size, c.manifest.Input.Resize})
		if err != nil {
			return err
		}
		if e.Result, err = c.classify(p, time.Since(start)); err != nil {
			return err
		}
		if e.Label = label; label == "" {
			e.Label = e.Result.Best().Label
		} else if !slices.Contains(c.info.Labels, label) {
			return fmt.Errorf("%w: %q; it has %s", ErrNoLabel, label, strings.Join(c.info.Labels, ", "))
		}
		limits, e.Size, view.input = c.limits, p.upright(), c.size
		if view.layout, err = c.manifest.Input.Resize.place(e.Size, c.size); err != nil {
			return err
		}
		samples, err := p.resizeTo(c.size, c.manifest.Input.Resize, c.manifest.Input.Filter)
		if err != nil {
			return err
		}
		canvas = newCanvas(samples, c.size, view.inInput())
		return nil
	})
	if err != nil {
		return Explanation{}, err
	}

	ask := func(samples []byte) (probability float64, err error) {
		err = with(ctx, func(c *Classifier) error {
			c.fill(samples)
			result, err := c.run()
			probability = result.probability(e.Label)
			return err
		})
		return probability, err
	}
	whole := e.Result.probability(e.Label)
	nothing, err := ask(canvas.blurred)
	if err != nil {
		return Explanation{}, err
	}
	all := windows(view.input, view.inInput())
	effects := make([]float64, len(all))
	for i, w := range all {
		p, err := ask(canvas.under(w))
		if err != nil {
			return Explanation{}, err
		}
		if w.shown {
			effects[i] = evidence(p) - evidence(nothing)
		} else {
			effects[i] = evidence(whole) - evidence(p)
		}
	}
	view.heat = relevance(view.input, all, effects)
	e.Grid = view.grid(ExplanationGrid)
	e.Region, e.Peak = view.region()
	if e.Picture, err = Upright(file, ExplanationSize, limits); err != nil {
		return Explanation{}, err
	}
	view.draw(e.Picture)
	return e, nil
}

// probability of a label; 0 for one that the model does not have.
func (r Result) probability(label string) float64 {
	for _, p := range r.Predictions {
		if p.Label == label {
			return p.Probability
		}
	}
	return 0
}
