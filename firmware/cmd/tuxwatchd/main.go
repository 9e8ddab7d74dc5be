// Command tuxwatchd is the daemon: it runs the modules, carries messages along
// the routes, keeps what is for the hub until the hub has it, and talks to the
// hub. This package is flags, configuration, wiring and systemd's protocol;
// what is wired is in the packages beside cmd. Start with daemon.run.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"tuxwatch/firmware/config"
	"tuxwatch/firmware/modules"
	"tuxwatch/firmware/provision"
	"tuxwatch/firmware/version"
)

// The exit codes of the daemon, as of the tuxwatch command.
const (
	exitDone    = 0
	exitFailed  = 1
	exitUsage   = 2
	exitInvalid = 3 // the configuration, with --check
)

// defaultState is where the state is when neither --state nor systemd's
// StateDirectory says.
const defaultState = "/var/lib/tuxwatch"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	// A second Ctrl-C ends the daemon at once; nothing is lost by it.
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// options are the daemon's flags.
type options struct {
	config         string
	configExplicit bool // given, not the default: it has to be there
	state          string
	logLevel       string
	check, version bool
	card           string // where the FAT partition is, to apply what is on it
}

func parseFlags(args []string, stderr io.Writer) (options, error) {
	var o options
	f := flag.NewFlagSet("tuxwatchd", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.Usage = func() {
		fmt.Fprintf(stderr, "Usage: tuxwatchd [options]\n\nRuns the modules and the connection to the hub until it is ended (Ctrl-C).\n\nOptions:\n")
		f.VisitAll(func(f *flag.Flag) {
			name, usage := flag.UnquoteUsage(f)
			if name != "" {
				name = " " + name
			}
			fmt.Fprintf(stderr, "  --%-18s %s\n", f.Name+name, usage)
		})
	}
	f.StringVar(&o.config, "config", config.DefaultPath, "`FILE` to configure from")
	f.StringVar(&o.state, "state", "", "`DIR` for what must survive a restart (default $STATE_DIRECTORY or "+defaultState+")")
	f.StringVar(&o.logLevel, "log-level", "", "`LEVEL` below which nothing is logged: "+strings.Join(config.LogLevels, ", ")+" (wins over the file's log.level)")
	f.BoolVar(&o.check, "check", false, "check the configuration and end: 0 valid, 3 invalid")
	f.StringVar(&o.card, "apply-card", "", "apply the settings on the card's FAT partition, mounted at `DIR`, as root, and end")
	f.BoolVar(&o.version, "version", false, "print the version and end")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	fail := func(format string, args ...any) (options, error) {
		err := fmt.Errorf(format, args...)
		fmt.Fprintf(stderr, "tuxwatchd: %v\n", err)
		return o, err
	}
	if f.NArg() > 0 {
		return fail("unexpected argument %q; a file is given with --config", f.Arg(0))
	}
	if err := (config.Log{Level: o.logLevel}).Validate(); o.logLevel != "" && err != nil {
		return fail("--log-level: %s", strings.TrimPrefix(err.Error(), "level: "))
	}
	f.Visit(func(f *flag.Flag) { o.configExplicit = o.configExplicit || f.Name == "config" })
	if o.state == "" {
		// systemd may give several, of which the first is the one meant.
		if o.state, _, _ = strings.Cut(os.Getenv("STATE_DIRECTORY"), ":"); o.state == "" {
			o.state = defaultState
		}
	}
	var err error
	if o.config, err = filepath.Abs(o.config); err != nil {
		return fail("%v", err)
	}
	if o.state, err = filepath.Abs(o.state); err != nil {
		return fail("%v", err)
	}
	return o, nil
}

// run is the whole program; it returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o, err := parseFlags(args, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return exitDone
	case err != nil:
		return exitUsage
	case o.version:
		fmt.Fprintln(stdout, version.Long("tuxwatchd"))
		return exitDone
	case o.check:
		return check(o, stdout, stderr)
	case o.card != "":
		return applyCard(ctx, o.card, stdout, stderr)
	}
	level := new(slog.LevelVar)
	d := &daemon{options: o, level: level, log: newLogger(level, stderr)}
	if err := d.run(ctx); err != nil {
		d.log.Error("the daemon ends", "error", err)
		return exitFailed
	}
	return exitDone
}

// applyCard does what "tuxwatch provision" does, whatever is in the files.
func applyCard(ctx context.Context, card string, stdout, stderr io.Writer) int {
	report, err := provision.Run(ctx, provision.Options{
		Card: card, Root: "/", Kinds: modules.Kinds(nil),
		SetHostname: func(name string) error { return unix.Sethostname([]byte(name)) },
	})
	switch {
	case report == nil: // a folder could not be opened
		fmt.Fprintf(stderr, "tuxwatchd: --apply-card: %v\n", err)
		return exitUsage
	case err != nil:
		fmt.Fprintf(stderr, "tuxwatchd: --apply-card: %v\n", err)
		return exitFailed
	}
	fmt.Fprintln(stdout, strings.TrimSpace(report.Text()))
	return exitDone
}

// check validates the configuration, and does nothing else.
func check(o options, stdout, stderr io.Writer) int {
	cfg, err := config.Load(o.config, modules.Kinds(nil))
	if errors.Is(err, os.ErrNotExist) && !o.configExplicit {
		fmt.Fprintf(stdout, "%s: is not there; the built-in configuration is used\n", o.config)
		return exitDone
	}
	var invalid *config.Error
	switch {
	case errors.As(err, &invalid):
		fmt.Fprintln(stderr, invalid)
		return exitInvalid
	case err != nil:
		fmt.Fprintf(stderr, "tuxwatchd: %v\n", err)
		return exitFailed
	}
	for _, w := range cfg.Warnings {
		fmt.Fprintf(stdout, "%v (warning)\n", w)
	}
	fmt.Fprintf(stdout, "%s: valid\n", o.config)
	return exitDone
}
