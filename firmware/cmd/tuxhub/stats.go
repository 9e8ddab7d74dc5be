package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"tuxwatch/firmware/hub"
)

func (a *app) statsCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "stats",
		Short: "Count events, and duplicates among them",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withRegistry(cmd.Context(), func(r registry) error {
				stats, err := r.Stats()
				if err != nil {
					return err
				}
				if asJSON {
					return printJSON(cmd.OutOrStdout(), stats)
				}
				return printStats(cmd.OutOrStdout(), stats)
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func (a *app) statusCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Tell where the hub listens and who is connected",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			st, err := hub.NewClient(a.state).Status(cmd.Context())
			if err != nil {
				return a.needsHub(err)
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), st)
			}
			return printStatus(cmd.OutOrStdout(), st)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func printStats(out io.Writer, stats hub.Stats) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "DEVICE\tRECEIVED\tKEPT\tDISTINCT\tDUPLICATES")
	for _, d := range stats.Devices {
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\n", d.Device, d.Received, d.Events, d.Distinct, d.Duplicates)
	}
	return w.Flush()
}

func printStatus(out io.Writer, st hub.Status) error {
	var b strings.Builder
	for _, l := range []struct{ name, address string }{
		{"MQTT over TLS", st.TLSListen}, {"MQTT", st.Listen}, {"JSON API", st.HTTP}, {"authority", st.CAFile},
	} {
		if l.address != "" {
			fmt.Fprintf(&b, "%-14s %s\n", l.name, l.address)
		}
	}
	connected := "none"
	if len(st.Connected) > 0 {
		connected = strings.Join(st.Connected, ", ")
	}
	fmt.Fprintf(&b, "%-14s %s\n%-14s %d since the start\n", "connected", connected, "refused", st.Refused)
	_, err := io.WriteString(out, b.String())
	return err
}
