package cloud

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"golang.org/x/time/rate"

	"tuxwatch/firmware/outbox"
)

// Device is the device's side of twin and methods. The runtime implements it.
type Device interface {
	// ApplyDesired takes the desired properties, without metadata: the whole
	// document when full is set, else a merge patch (RFC 7386) to the last one.
	// An error is logged; it is the device's to report it.
	ApplyDesired(ctx context.Context, desired json.RawMessage, version int64, full bool) error
	// Reported returns the whole reported document.
	Reported() json.RawMessage
	// ReportedChanged returns a channel that is ready to receive from when
	// Reported may have changed. It is asked for anew after each time.
	ReportedChanged() <-chan struct{}
	// Invoke runs a direct method; status is as in HTTP, response is JSON or nil.
	Invoke(ctx context.Context, method string, payload json.RawMessage) (status int, response json.RawMessage)
}

// dialect is what differs between kinds of hubs.
type dialect interface {
	// login reads the credentials and says how to connect this time. What it
	// knows of hub and device is returned along with an error, too.
	login(now time.Time) (login, error)
	// encode makes the packet of a record. An error means that the hub can never
	// take it.
	encode(r outbox.Record) (topic string, payload []byte, err error)
	// serve subscribes and then carries twin and methods until ctx ends or the
	// connection has to be given up. started must be called once subscribed.
	serve(ctx context.Context, s *session, started func()) error
	// goodbye is for a last word before a connection that works is closed.
	goodbye(s *session)
}

// Connection keeps the device connected to its hub and the outbox drained.
type Connection struct {
	config  Config
	outbox  *outbox.Outbox
	device  Device
	log     *slog.Logger
	dialect dialect
	limiter *rate.Limiter
	now     func() time.Time // wall clock

	lookEvery  time.Duration // for changed credentials, after a refusal
	twinTiming twinTiming

	mu    sync.Mutex
	state State

	// Run's goroutine uses these between connections; during one they are
	// guarded by the session's lock.
	suspect suspect
	// resend are the records that were in flight when a connection ended.
	resend map[outbox.ID]struct{}
}

// New returns a connection that Run will make. device may be nil, for a
// connection that only sends.
func New(config Config, out *outbox.Outbox, device Device, log *slog.Logger) (*Connection, error) {
	if err := config.Validate(); err != nil {
		return nil, fmt.Errorf("cloud: %w", err)
	}
	c := &Connection{
		config:  config,
		outbox:  out,
		device:  device,
		log:     log,
		limiter: rate.NewLimiter(rate.Inf, 1),
		now:     time.Now,

		lookEvery:  2 * time.Second,
		twinTiming: defaultTwinTiming,
		resend:     map[outbox.ID]struct{}{},
	}
	if config.MaxRate > 0 {
		c.limiter = rate.NewLimiter(rate.Limit(config.MaxRate), max(1, int(config.MaxRate/10)))
	}
	c.state.Dialect = config.Dialect
	c.state.Status = NotConfigured
	clock := func() time.Time { return c.now() }
	switch config.Dialect {
	case DialectAzure:
		c.dialect = &azure{config: &c.config, device: device, log: log, now: clock}
	case DialectMQTT:
		c.dialect = &plainMQTT{config: &c.config, device: device, log: log, now: clock}
	}
	return c, nil
}

// Run connects, and connects again, until ctx ends; it returns nil then. What
// is in flight at that moment gets half a second to be acknowledged.
func (c *Connection) Run(ctx context.Context) error {
	defer c.update(func(s *State) { s.Status = Stopped })
	if c.dialect == nil {
		c.log.Info("No hub is configured; messages are queued only")
		<-ctx.Done()
		return nil
	}
	pauses := backoff.NewExponentialBackOff()
	pauses.InitialInterval = c.config.Backoff.Min
	pauses.MaxInterval = c.config.Backoff.Max
	pauses.Multiplier = 2
	pauses.RandomizationFactor = 0.5
	pauses.Reset()
	for ctx.Err() == nil {
		end := c.connectOnce(ctx)
		if ctx.Err() != nil {
			break
		}
		if end.lasted >= c.config.Backoff.StableAfter {
			pauses.Reset()
			c.update(func(s *State) { s.Failures = 0 })
		}
		if end.planned {
			continue
		}
		pause := min(pauses.NextBackOff(), c.config.Backoff.Max)
		var refused refusal
		isRefused := errors.As(end.err, &refused)
		if isRefused {
			pause = max(pause, c.config.Backoff.Refused)
		}
		c.report(end, pause, isRefused)
		c.pause(ctx, pause, isRefused)
	}
	return nil
}

// report puts the end of a connection into the state and the log.
func (c *Connection) report(end ending, pause time.Duration, refused bool) {
	now := c.now()
	advice := remedy(end.err, end.login, now)
	c.update(func(s *State) {
		s.Status = Waiting
		if refused {
			s.Status = Refused
		}
		s.Error, s.Remedy = end.err.Error(), advice
		s.NextAttempt = now.Add(pause)
		s.Failures++
		s.TokenExpires = time.Time{}
	})
	text := "The hub cannot be reached; messages are kept"
	if end.connected {
		text = "The connection to the hub was lost; messages are kept"
	} else if refused {
		text = "The hub refused the credentials; messages are kept"
	}
	attributes := []any{"error", end.err, "next_attempt_in", pause.Round(time.Millisecond)}
	if advice != "" {
		attributes = append(attributes, "remedy", advice)
	}
	c.log.Warn(text, attributes...)
}

// pause waits, after a refusal no longer than until a file with credentials
// changes.
func (c *Connection) pause(ctx context.Context, pause time.Duration, refused bool) {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	files := c.config.secretFiles()
	before := fingerprint(files)
	look := time.NewTicker(c.lookEvery)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
			return
		case <-look.C:
			if refused && fingerprint(files) != before {
				c.log.Info("The credentials changed; trying them")
				return
			}
		}
	}
}
