// Package e2e runs the programs as a user does, hub and daemon as processes of
// their own on loopback ports, and watches what arrives at the hub.
package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience is how long to wait for something that is bound to happen, on a
// machine that is busy with other tests.
const patience = 60 * time.Second

const deviceID = "pi"

// root is the repository's.
var root string

func TestMain(m *testing.M) {
	wd, err := os.Getwd()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	root = filepath.Join(wd, "..", "..")
	// The programs under test are those of this tree, in the place where they
	// find the TensorFlow Lite library.
	build := exec.Command("go", "build", "-o", "build/bin/", "./firmware/cmd/...")
	build.Dir, build.Stdout, build.Stderr = root, os.Stdout, os.Stderr
	if err := build.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "building the programs:", err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func program(name string) string { return filepath.Join(root, "build", "bin", name) }

// freePort returns a loopback port that nobody listens on.
func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// process is a program that runs until the test ends.
type process struct {
	t    testing.TB
	cmd  *exec.Cmd
	log  *syncBuffer
	done chan struct{}
	err  error
}

func spawn(t testing.TB, env []string, name string, args ...string) *process {
	t.Helper()
	p := &process{t: t, cmd: exec.Command(name, args...), log: &syncBuffer{}, done: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	// A test that is killed takes its programs with it.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.done)
		p.err = p.cmd.Wait()
	}()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("%s printed:\n%s", filepath.Base(name), p.log.tail(6000))
		}
	})
	return p
}

// kill ends the process without asking it.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // gone already is as good
	<-p.done
}

// stop ends the process as Ctrl-C does, and returns how long that took.
func (p *process) stop() time.Duration {
	p.t.Helper()
	began := time.Now()
	if err := p.cmd.Process.Signal(os.Interrupt); err != nil {
		p.t.Fatalf("%s is not running: %v\n%s", p.cmd.Path, err, p.log.tail(2000))
	}
	select {
	case <-p.done:
	case <-time.After(patience):
		p.t.Fatalf("%s does not stop", p.cmd.Path)
	}
	if p.err != nil {
		p.t.Fatalf("%s stopped with %v\n%s", p.cmd.Path, p.err, p.log.tail(2000))
	}
	return time.Since(began)
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.b.Len() > 1<<20 { // the end is what tells
		b.b.Next(b.b.Len() / 2)
	}
	return b.b.Write(p)
}

func (b *syncBuffer) tail(n int) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.b.String()
	return s[max(0, len(s)-n):]
}

// run runs a command to its end and returns what it printed; it must succeed.
func run(t testing.TB, name string, args ...string) string {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s %s: %v\n%s%s", filepath.Base(name), strings.Join(args, " "), err, stdout.String(), stderr.String())
	}
	return stdout.String()
}

// site is a hub and a device that is registered with it.
type site struct {
	t     testing.TB
	dir   string
	hub   *process
	ports struct{ hub, mqtt, http int }
	dev   *process
}

// newSite starts a hub and writes the device's configuration; more is YAML
// that comes after the part every test has.
func newSite(t testing.TB, more string) *site {
	t.Helper()
	s := &site{t: t, dir: t.TempDir()}
	s.ports.hub, s.ports.mqtt, s.ports.http = freePort(t), freePort(t), freePort(t)
	s.startHub()
	secret := run(t, program("tuxhub"), "--state", s.path("hub"), "device", "add", deviceID)
	s.write("connection-string", secret)
	s.write("tuxwatch.yaml", fmt.Sprintf(`
device: {name: %s}
hub:
  dialect: azure
  connection_string_file: %s
  address: ":%d"
  ca_file: %s
  backoff: {min: 100ms, max: 500ms}
%s`, deviceID, s.path("connection-string"), s.ports.hub, s.path("hub/ca.pem"), strings.NewReplacer(
		"MQTT_PORT", fmt.Sprint(s.ports.mqtt), "HTTP_PORT", fmt.Sprint(s.ports.http)).Replace(more)))
	return s
}

func (s *site) path(name string) string { return filepath.Join(s.dir, name) }

func (s *site) write(name, content string) {
	s.t.Helper()
	if err := os.WriteFile(s.path(name), []byte(content), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) startHub() {
	s.t.Helper()
	s.hub = spawn(s.t, nil, program("tuxhub"), "serve", "--state", s.path("hub"), "--tls-listen", fmt.Sprintf("127.0.0.1:%d", s.ports.hub))
	s.eventually("the hub's start", func() bool {
		return exec.Command(program("tuxhub"), "--state", s.path("hub"), "status").Run() == nil
	})
}

func (s *site) startDevice() {
	s.t.Helper()
	s.spawnDevice()
	s.eventually("the daemon's start", func() bool {
		return exec.Command(program("tuxwatch"), "status", "--socket", s.path("state/control.sock")).Run() == nil
	})
}

func (s *site) spawnDevice() {
	s.t.Helper()
	s.dev = spawn(s.t, nil, program("tuxwatchd"), "--config", s.path("tuxwatch.yaml"), "--state", s.path("state"))
}

// tuxhub runs a command of the hub's.
func (s *site) tuxhub(args ...string) string {
	s.t.Helper()
	return run(s.t, program("tuxhub"), append([]string{"--state", s.path("hub")}, args...)...)
}

func (s *site) eventually(what string, ok func() bool) {
	s.t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			s.t.Fatalf("%s: did not come about", what)
		}
	}
}

// event is a line of tuxhub monitor --json.
type event struct {
	Device     string            `json:"device"`
	Module     string            `json:"module"`
	Output     string            `json:"output"`
	Time       time.Time         `json:"time"`
	Properties map[string]string `json:"properties"`
	Body       json.RawMessage   `json:"body"`
}

// climate reads the event's body as tempSensor's.
func (e event) temperature(t testing.TB) float64 {
	t.Helper()
	var body struct {
		Machine struct {
			Temperature *float64 `json:"temperature"`
		} `json:"machine"`
	}
	if err := json.Unmarshal(e.Body, &body); err != nil || body.Machine.Temperature == nil {
		t.Fatalf("no temperature in %s (%v)", e.Body, err)
	}
	return *body.Machine.Temperature
}

// monitor watches the hub, from the first event that it holds.
func (s *site) monitor() <-chan event {
	s.t.Helper()
	cmd := exec.Command(program("tuxhub"), "--state", s.path("hub"), "monitor", "--json", "--from-start", "--device", deviceID)
	out, err := cmd.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	events := make(chan event, 100000)
	done := make(chan struct{})
	go func() {
		defer close(done)
		lines := bufio.NewScanner(out)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			var e event
			if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
				s.t.Errorf("tuxhub monitor printed %q: %v", lines.Text(), err)
				return
			}
			events <- e
		}
	}()
	s.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-done
		_ = cmd.Wait() // it was killed
	})
	return events
}

// next returns the next event that is wanted; others are passed over.
func (s *site) next(events <-chan event, what string, wanted func(event) bool) event {
	s.t.Helper()
	deadline := time.After(patience)
	for {
		select {
		case e := <-events:
			if wanted(e) {
				return e
			}
		case <-deadline:
			status, _ := exec.Command(program("tuxwatch"), "status", "--socket", s.path("state/control.sock")).CombinedOutput()
			s.t.Fatalf("%s: did not arrive at the hub; the device says:\n%s", what, status)
		}
	}
}
