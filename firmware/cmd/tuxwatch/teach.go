package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"tuxwatch/firmware/pictures"
	"tuxwatch/firmware/teach"
	"tuxwatch/firmware/vision"
	"tuxwatch/firmware/vision/litert"
)

// teachFlags are those of "tuxwatch teach".
type teachFlags struct {
	positive, negative, out string
	base, name              string
	labels                  []string
	threads, copies         int
	seed                    uint64
	asJSON                  bool

	fromCamera bool
	number     int
	countdown  time.Duration
	interval   time.Duration
	camera     string
	socket     string
}

// newTeachCommand is "tuxwatch teach": a model of one's own from two folders of
// pictures.
func newTeachCommand() *cobra.Command {
	var f teachFlags
	cmd := &cobra.Command{
		Use:   "teach --positive DIR --negative DIR --out DIR",
		Short: "Make a model of one's own from two folders of pictures",
		Long: `Make a model of one's own (a penguin, a mug, a cat, a gauge) from two folders of
pictures: one with what it is to recognize, one without. It takes seconds, on
this device, without a cloud. Five pictures of each do (at least three of each
and ten in all); more, in different light, places and sizes, are better. Leave
out of the second folder what you never see, and put into it what may be
mistaken for the first.

The folder that it writes has all that the recognizer needs, and a report
(report.html) that shows how well the model does on pictures it has not seen, and
what to photograph next. The daemon uses it when its path stands in the
configuration as modules.recognizer.settings.model; a running daemon switches by
itself. A model that is there already is replaced.

With --from-camera the pictures are first taken with the camera of the running
daemon, after a countdown, and put into the two folders.

Files that cannot be used are told, one line each, and left out. The same
pictures and --seed give the same model. The exit status is 0 if the model was
written and 1 if not.`,
		Example: `  tuxwatch teach --positive mug --negative noMug --out my-model
  tuxwatch teach --from-camera --positive mug --negative noMug --out my-model
  tuxwatch classify --model my-model photo.jpg`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.check(cmd); err != nil {
				return err
			}
			return runTeach(cmd, f)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.positive, "positive", "", "folder of pictures that show it")
	flags.StringVar(&f.negative, "negative", "", "folder of pictures that do not")
	flags.StringVar(&f.out, "out", "", "folder to write the model to")
	flags.StringVar(&f.base, "base", "", "folder of the model to build on (default: the penguin model that came with tuxwatch)")
	flags.StringVar(&f.name, "name", "", "name of the model (default: that of its folder)")
	flags.StringSliceVar(&f.labels, "labels", nil, "the two labels, as in mug,noMug (default: the names of the two folders)")
	flags.IntVar(&f.threads, "threads", 0, "threads that the model runs on (default: one each core, four at most)")
	flags.IntVar(&f.copies, "copies", 0, "changed copies of each picture (turned, lighter, blurred…) to learn from as well (default: 6, fewer for many pictures)")
	flags.Uint64Var(&f.seed, "seed", 1, "where chance begins; the same one gives the same model")
	flags.BoolVar(&f.asJSON, "json", false, "print the report as JSON")
	flags.BoolVar(&f.fromCamera, "from-camera", false, "take the pictures with the daemon's camera first")
	flags.IntVar(&f.number, "pictures", 10, "with --from-camera, how many of each kind to take")
	flags.DurationVar(&f.countdown, "countdown", 5*time.Second, "with --from-camera, time to get ready before each kind")
	flags.DurationVar(&f.interval, "interval", 2*time.Second, "with --from-camera, time between two pictures, to move things")
	flags.StringVar(&f.camera, "camera", "camera", "with --from-camera, the name of the camera's module")
	flags.StringVar(&f.socket, "socket", "", socketUsage)
	return cmd
}

// check finds what is wrong with the command line, and fills in labels and name.
func (f *teachFlags) check(cmd *cobra.Command) error {
	for _, needed := range []struct{ flag, value string }{{"positive", f.positive}, {"negative", f.negative}, {"out", f.out}} {
		if needed.value == "" {
			return wrongUse("--%s is missing: tuxwatch teach --positive DIR --negative DIR --out DIR", needed.flag)
		}
	}
	if f.threads < 0 || f.threads > 64 {
		return wrongUse("--threads %d is not between 0 and 64", f.threads)
	}
	if f.copies < 0 || f.copies > 50 {
		return wrongUse("--copies %d is not between 0 and 50", f.copies)
	}
	if f.number < 1 || f.number > 1000 {
		return wrongUse("--pictures %d is not between 1 and 1000", f.number)
	}
	if f.countdown < 0 || f.interval < 0 {
		return wrongUse("--countdown and --interval cannot be less than 0")
	}
	for _, only := range []string{"pictures", "countdown", "interval", "camera", "socket"} {
		if cmd.Flags().Changed(only) && !f.fromCamera {
			return wrongUse("--%s is for taking pictures; add --from-camera, or leave it out", only)
		}
	}
	var err error
	if f.labels == nil {
		if f.labels, err = folderNames(f.positive, f.negative); err != nil {
			return wrongUse("%w", err)
		}
	}
	if len(f.labels) != 2 {
		return wrongUse("--labels takes two labels, as in mug,noMug, not %d", len(f.labels))
	}
	if err := teach.CheckLabels([2]string(f.labels)); err != nil {
		return wrongUse("--labels: %w", err)
	}
	if f.name == "" {
		out, err := filepath.Abs(f.out)
		if err != nil {
			return failed("%w", err)
		}
		f.name = filepath.Base(out)
	}
	return nil
}

// folderNames gives the names of two folders as labels.
func folderNames(dirs ...string) ([]string, error) {
	var names []string
	for _, dir := range dirs {
		absolute, err := filepath.Abs(dir)
		if err != nil {
			return nil, err
		}
		names = append(names, filepath.Base(absolute))
	}
	if names[0] == names[1] {
		return nil, fmt.Errorf("both folders are called %q; say what the two kinds are called with --labels, as in mug,noMug", names[0])
	}
	return names, nil
}

func runTeach(cmd *cobra.Command, f teachFlags) error {
	// What would fail at the end is found at the beginning.
	if err := teach.CheckFolder(f.out); err != nil {
		return failed("--out %w", err)
	}
	library, err := litert.Load("")
	if err != nil {
		return failed("%w", err)
	}
	base, err := openBase(library, f.base, f.threads)
	if err != nil {
		return failed("%w", err)
	}
	defer base.Close()
	if f.fromCamera {
		if err := takePictures(cmd, f); err != nil {
			return err
		}
	}

	start := time.Now()
	progress := newProgress(cmd.ErrOrStderr(), "looking at the pictures")
	model, err := teach.Learn(cmd.Context(), base, teach.Options{
		Positive: f.positive, Negative: f.negative, Labels: [2]string(f.labels), Seed: f.seed, Copies: f.copies,
		Progress: progress.at,
		Remark:   func(r teach.Remark) { progress.line(remarkLine(r)) },
	})
	progress.end()
	if errors.Is(err, context.Canceled) {
		return failed("stopped; no model was written")
	}
	if err != nil {
		return failed("%w", err)
	}
	page, err := model.Page(f.name)
	if err != nil {
		return failed("making the report: %w", err)
	}
	if err := model.Write(f.out, teach.Folder{Name: f.name, Base: base, Page: page, Runtime: library}); err != nil {
		return failed("%w", err)
	}
	return reportTeaching(cmd, f, model, time.Since(start))
}

func reportTeaching(cmd *cobra.Command, f teachFlags, model *teach.Model, took time.Duration) error {
	out := cmd.OutOrStdout()
	dir, err := filepath.Abs(f.out)
	if err != nil {
		return failed("%w", err)
	}
	if f.asJSON {
		return printJSON(out, struct {
			Folder  string  `json:"folder"`
			Seconds float64 `json:"seconds"`
			teach.Report
		}{dir, took.Seconds(), model.Report})
	}
	if err := model.Report.Text(out); err != nil {
		return failed("writing the report: %w", err)
	}
	var use strings.Builder
	if hiddenFromDaemon(dir) {
		installed := filepath.Join("/var/lib/tuxwatch", filepath.Base(dir))
		fmt.Fprintf(&use, "\nThe daemon of an installed system does not see that folder. Copy it where it does:\n  sudo cp -r %s %s",
			quoteForShell(f.out), quoteForShell(installed))
		dir = installed
	}
	fmt.Fprintf(&use, "\nTo use it, set modules.recognizer.settings.model in the configuration to\n  %s", dir)
	if !strings.EqualFold(f.labels[0], "penguin") {
		fmt.Fprintf(&use, "\nand the desired property Label of imageReceiveProcessModule to %s", f.labels[0])
	}
	_, err = fmt.Fprintf(out, `
The model %s is in %s (%.1f s).
Look at %s in a browser, and try the model:
  tuxwatch classify --model %s PICTURE…%s
`, f.name, pictures.Name(f.out), took.Seconds(), teach.ReportPage, quoteForShell(f.out), use.String())
	return err
}

// hiddenFromDaemon tells whether the daemon's unit (ProtectHome, PrivateTmp)
// keeps a folder from it.
func hiddenFromDaemon(dir string) bool {
	for _, hidden := range []string{"/home", "/root", "/run/user", "/tmp", "/var/tmp"} {
		if strings.HasPrefix(dir, hidden+"/") {
			return true
		}
	}
	return false
}

// quoteForShell makes a path one word for a shell.
func quoteForShell(path string) string {
	if strings.ContainsFunc(path, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-+,@%", r))
	}) {
		return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
	}
	return path
}

func remarkLine(r teach.Remark) string {
	what := "left out"
	if r.Used {
		what = "note"
	}
	return fmt.Sprintf("%s: %s: %s", what, pictures.Name(r.File), r.Message)
}

// openBase opens the model that is built on.
func openBase(library *litert.Runtime, dir string, threads int) (*vision.Classifier, error) {
	dir, err := vision.FindModel(dir)
	if err != nil {
		return nil, fmt.Errorf("%w with --base", err)
	}
	if threads == 0 {
		threads = defaultThreads()
	}
	return vision.OpenClassifier(library, dir, threads, vision.Limits{})
}

func defaultThreads() int { return min(runtime.NumCPU(), 4) }

// progress shows how far a long work is: a bar on a terminal, a line now and
// then elsewhere.
type progress struct {
	out  io.Writer
	what string
	bars *mpb.Progress // nil where it is not a terminal
	bar  *mpb.Bar
	told int // tenths
}

func newProgress(out io.Writer, what string) *progress {
	p := &progress{out: out, what: what}
	if isTerminal(out) {
		p.bars = mpb.New(mpb.WithOutput(out), mpb.WithWidth(60))
	}
	return p
}

// at says that so much of all is done.
func (p *progress) at(done, all int) {
	if p.bars == nil {
		if tenth := 10 * done / all; tenth > p.told || done == all && p.told == 0 {
			p.told = tenth
			fmt.Fprintf(p.out, "%s: %d of %d\n", p.what, done, all)
		}
		return
	}
	if p.bar == nil {
		p.bar = p.bars.AddBar(int64(all),
			mpb.PrependDecorators(decor.Name(p.what+" "), decor.CountersNoUnit("%d of %d")),
			mpb.AppendDecorators(decor.AverageETA(decor.ET_STYLE_GO)))
	}
	p.bar.SetCurrent(int64(done))
}

// line prints a line, above the bar if there is one.
func (p *progress) line(text string) {
	if p.bars == nil {
		fmt.Fprintln(p.out, text)
		return
	}
	fmt.Fprintln(p.bars, text)
}

// end leaves the terminal in order, also when the work was broken off.
func (p *progress) end() {
	if p.bars == nil {
		return
	}
	if p.bar != nil {
		p.bar.Abort(false)
	}
	p.bars.Wait()
}
