package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"tuxwatch/firmware/pictures"
	"tuxwatch/firmware/vision"
	"tuxwatch/firmware/vision/litert"
)

// newClassifyCommand is "tuxwatch classify": what pictures show, without a
// daemon.
func newClassifyCommand() *cobra.Command {
	var asJSON bool
	var model, explainOut, explainLabel string
	var threads int
	cmd := &cobra.Command{
		Use:   "classify FILE…",
		Short: "Tell what pictures show",
		Long: `Tell what pictures show, with the model on this machine and without a daemon.

Pictures are JPEG or PNG files; - stands for the standard input. With --json
each line is one JSON object: "file", and the fields of the recognizer's HTTP
answer, or "error" with "code" and "message".

With --explain each picture is also drawn as a PNG picture that shows where the
model looked: parts of it are blurred in turn, and what the model misses is
coloured, yellow most. It takes some 180 times as long as classifying. For
several pictures, name a folder.

The exit status is 0 if all pictures were classified and 1 if not; a file that
cannot be read does not stop the others.`,
		Example: `  tuxwatch classify penguin.jpg
  tuxwatch classify --json --model ./my-model *.jpg
  tuxwatch classify penguin.jpg --explain looked-at.png
  tuxwatch classify --explain looked-at/ *.jpg`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return wrongUse("tuxwatch classify needs at least one picture file, or - for the standard input")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if threads < 0 || threads > 64 {
				return wrongUse("--threads %d is not between 0 and 64", threads)
			}
			if threads == 0 {
				threads = min(runtime.NumCPU(), 4)
			}
			explain, err := newExplainer(explainOut, explainLabel, args)
			if err != nil {
				return err
			}
			classifier, err := openClassifier(model, threads)
			if err != nil {
				return failed("%w", err)
			}
			defer classifier.Close()
			if err := explain.check(classifier.Info()); err != nil {
				return err
			}
			report := textReport
			if asJSON {
				report = jsonReport
			}
			return classifyFiles(cmd, args, classifier, explain, report)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object a line for each picture")
	cmd.Flags().StringVar(&model, "model", "", "folder of the model (default: the penguin model that came with tuxwatch)")
	cmd.Flags().StringVar(&explainOut, "explain", "", "draw where the model looked: a .png file, or a folder for several pictures")
	cmd.Flags().StringVar(&explainLabel, "explain-label", "", "with --explain: the label to explain (default: the picture's most likely one)")
	cmd.Flags().IntVar(&threads, "threads", 0, "threads that the model runs on (default: one each core, four at most)")
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return wrongUse("%w: see %s --help", err, cmd.CommandPath())
	})
	return cmd
}

func openClassifier(model string, threads int) (*vision.Classifier, error) {
	library, err := litert.Load("")
	if err != nil {
		return nil, err
	}
	dir, err := vision.FindModel(model)
	if err != nil {
		return nil, fmt.Errorf("%w with --model", err)
	}
	return vision.OpenClassifier(library, dir, threads, vision.Limits{})
}

// classificationReport prints what became of one file.
// drawn is nil when no explanation was asked for.
type classificationReport func(cmd *cobra.Command, file string, result vision.Result, drawn *explained, err error) error

// classifyFiles goes through the files. explain is nil when they are only to be
// classified.
func classifyFiles(cmd *cobra.Command, files []string, classifier *vision.Classifier, explain *explainer, report classificationReport) error {
	bad := false
	for _, file := range files {
		if err := cmd.Context().Err(); err != nil {
			return failed("stopped before %s: %w", file, err)
		}
		var result vision.Result
		var drawn *explained
		data, err := readPicture(cmd, file)
		switch {
		case err != nil:
		case explain != nil:
			result, drawn, err = explain.explain(cmd.Context(), classifier, file, data)
		default:
			result, err = classifier.Classify(data)
		}
		if stopped := cmd.Context().Err(); stopped != nil {
			return failed("stopped at %s: %w", file, stopped)
		}
		bad = bad || err != nil
		if err := report(cmd, file, result, drawn, err); err != nil {
			return failed("writing the result for %s: %w", file, err)
		}
	}
	if bad {
		return exitError{code: 1}
	}
	return nil
}

// readPicture reads one byte more than a picture may have, which is enough to
// know that it is too large. A pipe or a terminal may keep it waiting; the
// command's context ends that, and leaves what was waiting behind, since the
// program ends as well.
func readPicture(cmd *cobra.Command, file string) ([]byte, error) {
	type reading struct {
		data []byte
		err  error
	}
	done := make(chan reading, 1)
	go func() {
		data, err := readAtMost(cmd.InOrStdin(), file, vision.DefaultMaxBytes+1)
		done <- reading{data, err}
	}()
	select {
	case r := <-done:
		return r.data, r.err
	case <-cmd.Context().Done():
		return nil, cmd.Context().Err()
	}
}

func readAtMost(stdin io.Reader, file string, limit int64) ([]byte, error) {
	if file == "-" {
		return io.ReadAll(io.LimitReader(stdin, limit))
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit))
	if errors.Is(err, syscall.EISDIR) {
		return nil, errFolder
	}
	return data, err
}

// errFolder is for those who expect a folder's name to stand for its pictures.
var errFolder = errors.New("it is a folder; name the pictures in it, for example with /*.jpg at its end")

func textReport(cmd *cobra.Command, file string, result vision.Result, drawn *explained, err error) error {
	if err != nil {
		_, err := fmt.Fprintf(cmd.ErrOrStderr(), "tuxwatch: %s: %v\n", pictures.Name(file), withoutPath(err))
		return err
	}
	var others []string
	for _, p := range result.Predictions[1:] {
		others = append(others, fmt.Sprintf("%s %s", p.Label, percent(p.Probability)))
	}
	line := fmt.Sprintf("%s: %s %s", pictures.Name(file), result.Best().Label, percent(result.Best().Probability))
	if len(others) > 0 {
		line += " (" + strings.Join(others, ", ") + ")"
	}
	if drawn != nil {
		line += "\n  " + drawn.String()
	}
	_, err = fmt.Fprintln(cmd.OutOrStdout(), line)
	return err
}

func percent(probability float64) string {
	return fmt.Sprintf("%.1f %%", math.Round(probability*1000)/10)
}

// withoutPath drops the file's name from an error of the file system, since the
// line begins with it.
func withoutPath(err error) error {
	var onPath *os.PathError
	if errors.As(err, &onPath) {
		return fmt.Errorf("%s: %w", onPath.Op, onPath.Err)
	}
	return err
}

func jsonReport(cmd *cobra.Command, file string, result vision.Result, drawn *explained, err error) error {
	encoder := json.NewEncoder(cmd.OutOrStdout())
	encoder.SetEscapeHTML(false)
	if err == nil {
		return encoder.Encode(struct {
			File string `json:"file"`
			vision.Answer
			Explanation *explained `json:"explanation,omitempty"`
		}{file, result.Answer(uuid.New(), time.Now()), drawn})
	}
	type failure struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	}
	code := "Failed"
	switch {
	case errors.Is(err, vision.ErrTooLarge):
		code = "BadRequestImageSizeBytes"
	case errors.Is(err, vision.ErrNotPicture):
		code = "BadRequestImageFormat"
	case errors.Is(err, os.ErrNotExist):
		code = "NotFound"
	}
	return encoder.Encode(struct {
		File  string  `json:"file"`
		Error failure `json:"error"`
	}{file, failure{code, withoutPath(err).Error()}})
}
