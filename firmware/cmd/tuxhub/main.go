// Tuxhub is a cloud hub in one program: Azure IoT Hub's device interface, with
// its state in one folder, for trying tuxwatch out and for a single site.
//
// This package is the command line around package hub: one file per command.
// Exit codes: 0 done, 1 failed, 2 wrong use.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, newRoot(), os.Args[1:])
	stop()
	os.Exit(code)
}

// usageError is an error in how the program was called.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// silentError ends the program with code 1; what there is to say has been said.
type silentError struct{ error }

func run(ctx context.Context, root *cobra.Command, args []string) int {
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	var usage usageError
	var silent silentError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &usage):
		fmt.Fprintf(root.ErrOrStderr(), "tuxhub: %v\nRun 'tuxhub --help' or 'tuxhub COMMAND --help' for usage.\n", err)
		return 2
	case errors.As(err, &silent):
		return 1
	default:
		fmt.Fprintf(root.ErrOrStderr(), "tuxhub: %v\n", err)
		return 1
	}
}
