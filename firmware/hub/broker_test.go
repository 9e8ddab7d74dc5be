package hub_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"maps"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"

	"tuxwatch/firmware/hub"
)

// syncBuffer is a log that several goroutines write.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func debugLog(b *syncBuffer) *slog.Logger {
	return slog.New(slog.NewTextHandler(b, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func password(s string) clientOption {
	return func(o *paho.ClientOptions) { o.SetPassword(s) }
}

func user(s string) clientOption {
	return func(o *paho.ClientOptions) { o.SetUsername(s) }
}

func sas(t *testing.T, host, device, key string, expiry time.Time) clientOption {
	t.Helper()
	token, err := hub.NewSAS(host, device, key, expiry)
	if err != nil {
		t.Fatal(err)
	}
	return password(token)
}

// Who is let in, and with which return code others are told (MQTT 3.1.1, table 3.1).
func TestSignIn(t *testing.T) {
	var log syncBuffer
	h := start(t, hub.Options{Log: debugLog(&log)})
	d, other, off := addDevice(t, h, "pi"), addDevice(t, h, "other"), addDevice(t, h, "off")
	if err := h.SetEnabled("off", false); err != nil {
		t.Fatal(err)
	}
	later := time.Now().Add(time.Hour)
	const (
		accepted, badVersion, badID, badUser, unauthorized = 0, 1, 2, 4, 5
	)
	tests := []struct {
		name   string
		device hub.Device
		change clientOption
		code   byte
	}{
		{"primary key", d, sas(t, "localhost", "pi", d.PrimaryKey, later), accepted},
		{"secondary key", d, sas(t, "localhost", "pi", d.SecondaryKey, later), accepted},
		{"another name of the hub", d, func(o *paho.ClientOptions) {
			o.SetUsername("hub.example.org/pi/?api-version=2018-06-30")
			sas(t, "hub.example.org", "pi", d.PrimaryKey, later)(o)
		}, accepted},
		{"as the SDKs call themselves", d, user("localhost/pi/?api-version=2019-10-01&DeviceClientType=azure-iot-device%2F2.14.0%28Linux%29&model-id=dtmi:x;1"), accepted},
		{"without api-version", d, user("localhost/pi"), accepted},
		{"expired", d, sas(t, "localhost", "pi", d.PrimaryKey, time.Now().Add(-time.Second)), unauthorized},
		{"another device's key", d, sas(t, "localhost", "pi", other.PrimaryKey, later), unauthorized},
		{"another device's token", d, sas(t, "localhost", "other", other.PrimaryKey, later), unauthorized},
		{"another resource with the own key", d, sas(t, "localhost", "other", d.PrimaryKey, later), unauthorized},
		{"a token for another hub", d, sas(t, "elsewhere", "pi", d.PrimaryKey, later), unauthorized},
		{"no SAS token", d, password("let me in"), unauthorized},
		{"no password", d, password(""), unauthorized},
		{"disabled", off, sas(t, "localhost", "off", off.PrimaryKey, later), unauthorized},
		{"not registered", hub.Device{ID: "stranger", PrimaryKey: d.PrimaryKey}, sas(t, "localhost", "stranger", d.PrimaryKey, later), unauthorized},
		{"user name of another device", d, user("localhost/other/?api-version=2021-04-12"), badID},
		{"user name without a device", d, user("localhost"), badUser},
		{"a module of IoT Edge", d, user("localhost/pi/filterModule/?api-version=2021-04-12"), badUser},
		{"MQTT 3.1", d, func(o *paho.ClientOptions) { o.SetProtocolVersion(3) }, badVersion},
	}
	refused := int64(0)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := paho.NewClient(options(t, h, tt.device, tt.change))
			token := c.Connect()
			if !token.WaitTimeout(patience) {
				t.Fatal("no answer")
			}
			defer eventually(t, "the device has gone", func() bool { return !h.Connected(tt.device.ID) })
			defer c.Disconnect(0)
			if code := token.(*paho.ConnectToken).ReturnCode(); code != tt.code {
				t.Errorf("return code %d, want %d (%v)", code, tt.code, token.Error())
			}
			if tt.code != accepted {
				refused++
				if h.Connected(tt.device.ID) {
					t.Error("connected all the same")
				}
			}
		})
	}
	if n := h.Status().Refused; n != refused {
		t.Errorf("%d refusals counted, want %d", n, refused)
	}
	for _, secret := range []string{d.PrimaryKey, d.SecondaryKey, other.PrimaryKey, "sig=", "let me in"} {
		if strings.Contains(log.String(), secret) {
			t.Errorf("the log contains the secret %q", secret)
		}
	}
	if !strings.Contains(log.String(), "SAS token has expired") {
		t.Errorf("the log does not say why:\n%s", log.String())
	}
}

// giveUp is for publishing on a connection that may end just then: the client
// would wait for half a minute to hand the packet over.
func giveUp(after time.Duration) clientOption {
	return func(o *paho.ClientOptions) { o.SetWriteTimeout(after) }
}

// What ends a connection, as it does at IoT Hub, and leaves nothing behind.
func TestMisbehaviourEndsTheConnection(t *testing.T) {
	h := start(t, hub.Options{})
	d := addDevice(t, h, "pi")
	addDevice(t, h, "other")
	publish := func(topic string, qos byte, size int) func(c *client) {
		return func(c *client) { c.Publish(topic, qos, false, bytes.Repeat([]byte{'x'}, size)) }
	}
	tests := map[string]func(c *client){
		"another device's events":     publish("devices/other/messages/events/", 1, 1),
		"a topic of its own making":   publish("sensors/temperature", 1, 1),
		"the same with QoS 0":         publish("sensors/temperature", 0, 1),
		"a longer device name":        publish("devices/pi2/messages/events/", 1, 1),
		"a topic below its events":    publish("devices/pi/messages/eventsmore", 1, 1),
		"a message to itself":         publish("devices/pi/messages/devicebound/", 1, 1),
		"twin without a request id":   publish("$iothub/twin/GET/", 1, 0),
		"method answer, bad status":   publish("$iothub/methods/res/ok/?$rid=1", 1, 0),
		"QoS 2":                       publish("devices/pi/messages/events/", 2, 1),
		"too large":                   publish("devices/pi/messages/events/", 1, hub.MaxEventSize+1),
		"too large with properties":   publish("devices/pi/messages/events/a=b", 1, hub.MaxEventSize-1),
		"larger than any packet":      publish("devices/pi/messages/events/", 1, hub.MaxEventSize*2),
		"broken property bag":         publish("devices/pi/messages/events/a=%zz", 1, 1),
		"everything":                  func(c *client) { c.Subscribe("#", 1, nil) },
		"another device's twin":       func(c *client) { c.Subscribe("devices/other/messages/devicebound/#", 1, nil) },
		"every device's messages":     func(c *client) { c.Subscribe("devices/+/messages/events/#", 1, nil) },
		"a shared subscription":       func(c *client) { c.Subscribe("$share/g/$iothub/twin/res/#", 1, nil) },
		"more subscriptions than fit": manySubscriptions,
	}
	for _, name := range slices.Sorted(maps.Keys(tests)) {
		t.Run(name, func(t *testing.T) {
			c := connect(t, h, d)
			tests[name](c)
			c.dropped()
		})
	}
	if events := stored(t, h); len(events) > 0 {
		t.Errorf("%d events stored", len(events))
	}
}

func manySubscriptions(c *client) {
	filters := map[string]byte{}
	for i := range 51 {
		filters["$iothub/twin/res/"+strings.Repeat("x", i+1)] = 1
	}
	c.SubscribeMultiple(filters, nil)
}

func TestLargestEvent(t *testing.T) {
	h := start(t, hub.Options{})
	c := connect(t, h, addDevice(t, h, "pi"))
	body := strings.Repeat("x", hub.MaxEventSize-2)
	c.send("a=b", body)
	if e := stored(t, h); len(e) != 1 || string(e[0].Body) != body {
		t.Errorf("%d events stored", len(e))
	}
}

func TestSecondConnectionTakesOver(t *testing.T) {
	h := start(t, hub.Options{})
	d := addDevice(t, h, "pi")
	for range 5 {
		first := connect(t, h, d)
		second := connect(t, h, d)
		first.dropped()
		second.send("", "still here")
	}
	eventually(t, "one connection is left", func() bool { return slices.Equal(h.Status().Connected, []string{"pi"}) })
}

// Many connections of one device at the same moment leave one that works.
func TestTakeoverStorm(t *testing.T) {
	h := start(t, hub.Options{})
	d := addDevice(t, h, "pi")
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			c := paho.NewClient(options(t, h, d, giveUp(100*time.Millisecond)))
			c.Connect().WaitTimeout(patience)
			c.Publish("devices/pi/messages/events/", 1, false, "x")
			c.Disconnect(1)
		})
	}
	wg.Wait()
	connect(t, h, d).send("", "last")
	events := stored(t, h)
	if string(events[len(events)-1].Body) != "last" {
		t.Error("the last event is missing")
	}
}

func TestTokenRunsOut(t *testing.T) {
	var ahead atomic.Int64
	now := func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	h := start(t, hub.Options{Now: now})
	d := addDevice(t, h, "pi")
	c := connect(t, h, d)
	c.send("", "in time")
	ahead.Store(int64(2 * time.Hour))
	c.dropped()
	late := connect(t, h, d, sas(t, "localhost", "pi", d.PrimaryKey, now().Add(time.Hour)))
	late.send("", "with a new token")
}

func TestOperatorEndsConnections(t *testing.T) {
	h := start(t, hub.Options{})
	d := addDevice(t, h, "pi")

	c := connect(t, h, d)
	h.DropConnections()
	c.dropped()

	c = connect(t, h, d)
	if err := h.SetEnabled("pi", false); err != nil {
		t.Fatal(err)
	}
	c.dropped()
	if err := h.SetEnabled("pi", true); err != nil {
		t.Fatal(err)
	}

	c = connect(t, h, d)
	fresh, err := h.RegenerateKeys("pi")
	if err != nil || fresh.PrimaryKey == d.PrimaryKey || fresh.SecondaryKey == d.SecondaryKey {
		t.Fatalf("new keys %+v, %v", fresh, err)
	}
	c.dropped()

	c = connect(t, h, fresh)
	if err := h.RemoveDevice("pi"); err != nil {
		t.Fatal(err)
	}
	c.dropped()
	if _, err := h.Device("pi"); !errors.Is(err, hub.ErrDeviceNotFound) {
		t.Errorf("removed device: %v", err)
	}
}

// IoT Hub keeps no retained messages; it tells the reader that one was meant to be.
func TestRetainBecomesAProperty(t *testing.T) {
	h := start(t, hub.Options{})
	c := connect(t, h, addDevice(t, h, "pi"))
	c.wait(c.Publish(c.events(""), 1, true, "x"))
	if e := stored(t, h); len(e) != 1 || e[0].Properties["mqtt-retain"] != "true" {
		t.Errorf("events %+v", e)
	}
}

func TestLastWill(t *testing.T) {
	h := start(t, hub.Options{})
	d := addDevice(t, h, "pi")
	will := func(o *paho.ClientOptions) { o.SetWill("devices/pi/messages/events/why=gone", "bye", 1, true) }

	c := connect(t, h, d, will)
	c.Disconnect(100) // with a DISCONNECT, so without a will
	eventually(t, "the device has gone", func() bool { return !h.Connected("pi") })
	c = connect(t, h, d, will)
	c.send("", "between")
	h.DropConnections()
	eventually(t, "the will is there", func() bool { return len(stored(t, h)) == 2 })
	e := stored(t, h)[1]
	want := map[string]string{"why": "gone", "iothub-MessageType": "Will", "mqtt-retain": "true"}
	if string(e.Body) != "bye" || !maps.Equal(e.Properties, want) {
		t.Errorf("will %s %v", e.Body, e.Properties)
	}
}

// An event that cannot be stored is not acknowledged; the device still has it.
func TestNoAcknowledgementWithoutStorage(t *testing.T) {
	var log syncBuffer
	h := start(t, hub.Options{Log: debugLog(&log)})
	d := addDevice(t, h, "pi")
	c := connect(t, h, d)
	c.send("", "before")

	db, err := sql.Open("sqlite3", "file:"+filepath.Join(h.Dir(), "hub.db")+"?_busy_timeout=10000")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(`CREATE TRIGGER fail BEFORE INSERT ON events BEGIN SELECT raise(ABORT, 'disk full'); END`); err != nil {
		t.Fatal(err)
	}
	token := c.Publish(c.events(""), 1, false, "refused")
	c.dropped()
	if token.WaitTimeout(0) && token.Error() == nil {
		t.Error("the event was acknowledged")
	}
	if !strings.Contains(log.String(), "disk full") {
		t.Errorf("the log does not say why:\n%s", log.String())
	}

	if _, err := db.Exec(`DROP TRIGGER fail`); err != nil {
		t.Fatal(err)
	}
	connect(t, h, d).send("", "after")
	var bodies []string
	for _, e := range stored(t, h) {
		bodies = append(bodies, string(e.Body))
	}
	if want := []string{"before", "after"}; !slices.Equal(bodies, want) {
		t.Errorf("events %q, want %q", bodies, want)
	}
}

// One message that the hub keeps refusing does not take those before it along.
func TestIntercept(t *testing.T) {
	poison := errors.New("poison")
	h := start(t, hub.Options{Intercept: func(e hub.Event) error {
		if e.Properties["poison"] != "" {
			return poison
		}
		return nil
	}})
	c := connect(t, h, addDevice(t, h, "pi"), giveUp(5*time.Second))
	var before []paho.Token
	for range 20 {
		before = append(before, c.Publish(c.events(""), 1, false, "good"))
	}
	bad := c.Publish(c.events("poison=1"), 1, false, "bad")
	c.Publish(c.events(""), 1, false, "behind it")
	for _, token := range before {
		c.wait(token)
	}
	c.dropped()
	if bad.WaitTimeout(0) && bad.Error() == nil {
		t.Error("the poisoned message was acknowledged")
	}
	if n := len(stored(t, h)); n != 20 {
		t.Errorf("%d events stored, want 20", n)
	}
}

func TestDuplicatesAreKeptAndCounted(t *testing.T) {
	h := start(t, hub.Options{})
	c := connect(t, h, addDevice(t, h, "pi"))
	addDevice(t, h, "silent")
	for _, bag := range []string{"$.mid=a", "$.mid=b", "$.mid=a", "", ""} {
		c.send(bag, "x")
	}
	st, err := h.Stats()
	if err != nil {
		t.Fatal(err)
	}
	want := []hub.DeviceStats{{Device: "pi", Received: 5, Events: 5, Distinct: 4, Duplicates: 1}, {Device: "silent"}}
	if !slices.Equal(st.Devices, want) || st.Events != 5 || st.Distinct != 4 || st.Duplicates != 1 || st.LastSeq != 5 {
		t.Errorf("stats %+v", st)
	}
}

// Neither strangers that say nothing nor streams keep the hub from ending.
func TestCloseIsQuick(t *testing.T) {
	for _, tls := range []bool{false, true} {
		opts := hub.Options{Listen: "127.0.0.1:0"}
		if tls {
			opts = hub.Options{TLSListen: "127.0.0.1:0"}
		}
		opts.State = filepath.Join(t.TempDir(), "state")
		h, err := hub.New(opts)
		if err != nil {
			t.Fatal(err)
		}
		serveCtx, cancel := context.WithCancel(context.Background())
		served := make(chan error, 1)
		go func() { served <- h.Serve(serveCtx) }()
		c := connect(t, h, addDevice(t, h, "pi"))
		c.send("", "x")
		for range 3 {
			conn, err := net.Dial("tcp", h.Addr()+h.TLSAddr())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
		}
		streamed, ended := make(chan bool, 10), make(chan bool)
		go func() {
			defer close(ended)
			for s, err := range hub.NewClient(h.Dir()).Events(context.Background(), nil, hub.Filter{}, true) {
				streamed <- err == nil && s.Event == nil
			}
		}()
		if !next(t, streamed) {
			t.Fatal("the stream did not begin")
		}
		begin := time.Now()
		cancel()
		if err := next(t, served); err != nil {
			t.Errorf("serve: %v", err)
		}
		if err := h.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		// A second is what is promised; the test machine may be busy.
		if took := time.Since(begin); took > 3*time.Second {
			t.Errorf("it took %v to end", took)
		}
		<-ended
		c.dropped()
	}
}
