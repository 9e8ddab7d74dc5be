// Package evaluate measures how well a model tells two kinds of pictures apart:
// how many it gets right, what it mistakes, what another threshold would change
// and whether its probabilities mean what they say. The result prints as text,
// marshals to JSON and draws itself as an HTML page that needs nothing else
// ([Page]).
//
// It does not run models and reads no files: it is given probabilities. Start
// with [Measure].
package evaluate

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
)

// A Sample is one picture and what the model said of it.
type Sample struct {
	File        string  `json:"file"`
	Positive    bool    `json:"positive"`    // what it shows: the first label
	Probability float64 `json:"probability"` // of the first label
}

// mistake is how far the model is from the truth, 0 … 1.
func (s Sample) mistake() float64 {
	if s.Positive {
		return 1 - s.Probability
	}
	return s.Probability
}

// Right tells whether the decision at a threshold is right.
func (s Sample) Right(threshold float64) bool { return (s.Probability > threshold) == s.Positive }

// Report is the outcome. What cannot be measured (precision, where nothing was
// taken for positive) is nil.
type Report struct {
	// Labels are the positive and the negative one.
	Labels    [2]string `json:"labels"`
	Threshold float64   `json:"threshold"`
	Positives int       `json:"positives"`
	Negatives int       `json:"negatives"`
	Confusion Confusion `json:"confusion"`

	Accuracy Interval `json:"accuracy"`
	// BalancedAccuracy is the mean of recall and specificity.
	BalancedAccuracy *float64 `json:"balancedAccuracy"`
	Precision        *float64 `json:"precision"`
	Recall           *float64 `json:"recall"`
	Specificity      *float64 `json:"specificity"`
	F1               *float64 `json:"f1"`
	// AUC is the area under the ROC curve: how likely a positive picture gets
	// a higher probability than a negative one.
	AUC *float64 `json:"auc"`
	// AveragePrecision is the area under the precision-recall curve.
	AveragePrecision *float64 `json:"averagePrecision"`
	// LogLoss (natural logarithm), Brier and CalibrationError are about the
	// probabilities rather than the decisions; lower is better.
	LogLoss          float64 `json:"logLoss"`
	Brier            float64 `json:"brier"`
	CalibrationError float64 `json:"calibrationError"`

	// PrecisionRecall and Thresholds have a point for each probability that
	// occurs, from high to low; the Calibration has ten bins.
	PrecisionRecall []PrecisionRecall `json:"precisionRecall"`
	Thresholds      []Point           `json:"thresholds"`
	Calibration     []Bin             `json:"calibration"`
	// Worst are the pictures that the model is farthest off on, worst first.
	Worst []Sample `json:"worst"`
	// Samples are all, sorted by file.
	Samples []Sample `json:"samples"`
}

// Confusion counts decisions by what is true.
type Confusion struct {
	TruePositives  int `json:"truePositives"`
	FalseNegatives int `json:"falseNegatives"`
	FalsePositives int `json:"falsePositives"`
	TrueNegatives  int `json:"trueNegatives"`
}

func (c *Confusion) count(s Sample, threshold float64) {
	switch yes := s.Probability > threshold; {
	case yes && s.Positive:
		c.TruePositives++
	case yes:
		c.FalsePositives++
	case s.Positive:
		c.FalseNegatives++
	default:
		c.TrueNegatives++
	}
}

// ratio is nil when there is nothing to divide by.
func ratio(a, b int) *float64 {
	if b == 0 {
		return nil
	}
	r := float64(a) / float64(b)
	return &r
}

func (c Confusion) precision() *float64 {
	return ratio(c.TruePositives, c.TruePositives+c.FalsePositives)
}
func (c Confusion) recall() *float64 { return ratio(c.TruePositives, c.TruePositives+c.FalseNegatives) }
func (c Confusion) specificity() *float64 {
	return ratio(c.TrueNegatives, c.TrueNegatives+c.FalsePositives)
}
func (c Confusion) right() int { return c.TruePositives + c.TrueNegatives }

func (c Confusion) f1() *float64 {
	return ratio(2*c.TruePositives, 2*c.TruePositives+c.FalsePositives+c.FalseNegatives)
}

func (c Confusion) balancedAccuracy() *float64 {
	recall, specificity := c.recall(), c.specificity()
	if recall == nil || specificity == nil {
		return nil
	}
	b := (*recall + *specificity) / 2
	return &b
}

// Interval is a share with the range it is in with 95 % confidence (Wilson
// score interval): few pictures prove little.
type Interval struct {
	Share float64 `json:"share"`
	Low   float64 `json:"low"`
	High  float64 `json:"high"`
}

func wilson(right, all int) Interval {
	const z = 1.959964
	n, p := float64(all), float64(right)/float64(all)
	middle := (p + z*z/(2*n)) / (1 + z*z/n)
	half := z / (1 + z*z/n) * math.Sqrt(p*(1-p)/n+z*z/(4*n*n))
	return Interval{p, max(0, middle-half), min(1, middle+half)}
}

// PrecisionRecall is a point of the curve.
type PrecisionRecall struct {
	Threshold float64 `json:"threshold"` // from this probability on
	Precision float64 `json:"precision"`
	Recall    float64 `json:"recall"`
}

// Point is what a threshold would give: decisions are "above the threshold".
type Point struct {
	Threshold   float64  `json:"threshold"`
	Precision   *float64 `json:"precision"`
	Recall      *float64 `json:"recall"`
	Specificity *float64 `json:"specificity"`
	F1          *float64 `json:"f1"`
}

// Bin is the pictures whose probability is in a range.
type Bin struct {
	From     float64 `json:"from"`
	To       float64 `json:"to"`
	Pictures int     `json:"pictures"`
	// Said is the mean probability, Was the share that was positive.
	Said float64 `json:"said"`
	Was  float64 `json:"was"`
}

// WorstShown is how many pictures Report.Worst has at most.
const WorstShown = 10

// ErrNoSamples is returned by Measure when there is nothing to measure.
var ErrNoSamples = errors.New("there are no pictures to measure with")

// Measure makes the report of a model's answers. A picture counts as positive
// when its probability is above the threshold.
func Measure(samples []Sample, labels [2]string, threshold float64) (*Report, error) {
	if len(samples) == 0 {
		return nil, ErrNoSamples
	}
	if !(threshold >= 0 && threshold <= 1) {
		return nil, fmt.Errorf("the threshold %v is not between 0 and 1", threshold)
	}
	for _, s := range samples {
		if !(s.Probability >= 0 && s.Probability <= 1) {
			return nil, fmt.Errorf("%s: the probability %v is not between 0 and 1", s.File, s.Probability)
		}
	}
	r := &Report{Labels: labels, Threshold: threshold, Samples: slices.Clone(samples)}
	slices.SortFunc(r.Samples, func(a, b Sample) int { return cmp.Compare(a.File, b.File) })
	for _, s := range r.Samples {
		r.Confusion.count(s, threshold)
		if s.Positive {
			r.Positives++
		} else {
			r.Negatives++
		}
		off := s.mistake()
		r.Brier += off * off / float64(len(samples))
		// A model that is sure of something wrong would cost infinitely much.
		r.LogLoss -= math.Log(max(1-off, 1e-6)) / float64(len(samples))
	}
	c := r.Confusion
	r.Accuracy = wilson(c.right(), len(samples))
	r.BalancedAccuracy, r.Precision, r.Recall = c.balancedAccuracy(), c.precision(), c.recall()
	r.Specificity, r.F1 = c.specificity(), c.f1()
	r.curves()
	r.calibration()
	r.Worst = slices.Clone(r.Samples)
	slices.SortStableFunc(r.Worst, func(a, b Sample) int { return cmp.Compare(b.mistake(), a.mistake()) })
	r.Worst = r.Worst[:min(len(r.Worst), WorstShown)]
	return r, nil
}

// curves goes through the thresholds from high to low, taking one probability
// after the other for positive.
func (r *Report) curves() {
	ordered := slices.Clone(r.Samples)
	slices.SortFunc(ordered, func(a, b Sample) int { return cmp.Compare(b.Probability, a.Probability) })
	c := Confusion{FalseNegatives: r.Positives, TrueNegatives: r.Negatives}
	point := func(threshold float64) {
		r.Thresholds = append(r.Thresholds, Point{threshold, c.precision(), c.recall(), c.specificity(), c.f1()})
	}
	point(1)
	auc, average := 0.0, 0.0
	for at := 0; at < len(ordered); {
		value, before := ordered[at].Probability, c
		for ; at < len(ordered) && ordered[at].Probability == value; at++ {
			if ordered[at].Positive {
				c.TruePositives, c.FalseNegatives = c.TruePositives+1, c.FalseNegatives-1
			} else {
				c.FalsePositives, c.TrueNegatives = c.FalsePositives+1, c.TrueNegatives-1
			}
		}
		// Decisions are "above": the threshold that takes this value in is the
		// middle between it and the next.
		below := 0.0
		if at < len(ordered) {
			below = (value + ordered[at].Probability) / 2
		}
		if value > 0 { // no threshold is below 0
			point(below)
		}
		auc += float64(c.FalsePositives-before.FalsePositives) * float64(c.TruePositives+before.TruePositives) / 2
		if recall := c.recall(); recall != nil {
			r.PrecisionRecall = append(r.PrecisionRecall, PrecisionRecall{value, *c.precision(), *recall})
			average += (*recall - *before.recall()) * *c.precision()
		}
	}
	if r.Positives > 0 {
		r.AveragePrecision = &average
		if r.Negatives > 0 {
			auc /= float64(r.Positives) * float64(r.Negatives)
			r.AUC = &auc
		}
	}
}

// calibration compares what was said with what was, by ten ranges of
// probability; the error is the mean difference, by pictures.
func (r *Report) calibration() {
	const bins = 10
	r.Calibration = make([]Bin, bins)
	for i := range r.Calibration {
		r.Calibration[i].From, r.Calibration[i].To = float64(i)/bins, float64(i+1)/bins
	}
	for _, s := range r.Samples {
		b := &r.Calibration[min(int(s.Probability*bins), bins-1)]
		b.Pictures++
		b.Said += s.Probability
		if s.Positive {
			b.Was++
		}
	}
	for i := range r.Calibration {
		b := &r.Calibration[i]
		if b.Pictures == 0 {
			continue
		}
		b.Said /= float64(b.Pictures)
		b.Was /= float64(b.Pictures)
		r.CalibrationError += math.Abs(b.Said-b.Was) * float64(b.Pictures) / float64(len(r.Samples))
	}
}
