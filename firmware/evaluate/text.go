package evaluate

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"tuxwatch/firmware/pictures"
)

// Text writes the report for people at a terminal.
func (r *Report) Text(out io.Writer) error {
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	row := func(cells ...string) { fmt.Fprintln(t, strings.Join(cells, "\t")) }
	c := r.Confusion
	row("", "taken for "+r.Labels[0], "taken for "+r.Labels[1])
	row("is "+r.Labels[0], fmt.Sprint(c.TruePositives), fmt.Sprint(c.FalseNegatives))
	row("is "+r.Labels[1], fmt.Sprint(c.FalsePositives), fmt.Sprint(c.TrueNegatives))
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(t)
	row("right", fmt.Sprintf("%d of %d: %s (95 %% interval %s to %s)", c.right(), len(r.Samples),
		percent(&r.Accuracy.Share), percent(&r.Accuracy.Low), percent(&r.Accuracy.High)))
	row("threshold", number(r.Threshold))
	row("precision", percent(r.Precision))
	row("recall", percent(r.Recall))
	row("specificity", percent(r.Specificity))
	row("balanced accuracy", percent(r.BalancedAccuracy))
	row("F1", share(r.F1))
	row("area under ROC curve", share(r.AUC))
	row("average precision", share(r.AveragePrecision))
	row("log loss", number(r.LogLoss))
	row("Brier score", number(r.Brier))
	row("calibration error", number(r.CalibrationError))
	if err := t.Flush(); err != nil {
		return err
	}

	fmt.Fprintln(t)
	row("THRESHOLD", "PRECISION", "RECALL", "SPECIFICITY", "F1")
	for _, p := range r.steps() {
		row(number(p.Threshold), percent(p.Precision), percent(p.Recall), percent(p.Specificity), share(p.F1))
	}
	if err := t.Flush(); err != nil {
		return err
	}

	var wrong []Sample
	for _, s := range r.Worst {
		if !s.Right(r.Threshold) {
			wrong = append(wrong, s)
		}
	}
	if len(wrong) > 0 {
		fmt.Fprintf(t, "\nWrong, the worst first (%d in all):\n", len(r.Samples)-c.right())
		for _, s := range wrong {
			row(pictures.Name(s.File), fmt.Sprintf("is %s, %s says %s", r.label(s.Positive), r.Labels[0], percent(&s.Probability)))
		}
	}
	return t.Flush()
}

// steps are the points that tables show.
func (r *Report) steps() (points []Point) {
	for step := 1; step <= 9; step++ {
		points = append(points, r.At(float64(step)/10))
	}
	return points
}

// At gives what a threshold would give.
func (r *Report) At(threshold float64) Point {
	var c Confusion
	for _, s := range r.Samples {
		c.count(s, threshold)
	}
	return Point{threshold, c.precision(), c.recall(), c.specificity(), c.f1()}
}

func (r *Report) label(positive bool) string {
	if positive {
		return r.Labels[0]
	}
	return r.Labels[1]
}

func percent(share *float64) string {
	if share == nil {
		return "–"
	}
	return fmt.Sprintf("%.1f %%", *share*100)
}

func share(value *float64) string {
	if value == nil {
		return "–"
	}
	return number(*value)
}

func number(value float64) string { return fmt.Sprintf("%.3f", value) }
