package main

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"tuxwatch/firmware/modules"
	"tuxwatch/firmware/provision"
)

func newProvisionCommand() *cobra.Command {
	var card, root string
	var dryRun, asJSON bool
	cmd := &cobra.Command{
		Use:    "provision",
		Hidden: true, // for the unit tuxwatch-provision.service and for trying out
		Short:  "Apply what is on the card's FAT partition",
		Long: `Apply what is on the card's FAT partition: configuration, ssh keys, wireless
network, host name, the hub's connection string. Secrets are moved from the card
to the device. What became of each file is printed and written to
tuxwatch/REPORT.txt on the card.

The exit status is 0 whatever is in the files, 2 if one of the folders is not there.`,
		Example: "  sudo tuxwatch provision --dry-run",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o := provision.Options{Card: card, Root: root, DryRun: dryRun, Kinds: modules.Kinds(nil)}
			if filepath.Clean(root) == "/" {
				o.SetHostname = func(name string) error { return unix.Sethostname([]byte(name)) }
			}
			report, err := provision.Run(cmd.Context(), o)
			switch {
			case report == nil: // a folder could not be opened
				return wrongUse("%w; name the folder with --card or --root", err)
			case err != nil:
				return failed("%w", err)
			case asJSON:
				return printJSON(cmd.OutOrStdout(), report)
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), strings.TrimSpace(report.Text()))
			return err
		},
	}
	cmd.Flags().StringVar(&card, "card", "/boot/firmware", "the `FOLDER` where the FAT partition is mounted")
	cmd.Flags().StringVar(&root, "root", "/", "the device's root `FOLDER`")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "say what would be done and change nothing")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}
