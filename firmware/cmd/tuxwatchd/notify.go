package main

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	sd "github.com/coreos/go-systemd/v22/daemon"
)

// notifier tells systemd how the daemon is doing (sd_notify(3)). Without
// systemd it does nothing.
type notifier struct {
	log *slog.Logger

	mu   sync.Mutex
	last string // status last sent
}

func (n *notifier) send(lines ...string) {
	if _, err := sd.SdNotify(false, strings.Join(lines, "\n")); err != nil {
		n.log.Warn("the service manager cannot be notified", "error", err)
	}
}

func (n *notifier) ready(status string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.last = status
	n.send(sd.SdNotifyReady, "STATUS="+status)
}

// reloading and the ready that follows bracket a reload; the time is how
// systemd tells the pair from an earlier one.
func (n *notifier) reloading() {
	n.send(sd.SdNotifyReloading, sd.SdNotifyMonotonicUsec())
}

func (n *notifier) stopping() { n.send(sd.SdNotifyStopping, "STATUS=stopping") }

// status sends the words if they are new.
func (n *notifier) status(words string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if words != n.last {
		n.last = words
		n.send("STATUS=" + words)
	}
}

// watchdog feeds systemd's watchdog, but only while nothing is stuck: if a
// module hangs for longer than the unit's WatchdogSec, systemd ends the daemon
// and starts it again.
type watchdog struct {
	interval time.Duration // 0: systemd watches not
	stuck    func() []string
	notify   *notifier
	log      *slog.Logger

	hungry string // what was stuck at the last look
}

func newWatchdog(stuck func() []string, n *notifier, log *slog.Logger) *watchdog {
	interval, err := sd.SdWatchdogEnabled(false)
	if err != nil {
		log.Warn("systemd's watchdog is not fed", "error", err)
		interval = 0
	}
	return &watchdog{interval: interval, stuck: stuck, notify: n, log: log}
}

// feed looks once. It returns the words for the status while something is
// stuck.
func (w *watchdog) feed() string {
	stuck := strings.Join(w.stuck(), ", ")
	if stuck != w.hungry {
		if stuck != "" {
			w.log.Error("no progress; the watchdog is not fed until there is", "stuck", stuck)
		} else {
			w.log.Info("progress again", "was stuck", w.hungry)
		}
		w.hungry = stuck
	}
	if stuck != "" {
		return "no progress: " + stuck
	}
	if w.interval > 0 {
		w.notify.send(sd.SdNotifyWatchdog)
	}
	return ""
}

// period is how often to look: three times in systemd's interval.
func (w *watchdog) period() time.Duration {
	const most = 2 * time.Second
	if w.interval > 0 && w.interval/3 < most {
		return w.interval / 3
	}
	return most
}

// run looks again and again, and tells the status in words.
func (w *watchdog) run(ctx context.Context, words func() string) {
	tick := time.NewTicker(w.period())
	defer tick.Stop()
	for {
		status := w.feed()
		if status == "" {
			status = words()
		}
		w.notify.status(status)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// plural writes "1 module", "2 modules".
func plural(n int, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %ss", n, one)
}
