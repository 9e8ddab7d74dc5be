package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"tuxwatch/firmware/config"
	"tuxwatch/firmware/control"
	"tuxwatch/firmware/edge"
)

// patience is how long a test waits for what has to happen; only a failing test
// waits that long.
const patience = 20 * time.Second

// TestMain makes the test binary the daemon when a test starts it as one: what
// these tests see is the real program in a process of its own.
func TestMain(m *testing.M) {
	if os.Getenv("TUXWATCHD_TEST_IS_DAEMON") != "" {
		main()
	}
	os.Exit(m.Run())
}

// process is a running daemon.
type process struct {
	t      *testing.T
	cmd    *exec.Cmd
	dir    string // with tuxwatch.yaml and state/
	config string
	state  string
	log    *log
	exited chan error
	notify *notifySocket
}

// log collects what the daemon prints.
type log struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// quiet is a configuration in which nothing happens by itself: no broker, no
// HTTP, no camera.
const quiet = `modules:
  imageReceiveProcessModule: null
  recognizer: null
routes: {}
`

// start starts a daemon with the configuration in dir and waits until it is
// ready. An empty text leaves what is there.
func start(t *testing.T, dir, config string, args ...string) *process {
	t.Helper()
	p := launch(t, dir, config, args...)
	p.notify.wait(t, "READY=1", p.log)
	return p
}

func launch(t *testing.T, dir, config string, args ...string) *process {
	t.Helper()
	p := &process{
		t: t, dir: dir, config: filepath.Join(dir, "tuxwatch.yaml"), state: filepath.Join(dir, "state"),
		log: &log{}, exited: make(chan error, 1), notify: listenNotify(t),
	}
	if config != "" {
		p.write(config)
	}
	p.cmd = exec.Command(os.Args[0], append([]string{"--config", p.config, "--state", p.state}, args...)...)
	p.cmd.Env = append(os.Environ(), "TUXWATCHD_TEST_IS_DAEMON=1", "NOTIFY_SOCKET="+p.notify.path,
		"WATCHDOG_USEC=300000", "RUNTIME_DIRECTORY=", "STATE_DIRECTORY=", "JOURNAL_STREAM=")
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	// A test that is killed takes its daemon with it.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { p.exited <- p.cmd.Wait() }()
	t.Cleanup(func() {
		p.cmd.Process.Kill()
		p.wait()
		if t.Failed() {
			t.Logf("the daemon said:\n%s", p.log)
		}
	})
	return p
}

func (p *process) write(config string) {
	p.t.Helper()
	if err := os.WriteFile(p.config, []byte(config), 0o600); err != nil {
		p.t.Fatal(err)
	}
}

// end sends the signal and waits; it returns the exit code and how long it took.
func (p *process) end(sig syscall.Signal) (int, time.Duration) {
	p.t.Helper()
	began := time.Now()
	if err := p.cmd.Process.Signal(sig); err != nil {
		p.t.Fatal(err)
	}
	return p.wait(), time.Since(began)
}

func (p *process) wait() int {
	p.t.Helper()
	select {
	case err := <-p.exited:
		p.exited <- err
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			return exit.ExitCode()
		}
		return 0
	case <-time.After(patience):
		p.t.Fatalf("the daemon has not ended after %v", patience)
		return -1
	}
}

func (p *process) status() (*control.Status, error) {
	return control.Client{Socket: filepath.Join(p.state, control.SocketName)}.Status(p.t.Context())
}

// eventually waits until the status is as wanted.
func (p *process) eventually(what string, is func(*control.Status) bool) *control.Status {
	p.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		s, err := p.status()
		if err == nil && is(s) {
			return s
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("never came: %s; the status is %+v, %v", what, s, err)
		}
		time.Sleep(20 * time.Millisecond) // between two looks
	}
}

func module(s *control.Status, id string) edge.ModuleStatus {
	i := slices.IndexFunc(s.Edge.Modules, func(m edge.ModuleStatus) bool { return m.ID == id })
	if i < 0 {
		return edge.ModuleStatus{}
	}
	return s.Edge.Modules[i]
}

func desired(s *control.Status, id, name string) any {
	properties, _ := module(s, id).Desired.(map[string]any)
	return properties[name]
}

// notifySocket is systemd's end of sd_notify. It reads at once, as systemd does:
// a full socket would hold the daemon up.
type notifySocket struct {
	path     string
	messages chan string
}

func listenNotify(t *testing.T) *notifySocket {
	t.Helper()
	// Not in t.TempDir, whose path can be too long for a socket.
	dir, err := os.MkdirTemp("", "notify")
	if err != nil {
		t.Fatal(err)
	}
	n := &notifySocket{path: filepath.Join(dir, "s"), messages: make(chan string, 10_000)}
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: n.path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 64<<10)
		for {
			size, err := conn.Read(buf)
			if err != nil {
				return
			}
			n.messages <- string(buf[:size])
		}
	}()
	t.Cleanup(func() {
		conn.Close()
		<-done
		os.RemoveAll(dir)
	})
	return n
}

// wait waits for a message with a line that begins as wanted, and returns it.
func (n *notifySocket) wait(t *testing.T, line string, log fmt.Stringer) string {
	t.Helper()
	deadline := time.After(patience)
	var seen []string
	for {
		select {
		case message := <-n.messages:
			seen = append(seen, message)
			if slices.ContainsFunc(strings.Split(message, "\n"), func(l string) bool { return strings.HasPrefix(l, line) }) {
				return message
			}
		case <-deadline:
			t.Fatalf("no %s within %v; came %q; the daemon said:\n%s", line, patience, seen, log)
		}
	}
}

func TestLifeUnderSystemd(t *testing.T) {
	p := launch(t, t.TempDir(), quiet)
	ready := p.notify.wait(t, "READY=1", p.log)
	if !strings.Contains(ready, "\nSTATUS=2 modules working; ") {
		t.Errorf("ready without the state in words: %q", ready)
	}
	p.notify.wait(t, "WATCHDOG=1", p.log)
	p.notify.wait(t, "WATCHDOG=1", p.log)

	if err := p.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	reloading := p.notify.wait(t, "RELOADING=1", p.log)
	if !strings.Contains(reloading, "\nMONOTONIC_USEC=") {
		t.Errorf("reloading without the time: %q", reloading)
	}
	p.notify.wait(t, "READY=1", p.log)

	code, took := p.end(syscall.SIGTERM)
	p.notify.wait(t, "STOPPING=1", p.log)
	// The limit is two seconds; a loaded machine gets one more.
	if code != exitDone || took > 3*time.Second {
		t.Errorf("ended with %d after %v", code, took)
	}
	if _, err := os.Stat(filepath.Join(p.state, control.SocketName)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the control socket is left behind: %v", err)
	}
}

func TestInterrupt(t *testing.T) {
	p := start(t, t.TempDir(), quiet)
	if code, took := p.end(syscall.SIGINT); code != exitDone || took > 3*time.Second {
		t.Errorf("ended with %d after %v", code, took)
	}
}

// What editors and configuration tools do to a file.
func TestFileChanges(t *testing.T) {
	with := func(n int) string {
		return strings.Replace(quiet, "modules:\n", fmt.Sprintf("modules:\n  filterModule: {desired: {TemperatureThreshold: %d}}\n", n), 1)
	}
	dir := t.TempDir()
	p := start(t, dir, with(30))
	came := func(n int) func(*control.Status) bool {
		return func(s *control.Status) bool { return desired(s, "filterModule", "TemperatureThreshold") == float64(n) }
	}
	p.eventually("the first value", came(30))

	replace := func(n int) {
		next := filepath.Join(dir, ".tuxwatch.yaml.new")
		if err := os.WriteFile(next, []byte(with(n)), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(next, p.config); err != nil {
			t.Fatal(err)
		}
	}
	p.write(with(31))
	p.eventually("written in place", came(31))
	replace(32)
	p.eventually("replaced", came(32))
	replace(33)
	p.eventually("replaced again", came(33))

	// A link to a file elsewhere, as the configuration tools of containers make
	// them: the file behind it changes, and then the link.
	for n := 34; n <= 35; n++ {
		versioned := filepath.Join(dir, fmt.Sprintf("v%d", n))
		if err := os.Mkdir(versioned, 0o700); err != nil {
			t.Fatal(err)
		}
		target := filepath.Join(versioned, "tuxwatch.yaml")
		if err := os.WriteFile(target, []byte(with(n)), 0o600); err != nil {
			t.Fatal(err)
		}
		link := filepath.Join(dir, "link")
		if err := os.Symlink(target, link); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(link, p.config); err != nil {
			t.Fatal(err)
		}
		p.eventually("another link", came(n))
		if err := os.WriteFile(target, []byte(with(n+100)), 0o600); err != nil {
			t.Fatal(err)
		}
		p.eventually("the file behind the link", came(n+100))
	}
}

// A directory in which something else is always being written is no excuse.
func TestChangeInBusyDirectory(t *testing.T) {
	dir := t.TempDir()
	p := start(t, dir, quiet)
	stop := background(func(ctx context.Context) {
		for n := 0; ctx.Err() == nil; n++ {
			if err := os.WriteFile(filepath.Join(dir, "busy"), []byte{byte(n)}, 0o600); err != nil {
				t.Error(err)
			}
			time.Sleep(debounce / 10) // the pace of the writer, not a wait
		}
	})
	defer stop()
	p.write(quiet + "log: {level: loud}\n")
	p.eventually("the change", func(s *control.Status) bool { return len(s.Config.Problems) > 0 })
}

// A configuration directory that does not exist yet is found when it is made.
func TestDirectoryMadeLater(t *testing.T) {
	dir := t.TempDir()
	etc := filepath.Join(dir, "a", "b")
	p := launch(t, dir, "", "--config", filepath.Join(etc, "tuxwatch.yaml"))
	p.notify.wait(t, "READY=1", p.log)
	p.eventually("the built-in configuration", func(s *control.Status) bool {
		return s.Config.Source == control.FromBuiltIn && len(s.Config.Problems) == 1
	})
	if err := os.MkdirAll(etc, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(etc, "tuxwatch.yaml"), []byte(quiet), 0o600); err != nil {
		t.Fatal(err)
	}
	p.eventually("the file", func(s *control.Status) bool {
		return s.Config.Source == control.FromFile && len(s.Config.Problems) == 0
	})
}

func TestBadEditKeepsTheOldConfiguration(t *testing.T) {
	p := start(t, t.TempDir(), quiet+"log: {level: debug}\n")
	p.write("log: {level: loud}\n")
	p.notify.wait(t, "RELOADING=1", p.log)
	if ready := p.notify.wait(t, "READY=1", p.log); !strings.Contains(ready, "the configuration file is invalid") {
		t.Errorf("the status in words hides it: %q", ready)
	}
	s := p.eventually("the problem", func(s *control.Status) bool { return len(s.Config.Problems) > 0 })
	if got := s.Config.Problems[0]; got.Line != 1 || got.Column != 14 || got.Path != "log.level" || s.Config.RefusedAt.IsZero() {
		t.Errorf("problem %+v, refused at %v", got, s.Config.RefusedAt)
	}
	if s.Config.Source != control.FromFile || len(s.Edge.Modules) != 2 {
		t.Errorf("the configuration in effect is %s with %d modules", s.Config.Source, len(s.Edge.Modules))
	}
	if want := p.config + `:1:14: log.level: must be one of debug, info, warn, error; this is "loud"`; !strings.Contains(p.log.String(), want) {
		t.Errorf("the log lacks %q", want)
	}

	// Also a file that vanishes changes nothing.
	if err := os.Remove(p.config); err != nil {
		t.Fatal(err)
	}
	p.eventually("the missing file", func(s *control.Status) bool {
		return len(s.Config.Problems) == 1 && strings.Contains(s.Config.Problems[0].Message, "no such file")
	})
	p.write(quiet)
	p.eventually("the correction", func(s *control.Status) bool { return len(s.Config.Problems) == 0 })
}

func TestBadConfigurationAtStart(t *testing.T) {
	dir := t.TempDir()
	p := start(t, dir, "modules: [")
	s := p.eventually("the built-in configuration", func(s *control.Status) bool { return s.Config.Source == control.FromBuiltIn })
	if len(s.Config.Problems) != 1 || s.Config.Problems[0].Line != 1 || module(s, "tempSensor").ID == "" {
		t.Errorf("problems %v", s.Config.Problems)
	}
	p.write(strings.Replace(quiet, "modules:\n", "modules:\n  good: {kind: filter}\n", 1))
	p.eventually("the corrected file", func(s *control.Status) bool { return module(s, "good").ID != "" })
	p.end(syscall.SIGTERM)

	p = start(t, dir, "modules: {good: {kind: flter}}")
	s = p.eventually("the last good configuration", func(s *control.Status) bool { return s.Config.Source == control.FromLastGood })
	if module(s, "good").ID == "" || len(s.Config.Problems) != 1 {
		t.Errorf("modules %v, problems %v", s.Edge.Modules, s.Config.Problems)
	}
	if info, err := os.Stat(filepath.Join(p.state, lastGoodName)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the kept copy: %v, %v", info, err)
	}
}

// A change of one module leaves the others running.
func TestReloadRestartsOnlyWhatChanged(t *testing.T) {
	two := strings.Replace(quiet, "modules:\n", "modules:\n  second: {kind: filter}\n", 1)
	p := start(t, t.TempDir(), two)
	before := p.eventually("both", func(s *control.Status) bool {
		return module(s, "tempSensor").State == edge.Running && module(s, "filterModule").State == edge.Running && module(s, "second").State == edge.Running
	})
	p.write(strings.Replace(quiet, "modules:\n", "modules:\n  tempSensor: {settings: {seed: 7}}\n  third: {kind: filter}\n", 1))
	after := p.eventually("the change", func(s *control.Status) bool {
		return module(s, "second").ID == "" && module(s, "third").State == edge.Running && module(s, "tempSensor").State == edge.Running
	})
	if !module(after, "filterModule").Since.Equal(module(before, "filterModule").Since) {
		t.Error("the filter was restarted, though nothing of it changed")
	}
	if module(after, "tempSensor").Since.Equal(module(before, "tempSensor").Since) {
		t.Error("the sensor was not restarted, though its settings changed")
	}
}

func TestReloadSwapsRoutesAndBounds(t *testing.T) {
	p := start(t, t.TempDir(), quiet)
	p.write(strings.Replace(quiet, "routes: {}", "routes: {all: FROM /messages/* INTO $upstream}", 1) +
		"outbox: {max_bytes: 32MB}\n")
	s := p.eventually("the route", func(s *control.Status) bool { return len(s.Edge.Routes) == 3 && s.Outbox.MaxBytes == 32e6 })
	if !slices.ContainsFunc(s.Edge.Routes, func(r edge.RouteStatus) bool { return r.Name == "all" }) {
		t.Errorf("routes: %+v", s.Edge.Routes)
	}
	// The outbox takes messages after it was opened anew.
	p.write(strings.Replace(strings.Replace(quiet, "routes: {}", "routes: {all: FROM /messages/* INTO $upstream}", 1),
		"modules:\n", "modules:\n  tempSensor: {desired: {SendInterval: 0.05}}\n", 1) + "outbox: {max_bytes: 16MB}\n")
	p.eventually("messages in the outbox", func(s *control.Status) bool { return s.Outbox.MaxBytes == 16e6 && s.Outbox.Puts > 0 })
}

// The twin wins over the file, also after a restart without the hub.
func TestTwinWinsOverFile(t *testing.T) {
	dir := t.TempDir()
	state := filepath.Join(dir, "state")
	if err := os.Mkdir(state, 0o700); err != nil {
		t.Fatal(err)
	}
	twin := `{"version":3,"desired":{"filterModule":{"TemperatureThreshold":40}},"accepted":{}}`
	if err := os.WriteFile(filepath.Join(state, "twin.json"), []byte(twin), 0o600); err != nil {
		t.Fatal(err)
	}
	p := start(t, dir, strings.Replace(quiet, "modules:\n", "modules:\n  filterModule: {desired: {TemperatureThreshold: 30, Hysteresis: 2}}\n", 1))
	p.eventually("the twin's value", func(s *control.Status) bool {
		return desired(s, "filterModule", "TemperatureThreshold") == 40.0 && desired(s, "filterModule", "Hysteresis") == 2.0
	})
	c, err := control.Client{Socket: filepath.Join(p.state, control.SocketName)}.Configuration(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"modules.filterModule.desired.TemperatureThreshold": "40 " + config.OriginTwin,
		"modules.filterModule.desired.Hysteresis":           "2 " + p.config + ":2",
		"modules.filterModule.desired.AlertOn":              "every " + config.OriginDefault,
	}
	for _, v := range c.Values {
		if w, ok := want[v.Path]; ok {
			if got := v.Text() + " " + v.Origin; got != w {
				t.Errorf("%s: %s, want %s", v.Path, got, w)
			}
			delete(want, v.Path)
		}
	}
	if len(want) > 0 {
		t.Errorf("not shown: %v", want)
	}
}

// Another hub in the file is connected to at once, and only then.
func TestReloadReconnectsTheHub(t *testing.T) {
	hub := func() (address string, connections <-chan net.Conn) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		arrived := make(chan net.Conn, 10)
		done := make(chan struct{})
		go func() {
			defer close(done)
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				arrived <- conn
			}
		}()
		t.Cleanup(func() {
			l.Close()
			<-done
			close(arrived)
			for conn := range arrived {
				conn.Close()
			}
		})
		return l.Addr().String(), arrived
	}
	with := func(address string, threshold int) string {
		return strings.Replace(quiet, "modules:\n", fmt.Sprintf("modules:\n  filterModule: {desired: {TemperatureThreshold: %d}}\n", threshold), 1) +
			"hub: {dialect: mqtt, mqtt: {url: 'mqtt://" + address + "'}}\n"
	}
	connected := func(connections <-chan net.Conn) net.Conn {
		t.Helper()
		select {
		case conn := <-connections:
			return conn
		case <-time.After(patience):
			t.Fatal("the daemon does not connect")
			return nil
		}
	}
	first, atFirst := hub()
	second, atSecond := hub()
	p := start(t, t.TempDir(), with(first, 30))
	one := connected(atFirst)
	defer one.Close()

	p.write(with(first, 31))
	p.eventually("another threshold", func(s *control.Status) bool { return desired(s, "filterModule", "TemperatureThreshold") == 31.0 })
	p.write(with(second, 31))
	two := connected(atSecond)
	defer two.Close()
	select {
	case <-atFirst:
		t.Error("a change of the threshold made the daemon connect anew")
	default:
	}
	p.eventually("the second hub", func(s *control.Status) bool { return strings.Contains(s.Hub.Hub, second) })
}

// A module that neither works nor fails holds up the start for a while only.
func TestSettleGivesUp(t *testing.T) {
	var text log
	hanging := edge.Kind{Name: "hanging", New: func(any) (edge.Module, error) { return hangs{}, nil }}
	d := &daemon{log: slog.New(slog.NewTextHandler(&text, nil))}
	d.runtime = edge.New(edge.Options{Modules: []edge.Instance{{ID: "sleeper", Kind: hanging}}})
	stop := background(func(ctx context.Context) { d.runtime.Run(ctx) })
	defer stop()
	d.settle(t.Context(), 50*time.Millisecond)
	if !strings.Contains(text.String(), "sleeper") || !strings.Contains(text.String(), "not ready after 50ms") {
		t.Errorf("the log does not name it: %s", &text)
	}
}

type hangs struct{}

func (hangs) Run(ctx context.Context, _ *edge.Client) error {
	<-ctx.Done()
	return nil
}

func TestSecondDaemonIsRefused(t *testing.T) {
	dir := t.TempDir()
	p := start(t, dir, quiet)
	second := launch(t, dir, "")
	if code := second.wait(); code != exitFailed {
		t.Errorf("the second ends with %d", code)
	}
	want := fmt.Sprintf("another tuxwatchd (process %d) runs with the state directory %s", p.cmd.Process.Pid, p.state)
	if !strings.Contains(second.log.String(), want) {
		t.Errorf("the second says %q, want %q", second.log, want)
	}
	if _, err := p.status(); err != nil {
		t.Errorf("the first is harmed: %v", err)
	}
	// After a crash the lock and the socket are in nobody's way.
	p.cmd.Process.Kill()
	p.wait()
	third := start(t, dir, "")
	third.eventually("an answer", func(s *control.Status) bool { return s.PID == third.cmd.Process.Pid })
}

func TestCommandLine(t *testing.T) {
	dir := t.TempDir()
	good, bad := filepath.Join(dir, "good.yaml"), filepath.Join(dir, "bad.yaml")
	for file, text := range map[string]string{good: quiet, bad: "log: {level: loud}\n"} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		args           string
		code           int
		stdout, stderr string
	}{
		{"--version", 0, "tuxwatchd ", ""},
		{"--help", 0, "", "Usage: tuxwatchd"},
		{"--apply-card " + good + "x", 2, "", "--apply-card: opening the card"},
		{"--check --config " + good, 0, good + ": valid", ""},
		{"--check --config " + bad, 3, "", bad + ":1:14: log.level"},
		{"--check --config " + bad + "x", 1, "", "no such file"},
		{"--chek", 2, "", "chek"},
		{"good.yaml", 2, "", "--config"},
		{"--log-level loud", 2, "", `--log-level: must be one of`},
		{"--state /proc/tuxwatch --config " + good, 1, "", "choose another with --state"},
	} {
		var stdout, stderr bytes.Buffer
		code := run(context.Background(), strings.Fields(c.args), &stdout, &stderr)
		if code != c.code || !strings.Contains(stdout.String(), c.stdout) || !strings.Contains(stderr.String(), c.stderr) {
			t.Errorf("tuxwatchd %s: %d, want %d; printed %q and %q", c.args, code, c.code, stdout.String(), stderr.String())
		}
	}
}
