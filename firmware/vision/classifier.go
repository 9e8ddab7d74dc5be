package vision

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

var pixel = image.Pt(1, 1)

// Prediction is how likely a picture shows what a label says.
type Prediction struct {
	Label       string
	Probability float64 // 0 … 1
}

// ModelInfo says which model made a prediction.
type ModelInfo struct {
	Name    string
	Version string // empty when the model has no manifest
	Licence string
	Folder  string
	Runtime string // "LiteRT 2.3.0"
	Threads int
	Input   Tensor
	Labels  []string // in the model's order
}

// Timing is where the time of one classification went.
type Timing struct {
	Decode  time.Duration // file to pixels; 0 for a picture that came as pixels
	Prepare time.Duration // pixels to tensor: resize, turn, quantise
	Invoke  time.Duration // tensor to predictions
}

// Result is what a model says of one picture.
type Result struct {
	// Predictions has one entry for each label, the best first.
	Predictions []Prediction
	// Embedding is the picture's features, from the output that the manifest
	// names; nil when it names none.
	Embedding []float32
	Model     ModelInfo
	Timing    Timing
}

// Best is the most likely prediction.
func (r Result) Best() Prediction { return r.Predictions[0] }

// A Classifier is one loaded model folder. It is not safe for concurrent use;
// Service is.
type Classifier struct {
	info          ModelInfo
	manifest      Manifest
	limits        Limits
	model         Model
	size          image.Point
	channels      int
	bytes         [3][256]byte    // sample to input element, by color (red, green, blue)
	floats        [3][256]float32 // the same for a float32 input
	input         []byte
	outputs       [][]byte
	probabilities int
	embedding     int // −1 when there is none
	activation    Activation
	head          *Head // nil when the model's own probabilities count
}

// OpenClassifier loads the model in a folder, to run on so many threads.
func OpenClassifier(runtime Runtime, dir string, threads int, limits Limits) (*Classifier, error) {
	manifest, labels, err := readManifest(dir)
	if err == nil {
		err = checkSums(dir)
	}
	if err != nil {
		return nil, fmt.Errorf("model folder %s: %w", dir, err)
	}
	file := filepath.Join(dir, manifest.Model)
	if _, err := os.Stat(file); err != nil {
		return nil, fmt.Errorf("model folder %s: %w", dir, err)
	}
	model, err := runtime.Open(file, threads)
	if err != nil {
		return nil, err
	}
	c := &Classifier{
		info: ModelInfo{
			Name: manifest.Name, Version: manifest.Version, Licence: manifest.Licence,
			Folder: dir, Runtime: runtime.Name(), Threads: threads, Labels: labels,
		},
		manifest: manifest, limits: limits, model: model,
	}
	if err := c.bind(); err != nil {
		model.Close()
		return nil, fmt.Errorf("model %s: %w", file, err)
	}
	return c, nil
}

// bind holds what the folder says of the model against the model.
func (c *Classifier) bind() error {
	if err := errors.Join(c.bindInput(), c.bindOutputs()); err != nil {
		return err
	}
	return c.bindHead()
}

// bindInput checks the model's input and works out what each sample of a
// picture becomes in it.
func (c *Classifier) bindInput() error {
	inputs := c.model.Inputs()
	if len(inputs) != 1 {
		return fmt.Errorf("it has %d inputs, a picture classifier has one", len(inputs))
	}
	in := inputs[0]
	if len(in.Shape) != 4 || in.Shape[0] != 1 || (in.Shape[3] != 3 && in.Shape[3] != 1) {
		return fmt.Errorf("its input %v is not one picture (batch 1, height, width, 3 or 1 channels)", in)
	}
	if in.Type == OtherType {
		return fmt.Errorf("its input %v has a type that is not supported (float32, uint8, int8)", in)
	}
	c.info.Input = in
	c.size = image.Pt(in.Shape[2], in.Shape[1])
	c.channels = in.Shape[3]
	c.input = make([]byte, in.Bytes())

	for color := range 3 {
		for sample := range 256 {
			value := c.normalized(color, sample, in)
			switch {
			case in.Type == Float32:
				c.floats[color][sample] = float32(value)
			case c.manifest.Input.Mean == nil && in.Type == Uint8:
				c.bytes[color][sample] = byte(sample)
			case c.manifest.Input.Mean == nil:
				c.bytes[color][sample] = byte(int8(sample - 128))
			case in.Scale == 0:
				return fmt.Errorf("its input %v has no quantisation, so mean and std cannot be applied; leave them out of %s", in, ManifestFile)
			case in.Type == Uint8:
				c.bytes[color][sample] = byte(quantize(value, in, 0, 255))
			default:
				c.bytes[color][sample] = byte(int8(quantize(value, in, -128, 127)))
			}
		}
	}
	return nil
}

// normalized is the number that stands for a sample in the model's own terms.
func (c *Classifier) normalized(color, sample int, in Tensor) float64 {
	if c.manifest.Input.Mean == nil {
		return float64(float32(sample)/127.5 - 1)
	}
	return (float64(sample) - c.manifest.Input.Mean[color]) / c.manifest.Input.Std[color]
}

func quantize(value float64, in Tensor, least, most float64) float64 {
	q := math.Round(value/float64(in.Scale)) + float64(in.ZeroPoint)
	return min(max(q, least), most)
}

// bindOutputs finds the output with the probabilities and holds its length
// against the number of labels.
func (c *Classifier) bindOutputs() error {
	outputs := c.model.Outputs()
	labels := len(c.info.Labels)
	if len(outputs) == 0 {
		return errors.New("it has no output")
	}
	headed := c.manifest.Output.Head != ""
	index := 0
	switch named := c.manifest.Output.Probabilities; {
	case headed: // its probabilities are not the model's
		index = -1
	case named != nil:
		index = *named
	case len(outputs) > 1:
		index = slices.IndexFunc(outputs, func(o Tensor) bool { return o.Elements() == labels })
		if index < 0 {
			var sizes []string
			for _, o := range outputs {
				sizes = append(sizes, strconv.Itoa(o.Elements()))
			}
			return fmt.Errorf("its outputs have %s classes, but %s has %d labels", strings.Join(sizes, " and "), c.manifest.Labels, labels)
		}
	}
	if !headed {
		if index < 0 || index >= len(outputs) {
			return fmt.Errorf("%s names output %d for the probabilities, but it has outputs 0 … %d", ManifestFile, index, len(outputs)-1)
		}
		out := outputs[index]
		if n := out.Elements(); n != labels {
			return fmt.Errorf("its output has %d classes, but %s has %d labels", n, c.manifest.Labels, labels)
		}
		c.activation = c.manifest.Output.Activation.resolve(out)
	}
	c.embedding = -1
	if named := c.manifest.Output.Embedding; named != nil {
		if *named < 0 || *named >= len(outputs) || *named == index {
			return fmt.Errorf("%s names output %d for the embedding, which is not one of its other outputs", ManifestFile, *named)
		}
		c.embedding = *named
	}
	for _, o := range outputs {
		if o.Type == OtherType {
			return fmt.Errorf("its output %v has a type that is not supported (float32, uint8, int8)", o)
		}
		c.outputs = append(c.outputs, make([]byte, o.Bytes()))
	}
	c.probabilities = index
	return nil
}

// Info describes the model.
func (c *Classifier) Info() ModelInfo { return c.info }

// Close frees the model.
func (c *Classifier) Close() error { return c.model.Close() }

// Classify decodes a JPEG or PNG file and classifies it. The error is
// ErrNotPicture or ErrTooLarge when it is the picture's fault.
func (c *Classifier) Classify(file []byte) (Result, error) {
	start := time.Now()
	p, err := decode(file, c.limits, aim{c.size, c.manifest.Input.Resize})
	if err != nil {
		return Result{}, err
	}
	return c.classify(p, time.Since(start))
}

// ClassifyImage classifies a picture that is decoded already and upright, such
// as a camera's frame. An image.YCbCr is read as it is; others cost a
// conversion.
func (c *Classifier) ClassifyImage(img image.Image) (Result, error) {
	p, err := fromImage(img)
	if err != nil {
		return Result{}, fmt.Errorf("%w: %w", ErrNotPicture, err)
	}
	return c.classify(p, 0)
}

func (c *Classifier) classify(p *picture, decoding time.Duration) (Result, error) {
	start := time.Now()
	samples, err := p.resizeTo(c.size, c.manifest.Input.Resize, c.manifest.Input.Filter)
	if err != nil {
		return Result{}, fmt.Errorf("resizing a picture of %v: %w", p.size, err)
	}
	c.fill(samples)
	prepared := time.Now()
	result, err := c.run()
	if err != nil {
		return Result{}, err
	}
	result.Timing = Timing{Decode: decoding, Prepare: prepared.Sub(start), Invoke: time.Since(prepared)}
	return result, nil
}

// run runs the model on what its input was filled with.
func (c *Classifier) run() (Result, error) {
	if err := c.model.Invoke([][]byte{c.input}, c.outputs); err != nil {
		return Result{}, err
	}
	result := Result{Model: c.info}
	if c.embedding >= 0 {
		for _, v := range dequantize(c.model.Outputs()[c.embedding], c.outputs[c.embedding]) {
			result.Embedding = append(result.Embedding, float32(v))
		}
	}
	for i, probability := range c.probabilitiesOf(result.Embedding) {
		if math.IsNaN(probability) {
			return Result{}, fmt.Errorf("model %s: the probability of %q is not a number", c.info.Folder, c.info.Labels[i])
		}
		result.Predictions = append(result.Predictions, Prediction{c.info.Labels[i], probability})
	}
	slices.SortStableFunc(result.Predictions, func(a, b Prediction) int { return cmp.Compare(b.Probability, a.Probability) })
	return result, nil
}

// probabilitiesOf gives those of the labels after the model ran.
func (c *Classifier) probabilitiesOf(embedding []float32) []float64 {
	if c.head != nil {
		first := c.head.Probability(embedding)
		return []float64{first, 1 - first}
	}
	return c.activation.apply(dequantize(c.model.Outputs()[c.probabilities], c.outputs[c.probabilities]))
}

// fill writes RGB samples into the input in the model's order, type and scale.
func (c *Classifier) fill(samples []byte) {
	order := [3]int{0, 1, 2}
	if c.manifest.Input.Channels == "bgr" {
		order = [3]int{2, 1, 0}
	}
	float := c.info.Input.Type == Float32
	to := 0
	put := func(color int, sample byte) {
		if float {
			binary.NativeEndian.PutUint32(c.input[to:], math.Float32bits(c.floats[color][sample]))
			to += 4
		} else {
			c.input[to] = c.bytes[color][sample]
			to++
		}
	}
	for i := 0; i+2 < len(samples); i += 3 {
		if c.channels == 1 {
			// ITU-R BT.601 luma, as Pillow's mode L.
			r, g, b := uint32(samples[i]), uint32(samples[i+1]), uint32(samples[i+2])
			put(0, byte((r*19595+g*38470+b*7471+1<<15)>>16))
			continue
		}
		for _, color := range order {
			put(color, samples[i+color])
		}
	}
}

func dequantize(t Tensor, data []byte) []float64 {
	scale, zero := float64(t.Scale), float64(t.ZeroPoint)
	if scale == 0 {
		scale, zero = 1, 0
	}
	values := make([]float64, t.Elements())
	for i := range values {
		switch t.Type {
		case Float32:
			values[i] = float64(math.Float32frombits(binary.NativeEndian.Uint32(data[4*i:])))
		case Int8:
			values[i] = scale * (float64(int8(data[i])) - zero)
		default:
			values[i] = scale * (float64(data[i]) - zero)
		}
	}
	return values
}
