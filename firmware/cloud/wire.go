package cloud

import (
	"encoding/binary"
	"errors"
	"net"
	"sync"
	"time"
)

const (
	// writeTimeout is how long the network may take for one write, which is at
	// most what is in flight.
	writeTimeout = 30 * time.Second
	// closeTimeout is how long the last packets, DISCONNECT among them, may take.
	closeTimeout = 500 * time.Millisecond
)

// wire is the network connection below the MQTT client. It is here for two
// things that the client does not give.
//
// It sees every PUBACK with its own eyes. The client's tokens also complete
// for other reasons than an acknowledgement, depending on its settings, and
// with a message's deletion at stake nothing but the packet counts.
//
// It never blocks the client: writes go to a buffer that a goroutine of its own
// empties. The buffer needs no bound, since it holds no more than the window in
// flight. The client would otherwise wait on a slow network with its internal
// locks held, and could be stuck when the connection ends meanwhile.
type wire struct {
	net.Conn
	puback func(id uint16) // called from Read; must not block

	scan scanner

	mu      sync.Mutex
	wake    chan struct{} // capacity 1
	buffer  []byte
	err     error
	closing bool
	flushed chan struct{} // closed when the writer has ended
}

func newWire(conn net.Conn, puback func(uint16)) *wire {
	w := &wire{Conn: conn, puback: puback, wake: make(chan struct{}, 1), flushed: make(chan struct{})}
	go w.write()
	return w
}

func (w *wire) Read(p []byte) (int, error) {
	n, err := w.Conn.Read(p)
	w.scan.feed(p[:n], w.puback)
	if errors.Is(err, net.ErrClosed) {
		// The client takes this one for its own doing and says nothing of the
		// loss, until its next ping fails. If a write failed, that is the cause.
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.err != nil {
			return n, w.err
		}
	}
	return n, err
}

func (w *wire) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return 0, w.err
	}
	if w.closing {
		return 0, net.ErrClosed
	}
	w.buffer = append(w.buffer, p...)
	w.poke()
	return len(p), nil
}

func (w *wire) poke() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

func (w *wire) write() {
	defer close(w.flushed)
	for range w.wake {
		w.mu.Lock()
		out, closing := w.buffer, w.closing
		w.buffer = nil
		w.mu.Unlock()
		if len(out) > 0 {
			timeout := writeTimeout
			if closing {
				timeout = closeTimeout
			}
			w.Conn.SetWriteDeadline(time.Now().Add(timeout))
			if _, err := w.Conn.Write(out); err != nil {
				w.mu.Lock()
				w.err = err
				w.mu.Unlock()
				// The reader is told by its Read failing.
				w.Conn.Close()
				return
			}
		}
		if closing {
			return
		}
	}
}

// Close sends what is in the buffer, unless that takes too long.
func (w *wire) Close() error {
	w.mu.Lock()
	w.closing = true
	w.poke()
	w.mu.Unlock()
	// A write that is under way gets no longer than this either.
	w.Conn.SetWriteDeadline(time.Now().Add(closeTimeout))
	<-w.flushed
	return w.Conn.Close()
}

// SetDeadline bounds reading; writing has bounds of its own.
func (w *wire) SetDeadline(t time.Time) error { return w.Conn.SetReadDeadline(t) }

// SetWriteDeadline does nothing: see SetDeadline.
func (w *wire) SetWriteDeadline(time.Time) error { return nil }

// scanner finds PUBACK packets in the stream of incoming packets (MQTT 3.1.1,
// sections 2.2 and 3.4).
type scanner struct {
	state     int // what comes next, see the constants
	isPuback  bool
	remaining int  // bytes of the packet's rest
	shift     uint // of the next byte of the remaining length
	id        [2]byte
	have      int
}

const (
	scanType = iota
	scanLength
	scanRest
)

const typePuback = 4

func (s *scanner) feed(data []byte, puback func(uint16)) {
	for len(data) > 0 {
		switch s.state {
		case scanType:
			*s = scanner{state: scanLength, isPuback: data[0]>>4 == typePuback}
			data = data[1:]
		case scanLength:
			s.remaining |= int(data[0]&0x7f) << s.shift
			s.shift += 7
			more := data[0]&0x80 != 0 && s.shift < 28
			data = data[1:]
			if !more {
				s.state = scanRest
				if s.remaining == 0 {
					s.state = scanType
				}
			}
		case scanRest:
			n := min(s.remaining, len(data))
			if s.isPuback {
				s.have += copy(s.id[min(s.have, 2):], data[:n])
			}
			s.remaining -= n
			data = data[n:]
			if s.remaining == 0 {
				if s.isPuback && s.have == 2 {
					puback(binary.BigEndian.Uint16(s.id[:]))
				}
				s.state = scanType
			}
		}
	}
}
