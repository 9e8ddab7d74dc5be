package cloud

import (
	"context"
	"errors"
	"fmt"
	"time"

	"tuxwatch/firmware/outbox"
)

// suspect is what is known about messages that the hub may be refusing. MQTT
// 3.1.1 has no way of refusing one: a hub that will not have a message closes
// the connection (or is silent), and so does every outage. Who took each lost
// connection for a refusal would throw messages away whenever the network is
// bad; who never did would send the same message for ever and none of those
// behind it. So evidence is collected:
//
//  1. A connection that ends shortly after something was sent makes everything
//     in flight suspicious, and the next connection careful: it sends one
//     message at a time until as many have been acknowledged.
//  2. A connection that the hub accepted, and that ends shortly after the only
//     message in flight was sent, counts as an attempt of that message.
//  3. A message that has used up its attempts is held back, and the one behind
//     it is sent instead. When that is acknowledged, the hub works and refuses
//     just the one: it is set aside. When that fails, too, the hub refuses
//     everything, and no message is to blame: the first is sent again.
type suspect struct {
	careful int       // messages still to be sent one at a time
	id      outbox.ID // the message with attempts, if any
	name    string
	used    bool // its attempts are used up
	held    bool // it is held back in this connection
	reason  string
}

// refusalWithin is how soon after a message the end of the connection is
// blamed on it.
const refusalWithin = 15 * time.Second

var errNoAck = errors.New("the hub does not acknowledge what it was sent")

// begin decides how the next connection goes about it.
func (s *suspect) begin(waiting int) {
	// Without anything else to try there is nothing to learn by holding back.
	s.held = s.used && waiting > 1
	if s.held {
		s.careful = max(s.careful, 1)
	}
}

// acknowledged notes that the hub took a message, and says whether that proves
// the held one guilty.
func (s *suspect) acknowledged(id outbox.ID) (guilty bool) {
	if s.careful > 0 {
		s.careful--
	}
	if s.id == id && s.name != "" {
		*s = suspect{careful: s.careful}
		return false
	}
	return s.held
}

// ended draws the conclusions from a connection that ended with inFlight, in
// the order in which it was sent.
func (c *Connection) ended(ctx context.Context, inFlight []flight, now time.Time, err error) {
	s := &c.suspect
	if len(inFlight) == 0 || now.Sub(inFlight[len(inFlight)-1].sent) > refusalWithin && !errors.Is(err, errNoAck) {
		s.held = false
		return
	}
	s.careful = max(s.careful, len(inFlight))
	if len(inFlight) > 1 {
		s.held = false
		return
	}
	only := inFlight[0].record
	if s.held {
		// The one behind it fares no better. Back to the first, whose next
		// failure leads here again.
		s.held, s.used = false, false
		c.log.Warn("The hub drops the connection over every message; no message is set aside for that",
			"first", s.name, "next", only.Message.ID, "error", err)
		return
	}
	if s.id != only.ID || s.name == "" {
		s.used = false
	}
	attempts, attemptErr := c.outbox.Attempt(ctx, only.ID)
	if attemptErr != nil {
		if !errors.Is(attemptErr, outbox.ErrNotFound) { // dropped meanwhile
			c.log.Warn("An attempt to send a message could not be counted", "error", attemptErr)
		}
		return
	}
	s.id, s.name = only.ID, only.ID.String()
	s.used = attempts >= c.config.MaxAttempts
	s.reason = fmt.Sprintf("%s ended the connection each time it was sent, %d times: %v", c.State().Hub, attempts, err)
	c.log.Warn("The hub ended the connection right after a message that was sent alone",
		"message", only.Message.ID, "module", only.Message.Source.Module, "attempts", attempts, "of", c.config.MaxAttempts)
}
