package teach

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"

	"gonum.org/v1/gonum/floats"

	"tuxwatch/firmware/evaluate"
	"tuxwatch/firmware/pictures"
	"tuxwatch/firmware/vision"
)

// Report is what Learn tells of its work: report.json in the model folder.
type Report struct {
	Name     string    `json:"name"`
	Version  string    `json:"version"`
	Labels   [2]string `json:"labels"`
	Base     BaseModel `json:"base"`
	Pictures struct {
		Positive int `json:"positive"`
		Negative int `json:"negative"`
	} `json:"pictures"`
	Seed   uint64 `json:"seed"`
	Copies int    `json:"copies"` // changed copies of each picture
	Folds  int    `json:"folds"`
	// Penalty, Temperature and Threshold are what cross-validation chose.
	Penalty     float64 `json:"penalty"`
	Temperature float64 `json:"temperature"`
	Threshold   float64 `json:"threshold"`
	// CrossValidation measures heads on pictures that they were not trained
	// with. The threshold is part of its probabilities, which decide at 0.5.
	CrossValidation *evaluate.Report `json:"crossValidation"`
	// Advice is what to photograph next, the most useful first.
	Advice  []Advice  `json:"advice"`
	Similar []Similar `json:"similar"`
	Remarks []Remark  `json:"remarks"`
}

// BaseModel is the model that was built on.
type BaseModel struct {
	Name    string `json:"name"`
	Version string `json:"version"`
}

// Similar is a picture of each kind that the model can hardly tell apart.
type Similar struct {
	Positive   string  `json:"positive"`
	Negative   string  `json:"negative"`
	Similarity float64 `json:"similarity"` // cosine of the embeddings
}

// Advice is what would make the model better, and the pictures that show it.
type Advice struct {
	Message string   `json:"message"`
	Files   []string `json:"files,omitempty"`
}

// Pictures of one kind that are as alike as alikeWithin are frames of one scene:
// cross-validation keeps them together. Pictures of the two kinds that are
// as alike as alikeAcross are worth a second look. On the penguin model the same
// photograph, compressed once more, keeps 0.97 or more; different photographs
// of the same toy on the same desk stay below 0.93.
const (
	alikeWithin = 0.96
	alikeAcross = 0.95
)

// groupAlike puts pictures that are almost the same into groups, and notes those
// that are almost the same but of different kinds.
func (l *learner) groupAlike() {
	units := make([][]float64, len(l.pictures))
	for i, p := range l.pictures {
		units[i] = unit(p.embeddings[0])
		p.group = i
	}
	type pair struct{ a, b int }
	var alike []pair
	for a := range l.pictures {
		for b := range a {
			similarity := floats.Dot(units[a], units[b])
			switch {
			case l.pictures[a].positive == l.pictures[b].positive:
				if similarity >= alikeWithin {
					alike = append(alike, pair{a, b})
				}
			case similarity >= alikeAcross:
				positive, negative := l.pictures[a], l.pictures[b]
				if !positive.positive {
					positive, negative = negative, positive
				}
				l.similar = append(l.similar, Similar{positive.file, negative.file, math.Round(similarity*1e4) / 1e4})
			}
		}
	}
	slices.SortStableFunc(l.similar, func(a, b Similar) int {
		switch {
		case a.Similarity > b.Similarity:
			return -1
		case a.Similarity < b.Similarity:
			return 1
		}
		return 0
	})
	l.similar = l.similar[:min(len(l.similar), 20)]
	groups := map[bool]int{}
	for _, p := range l.pictures {
		groups[p.positive]++
	}
	for _, pair := range alike {
		from, to, kind := l.pictures[pair.a].group, l.pictures[pair.b].group, l.pictures[pair.a].positive
		if from == to || groups[kind] <= MinOfEach {
			continue // cross-validation needs some to part
		}
		groups[kind]--
		for _, p := range l.pictures {
			if p.group == from {
				p.group = to
			}
		}
	}
}

// groups counts those of a kind.
func (l *learner) groups(positive bool) int {
	seen := map[int]bool{}
	for _, p := range l.pictures {
		if p.positive == positive {
			seen[p.group] = true
		}
	}
	return len(seen)
}

// advise says what to photograph next.
func (l *learner) advise(measured *evaluate.Report) []Advice {
	var advice []Advice
	list := func(samples []evaluate.Sample) (files []string) {
		for _, s := range samples[:min(len(samples), 5)] {
			files = append(files, s.File)
		}
		return files
	}
	var missed, mistaken, unsure []evaluate.Sample
	for _, s := range measured.Worst {
		switch {
		case s.Right(measured.Threshold) && math.Abs(s.Probability-0.5) < 0.3:
			unsure = append(unsure, s)
		case s.Right(measured.Threshold):
		case s.Positive:
			missed = append(missed, s)
		default:
			mistaken = append(mistaken, s)
		}
	}
	if len(mistaken) > 0 {
		advice = append(advice, Advice{fmt.Sprintf("it takes %s for %s: photograph more scenes without it that look like",
			count(len(mistaken), "picture of "+l.Labels[1], "pictures of "+l.Labels[1]), l.Labels[0]), list(mistaken)})
	}
	if len(missed) > 0 {
		advice = append(advice, Advice{fmt.Sprintf("it misses %s in %s: photograph it more often in the light, place, size and from the side of",
			l.Labels[0], count(len(missed), "picture")), list(missed)})
	}
	if len(unsure) > 0 {
		advice = append(advice, Advice{fmt.Sprintf("it is right but unsure about %s: more like", count(len(unsure), "picture")), list(unsure)})
	}
	for _, s := range l.similar[:min(len(l.similar), 3)] {
		advice = append(advice, Advice{"these two look almost the same to the model, yet are of different kinds; is each in the right folder?",
			[]string{s.Positive, s.Negative}})
	}
	for i, n := range []int{measured.Positives, measured.Negatives} {
		if n < FewPictures {
			advice = append(advice, Advice{Message: fmt.Sprintf("there %s only %d of %s: %d or more, in different light and places, make it dependable", isAre(n), n, l.Labels[i], FewPictures)})
		}
		if groups := l.groups(i == 0); groups*2 <= n {
			advice = append(advice, Advice{Message: fmt.Sprintf("many pictures of %s are almost the same (%d of %d differ): move the camera, the thing and the light between pictures", l.Labels[i], groups, n)})
		}
	}
	return advice
}

// Text writes the report for people at a terminal.
func (r *Report) Text(out io.Writer) error {
	m := r.CrossValidation
	var b strings.Builder
	fmt.Fprintf(&b, "Learnt %s from %s and %s from %s.\n", r.Labels[0], count(r.Pictures.Positive, "picture"),
		r.Labels[1], count(r.Pictures.Negative, "picture"))
	right := m.Confusion.TruePositives + m.Confusion.TrueNegatives
	fmt.Fprintf(&b, "On pictures it had not seen (%d-fold cross-validation) it was right on %d of %d (%.1f %%; the 95 %% interval is %.0f to %.0f %%).\n",
		r.Folds, right, len(m.Samples), 100*m.Accuracy.Share, 100*m.Accuracy.Low, 100*m.Accuracy.High)
	fmt.Fprintf(&b, "  %s: %d found, %d missed\n  %s: %d left alone, %d taken for %s\n", r.Labels[0], m.Confusion.TruePositives,
		m.Confusion.FalseNegatives, r.Labels[1], m.Confusion.TrueNegatives, m.Confusion.FalsePositives, r.Labels[0])
	if len(r.Advice) > 0 {
		fmt.Fprintln(&b, "What to photograph next:")
	}
	for _, a := range r.Advice {
		line := "  - " + a.Message
		if len(a.Files) > 0 {
			line += ":"
		}
		fmt.Fprintln(&b, line)
		for _, f := range a.Files {
			fmt.Fprintln(&b, "      "+pictures.Name(f))
		}
	}
	_, err := io.WriteString(out, b.String())
	return err
}

// count is a number and its noun: "1 picture", "2 pictures".
func count(n int, noun ...string) string {
	if n == 1 {
		return "1 " + noun[0]
	}
	if len(noun) > 1 {
		return fmt.Sprintf("%d %s", n, noun[1])
	}
	return fmt.Sprintf("%d %ss", n, noun[0])
}

func isAre(n int) string {
	if n == 1 {
		return "is"
	}
	return "are"
}

func join(parts []string) string { return strings.Join(parts, " and ") }

// Page draws the report for a browser.
func (m *Model) Page(name string) ([]byte, error) {
	r := m.Report
	page := evaluate.Page{
		Title: "The model " + name,
		Summary: fmt.Sprintf("Taught to tell %s from %s. The measures are of pictures that it had not seen: in turn, a part of the pictures was kept apart while it learnt from the others.",
			r.Labels[0], r.Labels[1]),
		Facts: []evaluate.Fact{
			{Name: "Version", Value: r.Version},
			{Name: "Pictures", Value: fmt.Sprintf("%d of %s, %d of %s", r.Pictures.Positive, r.Labels[0], r.Pictures.Negative, r.Labels[1])},
			{Name: "Built on", Value: strings.TrimSpace("the model " + r.Base.Name + " " + r.Base.Version)},
			{Name: "Chosen by cross-validation", Value: fmt.Sprintf("regularisation %g, temperature %.2f, threshold %.2f, in %d folds; %d changed copies of each picture; seed %d",
				r.Penalty, r.Temperature, r.Threshold, r.Folds, r.Copies, r.Seed)},
		},
		Report:  r.CrossValidation,
		Picture: func(file string) ([]byte, error) { return pictures.File{Path: file}.Read(vision.DefaultMaxBytes) },
	}
	if len(r.Advice) > 0 {
		section := evaluate.Section{Title: "What to photograph next"}
		for _, a := range r.Advice {
			section.Items = append(section.Items, evaluate.Item{Text: capital(a.Message), Files: a.Files})
		}
		page.Sections = append(page.Sections, section)
	}
	if len(r.Remarks) > 0 {
		section := evaluate.Section{Title: "Files that were left out, or are odd"}
		for _, remark := range r.Remarks {
			section.Items = append(section.Items, evaluate.Item{Text: pictures.Name(remark.File) + ": " + remark.Message})
		}
		page.Sections = append(page.Sections, section)
	}
	return page.HTML()
}

// capital begins a sentence.
func capital(text string) string { return strings.ToUpper(text[:1]) + text[1:] }
