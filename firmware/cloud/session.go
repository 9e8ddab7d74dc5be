package cloud

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"sync"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"golang.org/x/sync/errgroup"

	"tuxwatch/firmware/outbox"
)

// login is how to connect once.
type login struct {
	hub, device string
	credential  string // what to check when it is refused, in words
	address     string // host:port
	tls         *tls.Config
	clientID    string
	user        string
	password    string
	clean       bool
	willTopic   string
	willPayload string
	expires     time.Time // of the credentials; zero for never
	renew       time.Time // when to connect anew; zero for never
}

// ending is how a connection went.
type ending struct {
	login     login
	connected bool
	planned   bool // ended by us, to go on at once
	lasted    time.Duration
	err       error
}

// flight is a record that was sent and not acknowledged.
type flight struct {
	record outbox.Record
	sent   time.Time
}

// session is one connection, from its own MQTT client to its end. Nothing in
// it outlives the connection except what it deletes from the outbox.
type session struct {
	connection *Connection
	client     mqtt.Client
	inbox      chan mqtt.Message
	lost       chan struct{} // closed when the client has ended
	lostErr    error

	// Packet identifiers as they are acknowledged, in order. The client reads
	// packets while a publish may still be under way, so they wait here.
	ackMu  sync.Mutex
	acks   []uint16
	acked  chan struct{} // capacity 1
	overMu sync.Mutex
	over   int // messages that the inbox could not take

	mu       sync.Mutex
	inFlight map[uint16]flight
	room     chan struct{}  // closed and replaced when inFlight shrinks
	held     *outbox.Record // see suspect
}

var (
	errRenew   = errors.New("the credentials of this connection end soon")
	errStopped = errors.New("stopping")
)

// connectOnce makes a connection and keeps it until it ends.
func (c *Connection) connectOnce(ctx context.Context) ending {
	c.update(func(s *State) { s.Status, s.NextAttempt = Connecting, time.Time{} })
	l, err := c.dialect.login(c.now())
	c.update(func(s *State) { s.Hub, s.Device = l.hub, l.device })
	if err != nil {
		return ending{login: l, err: err}
	}
	s := &session{
		connection: c,
		inbox:      make(chan mqtt.Message, 256),
		lost:       make(chan struct{}),
		acked:      make(chan struct{}, 1),
		inFlight:   map[uint16]flight{},
		room:       make(chan struct{}),
	}
	if err := s.connect(ctx, l); err != nil {
		return ending{login: l, err: err}
	}
	start := time.Now()
	c.update(func(st *State) {
		st.Status = Connected
		st.Error, st.Remedy = "", ""
		st.Connections++
		st.TokenExpires = l.expires
	})
	c.log.Info("Connected to the hub", "hub", l.hub, "device", l.device)
	err = s.serve(ctx, l)
	end := ending{login: l, connected: true, lasted: time.Since(start), err: err, planned: errors.Is(err, errRenew)}
	if end.planned {
		c.log.Info("Renewing the connection to the hub", "reason", err)
	}
	return end
}

// connect returns when the hub has accepted the connection.
func (s *session) connect(ctx context.Context, l login) error {
	c := s.connection
	ctx, cancel := context.WithTimeout(ctx, c.config.ConnectTimeout)
	defer cancel()
	stopWatching := func() bool { return true }
	options := mqtt.NewClientOptions().
		AddBroker("tcp://" + l.address). // only a name: open makes the connection
		SetProtocolVersion(4).
		SetClientID(l.clientID).
		SetUsername(l.user).
		SetPassword(l.password).
		SetCleanSession(l.clean).
		// One client per connection: no reconnecting, and nothing kept to be
		// sent again by itself. The outbox alone decides what is sent.
		SetAutoReconnect(false).
		SetConnectRetry(false).
		SetResumeSubs(false).
		SetStore(mqtt.NewMemoryStore()).
		SetKeepAlive(c.config.KeepAlive).
		SetPingTimeout(min(c.config.KeepAlive, 20*time.Second)).
		SetConnectTimeout(c.config.ConnectTimeout).
		SetWriteTimeout(time.Second). // the wire never makes it wait
		SetOrderMatters(true).
		SetDefaultPublishHandler(func(_ mqtt.Client, m mqtt.Message) { s.receive(m) }).
		SetConnectionLostHandler(func(_ mqtt.Client, err error) {
			s.lostErr = err
			close(s.lost)
		}).
		SetCustomOpenConnectionFn(func(*url.URL, mqtt.ClientOptions) (net.Conn, error) {
			conn, err := open(ctx, l)
			if err != nil {
				return nil, err
			}
			// Once the connection is open the client looks at its own timeout only.
			stopWatching = context.AfterFunc(ctx, func() { conn.Close() })
			return newWire(conn, s.acknowledge), nil
		})
	if l.willTopic != "" {
		options.SetWill(l.willTopic, l.willPayload, 1, true)
	}
	s.client = mqtt.NewClient(options)
	token := s.client.Connect().(*mqtt.ConnectToken)
	<-token.Done()
	stopWatching()
	if err := token.Error(); err != nil {
		if ctx.Err() != nil {
			err = fmt.Errorf("no answer within %v: %w", c.config.ConnectTimeout, err)
		}
		return connackError(token.ReturnCode(), err, l)
	}
	return nil
}

// open connects and does the TLS handshake.
func open(ctx context.Context, l login) (net.Conn, error) {
	conn, err := (&net.Dialer{KeepAlive: 30 * time.Second}).DialContext(ctx, "tcp", l.address)
	if err != nil || l.tls == nil {
		return conn, err
	}
	secured := tls.Client(conn, l.tls)
	if err := secured.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, fmt.Errorf("TLS: %w", err)
	}
	return secured, nil
}

// serve sends, receives and draws the conclusions at the end.
func (s *session) serve(ctx context.Context, l login) error {
	c := s.connection
	// What is sent must not stop in the middle of being counted when ctx ends.
	settle := context.WithoutCancel(ctx)
	c.suspect.begin(c.outbox.Stats().Depth)

	group, inner := errgroup.WithContext(ctx)
	group.Go(func() error { return s.watch(inner, l) })
	started := make(chan struct{})
	group.Go(func() error {
		return c.dialect.serve(inner, s, sync.OnceFunc(func() { close(started) }))
	})
	group.Go(func() error {
		select {
		case <-started:
		case <-inner.Done():
			return nil
		}
		return s.send(inner)
	})
	stopAcks := make(chan struct{})
	acksDone := make(chan struct{})
	go func() {
		defer close(acksDone)
		for {
			select {
			case <-s.acked:
				s.settle(settle)
			case <-stopAcks:
				return
			}
		}
	}()
	err := group.Wait()
	if ctx.Err() != nil {
		err = errStopped
	}
	if err == nil {
		err = fmt.Errorf("the connection to %s ended", l.hub)
	}
	graceful := errors.Is(err, errStopped) || errors.Is(err, errRenew)
	if graceful {
		// Whatever is acknowledged now need not be sent twice.
		wait := 500 * time.Millisecond
		if errors.Is(err, errRenew) {
			wait = min(c.config.AckTimeout, 10*time.Second)
		}
		s.awaitAcks(wait)
		if errors.Is(err, errStopped) {
			c.dialect.goodbye(s)
		}
	}
	end := time.Now()
	s.client.Disconnect(1000)
	close(stopAcks)
	<-acksDone
	s.settle(settle) // those that came in before the connection ended

	left := s.leftInFlight()
	c.update(func(st *State) { st.InFlight = 0 })
	for _, f := range left {
		c.resend[f.record.ID] = struct{}{}
	}
	if !graceful {
		c.ended(settle, left, end, err)
	} else {
		c.suspect.held = false
	}
	return err
}

// watch ends the session when the connection is lost, the hub is silent or the
// credentials end.
func (s *session) watch(ctx context.Context, l login) error {
	c := s.connection
	tick := time.NewTicker(min(time.Second, c.config.AckTimeout/4))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.lost:
			return fmt.Errorf("the connection to %s ended: %w", l.hub, s.lostErr)
		case <-tick.C:
			if !l.renew.IsZero() && !c.now().Before(l.renew) {
				return errRenew
			}
			if sent, waiting := s.oldestInFlight(); waiting && time.Since(sent) > c.config.AckTimeout {
				return fmt.Errorf("%w for %v", errNoAck, c.config.AckTimeout)
			}
		}
	}
}

// send publishes records as long as there is room in the window.
func (s *session) send(ctx context.Context) error {
	c := s.connection
	reader := c.outbox.NewReader()
	for {
		free, err := s.awaitRoom(ctx)
		if err != nil {
			return nil
		}
		// Few at a time, so that one of a higher priority does not wait behind
		// a whole window of others.
		records, err := reader.TryNext(ctx, min(free, 16))
		if err == nil && len(records) == 0 {
			if r, released := s.releaseHeld(); released {
				records = []outbox.Record{r}
			} else {
				records, err = reader.Next(ctx, min(free, 16))
			}
		}
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, outbox.ErrClosed):
			return err
		case err != nil:
			c.log.Warn("The outbox cannot be read; it is tried again", "error", err)
			select {
			case <-time.After(time.Second):
			case <-ctx.Done():
				return nil
			}
			continue
		}
		for _, r := range records {
			if err := s.sendOne(ctx, r); err != nil {
				return err
			}
			if ctx.Err() != nil {
				return nil
			}
		}
	}
}

func (s *session) sendOne(ctx context.Context, r outbox.Record) error {
	c := s.connection
	if s.holdBack(r) {
		return nil
	}
	topic, payload, err := c.dialect.encode(r)
	if err != nil {
		c.log.Error("A message cannot be sent to this hub; setting it aside", "message", r.Message.ID,
			"module", r.Message.Source.Module, "error", err)
		return s.setAside(context.WithoutCancel(ctx), r.ID, err.Error())
	}
	if err := c.limiter.Wait(ctx); err != nil {
		return nil // ctx ended
	}
	// The room that was there when the record was read may be gone in a careful
	// session.
	if _, err := s.awaitRoom(ctx); err != nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	// Under the lock, so that its acknowledgement finds the record: settle takes
	// the same lock.
	token := s.client.Publish(topic, 1, false, payload).(*mqtt.PublishToken)
	select {
	case <-token.Done():
		if err := token.Error(); err != nil {
			return fmt.Errorf("sending message %q: %w", r.Message.ID, err)
		}
	default:
	}
	s.inFlight[token.MessageID()] = flight{r, time.Now()}
	n := len(s.inFlight)
	_, again := c.resend[r.ID]
	delete(c.resend, r.ID)
	c.update(func(st *State) {
		st.Sent++
		st.InFlight = n
		if again {
			st.Resent++
		}
	})
	return nil
}

func (s *session) setAside(ctx context.Context, id outbox.ID, reason string) error {
	c := s.connection
	err := c.outbox.SetAside(ctx, id, reason)
	if errors.Is(err, outbox.ErrNotFound) {
		return nil // dropped meanwhile
	}
	if err == nil {
		c.update(func(st *State) { st.SetAside++ })
	}
	return err
}

// awaitRoom returns how many more messages may be sent now, at least one.
func (s *session) awaitRoom(ctx context.Context) (int, error) {
	for {
		s.mu.Lock()
		window := s.connection.config.Window
		if s.connection.suspect.careful > 0 {
			window = 1
		}
		free := window - len(s.inFlight)
		room := s.room
		s.mu.Unlock()
		if free > 0 {
			return free, nil
		}
		select {
		case <-room:
		case <-ctx.Done():
			return 0, cause(ctx)
		}
	}
}

// awaitAcks waits until nothing is in flight, at most d.
func (s *session) awaitAcks(d time.Duration) {
	timeout := time.NewTimer(d)
	defer timeout.Stop()
	for {
		s.mu.Lock()
		n, room := len(s.inFlight), s.room
		s.mu.Unlock()
		if n == 0 {
			return
		}
		select {
		case <-room:
		case <-s.lost:
			return
		case <-timeout.C:
			return
		}
	}
}

// acknowledge is called by the wire for every PUBACK.
func (s *session) acknowledge(id uint16) {
	s.ackMu.Lock()
	s.acks = append(s.acks, id)
	s.ackMu.Unlock()
	select {
	case s.acked <- struct{}{}:
	default:
	}
}

// settle deletes from the outbox what has been acknowledged.
func (s *session) settle(ctx context.Context) {
	c := s.connection
	s.ackMu.Lock()
	acks := s.acks
	s.acks = nil
	s.ackMu.Unlock()
	if len(acks) == 0 {
		return
	}
	var ids []outbox.ID
	guilty := outbox.ID(-1)
	reason := ""
	s.mu.Lock()
	for _, packet := range acks {
		f, found := s.inFlight[packet]
		if !found {
			continue // of a twin's or a status' publish
		}
		delete(s.inFlight, packet)
		ids = append(ids, f.record.ID)
		if c.suspect.acknowledged(f.record.ID) {
			guilty, reason = c.suspect.id, c.suspect.reason
			c.suspect = suspect{careful: c.suspect.careful}
		}
	}
	n := len(s.inFlight)
	close(s.room)
	s.room = make(chan struct{})
	s.mu.Unlock()

	c.outbox.Delete(ids...)
	c.update(func(st *State) {
		st.Acked += int64(len(ids))
		st.InFlight = n
	})
	if guilty >= 0 {
		c.log.Error("The hub refuses a message and takes the next one; setting it aside", "id", guilty, "cause", reason)
		if err := s.setAside(ctx, guilty, reason); err != nil {
			c.log.Error("A message that the hub refuses could not be set aside", "error", err)
		}
	}
}

// holdBack keeps r if it is the suspect that this connection does not send.
func (s *session) holdBack(r outbox.Record) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if suspect := &s.connection.suspect; !suspect.held || suspect.id != r.ID {
		return false
	}
	s.held = &r
	return true
}

// releaseHeld returns the record that was held back when there is nothing else
// after all to try instead of it.
func (s *session) releaseHeld() (r outbox.Record, released bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	suspect := &s.connection.suspect
	if !suspect.held || s.held == nil || len(s.inFlight) > 0 {
		return r, false
	}
	r, s.held = *s.held, nil
	suspect.held = false
	return r, true
}

func (s *session) oldestInFlight() (sent time.Time, any bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.inFlight {
		if !any || f.sent.Before(sent) {
			sent, any = f.sent, true
		}
	}
	return sent, any
}

// leftInFlight returns what was not acknowledged, in the order of sending.
func (s *session) leftInFlight() []flight {
	s.mu.Lock()
	defer s.mu.Unlock()
	var left []flight
	for _, f := range s.inFlight {
		left = append(left, f)
	}
	slices.SortFunc(left, func(a, b flight) int { return a.sent.Compare(b.sent) })
	return left
}

// receive is called by the client for everything that arrives, and must not
// block: acknowledgements come the same way.
func (s *session) receive(m mqtt.Message) {
	select {
	case s.inbox <- m:
	default:
		s.overMu.Lock()
		s.over++
		s.overMu.Unlock()
	}
}

// overflowed tells whether messages from the hub were dropped since the last
// call.
func (s *session) overflowed() bool {
	s.overMu.Lock()
	defer s.overMu.Unlock()
	over := s.over > 0
	s.over = 0
	return over
}

// publish sends something that is not from the outbox.
func (s *session) publish(topic string, qos byte, retained bool, payload []byte) error {
	token := s.client.Publish(topic, qos, retained, payload)
	select {
	case <-token.Done():
		return token.Error()
	default:
		return nil
	}
}

// subscribe returns when the hub has granted all filters.
func (s *session) subscribe(ctx context.Context, filters map[string]byte) error {
	token := s.client.SubscribeMultiple(filters, nil).(*mqtt.SubscribeToken)
	timeout := time.NewTimer(s.connection.config.AckTimeout)
	defer timeout.Stop()
	select {
	case <-token.Done():
	case <-ctx.Done():
		return cause(ctx)
	case <-s.lost:
		return nil // watch says why
	case <-timeout.C:
		return fmt.Errorf("%w: no SUBACK within %v", errNoAck, s.connection.config.AckTimeout)
	}
	if err := token.Error(); err != nil {
		return fmt.Errorf("subscribing: %w", err)
	}
	for filter, granted := range token.Result() {
		if granted == 0x80 {
			return fmt.Errorf("the hub does not allow the subscription to %s", filter)
		}
	}
	return nil
}
