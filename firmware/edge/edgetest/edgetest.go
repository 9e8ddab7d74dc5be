// Package edgetest runs a single module under the real supervisor for its
// tests: what the module sends is recorded, and messages, desired properties
// and direct methods reach it the way they do on a device.
//
// It is not for testing routes or several modules together: use [edge.Runtime]
// itself for that. Start with [Start].
package edgetest

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"tuxwatch/firmware/edge"
	"tuxwatch/firmware/edge/route"
	"tuxwatch/firmware/message"
)

// ModuleID is the name the module under test runs as.
const ModuleID = "module"

// patience is how long to wait for something that is bound to happen, on a
// machine that is busy with other tests.
const patience = 20 * time.Second

// Harness is a running module and everything around it.
type Harness struct {
	t       testing.TB
	runtime *edge.Runtime
	cancel  context.CancelFunc
	done    chan struct{}
	once    sync.Once

	mu      sync.Mutex
	sent    map[string]chan message.Message
	feeders map[string]chan feed
	refuse  func(output string, m message.Message) error
	version int64
}

// Start runs a module of the kind until the test ends. settings nil means the
// kind's defaults; desired is the configuration's desired properties in JSON,
// or "".
func Start(t testing.TB, kind edge.Kind, settings any, desired string) *Harness {
	t.Helper()
	h := &Harness{t: t, done: make(chan struct{}), sent: make(map[string]chan message.Message), feeders: make(map[string]chan feed)}

	var routes []edge.Route
	upstream, err := route.Parse("FROM /messages/modules/" + ModuleID + "/* INTO $upstream")
	if err != nil {
		t.Fatal(err)
	}
	routes = append(routes, edge.Route{Name: "recorded", Route: upstream, Priority: edge.LowestPriority})
	modules := []edge.Instance{{ID: ModuleID, Kind: kind, Settings: settings}}
	if desired != "" {
		modules[0].Desired = json.RawMessage(desired)
	}
	for _, input := range kind.Inputs {
		from := "from_" + input
		modules = append(modules, edge.Instance{ID: from, Kind: feederKind(h, input)})
		r, err := route.Parse(fmt.Sprintf("FROM /messages/modules/%s/* INTO BrokeredEndpoint(\"/modules/%s/inputs/%s\")", from, ModuleID, input))
		if err != nil {
			t.Fatal(err)
		}
		routes = append(routes, edge.Route{Name: from, Route: r, Priority: edge.LowestPriority})
	}
	h.runtime = edge.New(edge.Options{
		Modules:    modules,
		Routes:     routes,
		Upstream:   recorder{h},
		Log:        slog.New(slog.NewTextHandler(testLog{t}, &slog.HandlerOptions{Level: slog.LevelDebug})),
		RestartMin: time.Millisecond,
		RestartMax: 20 * time.Millisecond,
	})
	ctx, cancel := context.WithCancel(context.Background())
	h.cancel = cancel
	go func() {
		defer close(h.done)
		if err := h.runtime.Run(ctx); err != nil {
			t.Errorf("the runtime ended with %v", err)
		}
	}()
	t.Cleanup(h.Stop)
	settle, stop := context.WithTimeout(ctx, patience)
	defer stop()
	if err := h.runtime.Settled(settle); err != nil {
		t.Fatal(err)
	}
	return h
}

// Stop ends the module and waits for it.
func (h *Harness) Stop() {
	h.once.Do(func() {
		h.cancel()
		<-h.done
	})
}

// Send delivers a message to an input of the module, as a route would, and
// returns what the module's handler returned.
func (h *Harness) Send(input string, m message.Message) error {
	h.t.Helper()
	payload := feed{m: m, result: make(chan error, 1)}
	select {
	case h.feeder(input) <- payload:
	case <-time.After(patience):
		h.t.Fatalf("the module has no input %q, or does not take from it", input)
	}
	select {
	case err := <-payload.result:
		return err
	case <-time.After(patience):
		h.t.Fatalf("the input %q did not return from its handler", input)
		return nil
	}
}

// Refuse makes the module's sends fail with what refuse returns; nil takes
// everything again.
func (h *Harness) Refuse(refuse func(output string, m message.Message) error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.refuse = refuse
}

// Next returns the next message that the module sent on the output, and fails
// the test if none comes.
func (h *Harness) Next(output string) message.Message {
	h.t.Helper()
	select {
	case m := <-h.output(output):
		return m
	case <-time.After(patience):
		h.t.Fatalf("no message on output %q; module: %+v", output, h.Status())
		return message.Message{}
	}
}

// None fails the test if a message waits on the output.
func (h *Harness) None(output string) {
	h.t.Helper()
	select {
	case m := <-h.output(output):
		h.t.Fatalf("a message on output %q that should not be there: %s", output, m.Body)
	default:
	}
}

// SetDesired replaces the twin's desired properties of the module, and returns
// why they were refused, if they were.
func (h *Harness) SetDesired(properties string) error {
	h.t.Helper()
	h.version++
	document := fmt.Sprintf(`{%q:%s}`, ModuleID, properties)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return h.runtime.ApplyDesired(ctx, json.RawMessage(document), h.version, true)
}

// Invoke calls a direct method of the module.
func (h *Harness) Invoke(method, payload string) (status int, response json.RawMessage) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return h.runtime.Invoke(ctx, ModuleID+"."+method, json.RawMessage(payload))
}

// Status returns the module's status.
func (h *Harness) Status() edge.ModuleStatus {
	for _, s := range h.runtime.Status().Modules {
		if s.ID == ModuleID {
			return s
		}
	}
	return edge.ModuleStatus{}
}

// Stuck returns what the watchdog would hold against the module.
func (h *Harness) Stuck() []string { return h.runtime.Stuck() }

// Eventually waits until the module's status is as wanted, and fails the test
// if it never is.
func (h *Harness) Eventually(wanted func(edge.ModuleStatus) bool) {
	h.t.Helper()
	deadline := time.Now().Add(patience)
	for !wanted(h.Status()) {
		if time.Now().After(deadline) {
			h.t.Fatalf("the module's status never became what was wanted; it is %+v", h.Status())
		}
		time.Sleep(time.Millisecond)
	}
}

func (h *Harness) output(name string) chan message.Message {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.sent[name] == nil {
		h.sent[name] = make(chan message.Message, 10000)
	}
	return h.sent[name]
}

// recorder is where the module's messages go.
type recorder struct{ h *Harness }

func (r recorder) Put(ctx context.Context, m message.Message, _ int, _ time.Duration) error {
	r.h.mu.Lock()
	refuse := r.h.refuse
	r.h.mu.Unlock()
	if refuse != nil {
		if err := refuse(m.Source.Output, m); err != nil {
			return err
		}
	}
	select {
	case r.h.output(m.Source.Output) <- m:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// feed is a message on its way to an input of the module under test.
type feed struct {
	m      message.Message
	result chan error
}

// feeder returns the channel that the input's feeder reads.
func (h *Harness) feeder(input string) chan feed {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.feeders[input] == nil {
		h.feeders[input] = make(chan feed)
	}
	return h.feeders[input]
}

// feederKind is a module that sends what the test feeds it.
func feederKind(h *Harness, input string) edge.Kind {
	return edge.Kind{
		Name: "feeder",
		New:  func(any) (edge.Module, error) { return feederModule(h.feeder(input)), nil },
	}
}

type feederModule chan feed

func (f feederModule) Run(ctx context.Context, c *edge.Client) error {
	c.Ready()
	for {
		select {
		case next := <-f:
			next.result <- c.Send(ctx, "out", next.m)
		case <-ctx.Done():
			return nil
		}
	}
}

// testLog shows the module's log lines with the test.
type testLog struct{ t testing.TB }

func (l testLog) Write(line []byte) (int, error) {
	l.t.Logf("%s", line)
	return len(line), nil
}
