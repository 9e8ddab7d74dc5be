package hub_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/google/go-cmp/cmp"

	"tuxwatch/firmware/hub"
)

func asJSON(t *testing.T, b []byte) any {
	t.Helper()
	var v any
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatalf("%v: %s", err, b)
	}
	return v
}

func sameJSON(t *testing.T, got []byte, want string) {
	t.Helper()
	if diff := cmp.Diff(asJSON(t, []byte(want)), asJSON(t, got)); diff != "" {
		t.Errorf("JSON differs (-want +got):\n%s", diff)
	}
}

func set(t *testing.T, h *hub.Hub, device, patch string) int64 {
	t.Helper()
	v, err := h.SetDesired(ctx(t), device, []byte(patch))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestTwinOfADevice(t *testing.T) {
	h := start(t, hub.Options{})
	c := connect(t, h, addDevice(t, h, "pi"))
	answers := c.subscribe("$iothub/twin/res/#", 0)
	ask := func(topic, payload string) paho.Message {
		t.Helper()
		c.wait(c.Publish(topic, 0, false, payload))
		return next(t, answers)
	}

	m := ask("$iothub/twin/GET/?$rid=1", "")
	if m.Topic() != "$iothub/twin/res/200/?$rid=1" {
		t.Errorf("topic %s", m.Topic())
	}
	sameJSON(t, m.Payload(), `{"desired":{"$version":1},"reported":{"$version":1}}`)

	if v := set(t, h, "pi", `{"filterModule":{"TemperatureThreshold":30,"gone":1},"n":12345678901234567890}`); v != 2 {
		t.Errorf("version %d, want 2", v)
	}
	set(t, h, "pi", `{"filterModule":{"gone":null}}`)

	m = ask("$iothub/twin/PATCH/properties/reported/?$rid=2", `{"fw":{"version":"1","slot":"a"},"list":[1,{"b":2}]}`)
	if m.Topic() != "$iothub/twin/res/204/?$rid=2&$version=2" || len(m.Payload()) != 0 {
		t.Errorf("answer %s %s", m.Topic(), m.Payload())
	}
	m = ask("$iothub/twin/PATCH/properties/reported/?$rid=3", `{"fw":{"slot":null,"more":{"deep":true}}}`)
	if m.Topic() != "$iothub/twin/res/204/?$rid=3&$version=3" {
		t.Errorf("answer %s", m.Topic())
	}
	m = ask("$iothub/twin/GET/?$rid=4", "")
	sameJSON(t, m.Payload(), `{
		"desired":{"filterModule":{"TemperatureThreshold":30},"n":12345678901234567890,"$version":3},
		"reported":{"fw":{"version":"1","more":{"deep":true}},"list":[1,{"b":2}],"$version":3}}`)
	if !strings.Contains(string(m.Payload()), "12345678901234567890") {
		t.Errorf("the number has lost digits: %s", m.Payload())
	}

	for i, bad := range []string{``, `[]`, `null`, `{"a":1} x`, `{"a.b":1}`, `{"$a":1}`, `{"a b":1}`, `{"a":[null]}`, `{"big":"` + strings.Repeat("x", 5000) + `"}`} {
		m = ask(fmt.Sprintf("$iothub/twin/PATCH/properties/reported/?$rid=bad%d", i), bad)
		if want := fmt.Sprintf("$iothub/twin/res/400/?$rid=bad%d", i); m.Topic() != want {
			t.Errorf("patch %.20q: answer %s, want %s", bad, m.Topic(), want)
		}
	}
	full := map[string]string{}
	for i := range 9 {
		full[fmt.Sprint("k", i)] = strings.Repeat("x", 4000)
	}
	b, _ := json.Marshal(full)
	if m = ask("$iothub/twin/PATCH/properties/reported/?$rid=5", string(b)); !strings.HasPrefix(m.Topic(), "$iothub/twin/res/400/") {
		t.Errorf("36,000 bytes: answer %s", m.Topic())
	}
	if tw, err := h.Twin(ctx(t), "pi"); err != nil || tw.Reported.Version != 3 || tw.Desired.Version != 3 || tw.Version != 5 {
		t.Errorf("twin %+v, %v", tw, err)
	}
}

func TestTwinAsTheServiceSeesIt(t *testing.T) {
	at := time.Date(2026, 11, 22, 11, 2, 3, 0, time.UTC)
	var mu sync.Mutex
	h := start(t, hub.Options{Now: func() time.Time { mu.Lock(); defer mu.Unlock(); return at }})
	addDevice(t, h, "pi")
	set(t, h, "pi", `{"a":{"b":1},"c":2}`)
	mu.Lock()
	at = at.Add(time.Minute)
	mu.Unlock()
	set(t, h, "pi", `{"a":{"b":2}}`)
	tw, err := h.Twin(ctx(t), "pi")
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(tw)
	if err != nil {
		t.Fatal(err)
	}
	sameJSON(t, b, `{"deviceId":"pi","version":3,"properties":{
		"desired":{"a":{"b":2},"c":2,"$version":3,"$metadata":{
			"$lastUpdated":"2026-11-22T11:03:03.000Z","$lastUpdatedVersion":3,
			"a":{"$lastUpdated":"2026-11-22T11:03:03.000Z","$lastUpdatedVersion":3,
				"b":{"$lastUpdated":"2026-11-22T11:03:03.000Z","$lastUpdatedVersion":3}},
			"c":{"$lastUpdated":"2026-11-22T11:02:03.000Z","$lastUpdatedVersion":2}}},
		"reported":{"$version":1,"$metadata":{}}}}`)
	var back hub.Twin
	if err := json.Unmarshal(b, &back); err != nil {
		t.Fatal(err)
	}
	if back.Device != "pi" || back.Desired.Version != 3 || fmt.Sprint(back.Desired.Values) != fmt.Sprint(tw.Desired.Values) {
		t.Errorf("read back %+v", back)
	}
	if _, err := h.Twin(ctx(t), "nobody"); !errors.Is(err, hub.ErrDeviceNotFound) {
		t.Errorf("twin of nobody: %v", err)
	}
	if _, err := h.SetDesired(ctx(t), "nobody", []byte(`{}`)); !errors.Is(err, hub.ErrDeviceNotFound) {
		t.Errorf("twin of nobody: %v", err)
	}
	if _, err := h.SetDesired(ctx(t), "pi", []byte(`[1]`)); !errors.Is(err, hub.ErrTwinPatch) {
		t.Errorf("no object: %v", err)
	}
}

// Desired properties go to the device they are for, in the order of their
// versions, and only while it is subscribed.
func TestDesiredIsPushed(t *testing.T) {
	h := start(t, hub.Options{})
	d, e := addDevice(t, h, "pi"), addDevice(t, h, "other")
	c, other := connect(t, h, d), connect(t, h, e)
	set(t, h, "pi", `{"early":1}`)
	mine := c.subscribe("$iothub/twin/PATCH/properties/desired/#", 1)
	theirs := other.subscribe("$iothub/twin/PATCH/properties/desired/#", 1)
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() { set(t, h, "pi", fmt.Sprintf(`{"n":%d,"x":null}`, i)) })
	}
	wg.Wait()
	set(t, h, "other", `{"mine":true}`)
	for v := 3; v < 23; v++ {
		m := next(t, mine)
		if want := fmt.Sprintf("$iothub/twin/PATCH/properties/desired/?$version=%d", v); m.Topic() != want {
			t.Fatalf("topic %s, want %s", m.Topic(), want)
		}
		doc := asJSON(t, m.Payload()).(map[string]any)
		if x, there := doc["x"]; doc["$version"] != float64(v) || !there || x != nil {
			t.Fatalf("patch %s", m.Payload())
		}
	}
	m := next(t, theirs)
	sameJSON(t, m.Payload(), `{"mine":true,"$version":2}`)
}

func TestInvoke(t *testing.T) {
	h := start(t, hub.Options{})
	d, e := addDevice(t, h, "pi"), addDevice(t, h, "other")
	invoke := func(method, payload string, timeout time.Duration) (hub.MethodResult, error) {
		return h.Invoke(ctx(t), "pi", method, []byte(payload), timeout)
	}
	if _, err := invoke("reset", "", 0); !errors.Is(err, hub.ErrDeviceOffline) {
		t.Errorf("offline: %v", err)
	}
	c, other := connect(t, h, d), connect(t, h, e)
	if _, err := invoke("reset", "", 0); !errors.Is(err, hub.ErrDeviceOffline) {
		t.Errorf("not subscribed: %v", err)
	}
	calls := c.subscribe("$iothub/methods/POST/#", 0)
	answer := func(status int, payload string) (topic, got string) {
		m := next(t, calls)
		_, rid, _ := strings.Cut(m.Topic(), "?$rid=")
		// Another device cannot answer in its place.
		other.wait(other.Publish("$iothub/methods/res/299/?$rid="+rid, 1, false, `"forged"`))
		c.wait(c.Publish(fmt.Sprintf("$iothub/methods/res/%d/?$rid=%s", status, rid), 0, false, payload))
		topic, _, _ = strings.Cut(m.Topic(), "?")
		return topic, string(m.Payload())
	}
	for _, tt := range []struct {
		method, payload, seen string
		status                int
		answer, result        string
		resultStatus          int
	}{
		{"reset", ``, `null`, 200, `{"ok":true}`, `{"ok":true}`, 200},
		{"set.Threshold", `{"t":30}`, `{"t":30}`, 422, `"no"`, `"no"`, 422},
		{"empty", `1`, `1`, 204, ``, `null`, 204},
		{"garbage", `1`, `1`, 200, `{not json`, `null`, 502},
	} {
		type outcome struct {
			r   hub.MethodResult
			err error
		}
		done := make(chan outcome, 1)
		go func() {
			r, err := invoke(tt.method, tt.payload, patience)
			done <- outcome{r, err}
		}()
		topic, seen := answer(tt.status, tt.answer)
		o := next(t, done)
		if o.err != nil || o.r.Status != tt.resultStatus || string(o.r.Payload) != tt.result {
			t.Errorf("%s: %d %s %v", tt.method, o.r.Status, o.r.Payload, o.err)
		}
		if topic != "$iothub/methods/POST/"+tt.method+"/" || seen != tt.seen {
			t.Errorf("the device saw %s %s", topic, seen)
		}
	}
	if _, err := invoke("slow", "", 10*time.Millisecond); !errors.Is(err, hub.ErrMethodTimeout) {
		t.Errorf("no answer: %v", err)
	}
	for _, method := range []string{"", "a/b", "a#", "+", "a b", strings.Repeat("x", 101)} {
		if _, err := invoke(method, "", 0); !errors.Is(err, hub.ErrMethodCall) {
			t.Errorf("method %q: %v", method, err)
		}
	}
	if _, err := invoke("m", "{", 0); !errors.Is(err, hub.ErrMethodCall) {
		t.Errorf("broken payload: %v", err)
	}
	if _, err := h.Invoke(ctx(t), "nobody", "m", nil, 0); !errors.Is(err, hub.ErrDeviceNotFound) {
		t.Errorf("nobody: %v", err)
	}
	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := h.Invoke(cancelled, "pi", "m", nil, 0); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestCloudToDevice(t *testing.T) {
	h := start(t, hub.Options{})
	d := addDevice(t, h, "pi")
	send := func(m hub.Bound) (string, error) { return h.Send(ctx(t), "pi", m) }
	// Queued while the device is away, in order.
	id, err := send(hub.Bound{Body: []byte("1"), ContentType: "text/plain", ContentEncoding: "utf-8", Properties: map[string]string{"a b": "c&d/+#"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := send(hub.Bound{ID: "two", Body: []byte("2")}); err != nil {
		t.Fatal(err)
	}
	c := connect(t, h, d)
	arrived := c.subscribe("devices/pi/messages/devicebound/#", 1)
	m := next(t, arrived)
	want := "devices/pi/messages/devicebound/%24.ce=utf-8&%24.ct=text%2Fplain&%24.mid=" + id +
		"&%24.to=%2Fdevices%2Fpi%2Fmessages%2Fdevicebound&a%20b=c%26d%2F%2B%23"
	if m.Topic() != want || string(m.Payload()) != "1" || m.Qos() != 1 {
		t.Errorf("message %s %s\nwant topic %s", m.Topic(), m.Payload(), want)
	}
	if m := next(t, arrived); string(m.Payload()) != "2" {
		t.Errorf("second message %s", m.Payload())
	}
	if _, err := send(hub.Bound{ID: "three", Body: []byte("3")}); err != nil {
		t.Fatal(err)
	}
	if m := next(t, arrived); string(m.Payload()) != "3" {
		t.Errorf("message while connected %s", m.Payload())
	}
	db, err := sql.Open("sqlite3", "file:"+filepath.Join(h.Dir(), "hub.db")+"?mode=ro&_busy_timeout=10000")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	eventually(t, "all three are acknowledged", func() bool {
		var n int
		if err := db.QueryRow(`SELECT count(*) FROM bound`).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n == 0
	})
	c.Disconnect(100)

	// Acknowledged ones do not come again; one whose time is up does not come at all.
	if _, err := send(hub.Bound{Body: []byte("late"), Life: time.Nanosecond}); err != nil {
		t.Fatal(err)
	}
	c = connect(t, h, d)
	arrived = c.subscribe("devices/pi/messages/devicebound/#", 0)
	if _, err := send(hub.Bound{Body: []byte("next")}); err != nil {
		t.Fatal(err)
	}
	if m := next(t, arrived); string(m.Payload()) != "next" || m.Qos() != 0 {
		t.Errorf("message %s", m.Payload())
	}
	c.Disconnect(100)
	eventually(t, "the device has gone", func() bool { return !h.Connected("pi") })

	for range 50 {
		if _, err := send(hub.Bound{Body: []byte("x")}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := send(hub.Bound{}); !errors.Is(err, hub.ErrQueueFull) {
		t.Errorf("the 51st: %v", err)
	}
	if _, err := send(hub.Bound{Body: make([]byte, 65<<10)}); !errors.Is(err, hub.ErrBoundLarge) {
		t.Errorf("too large: %v", err)
	}
	if _, err := h.Send(ctx(t), "nobody", hub.Bound{}); !errors.Is(err, hub.ErrDeviceNotFound) {
		t.Errorf("nobody: %v", err)
	}
}

// The SDKs connect without clean session and count on their subscriptions being
// there when they come back, even when the hub was restarted in between.
func TestSessionOutlivesTheHub(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	keep := func(o *paho.ClientOptions) { o.SetCleanSession(false).SetResumeSubs(false) }
	var d hub.Device
	run := func(f func(h *hub.Hub)) {
		h, err := hub.New(hub.Options{State: dir, Listen: "127.0.0.1:0"})
		if err != nil {
			t.Fatal(err)
		}
		served := make(chan error, 1)
		go func() { served <- h.Serve(context.Background()) }()
		f(h)
		if err := errors.Join(h.Close(), <-served); err != nil {
			t.Error(err)
		}
	}
	// present connects, and tells whether the hub said that there was a session.
	present := func(h *hub.Hub, more ...clientOption) (*client, bool) {
		c := &client{t: t, id: d.ID, lost: make(chan error, 1)}
		c.Client = paho.NewClient(options(t, h, d, more...))
		token := c.Connect()
		c.wait(token)
		return c, token.(*paho.ConnectToken).SessionPresent()
	}
	run(func(h *hub.Hub) {
		d = addDevice(t, h, "pi")
		c, was := present(h, keep)
		if was {
			t.Error("a session before the first connection")
		}
		c.subscribe("$iothub/methods/POST/#", 1)
		c.subscribe("$iothub/twin/res/#", 1)
		c.wait(c.Unsubscribe("$iothub/twin/res/#"))
		c.subscribe("devices/pi/messages/devicebound/#", 1)
		c.Disconnect(100)
	})
	run(func(h *hub.Hub) {
		if _, err := h.Send(ctx(t), "pi", hub.Bound{Body: []byte("waiting")}); err != nil {
			t.Fatal(err)
		}
		got := make(chan paho.Message, 10)
		c, was := present(h, keep, func(o *paho.ClientOptions) {
			o.SetDefaultPublishHandler(func(c paho.Client, m paho.Message) {
				if method, rid, ok := strings.Cut(m.Topic(), "?$rid="); ok && strings.HasPrefix(method, "$iothub/methods/") {
					c.Publish("$iothub/methods/res/200/?$rid="+rid, 0, false, "true")
				}
				got <- m
			})
		})
		if !was {
			t.Error("the session is gone")
		}
		if m := next(t, got); string(m.Payload()) != "waiting" {
			t.Errorf("message %s", m.Payload())
		}
		if r, err := h.Invoke(ctx(t), "pi", "ping", nil, patience); err != nil || r.Status != 200 {
			t.Errorf("method: %+v, %v", r, err)
		}
		// It unsubscribed from this one, so no answer comes before the next method.
		c.wait(c.Publish("$iothub/twin/GET/?$rid=1", 1, false, ""))
		next(t, got)
		if _, err := h.Invoke(ctx(t), "pi", "ping", nil, patience); err != nil {
			t.Error(err)
		}
		if m := next(t, got); !strings.HasPrefix(m.Topic(), "$iothub/methods/") {
			t.Errorf("got %s", m.Topic())
		}
		c.Disconnect(100)
		c, was = present(h) // a clean session ends the other
		if was {
			t.Error("session present in a clean one")
		}
		c.Disconnect(100)
		c, was = present(h, keep)
		if was {
			t.Error("the clean session did not end the other")
		}
		if _, err := h.Invoke(ctx(t), "pi", "ping", nil, patience); !errors.Is(err, hub.ErrDeviceOffline) {
			t.Errorf("still subscribed: %v", err)
		}
		c.Disconnect(100)
	})
}

// What a device published before it said goodbye counts.
func TestPublishAndGo(t *testing.T) {
	h := start(t, hub.Options{})
	d := addDevice(t, h, "pi")
	for i := range 20 {
		c := connect(t, h, d)
		c.wait(c.Publish("$iothub/twin/PATCH/properties/reported/?$rid=1", 0, false, fmt.Sprintf(`{"n":%d}`, i)))
		c.wait(c.Publish(c.events(""), 0, false, fmt.Sprint(i)))
		c.Disconnect(200)
		// A new connection would cut the old one off, and what is still in it.
		eventually(t, "the device has gone", func() bool { return !h.Connected("pi") })
	}
	eventually(t, "everything is stored", func() bool {
		tw, err := h.Twin(ctx(t), "pi")
		return err == nil && tw.Reported.Version == 21 && len(stored(t, h)) == 20
	})
}
