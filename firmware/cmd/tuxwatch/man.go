package main

import (
	"github.com/spf13/cobra"

	"tuxwatch/firmware/cmd/manpage"
	"tuxwatch/firmware/config"
	"tuxwatch/firmware/control"
	"tuxwatch/firmware/version"
)

func newManCommand() *cobra.Command {
	return manpage.NewCommand(manpage.Text{
		Source: "tuxwatch " + version.String(),
		Files: []manpage.Item{
			{Term: config.DefaultPath, Meaning: "The daemon's configuration, see tuxwatch.yaml(5)."},
			{Term: control.DefaultSockets[0], Meaning: "The running daemon's socket, open to the group tuxwatch."},
		},
		Environment: []manpage.Item{
			{Term: control.EnvSocket, Meaning: "The socket to ask the daemon at."},
			{Term: "VISUAL, EDITOR", Meaning: "The editor of config edit."},
		},
		ExitStatus: []manpage.Item{
			{Term: "0", Meaning: "Done."},
			{Term: "1", Meaning: "Failed."},
			{Term: "2", Meaning: "Used wrongly."},
			{Term: "3", Meaning: "A configuration is invalid."},
		},
		SeeAlso: []string{"tuxwatchd(8)", "tuxwatch.yaml(5)", "tuxhub(1)"},
	})
}
