// Command bench measures tuxwatch beside programs that do the same job, in one
// run on one machine, and prints ratios. It is started by scripts/bench/run,
// which installs the peers.
//
// It is for comparing as a whole; the packages' own Go benchmarks are for
// looking at one function. Start with bench.run and the file of a part:
// vision.go, flow.go, outbox.go, memory.go.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:]))
}

// bench is one run.
type bench struct {
	root   string // of the source tree
	dir    string // working folder
	rounds int
	only   []string
	asJSON bool

	result Result
	// nodeRED is what Node-RED's memory was after its part of the flow.
	nodeRED *Sample
}

// The parts, in the order in which they run.
var parts = []struct {
	name string
	run  func(*bench, context.Context) error
}{
	{"vision", (*bench).vision},
	{"flow", (*bench).flow},
	{"outbox", (*bench).outbox},
	{"memory", (*bench).memory},
}

func run(ctx context.Context, args []string) (exit int) {
	b, err := parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		fmt.Fprintf(os.Stderr, "bench: %v\n", err)
		return 2
	}
	if err := b.run(ctx); err != nil {
		fmt.Fprintf(os.Stderr, "bench: %v\n", err)
		return 1
	}
	return 0
}

func parse(args []string) (*bench, error) {
	b := &bench{}
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	var names []string
	for _, p := range parts {
		names = append(names, p.name)
	}
	only := f.String("only", strings.Join(names, ","), "the `parts` to run")
	f.BoolVar(&b.asJSON, "json", false, "print the result as JSON")
	f.IntVar(&b.rounds, "rounds", 5, "how often each measurement is done; the median counts")
	f.StringVar(&b.root, "root", ".", "the source tree, built")
	f.StringVar(&b.dir, "dir", "", "working `folder`, on a disk (default build/bench)")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	if f.NArg() > 0 {
		return nil, fmt.Errorf("unexpected argument %q", f.Arg(0))
	}
	if b.rounds < 1 {
		return nil, fmt.Errorf("--rounds %d: at least 1", b.rounds)
	}
	b.only = strings.Split(*only, ",")
	for _, name := range b.only {
		if !slices.Contains(names, name) {
			return nil, fmt.Errorf("--only: there is no part %q; there are %s", name, strings.Join(names, ", "))
		}
	}
	var err error
	if b.root, err = filepath.Abs(b.root); err != nil {
		return nil, err
	}
	if b.dir == "" {
		b.dir = filepath.Join(b.root, "build", "bench")
	}
	b.dir, err = filepath.Abs(b.dir)
	return b, err
}

// run does the parts and prints the result. What was measured before a part
// failed is printed as well.
func (b *bench) run(ctx context.Context) error {
	if err := os.MkdirAll(b.dir, 0o755); err != nil {
		return err
	}
	var err error
	if b.result.Machine, err = lookAround(b.dir); err != nil {
		return err
	}
	start := time.Now()
	var failed []error
	for _, p := range parts {
		if !slices.Contains(b.only, p.name) {
			continue
		}
		if err := p.run(b, ctx); err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", p.name, err))
		}
		if ctx.Err() != nil {
			return errors.New("interrupted")
		}
	}
	b.say("done in %v", time.Since(start).Round(time.Second))
	if len(failed) == 0 { // otherwise it is for looking at
		for _, used := range []string{"device", "node-red", "outbox", "pictures"} {
			if err := os.RemoveAll(filepath.Join(b.dir, used)); err != nil {
				failed = append(failed, err)
			}
		}
	}
	bar := b.result.check()
	b.result.Passed = b.result.Passed && len(failed) == 0
	return errors.Join(append(failed, bar, b.write())...)
}

// write prints the result and keeps it as JSON.
func (b *bench) write() error {
	f, err := os.Create(filepath.Join(b.dir, "result.json"))
	if err != nil {
		return err
	}
	defer f.Close()
	if err := b.result.writeJSON(f); err != nil {
		return err
	}
	if b.asJSON {
		return b.result.writeJSON(os.Stdout)
	}
	return b.result.writeTable(os.Stdout)
}

// say tells what is going on.
func (b *bench) say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "bench: "+format+"\n", args...)
}

func (b *bench) add(figures ...Figure) { b.result.Figures = append(b.result.Figures, figures...) }

func (b *bench) note(format string, args ...any) {
	b.result.Notes = append(b.result.Notes, fmt.Sprintf(format, args...))
}

// fresh makes an empty folder in the working folder.
func (b *bench) fresh(name string) (string, error) {
	dir := filepath.Join(b.dir, name)
	if err := os.RemoveAll(dir); err != nil {
		return "", err
	}
	return dir, os.MkdirAll(dir, 0o700)
}
