package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tuxwatch/firmware/hub"
)

// reconnectEvery is how often the monitor looks whether connected to the hub.
const reconnectEvery = 250 * time.Millisecond

type monitorFlags struct {
	json, fromStart, wait bool
	device, since         string
	count                 int
}

func (a *app) monitorCommand() *cobra.Command {
	var flags monitorFlags
	cmd := &cobra.Command{
		Use:   "monitor",
		Short: "Print events as they arrive",
		Long: `Prints a line for each event that arrives at the hub from now on. It waits while
the hub is restarted, and goes on with the event after the last one it printed.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.monitor(cmd, flags) },
	}
	f := cmd.Flags()
	f.BoolVar(&flags.json, "json", false, "print one JSON object a line: device, module, output, time, properties, body")
	f.StringVar(&flags.device, "device", "", "only the events of the device with this `ID`")
	f.StringVar(&flags.since, "since", "", "begin with stored events from this `time` on: 2026-11-22T11:02:03Z, or 10m for ten minutes ago")
	f.BoolVar(&flags.fromStart, "from-start", false, "begin with every event that is stored")
	f.BoolVar(&flags.wait, "wait", false, "wait for a hub that is not running yet")
	f.IntVar(&flags.count, "count", 0, "end after this `number` of events")
	cmd.MarkFlagsMutuallyExclusive("since", "from-start")
	_ = cmd.RegisterFlagCompletionFunc("device", a.completeDevice)
	return cmd
}

// parseSince takes a moment, or how long ago it was.
func parseSince(s string, now time.Time) (time.Time, error) {
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return t, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		return time.Time{}, usagef("--since %q is neither a time such as %s nor a duration such as 10m", s, now.UTC().Format(time.RFC3339))
	}
	return now.Add(-d), nil
}

func (a *app) monitor(cmd *cobra.Command, flags monitorFlags) error {
	if flags.count < 0 {
		return usagef("--count cannot be negative")
	}
	filter := hub.Filter{Device: flags.device}
	var from *hub.Cursor // nil: from now on
	if flags.fromStart {
		from = &hub.Cursor{}
	}
	if flags.since != "" {
		since, err := parseSince(flags.since, time.Now())
		if err != nil {
			return err
		}
		filter.Since, from = since, &hub.Cursor{}
	}
	show := showEvent
	if flags.json {
		show = func(w io.Writer, s hub.Streamed) error {
			_, err := fmt.Fprintf(w, "%s\n", s.Line)
			return err
		}
	}
	ctx := cmd.Context()
	client := hub.NewClient(a.state)
	printed, connected, waiting := 0, flags.wait, false
	for {
		for s, err := range client.Events(ctx, from, filter, true) {
			if errors.Is(err, hub.ErrNotRunning) {
				if !connected {
					return a.needsHub(err)
				}
				if !waiting {
					fmt.Fprintln(cmd.ErrOrStderr(), "tuxhub: the hub is not running; waiting for it")
					waiting = true
				}
				break
			}
			if err != nil {
				return err
			}
			cursor := s.Cursor
			if s.Event == nil {
				connected = true
				if waiting {
					fmt.Fprintln(cmd.ErrOrStderr(), "tuxhub: connected to the hub")
					waiting = false
				}
			} else {
				if err := show(cmd.OutOrStdout(), s); err != nil {
					return fmt.Errorf("print an event: %w", err)
				}
				printed++
			}
			from = &cursor
			if flags.count > 0 && printed >= flags.count {
				return nil
			}
		}
		if !sleep(ctx, reconnectEvery) {
			return nil // the user ended it
		}
	}
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// maxShownBody keeps a line in a terminal readable.
const maxShownBody = 300

// showEvent prints an event for people: time, where from, what, and what with it.
func showEvent(w io.Writer, s hub.Streamed) error {
	e := s.Event
	from := e.Device
	if e.Module != "" {
		from += " " + e.Module
		if e.Output != "" {
			from += "/" + e.Output
		}
	}
	var shown struct {
		Body     json.RawMessage `json:"body"`
		Encoding string          `json:"bodyEncoding"`
	}
	if err := json.Unmarshal(s.Line, &shown); err != nil {
		return err
	}
	body := string(shown.Body)
	if shown.Encoding != "" {
		body = fmt.Sprintf("(%d bytes)", len(e.Body))
	}
	if runes := []rune(body); len(runes) > maxShownBody {
		body = fmt.Sprintf("%s… (%d bytes)", string(runes[:maxShownBody]), len(e.Body))
	}
	line := fmt.Sprintf("%s  %s  %s", e.Time.Local().Format("15:04:05"), from, body)
	var properties []string
	for _, k := range slices.Sorted(maps.Keys(e.Properties)) {
		properties = append(properties, k+"="+e.Properties[k])
	}
	if len(properties) > 0 {
		line += "  [" + strings.Join(properties, " ") + "]"
	}
	_, err := fmt.Fprintln(w, printable(line))
	return err
}
