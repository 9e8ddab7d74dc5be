package hub

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime/debug"
	"sync"
	"time"

	"github.com/mochi-mqtt/server/v2/listeners"
)

const (
	// connectTime is how long a connection may take over TLS and CONNECT.
	connectTime = 20 * time.Second
	// maxConnections bounds what strangers can make the hub hold.
	maxConnections = 4096
)

// conn is a device's connection, with the session that it turns into when the
// device has signed in.
type conn struct {
	net.Conn
	session *session // set by the goroutine that reads from the connection
}

// listener is where the broker gets connections from. Unlike the broker's own
// it ends every connection when it is closed, those too that have not signed in
// yet, and waits for their goroutines.
type listener struct {
	id   string
	net  net.Listener
	hook *hook
	log  *slog.Logger

	mu     sync.Mutex
	conns  map[*conn]struct{}
	closed bool
	wg     sync.WaitGroup
}

var _ listeners.Listener = (*listener)(nil)

func newListener(id string, l net.Listener, h *hook, log *slog.Logger) *listener {
	return &listener{id: id, net: l, hook: h, log: log, conns: map[*conn]struct{}{}}
}

func (l *listener) Init(*slog.Logger) error { return nil }
func (l *listener) ID() string              { return l.id }
func (l *listener) Address() string         { return l.net.Addr().String() }
func (l *listener) Protocol() string        { return l.net.Addr().Network() }

// Serve accepts connections until Close.
func (l *listener) Serve(establish listeners.EstablishFn) {
	for {
		nc, err := l.net.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			// Out of file descriptors, most likely: that passes.
			l.log.Warn("cannot accept a connection", "listener", l.id, "error", err)
			time.Sleep(100 * time.Millisecond)
			continue
		}
		c := &conn{Conn: nc}
		if !l.add(c) {
			nc.Close()
			continue
		}
		go func() {
			defer l.wg.Done()
			defer l.remove(c)
			// The broker sets its own deadlines once CONNECT is through.
			_ = nc.SetDeadline(time.Now().Add(connectTime))
			err := l.run(c, establish)
			nc.Close()
			l.hook.disconnected(c, err)
		}()
	}
}

// run has the broker serve one connection. What a device sends must not end the
// hub for the others, whatever is wrong in whose code.
func (l *listener) run(c *conn, establish listeners.EstablishFn) (err error) {
	defer func() {
		if p := recover(); p != nil {
			l.log.Error("panic while serving a connection", "remote", c.RemoteAddr(), "panic", p, "stack", string(debug.Stack()))
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return establish(l.id, c)
}

func (l *listener) add(c *conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false
	}
	if len(l.conns) >= maxConnections {
		l.log.Warn("too many connections, one refused", "listener", l.id, "limit", maxConnections)
		return false
	}
	l.conns[c] = struct{}{}
	l.wg.Add(1)
	return true
}

func (l *listener) remove(c *conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, c)
}

// Close ends listening and every connection, and waits for them. It does not
// need the broker's help for that.
func (l *listener) Close(listeners.CloseFn) {
	l.net.Close()
	l.mu.Lock()
	l.closed = true
	for c := range l.conns {
		l.wg.Go(c.end)
	}
	l.mu.Unlock()
	l.wg.Wait()
}

// end closes the connection. TLS says goodbye first, for which a peer that does
// not read would make it wait.
func (c *conn) end() {
	if t, ok := c.Conn.(*tls.Conn); ok {
		hard := time.AfterFunc(300*time.Millisecond, func() { t.NetConn().Close() })
		defer hard.Stop()
	}
	c.Conn.Close()
}

// hangUp ends what the peer is sent, and passes over what it still sends until it
// hangs up, too, or a second is over. A connection that is closed with something
// unread is reset, and a reset takes along what the peer has not read yet
// (RFC 2525, 2.17): acknowledgements, here. Only the goroutine that reads from
// the connection may call it.
func hangUp(nc net.Conn) {
	if c, ok := nc.(*conn); ok {
		nc = c.Conn
	}
	half, ok := nc.(interface{ CloseWrite() error })
	if !ok || nc.SetDeadline(time.Now().Add(time.Second)) != nil || half.CloseWrite() != nil {
		return
	}
	_, _ = io.Copy(io.Discard, nc) // ends by the deadline at the latest
}
