package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"tuxwatch/firmware/hub"
)

func (a *app) sendCommand() *cobra.Command {
	var asJSON bool
	var properties map[string]string
	var m hub.Bound
	cmd := &cobra.Command{
		Use:   "send DEVICE BODY",
		Short: "Send a device a message, which waits for it while it is offline",
		Args:  cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			m.Properties, m.Body = properties, []byte(args[1])
			id, err := hub.NewClient(a.state).Send(cmd.Context(), args[0], m)
			if err != nil {
				return a.needsHub(err)
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), map[string]string{"device": args[0], "messageId": id})
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), id)
			return err
		},
		ValidArgsFunction: a.completeDevice,
	}
	f := cmd.Flags()
	f.BoolVar(&asJSON, "json", false, "print JSON")
	f.StringToStringVar(&properties, "property", nil, "application property, `name=value`; may be repeated")
	f.StringVar(&m.ContentType, "content-type", "", "content `type`, as application/json")
	f.StringVar(&m.ContentEncoding, "content-encoding", "", "content `encoding`, as utf-8")
	return cmd
}
