package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/google/renameio/v2"
	"github.com/spf13/cobra"

	"tuxwatch/firmware/evaluate"
	"tuxwatch/firmware/pictures"
	"tuxwatch/firmware/vision"
)

type evaluateFlags struct {
	model, positive, negative, label, html string
	threshold                              float64
	threads                                int
	asJSON                                 bool
}

// newEvaluateCommand is "tuxwatch evaluate": how good a model is.
func newEvaluateCommand() *cobra.Command {
	var f evaluateFlags
	cmd := &cobra.Command{
		Use:   "evaluate --positive DIR --negative DIR",
		Short: "Measure how well a model tells two kinds of pictures apart",
		Long: `Measure how well a model tells two folders of pictures apart: one of what it is
to recognize (its first label), one without. Use pictures that it was not taught
with, or the figures flatter it. It prints the confusion matrix, precision,
recall, what other thresholds would give, and the pictures that it is wrong
about; --html writes a page with curves and the worst pictures.

Files that cannot be used are told, one line each, and left out; the last line
counts them. The exit status is 0 if there was anything to measure and 1 if not.`,
		Example: `  tuxwatch evaluate --model my-model --positive mug-new --negative noMug-new --html report.html`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case f.positive == "" || f.negative == "":
				return wrongUse("--positive and --negative are needed: tuxwatch evaluate [--model DIR] --positive DIR --negative DIR")
			case !(f.threshold >= 0 && f.threshold <= 1):
				return wrongUse("--threshold %v is not between 0 and 1", f.threshold)
			case f.threads < 0 || f.threads > 64:
				return wrongUse("--threads %d is not between 0 and 64", f.threads)
			}
			return runEvaluate(cmd, f)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.model, "model", "", "folder of the model (default: the penguin model that came with tuxwatch)")
	flags.StringVar(&f.positive, "positive", "", "folder of pictures that show what it is to recognize")
	flags.StringVar(&f.negative, "negative", "", "folder of pictures that do not")
	flags.StringVar(&f.label, "label", "", "the model's label that is to be recognized (default: penguin if it has that, or else its first)")
	flags.Float64Var(&f.threshold, "threshold", 0.5, "probability above which the model says yes, 0 to 1")
	flags.StringVar(&f.html, "html", "", "write a page to this file")
	flags.IntVar(&f.threads, "threads", 0, "threads that the model runs on (default: one each core, four at most)")
	flags.BoolVar(&f.asJSON, "json", false, "print JSON")
	return cmd
}

// evaluation is the result as JSON has it.
type evaluation struct {
	Model struct {
		Name    string `json:"name"`
		Version string `json:"version"`
		Folder  string `json:"folder"`
	} `json:"model"`
	*evaluate.Report
	Skipped []skipped `json:"skipped"`
	Notes   []skipped `json:"notes"`
}

// skipped is a file and why it was left out, or what is odd about it.
type skipped struct {
	File    string `json:"file"`
	Message string `json:"message"`
}

func runEvaluate(cmd *cobra.Command, f evaluateFlags) error {
	classifier, err := openForWork(f.model, f.threads)
	if err != nil {
		return failed("%w", err)
	}
	defer classifier.Close()
	info := classifier.Info()
	labels, err := labelsOf(info, f.label)
	if err != nil {
		return wrongUse("--label: %w", err)
	}

	result := evaluation{Skipped: []skipped{}, Notes: []skipped{}}
	result.Model.Name, result.Model.Version, result.Model.Folder = info.Name, info.Version, info.Folder
	type source struct {
		pictures.File
		positive bool
	}
	var sources []source
	for _, side := range []struct {
		dir      string
		positive bool
	}{{f.positive, true}, {f.negative, false}} {
		files, err := pictures.List(side.dir)
		if err != nil {
			return failed("%w", err)
		}
		for _, file := range files {
			sources = append(sources, source{file, side.positive})
		}
	}
	progress := newProgress(cmd.ErrOrStderr(), "looking at the pictures")
	var samples []evaluate.Sample
	for i, s := range sources {
		if err := cmd.Context().Err(); err != nil {
			progress.end()
			return failed("stopped after %d of %d files", i, len(sources))
		}
		probability, note, err := judge(classifier, s.File, labels[0])
		if err != nil {
			message := pictures.Reason(err).Error()
			result.Skipped = append(result.Skipped, skipped{s.Path, message})
			progress.line(fmt.Sprintf("left out: %s: %s", pictures.Name(s.Path), message))
		} else {
			samples = append(samples, evaluate.Sample{File: s.Path, Positive: s.positive, Probability: probability})
			if note != "" {
				result.Notes = append(result.Notes, skipped{s.Path, note})
				progress.line(fmt.Sprintf("note: %s: %s", pictures.Name(s.Path), note))
			}
		}
		progress.at(i+1, len(sources))
	}
	progress.end()
	if len(samples) == 0 {
		return failed("nothing could be measured: there are no pictures that can be used in %s and %s (%d files were left out)",
			pictures.Name(f.positive), pictures.Name(f.negative), len(result.Skipped))
	}
	if result.Report, err = evaluate.Measure(samples, labels, f.threshold); err != nil {
		return failed("%w", err)
	}
	if f.html != "" {
		if err := writePage(f, info, result); err != nil {
			return failed("%w", err)
		}
	}
	if f.asJSON {
		return printJSON(cmd.OutOrStdout(), result)
	}
	return evaluationText(cmd, f, info, result)
}

// openForWork opens a model for classifying.
func openForWork(model string, threads int) (*vision.Classifier, error) {
	if threads == 0 {
		threads = defaultThreads()
	}
	return openClassifier(model, threads)
}

// judge gives the probability of a label for a file.
func judge(classifier *vision.Classifier, file pictures.File, label string) (probability float64, note string, err error) {
	data, err := file.Read(vision.DefaultMaxBytes)
	if err != nil {
		return 0, "", err
	}
	result, err := classifier.Classify(data)
	if err != nil {
		return 0, "", err
	}
	for _, p := range result.Predictions {
		if p.Label == label {
			probability = p.Probability
		}
	}
	return min(max(probability, 0), 1), pictures.Note(data), nil
}

// labelsOf gives the label that is to be recognized, and what everything else is
// called.
func labelsOf(info vision.ModelInfo, wanted string) ([2]string, error) {
	yes := ""
	for _, l := range info.Labels {
		if wanted != "" && strings.EqualFold(l, wanted) || wanted == "" && yes == "" && strings.EqualFold(l, "penguin") {
			yes = l
		}
	}
	if yes == "" && wanted != "" {
		return [2]string{}, fmt.Errorf("the model has no label %q; it has %s", wanted, strings.Join(info.Labels, ", "))
	}
	if yes == "" {
		yes = info.Labels[0]
	}
	no := "not " + yes
	if len(info.Labels) == 2 {
		no = info.Labels[0]
		if no == yes {
			no = info.Labels[1]
		}
	}
	return [2]string{yes, no}, nil
}

func writePage(f evaluateFlags, info vision.ModelInfo, result evaluation) error {
	page := evaluate.Page{
		Title:   "How good is the model " + info.Name + "?",
		Summary: "Measured on pictures from two folders with tuxwatch evaluate.",
		Facts: []evaluate.Fact{
			{Name: "Model", Value: strings.TrimSpace(info.Name + " " + info.Version)},
			{Name: "Runs on", Value: info.Runtime},
			{Name: "Folders", Value: fmt.Sprintf("%s (%s), %s (%s)", pictures.Name(f.positive), result.Labels[0], pictures.Name(f.negative), result.Labels[1])},
			{Name: "Measured", Value: time.Now().Format("2 January 2006, 15:04")},
		},
		Report:  result.Report,
		Picture: func(file string) ([]byte, error) { return pictures.File{Path: file}.Read(vision.DefaultMaxBytes) },
	}
	if all := append(append([]skipped(nil), result.Skipped...), result.Notes...); len(all) > 0 {
		section := evaluate.Section{Title: "Files that were left out, or are odd"}
		for _, s := range all {
			section.Items = append(section.Items, evaluate.Item{Text: pictures.Name(s.File) + ": " + s.Message})
		}
		page.Sections = append(page.Sections, section)
	}
	html, err := page.HTML()
	if err != nil {
		return err
	}
	if err := renameio.WriteFile(f.html, html, 0o644); err != nil {
		return fmt.Errorf("writing the page: %w", err)
	}
	return nil
}

func evaluationText(cmd *cobra.Command, f evaluateFlags, info vision.ModelInfo, result evaluation) error {
	out := cmd.OutOrStdout()
	fmt.Fprintf(out, "Model %s %s, %d pictures of %s and %d of %s\n\n", info.Name, info.Version,
		result.Positives, result.Labels[0], result.Negatives, result.Labels[1])
	if err := result.Report.Text(out); err != nil {
		return failed("writing the result: %w", err)
	}
	if n := len(result.Skipped); n > 0 {
		fmt.Fprintf(out, "\n%d of %d files were left out (see the lines above).\n", n, n+len(result.Samples))
	}
	if f.html != "" {
		fmt.Fprintf(out, "\nThe page is %s.\n", pictures.Name(f.html))
	}
	return nil
}
