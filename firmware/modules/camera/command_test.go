package camera

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"tuxwatch/firmware/edge"
	"tuxwatch/firmware/edge/edgetest"
)

// script returns settings that run a shell script with a folder of pictures
// 1.jpg, 2.jpg and 3.jpg as its working folder.
func script(t *testing.T, text string) (*Settings, string) {
	t.Helper()
	dir := t.TempDir()
	for n := 1; n <= 3; n++ {
		write(t, dir, fmt.Sprintf("%d.jpg", n), photo(t, n))
	}
	return settings(func(s *Settings) {
		s.Source = SourceCommand
		s.Command = []string{"/bin/sh", "-c", "cd '" + dir + "'; " + text}
	}), dir
}

func TestCommandPictures(t *testing.T) {
	s, _ := script(t, "while :; do cat 1.jpg 2.jpg; sleep 0.01; done")
	h := edgetest.Start(t, quick(nil), s, fast)
	seen := make(map[string]bool)
	for len(seen) < 2 {
		m := h.Next(Output)
		if m.ContentType != "image/jpeg" || m.Properties[PropertySource] != "sh" {
			t.Errorf("%s, %v", m.ContentType, m.Properties)
		}
		switch {
		case bytes.Equal(m.Body, photo(t, 1)), bytes.Equal(m.Body, photo(t, 2)):
		default:
			t.Fatal("a picture that was not written")
		}
		seen[string(m.Body)] = true
		if len(seen) == 1 && sequence(t, m) > 100 {
			break // the newest one need not ever be the other one
		}
	}
	h.Eventually(func(s edge.ModuleStatus) bool { return s.Healthy })
}

func TestCommandIsStartedAgain(t *testing.T) {
	s, _ := script(t, `cat 1.jpg; echo "no camera found" >&2; echo run >>runs; sleep 0.05; cat 2.jpg; exit 3`)
	h := edgetest.Start(t, quick(nil), s, fast)
	h.Eventually(func(s edge.ModuleStatus) bool {
		return !s.Healthy && strings.Contains(s.Cause, "sh failed: exit status 3") && strings.Contains(s.Cause, `it said "no camera found"`)
	})
	h.Eventually(func(s edge.ModuleStatus) bool { return s.Counters["source_failures"] >= 3 })
	h.Next(Output)
	if s := h.Status(); s.Restarts != 0 {
		t.Errorf("%+v", s)
	}
}

func TestCommandThatCannotWork(t *testing.T) {
	for _, c := range []struct {
		name    string
		command []string
		want    string
	}{
		{"missing from the path", []string{"tuxwatch-no-such-program"}, "install it"},
		{"missing file", []string{"/nonexistent/rpicam-vid"}, "install it"},
		{"not executable", []string{"/dev/null"}, "permission denied"},
		{"ends at once", []string{"true"}, "true ended without a picture (it has to write Motion JPEG"},
		{"fails at once", []string{"sh", "-c", "echo ERROR: no cameras available >&2; exit 255"}, `exit status 255 without a picture (it has to write Motion JPEG to its standard output); it said "ERROR: no cameras available"`},
		{"writes something else", []string{"sh", "-c", "head -c 100000 /dev/zero"}, "without a picture"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := edgetest.Start(t, quick(nil), settings(func(s *Settings) { s.Source, s.Command = SourceCommand, c.command }), fast)
			h.Eventually(func(s edge.ModuleStatus) bool {
				return s.State == edge.Running && !s.Healthy && strings.Contains(s.Cause, c.want)
			})
		})
	}
}

func TestCommandStalls(t *testing.T) {
	s, dir := script(t, "echo $$ >>pids; cat 1.jpg; exec sleep 1000")
	s.StallTimeout = 50 * time.Millisecond
	h := edgetest.Start(t, quick(nil), s, fast)
	h.Eventually(func(s edge.ModuleStatus) bool {
		return !s.Healthy && strings.Contains(s.Cause, "has written no picture for 50ms") && s.Counters["source_failures"] >= 2
	})
	h.Stop()
	for _, pid := range pids(t, filepath.Join(dir, "pids")) {
		gone(t, pid)
	}
}

// Whatever the program has started, and however it takes the request to end,
// nothing is left.
func TestCommandIsEndedWithTheModule(t *testing.T) {
	for name, text := range map[string]string{
		"plain":                   "echo $$ >pids; while :; do cat 1.jpg; sleep 0.01; done",
		"ignores the request":     "trap '' TERM; echo $$ >pids; while :; do cat 1.jpg; sleep 0.01; done",
		"has a child":             "sleep 1000 & echo $$ $! >pids; while :; do cat 1.jpg; sleep 0.01; done",
		"a child that ignores it": "(trap '' TERM; exec sleep 1000) & echo $$ $! >pids; while :; do cat 1.jpg; sleep 0.01; done",
	} {
		t.Run(name, func(t *testing.T) {
			s, dir := script(t, text)
			h := edgetest.Start(t, quick(nil), s, fast)
			h.Next(Output)
			h.Stop()
			for _, pid := range pids(t, filepath.Join(dir, "pids")) {
				gone(t, pid)
			}
		})
	}
}

// A child that the program leaves behind is ended before the next start.
func TestCommandLeavesAChildBehind(t *testing.T) {
	s, dir := script(t, "sleep 1000 & echo $! >>pids; cat 1.jpg")
	h := edgetest.Start(t, quick(nil), s, fast)
	h.Eventually(func(s edge.ModuleStatus) bool { return s.Counters["source_failures"] >= 2 })
	h.Stop()
	for _, pid := range pids(t, filepath.Join(dir, "pids")) {
		gone(t, pid)
	}
}

func pids(t *testing.T, file string) (found []int) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, word := range strings.Fields(string(text)) {
		pid, err := strconv.Atoi(word)
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, pid)
	}
	if len(found) == 0 {
		t.Fatal("no process wrote its number")
	}
	return found
}

// gone waits until a process has ended. One that was orphaned stays a zombie
// until init reaps it.
func gone(t *testing.T, pid int) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for {
		if err := syscall.Kill(pid, 0); errors.Is(err, syscall.ESRCH) {
			return
		}
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil || strings.Contains(string(stat), ") Z ") {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("process %d is still there: %s", pid, stat)
		}
		time.Sleep(time.Millisecond)
	}
}

func TestCommandMemoryIsBounded(t *testing.T) {
	s, _ := script(t, `printf '\377\330\377\332\000\002'; head -c 3000000 /dev/zero; printf '\377\331'; while :; do cat 3.jpg; sleep 0.01; done`)
	s.MaxPictureBytes = 100_000
	h := edgetest.Start(t, quick(nil), s, fast)
	if m := h.Next(Output); !bytes.Equal(m.Body, photo(t, 3)) {
		t.Errorf("%d bytes", len(m.Body))
	}
	if n := h.Status().Counters["frames_damaged"]; n != 1 {
		t.Errorf("%d damaged, want 1", n)
	}
}

func TestTailKeepsTheEnd(t *testing.T) {
	var s tail
	if s.quote() != "" {
		t.Error("something out of nothing")
	}
	for n := range 1000 {
		fmt.Fprintf(&s, "line %d\r\n", n)
	}
	s.Write(bytes.Repeat([]byte{'x'}, 5000))
	s.Write([]byte("\nlast\xff line\n"))
	if got := s.quote(); !strings.HasSuffix(got, `x | last? line"`) || len(s.text) > tailBytes {
		t.Errorf("%d bytes, %s", len(s.text), got)
	}
}
