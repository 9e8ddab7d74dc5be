package vision

import (
	"errors"
	"fmt"
	"image/color"
	"math"
	"strings"
	"testing"
)

// headed is a model with an embedding of two numbers, 3 and 4, and no other output.
func headed() *fakeRuntime {
	return &fakeRuntime{
		inputs:  []Tensor{floatTensor(1, 1, 1, 3)},
		outputs: []Tensor{floatTensor(1, 2)},
		invoke:  func(_, outputs [][]byte) error { putFloats(outputs[0], 3, 4); return nil },
	}
}

const (
	headManifest = "output: {embedding: 0, head: head.json}"
	plainHead    = `{"format":1,"normalize":true,"weights":[1,2],"bias":-1,"temperature":0.5,"threshold":0.5}`
)

func TestHeadTakesThePlaceOfTheProbabilities(t *testing.T) {
	for name, c := range map[string]struct {
		head string
		want float64 // logit: the embedding has the length 5
	}{
		"normalised":     {plainHead, ((3.0+8)/5 - 1) / 0.5},
		"as it is":       {strings.Replace(plainHead, "true", "false", 1), (3 + 8 - 1) / 0.5},
		"other decision": {strings.Replace(plainHead, `"threshold":0.5`, `"threshold":0.8`, 1), ((3.0+8)/5-1)/0.5 - math.Log(0.8/0.2)},
	} {
		t.Run(name, func(t *testing.T) {
			dir := folder(t, map[string]string{"labels.txt": "mug\nnoMug", ManifestFile: headManifest, "head.json": c.head})
			classifier, err := OpenClassifier(headed(), dir, 1, Limits{})
			if err != nil {
				t.Fatal(err)
			}
			defer classifier.Close()
			result, err := classifier.ClassifyImage(onePixel(color.RGBA{}))
			if err != nil {
				t.Fatal(err)
			}
			want := 1 / (1 + math.Exp(-c.want))
			if got := result.Best(); got.Label != "mug" || math.Abs(got.Probability-want) > 1e-9 {
				t.Errorf("got %+v, want mug %v", got, want)
			}
			if sum := result.Predictions[0].Probability + result.Predictions[1].Probability; math.Abs(sum-1) > 1e-12 {
				t.Errorf("the probabilities sum to %v", sum)
			}
			if len(result.Embedding) != 2 || result.Embedding[1] != 4 {
				t.Errorf("embedding %v", result.Embedding)
			}
		})
	}
}

// The threshold is where a decision at one half changes.
func TestHeadDecidesAtItsThreshold(t *testing.T) {
	h := Head{Format: HeadFormat, Weights: []float32{1}, Temperature: 2, Threshold: 0.7}
	at := float32(2 * math.Log(0.7/0.3)) // the calibrated probability is 0.7
	for _, c := range []struct {
		value float32
		yes   bool
	}{{at - 0.01, false}, {at + 0.01, true}} {
		if p := h.Probability([]float32{c.value}); p > 0.5 != c.yes {
			t.Errorf("%v gives %v", c.value, p)
		}
	}
	if p := h.Probability([]float32{at}); math.Abs(p-0.5) > 1e-6 {
		t.Errorf("at the threshold: %v", p)
	}
	// Nothing overflows.
	if low, high := h.Probability([]float32{-1e30}), h.Probability([]float32{1e30}); low != 0 || high != 1 {
		t.Errorf("far off: %v, %v", low, high)
	}
}

func TestHeadsThatDoNotFit(t *testing.T) {
	for name, c := range map[string]struct {
		manifest, labels, head, says string
	}{
		"no file":          {headManifest, "a\nb", "", "head.json: no such file"},
		"not JSON":         {headManifest, "a\nb", "weights: 1", "head.json: invalid character"},
		"other format":     {headManifest, "a\nb", `{"format":2}`, "format is 2, this version of tuxwatch reads 1"},
		"no weights":       {headManifest, "a\nb", `{"format":1}`, "no weights"},
		"no temperature":   {headManifest, "a\nb", `{"format":1,"weights":[1,2],"threshold":0.5}`, "temperature 0"},
		"no threshold":     {headManifest, "a\nb", `{"format":1,"weights":[1,2],"temperature":1}`, "threshold 0"},
		"other embedding":  {headManifest, "a\nb", strings.Replace(plainHead, "[1,2]", "[1,2,3]", 1), "embedding of 3 numbers, the model's has 2"},
		"three labels":     {headManifest, "a\nb\nc", plainHead, "two labels apart, but labels.txt has 3"},
		"no embedding":     {"output: {head: head.json}", "a\nb", plainHead, "not the embedding"},
		"no such output":   {"output: {embedding: 4, head: head.json}", "a\nb", plainHead, "output 4"},
		"negative output":  {"output: {embedding: -1, head: head.json}", "a\nb", plainHead, "output -1"},
		"outside a folder": {"output: {embedding: 0, head: ../head.json}", "a\nb", plainHead, "../head.json is not in the folder"},
	} {
		t.Run(name, func(t *testing.T) {
			files := map[string]string{"labels.txt": c.labels, ManifestFile: c.manifest}
			if c.head != "" {
				files["head.json"] = c.head
			}
			runtime := headed()
			_, err := OpenClassifier(runtime, folder(t, files), 1, Limits{})
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want %q", err, c.says)
			}
			if runtime.opened != runtime.closed {
				t.Error("the model is left open")
			}
		})
	}
}

func TestUpright(t *testing.T) {
	// The same scene, stored in the eight ways that Exif knows.
	scene, err := Upright(readFile(t, "testdata/pictures/exif-1.jpg"), 4096, Limits{})
	if err != nil || scene.Rect.Dx() <= scene.Rect.Dy() {
		t.Fatal(scene.Rect, err)
	}
	for i := 2; i <= 8; i++ {
		file := readFile(t, fmt.Sprintf("testdata/pictures/exif-%d.jpg", i))
		img, err := Upright(file, 4096, Limits{})
		if err != nil {
			t.Fatal(err)
		}
		if img.Rect != scene.Rect {
			t.Fatalf("exif-%d: %v, want %v", i, img.Rect, scene.Rect)
		}
		if _, mean := difference(t, img.Pix, scene.Pix); mean > 4 { // a wrong turn gives far more
			t.Errorf("exif-%d: the mean difference is %v", i, mean)
		}
		small, err := Upright(file, 20, Limits{})
		if err != nil || small.Rect.Dx() != 20 || small.Rect.Dy() >= 20 {
			t.Errorf("exif-%d, small: %v, %v", i, small.Rect, err)
		}
	}
	if _, err := Upright([]byte("text"), 10, Limits{}); !errors.Is(err, ErrNotPicture) {
		t.Errorf("text: %v", err)
	}
	if _, err := Upright(readFile(t, "testdata/pictures/jpeg-420.jpg"), 10, Limits{Pixels: 10}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("limit: %v", err)
	}
}
