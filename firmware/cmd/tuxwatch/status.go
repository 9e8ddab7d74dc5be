package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"tuxwatch/firmware/cloud"
	"tuxwatch/firmware/control"
	"tuxwatch/firmware/edge"
)

func newStatusCommand() *cobra.Command {
	var asJSON, watch bool
	var socket string
	var interval time.Duration
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show how the daemon, its modules and its connection to the hub are doing",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if interval < 100*time.Millisecond {
				return wrongUse("--interval must be at least 100ms")
			}
			ask := control.Client{Socket: socket}
			show := func() error { return showStatus(cmd.Context(), ask, cmd.OutOrStdout(), asJSON, watch) }
			if !watch {
				return show()
			}
			return watchStatus(cmd.Context(), show, interval)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON; with --watch one object a line")
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "show it again and again until Ctrl-C")
	cmd.Flags().DurationVar(&interval, "interval", 2*time.Second, "with --watch, how often")
	cmd.Flags().StringVar(&socket, "socket", "", socketUsage)
	return cmd
}

func watchStatus(ctx context.Context, show func() error, interval time.Duration) error {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		if err := show(); err != nil && ctx.Err() == nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

func showStatus(ctx context.Context, ask control.Client, out io.Writer, asJSON, watch bool) error {
	s, err := ask.Status(ctx)
	if errors.Is(err, control.ErrNotRunning) {
		return failed("%w\nStart it with: sudo systemctl start tuxwatchd\nor by hand with: tuxwatchd --config FILE --state DIR (then ask with --socket DIR/%s)", err, control.SocketName)
	}
	if err != nil {
		return failed("%w", err)
	}
	switch {
	case asJSON:
		return printJSON(out, s)
	case watch && isTerminal(out):
		io.WriteString(out, "\x1b[H\x1b[2J") // to the corner, and clear
	case watch:
		defer fmt.Fprintln(out)
	}
	return writeStatus(out, s, time.Now())
}

func isTerminal(out io.Writer) bool {
	f, ok := out.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

func printJSON(out io.Writer, v any) error {
	e := json.NewEncoder(out)
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// writeStatus writes the status for people.
func writeStatus(out io.Writer, s *control.Status, now time.Time) error {
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	row := func(cells ...any) { fmt.Fprintln(t, join(cells, "\t")) }

	row("tuxwatchd", fmt.Sprintf("%s, process %d, up %s", s.Version, s.PID, age(s.Started, now)))
	row("device", s.Device)
	row("state", s.Summary)
	writeConfig(row, s.Config, now)
	writeHub(row, s.Hub, now)
	writeOutbox(row, s, now)
	row("last alert", lastAlert(s, now))
	switch {
	case len(s.Watchdog.Stuck) > 0:
		row("watchdog", "NOT FED, no progress: "+strings.Join(s.Watchdog.Stuck, ", "))
	case s.Watchdog.IntervalSeconds == 0:
		row("watchdog", "off (systemd does not watch this process)")
	default:
		row("watchdog", fmt.Sprintf("fed; systemd waits %v", time.Duration(s.Watchdog.IntervalSeconds*float64(time.Second))))
	}
	if err := t.Flush(); err != nil {
		return err
	}

	fmt.Fprintln(t)
	row("MODULE", "KIND", "STATE", "SINCE", "RESTARTS", "HEALTH")
	for _, m := range s.Edge.Modules {
		health := "ok"
		if !m.Healthy {
			health, _, _ = strings.Cut(m.Cause, "\n")
			if health == "" {
				health = "not healthy"
			}
		}
		row(m.ID, m.Kind, m.State, age(m.Since, now), m.Restarts, health)
	}
	for _, id := range s.Disabled {
		row(id, "", "off", "", "", "")
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, m := range s.Edge.Modules {
		writeModule(t, m)
	}
	if err := t.Flush(); err != nil {
		return err
	}

	fmt.Fprintf(t, "\n%d messages sent by modules, %d of them wanted by no route\n", s.Edge.Messages, s.Edge.Unrouted)
	row("ROUTE", "PRIORITY", "MATCHED", "DELIVERED", "FAILED", "EXPIRED", "TEXT")
	for _, r := range s.Edge.Routes {
		row(r.Name, r.Priority, r.Matched, r.Delivered, r.Failed, r.Expired, strings.Join(strings.Fields(r.Route), " "))
	}
	return t.Flush()
}

func join(cells []any, with string) string {
	words := make([]string, len(cells))
	for i, c := range cells {
		words[i] = fmt.Sprint(c)
	}
	return strings.TrimRight(strings.Join(words, with), with)
}

func writeConfig(row func(...any), c control.ConfigStatus, now time.Time) {
	switch c.Source {
	case control.FromFile:
		row("configuration", fmt.Sprintf("%s, loaded %s ago", c.File, age(c.LoadedAt, now)))
	case control.FromBuiltIn:
		row("configuration", "built-in")
	default:
		row("configuration", fmt.Sprintf("%s of %s", c.Source, c.File))
	}
	if len(c.Problems) > 0 {
		row("", fmt.Sprintf("THE FILE IS NOT USED as it was %s ago; correct it, it is read again by itself:", age(c.RefusedAt, now)))
	}
	for _, p := range c.Problems {
		row("", "  "+p.String())
	}
	for _, p := range c.Warnings {
		row("", "warning: "+p.String())
	}
}

func writeHub(row func(...any), h cloud.State, now time.Time) {
	words := control.HubInWords(h)
	if h.Device != "" {
		words += " (device " + h.Device + ", " + h.Dialect + ")"
	}
	if !h.Since.IsZero() {
		words += ", for " + age(h.Since, now)
	}
	row("hub", words)
	if h.Remedy != "" {
		row("", h.Remedy)
	}
	if h.NextAttempt.After(now) {
		row("", fmt.Sprintf("next attempt in %s, after %d failures", age(now, h.NextAttempt), h.Failures))
	}
	if h.TwinError != "" {
		row("", "twin: "+h.TwinError)
	}
	if h.Connections > 0 {
		row("", fmt.Sprintf("%d sent, %d acknowledged, %d sent again, %d on their way, %d connections", h.Sent, h.Acked, h.Resent, h.InFlight, h.Connections))
	}
}

func writeOutbox(row func(...any), s *control.Status, now time.Time) {
	o := s.Outbox
	words := fmt.Sprintf("%d messages waiting (%s of %s)", o.Depth, size(o.Bytes), size(o.MaxBytes))
	if !o.Oldest.IsZero() {
		words += fmt.Sprintf(", the oldest for %s", age(o.Oldest, now))
	}
	row("outbox", words)
	row("", fmt.Sprintf("%d stored, %d delivered, %d refused", o.Puts, o.Deleted, o.Rejected))
	var dropped []string
	for _, reason := range slices.Sorted(maps.Keys(o.Dropped)) {
		if n := o.Dropped[reason]; n > 0 {
			dropped = append(dropped, fmt.Sprintf("%s %d", reason, n))
		}
	}
	if len(dropped) > 0 {
		row("", "dropped: "+strings.Join(dropped, ", "))
	}
	if o.SetAside > 0 {
		row("", fmt.Sprintf("%d messages that the hub kept refusing are set aside", o.SetAside))
	}
	if o.DiskFull {
		row("", "the disk is full")
	}
	if o.Fault != "" {
		row("", "cannot be written: "+o.Fault)
	}
	if o.Damage != "" {
		row("", fmt.Sprintf("was damaged (%s); %d messages were saved", o.Damage, o.Salvaged))
	}
}

// lastAlert says when the last one was and where it came from. Its moment stands
// there as well, since the clock may have been set in between.
func lastAlert(s *control.Status, now time.Time) string {
	a := s.LastAlert
	if a == nil {
		return fmt.Sprintf("none since tuxwatchd started %s ago", age(s.Started, now))
	}
	return fmt.Sprintf("%s, %s ago, from %s/%s", a.Time.UTC().Format("2006-01-02 15:04:05 UTC"), age(a.Time, now), a.Module, a.Output)
}

// writeModule writes what a module counts, and its twin.
func writeModule(out io.Writer, m edge.ModuleStatus) {
	list := func(what, text string) {
		if text != "" {
			fmt.Fprintf(out, "%s\t%s\t%s\n", m.ID, what, text)
		}
	}
	counters := map[string]any{}
	for name, n := range m.Counters {
		counters[name] = n
	}
	if len(counters) > 0 || m.Desired != nil || len(m.Reported) > 0 || m.DesiredError != "" {
		fmt.Fprintln(out)
	}
	list("counts", pairs(counters))
	list("desired", pairs(m.Desired))
	list("refused", m.DesiredError)
	list("reports", pairs(m.Reported))
}

// pairs writes an object as name=value, sorted by name.
func pairs(object any) string {
	data, err := json.Marshal(object)
	if err != nil {
		return err.Error()
	}
	var members map[string]json.RawMessage
	if json.Unmarshal(data, &members) != nil {
		return string(data)
	}
	var list []string
	for _, name := range slices.Sorted(maps.Keys(members)) {
		list = append(list, name+"="+string(members[name]))
	}
	return strings.Join(list, " ")
}

// age is how long ago something was, in the two largest units.
func age(then, now time.Time) string {
	if then.IsZero() {
		return "?"
	}
	d := max(now.Sub(then), 0)
	day := 24 * time.Hour
	switch {
	case d >= day:
		return fmt.Sprintf("%dd%dh", d/day, d%day/time.Hour)
	case d >= time.Hour:
		return fmt.Sprintf("%dh%dm", d/time.Hour, d%time.Hour/time.Minute)
	case d >= time.Minute:
		return fmt.Sprintf("%dm%ds", d/time.Minute, d%time.Minute/time.Second)
	}
	return fmt.Sprintf("%ds", d/time.Second)
}

// size writes a number of bytes with three digits.
func size(n int64) string {
	value, unit := float64(n), "B"
	for _, next := range []string{"kB", "MB", "GB", "TB"} {
		if value < 1000 {
			break
		}
		value, unit = value/1000, next
	}
	if value >= 1000 {
		return fmt.Sprintf("%.0f %s", value, unit)
	}
	return fmt.Sprintf("%.3g %s", value, unit)
}
