package edge

import (
	"context"
	"encoding/json"
	"log/slog"
	"maps"
	"time"

	"tuxwatch/firmware/message"
)

// Client is all that a module sees of the runtime. It is made for one Run of a
// module and is safe for use by several goroutines.
type Client struct {
	run *run
}

// ID returns the module's name in routes and twin.
func (c *Client) ID() string { return c.run.w.id }

// Log returns the module's logger.
func (c *Client) Log() *slog.Logger { return c.run.w.log }

// Send routes m from the named output. It returns nil when every endpoint that
// the routes chose has taken the message: for $upstream that means it is on
// stable storage, for a module's input that its handler returned nil. It blocks
// until then, which is how a slow receiver holds its sender back. A message
// that no route wants is counted and dropped, as Edge Hub does.
//
// After an error the message may have reached some of its endpoints; sending it
// again reaches all of them (at least once, never less).
func (c *Client) Send(ctx context.Context, output string, m message.Message) error {
	c.Ready()
	m.Source = message.Source{Module: c.ID(), Output: output}
	return c.run.w.rt.send(ctx, m)
}

// HandleInput makes h take the messages that arrive at the named input, one at
// a time. Until it is called, senders wait. What h returns goes back to the
// sender as the result of its Send: return an error only if sending the same
// message again can help.
func (c *Client) HandleInput(name string, h func(ctx context.Context, m message.Message) error) {
	c.run.setInput(name, h)
}

// HandleMethod makes h answer the named direct method. The status is one of
// HTTP's; the response is marshalled to JSON.
func (c *Client) HandleMethod(name string, h func(ctx context.Context, payload json.RawMessage) (status int, response any)) {
	c.run.setMethod(name, h)
}

// HandleDesired calls h with the desired properties in effect, before it
// returns, and again at every change, before the change is acknowledged to the
// hub. properties is a pointer of the type that Kind.Properties returns:
// defaults, overlaid by the configuration, overlaid by the twin, its types and
// its Validate checked. An error from h refuses the change: the properties that
// were in effect stay, and the refusal is logged, counted and reported.
func (c *Client) HandleDesired(h func(ctx context.Context, properties any) error) {
	c.run.setDesired(h)
}

// Report merges properties into the module's reported properties. A nil value
// removes one.
func (c *Client) Report(properties map[string]any) {
	w := c.run.w
	w.mu.Lock()
	for name, value := range properties {
		if value == nil {
			delete(w.reported, name)
		} else {
			w.reported[name] = value
		}
	}
	w.mu.Unlock()
	w.rt.reportedChanged()
}

// Ready says that the module has set itself up. Call it also when its hardware
// is missing, together with Unhealthy: a device starts without its sensor.
func (c *Client) Ready() { c.run.w.ready(c.run) }

// Healthy says that the module does its work.
func (c *Client) Healthy() { c.run.w.health(c.run, nil) }

// Unhealthy says that the module cannot do its work at present, and why. It
// does not restart the module.
func (c *Client) Unhealthy(err error) { c.run.w.health(c.run, err) }

// Go runs f on a goroutine that belongs to the module's Run: a panic or an
// error in f ends the Run as one in Run itself would, and the module is not
// started again before f has returned. f's context ends with the Run.
//
// Modules start their goroutines with it, because a panic on a bare goroutine
// ends the daemon.
func (c *Client) Go(f func(ctx context.Context) error) {
	r := c.run
	r.inside.Add(1)
	go func() {
		defer r.inside.Done()
		if err := contain(func() error { return f(r.ctx) }); err != nil && r.ctx.Err() == nil {
			r.cancel(err)
		}
	}()
}

// Alive is a loop's promise to call Alive again within the given time. The
// service manager's watchdog is fed only while every such promise is kept;
// Alive(0) ends the promise.
func (c *Client) Alive(within time.Duration) {
	w := c.run.w
	w.mu.Lock()
	defer w.mu.Unlock()
	if within <= 0 {
		c.run.aliveUntil = time.Time{}
		return
	}
	c.run.aliveUntil = w.rt.now().Add(within)
}

// Count adds n to one of the module's counters, which the status and the
// metrics show.
func (c *Client) Count(counter string, n int) {
	w := c.run.w
	w.mu.Lock()
	defer w.mu.Unlock()
	w.counters[counter] += int64(n)
}

// counted returns a copy of the counters.
func counted(counters map[string]int64) map[string]int64 { return maps.Clone(counters) }
