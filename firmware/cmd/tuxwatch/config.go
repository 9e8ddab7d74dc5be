package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"tuxwatch/firmware/config"
	"tuxwatch/firmware/control"
	"tuxwatch/firmware/modules"
)

func newConfigCommand() *cobra.Command {
	return group(&cobra.Command{
		Use:   "config",
		Short: "Check and edit configuration files and show what is in effect",
	}, newConfigValidateCommand(), newConfigShowCommand(), newConfigEditCommand())
}

func newConfigValidateCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "validate [FILE…]",
		Short: "Tell whether configuration files are valid, and where they are not",
		Long: `Tell whether configuration files are valid, and where they are not.

Without FILE it is ` + config.DefaultPath + `; - is the standard input.
The exit status is 0 if all files are valid, 3 if one is not, and 1 if one cannot be read.`,
		Example: "  tuxwatch config validate ./tuxwatch.yaml",
		RunE: func(cmd *cobra.Command, files []string) error {
			if len(files) == 0 {
				files = []string{config.DefaultPath}
			}
			return validate(cmd.InOrStdin(), cmd.OutOrStdout(), files, asJSON)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object a line for each file")
	return cmd
}

// validated is what config validate --json prints.
type validated struct {
	File     string           `json:"file"`
	Valid    bool             `json:"valid"`
	Problems []config.Problem `json:"problems,omitempty"`
	Warnings []config.Problem `json:"warnings,omitempty"`
}

func validate(stdin io.Reader, out io.Writer, files []string, asJSON bool) error {
	code := 0
	var unreadable []error
	for _, file := range files {
		cfg, err := load(stdin, file)
		var invalid *config.Error
		result := validated{File: file, Valid: err == nil}
		switch {
		case errors.As(err, &invalid):
			code = 3
			result.Problems = invalid.Problems
		case err != nil:
			unreadable = append(unreadable, err)
			continue
		default:
			result.Warnings = cfg.Warnings
		}
		if asJSON {
			if err := printJSON(out, result); err != nil {
				return err
			}
			continue
		}
		for _, p := range result.Problems {
			fmt.Fprintln(out, p)
		}
		for _, p := range result.Warnings {
			fmt.Fprintf(out, "%v (warning)\n", p)
		}
		if result.Valid {
			fmt.Fprintf(out, "%s: valid\n", file)
		}
	}
	if len(unreadable) > 0 {
		return exitError{code: 1, err: errors.Join(unreadable...)}
	}
	if code != 0 {
		return exitError{code: code}
	}
	return nil
}

func load(stdin io.Reader, file string) (*config.Config, error) {
	if file != "-" {
		return config.Load(file, modules.Kinds(nil))
	}
	data, err := io.ReadAll(io.LimitReader(stdin, config.MaxBytes+1))
	if err != nil {
		return nil, fmt.Errorf("reading the standard input: %w", err)
	}
	return config.Parse("(standard input)", data, modules.Kinds(nil))
}

func newConfigShowCommand() *cobra.Command {
	var asJSON, defaults bool
	var file, socket string
	cmd := &cobra.Command{
		Use:   "show",
		Short: "Show every value in effect and where it comes from",
		Long: `Show every value in effect and where it comes from: built-in (default), the
configuration file (FILE:LINE), or the device's twin at the hub (twin).

The daemon is asked. Where it does not run, the file is read, and what the twin
sets is not known. Secrets are hidden.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			shown, note, err := configuration(cmd.Context(), file, socket, defaults)
			if err != nil {
				var invalid *config.Error
				if errors.As(err, &invalid) {
					return exitError{code: 3, err: fmt.Errorf("the configuration is invalid:\n%w", err)}
				}
				return err
			}
			if note != "" {
				fmt.Fprintf(cmd.ErrOrStderr(), "tuxwatch: %s\n", note)
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), shown)
			}
			table := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			for _, v := range shown.Values {
				fmt.Fprintf(table, "%s\t%s\t%s\n", v.Path, v.Text(), v.Origin)
			}
			return table.Flush()
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	cmd.Flags().BoolVar(&defaults, "defaults", false, "show the built-in configuration alone")
	cmd.Flags().StringVar(&file, "file", "", "show what `FILE` would bring into effect, without asking the daemon")
	cmd.Flags().StringVar(&socket, "socket", "", socketUsage)
	cmd.MarkFlagsMutuallyExclusive("defaults", "file", "socket")
	return cmd
}

const socketUsage = "ask the daemon at this `SOCKET` (default $" + control.EnvSocket + ", or where it usually is)"

// configuration finds what to show: of the daemon, or of the file.
func configuration(ctx context.Context, file, socket string, defaults bool) (shown *control.Configuration, note string, err error) {
	if !defaults && file == "" {
		shown, err := control.Client{Socket: socket}.Configuration(ctx)
		if err == nil || socket != "" || !errors.Is(err, control.ErrNotRunning) {
			return shown, "", err
		}
		note = "tuxwatchd is not running; what the twin sets is not known"
		file = config.DefaultPath
	}
	var cfg *config.Config
	source := control.FromFile
	if !defaults {
		cfg, err = config.Load(file, modules.Kinds(nil))
	}
	if defaults || note != "" && errors.Is(err, fs.ErrNotExist) {
		source = control.FromBuiltIn
		cfg, err = config.Default(modules.Kinds(nil))
	}
	if err != nil {
		return nil, "", err
	}
	return &control.Configuration{File: cfg.File, Source: source, Values: cfg.Effective(nil, nil)}, note, nil
}
