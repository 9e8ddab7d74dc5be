package main

import (
	"github.com/spf13/cobra"

	"tuxwatch/firmware/cmd/manpage"
	"tuxwatch/firmware/hub"
	"tuxwatch/firmware/version"
)

func manCommand() *cobra.Command {
	return manpage.NewCommand(manpage.Text{
		Source: "tuxhub " + version.String(),
		Environment: []manpage.Item{
			{Term: "TUXHUB_STATE", Meaning: "The folder of the hub's state."},
		},
		Files: []manpage.Item{
			{Term: hub.DefaultState(), Meaning: "The hub's state where neither --state nor TUXHUB_STATE says."},
		},
		ExitStatus: []manpage.Item{
			{Term: "0", Meaning: "Done."},
			{Term: "1", Meaning: "Failed."},
			{Term: "2", Meaning: "Used wrongly."},
		},
		SeeAlso: []string{"tuxwatch(1)"},
	})
}
