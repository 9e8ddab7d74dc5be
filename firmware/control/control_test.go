package control

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"tuxwatch/firmware/cloud"
	"tuxwatch/firmware/config"
	"tuxwatch/firmware/edge"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type fakeDaemon struct {
	status Status
	config Configuration
	frame  func(camera string, request json.RawMessage) (int, json.RawMessage)
}

func (f fakeDaemon) Status() Status               { return f.status }
func (f fakeDaemon) Configuration() Configuration { return f.config }
func (f fakeDaemon) Frame(_ context.Context, camera string, request json.RawMessage) (int, json.RawMessage) {
	return f.frame(camera, request)
}

// serve serves d at the path until the test ends.
func serve(t *testing.T, path string, d Daemon) {
	t.Helper()
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, l, d, slog.New(slog.DiscardHandler)) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the socket is left behind: %v", err)
		}
	})
}

func TestAnswers(t *testing.T) {
	at := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	d := fakeDaemon{
		status: Status{
			Version: "1", PID: 7, Started: at, Edge: edge.Status{Modules: []edge.ModuleStatus{{ID: "m", Counters: map[string]int64{"n": 3}}}},
			Config: ConfigStatus{File: "f", Problems: []config.Problem{{File: "f", Line: 1, Column: 2, Message: "<wrong> & bad"}}},
			Hub:    cloud.State{Status: cloud.Connected, Since: at},
		},
		config: Configuration{File: "f", Values: []config.Value{{Path: "a", Value: "b", Origin: "twin"}}},
	}
	path := filepath.Join(t.TempDir(), SocketName)
	serve(t, path, d)
	status, err := Client{Socket: path}.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&d.status, status); diff != "" {
		t.Errorf("status (-sent +got):\n%s", diff)
	}
	t.Setenv(EnvSocket, path)
	cfg, err := Client{}.Configuration(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&d.config, cfg); diff != "" {
		t.Errorf("configuration (-sent +got):\n%s", diff)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("the socket's mode is %v, %v", info.Mode(), err)
	}
}

// A state directory may be deeper than a socket's address can say.
func TestLongPath(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("deep/", 30))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, SocketName)
	serve(t, path, fakeDaemon{status: Status{PID: 9}})
	if s, err := (Client{Socket: path}).Status(t.Context()); err != nil || s.PID != 9 {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestNobodyAnswers(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, SocketName)
	_, err := Client{Socket: path}.Status(t.Context())
	if !errors.Is(err, ErrNotRunning) || !strings.Contains(err.Error(), path) {
		t.Errorf("no socket: %v", err)
	}
	// A daemon that was killed leaves its socket.
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	if _, err := (Client{Socket: path}).Status(t.Context()); !errors.Is(err, ErrNotRunning) {
		t.Errorf("a left-over socket: %v", err)
	}
	serve(t, path, fakeDaemon{status: Status{PID: 5}}) // replaces it
	if s, err := (Client{Socket: path}).Status(t.Context()); err != nil || s.PID != 5 {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestSomethingElseIsInTheWay(t *testing.T) {
	path := filepath.Join(t.TempDir(), SocketName)
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(path); err == nil || !strings.Contains(err.Error(), "is in the way") {
		t.Errorf("got %v", err)
	}
	if data, _ := os.ReadFile(path); string(data) != "precious" {
		t.Error("the file was overwritten")
	}
}

// What is not a daemon of this kind gives an error that says so.
func TestStrangeAnswers(t *testing.T) {
	path := filepath.Join(t.TempDir(), SocketName)
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	answer := "not JSON"
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/config" {
			http.Error(w, "no such thing", http.StatusNotFound)
			return
		}
		io.WriteString(w, answer)
	})}
	done := make(chan struct{})
	go func() {
		defer close(done)
		server.Serve(l)
	}()
	defer func() {
		server.Close()
		<-done
	}()
	if _, err := (Client{Socket: path}).Status(t.Context()); err == nil || !strings.Contains(err.Error(), "same version") {
		t.Errorf("not JSON: %v", err)
	}
	if _, err := (Client{Socket: path}).Configuration(t.Context()); err == nil || !strings.Contains(err.Error(), "404 Not Found: no such thing") {
		t.Errorf("not found: %v", err)
	}
}

func TestHubInWords(t *testing.T) {
	for want, s := range map[string]cloud.State{
		"no hub configured":                    {Status: cloud.NotConfigured},
		"connected to h":                       {Status: cloud.Connected, Hub: "h"},
		"connecting to h":                      {Status: cloud.Connecting, Hub: "h"},
		"refused by h: bad key":                {Status: cloud.Refused, Hub: "h", Error: "bad key"},
		"not connected to h: no route to host": {Status: cloud.Waiting, Hub: "h", Error: "no route to host"},
		"connection to the hub stopped":        {Status: cloud.Stopped},
	} {
		if got := HubInWords(s); got != want {
			t.Errorf("%+v: %q, want %q", s, got, want)
		}
	}
}

func TestFrame(t *testing.T) {
	at := time.Date(2026, 11, 22, 10, 0, 0, 123456789, time.UTC)
	var asked, payload string
	status, answer := 200, `{"sequence":7,"source":"a.jpg","captureTime":"2026-11-22T10:00:00.123456789Z","contentType":"image/jpeg","picture":"/9j/"}`
	path := filepath.Join(t.TempDir(), SocketName)
	serve(t, path, fakeDaemon{frame: func(camera string, request json.RawMessage) (int, json.RawMessage) {
		asked, payload = camera, string(request)
		return status, json.RawMessage(answer)
	}})
	ask := Client{Socket: path}
	f, err := ask.Frame(t.Context(), "front door", at)
	want := &Frame{Sequence: 7, Source: "a.jpg", CaptureTime: at, ContentType: "image/jpeg", Picture: []byte("\xff\xd8\xff")}
	if err != nil || !cmp.Equal(f, want) {
		t.Errorf("%+v, %v", f, err)
	}
	if asked != "front door" || !strings.Contains(payload, `"after":"2026-11-22T10:00:00.123456789Z"`) || !strings.Contains(payload, `"maxBytes":`) {
		t.Errorf("asked for %q %s", asked, payload)
	}
	if _, err := ask.Frame(t.Context(), "front door", time.Time{}); err != nil || strings.Contains(payload, "after") {
		t.Errorf("the first: %v, %s", err, payload)
	}
	status, answer = 304, "null"
	if f, err := ask.Frame(t.Context(), "c", at); f != nil || err != nil {
		t.Errorf("none newer: %+v, %v", f, err)
	}
	status, answer = 404, `{"error":"there is no method c.snapshot"}`
	if _, err := ask.Frame(t.Context(), "c", at); !errors.Is(err, ErrNoCamera) || !strings.Contains(err.Error(), "c.snapshot") {
		t.Errorf("no camera: %v", err)
	}
	status, answer = 503, `{"error":"the camera has taken no picture yet"}`
	if f, err := ask.Frame(t.Context(), "c", at); !errors.Is(err, ErrNoPicture) || f != nil {
		t.Errorf("no picture: %v", err)
	}
	status, answer = 413, `{"error":"too large"}`
	if _, err := ask.Frame(t.Context(), "c", at); err == nil || !strings.Contains(err.Error(), "too large") {
		t.Errorf("too large: %v", err)
	}
}
