package imagereceiver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"runtime/debug"
	"sync"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// broker is the MQTT broker on one listener.
type broker struct {
	m        *module
	password string
	server   *mqtt.Server
	ctx      context.Context // of serve; ends what hooks wait for

	deliveries deliveries
	log        gate

	mu          sync.Mutex
	connections map[net.Conn]bool
	clients     map[string]*client // connected, by client identifier
}

const (
	// spare is how many connections there may be beside those of cameras:
	// clients that have not said yet who they are, and those that take over
	// from a connection of their own that is dead.
	spare = 8
	// maxSessions is how many sessions are kept for clients that are not
	// connected. Some cameras make a new name for each connection.
	maxSessions = 256
	// sessionExpiry is how long one is kept, in seconds.
	sessionExpiry = 3600
	// overhead is for the topic and MQTT's own fields of a packet.
	overhead = 64 << 10
)

func newBroker(m *module, password string) *broker {
	b := &broker{m: m, password: password, connections: make(map[net.Conn]bool), clients: make(map[string]*client)}
	capabilities := mqtt.NewDefaultServerCapabilities()
	// Twice the picture, although base64 needs four thirds: a picture that is
	// somewhat too large is then refused as such, acknowledged, and not sent
	// again; a larger packet can only be answered by closing the connection.
	capabilities.MaximumPacketSize = uint32(2*m.settings.MaxPictureBytes + overhead)
	capabilities.MaximumSessionExpiryInterval = sessionExpiry
	capabilities.TopicAliasMaximum = 64
	capabilities.SharedSubAvailable = 0
	capabilities.MaximumClientWritesPending = 64 // nothing but acknowledgements
	b.server = mqtt.New(&mqtt.Options{
		Capabilities:            capabilities,
		ClientNetReadBufferSize: 16 << 10,
		Logger:                  slog.New(brokerLog{m.c.Log().Handler(), &b.log}),
		// What it publishes there nobody can subscribe to; gathering it stops
		// the world.
		SysTopicResendInterval: math.MaxInt32,
	})
	return b
}

// serve takes connections until ctx ends or the listener fails, and returns
// when all of them have ended.
func (b *broker) serve(ctx context.Context, listener net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	b.ctx = ctx
	if err := b.server.AddHook(&hook{b: b}, nil); err != nil {
		listener.Close()
		return fmt.Errorf("setting up the MQTT broker: %w", err)
	}
	if err := b.server.Serve(); err != nil {
		listener.Close()
		return fmt.Errorf("starting the MQTT broker: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { listener.Close() })
	defer stop()

	var inside sync.WaitGroup
	err := b.accept(ctx, listener, &inside)
	cancel()
	listener.Close()
	b.mu.Lock()
	for c := range b.connections {
		c.Close()
	}
	b.mu.Unlock()
	inside.Wait()
	b.server.Close()
	b.log.close()
	return err
}

// accept takes connections until the listener is closed or broken.
func (b *broker) accept(ctx context.Context, listener net.Listener, inside *sync.WaitGroup) error {
	for {
		c, err := listener.Accept()
		if ctx.Err() != nil {
			if err == nil {
				c.Close()
			}
			return ctx.Err()
		}
		if errors.Is(err, net.ErrClosed) {
			return fmt.Errorf("listening for cameras: %w", err)
		}
		if err != nil {
			// Out of file descriptors, or the client has gone already.
			b.m.complaints.say("accept", "a connection could not be accepted", "error", err)
			select {
			case <-time.After(b.m.env.pause):
			case <-ctx.Done():
			}
			continue
		}
		if !b.enter(c) {
			b.m.c.Count("connections_refused", 1)
			b.m.complaints.say("connections", "too many connections; a camera was turned away",
				"remote", c.RemoteAddr().String(), "max_connections", b.m.settings.MaxConnections)
			c.Close()
			continue
		}
		b.m.c.Count("connections", 1)
		inside.Go(func() { b.handle(c) })
	}
}

// enter counts a connection in, unless there are too many.
func (b *broker) enter(c net.Conn) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.connections) >= b.m.settings.MaxConnections+spare || b.ctx.Err() != nil {
		return false
	}
	b.connections[c] = true
	return true
}

// handle serves a connection until it ends.
func (b *broker) handle(c net.Conn) {
	defer func() {
		if p := recover(); p != nil {
			b.m.c.Log().Error("panic while serving a camera", "remote", c.RemoteAddr().String(), "panic", p, "stack", string(debug.Stack()))
		}
		c.Close()
		b.mu.Lock()
		delete(b.connections, c)
		b.mu.Unlock()
	}()
	wrapped := &connection{Conn: c, packetTimeout: b.m.env.packetTimeout, writeTimeout: b.m.env.writeTimeout}
	wrapped.SetDeadline(time.Now().Add(b.m.env.connectTimeout))
	err := b.server.EstablishConnection("cameras", wrapped)
	b.m.c.Log().Debug("a camera has disconnected", "remote", c.RemoteAddr().String(), "error", err)
}

// room says whether one more client may connect: another connection of the same
// client is taken over and does not count.
func (b *broker) room(id string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	others := len(b.clients)
	if b.clients[id] != nil {
		others--
	}
	return others < b.m.settings.MaxConnections
}

// forgetOldest ends the session of the client that has been away for longest if
// there are too many.
func (b *broker) forgetOldest() {
	if b.server.Clients.Len() < maxSessions+b.m.settings.MaxConnections {
		return
	}
	var oldest *mqtt.Client
	for _, cl := range b.server.Clients.GetAll() {
		if at := cl.StopTime(); at != 0 && (oldest == nil || at < oldest.StopTime()) {
			oldest = cl
		}
	}
	if oldest != nil {
		b.server.Clients.Delete(oldest.ID)
		b.deliveries.forget(oldest.ID)
	}
}

// brokerLog passes on what the broker says, at the lowest level, for what
// matters is logged here in its own words, and without the packets, which hold
// pictures and passwords.
type brokerLog struct {
	slog.Handler
	gate *gate
}

// gate closes a brokerLog: the broker's housekeeping goes on, and has things to
// say, for a moment after it was closed.
type gate struct {
	mu     sync.Mutex
	closed bool
}

func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
}

func (l brokerLog) Enabled(ctx context.Context, _ slog.Level) bool {
	return l.Handler.Enabled(ctx, slog.LevelDebug)
}

func (l brokerLog) Handle(ctx context.Context, r slog.Record) error {
	plain := slog.NewRecord(r.Time, slog.LevelDebug, "mqtt: "+r.Message, r.PC)
	r.Attrs(func(a slog.Attr) bool {
		switch a.Value.Any().(type) {
		case packets.Packet, *packets.Packet:
		default:
			plain.AddAttrs(a)
		}
		return true
	})
	l.gate.mu.Lock()
	defer l.gate.mu.Unlock()
	if l.gate.closed {
		return nil
	}
	return l.Handler.Handle(ctx, plain)
}

func (l brokerLog) WithAttrs(attrs []slog.Attr) slog.Handler {
	return brokerLog{l.Handler.WithAttrs(attrs), l.gate}
}

func (l brokerLog) WithGroup(name string) slog.Handler {
	return brokerLog{l.Handler.WithGroup(name), l.gate}
}
