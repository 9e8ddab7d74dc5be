package cloud

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
	"pgregory.net/rapid"
)

// fakeHub is a hub down to the packets: handle gets each connection after
// CONNECT has been accepted.
type fakeHub struct {
	listener net.Listener
	group    sync.WaitGroup
}

// connectionToHub is the hub's end of a connection.
type connectionToHub struct {
	net.Conn
	number int // from 1 on
}

func startFakeHub(t *testing.T, handle func(*connectionToHub)) *fakeHub {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &fakeHub{listener: listener}
	h.group.Go(func() {
		for number := 1; ; number++ {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			h.group.Go(func() {
				defer conn.Close()
				first, err := packets.ReadPacket(conn)
				if _, isConnect := first.(*packets.ConnectPacket); err != nil || !isConnect {
					return
				}
				packets.NewControlPacket(packets.Connack).Write(conn)
				handle(&connectionToHub{conn, number})
			})
		}
	})
	t.Cleanup(func() {
		listener.Close()
		h.group.Wait()
	})
	return h
}

// next returns the next publish, answering what else there is, or nil at the
// end of the connection.
func (c *connectionToHub) next() *packets.PublishPacket {
	for {
		packet, err := packets.ReadPacket(c)
		if err != nil {
			return nil
		}
		switch p := packet.(type) {
		case *packets.PublishPacket:
			return p
		case *packets.PingreqPacket:
			packets.NewControlPacket(packets.Pingresp).Write(c)
		case *packets.SubscribePacket:
			ack := packets.NewControlPacket(packets.Suback).(*packets.SubackPacket)
			ack.MessageID = p.MessageID
			ack.ReturnCodes = make([]byte, len(p.Topics))
			ack.Write(c)
		}
	}
}

func (c *connectionToHub) puback(id uint16) {
	ack := packets.NewControlPacket(packets.Puback).(*packets.PubackPacket)
	ack.MessageID = id
	ack.Write(c)
}

// config is that of an azure device at the fake hub.
func (h *fakeHub) config(t *testing.T) Config {
	config := quick()
	config.Dialect = DialectAzure
	config.Address = "tcp://" + h.listener.Addr().String()
	config.ConnectionStringFile = filepath.Join(t.TempDir(), "connection-string")
	writeFile(t, config.ConnectionStringFile, "HostName=localhost;DeviceId=pi;SharedAccessKey=a2V5")
	return config
}

func messageID(p *packets.PublishPacket) string {
	_, rest, _ := strings.Cut(p.TopicName, "$.mid=")
	id, _, _ := strings.Cut(rest, "&")
	return id
}

func TestNothingIsDeletedWithoutItsPUBACK(t *testing.T) {
	var mu sync.Mutex
	received := map[int][]string{}
	release := map[int]chan struct{}{1: make(chan struct{}), 2: make(chan struct{})}
	h := startFakeHub(t, func(c *connectionToHub) {
		for n := 1; ; n++ {
			p := c.next()
			if p == nil {
				return
			}
			if p.Dup {
				t.Error("the client sent by itself what only the outbox may send")
			}
			if c.number == 2 { // acknowledges what it was not sent
				c.puback(p.MessageID + 1000)
			}
			if c.number > 2 {
				c.puback(p.MessageID)
			}
			mu.Lock()
			received[c.number] = append(received[c.number], messageID(p))
			mu.Unlock()
			if c.number == 1 && n == 10 || c.number == 2 { // and closes
				<-release[c.number]
				return
			}
		}
	})
	o := openOutbox(t)
	var all []string
	for i := range 10 {
		all = append(all, numbered(i))
		put(t, o, 5, numbered(i))
	}
	c, _ := run(t, h.config(t), o, nil)
	seen := func(connection int) []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(received[connection])
	}
	eventually(t, "the first connection got all", func() bool { return slices.Equal(seen(1), all) })
	if got := waiting(t, o); !slices.Equal(got, all) {
		t.Errorf("sent, not acknowledged: %v are left", got)
	}
	close(release[1])
	// The second connection is careful: it sends the first one alone.
	eventually(t, "the second connection got the first one", func() bool { return slices.Equal(seen(2), all[:1]) })
	if got := waiting(t, o); !slices.Equal(got, all) {
		t.Errorf("after a lost connection: %v are left", got)
	}
	if s := c.State(); s.Acked != 0 || s.Sent != 11 || s.Resent != 1 {
		t.Errorf("%+v", s)
	}
	close(release[2])
	eventually(t, "the outbox is empty", func() bool { return o.Stats().Depth == 0 })
	if got := seen(3); !slices.Equal(got, all) {
		t.Errorf("third connection: %v", got)
	}
}

func TestHalfAcknowledgedIsHalfDeletedAndTheRestSentAgainInOrder(t *testing.T) {
	var mu sync.Mutex
	received := map[int][]string{}
	h := startFakeHub(t, func(c *connectionToHub) {
		var held []uint16
		for n := 0; ; n++ {
			p := c.next()
			if p == nil {
				return
			}
			mu.Lock()
			received[c.number] = append(received[c.number], messageID(p))
			mu.Unlock()
			if c.number > 1 {
				c.puback(p.MessageID)
				continue
			}
			held = append(held, p.MessageID)
			if n == 19 {
				// Odd ones, the last first; and then the end at once.
				for i := len(held) - 1; i >= 0; i-- {
					if i%2 == 1 {
						c.puback(held[i])
					}
				}
				return
			}
		}
	})
	o := openOutbox(t)
	var even []string
	for i := range 20 {
		put(t, o, 5, numbered(i))
		if i%2 == 0 {
			even = append(even, numbered(i))
		}
	}
	c, _ := run(t, h.config(t), o, nil)
	eventually(t, "the outbox is empty", func() bool { return o.Stats().Depth == 0 })
	mu.Lock()
	defer mu.Unlock()
	if got := received[2]; !slices.Equal(got, even) {
		t.Errorf("sent again: %v, want %v", got, even)
	}
	if s := c.State(); s.Sent != 30 || s.Acked != 20 || s.Resent != 10 {
		t.Errorf("%+v", s)
	}
}

func TestAHubThatNeverAcknowledgesIsLeft(t *testing.T) {
	h := startFakeHub(t, func(c *connectionToHub) {
		for p := c.next(); p != nil; p = c.next() {
			if c.number > 2 {
				c.puback(p.MessageID)
			}
		}
	})
	config := h.config(t)
	config.AckTimeout = 100 * time.Millisecond
	o := openOutbox(t)
	put(t, o, 5, "a", "b")
	c, _ := run(t, config, o, nil)
	eventually(t, "the outbox is empty", func() bool { return o.Stats().Depth == 0 })
	if s := c.State(); s.Connections != 3 || s.SetAside != 0 {
		t.Errorf("%+v", s)
	}
}

func TestScannerFindsPUBACKsHoweverTheStreamIsCut(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var stream bytes.Buffer
		var want []uint16
		for range rapid.IntRange(0, 20).Draw(t, "packets") {
			switch rapid.IntRange(0, 4).Draw(t, "kind") {
			case 0, 1:
				id := rapid.Uint16().Draw(t, "id")
				p := packets.NewControlPacket(packets.Puback).(*packets.PubackPacket)
				p.MessageID = id
				p.Write(&stream)
				want = append(want, id)
			case 2:
				packets.NewControlPacket(packets.Pingresp).Write(&stream)
			case 3:
				p := packets.NewControlPacket(packets.Publish).(*packets.PublishPacket)
				p.TopicName, p.Qos, p.MessageID = "a/b", 1, 7
				// A payload that looks like PUBACKs, of a length that takes one to
				// three bytes to write.
				p.Payload = bytes.Repeat([]byte{0x40, 2, 0, 1}, rapid.SampledFrom([]int{0, 3, 100, 5000}).Draw(t, "size"))
				p.Write(&stream)
			case 4:
				p := packets.NewControlPacket(packets.Suback).(*packets.SubackPacket)
				p.MessageID, p.ReturnCodes = 3, []byte{0, 1}
				p.Write(&stream)
			}
		}
		var got []uint16
		var s scanner
		data := stream.Bytes()
		for len(data) > 0 {
			n := min(rapid.IntRange(1, 3000).Draw(t, "chunk"), len(data))
			s.feed(data[:n], func(id uint16) { got = append(got, id) })
			data = data[n:]
		}
		if !slices.Equal(got, want) {
			t.Fatalf("got %v, want %v", got, want)
		}
	})
}

func FuzzScanner(f *testing.F) {
	f.Add([]byte{0x40, 2, 0, 1})
	f.Add([]byte{0x30, 0xff, 0xff, 0xff, 0xff, 0x7f, 1})
	f.Fuzz(func(t *testing.T, data []byte) {
		var whole, bytewise []uint16
		var a, b scanner
		a.feed(data, func(id uint16) { whole = append(whole, id) })
		for i := range data {
			b.feed(data[i:i+1], func(id uint16) { bytewise = append(bytewise, id) })
		}
		if !slices.Equal(whole, bytewise) {
			t.Errorf("whole %v, byte by byte %v", whole, bytewise)
		}
		for i := range whole {
			if !bytes.Contains(data, binary.BigEndian.AppendUint16(nil, whole[i])) {
				t.Errorf("%d is not in the stream", whole[i])
			}
		}
	})
}

func TestTheWireNeverBlocksAndSendsWhatIsLeftAtClose(t *testing.T) {
	near, far := net.Pipe() // without any buffer: a write waits for a read
	w := newWire(near, func(uint16) {})
	for range 100 {
		if n, err := w.Write([]byte("0123456789")); n != 10 || err != nil {
			t.Fatal(n, err)
		}
	}
	var got bytes.Buffer
	read := make(chan error)
	go func() {
		_, err := got.ReadFrom(far)
		read <- err
	}()
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	if err := <-read; err != nil || got.Len() != 1000 {
		t.Errorf("%d bytes arrived, %v", got.Len(), err)
	}
	if _, err := w.Write([]byte("x")); err == nil {
		t.Error("writing after closing worked")
	}
}

func TestTheWireClosesEvenIfTheOtherEndDoesNotRead(t *testing.T) {
	near, far := net.Pipe()
	defer far.Close()
	w := newWire(near, func(uint16) {})
	w.Write([]byte("x"))
	start := time.Now()
	w.Close()
	if took := time.Since(start); took > 5*closeTimeout {
		t.Errorf("closing took %v", took)
	}
}

// halfBroken is a network connection whose writes fail first: the other end
// reset it, and the reader has not been told yet.
type halfBroken struct{ net.Conn }

var errReset = errors.New("connection reset by peer")

func (halfBroken) Write([]byte) (int, error) { return 0, errReset }

// A real connection, so that closing it ends a Read with what the client takes
// for its own doing.
func TestAWriteThatFailsEndsReadingWithItsCause(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	near, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	far, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	w := newWire(halfBroken{near}, func(uint16) {})
	read := make(chan error)
	go func() {
		_, err := w.Read(make([]byte, 1))
		read <- err
	}()
	if _, err := w.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if err := <-read; !errors.Is(err, errReset) || errors.Is(err, net.ErrClosed) {
		t.Errorf("reading ended with %v", err)
	}
}
