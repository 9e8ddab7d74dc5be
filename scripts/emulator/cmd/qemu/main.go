// Qemu is the program behind make qemu: it boots the card image on this machine,
// with a hub for its alerts, and takes commands that change what the emulated
// device sees. See qemu --help.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	root := command()
	root.SetArgs(os.Args[1:])
	if err := root.ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "scripts/qemu:", err)
		os.Exit(1)
	}
}

func command() *cobra.Command {
	o := options{build: buildFolder()}
	root := &cobra.Command{
		Use:   "scripts/qemu",
		Short: "Boot the card image on this machine, as a Raspberry Pi 3",
		Long: `Boots the card image on this machine, as a Raspberry Pi 3 in QEMU, with a hub for
its alerts. Each start takes a new card, made ready with a hub, an ssh key, a
thermometer and a camera; --disk takes a card of yours instead, as it is.

While it runs, the other commands change what the device sees: from another
terminal, scripts/qemu temperature 31.5. Ctrl-C ends it all.`,
		Example: `  make qemu
  make qemu ARGS='--disk card.img'    # a card of 2, 4, 8 … GiB, as make flash wrote it
  scripts/qemu picture models/samples/penguin-toy-desk.jpg`,
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE:          func(cmd *cobra.Command, _ []string) error { return o.run(cmd.Context(), cmd.OutOrStdout()) },
	}
	root.CompletionOptions.DisableDefaultCmd = true
	root.PersistentFlags().StringVar(&o.state, "state", o.built("qemu"), "`folder` of hub, keys and logs")
	flags := root.Flags()
	flags.StringVar(&o.image, "image", "", "card image; the newest that make image has built if not given")
	flags.StringVar(&o.disk, "disk", "", "card that is kept: `file` with what make flash wrote; nothing is put onto it")
	flags.BoolVar(&o.prepare, "prepare", false, "with --disk: put hub, key, thermometer and camera onto it")
	flags.IntVar(&o.memory, "mem", 0, "`MiB` of memory that Linux may use, as 512 for a Zero 2 W")
	flags.IntVar(&o.sshPort, "ssh-port", 2222, "`port` of 127.0.0.1 for ssh; a free one if it is taken")
	flags.IntVar(&o.hubPort, "hub-port", 8883, "`port` of 127.0.0.1 for the hub; a free one if it is taken")
	flags.StringVar(&o.key, "key", "", "your public ssh key `file`; those in ~/.ssh if not given")
	flags.StringVar(&o.arguments, "kernel-args", "", "`text` to add to the kernel's command line")
	flags.BoolVar(&o.console, "console", false, "print the serial console")

	for _, c := range []struct {
		use, short string
		args       cobra.PositionalArgs
	}{
		{"temperature CELSIUS", "Set what the thermometer measures", cobra.ExactArgs(1)},
		{"sensor off|on", "Take the thermometer off the I2C bus, or put it back", oneOf("off", "on")},
		{"picture FILE", "Show a picture, JPEG or PNG, to the camera, which is plugged in if it is not", cobra.ExactArgs(1)},
		{"camera off|on", "Unplug the camera, or plug it in", oneOf("off", "on")},
		{"camera-control NAME VALUE", "Set a control of the camera's driver (vivid), as disconnect 1", cobra.ExactArgs(2)},
		{"network off|on", "Pull the network cable, ssh included, or put it back", oneOf("off", "on")},
		{"type TEXT", "Type a line on the serial console (make qemu ARGS=--console shows it)", cobra.ExactArgs(1)},
		{"power-cut", "Take the power away", cobra.NoArgs},
		{"power-on", "Switch the device on again", cobra.NoArgs},
		{"screenshot FILE", "Write what the HDMI port shows, as PNG", cobra.ExactArgs(1)},
		{"save FOLDER", "Write console log, journal and screenshot into a folder", cobra.ExactArgs(1)},
	} {
		sub := &cobra.Command{Use: c.use, Short: c.short, Args: c.args, SilenceUsage: true, SilenceErrors: true}
		sub.RunE = func(cmd *cobra.Command, args []string) error {
			return o.ask(cmd.OutOrStdout(), append([]string{cmd.Name()}, args...))
		}
		root.AddCommand(sub)
	}
	return root
}

// buildFolder is the repository's folder build, where this program is built to:
// build/emulator/qemu.
func buildFolder() string {
	program, err := os.Executable()
	if err != nil {
		return "build"
	}
	return filepath.Dir(filepath.Dir(program))
}

// oneOf takes one argument out of those given.
func oneOf(words ...string) cobra.PositionalArgs {
	return cobra.MatchAll(cobra.ExactArgs(1), func(_ *cobra.Command, args []string) error {
		for _, word := range words {
			if args[0] == word {
				return nil
			}
		}
		return fmt.Errorf("it is one of %q, not %q", words, args[0])
	})
}
