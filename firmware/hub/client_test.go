package hub_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"tuxwatch/firmware/hub"
)

// A Client's methods are the hub's, with its errors.
func TestClient(t *testing.T) {
	h := start(t, hub.Options{})
	c := hub.NewClient(h.Dir())
	const id = "a.b-c_d:e=@!?*(),'%$" // every character that a device id may have
	d, err := c.AddDevice(id)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.AddDevice(id); !errors.Is(err, hub.ErrDeviceExists) {
		t.Errorf("twice: %v", err)
	}
	if _, err := c.AddDevice("a b"); !errors.Is(err, hub.ErrDeviceID) {
		t.Errorf("bad id: %v", err)
	}
	dev := connect(t, h, d)
	if got, err := c.Device(id); err != nil || !got.Connected || got.PrimaryKey != d.PrimaryKey {
		t.Errorf("device %+v, %v", got, err)
	}
	if all, err := c.Devices(); err != nil || len(all) != 1 || !all[0].Connected {
		t.Errorf("devices %+v, %v", all, err)
	}
	if st, err := c.Status(ctx(t)); err != nil || !slices.Equal(st.Connected, []string{id}) || st.Listen != h.Addr() {
		t.Errorf("status %+v, %v", st, err)
	}
	if v, err := c.SetDesired(ctx(t), id, []byte(`{"a":1}`)); err != nil || v != 2 {
		t.Errorf("version %d, %v", v, err)
	}
	if _, err := c.SetDesired(ctx(t), id, []byte(`[]`)); !errors.Is(err, hub.ErrTwinPatch) {
		t.Errorf("bad patch: %v", err)
	}
	if tw, err := c.Twin(ctx(t), id); err != nil || tw.Desired.Version != 2 || fmt.Sprint(tw.Desired.Values["a"]) != "1" {
		t.Errorf("twin %+v, %v", tw, err)
	}
	if _, err := c.Invoke(ctx(t), id, "m", nil, time.Second); !errors.Is(err, hub.ErrDeviceOffline) {
		t.Errorf("offline: %v", err)
	}
	dev.subscribe("$iothub/methods/POST/#", 0)
	if _, err := c.Invoke(ctx(t), id, "m", nil, time.Millisecond); !errors.Is(err, hub.ErrMethodTimeout) {
		t.Errorf("no answer: %v", err)
	}
	bound := dev.subscribe("devices/"+id+"/messages/devicebound/#", 1)
	mid, err := c.Send(ctx(t), id, hub.Bound{Body: []byte("hello"), ContentType: "text/plain", Properties: map[string]string{"a b": "ü\n", "c": ""}})
	if err != nil {
		t.Fatal(err)
	}
	if m := next(t, bound); string(m.Payload()) != "hello" || !strings.HasSuffix(m.Topic(), "%24.ct=text%2Fplain&%24.mid="+mid+"&%24.to="+strings.ReplaceAll("/devices/a.b-c_d%3Ae%3D%40%21%3F%2A%28%29%2C%27%25%24/messages/devicebound", "/", "%2F")+"&a%20b=%C3%BC%0A&c=") {
		t.Errorf("message %s on %s", m.Payload(), m.Topic())
	}
	if _, err := c.Send(ctx(t), id, hub.Bound{Body: make([]byte, 65<<10)}); !errors.Is(err, hub.ErrBoundLarge) {
		t.Errorf("too large: %v", err)
	}
	dev.send("$.mid=1", "x")
	if st, err := c.Stats(); err != nil || st.Events != 1 {
		t.Errorf("stats %+v, %v", st, err)
	}
	fresh, err := c.RegenerateKeys(id)
	if err != nil || fresh.PrimaryKey == d.PrimaryKey {
		t.Errorf("new keys: %v", err)
	}
	dev.dropped()
	if err := c.SetEnabled(id, false); err != nil {
		t.Error(err)
	}
	if got, err := c.Device(id); err != nil || got.Enabled {
		t.Errorf("device %+v, %v", got, err)
	}
	if err := c.RemoveDevice(id); err != nil {
		t.Error(err)
	}
	if err := c.RemoveDevice(id); !errors.Is(err, hub.ErrDeviceNotFound) {
		t.Errorf("removed twice: %v", err)
	}
}

// A stream goes on where it ended when the hub comes back, and begins anew when
// it is another hub that comes.
func TestStreamAcrossRestarts(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	run := func(dir string, f func(h *hub.Hub)) {
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
	read := func(h *hub.Hub, from *hub.Cursor, f hub.Filter, n int) (bodies []string, at hub.Cursor) {
		t.Helper()
		for s, err := range hub.NewClient(h.Dir()).Events(ctx(t), from, f, n > 0) {
			if err != nil {
				t.Fatal(err)
			}
			at = s.Cursor
			if s.Event != nil {
				bodies = append(bodies, string(s.Event.Body))
			}
			if n > 0 && len(bodies) == n {
				break
			}
		}
		return bodies, at
	}
	var at hub.Cursor
	run(dir, func(h *hub.Hub) {
		c := connect(t, h, addDevice(t, h, "pi"))
		for i := range 100 {
			c.send("", fmt.Sprint(i))
		}
		var bodies []string
		if bodies, at = read(h, &hub.Cursor{}, hub.Filter{}, 70); len(bodies) != 70 {
			t.Errorf("%d events", len(bodies))
		}
	})
	run(dir, func(h *hub.Hub) {
		if bodies, _ := read(h, &at, hub.Filter{}, 0); len(bodies) != 30 || bodies[0] != "70" {
			t.Errorf("went on with %q", bodies)
		}
		if bodies, _ := read(h, nil, hub.Filter{}, 0); len(bodies) != 0 {
			t.Errorf("from now on: %q", bodies)
		}
		if bodies, _ := read(h, &hub.Cursor{}, hub.Filter{Device: "other"}, 0); len(bodies) != 0 {
			t.Errorf("another device's: %q", bodies)
		}
		if bodies, _ := read(h, &hub.Cursor{}, hub.Filter{Since: time.Now().Add(time.Hour)}, 0); len(bodies) != 0 {
			t.Errorf("from the future: %q", bodies)
		}
		if bodies, _ := read(h, &hub.Cursor{}, hub.Filter{Since: time.Now().Add(-time.Hour)}, 0); len(bodies) != 100 {
			t.Errorf("of the last hour: %d", len(bodies))
		}
	})
	run(filepath.Join(t.TempDir(), "another"), func(h *hub.Hub) {
		connect(t, h, addDevice(t, h, "pi")).send("", "first of another hub")
		if bodies, _ := read(h, &at, hub.Filter{}, 0); len(bodies) != 1 {
			t.Errorf("of another hub: %q", bodies)
		}
	})
}

// The API over TCP streams events as the control socket does.
func TestEventsOverHTTP(t *testing.T) {
	h := start(t, hub.Options{Listen: "127.0.0.1:0", HTTPListen: "127.0.0.1:0"})
	dev := connect(t, h, addDevice(t, h, "pi"))
	req, err := http.NewRequestWithContext(ctx(t), http.MethodGet, "http://"+h.HTTPAddr()+"/v1/events?follow=1", nil)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	resp, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	if !lines.Scan() || !strings.Contains(lines.Text(), `"after":0`) {
		t.Fatalf("first line %s, %v", lines.Text(), lines.Err())
	}
	dev.send("", "now")
	if !lines.Scan() || !strings.Contains(lines.Text(), `"body":"now"`) || !strings.Contains(lines.Text(), `"seq":1`) {
		t.Errorf("event %s, %v", lines.Text(), lines.Err())
	}
}
