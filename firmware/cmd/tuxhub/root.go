package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"tuxwatch/firmware/hub"
	"tuxwatch/firmware/version"
)

// app holds the flags that every command has.
type app struct {
	state string
}

func newRoot() *cobra.Command {
	a := &app{}
	root := &cobra.Command{
		Use:   "tuxhub",
		Short: "An embedded cloud hub with Azure IoT Hub's device interface",
		Long: `tuxhub is a cloud hub in one program: Azure IoT Hub's device interface over
MQTT 3.1.1, with its state in one folder. Start it with "tuxhub serve", register
a device with "tuxhub device add ID", and watch with "tuxhub monitor".`,
		Version:       version.Long("tuxhub"),
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return cmd.Help()
		},
	}
	root.SetVersionTemplate("{{.Version}}\n")
	root.PersistentFlags().StringVar(&a.state, "state", hub.DefaultState(), "`folder` of the hub's state; $TUXHUB_STATE sets the default")
	_ = root.MarkPersistentFlagDirname("state")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.AddCommand(a.serveCommand(), a.deviceCommand(), a.monitorCommand(), a.twinCommand(), a.invokeCommand(),
		a.sendCommand(), a.statsCommand(), a.statusCommand(), manCommand())
	wrongUse(root)
	return root
}

// wrongUse makes errors about arguments errors of use, on every command.
func wrongUse(cmd *cobra.Command) {
	if check := cmd.Args; check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			if err := check(cmd, args); err != nil {
				return usageError{err}
			}
			return nil
		}
	}
	for _, sub := range cmd.Commands() {
		wrongUse(sub)
	}
}

// group is a command that only holds others.
func group(use, short string, subs ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use: use, Short: short,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("unknown command %q for %q", args[0], cmd.CommandPath())
			}
			return cmd.Help()
		},
	}
	cmd.AddCommand(subs...)
	return cmd
}

// registry is what works with the hub running or not.
type registry interface {
	AddDevice(id string) (hub.Device, error)
	Device(id string) (hub.Device, error)
	Devices() ([]hub.Device, error)
	RemoveDevice(id string) error
	SetEnabled(id string, enabled bool) error
	RegenerateKeys(id string) (hub.Device, error)
	Twin(ctx context.Context, device string) (hub.Twin, error)
	SetDesired(ctx context.Context, device string, patch []byte) (int64, error)
	Stats() (hub.Stats, error)
}

// withRegistry calls f with the running hub, or with its files when it is not running.
func (a *app) withRegistry(ctx context.Context, f func(registry) error) error {
	client := hub.NewClient(a.state)
	_, err := client.Status(ctx)
	if err == nil {
		return f(client)
	}
	if !errors.Is(err, hub.ErrNotRunning) {
		return err
	}
	state, err := hub.OpenState(a.state, nil)
	if errors.Is(err, hub.ErrStateInUse) {
		// A hub that has only just started has the folder, but no socket yet.
		if _, again := client.Status(ctx); again == nil {
			return f(client)
		}
	}
	if err != nil {
		return err
	}
	return errors.Join(f(state), state.Close())
}

// needsHub tells how to start the hub, when that is what is missing.
func (a *app) needsHub(err error) error {
	if !errors.Is(err, hub.ErrNotRunning) {
		return err
	}
	command := "tuxhub serve"
	if a.state != hub.DefaultState() {
		command += " --state " + a.state
	}
	return fmt.Errorf("no hub is running on the state folder %s; start it with: %s", a.state, command)
}

// printJSON prints v as one line.
func printJSON(w io.Writer, v any) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return err
	}
	_, err := w.Write(b.Bytes())
	return err
}

// printable keeps what devices sent from playing with the terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\t' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return '·'
		}
		return r
	}, s)
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	st, err := f.Stat()
	return err == nil && st.Mode()&os.ModeCharDevice != 0
}
