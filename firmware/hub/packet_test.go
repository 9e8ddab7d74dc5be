package hub

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/mochi-mqtt/server/v2/packets"
)

// lockedBuffer is a log that several goroutines write.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// serveForPackets runs a hub with a device, and gives its CONNECT packet.
func serveForPackets(t testing.TB) (h *Hub, log *lockedBuffer, connect []byte) {
	t.Helper()
	log = &lockedBuffer{}
	h, err := New(Options{State: t.TempDir(), Listen: "127.0.0.1:0", Log: slog.New(slog.NewTextHandler(log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- h.Serve(context.Background()) }()
	t.Cleanup(func() {
		if err := errors.Join(h.Close(), <-served); err != nil {
			t.Error(err)
		}
	})
	d, err := h.AddDevice("pi")
	if err != nil {
		t.Fatal(err)
	}
	token, err := NewSAS("localhost", "pi", d.PrimaryKey, time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	pk := packets.Packet{
		FixedHeader:     packets.FixedHeader{Type: packets.Connect},
		ProtocolVersion: 4,
		Connect: packets.ConnectParams{
			ProtocolName: []byte("MQTT"), Clean: true, Keepalive: 60, ClientIdentifier: "pi",
			UsernameFlag: true, Username: []byte("localhost/pi/?api-version=2021-04-12"),
			PasswordFlag: true, Password: []byte(token),
		},
	}
	var b bytes.Buffer
	if err := pk.ConnectEncode(&b); err != nil {
		t.Fatal(err)
	}
	return h, log, b.Bytes()
}

func dial(t testing.TB, h *Hub) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", h.Addr())
	if err != nil {
		t.Fatal(err)
	}
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return c.(*net.TCPConn)
}

func encode(t testing.TB, f func(*packets.Packet, *bytes.Buffer) error, pk packets.Packet) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := f(&pk, &b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// Whatever a device sends once it is signed in, or a stranger instead of
// signing in, the hub ends the connection at worst.
func FuzzPackets(f *testing.F) {
	event := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: 1}, PacketID: 1, TopicName: "devices/pi/messages/events/a=b", Payload: []byte("x")}
	f.Add(true, encode(f, (*packets.Packet).PublishEncode, event))
	twin := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: 1}, PacketID: 2, TopicName: "$iothub/twin/PATCH/properties/reported/?$rid=1", Payload: []byte(`{"a":1}`)}
	f.Add(true, encode(f, (*packets.Packet).PublishEncode, twin))
	sub := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Subscribe, Qos: 1}, PacketID: 3, Filters: packets.Subscriptions{{Filter: "$iothub/twin/res/#", Qos: 2}}}
	f.Add(true, encode(f, (*packets.Packet).SubscribeEncode, sub))
	unsub := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Unsubscribe, Qos: 1}, PacketID: 4, Filters: packets.Subscriptions{{Filter: "$iothub/twin/res/#"}}}
	f.Add(true, encode(f, (*packets.Packet).UnsubscribeEncode, unsub))
	f.Add(true, []byte{0xc0, 0, 0xe0, 0})                                           // PINGREQ, DISCONNECT
	f.Add(true, []byte{0x40, 2, 0, 9, 0x50, 2, 0, 9, 0x62, 2, 0, 9, 0x70, 2, 0, 9}) // acknowledgements of nothing
	f.Add(true, []byte{0x30, 0xff, 0xff, 0xff, 0x7f})                               // 256 MB to come
	f.Add(false, []byte{0x10, 0xff, 0xff, 0xff, 0x7f, 0, 4, 'M'})
	f.Add(false, []byte("GET / HTTP/1.1\r\n\r\n"))
	f.Add(false, []byte{0x10, 12, 0, 4, 'M', 'Q', 'T', 'T', 5, 2, 0, 60, 0, 0})
	h, log, connect := serveForPackets(f)
	f.Fuzz(func(t *testing.T, signIn bool, b []byte) {
		c := dial(t, h)
		defer c.Close()
		if signIn {
			b = append(bytes.Clone(connect), b...)
		}
		// The hub may have hung up already.
		_, _ = c.Write(b)
		_ = c.CloseWrite()
		if _, err := io.Copy(io.Discard, c); errors.Is(err, net.ErrClosed) || isTimeout(err) {
			t.Errorf("the connection was not ended: %v", err)
		}
		if s := log.String(); strings.Contains(s, "panic") {
			t.Fatal(s)
		}
	})
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}

func TestPanicEndsOneConnection(t *testing.T) {
	log := &lockedBuffer{}
	l := &listener{log: slog.New(slog.NewTextHandler(log, nil))}
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	err := l.run(&conn{Conn: a}, listeners.EstablishFn(func(string, net.Conn) error { panic("boom") }))
	if err == nil || !strings.Contains(log.String(), "boom") {
		t.Errorf("error %v, log %s", err, log)
	}
}

// A device that does not read is let go rather than waited for.
func TestSlowDeviceIsLetGo(t *testing.T) {
	h, _, _ := serveForPackets(t)
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	s := newSession(h, h.broker.NewClient(a, "test", "pi", false), "pi", time.Now().Add(time.Hour))
	for i := range sendQueue {
		if !s.push(publish("x", nil)) {
			t.Fatalf("packet %d was not taken", i)
		}
	}
	if s.push(publish("x", nil)) || !errors.Is(s.cause(), errSlow) || !s.cl.Closed() {
		t.Errorf("cause %v", s.cause())
	}
}

// A cloud-to-device message comes again until the device has acknowledged it,
// and a device that asks for QoS 2 gets QoS 1.
func TestUnacknowledgedMessageComesAgain(t *testing.T) {
	h, _, connect := serveForPackets(t)
	if _, err := h.Send(context.Background(), "pi", Bound{ID: "m", Body: []byte("hello")}); err != nil {
		t.Fatal(err)
	}
	subscribe := encode(t, (*packets.Packet).SubscribeEncode, packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Subscribe, Qos: 1}, PacketID: 1,
		Filters: packets.Subscriptions{{Filter: "devices/pi/messages/devicebound/#", Qos: 2}}})
	// receive signs in and gives what the hub sends until it has sent SUBACK and a PUBLISH.
	receive := func(c net.Conn) (granted byte, packetID []byte) {
		t.Helper()
		if _, err := c.Write(append(bytes.Clone(connect), subscribe...)); err != nil {
			t.Fatal(err)
		}
		granted = 0xff
		for granted == 0xff || packetID == nil {
			var head [2]byte // every packet here is shorter than 128 bytes
			if _, err := io.ReadFull(c, head[:]); err != nil {
				t.Fatal(err)
			}
			body := make([]byte, head[1])
			if _, err := io.ReadFull(c, body); err != nil {
				t.Fatal(err)
			}
			switch head[0] >> 4 {
			case packets.Suback:
				granted = body[2]
			case packets.Publish:
				if qos := head[0] >> 1 & 3; qos != 1 {
					t.Errorf("QoS %d", qos)
				}
				topic := int(body[0])<<8 | int(body[1])
				packetID = body[2+topic : 4+topic]
				if string(body[4+topic:]) != "hello" {
					t.Errorf("message %q", body)
				}
			}
		}
		return granted, packetID
	}
	for range 2 {
		c := dial(t, h)
		if granted, _ := receive(c); granted != 1 {
			t.Errorf("QoS %d granted", granted)
		}
		c.Close()
	}
	c := dial(t, h)
	defer c.Close()
	_, id := receive(c)
	if _, err := c.Write([]byte{packets.Puback << 4, 2, id[0], id[1]}); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		var n int
		if err := h.read.QueryRow(`SELECT count(*) FROM bound`).Scan(&n); err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("the acknowledged message is still queued")
		}
	}
}
