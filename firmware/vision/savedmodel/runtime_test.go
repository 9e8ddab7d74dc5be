//go:build tensorflow

package savedmodel

import (
	"bytes"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tuxwatch/firmware/vision"
	"tuxwatch/firmware/vision/litert"
)

const (
	root = "../../.."
	// exported is where "make model" and scripts/test-tensorflow put the
	// SavedModel.
	exported = root + "/build/model/saved_model"
)

func open(t *testing.T, runtime vision.Runtime, dir string) *vision.Classifier {
	t.Helper()
	c, err := vision.OpenClassifier(runtime, dir, 2, vision.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func tensorFlow(t *testing.T) vision.Runtime {
	t.Helper()
	r, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// pictures are the samples, and photographs of the workshop where they are.
func pictures(t *testing.T) []string {
	t.Helper()
	samples, err := filepath.Glob(root + "/models/samples/*.jpg")
	if err != nil || len(samples) < 6 {
		t.Fatalf("%d sample pictures (%v)", len(samples), err)
	}
	photographs, err := filepath.Glob(root + "/../shared/pictures/workshop/*/*")
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d samples and %d photographs of the workshop", len(samples), len(photographs))
	return append(samples, photographs...)
}

// What 8 bits may cost, picture by picture. Version 0.6.0 loses 0.043 of a
// probability at most and 0.005 on average; the cosine of its embeddings is
// 0.993 at least and 0.998 on average.
const (
	maxProbability  = 0.10 // difference of a probability
	meanProbability = 0.02 // on average
	minCosine       = 0.97 // of the angle between embeddings
	meanCosine      = 0.99
)

// TestTFLiteIsTheModelItWasMadeFrom compares the file that devices run with the
// floating-point model that TensorFlow runs.
func TestTFLiteIsTheModelItWasMadeFrom(t *testing.T) {
	if _, err := os.Stat(exported); err != nil {
		t.Fatalf("the SavedModel is missing (%v); run scripts/test-tensorflow, which makes it and runs these tests", err)
	}
	library, err := litert.Load("")
	if err != nil {
		t.Fatal(err)
	}
	float, quantized := open(t, tensorFlow(t), exported), open(t, library, root+"/models/penguin")
	if name := float.Info().Runtime; !strings.HasPrefix(name, "TensorFlow 2.") {
		t.Errorf("run by %s", name)
	}
	if a, b := float.Info(), quantized.Info(); a.Version != b.Version || a.Name != b.Name {
		t.Errorf("comparing %s %s with %s %s", a.Name, a.Version, b.Name, b.Version)
	}
	files := pictures(t)
	sumProbability, sumCosine := 0.0, 0.0
	for _, file := range files {
		picture, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		want, err := float.Classify(picture)
		if err != nil {
			t.Fatal(err)
		}
		got, err := quantized.Classify(picture)
		if err != nil {
			t.Fatal(err)
		}
		p, q := probability(want, "penguin"), probability(got, "penguin")
		if total := p + probability(want, "noPenguin"); math.Abs(total-1) > 1e-5 {
			t.Errorf("%s: TensorFlow's probabilities add up to %v", file, total)
		}
		if len(want.Embedding) != 1280 || len(got.Embedding) != 1280 {
			t.Fatalf("embeddings of %d and %d", len(want.Embedding), len(got.Embedding))
		}
		angle := cosine(want.Embedding, got.Embedding)
		t.Logf("%-40s TensorFlow %.3f, TensorFlow Lite %.3f, cosine of the embeddings %.4f", filepath.Base(file), p, q, angle)
		if math.Abs(p-q) > maxProbability {
			t.Errorf("%s: the probability is %.3f with TensorFlow and %.3f with TensorFlow Lite", file, p, q)
		}
		if (p > 0.5) != (q > 0.5) && math.Abs(p-0.5) > 0.05 {
			t.Errorf("%s: another decision, %.3f and %.3f", file, p, q)
		}
		if angle < minCosine {
			t.Errorf("%s: the cosine of the embeddings is %.4f", file, angle)
		}
		sumProbability += math.Abs(p - q)
		sumCosine += angle
	}
	n := float64(len(files))
	t.Logf("on average: difference of the probability %.4f, cosine of the embeddings %.4f", sumProbability/n, sumCosine/n)
	if sumProbability/n > meanProbability {
		t.Errorf("on average the probabilities differ by %.4f", sumProbability/n)
	}
	if sumCosine/n < meanCosine {
		t.Errorf("on average the cosine of the embeddings is %.4f", sumCosine/n)
	}
}

func probability(r vision.Result, label string) float64 {
	for _, p := range r.Predictions {
		if p.Label == label {
			return p.Probability
		}
	}
	return math.NaN()
}

func cosine(a, b []float32) float64 {
	var ab, aa, bb float64
	for i := range a {
		ab += float64(a[i]) * float64(b[i])
		aa += float64(a[i]) * float64(a[i])
		bb += float64(b[i]) * float64(b[i])
	}
	return ab / math.Sqrt(aa*bb)
}

// TestServes: the runtime does for the service what LiteRT does, one
// picture after another and with models that change.
func TestServes(t *testing.T) {
	service := vision.NewService(nil)
	defer service.Close()
	picture, err := os.ReadFile(pictures(t)[0])
	if err != nil {
		t.Fatal(err)
	}
	var first vision.Result
	for n := range 3 {
		if err := service.Load(t.Context(), exported, vision.LoadOptions{Runtime: tensorFlow(t), Threads: 1 + n%2}); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			result, err := service.Classify(t.Context(), picture)
			if err != nil {
				t.Fatal(err)
			}
			if first.Predictions == nil {
				first = result
			}
			if difference := math.Abs(result.Best().Probability - first.Best().Probability); difference > 1e-4 {
				t.Errorf("load %d: %v, at first %v", n, result.Predictions, first.Predictions)
			}
		}
	}
}

func TestWhatDoesNotOpen(t *testing.T) {
	graph, err := os.ReadFile(filepath.Join(exported, graphFile))
	if err != nil {
		t.Fatal(err)
	}
	with := func(content []byte) string {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, graphFile), content, 0o600); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	for name, c := range map[string]struct{ dir, says string }{
		"a TensorFlow Lite file": {root + "/models/penguin/model.tflite", "not a SavedModel"},
		"a folder of another":    {root + "/models/penguin", "not a SavedModel"},
		"half a graph":           {with(graph[:len(graph)/2]), "damaged"},
		"no weights":             {with(graph), "running"},
		"a wrong operation":      {with(bytes.ReplaceAll(graph, []byte("serving_default_image:0"), []byte("serving_default_imago:0"))), "serving_default_imago"},
	} {
		model, err := tensorFlow(t).Open(c.dir, 1)
		if err == nil {
			model.Close()
			t.Errorf("%s: opened", name)
		} else if !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
