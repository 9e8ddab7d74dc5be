package main

import (
	"io"
	"log/slog"
	"os"

	"github.com/coreos/go-systemd/v22/journal"
	"github.com/lmittmann/tint"
	"golang.org/x/sys/unix"
)

// newLogger writes to systemd's journal when standard error leads there, with
// colours to a terminal, and plainly to anything else.
func newLogger(level slog.Leveler, stderr io.Writer) *slog.Logger {
	file, isFile := stderr.(*os.File)
	if toJournal, err := journal.StderrIsJournalStream(); err == nil && toJournal && file == os.Stderr {
		return slog.New(newJournalHandler(level, stderr))
	}
	return slog.New(tint.NewHandler(stderr, &tint.Options{
		Level:      level,
		TimeFormat: "15:04:05.000",
		NoColor:    !isFile || !isTerminal(file) || os.Getenv("NO_COLOR") != "",
	}))
}

func isTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}
