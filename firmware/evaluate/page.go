package evaluate

import (
	"bytes"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"image/jpeg"
	"math"
	"path/filepath"
	"strings"

	"tuxwatch/firmware/pictures"
	"tuxwatch/firmware/vision"
)

// A Page is a report to look at in a browser: one HTML file that loads nothing
// from elsewhere.
type Page struct {
	Title string
	// Summary is a sentence or two below the title.
	Summary string
	// Facts say which model and pictures it is about.
	Facts []Fact
	// Sections come between the summary and the measures.
	Sections []Section
	Report   *Report
	// Picture reads a picture's file, for the small copies that are shown.
	Picture func(file string) ([]byte, error)
}

// Fact is a name and a value.
type Fact struct{ Name, Value string }

// Section is a list under a heading.
type Section struct {
	Title string
	Items []Item
}

// Item is a line of text, and the pictures that it is about.
type Item struct {
	Text  string
	Files []string
}

//go:embed page.html
var pageHTML string

var pageTemplate = template.Must(template.New("page").Funcs(template.FuncMap{
	"percent": percent, "share": share, "number": number, "name": pictures.Name,
	"short": short,
	"of":    func(value float64) string { return percent(&value) },
}).Parse(pageHTML))

// HTML draws the page.
func (p Page) HTML() ([]byte, error) {
	thumbnails := map[string]template.URL{}
	show := func(file string) template.URL {
		if url, known := thumbnails[file]; known || p.Picture == nil {
			return url
		}
		url := template.URL("")
		if data, err := p.Picture(file); err == nil {
			// A picture that is gone by now is shown by its name alone.
			url, _ = thumbnail(data)
		}
		thumbnails[file] = url
		return url
	}
	type shown struct {
		Sample
		Right bool
		Label string
		URL   template.URL
	}
	type figure struct {
		Name string
		URL  template.URL
	}
	type item struct {
		Text    string
		Figures []figure
	}
	type section struct {
		Title string
		Items []item
	}
	var sections []section
	for _, s := range p.Sections {
		out := section{Title: s.Title}
		for _, i := range s.Items {
			line := item{Text: i.Text}
			for _, f := range i.Files {
				line.Figures = append(line.Figures, figure{f, show(f)})
			}
			out.Items = append(out.Items, line)
		}
		sections = append(sections, out)
	}
	var worst []shown
	for _, s := range p.Report.Worst {
		worst = append(worst, shown{s, s.Right(p.Report.Threshold), p.Report.label(s.Positive), show(s.File)})
	}
	var page bytes.Buffer
	err := pageTemplate.Execute(&page, map[string]any{
		"Page": p, "R": p.Report, "Charts": p.Report.charts(), "Worst": worst, "Sections": sections, "Steps": p.Report.steps(),
	})
	if err != nil {
		return nil, fmt.Errorf("drawing the page: %w", err)
	}
	return page.Bytes(), nil
}

// short is the end of a path: the file, and the folder that it is in.
func short(path string) string {
	return pictures.Name(filepath.Join(filepath.Base(filepath.Dir(path)), filepath.Base(path)))
}

// thumbnail makes a small JPEG copy of a picture that a page can hold.
func thumbnail(file []byte) (template.URL, error) {
	const side, quality = 240, 70
	img, err := vision.Upright(file, side, vision.Limits{})
	if err != nil {
		return "", err
	}
	var small bytes.Buffer
	if err := jpeg.Encode(&small, img, &jpeg.Options{Quality: quality}); err != nil {
		return "", err
	}
	return template.URL("data:image/jpeg;base64," + base64.StdEncoding.EncodeToString(small.Bytes())), nil
}

// The place of a chart's axes in its drawing, in SVG's units.
const (
	plotLeft, plotTop     = 46.0, 12.0
	plotWidth, plotHeight = 360.0, 240.0
)

func plotX(v float64) float64 { return math.Round((plotLeft+v*plotWidth)*10) / 10 }
func plotY(v float64) float64 { return math.Round((plotTop+(1-v)*plotHeight)*10) / 10 }

// chart is drawn on a square from 0 to 1.
type chart struct {
	Title, Note string
	X, Y        string // names of the axes
	Diagonal    bool
	Rule        *float64 // the threshold, as x
	Lines       []curve
	Dots        []dot
}

type curve struct{ Name, Class, Points string }

type dot struct {
	X, Y, Radius float64
	Class, Tip   string
}

// Ticks of both axes: places and names.
func (chart) Ticks() (ticks []struct {
	X, Y float64
	Name string
}) {
	for i := 0; i <= 10; i += 2 {
		v := float64(i) / 10
		ticks = append(ticks, struct {
			X, Y float64
			Name string
		}{plotX(v), plotY(v), fmt.Sprint(v)})
	}
	return ticks
}

// RuleX is where the threshold is drawn.
func (c chart) RuleX() float64 { return plotX(*c.Rule) }

func points(all [][2]float64) string {
	var b strings.Builder
	for _, p := range all {
		fmt.Fprintf(&b, "%g,%g ", plotX(p[0]), plotY(p[1]))
	}
	return strings.TrimSpace(b.String())
}

func (r *Report) charts() []chart {
	return []chart{r.probabilityChart(), r.precisionRecallChart(), r.thresholdChart(), r.calibrationChart()}
}

// probabilityChart shows each picture by what the model says of it, in two rows.
func (r *Report) probabilityChart() chart {
	c := chart{
		Title: "What the model says of each picture",
		Note:  fmt.Sprintf("Above: pictures of %s; below: of %s. Right of the line it says %s.", r.Labels[0], r.Labels[1], r.Labels[0]),
		X:     "probability of " + r.Labels[0], Rule: &r.Threshold,
	}
	// As many as can be told apart, and as a page can hold.
	const most = 600
	every := (len(r.Samples) + most - 1) / most
	if every > 1 {
		c.Note += fmt.Sprintf(" One picture in %d is shown.", every)
	}
	for i, s := range r.Samples {
		if i%every > 0 {
			continue
		}
		// A little apart, so that pictures with the same value are all seen.
		scatter := float64(i*7919%97)/97*0.3 - 0.15
		y, class := 0.73+scatter, "positive"
		if !s.Positive {
			y, class = 0.27+scatter, "negative"
		}
		c.Dots = append(c.Dots, dot{plotX(s.Probability), plotY(y), 4, class,
			fmt.Sprintf("%s: %s", pictures.Name(s.File), percent(&s.Probability))})
	}
	return c
}

func (r *Report) precisionRecallChart() chart {
	c := chart{Title: "Precision and recall", X: "recall", Y: "precision",
		Note: "Each threshold gives a point; the dot is the present one. Average precision " + share(r.AveragePrecision) + "."}
	var line [][2]float64
	last := 0.0
	for _, p := range r.PrecisionRecall {
		line = append(line, [2]float64{last, p.Precision}, [2]float64{p.Recall, p.Precision})
		last = p.Recall
	}
	c.Lines = []curve{{"", "one", points(line)}}
	if r.Precision != nil && r.Recall != nil {
		c.Dots = []dot{{plotX(*r.Recall), plotY(*r.Precision), 5, "one",
			fmt.Sprintf("threshold %s: precision %s, recall %s", number(r.Threshold), percent(r.Precision), percent(r.Recall))}}
	}
	return c
}

func (r *Report) thresholdChart() chart {
	c := chart{Title: "What another threshold would change", X: "threshold", Rule: &r.Threshold,
		Note: "The line is the present threshold."}
	for _, of := range []struct {
		name, class string
		value       func(Point) *float64
	}{
		{"precision", "one", func(p Point) *float64 { return p.Precision }},
		{"recall", "two", func(p Point) *float64 { return p.Recall }},
		{"specificity", "three", func(p Point) *float64 { return p.Specificity }},
		{"F1", "four", func(p Point) *float64 { return p.F1 }},
	} {
		const steps = 200
		var line [][2]float64
		for i := range steps + 1 {
			threshold := float64(i) / steps
			if v := of.value(r.At(threshold)); v != nil {
				line = append(line, [2]float64{threshold, *v})
			}
		}
		c.Lines = append(c.Lines, curve{of.name, of.class, points(line)})
	}
	return c
}

func (r *Report) calibrationChart() chart {
	c := chart{Title: "Do the probabilities mean what they say?", X: "probability said", Y: "share that was " + r.Labels[0], Diagonal: true,
		Note: fmt.Sprintf("On the diagonal they do. Larger dots stand for more pictures. Mean difference %s.", percent(&r.CalibrationError))}
	var line [][2]float64
	for _, b := range r.Calibration {
		if b.Pictures == 0 {
			continue
		}
		line = append(line, [2]float64{b.Said, b.Was})
		c.Dots = append(c.Dots, dot{plotX(b.Said), plotY(b.Was),
			math.Round(10*(3+9*math.Sqrt(float64(b.Pictures)/float64(len(r.Samples))))) / 10, "one",
			fmt.Sprintf("%d pictures with %.0f to %.0f %%: said %s, was %s", b.Pictures, 100*b.From, 100*b.To, percent(&b.Said), percent(&b.Was))})
	}
	c.Lines = []curve{{"", "one thin", points(line)}}
	return c
}
