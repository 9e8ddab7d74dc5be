package main

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/coreos/go-systemd/v22/journal"
	"github.com/google/go-cmp/cmp"
)

// entry is what one record becomes in the journal.
type entry struct {
	Message  string
	Priority journal.Priority
	Fields   map[string]string
}

func recordingHandler(level slog.Level) (*journalHandler, *[]entry) {
	var entries []entry
	return &journalHandler{level: level, send: func(m string, p journal.Priority, f map[string]string) error {
		entries = append(entries, entry{m, p, f})
		return nil
	}}, &entries
}

func TestJournal(t *testing.T) {
	h, entries := recordingHandler(slog.LevelInfo)
	log := slog.New(h)
	log.Debug("not wanted")
	log.With("module", "camera", "try", 3).Warn("no picture", "error", errors.New("no such device"), "in", "")
	log.WithGroup("hub").With("host", "a").Error("gone", slog.Group("tls", "version", "1.3"), "MESSAGE", "m", "priority", 9, "_x", 1)
	log.Info("plain")
	want := []entry{
		{`camera: no picture try=3 error="no such device" in=""`, journal.PriWarning, map[string]string{
			"SYSLOG_IDENTIFIER": "tuxwatchd", "MODULE": "camera", "TRY": "3", "ERROR": "no such device", "IN": "",
		}},
		{"gone hub.host=a hub.tls.version=1.3 hub.MESSAGE=m hub.priority=9 hub._x=1", journal.PriErr, map[string]string{
			"SYSLOG_IDENTIFIER": "tuxwatchd", "HUB_HOST": "a", "HUB_TLS_VERSION": "1.3", "HUB_MESSAGE": "m", "HUB_PRIORITY": "9", "HUB__X": "1",
		}},
		{"plain", journal.PriInfo, map[string]string{"SYSLOG_IDENTIFIER": "tuxwatchd"}},
	}
	if diff := cmp.Diff(want, *entries); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Loggers made from one another do not see each other's attributes.
func TestJournalLoggersAreApart(t *testing.T) {
	h, entries := recordingHandler(slog.LevelInfo)
	base := slog.New(h).With("a", 1)
	one, two := base.With("b", 2), base.With("c", 3)
	one.Info("x")
	two.Info("x")
	base.Info("x")
	var got []string
	for _, e := range *entries {
		got = append(got, e.Message)
	}
	if diff := cmp.Diff([]string{"x a=1 b=2", "x a=1 c=3", "x a=1"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestFieldNames(t *testing.T) {
	for key, want := range map[string]string{
		"module": "MODULE", "max.age": "MAX_AGE", "größe": "GR__E", "message": "TUXWATCH_MESSAGE", "_boot": "TUXWATCH__BOOT",
		"1st": "TUXWATCH_1ST", "": "TUXWATCH_", "code_file": "TUXWATCH_CODE_FILE", strings.Repeat("x", 100): strings.Repeat("X", 64),
	} {
		if got := fieldName(key); got != want {
			t.Errorf("%q: %s, want %s", key, got, want)
		}
	}
}

// A journal that does not answer loses nothing: systemd reads standard error.
func TestJournalFallsBack(t *testing.T) {
	var stderr bytes.Buffer
	h := newJournalHandler(slog.LevelInfo, &stderr)
	h.send = func(string, journal.Priority, map[string]string) error { return errors.New("no journal") }
	slog.New(h).Error("disk full", "free", 0)
	if got := stderr.String(); got != "<3>disk full free=0\n" {
		t.Errorf("standard error has %q", got)
	}
}

// What is no terminal gets no colours.
func TestPlainLogs(t *testing.T) {
	var out bytes.Buffer
	newLogger(slog.LevelInfo, &out).Warn("low", "module", "m", "error", errors.New("bad"))
	if got := out.String(); strings.Contains(got, "\x1b") || !strings.HasSuffix(got, "WRN low module=m error=bad\n") {
		t.Errorf("got %q", got)
	}
}
