package main

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/lmittmann/tint"
	"github.com/spf13/cobra"

	"tuxwatch/firmware/hub"
)

func (a *app) serveCommand() *cobra.Command {
	opts := hub.Options{Retention: hub.DefaultRetention}
	var level string
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the hub until it is told to stop",
		Long: `Runs the hub until SIGINT or SIGTERM. The first start makes the state folder, with
a certificate authority in ca.pem that devices have to trust.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var l slog.Level
			if err := l.UnmarshalText([]byte(level)); err != nil {
				return usagef("--log-level %q: choose debug, info, warn or error", level)
			}
			r := opts.Retention
			if r.Events < 0 || r.Bytes < 0 || r.Age < 0 {
				return usagef("--keep-events, --keep-bytes and --keep-age cannot be negative")
			}
			if r == (hub.Retention{}) {
				return usagef("one of --keep-events, --keep-bytes and --keep-age must be there, or the disk fills up")
			}
			if opts.TLSListen == "" && opts.Listen == "" {
				return usagef("--tls-listen and --listen are both empty: no device could connect")
			}
			for _, host := range opts.Hosts {
				if !hub.ValidHost(host) {
					return usagef("--host %q is not a host name or address", host)
				}
			}
			if host, err := os.Hostname(); err == nil && hub.ValidHost(host) {
				opts.Hosts = append(opts.Hosts, host)
			}
			opts.State = a.state
			// In the open only where it is asked for.
			opts.Listen, opts.HTTPListen = loopbackByDefault(opts.Listen), loopbackByDefault(opts.HTTPListen)
			opts.Log = newLog(cmd.ErrOrStderr(), l)
			h, err := hub.New(opts)
			if err != nil {
				return err
			}
			defer h.Close()
			announce(cmd.OutOrStdout(), h)
			notify(opts.Log, daemon.SdNotifyReady)
			opts.Log.Info("ready")
			err = h.Serve(cmd.Context())
			notify(opts.Log, daemon.SdNotifyStopping)
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&opts.TLSListen, "tls-listen", "127.0.0.1:8883", "`address` for devices, MQTT over TLS; :8883 for every interface, empty for none")
	f.StringVar(&opts.Listen, "listen", "", "`address` for devices, MQTT without TLS")
	f.StringVar(&opts.HTTPListen, "http", "", "`address` for the JSON API over TCP; beyond loopback it asks for the token in the state folder's http-token")
	f.StringSliceVar(&opts.Hosts, "host", nil, "host `name` or address that devices reach the hub under, for its certificate; may be repeated")
	f.Int64Var(&opts.Retention.Events, "keep-events", opts.Retention.Events, "`number` of events to keep, 0 for any")
	f.DurationVar(&opts.Retention.Age, "keep-age", opts.Retention.Age, "how long to keep events, 0 for ever")
	f.Int64Var(&opts.Retention.Bytes, "keep-bytes", opts.Retention.Bytes, "`bytes` of events to keep, 0 for any")
	f.StringVar(&level, "log-level", "info", "least `level` to log: debug, info, warn, error")
	_ = cmd.RegisterFlagCompletionFunc("log-level", cobra.FixedCompletions([]string{"debug", "info", "warn", "error"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// announce says where the hub is, in words to read.
func announce(w io.Writer, h *hub.Hub) {
	var b strings.Builder
	fmt.Fprintf(&b, "tuxhub: state in %s\n", h.Dir())
	if addr := h.TLSAddr(); addr != "" {
		fmt.Fprintf(&b, "tuxhub: devices connect to %s (MQTT over TLS; they trust %s)\n", addr, h.CAFile())
	}
	if addr := h.Addr(); addr != "" {
		fmt.Fprintf(&b, "tuxhub: devices connect to %s (MQTT without TLS)\n", addr)
	}
	if addr := h.HTTPAddr(); addr != "" {
		fmt.Fprintf(&b, "tuxhub: JSON API on http://%s/v1/\n", addr)
	}
	_, _ = io.WriteString(w, b.String())
}

// newLog writes for people in a terminal, and for the journal or a file otherwise.
func newLog(w io.Writer, level slog.Level) *slog.Logger {
	if isTerminal(w) {
		return slog.New(tint.NewHandler(w, &tint.Options{Level: level, TimeFormat: time.TimeOnly}))
	}
	options := &slog.HandlerOptions{Level: level}
	if os.Getenv("JOURNAL_STREAM") != "" { // the journal has its own time
		options.ReplaceAttr = func(groups []string, a slog.Attr) slog.Attr {
			if len(groups) == 0 && a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		}
	}
	return slog.New(slog.NewTextHandler(w, options))
}

// notify tells systemd, if that started us.
func notify(log *slog.Logger, state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		log.Warn("cannot notify systemd", "error", err)
	}
}

// loopbackByDefault puts loopback where an address names only a port.
func loopbackByDefault(address string) string {
	if host, port, err := net.SplitHostPort(address); err == nil && host == "" {
		return net.JoinHostPort("127.0.0.1", port)
	}
	return address
}
