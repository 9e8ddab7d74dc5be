package hub_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	"go.uber.org/goleak"

	"tuxwatch/firmware/hub"
)

// patience is for what must happen, on a machine that does much else.
const patience = 20 * time.Second

func TestMain(m *testing.M) {
	if dir := os.Getenv("TUXHUB_TEST_SERVE"); dir != "" {
		serveForTest(dir) // see crash_test.go
		return
	}
	goleak.VerifyTestMain(m)
}

// start runs a hub in a folder of its own, unless opts names one.
func start(t *testing.T, opts hub.Options) *hub.Hub {
	t.Helper()
	if opts.State == "" {
		opts.State = filepath.Join(t.TempDir(), "state")
	}
	if opts.TLSListen == "" && opts.Listen == "" {
		opts.Listen = "127.0.0.1:0"
	}
	h, err := hub.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- h.Serve(context.Background()) }()
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return h
}

func ctx(t *testing.T) context.Context {
	c, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return c
}

func addDevice(t *testing.T, h *hub.Hub, id string) hub.Device {
	t.Helper()
	d, err := h.AddDevice(id)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// client is a device with a real MQTT client.
type client struct {
	paho.Client
	t    *testing.T
	id   string
	lost chan error
}

type clientOption func(*paho.ClientOptions)

// options are those of device d at h, by the hub's documented rules.
func options(t testing.TB, h *hub.Hub, d hub.Device, more ...clientOption) *paho.ClientOptions {
	t.Helper()
	token, err := hub.NewSAS("localhost", d.ID, d.PrimaryKey, time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	o := paho.NewClientOptions().
		SetProtocolVersion(4).
		SetClientID(d.ID).
		SetUsername("localhost/" + d.ID + "/?api-version=2021-04-12").
		SetPassword(token).
		SetAutoReconnect(false).
		SetConnectTimeout(patience)
	if addr := h.Addr(); addr != "" {
		o.AddBroker("tcp://" + addr)
	} else {
		pem, err := os.ReadFile(h.CAFile())
		if err != nil {
			t.Fatal(err)
		}
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(pem)
		o.AddBroker("ssl://" + h.TLSAddr()).SetTLSConfig(&tls.Config{RootCAs: roots, ServerName: "localhost"})
	}
	for _, m := range more {
		m(o)
	}
	return o
}

func connect(t *testing.T, h *hub.Hub, d hub.Device, more ...clientOption) *client {
	t.Helper()
	c := &client{t: t, id: d.ID, lost: make(chan error, 1)}
	o := options(t, h, d, more...).SetConnectionLostHandler(func(_ paho.Client, err error) { c.lost <- err })
	c.Client = paho.NewClient(o)
	c.wait(c.Connect())
	t.Cleanup(func() { c.Disconnect(0) })
	return c
}

func (c *client) wait(token paho.Token) {
	c.t.Helper()
	if !token.WaitTimeout(patience) {
		c.t.Fatal("no answer from the hub")
	}
	if err := token.Error(); err != nil {
		c.t.Fatal(err)
	}
}

func (c *client) events(bag string) string { return "devices/" + c.id + "/messages/events/" + bag }

// send publishes an event and waits for its PUBACK.
func (c *client) send(bag, body string) {
	c.t.Helper()
	c.wait(c.Publish(c.events(bag), 1, false, body))
}

// dropped waits until the hub has ended the connection.
func (c *client) dropped() {
	c.t.Helper()
	select {
	case <-c.lost:
	case <-time.After(patience):
		c.t.Fatal("the hub did not end the connection")
	}
}

// subscribe gives what arrives on filter.
func (c *client) subscribe(filter string, qos byte) <-chan paho.Message {
	c.t.Helper()
	ch := make(chan paho.Message, 100)
	c.wait(c.Subscribe(filter, qos, func(_ paho.Client, m paho.Message) { ch <- m }))
	return ch
}

func next[T any](t *testing.T, ch <-chan T) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(patience):
		t.Fatal("nothing arrived")
		panic("unreachable")
	}
}

// stored gives all events of a hub.
func stored(t *testing.T, h *hub.Hub) []hub.Event {
	t.Helper()
	var events []hub.Event
	for e, err := range h.StoredEvents(ctx(t), 0, hub.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		events = append(events, e)
	}
	return events
}

func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !f(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("did not happen: %s", what)
		}
	}
}

func TestEventOverTLS(t *testing.T) {
	h := start(t, hub.Options{TLSListen: "127.0.0.1:0"})
	c := connect(t, h, addDevice(t, h, "pi"))
	c.send("%24.mid=m1&%24.ct=application%2Fjson&%24.ce=utf-8&edge-module=filterModule&edge-output=output1&MessageType=Alert&a%20b=c%26d", `{"a": 1}`)
	events := stored(t, h)
	if len(events) != 1 {
		t.Fatalf("%d events, want 1", len(events))
	}
	e := events[0]
	got, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf(`{"device":"pi","module":"filterModule","output":"output1","time":%q,"properties":{"MessageType":"Alert","a b":"c\u0026d"},"body":{"a":1}}`, e.Time.Format(time.RFC3339Nano))
	if string(got) != want {
		t.Errorf("event\n got %s\nwant %s", got, want)
	}
	if e.ID() != "m1" || e.System["contentType"] != "application/json" || e.Seq != 1 || string(e.Body) != `{"a": 1}` {
		t.Errorf("event %+v", e)
	}
}

func TestEventsFollow(t *testing.T) {
	h := start(t, hub.Options{})
	a, b := connect(t, h, addDevice(t, h, "a")), connect(t, h, addDevice(t, h, "b"))
	a.send("", "1")
	b.send("", "not a's")
	got := make(chan string, 10)
	c, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		for e, err := range h.Events(c, 0, hub.Filter{Device: "a"}) {
			if err != nil {
				t.Error(err)
			}
			got <- string(e.Body)
		}
	})
	if v := next(t, got); v != "1" {
		t.Errorf("stored event %q", v)
	}
	for i := 2; i < 300; i++ {
		body := strconv.Itoa(i)
		a.send("", body)
		if v := next(t, got); v != body {
			t.Fatalf("event %q, want %q", v, body)
		}
	}
	cancel()
	wg.Wait()
}

// Everything is put in SQLite before it is acknowledged, so acknowledgements of
// many messages at once must not take a commit each.
func TestPipelinedEventsInOrder(t *testing.T) {
	h := start(t, hub.Options{TLSListen: "127.0.0.1:0"})
	c := connect(t, h, addDevice(t, h, "pi"))
	const n = 2000
	begin := time.Now()
	var tokens []paho.Token
	for i := range n {
		tokens = append(tokens, c.Publish(c.events("$.mid="+strconv.Itoa(i)), 1, false, strconv.Itoa(i)))
	}
	for _, token := range tokens {
		c.wait(token)
	}
	t.Logf("%.0f events/s", n/time.Since(begin).Seconds())
	for i, e := range stored(t, h) {
		if string(e.Body) != strconv.Itoa(i) {
			t.Fatalf("event %d is %s", i, e.Body)
		}
	}
	if st, err := h.Stats(); err != nil || st.Events != n || st.Duplicates != 0 {
		t.Errorf("stats %+v, %v", st, err)
	}
}

// The certificate protects: a device that does not trust the authority, or that
// reaches the hub under a name the certificate does not have, does not connect.
func TestTLSIsVerified(t *testing.T) {
	h := start(t, hub.Options{TLSListen: "127.0.0.1:0"})
	d := addDevice(t, h, "pi")
	for name, change := range map[string]func(*tls.Config){
		"trusts nobody": func(c *tls.Config) { c.RootCAs = x509.NewCertPool() },
		"another name":  func(c *tls.Config) { c.ServerName = "hub.example.org" },
		"TLS 1.1":       func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 },
	} {
		o := options(t, h, d)
		change(o.TLSConfig)
		token := paho.NewClient(o).Connect()
		if !token.WaitTimeout(patience) || token.Error() == nil {
			t.Errorf("%s: connected", name)
		}
	}
}
