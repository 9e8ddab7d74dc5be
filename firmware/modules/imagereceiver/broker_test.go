package imagereceiver

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	wire "github.com/eclipse/paho.mqtt.golang/packets"
	"github.com/mochi-mqtt/server/v2/packets"

	"tuxwatch/firmware/edge"
	"tuxwatch/firmware/message"
)

const patience = 20 * time.Second

// dial connects a client as cameras in Go do.
func dial(t *testing.T, r *receiver, change func(*paho.ClientOptions)) paho.Client {
	t.Helper()
	o := paho.NewClientOptions().AddBroker("tcp://" + r.address()).SetClientID("door").SetAutoReconnect(false)
	if change != nil {
		change(o)
	}
	c := paho.NewClient(o)
	if err := done(c.Connect()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Disconnect(0) })
	return c
}

func done(token paho.Token) error {
	if !token.WaitTimeout(patience) {
		return errors.New("no answer")
	}
	return token.Error()
}

func TestPublish(t *testing.T) {
	for qos := range byte(3) {
		for _, retained := range []bool{false, true} {
			t.Run(fmt.Sprintf("QoS %d, retained %v", qos, retained), func(t *testing.T) {
				r := start(t, quick(), nil)
				c := dial(t, r, nil)
				for _, payload := range [][]byte{other(t), base64Of(penguin(t)), base64Of(other(t)), penguin(t)} {
					if err := done(c.Publish("cameras/door", qos, retained, payload)); err != nil {
						t.Fatal(err)
					}
				}
				for range 2 {
					if p := r.alert(t); p.Camera != "door" || p.Topic != "cameras/door" {
						t.Errorf("%+v", p)
					}
				}
				r.counter(t, "pictures_classified", 4)
				r.None(Output)
			})
		}
	}
}

// Debian's client, as a camera's shell script calls it.
func TestMosquittoPub(t *testing.T) {
	program, err := exec.LookPath("mosquitto_pub")
	if err != nil {
		t.Fatal("mosquitto_pub is missing; apt-get install mosquitto-clients (make test does that)")
	}
	dir := t.TempDir()
	files := map[string][]byte{"penguin.b64": base64Of(penguin(t)), "penguin.jpg": penguin(t), "other.b64": base64Of(other(t)), "noise": []byte("noise?")}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	password := filepath.Join(dir, "password")
	if err := os.WriteFile(password, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := start(t, quick(), func(s *Settings) { s.User, s.PasswordFile = "camera", password })
	host, port, _ := net.SplitHostPort(r.address())
	publish := func(args ...string) error {
		args = append([]string{"-h", host, "-p", port}, args...)
		out, err := exec.Command(program, args...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	}
	alerts := 0
	for _, version := range []string{"mqttv311", "mqttv5"} {
		for _, qos := range []string{"0", "1", "2"} {
			for _, retain := range []bool{false, true} {
				for _, file := range []string{"penguin.b64", "other.b64", "penguin.jpg", "noise"} {
					args := []string{"-V", version, "-u", "camera", "-P", "secret", "-t", "a/" + file, "-q", qos, "-f", filepath.Join(dir, file)}
					if retain {
						args = append(args, "-r")
					}
					if err := publish(args...); err != nil {
						t.Fatalf("%v: %v", args, err)
					}
					if strings.HasPrefix(file, "penguin") {
						alerts++
						if p := r.alert(t); p.Topic != "a/"+file {
							t.Errorf("%+v", p)
						}
					}
				}
			}
		}
	}
	r.counter(t, "bad_pictures_not_picture", 12)
	r.counter(t, "pictures_classified", int64(alerts)+12)
	r.None(Output)
	if err := publish("-u", "camera", "-P", "guess", "-t", "a", "-m", "x", "-q", "1"); err == nil {
		t.Error("a wrong password was taken")
	}
	if err := publish("-t", "a", "-m", "x", "-q", "1"); err == nil {
		t.Error("nobody was taken for the camera")
	}
	r.counter(t, "logins_refused", 2)
	if s := r.Status(); s.Restarts != 0 || !s.Healthy {
		t.Errorf("%+v", s)
	}
}

// The acknowledgement comes after the alert is stored, not before.
func TestAcknowledgedWhenStored(t *testing.T) {
	for qos := byte(1); qos <= 2; qos++ {
		t.Run(fmt.Sprintf("QoS %d", qos), func(t *testing.T) {
			r := start(t, quick(), nil)
			entered, leave := make(chan bool), make(chan bool)
			r.Refuse(func(string, message.Message) error {
				entered <- true
				<-leave
				return nil
			})
			token := dial(t, r, nil).Publish("t", qos, false, penguin(t))
			<-entered
			select {
			case <-token.Done():
				t.Error("acknowledged before the alert was stored")
			case <-time.After(50 * time.Millisecond):
			}
			leave <- true
			if err := done(token); err != nil {
				t.Error(err)
			}
			r.alert(t)
		})
	}
}

// speaker speaks MQTT 3.1.1 packet by packet.
type speaker struct {
	t    *testing.T
	conn net.Conn
}

func speak(t *testing.T, r *receiver, id string, clean bool) (s *speaker, present bool) {
	t.Helper()
	conn, err := net.Dial("tcp", r.address())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(patience))
	s = &speaker{t, conn}
	p := wire.NewControlPacket(wire.Connect).(*wire.ConnectPacket)
	p.ProtocolName, p.ProtocolVersion = "MQTT", 4
	p.ClientIdentifier, p.CleanSession, p.Keepalive = id, clean, 60
	s.write(p)
	ack := s.read().(*wire.ConnackPacket)
	if ack.ReturnCode != 0 {
		t.Fatalf("refused: %d", ack.ReturnCode)
	}
	return s, ack.SessionPresent
}

func (s *speaker) write(p wire.ControlPacket) {
	s.t.Helper()
	if err := p.Write(s.conn); err != nil {
		s.t.Fatal(err)
	}
}

func (s *speaker) read() wire.ControlPacket {
	s.t.Helper()
	p, err := wire.ReadPacket(s.conn)
	if err != nil {
		s.t.Fatal(err)
	}
	return p
}

func (s *speaker) publish(id uint16, qos byte, dup bool, payload []byte) {
	s.t.Helper()
	p := wire.NewControlPacket(wire.Publish).(*wire.PublishPacket)
	p.TopicName, p.MessageID, p.Qos, p.Dup, p.Payload = "t", id, qos, dup, payload
	s.write(p)
}

// pubrec reads until the PUBREC of a publish; the broker may repeat those of a
// continued session.
func (s *speaker) pubrec(id uint16) {
	s.t.Helper()
	if p, ok := s.read().(*wire.PubrecPacket); !ok || p.MessageID != id {
		s.t.Fatalf("%v instead of PUBREC %d", p, id)
	}
}

func (s *speaker) release(id uint16) {
	s.t.Helper()
	p := wire.NewControlPacket(wire.Pubrel).(*wire.PubrelPacket)
	p.MessageID = id
	s.write(p)
	for {
		switch p := s.read().(type) {
		case *wire.PubcompPacket:
			if p.MessageID == id {
				return
			}
		case *wire.PubrecPacket: // repeated
		default:
			s.t.Fatalf("%v instead of PUBCOMP %d", p, id)
		}
	}
}

// A QoS 2 publish that is delivered again gives one alert, wherever the
// connection was lost.
func TestQoS2IsExactlyOnce(t *testing.T) {
	for _, clean := range []bool{false, true} {
		t.Run(fmt.Sprintf("after the PUBREC, clean session %v", clean), func(t *testing.T) {
			r := start(t, quick(), nil)
			s, _ := speak(t, r, "door", clean)
			s.publish(7, 2, false, penguin(t))
			s.pubrec(7)
			r.alert(t)
			s.conn.Close()
			s, present := speak(t, r, "door", clean)
			if present == clean {
				t.Errorf("session present: %v", present)
			}
			s.publish(7, 2, true, penguin(t))
			s.pubrec(7)
			s.release(7)
			// The identifier is free for the next picture.
			s.publish(7, 2, false, penguin(t))
			s.pubrec(7)
			s.release(7)
			r.alert(t)
			r.counter(t, "pictures_classified", 2)
			r.None(Output)
		})
		t.Run(fmt.Sprintf("while it is looked at, clean session %v", clean), func(t *testing.T) {
			r := start(t, quick(), nil)
			entered, leave := make(chan bool), make(chan bool)
			r.colours.hook(func(int) error {
				entered <- true
				<-leave
				return nil
			})
			s, _ := speak(t, r, "door", clean)
			s.publish(7, 2, false, penguin(t))
			<-entered
			// The camera gives up and connects anew, taking over.
			again, _ := speak(t, r, "door", clean)
			again.publish(7, 2, true, penguin(t))
			leave <- true
			again.pubrec(7)
			again.release(7)
			r.alert(t)
			r.counter(t, "pictures_repeated", 1)
			r.counter(t, "pictures_classified", 1)
			r.None(Output)
		})
	}
}

func TestQoS1TakenOverWhileLookedAt(t *testing.T) {
	r := start(t, quick(), nil)
	entered, leave := make(chan bool), make(chan bool)
	r.colours.hook(func(int) error {
		entered <- true
		<-leave
		return nil
	})
	s, _ := speak(t, r, "door", false)
	s.publish(3, 1, false, penguin(t))
	<-entered
	again, _ := speak(t, r, "door", false)
	again.publish(3, 1, true, penguin(t))
	leave <- true
	if p, ok := again.read().(*wire.PubackPacket); !ok || p.MessageID != 3 {
		t.Errorf("%v instead of PUBACK 3", p)
	}
	r.alert(t)
	r.None(Output)
	// Another picture under the same identifier is another picture, whatever
	// its flag says.
	go func() { <-entered; leave <- true }()
	again.publish(3, 1, true, shade(t, 240))
	again.read()
	r.alert(t)
}

// When an alert cannot be stored the camera keeps the picture and delivers it
// again.
func TestNotAcknowledgedWhenNotStored(t *testing.T) {
	for qos := byte(1); qos <= 2; qos++ {
		t.Run(fmt.Sprintf("QoS %d", qos), func(t *testing.T) {
			r := start(t, quick(), func(s *Settings) { s.BusyTimeout = 5 * time.Millisecond })
			r.Refuse(func(string, message.Message) error { return errors.New("disk full") })
			s, _ := speak(t, r, "door", false)
			s.publish(1, qos, false, penguin(t))
			if p, err := wire.ReadPacket(s.conn); err == nil {
				t.Fatalf("answered with %v", p)
			}
			r.Refuse(nil)
			s, _ = speak(t, r, "door", false)
			s.publish(1, qos, true, penguin(t))
			s.read()
			r.alert(t)
			r.None(Output)
		})
	}
}

// An MQTT 5 client is told again that a QoS 2 publish was received, not that its
// identifier is in use.
func TestQoS2AgainInMQTT5(t *testing.T) {
	r := start(t, quick(), nil)
	connect := func() net.Conn {
		conn, err := net.Dial("tcp", r.address())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		conn.SetDeadline(time.Now().Add(patience))
		p := packets.Packet{ProtocolVersion: 5, FixedHeader: packets.FixedHeader{Type: packets.Connect},
			Connect:    packets.ConnectParams{ProtocolName: []byte("MQTT"), ClientIdentifier: "door", Keepalive: 0},
			Properties: packets.Properties{SessionExpiryInterval: 60, SessionExpiryIntervalFlag: true}}
		write(t, conn, &p, (*packets.Packet).ConnectEncode)
		header, _ := receive(t, conn)
		if header.Type != packets.Connack {
			t.Fatalf("%v instead of CONNACK", header)
		}
		return conn
	}
	publish := func(conn net.Conn, dup bool) {
		p := packets.Packet{ProtocolVersion: 5, FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: 2, Dup: dup},
			TopicName: "t", PacketID: 9, Payload: penguin(t)}
		write(t, conn, &p, (*packets.Packet).PublishEncode)
	}
	pubrec := func(conn net.Conn) {
		t.Helper()
		header, body := receive(t, conn)
		p := packets.Packet{ProtocolVersion: 5, FixedHeader: header}
		if header.Type != packets.Pubrec {
			t.Fatalf("%v instead of PUBREC", header)
		}
		if err := p.PubrecDecode(body); err != nil || p.PacketID != 9 || p.ReasonCode != 0 {
			t.Errorf("PUBREC %d with reason %#x, %v", p.PacketID, p.ReasonCode, err)
		}
	}
	conn := connect()
	publish(conn, false)
	pubrec(conn)
	conn.Close()
	conn = connect()
	pubrec(conn) // of the continued session
	publish(conn, true)
	pubrec(conn)
	r.alert(t)
	r.None(Output)
}

func write(t *testing.T, conn net.Conn, p *packets.Packet, encode func(*packets.Packet, *bytes.Buffer) error) {
	t.Helper()
	var b bytes.Buffer
	if err := encode(p, &b); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write(b.Bytes()); err != nil {
		t.Fatal(err)
	}
}

// receive reads one packet.
func receive(t *testing.T, conn net.Conn) (header packets.FixedHeader, body []byte) {
	t.Helper()
	var b [1]byte
	read := func() byte {
		if _, err := io.ReadFull(conn, b[:]); err != nil {
			t.Fatal(err)
		}
		return b[0]
	}
	if err := header.Decode(read()); err != nil {
		t.Fatal(err)
	}
	for shift := 0; ; shift += 7 {
		c := read()
		header.Remaining |= int(c&0x7f) << shift
		if c < 0x80 {
			break
		}
	}
	body = make([]byte, header.Remaining)
	if _, err := io.ReadFull(conn, body); err != nil {
		t.Fatal(err)
	}
	return header, body
}

// A retained picture is looked at when it is published, not again when its
// camera, or anyone, connects later; and nobody gets pictures from here.
func TestRetainedPicturesAreNotKept(t *testing.T) {
	r := start(t, quick(), nil)
	c := dial(t, r, nil)
	if err := done(c.Publish("t", 1, true, penguin(t))); err != nil {
		t.Fatal(err)
	}
	r.alert(t)
	received := make(chan string, 10)
	watcher := dial(t, r, func(o *paho.ClientOptions) { o.SetClientID("watcher") })
	token := watcher.Subscribe("#", 1, func(_ paho.Client, m paho.Message) { received <- m.Topic() })
	if err := done(token); err == nil && token.(*paho.SubscribeToken).Result()["#"] != 0x80 {
		t.Error("a subscription was taken")
	}
	if err := done(c.Publish("t", 1, true, penguin(t))); err != nil {
		t.Fatal(err)
	}
	r.alert(t)
	// Deleting the retained message is no picture.
	if err := done(c.Publish("t", 1, true, []byte{})); err != nil {
		t.Fatal(err)
	}
	r.counter(t, "pictures_received", 2)
	select {
	case topic := <-received:
		t.Errorf("a subscriber got %s", topic)
	default:
	}
}

func TestTwoCamerasAtOnce(t *testing.T) {
	r := start(t, quick(), nil)
	const each = 20
	tokens := make(chan paho.Token, 2*each)
	for _, name := range []string{"door", "yard"} {
		c := dial(t, r, func(o *paho.ClientOptions) { o.SetClientID(name) })
		go func() {
			for n := range each {
				tokens <- c.Publish(name, byte(n%3), false, base64Of(penguin(t)))
			}
		}()
	}
	for range 2 * each {
		if err := done(<-tokens); err != nil {
			t.Fatal(err)
		}
	}
	seen := make(map[string]int)
	for range 2 * each {
		p := r.alert(t)
		if p.Camera != p.Topic {
			t.Errorf("%+v", p)
		}
		seen[p.Camera]++
	}
	if seen["door"] != each || seen["yard"] != each {
		t.Errorf("%v", seen)
	}
	r.None(Output)
}

// A camera whose picture waits does not hold up another's.
func TestBusyCameraDoesNotHoldUpAnother(t *testing.T) {
	r := start(t, quick(), nil)
	entered, leave := make(chan bool), make(chan bool)
	r.colours.hook(func(n int) error {
		if n == 1 {
			entered <- true
			<-leave
		}
		return nil
	})
	slow := dial(t, r, nil).Publish("t", 1, false, penguin(t))
	<-entered
	quick := dial(t, r, func(o *paho.ClientOptions) { o.SetClientID("yard") })
	if err := done(quick.Publish("t", 1, false, penguin(t))); err != nil {
		t.Error(err)
	}
	if p := r.alert(t); p.Camera != "yard" {
		t.Errorf("%+v", p)
	}
	leave <- true
	if err := done(slow); err != nil {
		t.Error(err)
	}
}

func TestTakeOverAndReconnect(t *testing.T) {
	r := start(t, quick(), nil)
	lost := make(chan error, 1)
	dial(t, r, func(o *paho.ClientOptions) {
		o.SetConnectionLostHandler(func(_ paho.Client, err error) { lost <- err })
	})
	second := dial(t, r, nil)
	select {
	case <-lost:
	case <-time.After(patience):
		t.Fatal("the first connection was not closed")
	}
	for range 3 {
		if err := done(second.Publish("t", 2, false, penguin(t))); err != nil {
			t.Fatal(err)
		}
		r.alert(t)
		second.Disconnect(0)
		second = dial(t, r, nil)
	}
}

func TestBadPayloadsAreAcknowledgedAndCounted(t *testing.T) {
	r := start(t, quick(), func(s *Settings) { s.MaxPictureBytes = 4096 })
	c := dial(t, r, nil)
	large := append(penguin(t), make([]byte, 5000)...)
	for qos := range byte(3) {
		for _, payload := range [][]byte{{}, []byte("hello, world"), []byte("QQ==QQ=="), large, base64Of(large), penguin(t)[:50]} {
			if err := done(c.Publish("t", qos, false, payload)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := done(c.Publish("t", 1, false, penguin(t))); err != nil {
		t.Fatal(err)
	}
	r.alert(t)
	for name, want := range map[string]int64{"": 18, "_empty": 3, "_not_picture": 6, "_not_base64": 3, "_too_large": 6} {
		r.counter(t, "bad_pictures"+name, want)
	}
	if s := r.Status(); s.Restarts != 0 || !s.Healthy {
		t.Errorf("%+v", s)
	}
}

func TestPacketBeyondAllLimits(t *testing.T) {
	r := start(t, quick(), func(s *Settings) { s.MaxPictureBytes = 4096 })
	c := dial(t, r, nil)
	c.Publish("t", 1, false, make([]byte, 2*4096+overhead+1))
	r.counter(t, "bad_pictures_too_large", 1)
	// Nothing is read of a packet that only claims to be large.
	s, _ := speak(t, r, "liar", true)
	s.conn.Write([]byte{0x32, 0xff, 0xff, 0xff, 0x7f})
	if _, err := s.conn.Read(make([]byte, 1)); err == nil {
		t.Error("the connection is still open")
	}
	r.counter(t, "bad_pictures_too_large", 2)
}

func TestMalformedPackets(t *testing.T) {
	r := start(t, quick(), nil)
	for name, raw := range map[string][]byte{
		"not MQTT":             []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
		"a publish first":      {0x30, 3, 0, 1, 't'},
		"a length without end": {0x10, 0xff, 0xff, 0xff, 0xff, 0xff},
		"a short connect":      {0x10, 2, 0, 4},
	} {
		conn, err := net.Dial("tcp", r.address())
		if err != nil {
			t.Fatal(err)
		}
		conn.SetDeadline(time.Now().Add(patience))
		conn.Write(raw)
		if _, err := io.ReadAll(conn); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: the connection stays open", name)
		}
		conn.Close()
	}
	s, _ := speak(t, r, "door", true)
	s.conn.Write([]byte{0x36, 3, 0, 1, 't'}) // a publish of QoS 3
	if _, err := s.conn.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("QoS 3: %v", err)
	}
	if err := done(dial(t, r, nil).Publish("t", 1, false, penguin(t))); err != nil {
		t.Error(err)
	}
}

func TestConnectionsAreLimited(t *testing.T) {
	r := start(t, quick(), func(s *Settings) { s.MaxConnections = 2 })
	for n := range 2 {
		dial(t, r, func(o *paho.ClientOptions) { o.SetClientID(fmt.Sprint(n)) })
	}
	o := paho.NewClientOptions().AddBroker("tcp://" + r.address()).SetClientID("third").SetAutoReconnect(false)
	if err := done(paho.NewClient(o).Connect()); err == nil {
		t.Error("a third camera was let in")
	}
	// One of the two that connects again takes its own place.
	c := dial(t, r, func(o *paho.ClientOptions) { o.SetClientID("1") })
	if err := done(c.Publish("t", 1, false, penguin(t))); err != nil {
		t.Error(err)
	}
	// Connections that say nothing are limited as well.
	for range spare + 5 {
		conn, err := net.Dial("tcp", r.address())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	r.Eventually(func(s edge.ModuleStatus) bool { return s.Counters["connections_refused"] >= 3 })
}

func TestSilentConnectionsEnd(t *testing.T) {
	env := quick()
	env.connectTimeout = 20 * time.Millisecond
	r := start(t, env, nil)
	conn, err := net.Dial("tcp", r.address())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	if _, err := conn.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("a connection that says nothing: %v", err)
	}
}

func TestSlowPacketsEnd(t *testing.T) {
	env := quick()
	env.packetTimeout = 300 * time.Millisecond
	r := start(t, env, nil)
	s, _ := speak(t, r, "door", true) // its keep-alive is a minute
	s.conn.Write([]byte{0x30, 100, 0, 1})
	began := time.Now()
	if _, err := s.conn.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a packet that does not go on: %v", err)
	}
	if waited := time.Since(began); waited < 100*time.Millisecond {
		t.Errorf("the connection was closed after %v", waited)
	}
}

func TestKeepAliveIsEnforced(t *testing.T) {
	r := start(t, quick(), nil)
	conn, err := net.Dial("tcp", r.address())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	p := wire.NewControlPacket(wire.Connect).(*wire.ConnectPacket)
	p.ProtocolName, p.ProtocolVersion, p.ClientIdentifier, p.CleanSession, p.Keepalive = "MQTT", 4, "door", true, 1
	if err := p.Write(conn); err != nil {
		t.Fatal(err)
	}
	if _, err := wire.ReadPacket(conn); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("after its keep-alive: %v", err)
	}
}

// The picture waits longer than the keep-alive; the acknowledgement still
// arrives.
func TestAcknowledgedAfterTheKeepAlive(t *testing.T) {
	c := &connection{packetTimeout: time.Hour, writeTimeout: patience}
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	c.Conn = a
	c.SetDeadline(time.Now().Add(-time.Second))
	go c.Write([]byte("ack"))
	b.SetDeadline(time.Now().Add(patience))
	if _, err := io.ReadFull(b, make([]byte, 3)); err != nil {
		t.Error(err)
	}
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("reading after the deadline: %v", err)
	}
	c.writeTimeout = time.Millisecond
	if _, err := c.Write([]byte("nobody takes this")); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("writing to one who does not read: %v", err)
	}
}

func TestRateIsLimited(t *testing.T) {
	r := start(t, quick(), func(s *Settings) { s.MaxPicturesPerSecond = 20 })
	c := dial(t, r, nil)
	began := time.Now()
	var last paho.Token
	for range 30 {
		last = c.Publish("t", 1, false, other(t))
	}
	if err := done(last); err != nil {
		t.Fatal(err)
	}
	// 20 at once, the others at 20 a second.
	if took := time.Since(began); took < 450*time.Millisecond {
		t.Errorf("30 pictures were taken in %v", took)
	}
	// Taking over its own connection gives a camera no fresh start.
	c = dial(t, r, nil)
	began = time.Now()
	for range 10 {
		last = c.Publish("t", 1, false, other(t))
	}
	if err := done(last); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took < 250*time.Millisecond {
		t.Errorf("10 more pictures were taken in %v", took)
	}
	r.Eventually(func(s edge.ModuleStatus) bool {
		return s.Counters["pictures_classified"] == 40 && s.Counters["pictures_delayed"] > 0
	})
}

// Everything ends at once with the module, also while a picture is waiting.
func TestStopWhileBusy(t *testing.T) {
	r := start(t, quick(), func(s *Settings) { s.BusyTimeout = time.Minute })
	r.colours.hook(func(int) error { return nil })
	c := dial(t, r, nil)
	blocked := make(chan bool, 1000)
	r.colours.hook(func(int) error {
		select {
		case blocked <- true:
		default:
		}
		return errBusy
	})
	token := c.Publish("t", 1, false, penguin(t))
	<-blocked
	began := time.Now()
	r.Stop()
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("stopping took %v", took)
	}
	select {
	case <-token.Done():
		if token.Error() == nil && c.IsConnectionOpen() {
			t.Error("a picture that was not decided about is acknowledged")
		}
	default:
	}
}
