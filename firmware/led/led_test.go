package led

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fsnotify/fsnotify"
	"go.uber.org/goleak"

	"tuxwatch/firmware/cloud"
	"tuxwatch/firmware/config"
	"tuxwatch/firmware/control"
	"tuxwatch/firmware/edge"
	"tuxwatch/firmware/outbox"
)

// limit is how long a test waits for what has to happen; only a failing test
// waits that long.
const limit = 20 * time.Second

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// kernel is a light in a folder that behaves as the kernel's: what is written to
// trigger is chosen, and the trigger timer makes its settings only then, a
// moment later.
type kernel struct {
	t        *testing.T
	dir      string
	triggers []string
}

func newKernel(t *testing.T, class, name string, triggers ...string) *kernel {
	t.Helper()
	k := &kernel{t, filepath.Join(class, name), append(triggers, "none", "timer", "heartbeat")}
	if len(triggers) > 1 { // all there are
		k.triggers = triggers
	}
	if err := os.MkdirAll(k.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	k.put("brightness", "0\n")
	k.choose(k.triggers[0])
	w, err := fsnotify.NewWatcher()
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Add(k.dir); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for e := range w.Events {
			if filepath.Base(e.Name) == "trigger" {
				k.look()
			}
		}
	}()
	t.Cleanup(func() { w.Close(); <-done })
	return k
}

func (k *kernel) look() {
	if chosen := k.get("trigger"); slices.Contains(k.triggers, chosen) {
		k.choose(chosen)
	}
}

func (k *kernel) choose(name string) {
	for _, file := range []string{"delay_on", "delay_off"} {
		path := filepath.Join(k.dir, file)
		if name != "timer" {
			os.Remove(path)
		} else if f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644); err == nil {
			f.Close()
		}
	}
	list := slices.Clone(k.triggers)
	list[slices.Index(list, name)] = "[" + name + "]"
	// In one step, for a reader must never see half of it.
	temporary := filepath.Join(k.dir, ".trigger")
	if err := os.WriteFile(temporary, []byte(strings.Join(list, " ")+"\n"), 0o644); err != nil {
		k.t.Error(err)
	}
	if err := os.Rename(temporary, filepath.Join(k.dir, "trigger")); err != nil {
		k.t.Error(err)
	}
}

func (k *kernel) put(file, text string) {
	if err := os.WriteFile(filepath.Join(k.dir, file), []byte(text), 0o644); err != nil {
		k.t.Error(err)
	}
}

func (k *kernel) get(file string) string {
	data, _ := os.ReadFile(filepath.Join(k.dir, file))
	return string(data)
}

// eventually waits until the light is as wanted: a trigger, and with timer its
// delays in milliseconds, or with none the brightness.
func (k *kernel) eventually(want string) {
	k.t.Helper()
	var is string
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		is = ""
		for _, w := range strings.Fields(k.get("trigger")) {
			if strings.HasPrefix(w, "[") {
				is = strings.Trim(w, "[]")
			}
		}
		number := func(file string) string { return strings.TrimSpace(k.get(file)) }
		switch is {
		case "timer":
			is += " " + number("delay_on") + "/" + number("delay_off")
		case "none":
			is += " " + number("brightness")
		}
		if is == want {
			return
		}
	}
	k.t.Errorf("the light is %q, want %q", is, want)
}

func running() *control.Status {
	return &control.Status{
		Hub:  cloud.State{Status: cloud.Connected},
		Edge: edge.Status{Modules: []edge.ModuleStatus{{ID: "tempSensor", State: edge.Running, Healthy: true}}},
	}
}

// The light follows the daemon through a day, and is left as it was found.
func TestShow(t *testing.T) {
	k := newKernel(t, t.TempDir(), "ACT", "mmc0")
	light, err := Find(filepath.Dir(k.dir))
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var status *control.Status
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	look := make(chan time.Time)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- Show(ctx, Options{
			Light: light, Look: look, Log: slog.New(slog.DiscardHandler),
			Now: func() time.Time { mu.Lock(); defer mu.Unlock(); return now },
			Status: func(context.Context) (*control.Status, error) {
				mu.Lock()
				defer mu.Unlock()
				if status == nil {
					return nil, control.ErrNotRunning
				}
				return status, nil
			},
		})
	}()
	shows := func(want string, s *control.Status, passed time.Duration) {
		t.Helper()
		mu.Lock()
		status, now = s, now.Add(passed)
		mu.Unlock()
		look <- time.Time{}
		k.eventually(want)
	}
	alert := func(n int) *control.Status {
		s := running()
		// Years off: only that it is another one counts.
		s.LastAlert = &control.Alert{Time: time.Unix(int64(n), 0)}
		return s
	}

	const starting, alerting = "timer 100/100", "none 255"
	k.eventually(starting)
	shows("heartbeat", alert(1), 0) // one from before this program started
	shows(alerting, alert(2), 0)
	shows(alerting, alert(2), AlertFor-time.Second)
	shows("heartbeat", alert(2), time.Second)
	offline := alert(2)
	offline.Hub.Status = cloud.Waiting
	shows("timer 1000/1000", offline, 0)
	offline = alert(3)
	offline.Hub.Status = cloud.Waiting
	shows(alerting, offline, 0)
	shows("timer 1000/1000", offline, time.Minute)
	missing := alert(3)
	missing.Edge.Modules[0].Healthy = false
	shows("timer 100/1900", missing, 0)
	shows(starting, nil, 0)          // the daemon is gone,
	shows("heartbeat", running(), 0) // and comes back without having alerted
	shows(alerting, alert(4), 0)
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	k.eventually("mmc0")
}

// Steady light is put back with its brightness.
func TestRestoreBrightness(t *testing.T) {
	k := newKernel(t, t.TempDir(), "led0")
	k.put("brightness", "7\n")
	light, err := Find(filepath.Dir(k.dir))
	if err != nil {
		t.Fatal(err)
	}
	found, err := light.State()
	if err != nil {
		t.Fatal(err)
	}
	if err := light.Set(Running); err != nil {
		t.Fatal(err)
	}
	k.eventually("heartbeat")
	k.put("brightness", "0\n")
	if err := light.Restore(found); err != nil {
		t.Fatal(err)
	}
	k.eventually("none 7")
}

// What is not there is said once, and tried again until it is.
func TestTriggerIsMissing(t *testing.T) {
	k := newKernel(t, t.TempDir(), "ACT", "none", "mmc0")
	var log bytes.Buffer
	look := make(chan time.Time)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- Show(ctx, Options{
			Light: &Light{Dir: k.dir}, Look: look, Log: slog.New(slog.NewTextHandler(&log, nil)),
			Status: func(context.Context) (*control.Status, error) { return nil, control.ErrNotRunning },
		})
	}()
	look <- time.Time{}
	look <- time.Time{}
	look <- time.Time{}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if got := strings.Count(log.String(), "ledtrig-timer"); got != 1 {
		t.Errorf("said %d times: %s", got, &log)
	}
	k.eventually("none 0")
}

func TestFind(t *testing.T) {
	class := t.TempDir()
	if _, err := Find(class); !errors.Is(err, ErrNoLight) {
		t.Errorf("%v", err)
	}
	newKernel(t, class, "mmc0::")
	newKernel(t, class, "PWR")
	if _, err := Find(class); !errors.Is(err, ErrNoLight) {
		t.Errorf("%v", err)
	}
	newKernel(t, class, "green:activity")
	newKernel(t, class, "ACT")
	l, err := Find(class)
	if err != nil || l.String() != "ACT" {
		t.Errorf("%v %v", l, err)
	}
}

func TestPatternOfStatus(t *testing.T) {
	for _, c := range []struct {
		what   string
		change func(*control.Status)
		want   Pattern
	}{
		{"well", func(*control.Status) {}, Running},
		{"without a hub by choice", func(s *control.Status) { s.Hub.Status = cloud.NotConfigured }, Running},
		{"connecting", func(s *control.Status) { s.Hub.Status = cloud.Connecting }, NoHub},
		{"refused", func(s *control.Status) { s.Hub.Status = cloud.Refused }, NoHub},
		{"no connection at all", func(s *control.Status) { s.Hub.Status = cloud.Stopped }, NoHub},
		{"invalid configuration", func(s *control.Status) { s.Config.Problems = []config.Problem{{}} }, Trouble},
		{"hanging module", func(s *control.Status) { s.Edge.Stuck = []string{"camera"} }, Trouble},
		{"disk full", func(s *control.Status) { s.Outbox = outbox.Stats{DiskFull: true} }, Trouble},
		{"outbox broken", func(s *control.Status) { s.Outbox = outbox.Stats{Fault: "input/output error"} }, Trouble},
		{"both", func(s *control.Status) { s.Hub.Status, s.Outbox.DiskFull = cloud.Waiting, true }, NoHub},
	} {
		s := running()
		c.change(s)
		if got := of(s, nil); got != c.want {
			t.Errorf("%s: %q, want %q", c.what, got.Meaning, c.want.Meaning)
		}
	}
	if got := of(nil, control.ErrNotRunning); got != Starting {
		t.Errorf("no daemon: %q", got.Meaning)
	}
}

// The patterns differ, and all are in the list.
func TestPatterns(t *testing.T) {
	if len(Patterns) != 5 {
		t.Errorf("%d patterns", len(Patterns))
	}
	for i, p := range Patterns {
		if slices.ContainsFunc(Patterns[:i], func(q Pattern) bool {
			return q.Trigger == p.Trigger && q.On == p.On && q.Off == p.Off || q.Name == p.Name || q.Meaning == p.Meaning
		}) {
			t.Errorf("%q twice", p.Name)
		}
	}
}
