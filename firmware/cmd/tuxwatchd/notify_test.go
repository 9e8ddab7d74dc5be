package main

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// The watchdog is fed while all is well, not while something is stuck, and again
// afterwards; what is stuck is in the status and in the log.
func TestWatchdogStarvesWhenStuck(t *testing.T) {
	n := listenNotify(t)
	t.Setenv("NOTIFY_SOCKET", n.path)
	t.Setenv("WATCHDOG_USEC", "60000000")
	t.Setenv("WATCHDOG_PID", "")
	var text bytes.Buffer
	log := slog.New(slog.NewTextHandler(&text, nil))
	var stuck []string
	notify := &notifier{log: log}
	w := newWatchdog(func() []string { return stuck }, notify, log)
	if w.interval != time.Minute || w.period() != 2*time.Second {
		t.Fatalf("interval %v, period %v", w.interval, w.period())
	}
	next := func() string {
		select {
		case m := <-n.messages:
			return m
		case <-time.After(patience):
			t.Fatal("no message")
			return ""
		}
	}

	w.feed()
	if got := next(); got != "WATCHDOG=1" {
		t.Errorf("all well: %q", got)
	}
	stuck = []string{"camera: its loop", "filterModule: input input1"}
	if words := w.feed(); words != "no progress: camera: its loop, filterModule: input input1" {
		t.Errorf("stuck, in words: %q", words)
	}
	w.feed() // logged once only
	notify.send("END=1")
	if got := next(); got != "END=1" {
		t.Errorf("fed while stuck: %q", got)
	}
	stuck = nil
	w.feed()
	if got := next(); got != "WATCHDOG=1" {
		t.Errorf("after the recovery: %q", got)
	}
	if got := strings.Count(text.String(), "no progress; the watchdog is not fed"); got != 1 {
		t.Errorf("logged %d times:\n%s", got, &text)
	}
	if !strings.Contains(text.String(), "progress again") {
		t.Errorf("the recovery is not logged:\n%s", &text)
	}
}

func TestStatusIsSentWhenItChanges(t *testing.T) {
	n := listenNotify(t)
	t.Setenv("NOTIFY_SOCKET", n.path)
	t.Setenv("WATCHDOG_USEC", "30000")
	t.Setenv("WATCHDOG_PID", "")
	log := slog.New(slog.DiscardHandler)
	w := newWatchdog(func() []string { return nil }, &notifier{log: log}, log)
	var words atomic.Pointer[string]
	say := func(s string) { words.Store(&s) }
	say("one")
	stop := background(func(ctx context.Context) { w.run(ctx, func() string { return *words.Load() }) })
	defer stop()
	n.wait(t, "STATUS=one", &bytes.Buffer{})
	n.wait(t, "WATCHDOG=1", &bytes.Buffer{})
	say("two")
	n.wait(t, "STATUS=two", &bytes.Buffer{})
}

func TestStopAllNamesWhatHangs(t *testing.T) {
	release := make(chan struct{})
	defer close(release)
	var order []string
	err := stopAll(50*time.Millisecond, []step{
		{"the first", func() { order = append(order, "first") }},
		{"the second", func() { <-release }},
		{"the third", func() {}},
	})
	if err == nil || !strings.HasPrefix(err.Error(), "the second did not stop within 50ms") || len(order) != 1 {
		t.Errorf("%v, order %v", err, order)
	}
	if err := stopAll(patience, []step{{"it", func() {}}}); err != nil {
		t.Error(err)
	}
}
