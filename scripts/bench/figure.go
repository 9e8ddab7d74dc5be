package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
)

// Sample is what the rounds of one side of a comparison gave.
type Sample struct {
	Name   string    `json:"name"`
	Median float64   `json:"median"`
	Min    float64   `json:"min"`
	Max    float64   `json:"max"`
	Rounds []float64 `json:"rounds"`
}

func newSample(name string, rounds []float64) Sample {
	return Sample{Name: name, Median: median(rounds), Min: slices.Min(rounds), Max: slices.Max(rounds), Rounds: rounds}
}

// median of at least one value; the mean of the middle two of an even number.
func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	if n%2 == 1 {
		return sorted[n/2]
	}
	return (sorted[n/2-1] + sorted[n/2]) / 2
}

// Figure is one line of the result: tuxwatch beside a peer, or against a bar.
type Figure struct {
	Part string `json:"part"`
	What string `json:"what"`
	Unit string `json:"unit"`
	// Better is "lower" or "higher".
	Better   string  `json:"better"`
	Tuxwatch Sample  `json:"tuxwatch"`
	Peer     *Sample `json:"peer,omitempty"`
	// Ratio is tuxwatch's median divided by the peer's; RatioMin and RatioMax
	// are those of single rounds.
	Ratio    float64 `json:"ratio,omitempty"`
	RatioMin float64 `json:"ratioMin,omitempty"`
	RatioMax float64 `json:"ratioMax,omitempty"`
	// Limit is what tuxwatch's largest round may reach, if there is a bar.
	Limit  float64 `json:"limit,omitempty"`
	Passed *bool   `json:"passed,omitempty"`
}

// against compares with a peer.
func (f Figure) against(peer Sample) Figure {
	f.Peer = &peer
	f.Ratio = f.Tuxwatch.Median / peer.Median
	var ratios []float64
	for i := range min(len(f.Tuxwatch.Rounds), len(peer.Rounds)) {
		ratios = append(ratios, f.Tuxwatch.Rounds[i]/peer.Rounds[i])
	}
	f.RatioMin, f.RatioMax = slices.Min(ratios), slices.Max(ratios)
	return f
}

// atMost holds every round against a bar.
func (f Figure) atMost(limit float64) Figure {
	passed := f.Tuxwatch.Max <= limit
	f.Limit, f.Passed = limit, &passed
	return f
}

// Result is everything that a run found.
type Result struct {
	Machine Machine  `json:"machine"`
	Figures []Figure `json:"figures"`
	// Notes say under which conditions, and what else was seen.
	Notes  []string `json:"notes"`
	Passed bool     `json:"passed"`
}

var errBar = errors.New("a figure is over its bar")

// check sets Passed.
func (r *Result) check() error {
	r.Passed = true
	for _, f := range r.Figures {
		if f.Passed != nil && !*f.Passed {
			r.Passed = false
		}
	}
	if !r.Passed {
		return errBar
	}
	return nil
}

func (r *Result) writeJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(r)
}

// writeTable prints the result for people.
func (r *Result) writeTable(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%v\n", r.Machine)
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	part := ""
	for _, f := range r.Figures {
		if f.Part != part {
			part = f.Part
			// The heading's cells are empty so that all parts share their columns.
			fmt.Fprintf(t, "\n%s\ttuxwatch\tpeer\tratio\t\n", part)
		}
		peer, ratio := "-", "-"
		if f.Peer != nil {
			peer = fmt.Sprintf("%s, %s", f.Peer.show(f.Unit), f.Peer.Name)
			ratio = fmt.Sprintf("%.2f (%.2f–%.2f)", f.Ratio, f.RatioMin, f.RatioMax)
		}
		fmt.Fprintf(t, "  %s\t%s\t%s\t%s\t%s\n", f.What, f.Tuxwatch.show(f.Unit), peer, ratio, f.verdict())
	}
	if err := t.Flush(); err != nil {
		return err
	}
	b.WriteString("\nMedians of the rounds, with the smallest and the largest; ratio is tuxwatch / peer, of the medians and of single rounds.\n")
	for _, note := range r.Notes {
		fmt.Fprintf(&b, "- %s\n", note)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (f Figure) verdict() string {
	switch {
	case f.Passed != nil && *f.Passed:
		return fmt.Sprintf("pass: at most %s %s", number(f.Limit), f.Unit)
	case f.Passed != nil:
		return fmt.Sprintf("FAIL: at most %s %s", number(f.Limit), f.Unit)
	case f.Peer != nil:
		return f.Better + " is better"
	default:
		return ""
	}
}

// show is "12.3 ms (11.9–14.0)".
func (s Sample) show(unit string) string {
	if len(s.Rounds) == 1 {
		return fmt.Sprintf("%s %s", number(s.Median), unit)
	}
	return fmt.Sprintf("%s %s (%s–%s)", number(s.Median), unit, number(s.Min), number(s.Max))
}

// number has three significant digits, or as many as stand before the point.
func number(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	default:
		return fmt.Sprintf("%.2f", v)
	}
}
