package imagereceiver

import (
	"log/slog"
	"sync"
	"time"
)

// complaints logs the first of a burst of like events, and how many there were
// in all when the next burst begins. A camera that sends rubbish ten times a
// second does not fill the log.
type complaints struct {
	log   *slog.Logger
	now   func() time.Time
	quiet time.Duration // a burst is over when nothing happened for so long

	mu     sync.Mutex
	bursts map[string]*burst
}

type burst struct {
	last   time.Time
	silent int // events that were not logged
}

// maxBursts bounds what is remembered; clients choose their names.
const maxBursts = 256

// say logs an event of the given key unless one is being heard of already.
func (c *complaints) say(key, text string, args ...any) {
	c.mu.Lock()
	now := c.now()
	b := c.bursts[key]
	if b != nil && now.Sub(b.last) < c.quiet {
		b.last = now
		b.silent++
		c.mu.Unlock()
		return
	}
	if b == nil {
		if len(c.bursts) >= maxBursts || c.bursts == nil {
			c.bursts = make(map[string]*burst)
		}
		b = &burst{}
		c.bursts[key] = b
	}
	silent := b.silent
	b.last, b.silent = now, 0
	c.mu.Unlock()
	if silent > 0 {
		args = append(args, "more_in_last_burst", silent)
	}
	c.log.Warn(text, args...)
}
