// Command tuxwatch is the operator's command: how the daemon is doing, whether
// a configuration is valid and what is in effect, and trying out routes and
// pictures. One file per subcommand; the daemon itself is tuxwatchd.
//
// It ends with 0 when the work is done, 1 when it failed, 2 when it was used
// wrongly and 3 when a configuration is invalid.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/agnivade/levenshtein"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"tuxwatch/firmware/version"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the program at once
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run is the whole program; it returns the exit code.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	cmd, started := newCommand()
	cmd.SetArgs(args)
	cmd.SetIn(stdin)
	cmd.SetOut(stdout)
	cmd.SetErr(stderr)
	err := cmd.ExecuteContext(ctx)
	var exit exitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
	case *started:
		exit = exitError{code: 1, err: err}
	default:
		// The library found the command line wrong before anything began.
		exit = exitError{code: 2, err: err}
	}
	if exit.err != nil {
		fmt.Fprintf(stderr, "tuxwatch: %v\n", err)
	}
	return exit.code
}

// newCommand makes the command with all subcommands. started tells, once it has
// been executed, whether the command line was right.
func newCommand() (cmd *cobra.Command, started *bool) {
	started = new(bool)
	cmd = group(&cobra.Command{
		Use:               "tuxwatch",
		Short:             "Look after the edge-AI alarm on this device",
		Version:           version.String(),
		SilenceErrors:     true,
		SilenceUsage:      true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
	},
		newStatusCommand(),
		newConfigCommand(),
		newCheckCommand(),
		newRouteCommand(),
		newClassifyCommand(),
		newTeachCommand(),
		newEvaluateCommand(),
		newCollectCommand(),
		newSendImageCommand(),
		newMotdCommand(),
		newLEDCommand(),
		newProvisionCommand(),
		newCompletionCommand(),
		newManCommand(),
		newVersionCommand(),
	)
	cmd.SetVersionTemplate(version.Long("tuxwatch") + "\n")
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		hint := ""
		if name, ok := strings.CutPrefix(err.Error(), "unknown flag: --"); ok {
			if near := nearestFlag(cmd, name); near != "" {
				hint = fmt.Sprintf("; did you mean --%s?", near)
			}
		}
		return wrongUse("%w%s (%s --help shows what there is)", err, hint, cmd.CommandPath())
	})
	noteStart(cmd, started)
	return cmd, started
}

// noteStart makes every command say when it begins.
func noteStart(cmd *cobra.Command, started *bool) {
	if work := cmd.RunE; work != nil {
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			*started = true
			return work(cmd, args)
		}
	}
	for _, sub := range cmd.Commands() {
		noteStart(sub, started)
	}
}

// group makes a command of its subcommands: used without one, or with one that
// it does not have, it says which there are.
func group(cmd *cobra.Command, subcommands ...*cobra.Command) *cobra.Command {
	cmd.AddCommand(subcommands...)
	cmd.Args = cobra.ArbitraryArgs
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		var names []string
		for _, sub := range cmd.Commands() {
			if sub.IsAvailableCommand() {
				names = append(names, sub.Name())
			}
		}
		known := "there are: " + strings.Join(names, ", ")
		if len(args) == 0 {
			return wrongUse("%s needs a subcommand; %s (%s --help says more)", cmd.CommandPath(), known, cmd.CommandPath())
		}
		cmd.SuggestionsMinimumDistance = 2
		if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
			known = fmt.Sprintf("did you mean %q?", near[0])
		}
		return wrongUse("%s has no subcommand %q; %s", cmd.CommandPath(), args[0], known)
	}
	return cmd
}

func nearestFlag(cmd *cobra.Command, name string) string {
	name, _, _ = strings.Cut(name, "=")
	best, distance := "", 3
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if d := levenshtein.ComputeDistance(name, f.Name); d < distance && !f.Hidden {
			best, distance = f.Name, d
		}
	})
	return best
}

func newVersionCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if asJSON {
				return printJSON(cmd.OutOrStdout(), map[string]string{"version": version.String()})
			}
			_, err := fmt.Fprintln(cmd.OutOrStdout(), version.Long("tuxwatch"))
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}
