package vision

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"image"
	"image/color"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// classOf opens a folder with the fake runtime.
func classOf(t *testing.T, runtime *fakeRuntime, files map[string]string) (*Classifier, error) {
	t.Helper()
	return OpenClassifier(runtime, folder(t, files), 1, Limits{})
}

// onePixel is a picture of one color.
func onePixel(c color.RGBA) image.Image {
	img := image.NewRGBA(image.Rect(0, 0, 1, 1))
	img.SetRGBA(0, 0, c)
	return img
}

// TestWhatTheModelIsGiven feeds one pixel, (10, 100, 250), and looks at the
// input that the model gets, for every way that models want theirs.
func TestWhatTheModelIsGiven(t *testing.T) {
	const export = `{"DomainType":"Classification","Flavor":"TensorFlowLite","ModelFileName":"model.tflite","LabelFileName":"labels.txt","MetadataPropsFileName":"metadata_properties.json"}`
	float := floatTensor(1, 1, 1, 3)
	quantized := func(kind DataType, scale float32, zero int) Tensor {
		return Tensor{Shape: []int{1, 1, 1, 3}, Type: kind, Scale: scale, ZeroPoint: zero}
	}
	for name, c := range map[string]struct {
		input Tensor
		files map[string]string
		want  []float64
	}{
		"float, no manifest":    {float, nil, []float64{10/127.5 - 1, 100/127.5 - 1, 250/127.5 - 1}},
		"float, mean and std":   {float, map[string]string{"model.yaml": "input: {mean: [10, 20, 30], std: [1, 2, 4]}"}, []float64{0, 40, 55}},
		"float, one for all":    {float, map[string]string{"model.yaml": "input: {mean: 0, std: 255}"}, []float64{10. / 255, 100. / 255, 250. / 255}},
		"float, BGR":            {float, map[string]string{"model.yaml": "input: {channels: bgr, mean: [10, 0, 0], std: 1}"}, []float64{250, 100, 0}},
		"gray float":            {floatTensor(1, 1, 1, 1), map[string]string{"model.yaml": "input: {mean: 0, std: 1}"}, []float64{90}},
		"uint8":                 {quantized(Uint8, 1./128, 127), nil, []float64{10, 100, 250}},
		"uint8, not quantised":  {quantized(Uint8, 0, 0), nil, []float64{10, 100, 250}},
		"uint8, mean and std":   {quantized(Uint8, 1./64, 127), map[string]string{"model.yaml": "input: {mean: 127, std: 128}"}, []float64{68, 113, 189}},
		"int8":                  {quantized(Int8, 1./128, -1), nil, []float64{-118, -28, 122}},
		"int8, mean and std":    {quantized(Int8, 1./255, -128), map[string]string{"model.yaml": "input: {mean: 0, std: 255}"}, []float64{-118, -28, 122}},
		"int8, out of range":    {quantized(Int8, 1./255, -128), map[string]string{"model.yaml": "input: {mean: 0, std: 25}"}, []float64{-26, 127, 127}},
		"Custom Vision":         {float, map[string]string{"cvexport.manifest": export}, []float64{250, 100, 10}},
		"Custom Vision S1":      {float, map[string]string{"cvexport.manifest": export, "model.yaml": "input: {channels: rgb}"}, []float64{10, 100, 250}},
		"Custom Vision, scaled": {float, map[string]string{"cvexport.manifest": "\xef\xbb\xbf" + export, "metadata_properties.json": `{"CustomVision.Preprocess.NormalizeMean":"[0.0, 0.0, 0.0]","CustomVision.Preprocess.NormalizeStd":"[10.0, 10.0, 10.0]"}`}, []float64{25, 10, 1}},
		"Teachable Machine":     {float, map[string]string{"labels.txt": "0 a\n1 b\n"}, []float64{10/127.5 - 1, 100/127.5 - 1, 250/127.5 - 1}},
	} {
		t.Run(name, func(t *testing.T) {
			var got []float64
			runtime := &fakeRuntime{inputs: []Tensor{c.input}, outputs: []Tensor{floatTensor(1, 2)}}
			runtime.invoke = func(inputs, outputs [][]byte) error {
				putFloats(outputs[0], 0.25, 0.75)
				switch c.input.Type {
				case Float32:
					for _, v := range getFloats(inputs[0]) {
						got = append(got, float64(v))
					}
				case Int8:
					for _, v := range inputs[0] {
						got = append(got, float64(int8(v)))
					}
				default:
					for _, v := range inputs[0] {
						got = append(got, float64(v))
					}
				}
				return nil
			}
			files := map[string]string{"labels.txt": "a\nb\n"}
			for name, content := range c.files {
				files[name] = content
			}
			classifier, err := classOf(t, runtime, files)
			if err != nil {
				t.Fatal(err)
			}
			result, err := classifier.ClassifyImage(onePixel(color.RGBA{10, 100, 250, 255}))
			if err != nil {
				t.Fatal(err)
			}
			if !slices.EqualFunc(got, c.want, func(a, b float64) bool { return math.Abs(a-b) < 1e-5 }) {
				t.Errorf("the model was given %v, want %v", got, c.want)
			}
			if result.Best() != (Prediction{"b", 0.75}) {
				t.Errorf("predictions %v", result.Predictions)
			}
		})
	}
}

func TestResizePolicyOfTheExporters(t *testing.T) {
	// A wide picture, white in the middle and black at the sides: only what
	// crops sees nothing but white.
	img := image.NewGray(image.Rect(0, 0, 30, 10))
	for y := range 10 {
		for x := 10; x < 20; x++ {
			img.SetGray(x, y, color.Gray{255})
		}
	}
	for name, c := range map[string]struct {
		files map[string]string
		crops bool
	}{
		"nothing known":     {map[string]string{"labels.txt": "a\nb"}, false},
		"manifest":          {map[string]string{"labels.txt": "a\nb", "model.yaml": "input: {resize: crop}"}, true},
		"letterbox":         {map[string]string{"labels.txt": "a\nb", "model.yaml": "input: {resize: letterbox}"}, false},
		"Teachable Machine": {map[string]string{"labels.txt": "0 a\n1 b"}, true},
		"Custom Vision":     {map[string]string{"labels.txt": "a\nb", "cvexport.manifest": "{}"}, true},
		"overruled":         {map[string]string{"labels.txt": "0 a\n1 b", "model.yaml": "input: {resize: stretch}"}, false},
	} {
		runtime := &fakeRuntime{
			inputs:  []Tensor{{Shape: []int{1, 10, 10, 3}, Type: Uint8}},
			outputs: []Tensor{floatTensor(1, 2)},
		}
		crops := false
		runtime.invoke = func(inputs, outputs [][]byte) error {
			crops = slices.Min(inputs[0]) == 255
			putFloats(outputs[0], 1, 0)
			return nil
		}
		if strings.HasPrefix(name, "Custom") {
			runtime.inputs[0] = floatTensor(1, 10, 10, 3)
			runtime.invoke = func(inputs, outputs [][]byte) error {
				crops = slices.Min(getFloats(inputs[0])) == 255
				putFloats(outputs[0], 1, 0)
				return nil
			}
		}
		classifier, err := classOf(t, runtime, c.files)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if _, err := classifier.ClassifyImage(img); err != nil || crops != c.crops {
			t.Errorf("%s: crops %v, want %v (%v)", name, crops, c.crops, err)
		}
	}
}

func TestWhatComesOut(t *testing.T) {
	uint8Out := Tensor{Shape: []int{1, 2}, Type: Uint8, Scale: 1. / 256}
	for name, c := range map[string]struct {
		output   Tensor
		manifest string
		raw      []byte
		want     []float64 // in the order of the labels
	}{
		"probabilities":        {floatTensor(1, 2), "", floats(0.2, 0.8), []float64{0.2, 0.8}},
		"logits":               {floatTensor(1, 2), "", floats(0, math.Log(3)), []float64{0.25, 0.75}},
		"large logits":         {floatTensor(1, 2), "", floats(5000, 4000), []float64{1, 0}},
		"none":                 {floatTensor(1, 2), "output: {activation: none}", floats(0.9, 0.8), []float64{0.9, 0.8}},
		"none, cut off":        {floatTensor(1, 2), "output: {activation: none}", floats(-0.1, 1.1), []float64{0, 1}},
		"softmax of fractions": {floatTensor(1, 2), "output: {activation: softmax}", floats(0.5, 0.5), []float64{0.5, 0.5}},
		"sigmoid":              {floatTensor(1, 2), "output: {activation: sigmoid}", floats(0, math.Log(3)), []float64{0.5, 0.75}},
		"uint8":                {uint8Out, "", []byte{64, 192}, []float64{0.25, 0.75}},
		"uint8, not full":      {uint8Out, "", []byte{64, 128}, []float64{0.25, 0.5}},
		"int8":                 {Tensor{Shape: []int{1, 2}, Type: Int8, Scale: 1. / 256, ZeroPoint: -128}, "", []byte{0xc0, 0x40}, []float64{0.25, 0.75}},
		"int8 logits":          {Tensor{Shape: []int{1, 2}, Type: Int8, Scale: float32(math.Log(3)), ZeroPoint: 1}, "", []byte{1, 2}, []float64{0.25, 0.75}},
	} {
		t.Run(name, func(t *testing.T) {
			runtime := &fakeRuntime{inputs: []Tensor{floatTensor(1, 1, 1, 3)}, outputs: []Tensor{c.output}}
			runtime.invoke = func(_, outputs [][]byte) error { copy(outputs[0], c.raw); return nil }
			classifier, err := classOf(t, runtime, map[string]string{"labels.txt": "a\nb", "model.yaml": c.manifest})
			if err != nil {
				t.Fatal(err)
			}
			result, err := classifier.ClassifyImage(onePixel(color.RGBA{}))
			if err != nil {
				t.Fatal(err)
			}
			for i, label := range []string{"a", "b"} {
				at := slices.IndexFunc(result.Predictions, func(p Prediction) bool { return p.Label == label })
				if math.Abs(result.Predictions[at].Probability-c.want[i]) > 1e-4 {
					t.Errorf("%v, want %v", result.Predictions, c.want)
				}
			}
		})
	}
}

func floats(values ...float64) []byte {
	data := make([]byte, 4*len(values))
	for i, v := range values {
		putFloats(data[4*i:], float32(v))
	}
	return data
}

func TestNotANumber(t *testing.T) {
	runtime := &fakeRuntime{inputs: []Tensor{floatTensor(1, 1, 1, 3)}, outputs: []Tensor{floatTensor(1, 2)}}
	runtime.invoke = func(_, outputs [][]byte) error { putFloats(outputs[0], float32(math.NaN()), 0); return nil }
	classifier, err := classOf(t, runtime, map[string]string{"labels.txt": "a\nb"})
	if err != nil {
		t.Fatal(err)
	}
	if result, err := classifier.ClassifyImage(onePixel(color.RGBA{})); err == nil {
		t.Errorf("predicted %v", result.Predictions)
	}
}

// TestFoldersThatDoNotLoad: each error names what is wrong and closes the model.
func TestFoldersThatDoNotLoad(t *testing.T) {
	good := floatTensor(1, 1, 1, 3)
	other := Tensor{Name: "t", Shape: []int{1, 1, 1, 3}, Type: OtherType}
	for name, c := range map[string]struct {
		inputs, outputs []Tensor
		files           map[string]string
		says            string
	}{
		"labels":             {[]Tensor{good}, []Tensor{floatTensor(1, 3)}, map[string]string{"labels.txt": "a\nb"}, "3 classes, but labels.txt has 2 labels"},
		"labels, outputs":    {[]Tensor{good}, []Tensor{floatTensor(1, 3), floatTensor(1, 9)}, map[string]string{"labels.txt": "a\nb"}, "3 and 9 classes, but labels.txt has 2 labels"},
		"no labels":          {[]Tensor{good}, []Tensor{floatTensor(1, 2)}, nil, "labels.txt"},
		"empty labels":       {[]Tensor{good}, []Tensor{floatTensor(1, 2)}, map[string]string{"labels.txt": "\n\n"}, "no labels"},
		"hole in labels":     {[]Tensor{good}, []Tensor{floatTensor(1, 2)}, map[string]string{"labels.txt": "a\n\nb"}, "line 2 is empty"},
		"two inputs":         {[]Tensor{good, good}, []Tensor{floatTensor(1, 2)}, map[string]string{"labels.txt": "a\nb"}, "2 inputs"},
		"not a picture":      {[]Tensor{floatTensor(1, 40)}, []Tensor{floatTensor(1, 2)}, map[string]string{"labels.txt": "a\nb"}, "not one picture"},
		"channels":           {[]Tensor{floatTensor(1, 8, 8, 4)}, []Tensor{floatTensor(1, 2)}, map[string]string{"labels.txt": "a\nb"}, "not one picture"},
		"batch":              {[]Tensor{floatTensor(2, 8, 8, 3)}, []Tensor{floatTensor(1, 2)}, map[string]string{"labels.txt": "a\nb"}, "not one picture"},
		"input type":         {[]Tensor{other}, []Tensor{floatTensor(1, 2)}, map[string]string{"labels.txt": "a\nb"}, "not supported"},
		"output type":        {[]Tensor{good}, []Tensor{{Shape: []int{1, 2}, Type: OtherType}}, map[string]string{"labels.txt": "a\nb"}, "not supported"},
		"no output":          {[]Tensor{good}, nil, map[string]string{"labels.txt": "a\nb"}, "no output"},
		"unknown key":        {[]Tensor{good}, []Tensor{floatTensor(1, 2)}, map[string]string{"labels.txt": "a\nb", "model.yaml": "resise: crop"}, "resise"},
		"policy":             {[]Tensor{good}, []Tensor{floatTensor(1, 2)}, map[string]string{"labels.txt": "a\nb", "model.yaml": "input: {resize: squeeze}"}, `"squeeze"`},
		"filter":             {[]Tensor{good}, []Tensor{floatTensor(1, 2)}, map[string]string{"labels.txt": "a\nb", "model.yaml": "input: {filter: cubic}"}, `"cubic"`},
		"order":              {[]Tensor{good}, []Tensor{floatTensor(1, 2)}, map[string]string{"labels.txt": "a\nb", "model.yaml": "input: {channels: rbg}"}, `"rbg"`},
		"activation":         {[]Tensor{good}, []Tensor{floatTensor(1, 2)}, map[string]string{"labels.txt": "a\nb", "model.yaml": "output: {activation: relu}"}, `"relu"`},
		"mean alone":         {[]Tensor{good}, []Tensor{floatTensor(1, 2)}, map[string]string{"labels.txt": "a\nb", "model.yaml": "input: {mean: 3}"}, "mean and std"},
		"std 0":              {[]Tensor{good}, []Tensor{floatTensor(1, 2)}, map[string]string{"labels.txt": "a\nb", "model.yaml": "input: {mean: 3, std: [1, 0, 1]}"}, "must not be 0"},
		"mean of two":        {[]Tensor{good}, []Tensor{floatTensor(1, 2)}, map[string]string{"labels.txt": "a\nb", "model.yaml": "input: {mean: [1, 2], std: 1}"}, "list of three"},
		"no such output":     {[]Tensor{good}, []Tensor{floatTensor(1, 2)}, map[string]string{"labels.txt": "a\nb", "model.yaml": "output: {probabilities: 1}"}, "output 1"},
		"embedding":          {[]Tensor{good}, []Tensor{floatTensor(1, 2)}, map[string]string{"labels.txt": "a\nb", "model.yaml": "output: {embedding: 0}"}, "output 0"},
		"mean, unquantised":  {[]Tensor{{Shape: []int{1, 1, 1, 3}, Type: Uint8}}, []Tensor{floatTensor(1, 2)}, map[string]string{"labels.txt": "a\nb", "model.yaml": "input: {mean: 1, std: 1}"}, "no quantisation"},
		"detector":           {[]Tensor{good}, []Tensor{floatTensor(1, 2)}, map[string]string{"labels.txt": "a\nb", "cvexport.manifest": `{"DomainType":"ObjectDetection"}`}, "ObjectDetection"},
		"broken export":      {[]Tensor{good}, []Tensor{floatTensor(1, 2)}, map[string]string{"labels.txt": "a\nb", "cvexport.manifest": `{`}, "cvexport.manifest"},
		"named model absent": {[]Tensor{good}, []Tensor{floatTensor(1, 2)}, map[string]string{"labels.txt": "a\nb", "model.yaml": "model: other.tflite"}, "other.tflite"},
	} {
		t.Run(name, func(t *testing.T) {
			files := c.files
			if files == nil {
				files = map[string]string{}
			}
			runtime := &fakeRuntime{inputs: c.inputs, outputs: c.outputs}
			classifier, err := classOf(t, runtime, files)
			if err == nil {
				classifier.Close()
				t.Fatal("loaded")
			}
			if !strings.Contains(err.Error(), c.says) {
				t.Errorf("the error does not say %q: %v", c.says, err)
			}
			if runtime.opened != runtime.closed {
				t.Errorf("%d models opened, %d closed", runtime.opened, runtime.closed)
			}
		})
	}
	runtime := &fakeRuntime{}
	if _, err := OpenClassifier(runtime, filepath.Join(t.TempDir(), "none"), 1, Limits{}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no folder: %v", err)
	}
	file := filepath.Join(t.TempDir(), "model.tflite")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenClassifier(runtime, file, 1, Limits{}); err == nil || !strings.Contains(err.Error(), "not a folder") {
		t.Errorf("a file: %v", err)
	}
}

func TestSums(t *testing.T) {
	sum := func(content string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(content))) }
	labels := "a\nb\n"
	for name, c := range map[string]struct {
		sums string
		says string // "": it loads
	}{
		"right":       {sum("fake") + "  model.tflite\n" + sum(labels) + " *labels.txt\n", ""},
		"changed":     {sum("fake") + "  model.tflite\n" + sum("a\nc\n") + "  labels.txt\n", "labels.txt is damaged or was changed"},
		"missing":     {sum("fake") + "  other.tflite\n", "other.tflite"},
		"outside":     {sum("fake") + "  ../model.tflite\n", "not a line"},
		"not a sum":   {"hello  model.tflite\n", "not a line"},
		"half a sum":  {sum("fake")[:10] + "  model.tflite\n", "not a line"},
		"only a name": {"model.tflite\n", "not a line"},
	} {
		runtime := &fakeRuntime{inputs: []Tensor{floatTensor(1, 1, 1, 3)}, outputs: []Tensor{floatTensor(1, 2)}}
		_, err := classOf(t, runtime, map[string]string{"labels.txt": labels, "SHA256SUMS": c.sums})
		if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestModelFileNames(t *testing.T) {
	for name, c := range map[string]struct {
		files []string
		want  string // "": an error
	}{
		"usual":             {[]string{"model.tflite", "other.tflite"}, "model.tflite"},
		"Teachable Machine": {[]string{"model_unquant.tflite"}, "model_unquant.tflite"},
		"the only one":      {[]string{"birds.tflite"}, "birds.tflite"},
		"two":               {[]string{"a.tflite", "b.tflite"}, ""},
		"none":              {nil, ""},
	} {
		dir := t.TempDir()
		for _, file := range append(c.files, "labels.txt") {
			if err := os.WriteFile(filepath.Join(dir, file), []byte("a\nb"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		m, _, err := readManifest(dir)
		if (err == nil) != (c.want != "") || err == nil && m.Model != c.want {
			t.Errorf("%s: %q, %v", name, m.Model, err)
		}
		if err == nil && m.Name != filepath.Base(dir) {
			t.Errorf("%s: named %q", name, m.Name)
		}
	}
}

func TestLabels(t *testing.T) {
	for name, c := range map[string]struct {
		text     string
		want     []string
		numbered bool
	}{
		"plain":           {"a\nb\n", []string{"a", "b"}, false},
		"Windows":         {"\xef\xbb\xbfa\r\nb b\r\n\r\n", []string{"a", "b b"}, false},
		"numbered":        {"0 Penguin\n1 No penguin\n", []string{"Penguin", "No penguin"}, true},
		"one not":         {"0 Penguin\nNo penguin\n", []string{"0 Penguin", "No penguin"}, false},
		"other numbers":   {"1 a\n2 b\n", []string{"1 a", "2 b"}, false},
		"numbers as such": {"0\n1\n", []string{"0", "1"}, false},
	} {
		file := filepath.Join(t.TempDir(), "labels.txt")
		if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		got, numbered, err := readLabels(file)
		if err != nil || !slices.Equal(got, c.want) || numbered != c.numbered {
			t.Errorf("%s: %q, %v, %v", name, got, numbered, err)
		}
	}
}

func TestFindModel(t *testing.T) {
	if dir, err := FindModel("somewhere"); dir != "somewhere" || err != nil {
		t.Errorf("%q, %v", dir, err)
	}
	path := ModelSearchPath()
	if len(path) != 2 || !filepath.IsAbs(path[0]) || path[1] != "/usr/share/tuxwatch/models/penguin" {
		t.Errorf("search path %q", path)
	}
}

func TestAnswer(t *testing.T) {
	result := Result{Model: ModelInfo{Name: "penguin", Version: "1"}, Predictions: []Prediction{{"penguin", 0.123456789}}}
	first := result.Answer([16]byte{1}, testTime)
	if first.Created != "2026-11-22T10:02:03.5Z" || first.Predictions[0].Probability != 0.12345679 {
		t.Errorf("%+v", first)
	}
	result.Model.Version = "2"
	second := result.Answer([16]byte{2}, testTime)
	if second.Project != first.Project || second.Predictions[0].TagID != first.Predictions[0].TagID {
		t.Error("another version of the model is another project or has other tags")
	}
	if second.Iteration == first.Iteration || second.ID == first.ID {
		t.Error("iterations or answers cannot be told apart")
	}
}
