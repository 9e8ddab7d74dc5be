package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"tuxwatch/firmware/config"
	"tuxwatch/firmware/control"
	"tuxwatch/firmware/pictures"
	"tuxwatch/firmware/vision"
)

// collectFlags are those of "tuxwatch collect".
type collectFlags struct {
	out, model, from string
	maxPictures      int
	maxBytes         config.Size
	uncertainty      float64
	interval, during time.Duration
	threads          int
	camera, socket   string
	asJSON           bool
}

// newCollectCommand is "tuxwatch collect": pictures worth teaching.
func newCollectCommand() *cobra.Command {
	var f collectFlags
	cmd := &cobra.Command{
		Use:   "collect [--out DIR]",
		Short: "Keep the pictures that the model is least sure of",
		Long: `Keep the pictures that the model is least sure of: they are what it learns most
from. Look through the folder from time to time, put each picture into the folder
of its kind, and teach the model again.

Pictures come from the camera of the running daemon until Ctrl-C, or from a
folder with --from. A picture's uncertainty is 1 minus the distance of the two
best probabilities: 1 for 50 % and 50 %, 0.2 for 90 % and 10 %. What is less
uncertain than --uncertainty is not kept, nor what looks almost like a picture
that is kept already. The folder stays within --max-pictures and --max-bytes:
the most certain picture makes room for a less certain one. Only files that
collect has made are counted and removed.`,
		Example: `  tuxwatch collect
  tuxwatch collect --out unsure --from old-pictures --model my-model`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case f.out == "":
				return wrongUse("--out needs the name of a folder to keep pictures in")
			case !(f.uncertainty >= 0 && f.uncertainty <= 1):
				return wrongUse("--uncertainty %v is not between 0 and 1", f.uncertainty)
			case f.maxPictures < 1 || f.maxPictures > 100_000:
				return wrongUse("--max-pictures %d is not between 1 and 100000", f.maxPictures)
			case f.maxBytes < 1:
				return wrongUse("--max-bytes must be more than 0, as in 100MB")
			case f.interval < 0 || f.during < 0:
				return wrongUse("--interval and --for cannot be less than 0")
			case f.threads < 0 || f.threads > 64:
				return wrongUse("--threads %d is not between 0 and 64", f.threads)
			}
			return runCollect(cmd, f)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.out, "out", "unsure", "folder to keep the pictures in")
	flags.StringVar(&f.from, "from", "", "take the pictures from this folder instead of the daemon's camera")
	flags.StringVar(&f.model, "model", "", "folder of the model (default: the running daemon's, or the penguin model that came with tuxwatch)")
	flags.IntVar(&f.maxPictures, "max-pictures", 200, "most pictures to keep")
	flags.TextVar(&f.maxBytes, "max-bytes", config.Size(100_000_000), "most disk space to use, as in 100MB")
	flags.Float64Var(&f.uncertainty, "uncertainty", 0.2, "least uncertainty of a picture that is kept, 0 to 1")
	flags.DurationVar(&f.interval, "interval", time.Second, "least time between two pictures of the camera")
	flags.DurationVar(&f.during, "for", 0, "end after this time (default: at Ctrl-C)")
	flags.IntVar(&f.threads, "threads", 1, "threads that the model runs on; 0 for one each core, four at most")
	flags.StringVar(&f.camera, "camera", "camera", "name of the camera's module")
	flags.StringVar(&f.socket, "socket", "", socketUsage)
	flags.BoolVar(&f.asJSON, "json", false, "print one JSON object a line for each picture that is kept, and a last one that sums up")
	return cmd
}

func runCollect(cmd *cobra.Command, f collectFlags) error {
	ctx := cmd.Context()
	if f.during > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, f.during)
		defer cancel()
	}
	if f.model == "" && f.from == "" {
		f.model = daemonsModel(ctx, control.Client{Socket: f.socket})
	}
	classifier, err := openForWork(f.model, f.threads)
	if err != nil {
		return failed("%w", err)
	}
	defer classifier.Close()
	kept, err := openCollection(f.out, f.maxPictures, int64(f.maxBytes))
	if err != nil {
		return failed("%w", err)
	}
	c := &collector{
		classifier: classifier, kept: kept, least: f.uncertainty,
		out: cmd.OutOrStdout(), errOut: cmd.ErrOrStderr(), asJSON: f.asJSON,
	}
	if err := kept.remember(ctx, classifier); err != nil && ctx.Err() == nil {
		return failed("%w", err)
	}
	if f.from != "" {
		err = c.fromFolder(ctx, f.from)
	} else {
		err = c.fromCamera(ctx, daemonFrames(f.socket, f.camera), f.interval)
	}
	// Ctrl-C is how it ends; so is the time being over.
	if err != nil && ctx.Err() == nil {
		return failed("%w", err)
	}
	return c.sumUp(pictures.Name(f.out))
}

// daemonsModel is the folder of the model that a running daemon is configured
// with; empty when that cannot be known.
func daemonsModel(ctx context.Context, ask control.Client) string {
	cfg, err := ask.Configuration(ctx)
	if err != nil {
		return "" // a daemon that does not run is told of by the camera
	}
	for _, v := range cfg.Values {
		if v.Path == "modules.recognizer.settings.model" {
			model, _ := v.Value.(string)
			return model
		}
	}
	return ""
}

// collector looks at pictures and keeps the ones that are worth it.
type collector struct {
	classifier *vision.Classifier
	kept       *collection
	least      float64
	out        io.Writer
	errOut     io.Writer
	asJSON     bool

	seen, keptNow, sure, alike, bad int
}

// fromFolder looks at every picture in a folder.
func (c *collector) fromFolder(ctx context.Context, dir string) error {
	files, err := pictures.List(dir)
	if err != nil {
		return err
	}
	for _, file := range files {
		if err := ctx.Err(); err != nil {
			return err
		}
		data, err := file.Read(vision.DefaultMaxBytes)
		if err == nil {
			err = c.look(data, file.Path, time.Now())
		}
		if err != nil {
			if errors.As(err, new(*keepError)) {
				return err
			}
			c.bad++
			fmt.Fprintf(c.errOut, "left out: %s: %v\n", pictures.Name(file.Path), pictures.Reason(err))
		}
	}
	return nil
}

// fromCamera looks at the camera's pictures until ctx ends. A camera that is
// there at the beginning may be away for a while.
func (c *collector) fromCamera(ctx context.Context, f *frames, interval time.Duration) error {
	told := ""
	for first := true; ; first = false {
		frame, err := f.next(ctx)
		pause := interval
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && first:
			return err
		case err != nil:
			if told != err.Error() {
				told = err.Error()
				fmt.Fprintf(c.errOut, "no pictures; trying again: %v\n", err)
			}
			pause = max(pause, time.Second)
		default:
			told = ""
			if err := c.look(frame.Picture, frame.Source, frame.CaptureTime); err != nil {
				if errors.As(err, new(*keepError)) {
					return err
				}
				c.bad++
				fmt.Fprintf(c.errOut, "left out: picture %d of %s: %v\n", frame.Sequence, f.name, err)
			}
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil
		}
	}
}

// keepError is that a picture cannot be kept: the disk's fault, not the
// picture's.
type keepError struct{ error }

func (e *keepError) Unwrap() error { return e.error }

// look classifies a picture and keeps it if it is worth it.
func (c *collector) look(data []byte, source string, taken time.Time) error {
	result, err := c.classifier.Classify(data)
	if err != nil {
		return err
	}
	c.seen++
	unsure := uncertainty(result)
	if unsure < c.least {
		c.sure++
		return nil
	}
	like, removed, name, err := c.kept.offer(data, unsure, result.Embedding, taken)
	switch {
	case err != nil:
		return &keepError{fmt.Errorf("keeping a picture in %s: %w", pictures.Name(c.kept.dir), err)}
	case like != "":
		c.alike++
		return nil
	case name == "":
		c.sure++ // than all that are kept
		return nil
	}
	c.keptNow++
	return c.tell(name, source, unsure, result, removed)
}

// uncertainty is 1 where the two best labels are as likely, 0 where one is sure.
func uncertainty(result vision.Result) float64 {
	second := 0.0
	if len(result.Predictions) > 1 {
		second = result.Predictions[1].Probability
	}
	return 1 - min(max(result.Best().Probability-second, 0), 1)
}

func (c *collector) tell(name, source string, unsure float64, result vision.Result, removed []string) error {
	if c.asJSON {
		type prediction struct {
			Label       string  `json:"label"`
			Probability float64 `json:"probability"`
		}
		var predictions []prediction
		for _, p := range result.Predictions {
			predictions = append(predictions, prediction(p))
		}
		return printJSON(c.out, map[string]any{
			"kept": name, "source": source, "uncertainty": unsure, "predictions": predictions, "removed": removed,
		})
	}
	best := result.Best()
	line := fmt.Sprintf("kept %s: only %s sure that it is %s", name, percent(best.Probability), best.Label)
	if len(removed) > 0 {
		line += fmt.Sprintf("; removed %s, more certain, for it", pictures.Name(removed[0]))
		if len(removed) > 1 {
			line += fmt.Sprintf(" and %d others", len(removed)-1)
		}
	}
	_, err := fmt.Fprintln(c.out, line)
	return err
}

func (c *collector) sumUp(dir string) error {
	n, bytes := c.kept.size()
	if c.asJSON {
		return printJSON(c.out, map[string]any{
			"seen": c.seen, "keptNow": c.keptNow, "sure": c.sure, "alike": c.alike, "unusable": c.bad,
			"folder": dir, "pictures": n, "bytes": bytes,
		})
	}
	_, err := fmt.Fprintf(c.out, `Looked at %d pictures: kept %d; sure enough about %d; %d were almost the same as one that is kept; %d could not be used.
%s holds %d pictures, %.1f MB. Put each into the folder of its kind, and teach again.
`, c.seen, c.keptNow, c.sure, c.alike, c.bad, dir, n, float64(bytes)/1e6)
	return err
}
