package imagereceiver

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"tuxwatch/firmware/vision"
)

var errBusy = fmt.Errorf("%w: 4 pictures are waiting", vision.ErrBusy)

func TestDeliveries(t *testing.T) {
	var d deliveries
	key := deliveryKey{"door", 1}
	first, mine := d.begin(key, 10, false)
	if !mine {
		t.Fatal("the first is not to be looked at")
	}
	if again, mine := d.begin(key, 10, true); mine || again != first {
		t.Error("a repetition is to be looked at")
	}
	if _, mine := d.begin(deliveryKey{"yard", 1}, 10, true); !mine {
		t.Error("another client's is taken for a repetition")
	}
	d.finish(key, first, true)
	if again, mine := d.begin(key, 10, true); mine || !again.taken {
		t.Error("a repetition after the end is to be looked at")
	}
	if _, mine := d.begin(key, 11, true); !mine {
		t.Error("another picture is taken for a repetition")
	}
	second, mine := d.begin(key, 11, false)
	if !mine {
		t.Error("a new publish is taken for a repetition")
	}
	d.finish(key, second, false)
	if _, mine := d.begin(key, 11, true); !mine {
		t.Error("a repetition of what failed is not looked at")
	}
	d.complete(key)
	if _, mine := d.begin(key, 11, true); !mine {
		t.Error("a completed delivery is remembered")
	}
	d.forget("door")
	d.forget("yard")
	if len(d.open) != 0 {
		t.Errorf("%d left", len(d.open))
	}
	for n := range 2 * maxDeliveries {
		d.begin(deliveryKey{fmt.Sprint(n), 1}, 0, false)
	}
	if len(d.open) > maxDeliveries {
		t.Errorf("%d are remembered", len(d.open))
	}
}

func TestComplaintsOncePerBurst(t *testing.T) {
	var text bytes.Buffer
	now := time.Unix(0, 0)
	c := complaints{log: slog.New(slog.NewTextHandler(&text, nil)), now: func() time.Time { return now }, quiet: 30 * time.Second}
	for range 100 {
		c.say("a", "bad", "why", "noise")
		now = now.Add(time.Second)
	}
	c.say("b", "other")
	now = now.Add(30 * time.Second)
	c.say("a", "bad", "why", "noise")
	now = now.Add(30 * time.Second)
	c.say("a", "bad", "why", "noise")
	lines := strings.Split(strings.TrimSpace(text.String()), "\n")
	if len(lines) != 4 {
		t.Fatalf("%d lines:\n%s", len(lines), &text)
	}
	if !strings.Contains(lines[2], "why=noise more_in_last_burst=99") {
		t.Error(lines[2])
	}
	if strings.Contains(lines[3], "more_in_last_burst") {
		t.Error(lines[3])
	}
	for n := range 10 * maxBursts {
		c.say(fmt.Sprint(n), "bad")
	}
	if len(c.bursts) > maxBursts {
		t.Errorf("%d bursts are remembered", len(c.bursts))
	}
}

func TestBrokerLogHoldsNoPackets(t *testing.T) {
	var text bytes.Buffer
	var door gate
	log := slog.New(brokerLog{slog.NewTextHandler(&text, &slog.HandlerOptions{Level: slog.LevelDebug}), &door}).With("hook", "x")
	log.Warn("error processing packet", "error", "bad", "pk", packets.Packet{Payload: []byte("secret picture")})
	log.WithGroup("g").Error("failed publishing packet", "packet", &packets.Packet{Payload: []byte("secret picture")}, "client", "door")
	if got := text.String(); strings.Contains(got, "pk=") || strings.Contains(got, "packet=") || strings.Contains(got, "level=WARN") ||
		!strings.Contains(got, "error=bad") || !strings.Contains(got, "client=door") {
		t.Error(got)
	}
	text.Reset()
	door.close()
	log.Warn("late")
	slog.New(brokerLog{slog.NewTextHandler(&text, nil), new(gate)}).Error("loud")
	if text.Len() > 0 {
		t.Errorf("after the end, or without debugging: %s", &text)
	}
}

// Cameras that make a new name for each connection do not fill the memory.
func TestSessionsAreBounded(t *testing.T) {
	s := Kind(nil).Settings().(*Settings)
	b := &broker{m: &module{settings: *s}, server: mqtt.New(&mqtt.Options{Logger: slog.New(slog.DiscardHandler)})}
	for n := range 2 * maxSessions {
		cl := b.server.NewClient(nil, "", fmt.Sprint(n), false)
		cl.Stop(nil)
		b.forgetOldest()
		b.server.Clients.Add(cl)
		b.deliveries.begin(deliveryKey{cl.ID, 1}, 0, false)
	}
	if n := b.server.Clients.Len(); n > maxSessions+s.MaxConnections {
		t.Errorf("%d sessions", n)
	}
	if n := len(b.deliveries.open); n > maxSessions+s.MaxConnections {
		t.Errorf("%d deliveries", n)
	}
}

func TestLookout(t *testing.T) {
	var l lookout
	if _, ok := l.oldest(); ok {
		t.Error("something out of nothing")
	}
	first := l.enter(time.Unix(1, 0))
	second := l.enter(time.Unix(2, 0))
	if at, _ := l.oldest(); !at.Equal(time.Unix(1, 0)) {
		t.Error(at)
	}
	l.leave(first)
	if at, _ := l.oldest(); !at.Equal(time.Unix(2, 0)) {
		t.Error(at)
	}
	l.leave(second)
	if _, ok := l.oldest(); ok {
		t.Error("something is left")
	}
}

func TestClip(t *testing.T) {
	if got := clip(strings.Repeat("ä", 100)); len(got) > 140 || !strings.HasSuffix(got, "…") {
		t.Errorf("%d bytes: %s", len(got), got)
	}
	if got := clip("door\xff"); got != "door�" {
		t.Error(got)
	}
}

// What a client asks for is bounded when it connects.
func TestClientsWishesAreBounded(t *testing.T) {
	s := Kind(nil).Settings().(*Settings)
	b := &broker{m: &module{settings: *s}, server: mqtt.New(&mqtt.Options{Logger: slog.New(slog.DiscardHandler)})}
	h := &hook{b: b}
	for _, c := range []struct {
		version   byte
		keepalive uint16
		want      uint16
		told      bool
	}{
		{4, 0, 0, false}, // TCP's keep-alive watches over it
		{4, 60, 60, false},
		{4, 65535, 43690, false}, // half as much more still fits into 16 bits
		{5, 60, 60, false},
		{5, 0, 300, true},
		{5, 65535, 300, true},
	} {
		cl := b.server.NewClient(nil, "", "door", false)
		cl.Properties.ProtocolVersion = c.version
		cl.State.Keepalive = c.keepalive
		cl.Properties.Will = mqtt.Will{Flag: 1, Retain: true, TopicName: "t", Payload: []byte("x")}
		if err := h.OnConnect(cl, packets.Packet{}); err != nil {
			t.Error(err)
		}
		if cl.State.Keepalive != c.want || cl.State.ServerKeepalive != c.told {
			t.Errorf("version %d, %d s: became %d s, told: %v", c.version, c.keepalive, cl.State.Keepalive, cl.State.ServerKeepalive)
		}
		if cl.Properties.Will.Flag != 0 {
			t.Error("the last will is kept")
		}
	}
}
