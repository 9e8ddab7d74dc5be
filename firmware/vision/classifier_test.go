package vision_test

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"tuxwatch/firmware/vision"
	"tuxwatch/firmware/vision/litert"
)

func runtime(t testing.TB) vision.Runtime {
	t.Helper()
	r, err := litert.Load("")
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func read(t testing.TB, elements ...string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(elements...))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestPictureToPredictions goes the whole way with real models of three shapes
// and types and compares with Pillow and Python's LiteRT on the same bytes.
func TestPictureToPredictions(t *testing.T) {
	var golden struct {
		Classify []struct {
			Model, File string
			Outputs     []struct {
				Shape     []int
				Type      string
				Scale     float64
				ZeroPoint float64 `json:"zero_point"`
				Data      []float64
			}
		}
	}
	if err := json.Unmarshal(read(t, "testdata/golden.json"), &golden); err != nil {
		t.Fatal(err)
	}
	if len(golden.Classify) < 3 {
		t.Fatal("too few golden answers")
	}
	for _, c := range golden.Classify {
		t.Run(c.Model, func(t *testing.T) {
			dir := filepath.Join("testdata/models", c.Model)
			classifier, err := vision.OpenClassifier(runtime(t), dir, 1, vision.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			defer classifier.Close()
			result, err := classifier.Classify(read(t, "testdata/pictures", c.File))
			if err != nil {
				t.Fatal(err)
			}
			labels := strings.Fields(string(read(t, dir, "labels.txt")))
			if len(result.Predictions) != len(labels) {
				t.Fatalf("%d predictions for %d labels", len(result.Predictions), len(labels))
			}

			var want []float64
			for _, out := range c.Outputs {
				if out.Shape[1] != len(labels) {
					continue
				}
				for _, v := range out.Data {
					if out.Scale != 0 {
						v = out.Scale * (v - out.ZeroPoint)
					}
					want = append(want, v)
				}
			}
			if c.Model == "int8" { // it ends in logits
				sum := 0.0
				for i := range want {
					want[i] = math.Exp(want[i])
					sum += want[i]
				}
				for i := range want {
					want[i] /= sum
				}
			}
			for i, label := range labels {
				at := slices.IndexFunc(result.Predictions, func(p vision.Prediction) bool { return p.Label == label })
				if at < 0 || math.Abs(result.Predictions[at].Probability-want[i]) > 1e-5 {
					t.Errorf("%s: %+v, want %v", label, result.Predictions, want)
				}
			}
			if !slices.IsSortedFunc(result.Predictions, func(a, b vision.Prediction) int {
				return int(math.Copysign(1, b.Probability-a.Probability))
			}) || result.Best() != result.Predictions[0] {
				t.Errorf("not best first: %+v", result.Predictions)
			}
			if info := result.Model; info.Name != c.Model || info.Runtime != "LiteRT 2.3.0" || info.Threads != 1 {
				t.Errorf("model %+v", info)
			}
			if result.Timing.Decode <= 0 || result.Timing.Prepare <= 0 || result.Timing.Invoke <= 0 {
				t.Errorf("timing %+v", result.Timing)
			}
		})
	}
}

func TestEmbedding(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"model.tflite", "labels.txt"} {
		if err := os.WriteFile(filepath.Join(dir, name), read(t, "testdata/models/uint8", name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// Which of the two outputs comes first is the converter's choice.
	var embedding []float32
	for _, manifest := range []string{"output: {embedding: 0}", "output: {embedding: 1}"} {
		if err := os.WriteFile(filepath.Join(dir, vision.ManifestFile), []byte(manifest), 0o600); err != nil {
			t.Fatal(err)
		}
		classifier, err := vision.OpenClassifier(runtime(t), dir, 1, vision.Limits{})
		if err != nil {
			continue
		}
		result, err := classifier.Classify(read(t, "testdata/pictures/png-rgb.png"))
		if err != nil {
			t.Fatal(err)
		}
		embedding = result.Embedding
		classifier.Close()
	}
	if len(embedding) != 96 || slices.Max(embedding) <= 0 {
		t.Errorf("embedding of %d: %v", len(embedding), embedding)
	}
}

// TestReleasedModel: the model that is shipped tells its sample pictures apart,
// whose names say what they show.
func TestReleasedModel(t *testing.T) {
	const models = "../../models"
	classifier, err := vision.OpenClassifier(runtime(t), filepath.Join(models, "penguin"), 2, vision.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	defer classifier.Close()
	files, err := filepath.Glob(filepath.Join(models, "samples", "*.jpg"))
	if err != nil || len(files) < 6 {
		t.Fatalf("%d sample pictures (%v)", len(files), err)
	}
	penguins := 0
	for _, file := range files {
		result, err := classifier.Classify(read(t, file))
		if err != nil {
			t.Error(file, err)
			continue
		}
		want := "noPenguin"
		if strings.HasPrefix(filepath.Base(file), "penguin") {
			want = "penguin"
			penguins++
		}
		if result.Best().Label != want || result.Best().Probability <= 0.5 {
			t.Errorf("%s: %+v", file, result.Predictions)
		}
	}
	if penguins < 3 || len(files)-penguins < 3 {
		t.Errorf("%d of %d sample pictures show a penguin", penguins, len(files))
	}
}

func BenchmarkClassify(b *testing.B) {
	classifier, err := vision.OpenClassifier(runtime(b), "testdata/models/uint8", 1, vision.Limits{})
	if err != nil {
		b.Fatal(err)
	}
	defer classifier.Close()
	data := read(b, "testdata/pictures/jpeg-420.jpg")
	for b.Loop() {
		if _, err := classifier.Classify(data); err != nil {
			b.Fatal(err)
		}
	}
}
