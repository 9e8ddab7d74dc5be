package main

import (
	"errors"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"tuxwatch/firmware/hub"
)

func (a *app) deviceCommand() *cobra.Command {
	return group("device", "The device registry",
		a.deviceAdd(), a.deviceList(), a.deviceShow(), a.deviceRemove(),
		a.deviceEnable("enable", "Let a device sign in again", true),
		a.deviceEnable("disable", "Refuse a device, and end its connection", false),
		a.deviceRegenerate())
}

// shown is a device as --json prints it.
type shown struct {
	hub.Device
	ConnectionString          string `json:"connectionString"`
	SecondaryConnectionString string `json:"secondaryConnectionString"`
}

// deviceFlags are those of commands that print a connection string.
type deviceFlags struct {
	json bool
	host string
}

func (f *deviceFlags) add(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&f.json, "json", false, "print JSON")
	cmd.Flags().StringVar(&f.host, "host", "localhost", "host `name` that the device reaches the hub under")
}

func (f *deviceFlags) print(cmd *cobra.Command, d hub.Device) error {
	if !f.json {
		_, err := fmt.Fprintln(cmd.OutOrStdout(), d.ConnectionString(f.host))
		return err
	}
	second := d
	second.PrimaryKey = d.SecondaryKey
	return printJSON(cmd.OutOrStdout(), shown{d, d.ConnectionString(f.host), second.ConnectionString(f.host)})
}

func (f *deviceFlags) check() error {
	if !hub.ValidHost(f.host) {
		return usagef("--host %q is not a host name or address (the port is not part of a connection string)", f.host)
	}
	return nil
}

func (a *app) deviceAdd() *cobra.Command {
	var flags deviceFlags
	var existOK bool
	cmd := &cobra.Command{
		Use:   "add ID",
		Short: "Register a device and print its connection string",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := flags.check(); err != nil {
				return err
			}
			return a.withRegistry(cmd.Context(), func(r registry) error {
				d, err := r.AddDevice(args[0])
				switch {
				case errors.Is(err, hub.ErrDeviceExists) && existOK:
					d, err = r.Device(args[0])
				case errors.Is(err, hub.ErrDeviceExists):
					return fmt.Errorf("%w; see its connection string with: tuxhub device show %s", err, args[0])
				case errors.Is(err, hub.ErrDeviceID):
					return usageError{err}
				}
				if err != nil {
					return err
				}
				return flags.print(cmd, d)
			})
		},
	}
	flags.add(cmd)
	cmd.Flags().BoolVar(&existOK, "exist-ok", false, "print the connection string of a device that is there already, too")
	return cmd
}

func (a *app) deviceShow() *cobra.Command {
	return a.devicePrint("show", "Print a device's connection string again", registry.Device)
}

func (a *app) deviceRegenerate() *cobra.Command {
	return a.devicePrint("regenerate", "Replace both keys of a device, end its connection, and print the new connection string", registry.RegenerateKeys)
}

// devicePrint is a command that prints the connection string of the device that
// get returns.
func (a *app) devicePrint(use, short string, get func(registry, string) (hub.Device, error)) *cobra.Command {
	var flags deviceFlags
	cmd := &cobra.Command{
		Use:               use + " ID",
		Short:             short,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeDevice,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := flags.check(); err != nil {
				return err
			}
			return a.withRegistry(cmd.Context(), func(r registry) error {
				d, err := get(r, args[0])
				if err != nil {
					return err
				}
				return flags.print(cmd, d)
			})
		},
	}
	flags.add(cmd)
	return cmd
}

func (a *app) deviceList() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the registered devices",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withRegistry(cmd.Context(), func(r registry) error {
				devices, err := r.Devices()
				if err != nil {
					return err
				}
				// A list is looked at over shoulders: keys are for show.
				type entry struct {
					ID        string    `json:"deviceId"`
					Enabled   bool      `json:"enabled"`
					Connected bool      `json:"connected"`
					Created   time.Time `json:"created"`
				}
				if asJSON {
					for _, d := range devices {
						if err := printJSON(cmd.OutOrStdout(), entry{d.ID, d.Enabled, d.Connected, d.Created}); err != nil {
							return err
						}
					}
					return nil
				}
				w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
				fmt.Fprintln(w, "DEVICE\tSTATUS\tCONNECTED\tCREATED")
				for _, d := range devices {
					status, connected := "enabled", "no"
					if !d.Enabled {
						status = "disabled"
					}
					if d.Connected {
						connected = "yes"
					}
					fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", d.ID, status, connected, d.Created.Local().Format("2006-01-02 15:04"))
				}
				return w.Flush()
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object a line")
	return cmd
}

func (a *app) deviceRemove() *cobra.Command {
	return &cobra.Command{
		Use:               "remove ID",
		Aliases:           []string{"rm"},
		Short:             "Forget a device and its twin; its events stay",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeDevice,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withRegistry(cmd.Context(), func(r registry) error { return r.RemoveDevice(args[0]) })
		},
	}
}

func (a *app) deviceEnable(use, short string, enabled bool) *cobra.Command {
	return &cobra.Command{
		Use:               use + " ID",
		Short:             short,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeDevice,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withRegistry(cmd.Context(), func(r registry) error { return r.SetEnabled(args[0], enabled) })
		},
	}
}

// completeDevice offers the registered devices for the first argument.
func (a *app) completeDevice(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	var ids []string
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveDefault
	}
	err := a.withRegistry(cmd.Context(), func(r registry) error {
		devices, err := r.Devices()
		for _, d := range devices {
			ids = append(ids, d.ID)
		}
		return err
	})
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	return ids, cobra.ShellCompDirectiveNoFileComp
}
