package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tuxwatch/firmware/control"
	"tuxwatch/firmware/led"
)

// ledInterval is how often the daemon is asked, and ledPatience how long it may
// take to answer.
const (
	ledInterval = 2 * time.Second
	ledPatience = 5 * time.Second
)

func newLEDCommand() *cobra.Command {
	var class, socket string
	cmd := &cobra.Command{
		Use:    "led",
		Hidden: true, // for the unit tuxwatch-led.service and for trying out
		Short:  "Show with the board's light how the device is doing",
		Long: `Show with the board's light (ACT on a Raspberry Pi) how the device is doing, until
it is ended, and leave the light as it was. The most urgent counts:

` + ledTable() + `
Where there is no such light it says so and ends with 0.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			light, err := led.Find(class)
			if errors.Is(err, led.ErrNoLight) {
				fmt.Fprintf(cmd.OutOrStdout(), "%v: nothing to do\n", err)
				return nil
			}
			if err != nil {
				return failed("%w", err)
			}
			ask := control.Client{Socket: socket}
			look := time.NewTicker(ledInterval)
			defer look.Stop()
			err = led.Show(cmd.Context(), led.Options{
				Light: light,
				Look:  look.C,
				Status: func(ctx context.Context) (*control.Status, error) {
					ctx, cancel := context.WithTimeout(ctx, ledPatience)
					defer cancel()
					return ask.Status(ctx)
				},
				// The journal has times of its own.
				Log: slog.New(slog.NewTextHandler(cmd.OutOrStdout(), &slog.HandlerOptions{ReplaceAttr: withoutTime})),
			})
			if err != nil {
				return failed("%w", err)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&class, "class", "/sys/class/leds", "the `FOLDER` of the kernel's lights")
	cmd.Flags().StringVar(&socket, "socket", "", socketUsage)
	return cmd
}

func withoutTime(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 && a.Key == slog.TimeKey {
		return slog.Attr{}
	}
	return a
}

// ledTable says what each pattern means.
func ledTable() string {
	var table strings.Builder
	for _, p := range led.Patterns {
		fmt.Fprintf(&table, "  %-36s %s\n", p.Name, p.Meaning)
	}
	return table.String()
}
