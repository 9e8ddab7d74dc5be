package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"tuxwatch/firmware/check"
	"tuxwatch/firmware/control"
	"tuxwatch/firmware/version"
)

// motdLimit is how long a login may wait for the daemon's answer.
const motdLimit = 800 * time.Millisecond

func newMotdCommand() *cobra.Command {
	var asJSON bool
	var socket, root string
	cmd := &cobra.Command{
		Use:   "motd",
		Short: "Print in a few lines how the device is doing, as it is shown when somebody logs in",
		Long: `Print in a few lines how the device is doing: version, slot, state, the hub, the
last alert. On the card image sshd shows it when somebody logs in, by way of
pam_motd(8) and /etc/update-motd.d/10-tuxwatch.

It takes less than a second and ends with 0, whatever is broken: then it says so.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), motdLimit)
			defer cancel()
			m := greeting(ctx, control.Client{Socket: socket}, root)
			if asJSON {
				return printJSON(cmd.OutOrStdout(), m)
			}
			return m.write(cmd.OutOrStdout(), time.Now())
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().StringVar(&socket, "socket", "", socketUsage)
	cmd.Flags().StringVar(&root, "root", "/", "read /proc and /run below this `FOLDER`")
	_ = cmd.Flags().MarkHidden("root") // for tests
	return cmd
}

// motd is what somebody who logs in is told.
type motd struct {
	Device  string `json:"device"`
	Version string `json:"version"`
	// Slot is the one that was started, where the system has slots.
	Slot          string  `json:"slot,omitempty"`
	UptimeSeconds float64 `json:"uptimeSeconds,omitempty"`
	// Notes are what had to be put right before the system started.
	Notes []string `json:"notes,omitempty"`
	// Daemon is nil where it does not answer, and then Problem says why.
	Daemon  *control.Status `json:"daemon,omitempty"`
	Problem string          `json:"problem,omitempty"`
}

// greeting gathers it. What cannot be found out is left out.
func greeting(ctx context.Context, ask control.Client, root string) motd {
	m := motd{Version: version.String(), Slot: check.Slot(root), UptimeSeconds: uptime(root)}
	m.Device, _ = os.Hostname()
	m.Notes, _ = check.BootNotes(root) // root alone may read them
	status, err := ask.Status(ctx)
	switch {
	case err == nil:
		m.Daemon = status
	case errors.Is(err, control.ErrNotRunning):
		m.Problem = "tuxwatchd is not running; systemctl status tuxwatchd says why"
	case ctx.Err() != nil:
		m.Problem = fmt.Sprintf("tuxwatchd has not answered within %v; systemctl status tuxwatchd says what it does", motdLimit)
	default:
		m.Problem = err.Error()
	}
	return m
}

// uptime is how long the system runs, in seconds; 0 if that is not known.
func uptime(root string) float64 {
	data, err := os.ReadFile(filepath.Join(root, "proc/uptime"))
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(string(data), " ")
	seconds, err := strconv.ParseFloat(first, 64)
	if err != nil {
		return 0
	}
	return seconds
}

func (m motd) write(out io.Writer, now time.Time) error {
	var text strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&text, "  %-11s %s\n", name, plain(fmt.Sprintf(format, args...)))
	}
	title := "tuxwatch " + m.Version
	if m.Device != "" {
		title += " on " + m.Device
	}
	if m.Slot != "" {
		title += ", slot " + m.Slot
	}
	if m.UptimeSeconds > 0 {
		title += ", up " + age(now.Add(-time.Duration(m.UptimeSeconds*float64(time.Second))), now)
	}
	fmt.Fprintf(&text, "\n%s\n\n", plain(title))
	for _, note := range m.Notes {
		line("attention", "%s", note)
	}
	s := m.Daemon
	if s == nil {
		line("state", "%s", m.Problem)
		_, err := io.WriteString(out, text.String()+"\n")
		return err
	}
	if s.Version != m.Version {
		line("tuxwatchd", "%s: another version than this command; sudo systemctl restart tuxwatchd", s.Version)
	}
	// The summary has the hub as well, but a long word on a module may hide it.
	line("state", "%s", s.Summary)
	for i, p := range s.Config.Problems {
		if i == 3 {
			line("", "and %d more: tuxwatch config validate", len(s.Config.Problems)-i)
			break
		}
		line("", "%s", p.String())
	}
	line("hub", "%s", control.HubInWords(s.Hub))
	line("last alert", "%s", lastAlert(s, now))
	_, err := io.WriteString(out, text.String()+"\n")
	return err
}

// plain leaves out what a terminal would take for a command: some of the text
// comes from a hub or from what is plugged in.
func plain(text string) string {
	return strings.Map(func(r rune) rune {
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, text)
}
