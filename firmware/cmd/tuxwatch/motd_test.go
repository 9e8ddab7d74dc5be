package main

import (
	"bytes"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tuxwatch/firmware/cloud"
	"tuxwatch/firmware/control"
)

// A daemon that hangs holds nobody up who logs in: neither one that takes the
// question and does not answer, nor one that does not even take it.
func TestMotdOfADaemonThatHangs(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var out, stderr bytes.Buffer
	began := time.Now()
	code := run(t.Context(), []string{"motd", "--socket", socket}, nil, &out, &stderr)
	took := time.Since(began)
	if code != 0 || stderr.Len() > 0 {
		t.Errorf("ended with %d: %s", code, &stderr)
	}
	if !strings.Contains(out.String(), "tuxwatchd has not answered within 800ms") {
		t.Errorf("it says:\n%s", &out)
	}
	// The promise is a second; a loaded machine gets some more.
	if took < motdLimit || took > motdLimit+2*time.Second {
		t.Errorf("it took %v", took)
	}
}

// A hub, or what is plugged in, cannot play with the terminal of who logs in.
func TestMotdIsPlain(t *testing.T) {
	m := motd{Version: "1", Device: "pi", Daemon: &control.Status{
		Version: "1", Summary: "camera: \x1b]0;owned\x07\x9b2Jérror\nnew line",
		Hub: cloud.State{Status: cloud.Refused, Hub: "h", Error: "\x1b[31mred\u202e"},
	}}
	var out bytes.Buffer
	if err := m.write(&out, noon); err != nil {
		t.Fatal(err)
	}
	if text := out.String(); strings.ContainsAny(text, "\x1b\x07\u202e\u009b") || strings.Contains(text, "\nnew line") {
		t.Errorf("%q", text)
	}
	for _, want := range []string{"\ntuxwatch 1 on pi\n", "  state       camera: ]0;owned2Jérrornew line\n", "[31mred\n", "  last alert  none since tuxwatchd started ? ago\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q lacks %q", out.String(), want)
		}
	}
}
