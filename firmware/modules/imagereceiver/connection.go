package imagereceiver

import (
	"net"
	"sync"
	"time"
)

// connection is a client's connection with the time limits that the broker does
// not set: a packet that has begun has to arrive, and an acknowledgement has to
// be taken, in good time. The broker sets its own deadline, from the client's
// keep-alive, before each packet.
type connection struct {
	net.Conn
	packetTimeout, writeTimeout time.Duration

	mu    sync.Mutex
	idle  time.Time // the broker's deadline
	begun bool      // the packet it waits for has begun to arrive
}

// SetDeadline is called by the broker before each packet. It does not limit
// writing: when an acknowledgement is written the deadline for reading may have
// passed, for the picture waited for the recognizer.
func (c *connection) SetDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.idle, c.begun = t, false
	return c.SetReadDeadline(t)
}

func (c *connection) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 {
		c.mu.Lock()
		defer c.mu.Unlock()
		if !c.begun {
			c.begun = true
			if limit := time.Now().Add(c.packetTimeout); c.idle.IsZero() || limit.Before(c.idle) {
				c.SetReadDeadline(limit)
			}
		}
	}
	return n, err
}

func (c *connection) Write(p []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(c.writeTimeout)); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}
