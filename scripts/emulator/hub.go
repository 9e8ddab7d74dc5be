package emulator

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// GuestHost is where the device reaches 127.0.0.1 of this machine.
const GuestHost = "10.0.2.2"

// Hub is a tuxhub on this machine that the device sends its alerts to.
type Hub struct {
	program string
	state   string
	port    int
	command *exec.Cmd
	ended   chan struct{}
}

// NewHub starts a hub. program is tuxhub; what it keeps is in the folder state,
// and its log in tuxhub.log there. port 0 takes a free one.
func NewHub(program, state string, port int) (*Hub, error) {
	if err := os.MkdirAll(state, 0o700); err != nil {
		return nil, err
	}
	if port == 0 {
		var err error
		if port, err = FreePort(); err != nil {
			return nil, err
		}
	}
	h := &Hub{program: program, state: state, port: port}
	return h, h.Start()
}

// Port is where the hub listens on 127.0.0.1, and on GuestHost for the device.
func (h *Hub) Port() int { return h.port }

// Authority is the file with the certificate that devices have to trust.
func (h *Hub) Authority() string { return filepath.Join(h.state, "ca.pem") }

// Start starts the hub again after Stop, with what it has kept.
func (h *Hub) Start() error {
	logFile := filepath.Join(h.state, "tuxhub.log")
	log, err := os.OpenFile(logFile, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(h.program, "serve", "--state", h.state, "--host", GuestHost, "--tls-listen", fmt.Sprintf("127.0.0.1:%d", h.port))
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting the hub: %w", err)
	}
	h.command, h.ended = cmd, make(chan struct{})
	go func() {
		defer close(h.ended)
		_ = cmd.Wait() // why it ended is in its log
	}()
	deadline := time.Now().Add(patience)
	for {
		_, err := h.Run("status")
		if err == nil {
			return nil
		}
		select {
		case <-h.ended:
			err = errors.New("it ended")
		default:
			if time.Now().Before(deadline) {
				time.Sleep(50 * time.Millisecond)
				continue
			}
		}
		h.Stop()
		said, _ := os.ReadFile(logFile)
		return fmt.Errorf("starting the hub on port %d: %w: %s", h.port, err, lastLines(string(said), 5))
	}
}

// Stop ends the hub, as if the site it is at were cut off.
func (h *Hub) Stop() {
	_ = h.command.Process.Signal(syscall.SIGTERM) // gone already is as good
	<-h.ended
}

// Run runs a command of tuxhub with this hub.
func (h *Hub) Run(args ...string) (string, error) {
	cmd := exec.Command(h.program, append([]string{"--state", h.state}, args...)...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("tuxhub %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), nil
}

// AddDevice registers a device, or finds it registered, and returns its
// connection string.
func (h *Hub) AddDevice(id string) (string, error) {
	return h.Run("device", "add", id, "--exist-ok", "--host", GuestHost)
}

// Settings is the part of tuxwatch.yaml that sends a device's alerts here; the
// connection string and the authority's certificate are files of their own on
// the card.
func (h *Hub) Settings() string {
	return fmt.Sprintf("hub:\n  address: \":%d\"\n  ca_file: /etc/tuxwatch/hub-ca.pem\n", h.port)
}

// Event is something that has arrived at the hub, a line of tuxhub monitor --json.
type Event struct {
	Device     string            `json:"device"`
	Module     string            `json:"module"`
	Output     string            `json:"output"`
	Time       time.Time         `json:"time"`
	Properties map[string]string `json:"properties"`
	Body       json.RawMessage   `json:"body"`
}

// Watcher collects what arrives at a hub.
type Watcher struct {
	cancel context.CancelFunc
	ended  chan struct{}

	mu      sync.Mutex
	events  []Event
	changed chan struct{}
	err     error
}

// Watch collects everything that has arrived at the hub, and what will, until
// the hub or the watcher is stopped.
func (h *Hub) Watch() (*Watcher, error) {
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, h.program, "--state", h.state, "monitor", "--json", "--from-start")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		cancel()
		return nil, fmt.Errorf("watching the hub: %w", err)
	}
	w := &Watcher{cancel: cancel, ended: make(chan struct{}), changed: make(chan struct{})}
	go func() {
		defer close(w.ended)
		w.collect(out)
		_ = cmd.Wait() // it is ended by a signal
	}()
	return w, nil
}

func (w *Watcher) collect(out io.Reader) {
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var e Event
		err := json.Unmarshal(lines.Bytes(), &e)
		w.mu.Lock()
		if err != nil {
			w.err = fmt.Errorf("tuxhub monitor printed %q: %w", lines.Text(), err)
		} else {
			w.events = append(w.events, e)
		}
		close(w.changed)
		w.changed = make(chan struct{})
		w.mu.Unlock()
	}
}

// Stop ends the watching.
func (w *Watcher) Stop() {
	w.cancel()
	<-w.ended
}

// Events returns what has arrived so far.
func (w *Watcher) Events() []Event {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.events[:len(w.events):len(w.events)]
}

// Next waits for an event after the first n that is wanted, and returns it and
// the number of events up to it.
func (w *Watcher) Next(ctx context.Context, n int, wanted func(Event) bool) (Event, int, error) {
	for {
		w.mu.Lock()
		events, changed, err := w.events, w.changed, w.err
		w.mu.Unlock()
		for ; n < len(events); n++ {
			if wanted(events[n]) {
				return events[n], n + 1, nil
			}
		}
		if err != nil {
			return Event{}, n, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return Event{}, n, fmt.Errorf("waiting for a message at the hub: %w", ctx.Err())
		}
	}
}
