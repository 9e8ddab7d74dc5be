package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"tuxwatch/firmware/check"
	"tuxwatch/firmware/config"
	"tuxwatch/firmware/control"
	"tuxwatch/firmware/modules"
	"tuxwatch/firmware/vision"
	"tuxwatch/firmware/vision/litert"
)

func newCheckCommand() *cobra.Command {
	var asJSON bool
	var file, state, socket string
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Go through everything the device needs and say what is wrong and what to do",
		Long: `Go through everything the device needs and say what is wrong and what to do:
configuration, daemon, sensor bus, camera, model, listeners, disk, clock, DNS,
hub, certificates, watchdog, and on the card image slot and data partition.

Where the daemon runs it is asked, else what it would use is tried. Some of it
only root may look at.

The exit status is 0 if all is well or there are but warnings, 1 if something
fails, 3 if the configuration is invalid.`,
		Example: "  sudo tuxwatch check",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o, closeModel, err := checkOptions(cmd.Context(), file, state, socket)
			if err != nil {
				return err
			}
			defer closeModel()
			return runCheck(cmd.Context(), cmd.OutOrStdout(), o, asJSON)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object a line for each finding")
	cmd.Flags().StringVar(&file, "file", "", "check with the configuration `FILE` (default: the daemon's, or "+config.DefaultPath+")")
	cmd.Flags().StringVar(&state, "state", "/var/lib/tuxwatch", "the daemon's state `DIR`")
	cmd.Flags().StringVar(&socket, "socket", "", socketUsage)
	return cmd
}

// runCheck prints findings as they come and sums them up in the exit status.
func runCheck(ctx context.Context, out io.Writer, o check.Options, asJSON bool) error {
	var failing error
	counts := map[check.Result]int{}
	check.Run(ctx, o, func(f check.Finding) {
		counts[f.Result]++
		if asJSON {
			failing = errors.Join(failing, printJSON(out, f))
			return
		}
		name := f.Check
		if f.Subject != "" {
			name += " " + f.Subject
		}
		_, err := fmt.Fprintf(out, "%-4s  %s: %s\n", f.Result, name, indentFurther(f.Text))
		if f.Remedy != "" && err == nil {
			_, err = fmt.Fprintf(out, "      → %s\n", indentFurther(f.Remedy))
		}
		failing = errors.Join(failing, err)
	})
	if err := context.Cause(ctx); err != nil {
		return failed("the check was not finished: %w", err)
	}
	if failing != nil {
		return failed("writing the findings: %w", failing)
	}
	if !asJSON {
		fmt.Fprintf(out, "%d ok, %d warnings, %d failures\n", counts[check.OK], counts[check.Warn], counts[check.Fail])
	}
	switch {
	case len(o.ConfigProblems) > 0:
		return exitError{code: 3}
	case counts[check.Fail] > 0:
		return exitError{code: 1}
	}
	return nil
}

// indentFurther keeps a text of several lines below its first.
func indentFurther(text string) string {
	return strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n      ")
}

// checkOptions finds the daemon and its configuration. closeModel is to be
// called after the check.
func checkOptions(ctx context.Context, file, state, socket string) (o check.Options, closeModel func(), err error) {
	o = check.Options{State: state, Log: slog.New(slog.DiscardHandler)}
	// A daemon started by hand has its socket with its state.
	if beside := filepath.Join(state, control.SocketName); socket == "" && os.Getenv(control.EnvSocket) == "" && state != "/var/lib/tuxwatch" {
		socket = beside
	}
	status, err := control.Client{Socket: socket}.Status(ctx)
	switch {
	case err == nil:
		o.Daemon = status
		if file == "" {
			file = status.Config.File
		}
	case !errors.Is(err, control.ErrNotRunning):
		o.DaemonError = err
	}
	explicit := file != ""
	if !explicit {
		file = config.DefaultPath
	}

	var runtime vision.Runtime
	if library, err := litert.Load(""); err == nil {
		runtime = library
	} else {
		runtime = noLibrary{err}
	}
	useCredentials(serviceCredentials)
	pictures := vision.NewService(runtime)
	kinds := modules.Kinds(pictures)
	o.ConfigSource = control.FromFile
	o.Config, err = config.Load(file, kinds)
	var invalid *config.Error
	switch {
	case err == nil:
		return o, func() { pictures.Close() }, nil
	case errors.As(err, &invalid):
		o.ConfigProblems = invalid.Problems
	case errors.Is(err, fs.ErrNotExist) && !explicit:
	case errors.Is(err, fs.ErrNotExist) && o.Daemon != nil && o.Daemon.Config.Source == control.FromBuiltIn:
	case errors.Is(err, fs.ErrPermission):
		pictures.Close()
		return o, nil, failed("%w; run it with sudo", err)
	default:
		pictures.Close()
		return o, nil, failed("%w", err)
	}
	// What the daemon does with such a file: the last good one, or the built-in.
	if len(o.ConfigProblems) > 0 {
		if o.Config, err = config.Load(filepath.Join(state, "last-good.yaml"), kinds); err == nil {
			o.ConfigSource = control.FromLastGood
			return o, func() { pictures.Close() }, nil
		}
	}
	o.ConfigSource = control.FromBuiltIn
	if o.Config, err = config.Default(kinds); err != nil {
		pictures.Close()
		return o, nil, failed("the built-in configuration: %w", err)
	}
	return o, func() { pictures.Close() }, nil
}

// serviceCredentials is where systemd keeps the running service's credentials,
// for root to see.
const serviceCredentials = "/run/credentials/tuxwatchd.service"

// useCredentials makes the configuration see the credentials that the daemon
// sees.
func useCredentials(dir string) {
	if _, err := os.ReadDir(dir); err == nil && os.Getenv("CREDENTIALS_DIRECTORY") == "" {
		os.Setenv("CREDENTIALS_DIRECTORY", dir)
	}
}

// noLibrary stands in for the model's runtime where it cannot be loaded, so that
// the check of the model says why.
type noLibrary struct{ cause error }

func (noLibrary) Name() string { return "none" }

func (n noLibrary) Open(file string, _ int) (vision.Model, error) {
	return nil, fmt.Errorf("opening the model %s: %w", file, n.cause)
}
