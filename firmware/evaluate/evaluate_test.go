package evaluate

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

var labels = [2]string{"mug", "noMug"}

func measure(t testing.TB, samples []Sample, threshold float64) *Report {
	t.Helper()
	r, err := Measure(samples, labels, threshold)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// few is six pictures, worked out by hand: at 0.5 two mugs are found (.9, .6), one
// is missed (.4); one of the others (.7) is taken for one, two are left alone.
var few = []Sample{
	{"a", true, 0.9}, {"b", true, 0.6}, {"c", true, 0.4},
	{"d", false, 0.7}, {"e", false, 0.2}, {"f", false, 0.1},
}

func near(t *testing.T, what string, got *float64, want float64) {
	t.Helper()
	if got == nil || math.Abs(*got-want) > 1e-9 {
		t.Errorf("%s is %v, want %v", what, share(got), want)
	}
}

func TestMeasures(t *testing.T) {
	r := measure(t, few, 0.5)
	if r.Confusion != (Confusion{TruePositives: 2, FalseNegatives: 1, FalsePositives: 1, TrueNegatives: 2}) {
		t.Errorf("%+v", r.Confusion)
	}
	near(t, "accuracy", &r.Accuracy.Share, 4.0/6)
	near(t, "precision", r.Precision, 2.0/3)
	near(t, "recall", r.Recall, 2.0/3)
	near(t, "specificity", r.Specificity, 2.0/3)
	near(t, "balanced accuracy", r.BalancedAccuracy, 2.0/3)
	near(t, "F1", r.F1, 2.0/3)
	// Of the nine pairs, the mug is above in all but (.6, .7) and (.4, .7).
	near(t, "AUC", r.AUC, 7.0/9)
	// Precision where a mug comes: 1, 2/3, 3/4; each a third of the recall.
	near(t, "average precision", r.AveragePrecision, (1+2.0/3+3.0/4)/3)
	near(t, "Brier", &r.Brier, (0.01+0.16+0.36+0.49+0.04+0.01)/6)
	near(t, "log loss", &r.LogLoss, -(math.Log(.9)+math.Log(.6)+math.Log(.4)+math.Log(.3)+math.Log(.8)+math.Log(.9))/6)
	// Each is alone in its bin: |.9-1| + |.6-1| + |.4-1| + .7 + .2 + .1.
	near(t, "calibration error", &r.CalibrationError, (.1+.4+.6+.7+.2+.1)/6)
	if got := r.Worst[0].File + r.Worst[1].File + r.Worst[2].File; got != "dcb" {
		t.Errorf("worst first: %s", got)
	}
	// Another threshold.
	p := r.At(0.65)
	near(t, "precision at .65", p.Precision, 1.0/2)
	near(t, "recall at .65", p.Recall, 1.0/3)
	// The Wilson interval of 4 of 6, from the formula's definition: its ends are
	// the shares whose own deviation reaches the observed one.
	for _, end := range []float64{r.Accuracy.Low, r.Accuracy.High} {
		if z := math.Abs(4.0/6-end) / math.Sqrt(end*(1-end)/6); math.Abs(z-1.959964) > 1e-6 {
			t.Errorf("interval %+v: z %v", r.Accuracy, z)
		}
	}
}

// What cannot be measured is nil, not 0 and not NaN, which JSON does not have.
func TestOneKindOnly(t *testing.T) {
	for _, positive := range []bool{true, false} {
		r := measure(t, []Sample{{"a", positive, 0.2}, {"b", positive, 0.3}}, 0.5)
		if r.Precision != nil || r.AUC != nil || r.BalancedAccuracy != nil {
			t.Errorf("%v: %+v", positive, r)
		}
		if _, err := json.Marshal(r); err != nil {
			t.Error(err)
		}
		if err := r.Text(new(bytes.Buffer)); err != nil {
			t.Error(err)
		}
		if _, err := (Page{Report: r}).HTML(); err != nil {
			t.Error(err)
		}
	}
}

func TestRefuses(t *testing.T) {
	if _, err := Measure(nil, labels, 0.5); !errors.Is(err, ErrNoSamples) {
		t.Error(err)
	}
	for _, p := range []float64{-0.1, 1.1, math.NaN()} {
		if _, err := Measure([]Sample{{"a", true, p}}, labels, 0.5); err == nil {
			t.Errorf("probability %v", p)
		}
		if _, err := Measure([]Sample{{"a", true, 0.5}}, labels, p); err == nil {
			t.Errorf("threshold %v", p)
		}
	}
}

// Whatever the samples: the areas are what counting all pairs gives, the points
// of the threshold curve are what At says, and everything goes into JSON.
func TestProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 40).Draw(t, "n")
		var samples []Sample
		for i := range n {
			samples = append(samples, Sample{fmt.Sprint(i), rapid.Bool().Draw(t, "positive"),
				float64(rapid.IntRange(0, 20).Draw(t, "twentieths")) / 20})
		}
		threshold := float64(rapid.IntRange(0, 20).Draw(t, "threshold")) / 20
		r, err := Measure(samples, labels, threshold)
		if err != nil {
			t.Fatal(err)
		}
		pairs, above := 0.0, 0.0
		for _, p := range samples {
			for _, q := range samples {
				if p.Positive && !q.Positive {
					pairs++
					switch {
					case p.Probability > q.Probability:
						above++
					case p.Probability == q.Probability:
						above += 0.5
					}
				}
			}
		}
		if (pairs == 0) != (r.AUC == nil) || r.AUC != nil && math.Abs(*r.AUC-above/pairs) > 1e-9 {
			t.Fatalf("AUC %v, want %v", share(r.AUC), above/pairs)
		}
		for _, p := range r.Thresholds {
			at := r.At(p.Threshold)
			for i, got := range []*float64{p.Precision, p.Recall, p.Specificity, p.F1} {
				want := []*float64{at.Precision, at.Recall, at.Specificity, at.F1}[i]
				if (got == nil) != (want == nil) || got != nil && *got != *want {
					t.Fatalf("threshold %v, measure %d: %v, want %v", p.Threshold, i, share(got), share(want))
				}
			}
		}
		counted := 0
		for _, b := range r.Calibration {
			counted += b.Pictures
		}
		if c := r.Confusion; counted != n || c.TruePositives+c.FalseNegatives+c.FalsePositives+c.TrueNegatives != n {
			t.Fatalf("%d pictures, in bins %d, %+v", n, counted, c)
		}
		if _, err := json.Marshal(r); err != nil {
			t.Fatal(err)
		}
	})
}

func TestText(t *testing.T) {
	var out bytes.Buffer
	samples := append([]Sample{{"line\nbreak.jpg", true, 0.01}}, few...)
	if err := measure(t, samples, 0.5).Text(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"is mug    2              2", "is noMug  1              2", "4 of 7: 57.1 %", "\"line\\nbreak.jpg\"", "is mug, mug says 1.0 %", "Wrong, the worst first (3 in all)",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing in:\n%s", want, out.String())
		}
	}
}

// The page shows what it is given, loads nothing from elsewhere, and stays small
// however many and large the pictures are.
func TestPage(t *testing.T) {
	photograph, err := os.ReadFile("../../models/samples/living-room.jpg")
	if err != nil {
		t.Fatal(err)
	}
	var samples []Sample
	r := rand.New(rand.NewPCG(1, 2))
	for i := range 300 {
		samples = append(samples, Sample{fmt.Sprintf("<b>folder</b>/%03d.jpg", i), i%2 == 0, r.Float64()})
	}
	asked := 0
	page, err := Page{
		Title: "<script>alert(1)</script>", Summary: "a & b", Facts: []Fact{{"Model", "mug 1"}},
		Sections: []Section{{"Next", []Item{{"more of these", []string{"<b>folder</b>/001.jpg", "gone.jpg"}}}}},
		Report:   measure(t, samples, 0.5),
		Picture: func(file string) ([]byte, error) {
			asked++
			if file == "gone.jpg" {
				return nil, os.ErrNotExist
			}
			return photograph, nil
		},
	}.HTML()
	if err != nil {
		t.Fatal(err)
	}
	html := string(page)
	for _, want := range []string{
		"&lt;script&gt;", "a &amp; b", "Confusion matrix", "Precision and recall", "What another threshold would change",
		"Do the probabilities mean what they say?", "The 10 pictures that it is farthest off on", "no preview", "folder/001.jpg",
	} {
		if want == "folder/001.jpg" {
			want = "&lt;b&gt;folder&lt;/b&gt;/001.jpg"
		}
		if !strings.Contains(html, want) {
			t.Errorf("%q is missing", want)
		}
	}
	if strings.Contains(html, "<script") || strings.Contains(html, "<b>folder") {
		t.Error("what was given is not escaped")
	}
	if outside := regexp.MustCompile(`(?i)(src|href)="[^"d]|url\(|@import|https?:`).FindString(html); outside != "" {
		t.Errorf("it loads something: %q", outside)
	}
	if n := strings.Count(html, `src="data:image/jpeg;base64,`); n != 11 || asked > 12 {
		t.Errorf("%d small pictures, %d asked for", n, asked)
	}
	if strings.Contains(html, "NaN") || strings.Contains(html, "ZgotmplZ") {
		t.Error("a number or a style is broken")
	}
	if len(page) > 500_000 {
		t.Errorf("the page has %d bytes", len(page))
	}
	if n := strings.Count(html, "<circle"); n < 300 {
		t.Errorf("%d dots for 300 pictures", n)
	}
}

// A page about very many pictures stays a page.
func TestPageOfManyPictures(t *testing.T) {
	var samples []Sample
	r := rand.New(rand.NewPCG(1, 3))
	for i := range 20_000 {
		samples = append(samples, Sample{fmt.Sprint(i), i%2 == 0, r.Float64()})
	}
	page, err := Page{Report: measure(t, samples, 0.5)}.HTML()
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(page, []byte("One picture in 34 is shown.")) || len(page) > 1_000_000 {
		t.Errorf("%d bytes", len(page))
	}
}
