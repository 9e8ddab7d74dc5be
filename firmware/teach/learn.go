package teach

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"image"
	"math/rand/v2"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"tuxwatch/firmware/evaluate"
	"tuxwatch/firmware/pictures"
	"tuxwatch/firmware/vision"
)

// How many pictures there have to be. Three of a kind can be cross-validated,
// ten in all tell something; of FewPictures each one may expect a good model.
const (
	MinOfEach   = 3
	MinPictures = 10
	FewPictures = 10
)

// Base is the model whose embedding is built on; a *vision.Classifier is one.
type Base interface {
	Classify(file []byte) (vision.Result, error)
	ClassifyImage(img image.Image) (vision.Result, error)
	Upright(file []byte, longest int) (*image.RGBA, error)
	Info() vision.ModelInfo
}

// Options say what to learn.
type Options struct {
	// Positive and Negative are the folders of pictures.
	Positive, Negative string
	// Labels are the names of the two, the positive one first.
	Labels [2]string
	// Seed makes the changed copies and the folds; the same one gives the same
	// model.
	Seed uint64
	// MaxPictureBytes is the largest picture file; 0 for vision's default.
	MaxPictureBytes int
	// Copies is how many changed copies of each picture are learnt from; 0 for
	// as many as suit the number of pictures.
	Copies int

	// Progress, if given, is told after each picture.
	Progress func(done, all int)
	// Remark, if given, is told of each file that is left out, or is odd.
	Remark func(Remark)
}

// Remark is about one file.
type Remark struct {
	File    string `json:"file"`
	Used    bool   `json:"used"` // all the same
	Message string `json:"message"`
}

// A TooFewError says how many pictures are missing.
type TooFewError struct {
	Labels             [2]string
	Positive, Negative int // that can be used
	Skipped            int // that cannot
}

func (e *TooFewError) Error() string {
	skipped := ""
	if e.Skipped > 0 {
		skipped = fmt.Sprintf(" (%s cannot be used, see above)", count(e.Skipped, "file"))
	}
	switch {
	case e.Positive == 0 && e.Negative == 0:
		return fmt.Sprintf("there are no pictures in either folder%s; put at least 5 of each into them", skipped)
	case e.Positive == 0 || e.Negative == 0:
		empty := e.Labels[0]
		if e.Negative == 0 {
			empty = e.Labels[1]
		}
		return fmt.Sprintf("there are no pictures of %s%s; put at least 5 into the folder: a model learns from both kinds", empty, skipped)
	}
	var missing []string
	short := [2]int{max(0, MinOfEach-e.Positive), max(0, MinOfEach-e.Negative)}
	if rest := MinPictures - e.Positive - e.Negative - short[0] - short[1]; rest > 0 {
		// Bring the two to the same number first.
		for range rest {
			if e.Positive+short[0] <= e.Negative+short[1] {
				short[0]++
			} else {
				short[1]++
			}
		}
	}
	for i, n := range short {
		if n > 0 {
			missing = append(missing, fmt.Sprintf("%d more of %s", n, e.Labels[i]))
		}
	}
	return fmt.Sprintf("too few pictures: %d of %s and %d of %s%s; add at least %s (5 and 5 do, more are better)",
		e.Positive, e.Labels[0], e.Negative, e.Labels[1], skipped, join(missing))
}

// A BothError names pictures that are in both folders.
type BothError struct{ Pairs [][2]string }

func (e *BothError) Error() string {
	text := fmt.Sprintf("%s in both folders; remove each from the one where it does not belong:", count(len(e.Pairs), "picture is", "pictures are"))
	for _, p := range e.Pairs {
		text += fmt.Sprintf("\n  %s = %s", pictures.Name(p[0]), pictures.Name(p[1]))
	}
	return text
}

// picture is one to learn from.
type picture struct {
	file       string
	positive   bool
	sum        [sha256.Size]byte
	embeddings [][]float32 // its own, then the changed copies'
	group      int         // never parted by cross-validation
}

// Model is what was learnt.
type Model struct {
	Head   vision.Head
	Report Report
	base   vision.ModelInfo
	check  []byte // a picture, and what the model says of it
	says   float64
}

// Learn reads two folders of pictures and learns to tell them apart. Files that
// cannot be used are remarked on and left out. The errors are a TooFewError, a
// BothError, that a folder cannot be read, that the base has no embedding, or
// that ctx ended.
func Learn(ctx context.Context, base Base, o Options) (*Model, error) {
	if o.MaxPictureBytes == 0 {
		o.MaxPictureBytes = vision.DefaultMaxBytes
	}
	l := &learner{Options: o, base: base}
	if err := l.gather(ctx); err != nil {
		return nil, err
	}
	if err := l.embed(ctx); err != nil {
		return nil, err
	}
	l.groupAlike()
	return l.train(ctx)
}

type learner struct {
	Options
	base       Base
	candidates []candidate
	remarks    []Remark
	pictures   []*picture
	copies     int // changed copies of each picture
	similar    []Similar
}

// candidate is a file that may be a picture.
type candidate struct {
	pictures.File
	positive bool
	sum      [sha256.Size]byte
}

func (l *learner) remark(file string, used bool, message string) {
	r := Remark{file, used, message}
	l.remarks = append(l.remarks, r)
	if l.Remark != nil {
		l.Remark(r)
	}
}

func (l *learner) skip(file string, err error) {
	l.remark(file, false, pictures.Reason(err).Error())
}

// gather finds the files, and what is wrong with the folders as far as that is
// seen without decoding.
func (l *learner) gather(ctx context.Context) error {
	type place struct {
		file     string
		positive bool
	}
	first := map[[sha256.Size]byte]place{}
	var both [][2]string
	for _, side := range []struct {
		dir      string
		positive bool
	}{{l.Positive, true}, {l.Negative, false}} {
		files, err := pictures.List(side.dir)
		if err != nil {
			return err
		}
		for _, f := range files {
			if err := ctx.Err(); err != nil {
				return err
			}
			data, err := f.Read(l.MaxPictureBytes)
			if err != nil {
				l.skip(f.Path, err)
				continue
			}
			sum := sha256.Sum256(data)
			switch other, again := first[sum]; {
			case again && other.positive != side.positive:
				both = append(both, [2]string{other.file, f.Path})
			case again:
				l.remark(f.Path, false, "it is the same picture as "+pictures.Name(other.file)+", which counts once")
			default:
				first[sum] = place{f.Path, side.positive}
				l.candidates = append(l.candidates, candidate{f, side.positive, sum})
			}
		}
	}
	if len(both) > 0 {
		return &BothError{both}
	}
	if l.copies = l.Copies; l.copies == 0 {
		// Many pictures have variety of their own.
		l.copies = min(max(1500/max(len(l.candidates), 1), 2), 6)
	}
	return l.enough(func(yield func(bool) bool) {
		for _, c := range l.candidates {
			if !yield(c.positive) {
				return
			}
		}
	})
}

// enough counts the pictures of either kind.
func (l *learner) enough(kinds func(yield func(positive bool) bool)) error {
	e := &TooFewError{Labels: l.Labels}
	for positive := range kinds {
		if positive {
			e.Positive++
		} else {
			e.Negative++
		}
	}
	for _, r := range l.remarks {
		if !r.Used {
			e.Skipped++
		}
	}
	if min(e.Positive, e.Negative) < MinOfEach || e.Positive+e.Negative < MinPictures {
		return e
	}
	return nil
}

// embed runs the model on each picture and on changed copies of it.
func (l *learner) embed(ctx context.Context) error {
	for i, c := range l.candidates {
		if err := ctx.Err(); err != nil {
			return err
		}
		p, err := l.look(c)
		if errors.Is(err, errBase) {
			return err
		}
		if err != nil {
			l.skip(c.Path, err)
		} else {
			l.pictures = append(l.pictures, p)
		}
		if l.Progress != nil {
			l.Progress(i+1, len(l.candidates))
		}
	}
	// Sums of numbers depend on their order: files with other names are to give
	// the same model.
	slices.SortFunc(l.pictures, func(a, b *picture) int { return slices.Compare(a.sum[:], b.sum[:]) })
	return l.enough(func(yield func(bool) bool) {
		for _, p := range l.pictures {
			if !yield(p.positive) {
				return
			}
		}
	})
}

// errBase is that the base model is not one to teach on.
var errBase = errors.New("this model cannot be taught on")

func (l *learner) look(c candidate) (*picture, error) {
	data, err := c.Read(l.MaxPictureBytes)
	if err != nil {
		return nil, err
	}
	// The picture itself goes the way that it will go in use.
	result, err := l.base.Classify(data)
	if err != nil {
		return nil, err
	}
	if len(result.Embedding) == 0 {
		return nil, fmt.Errorf("%w: %s has no embedding (output.embedding in its %s); use the penguin model that came with tuxwatch",
			errBase, result.Model.Folder, vision.ManifestFile)
	}
	p := &picture{file: c.Path, positive: c.positive, sum: sha256.Sum256(data), embeddings: [][]float32{result.Embedding}}
	upright, err := l.base.Upright(data, workingSize)
	if err != nil {
		return nil, err
	}
	// The changes depend on the picture and the seed alone, not on the other
	// pictures or the order.
	random := rand.New(rand.NewPCG(l.Seed, binary.LittleEndian.Uint64(p.sum[:])))
	for range l.copies {
		result, err := l.base.ClassifyImage(augment(upright, random))
		if err != nil {
			return nil, err
		}
		p.embeddings = append(p.embeddings, result.Embedding)
	}
	if note := pictures.Note(data); note != "" {
		l.remark(c.Path, true, note)
	}
	return p, nil
}

// train chooses the settings, fits the head to all pictures and reports.
func (l *learner) train(ctx context.Context) (*Model, error) {
	choice, err := l.crossValidate(ctx)
	if err != nil {
		return nil, err
	}
	weights, bias := choice.space.outside(choice.final)
	head := vision.Head{
		Format: vision.HeadFormat, Normalize: true, Bias: bias,
		Temperature: choice.temperature, Threshold: choice.threshold,
	}
	for _, w := range weights {
		head.Weights = append(head.Weights, float32(w))
	}

	samples := make([]evaluate.Sample, len(l.pictures))
	for i, p := range l.pictures {
		samples[i] = evaluate.Sample{File: p.file, Positive: p.positive, Probability: choice.probabilities[i]}
	}
	measured, err := evaluate.Measure(samples, l.Labels, 0.5)
	if err != nil {
		return nil, err
	}
	m := &Model{Head: head, base: l.base.Info()}
	m.Report = Report{
		Labels:          l.Labels,
		Version:         l.version(head),
		Base:            BaseModel{m.base.Name, m.base.Version},
		Seed:            l.Seed,
		Copies:          l.copies,
		Folds:           choice.folds,
		Penalty:         choice.penalty,
		Temperature:     choice.temperature,
		Threshold:       choice.threshold,
		CrossValidation: measured,
		Remarks:         append([]Remark{}, l.remarks...), // [] in JSON, not null
		Similar:         append([]Similar{}, l.similar...),
	}
	m.Report.Pictures.Positive, m.Report.Pictures.Negative = measured.Positives, measured.Negatives
	m.Report.Advice = append([]Advice{}, l.advise(measured)...)
	m.check, m.says = nil, head.Probability(l.pictures[0].embeddings[0])
	for _, c := range l.candidates {
		if c.Path == l.pictures[0].file {
			if m.check, err = c.Read(l.MaxPictureBytes); err != nil {
				return nil, fmt.Errorf("reading %s again: %w", pictures.Name(c.Path), err)
			}
		}
	}
	return m, nil
}

// version names the model by its content, so that another one never has the
// same.
func (l *learner) version(head vision.Head) string {
	sum := sha256.New()
	for _, w := range head.Weights {
		binary.Write(sum, binary.LittleEndian, w) // a hash takes everything
	}
	binary.Write(sum, binary.LittleEndian, []float64{head.Bias, head.Temperature, head.Threshold})
	return "taught-" + hex.EncodeToString(sum.Sum(nil))[:12]
}

// CheckLabels tells whether two labels can stand in a model's list of labels.
func CheckLabels(labels [2]string) error {
	for i, label := range labels {
		switch {
		case strings.TrimSpace(label) == "":
			return errors.New("a label is empty")
		case strings.TrimSpace(label) != label || strings.ContainsFunc(label, unicode.IsControl) || !utf8.ValidString(label):
			return fmt.Errorf("the label %q has spaces around it or characters that do not print", label)
		case strings.HasPrefix(label, fmt.Sprint(i)+" "):
			return fmt.Errorf("the label %q begins with its number, which would be taken off", label)
		}
	}
	if strings.EqualFold(labels[0], labels[1]) {
		return fmt.Errorf("both labels are %q", labels[0])
	}
	return nil
}
