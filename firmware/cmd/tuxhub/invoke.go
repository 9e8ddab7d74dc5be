package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"tuxwatch/firmware/hub"
)

func (a *app) invokeCommand() *cobra.Command {
	var asJSON bool
	timeout := hub.DefaultMethodTimeout
	cmd := &cobra.Command{
		Use:   "invoke DEVICE METHOD [JSON]",
		Short: "Call a direct method on a device and print its answer",
		Long: `Calls a direct method on a device and prints the JSON that it answers. It fails
when the device is not connected (404), does not answer in time (504), or answers
with a status of 400 or above.`,
		Args:              cobra.RangeArgs(2, 3),
		ValidArgsFunction: a.completeDevice,
		RunE: func(cmd *cobra.Command, args []string) error {
			var payload []byte
			if len(args) > 2 {
				payload = []byte(args[2])
			}
			if timeout <= 0 {
				return usagef("--timeout must be positive")
			}
			result, err := hub.NewClient(a.state).Invoke(cmd.Context(), args[0], args[1], payload, timeout)
			switch {
			case errors.Is(err, hub.ErrNotRunning):
				return a.needsHub(err)
			case errors.Is(err, hub.ErrMethodCall):
				return usageError{err}
			case errors.Is(err, hub.ErrDeviceOffline), errors.Is(err, hub.ErrDeviceNotFound):
				return fmt.Errorf("status 404: %w", err)
			case errors.Is(err, hub.ErrMethodTimeout):
				return fmt.Errorf("status 504: %w", err)
			case err != nil:
				return err
			}
			if asJSON {
				err = printJSON(cmd.OutOrStdout(), result)
			} else {
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s\n", result.Payload)
			}
			if err == nil && result.Status >= 400 {
				err = fmt.Errorf("the device answered with status %d", result.Status)
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON with status and payload")
	cmd.Flags().DurationVar(&timeout, "timeout", timeout, "how long to wait for the answer")
	return cmd
}
