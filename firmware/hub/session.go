package hub

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

const (
	// receiveQueue is how many publishes of one device may wait for the database.
	// When it is full the device is not read from, which is how TCP slows it down.
	receiveQueue = 256
	// sendQueue is how many packets may wait for one device to read them.
	sendQueue = 512
	// maxSubscriptions bounds what a device can make the hub remember.
	maxSubscriptions = 50
)

// session is a device that is signed in.
//
// Its publishes are worked off in order by one goroutine (work), which sends
// each PUBACK when what the publish asked for is on stable storage. Another
// (send) writes everything that goes to the device, so that a device that does
// not read holds up nobody else.
type session struct {
	hub    *Hub
	cl     *mqtt.Client
	device string
	key    string    // primary key with which it signed in, to notice that it was changed
	expiry time.Time // of its SAS token
	will   *mqtt.Will
	// persistent: the subscriptions outlive the connection (CONNECT without clean session).
	persistent, resumed bool
	started             bool

	ctx    context.Context // ends with the session; its cause is why the hub ended it
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup
	in     chan work
	out    chan outgoing

	// The publish that is being read. Only the goroutine that reads uses these.
	topic   publishTopic
	arrived Event

	mu            sync.Mutex
	subscriptions map[string]byte // filter to QoS
	packetID      uint16
	unacked       map[uint16]int64 // packet id to number in the table bound
	bound         map[int64]bool   // cloud-to-device messages that are under way
}

// work is one publish on its way through the session.
type work struct {
	packetID uint16 // to acknowledge; 0 with QoS 0
	event    *pendingEvent
	do       func() // what else the publish asks for; run in turn
	flushed  chan struct{}
}

func newSession(h *Hub, cl *mqtt.Client, device string, expiry time.Time) *session {
	s := &session{
		hub: h, cl: cl, device: device, expiry: expiry,
		in:            make(chan work, receiveQueue),
		out:           make(chan outgoing, sendQueue),
		subscriptions: map[string]byte{},
		unacked:       map[uint16]int64{},
		bound:         map[int64]bool{},
	}
	s.ctx, s.cancel = context.WithCancelCause(context.Background())
	return s
}

// load finds the session that the device left behind, or ends it when clean.
func (s *session) load(clean bool) error {
	s.persistent = !clean
	if clean {
		err := inTx(s.ctx, s.hub.write, func(tx *sql.Tx) error {
			var was bool
			if err := tx.QueryRow(`SELECT persistent FROM devices WHERE id = ?`, s.device).Scan(&was); err != nil || !was {
				return err
			}
			if _, err := tx.Exec(`DELETE FROM subscriptions WHERE device = ?`, s.device); err != nil {
				return err
			}
			_, err := tx.Exec(`UPDATE devices SET persistent = 0 WHERE id = ?`, s.device)
			return err
		})
		if err != nil {
			return fmt.Errorf("end the session of device %q: %w", s.device, err)
		}
		return nil
	}
	fail := func(err error) error { return fmt.Errorf("read the session of device %q: %w", s.device, err) }
	if err := s.hub.read.QueryRow(`SELECT persistent FROM devices WHERE id = ?`, s.device).Scan(&s.resumed); err != nil {
		return fail(err)
	}
	if !s.resumed {
		if err := s.hub.change("keep the session of", s.device, `UPDATE devices SET persistent = 1 WHERE id = ?`, s.device); err != nil {
			return err
		}
	}
	rows, err := s.hub.read.Query(`SELECT filter, qos FROM subscriptions WHERE device = ?`, s.device)
	if err != nil {
		return fail(err)
	}
	defer rows.Close()
	for rows.Next() {
		var filter string
		var qos byte
		if err := rows.Scan(&filter, &qos); err != nil {
			return fail(err)
		}
		s.subscriptions[filter] = qos
	}
	if err := rows.Err(); err != nil {
		return fail(err)
	}
	return nil
}

// start runs the session's goroutines; close waits for them.
func (s *session) start() {
	s.started = true
	s.wg.Go(func() {
		s.work()
		s.cancel(context.Canceled) // nothing more will be sent
	})
	s.wg.Go(s.send)
}

// stop ends the session from the hub's side.
func (s *session) stop(cause error) {
	s.cancel(cause)
	s.cl.Stop(cause)
}

// cause is why the hub ended the session, nil when it did not.
func (s *session) cause() error {
	if err := context.Cause(s.ctx); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// close comes from the goroutine that read from the connection, when that is
// over. What has been received is still worked off: a device that publishes and
// goes is heard.
func (s *session) close() {
	close(s.in)
	s.wg.Wait()
	s.cancel(context.Canceled)
}

// check is what a publish must keep to, whatever its topic's kind. What it
// reads is kept for received, which the broker calls next for the same packet.
func (s *session) check(pk packets.Packet) (err error) {
	if pk.FixedHeader.Qos > 1 {
		return errQoS2
	}
	if s.topic, err = parsePublishTopic(s.device, pk.TopicName); err != nil {
		return fmt.Errorf("publish: %w: %s", err, loggable(pk.TopicName))
	}
	if strings.ContainsAny(pk.TopicName, "+#") { // [MQTT-3.3.2-2]; the broker would stay silent
		return fmt.Errorf("publish: %w: it has a wildcard", errTopic)
	}
	if s.topic.kind != kindEvent {
		return nil
	}
	if s.arrived, err = s.event(s.topic.bag, pk.Payload, pk.FixedHeader.Retain); err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	if s.arrived.size() > MaxEventSize {
		return errTooLarge
	}
	return nil
}

// event makes the event of a publish to the device's events topic.
func (s *session) event(bag string, body []byte, retain bool) (Event, error) {
	system, properties, err := parseBag(bag)
	if err != nil {
		return Event{}, err
	}
	e := Event{
		Device: s.device, Time: s.hub.now().UTC().Truncate(time.Millisecond),
		Module: properties[PropertyModule], Output: properties[PropertyOutput],
		System: system, Properties: properties, Body: body,
	}
	delete(properties, PropertyModule)
	delete(properties, PropertyOutput)
	if retain {
		properties["mqtt-retain"] = "true" // as IoT Hub does, which keeps no retained messages either
	}
	return e, nil
}

// received puts a publish, which check has let through, in the session's queue.
func (s *session) received(pk packets.Packet) {
	t, w := s.topic, work{}
	if pk.FixedHeader.Qos > 0 {
		w.packetID = pk.PacketID
	}
	switch t.kind {
	case kindEvent:
		if intercept := s.hub.opts.Intercept; intercept != nil {
			if err := intercept(s.arrived); err != nil {
				// What came before it is finished first, so that a device that is
				// refused one message gets on with the others.
				s.flush()
				hangUp(s.cl.Net.Conn)
				s.stop(fmt.Errorf("event intercepted: %w", err))
				return
			}
		}
		w.event = &pendingEvent{event: s.arrived, done: make(chan struct{})}
		if !s.hub.committer.put(s.ctx, w.event) {
			return
		}
	case kindTwinGet:
		w.do = func() { s.twinGet(t.rid) }
	case kindTwinReported:
		w.do = func() { s.twinReported(t.rid, pk.Payload) }
	case kindMethodAnswer:
		w.do = func() { s.hub.methods.answer(s.device, t.rid, t.status, pk.Payload) }
	}
	select {
	case s.in <- w:
	case <-s.ctx.Done():
	}
}

// flush waits until what has been received so far is done and acknowledged.
func (s *session) flush() {
	done := make(chan struct{})
	select {
	case s.in <- work{flushed: done}:
	case <-s.ctx.Done():
		return
	}
	select {
	case <-done:
	case <-s.ctx.Done():
	}
}

// work finishes publishes in the order in which they came, so that their
// acknowledgements go out in that order, too [MQTT-4.6.0-2].
func (s *session) work() {
	for w := range s.in {
		s.finish(w)
	}
}

func (s *session) finish(w work) {
	switch {
	case w.flushed != nil:
		s.enqueue(outgoing{written: w.flushed})
		return
	case w.event != nil:
		<-w.event.done // the committer finishes what it was given
		if err := w.event.err; err != nil {
			s.stop(err) // no PUBACK: the device keeps it and sends it again
			return
		}
	case w.do != nil:
		w.do()
	}
	if w.packetID != 0 {
		s.enqueue(outgoing{packet: packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Puback}, PacketID: w.packetID}})
	}
}

// outgoing is a packet for the device, or, with written, a mark in the queue:
// what was enqueued before it has been written when written is closed.
type outgoing struct {
	packet  packets.Packet
	written chan<- struct{}
}

// enqueue has a packet sent in its turn, and waits for room in the queue. Only
// the session's own goroutines may wait like that.
func (s *session) enqueue(o outgoing) {
	select {
	case s.out <- o:
	case <-s.ctx.Done():
	}
}

// push has a packet sent that the device did not ask for. A device whose queue
// is full does not read: it is let go, rather than hold up others.
func (s *session) push(pk packets.Packet) bool {
	select {
	case s.out <- outgoing{packet: pk}:
		return true
	case <-s.ctx.Done():
	default:
		s.stop(errSlow)
	}
	return false
}

func (s *session) send() {
	for {
		select {
		case o := <-s.out:
			if o.written != nil {
				close(o.written)
				continue
			}
			if err := s.cl.WritePacket(o.packet); err != nil {
				s.stop(fmt.Errorf("send to device %q: %w", s.device, err))
				return
			}
		case <-s.ctx.Done():
			return
		}
	}
}

// publish is a packet of QoS 0, as all that the hub sends on $iothub topics.
func publish(topic string, payload []byte) packets.Packet {
	return packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Publish}, TopicName: topic, Payload: payload}
}

// respond answers a request of the device, if it listens for answers.
func (s *session) respond(topic string, payload []byte) {
	if _, ok := s.subscribed(topic); ok {
		s.enqueue(outgoing{packet: publish(topic, payload)})
	}
}

// subscribed tells whether, and with which QoS, the device is sent topic.
func (s *session) subscribed(topic string) (qos byte, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for filter, q := range s.subscriptions {
		if matches(filter, topic) {
			qos, ok = max(qos, q), true
		}
	}
	return qos, ok
}

// matches tells whether a topic fits a filter [MQTT-4.7].
func matches(filter, topic string) bool {
	for {
		f, restF, moreF := strings.Cut(filter, "/")
		if f == "#" {
			return true
		}
		t, restT, moreT := strings.Cut(topic, "/")
		if f != "+" && f != t {
			return false
		}
		if !moreF || !moreT {
			return moreF == moreT || restF == "#" // "a/#" fits "a", too
		}
		filter, topic = restF, restT
	}
}

func (s *session) subscribe(filter string, qos byte) error {
	s.mu.Lock()
	if _, have := s.subscriptions[filter]; !have && len(s.subscriptions) >= maxSubscriptions {
		s.mu.Unlock()
		return fmt.Errorf("more than %d subscriptions", maxSubscriptions)
	}
	s.subscriptions[filter] = qos
	s.mu.Unlock()
	if s.persistent {
		_, err := s.hub.write.ExecContext(s.ctx, `INSERT INTO subscriptions (device, filter, qos) VALUES (?, ?, ?)
			ON CONFLICT DO UPDATE SET qos = excluded.qos`, s.device, filter, qos)
		if err != nil {
			return fmt.Errorf("keep a subscription of device %q: %w", s.device, err)
		}
	}
	return s.deliver()
}

func (s *session) unsubscribe(filter string) error {
	s.mu.Lock()
	delete(s.subscriptions, filter)
	s.mu.Unlock()
	if !s.persistent {
		return nil
	}
	if _, err := s.hub.write.ExecContext(s.ctx, `DELETE FROM subscriptions WHERE device = ? AND filter = ?`, s.device, filter); err != nil {
		return fmt.Errorf("forget a subscription of device %q: %w", s.device, err)
	}
	return nil
}
