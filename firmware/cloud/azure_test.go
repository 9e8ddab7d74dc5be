package cloud

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tuxwatch/firmware/hub"
	"tuxwatch/firmware/message"
	"tuxwatch/firmware/outbox"
)

func TestAMessageReachesTheHubOverTLSAsItWas(t *testing.T) {
	h, _ := startHub(t, hub.Options{TLSListen: "127.0.0.1:0"})
	o := openOutbox(t)
	m := text("first")
	m.Properties = map[string]string{"MessageType": "Alert", "ort": "Küche & Bad/1+1=2 #5"}
	m.Created = time.Date(2026, 11, 22, 11, 2, 3, 123e6, time.UTC)
	if err := o.Put(t.Context(), m, 5, 0); err != nil {
		t.Fatal(err)
	}
	c, _ := run(t, azureConfig(t, h), o, newFakeDevice(`{}`))
	eventually(t, "the outbox is empty", func() bool { return o.Stats().Depth == 0 })
	events := atHub(t, h)
	if len(events) != 1 {
		t.Fatalf("%d events", len(events))
	}
	e := events[0]
	e.Time, e.Seq = time.Time{}, 0
	want := hub.Event{
		Device: "pi", Module: "filterModule", Output: "output1",
		System:     map[string]string{"messageId": "first", "contentType": "application/json", "contentEncoding": "utf-8", "creationTimeUtc": "2026-11-22T11:02:03.123Z"},
		Properties: m.Properties,
		Body:       m.Body,
	}
	delete(e.Properties, "edge-module")
	delete(e.Properties, "edge-output")
	if diff := cmp.Diff(want, e); diff != "" {
		t.Error(diff)
	}
	s := c.State()
	if s.Status != Connected || s.Hub != "localhost" || s.Device != "pi" || s.Sent != 1 || s.Acked != 1 || s.Resent != 0 ||
		s.Error != "" || s.TokenExpires.Before(time.Now().Add(50*time.Minute)) {
		t.Errorf("%+v", s)
	}
}

func TestTopicOfAMessage(t *testing.T) {
	a := &azure{id: "pi"}
	m := text("a b")
	m.Properties = map[string]string{"z": "1", "a": "x y"}
	topic, payload, err := a.encode(outbox.Record{Message: m})
	want := "devices/pi/messages/events/$.mid=a%20b&$.ct=application%2Fjson&$.ce=utf-8&a=x%20y&edge-module=filterModule&edge-output=output1&z=1"
	if err != nil || topic != want || string(payload) != string(m.Body) {
		t.Errorf("got  %s\nwant %s\n%v", topic, want, err)
	}
	if _, _, err := a.encode(outbox.Record{Message: message.Message{Body: make([]byte, 256<<10+1)}}); err == nil {
		t.Error("a message of more than 256 KiB was taken")
	}
	if _, _, err := a.encode(outbox.Record{Message: message.Message{Properties: map[string]string{"p": strings.Repeat("ü", 12_000)}}}); err == nil {
		t.Error("a topic of more than 65535 bytes was made")
	}
}

func TestAMessageTooLargeForTheHubIsSetAsideAtOnce(t *testing.T) {
	h, _ := startHub(t, hub.Options{})
	o, err := outbox.Open(t.TempDir(), outbox.Options{Logger: logger(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	put(t, o, 5, "before")
	large := text("large")
	large.Body = make([]byte, 300<<10)
	if err := o.Put(t.Context(), large, 5, 0); err != nil {
		t.Fatal(err)
	}
	put(t, o, 5, "after")
	c, stop := run(t, azureConfig(t, h), o, nil)
	eventually(t, "the outbox is empty", func() bool { return o.Stats().Depth == 0 })
	if got, _ := ids(atHub(t, h)); !slices.Equal(got, []string{"before", "after"}) {
		t.Errorf("at the hub: %v", got)
	}
	list, err := o.ListSetAside(t.Context())
	if err != nil || len(list) != 1 || list[0].Record.Message.ID != "large" || !strings.Contains(list[0].Cause, "IoT Hub takes 262144") {
		t.Errorf("set aside: %+v, %v", list, err)
	}
	if s := c.State(); s.SetAside != 1 || s.Connections != 1 {
		t.Errorf("%+v", s)
	}
	stop()
}

func TestAPoisonedMessageIsSetAsideAndNothingElse(t *testing.T) {
	var refused atomic.Int32
	h, _ := startHub(t, hub.Options{Intercept: func(e hub.Event) error {
		if e.System["messageId"] == "m00050" {
			refused.Add(1)
			return errors.New("not this one")
		}
		return nil
	}})
	o := openOutbox(t)
	var want []string
	for i := range 100 {
		put(t, o, 5, numbered(i))
		if i != 50 {
			want = append(want, numbered(i))
		}
	}
	config := azureConfig(t, h)
	config.MaxAttempts = 3
	c, _ := run(t, config, o, nil)
	eventually(t, "the outbox is empty", func() bool { return o.Stats().Depth == 0 })
	got, duplicates := ids(atHub(t, h))
	if !slices.Equal(got, want) {
		t.Errorf("at the hub: %v", got)
	}
	list, err := o.ListSetAside(t.Context())
	if err != nil || len(list) != 1 || list[0].Record.Message.ID != "m00050" || !strings.Contains(list[0].Cause, "3 times") {
		t.Errorf("set aside: %+v, %v", list, err)
	}
	t.Logf("sent %d times to the hub, %d duplicates, %+v", refused.Load(), duplicates, c.State())
}

func TestAHubThatRefusesEverythingGetsNothingSetAside(t *testing.T) {
	var refuse atomic.Bool
	refuse.Store(true)
	var refusals atomic.Int32
	h, _ := startHub(t, hub.Options{Intercept: func(hub.Event) error {
		if refuse.Load() {
			refusals.Add(1)
			return errors.New("not now")
		}
		return nil
	}})
	o := openOutbox(t)
	for i := range 10 {
		put(t, o, 5, numbered(i))
	}
	config := azureConfig(t, h)
	config.MaxAttempts = 2
	run(t, config, o, nil)
	eventually(t, "the hub refused often", func() bool { return refusals.Load() > 20 })
	if s := o.Stats(); s.Depth != 10 || s.SetAside != 0 {
		t.Errorf("while it refuses: %+v", s)
	}
	refuse.Store(false)
	eventually(t, "the outbox is empty", func() bool { return o.Stats().Depth == 0 })
	got, _ := ids(atHub(t, h))
	list, err := o.ListSetAside(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// At the moment when the hub changes its mind, the one that was held back
	// then may look guilty. It is kept.
	if len(list) > 1 || len(got)+len(list) != 10 || !slices.IsSorted(got) {
		t.Errorf("at the hub %v, set aside %+v", got, list)
	}
}

func TestAnOutageIsNoAttempt(t *testing.T) {
	state := t.TempDir() + "/state"
	h, stopHub := startHub(t, hub.Options{State: state})
	config := azureConfig(t, h)
	config.MaxAttempts = 1
	address := h.Addr()
	o := openOutbox(t)
	c, _ := run(t, config, o, nil)
	eventually(t, "connected", func() bool { return c.State().Status == Connected })
	stopHub()
	put(t, o, 5, "a", "b")
	eventually(t, "many failures", func() bool { return c.State().Failures > 10 })
	if s := c.State(); s.Error == "" || s.Status == Connected {
		t.Errorf("%+v", s)
	}
	if s := o.Stats(); s.Depth != 2 || s.SetAside != 0 {
		t.Errorf("%+v", s)
	}
	h, _ = startHub(t, hub.Options{State: state, Listen: address})
	eventually(t, "the outbox is empty", func() bool { return o.Stats().Depth == 0 })
	if got, _ := ids(atHub(t, h)); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("at the hub: %v", got)
	}
}

func TestTheHubKilledAndStartedAgainUnderLoadGetsEverythingInOrder(t *testing.T) {
	state := t.TempDir() + "/state"
	h, stopHub := startHub(t, hub.Options{State: state})
	config := azureConfig(t, h)
	address := h.Addr()
	o := openOutbox(t)
	c, _ := run(t, config, o, newFakeDevice(`{"a":1}`))

	const messages = 1500
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range messages {
			put(t, o, i%3, fmt.Sprintf("%d-%05d", i%3, i))
		}
	}()
	for i := range 6 {
		target := c.State().Acked + 40
		eventually(t, "some more are acknowledged", func() bool { return c.State().Acked >= target || c.State().Acked >= messages })
		if i%2 == 0 {
			h.DropConnections()
			continue
		}
		stopHub()
		h, stopHub = startHub(t, hub.Options{State: state, Listen: address})
	}
	<-done
	eventually(t, "the outbox is empty", func() bool { return o.Stats().Depth == 0 })
	events := atHub(t, h)
	got, duplicates := ids(events)
	if len(got) != messages {
		t.Errorf("%d of %d messages arrived", len(got), messages)
	}
	last := map[byte]string{}
	for _, id := range got {
		if id <= last[id[0]] {
			t.Errorf("%s came after %s", id, last[id[0]])
		}
		last[id[0]] = id
	}
	s := c.State()
	// What the hub has twice, we know to have sent twice.
	if int64(duplicates) > s.Resent || s.SetAside != 0 || s.Acked != messages {
		t.Errorf("%d duplicates, %+v", duplicates, s)
	}
	t.Logf("%d messages, %d duplicates, %+v", len(got), duplicates, s)
}

func TestRefusedCredentialsSayWhichAndWhatToDo(t *testing.T) {
	h, _ := startHub(t, hub.Options{})
	config := azureConfig(t, h)
	good, err := readSecret(config.ConnectionStringFile, logger(t))
	if err != nil {
		t.Fatal(err)
	}
	config.Backoff.Refused = time.Hour // only the file's change may end the pause
	const key = "dGhpcyBpcyB0aGUgd3Jvbmcga2V5IGZvciB0aGUgZGV2aWNl"
	writeFile(t, config.ConnectionStringFile, "HostName=localhost;DeviceId=pi;SharedAccessKey="+key)
	o := openOutbox(t)
	put(t, o, 5, "kept")
	c, _ := run(t, config, o, nil, func(c *Connection) { c.lookEvery = 10 * time.Millisecond })
	eventually(t, "refused", func() bool { return c.State().Status == Refused })
	s := c.State()
	for _, part := range []string{"pi", "localhost", "CONNACK 5"} {
		if !strings.Contains(s.Error, part) {
			t.Errorf("%q is not in the error: %s", part, s.Error)
		}
	}
	if !strings.Contains(s.Remedy, config.ConnectionStringFile) || strings.Contains(s.Error+s.Remedy, key) {
		t.Errorf("remedy: %s", s.Remedy)
	}
	put(t, o, 5, "as well")
	writeFile(t, config.ConnectionStringFile, good)
	eventually(t, "the outbox is empty", func() bool { return o.Stats().Depth == 0 })
	if got, _ := ids(atHub(t, h)); !slices.Equal(got, []string{"kept", "as well"}) {
		t.Errorf("at the hub: %v", got)
	}
}

func TestTheTokenIsRenewedWithoutLoss(t *testing.T) {
	h, _ := startHub(t, hub.Options{})
	o := openOutbox(t)
	c, _ := run(t, azureConfig(t, h), o, nil, func(c *Connection) { c.config.TokenLifetime = 2 * time.Second })
	n := 0
	eventually(t, "another connection", func() bool {
		put(t, o, 5, numbered(n))
		n++
		return c.State().Connections >= 2
	})
	eventually(t, "the outbox is empty", func() bool { return o.Stats().Depth == 0 })
	got, duplicates := ids(atHub(t, h))
	if len(got) != n || !slices.IsSorted(got) || duplicates != 0 {
		t.Errorf("%d of %d arrived, %d duplicates", len(got), n, duplicates)
	}
	if s := c.State(); s.Failures != 0 || s.Resent != 0 {
		t.Errorf("%+v", s)
	}
}

func TestTheTwinIsKeptInStep(t *testing.T) {
	h, _ := startHub(t, hub.Options{})
	config := azureConfig(t, h)
	ctx := t.Context()
	if _, err := h.SetDesired(ctx, "pi", []byte(`{"filterModule":{"TemperatureThreshold":30}}`)); err != nil {
		t.Fatal(err)
	}
	device := newFakeDevice(`{"tempSensor":{"health":"ok","interval":5},"gone":1}`)
	o := openOutbox(t)
	c, _ := run(t, config, o, device)
	eventually(t, "the whole twin came", func() bool {
		return device.last() == `2 full {"filterModule":{"TemperatureThreshold":30}}`
	})
	reported := func() string {
		twin, err := h.Twin(ctx, "pi")
		if err != nil {
			t.Fatal(err)
		}
		data, err := json.Marshal(twin.Reported.Values)
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	eventually(t, "the reported properties are there", func() bool {
		return reported() == `{"gone":1,"tempSensor":{"health":"ok","interval":5}}`
	})
	if _, err := h.SetDesired(ctx, "pi", []byte(`{"filterModule":{"TemperatureThreshold":null},"x":[1,2]}`)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the change came", func() bool {
		return device.last() == `3 patch {"filterModule":{"TemperatureThreshold":null},"x":[1,2]}`
	})
	for i := range 50 {
		device.report(fmt.Sprintf(`{"tempSensor":{"health":"ok","interval":%d}}`, i))
	}
	eventually(t, "the last report is there", func() bool { return reported() == `{"tempSensor":{"health":"ok","interval":49}}` })
	if s := c.State(); s.DesiredVersion != 3 || s.TwinError != "" {
		t.Errorf("%+v", s)
	}
	// While away, both sides change.
	h.DropConnections()
	if _, err := h.SetDesired(ctx, "pi", []byte(`{"x":"while away"}`)); err != nil {
		t.Fatal(err)
	}
	device.report(`{"other":true}`)
	eventually(t, "both are in step again", func() bool {
		return strings.HasPrefix(device.last(), "4 ") && strings.Contains(device.last(), "while away") && reported() == `{"other":true}`
	})
}

func TestDirectMethods(t *testing.T) {
	h, _ := startHub(t, hub.Options{})
	device := newFakeDevice(`{}`)
	c, stop := run(t, azureConfig(t, h), openOutbox(t), device)
	eventually(t, "connected", func() bool { return c.State().DesiredVersion > 0 })
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for _, call := range []struct {
		method, payload string
		status          int
		response        string
	}{
		{"echo", `{"a":[1,null]}`, 200, `{"a":[1,null]}`},
		{"echo", ``, 200, `null`},
		{"unknown", `1`, 404, `null`},
	} {
		result, err := h.Invoke(ctx, "pi", call.method, []byte(call.payload), patience)
		if err != nil {
			t.Errorf("%s: %v", call.method, err)
			continue
		}
		if result.Status != call.status || string(result.Payload) != call.response {
			t.Errorf("%s(%s): %d %s", call.method, call.payload, result.Status, result.Payload)
		}
	}
	// One that hangs holds up neither others nor the end.
	hung := make(chan struct{})
	go func() {
		defer close(hung)
		h.Invoke(ctx, "pi", "hang", nil, patience)
	}()
	eventually(t, "it hangs", func() bool {
		device.mu.Lock()
		defer device.mu.Unlock()
		return slices.Contains(device.invoked, "hang null")
	})
	if result, err := h.Invoke(ctx, "pi", "echo", []byte("7"), patience); err != nil || string(result.Payload) != "7" {
		t.Errorf("beside a method that hangs: %+v, %v", result, err)
	}
	start := time.Now()
	stop()
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("stopping took %v", took)
	}
	cancel()
	<-hung
}

func TestAHubOfAnUnknownAuthorityIsNotTrusted(t *testing.T) {
	h, _ := startHub(t, hub.Options{TLSListen: "127.0.0.1:0"})
	config := azureConfig(t, h)
	config.CAFile = ""
	o := openOutbox(t)
	put(t, o, 5, "kept")
	c, _ := run(t, config, o, nil)
	eventually(t, "it failed", func() bool { return c.State().Failures > 0 })
	if s := c.State(); !strings.Contains(s.Remedy, "ca_file") || o.Stats().Depth != 1 {
		t.Errorf("%+v", s)
	}
}

func TestAClockThatIsNotSetIsSaidAndWaitedFor(t *testing.T) {
	h, _ := startHub(t, hub.Options{TLSListen: "127.0.0.1:0"})
	config := azureConfig(t, h)
	o := openOutbox(t)
	put(t, o, 5, "kept")
	var set atomic.Bool
	c, _ := run(t, config, o, nil, func(c *Connection) {
		c.now = func() time.Time {
			if set.Load() {
				return time.Now()
			}
			return time.Date(1970, 1, 1, 0, 1, 0, 0, time.UTC)
		}
	})
	eventually(t, "it failed", func() bool { return c.State().Failures > 2 })
	if s := c.State(); !strings.Contains(s.Remedy, "1970") || !strings.Contains(s.Remedy, "clock") {
		t.Errorf("%+v", s)
	}
	set.Store(true)
	eventually(t, "the outbox is empty", func() bool { return o.Stats().Depth == 0 })
}

func TestABacklogDrainsAtTheBoundedRate(t *testing.T) {
	h, _ := startHub(t, hub.Options{})
	o := openOutbox(t)
	for i := range 60 {
		put(t, o, 5, numbered(i))
	}
	config := azureConfig(t, h)
	config.MaxRate = 100
	start := time.Now()
	run(t, config, o, nil)
	eventually(t, "the outbox is empty", func() bool { return o.Stats().Depth == 0 })
	// Ten may go at once.
	if took := time.Since(start); took < 490*time.Millisecond {
		t.Errorf("60 messages took %v", took)
	}
}
