package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"github.com/coreos/go-systemd/v22/journal"
)

// journalHandler writes records to systemd's journal: the level as PRIORITY,
// each attribute as a field of its own (journalctl MODULE=camera), and the
// whole in words as MESSAGE, which is what journalctl shows.
type journalHandler struct {
	level  slog.Leveler
	attrs  []slog.Attr // of With, their groups already in the key
	prefix string      // of the open groups: "a.b."
	// send delivers one entry; when the journal does not take it, it goes to
	// fallback in the form that systemd understands on standard error.
	send     func(message string, priority journal.Priority, fields map[string]string) error
	fallback io.Writer
}

func newJournalHandler(level slog.Leveler, fallback io.Writer) *journalHandler {
	return &journalHandler{level: level, send: journal.Send, fallback: fallback}
}

func (h *journalHandler) Enabled(_ context.Context, l slog.Level) bool { return l >= h.level.Level() }

func (h *journalHandler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	c := *h
	c.prefix += name + "."
	return &c
}

func (h *journalHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	c := *h
	c.attrs = c.attrs[:len(c.attrs):len(c.attrs)]
	for _, a := range attrs {
		c.attrs = expand(c.attrs, h.prefix, a)
	}
	return &c
}

// expand appends a, with groups flattened into keys.
func expand(to []slog.Attr, prefix string, a slog.Attr) []slog.Attr {
	v := a.Value.Resolve()
	if v.Kind() != slog.KindGroup {
		if a.Equal(slog.Attr{}) {
			return to
		}
		return append(to, slog.Attr{Key: prefix + a.Key, Value: v})
	}
	if a.Key != "" {
		prefix += a.Key + "."
	}
	for _, inner := range v.Group() {
		to = expand(to, prefix, inner)
	}
	return to
}

func (h *journalHandler) Handle(_ context.Context, r slog.Record) error {
	attrs := h.attrs[:len(h.attrs):len(h.attrs)]
	r.Attrs(func(a slog.Attr) bool {
		attrs = expand(attrs, h.prefix, a)
		return true
	})
	var module string
	var words strings.Builder
	fields := map[string]string{"SYSLOG_IDENTIFIER": "tuxwatchd"}
	for _, a := range attrs {
		text := a.Value.String()
		fields[fieldName(a.Key)] = text
		if a.Key == "module" {
			module = text + ": "
			continue
		}
		if strings.ContainsAny(text, " \t\n\"=") || text == "" {
			text = fmt.Sprintf("%q", text)
		}
		words.WriteString(" " + a.Key + "=" + text)
	}
	message, priority := module+r.Message+words.String(), priorityOf(r.Level)
	if err := h.send(message, priority, fields); err != nil {
		_, err := fmt.Fprintf(h.fallback, "<%d>%s\n", priority, message)
		return err
	}
	return nil
}

func priorityOf(l slog.Level) journal.Priority {
	switch {
	case l >= slog.LevelError:
		return journal.PriErr
	case l >= slog.LevelWarn:
		return journal.PriWarning
	case l >= slog.LevelInfo:
		return journal.PriInfo
	}
	return journal.PriDebug
}

// fieldName makes a field's name of an attribute's key: upper case letters,
// digits and underscores, not starting with an underscore or a digit, at most
// 64 characters (systemd.journal-fields(7)). The journal's own names get a
// prefix.
func fieldName(key string) string {
	name := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return r
		}
		return '_'
	}, key)
	reserved := name == "MESSAGE" || name == "MESSAGE_ID" || name == "PRIORITY" || name == "ERRNO" || name == "UNIT" ||
		strings.HasPrefix(name, "CODE_") || strings.HasPrefix(name, "SYSLOG_") || strings.HasPrefix(name, "OBJECT_") || strings.HasPrefix(name, "COREDUMP_")
	if reserved || name == "" || name[0] == '_' || name[0] >= '0' && name[0] <= '9' {
		name = "TUXWATCH_" + name
	}
	return name[:min(len(name), 64)]
}
