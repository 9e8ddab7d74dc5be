package cloud

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"tuxwatch/firmware/hub"
	"tuxwatch/firmware/message"
	"tuxwatch/firmware/outbox"
)

// patience is for what must happen, on a machine that does much else.
const patience = 30 * time.Second

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func logger(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// eventually waits until ok is true.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			stacks := make([]byte, 1<<20)
			t.Logf("what everything does:\n%s", stacks[:runtime.Stack(stacks, true)])
			t.Fatalf("after %v still not: %s", patience, what)
		}
	}
}

func openOutbox(t testing.TB) *outbox.Outbox {
	t.Helper()
	o, err := outbox.Open(filepath.Join(t.TempDir(), "outbox"), outbox.Options{Logger: logger(t), MaxBytes: 8 << 20, DeleteDelay: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := o.Close(); err != nil {
			t.Error(err)
		}
	})
	return o
}

func text(id string) message.Message {
	return message.Message{
		ID: id, Body: []byte(`{"n":"` + id + `"}`), ContentType: message.ContentTypeJSON, ContentEncoding: message.EncodingUTF8,
		Source: message.Source{Module: "filterModule", Output: "output1"},
	}
}

func put(t testing.TB, o *outbox.Outbox, priority int, ids ...string) {
	t.Helper()
	for _, id := range ids {
		if err := o.Put(context.Background(), text(id), priority, 0); err != nil {
			t.Fatal(err)
		}
	}
}

// waiting returns the ids of what is in the outbox.
func waiting(t testing.TB, o *outbox.Outbox) []string {
	t.Helper()
	records, err := o.NewReader().TryNext(context.Background(), 1000)
	if err != nil {
		t.Fatal(err)
	}
	ids := []string{}
	for _, r := range records {
		ids = append(ids, r.Message.ID)
	}
	return ids
}

// quick is a configuration for tests: the default's behaviour, sooner.
func quick() Config {
	config := DefaultConfig()
	config.MaxRate = 0
	config.Backoff = BackoffConfig{Min: 5 * time.Millisecond, Max: 50 * time.Millisecond, Refused: 100 * time.Millisecond, StableAfter: time.Minute}
	config.ConnectTimeout = patience
	config.AckTimeout = patience
	return config
}

// run runs a connection until the test ends or stop is called.
func run(t testing.TB, config Config, o *outbox.Outbox, device Device, adjust ...func(*Connection)) (c *Connection, stop func()) {
	t.Helper()
	c, err := New(config, o, device, logger(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range adjust {
		a(c)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(stop)
	return c, stop
}

// startHub runs the embedded hub; stopping it is safe to do twice.
func startHub(t testing.TB, options hub.Options) (h *hub.Hub, stop func()) {
	t.Helper()
	if options.State == "" {
		options.State = filepath.Join(t.TempDir(), "state")
	}
	if options.Listen == "" && options.TLSListen == "" {
		options.Listen = "127.0.0.1:0"
	}
	var err error
	// The port of a hub that was just stopped may need a moment.
	for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		if h, err = hub.New(options); err == nil || time.Now().After(end) {
			break
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- h.Serve(context.Background()) }()
	stop = sync.OnceFunc(func() {
		if err := h.Close(); err != nil {
			t.Errorf("closing the hub: %v", err)
		}
		if err := <-served; err != nil {
			t.Errorf("serving: %v", err)
		}
	})
	t.Cleanup(stop)
	return h, stop
}

// azureConfig registers a device and returns the configuration to reach h.
func azureConfig(t testing.TB, h *hub.Hub) Config {
	t.Helper()
	device, err := h.AddDevice("pi")
	if err != nil {
		t.Fatal(err)
	}
	config := quick()
	config.Dialect = DialectAzure
	config.ConnectionStringFile = filepath.Join(t.TempDir(), "connection-string")
	writeFile(t, config.ConnectionStringFile, device.ConnectionString("localhost")+"\n")
	if addr := h.Addr(); addr != "" {
		config.Address = "tcp://" + addr
	} else {
		config.Address = h.TLSAddr()
		config.CAFile = h.CAFile()
	}
	return config
}

func writeFile(t testing.TB, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// atHub returns what the hub has stored until now.
func atHub(t testing.TB, h *hub.Hub) []hub.Event {
	t.Helper()
	last, err := h.LastSeq()
	if err != nil {
		t.Fatal(err)
	}
	var events []hub.Event
	if last == 0 {
		return events
	}
	for e, err := range h.Events(t.Context(), 0, hub.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		events = append(events, e)
		if e.Seq >= last {
			break
		}
	}
	return events
}

// ids returns the message ids of events, each once, in the order of their first
// arrival, and how many there were more than once.
func ids(events []hub.Event) (list []string, duplicates int) {
	seen := map[string]bool{}
	for _, e := range events {
		id := e.System["messageId"]
		if seen[id] {
			duplicates++
			continue
		}
		seen[id] = true
		list = append(list, id)
	}
	return list, duplicates
}

func numbered(i int) string { return fmt.Sprintf("m%05d", i) }

// fakeDevice records what the hub does with it.
type fakeDevice struct {
	mu       sync.Mutex
	applied  []string // "version full|patch document"
	reported json.RawMessage
	changed  chan struct{}
	invoked  []string
	reject   bool
}

func newFakeDevice(reported string) *fakeDevice {
	return &fakeDevice{reported: json.RawMessage(reported), changed: make(chan struct{}, 1)}
}

func (d *fakeDevice) ApplyDesired(_ context.Context, desired json.RawMessage, version int64, full bool) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	kind := "patch"
	if full {
		kind = "full"
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, desired); err != nil {
		return err
	}
	d.applied = append(d.applied, fmt.Sprintf("%d %s %s", version, kind, compact.String()))
	if d.reject {
		return fmt.Errorf("rejected by the test")
	}
	return nil
}

func (d *fakeDevice) Reported() json.RawMessage {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.reported
}

func (d *fakeDevice) ReportedChanged() <-chan struct{} { return d.changed }

func (d *fakeDevice) report(document string) {
	d.mu.Lock()
	d.reported = json.RawMessage(document)
	d.mu.Unlock()
	select {
	case d.changed <- struct{}{}:
	default:
	}
}

func (d *fakeDevice) Invoke(ctx context.Context, method string, payload json.RawMessage) (int, json.RawMessage) {
	d.mu.Lock()
	d.invoked = append(d.invoked, method+" "+string(payload))
	d.mu.Unlock()
	switch method {
	case "echo":
		return 200, payload
	case "hang":
		<-ctx.Done()
		return 504, nil
	}
	return 404, nil
}

func (d *fakeDevice) last() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.applied) == 0 {
		return ""
	}
	return d.applied[len(d.applied)-1]
}
