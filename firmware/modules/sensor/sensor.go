package sensor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/google/uuid"

	"tuxwatch/firmware/edge"
	"tuxwatch/firmware/message"
)

// Names of the module's ports and method.
const (
	output  = "temperatureOutput"
	control = "control"
	reset   = "reset"
)

// Kind is the module kind for the list of modules.
func Kind() edge.Kind {
	return edge.Kind{
		Name:       "sensor",
		Summary:    "measures temperature, pressure and humidity with chips on I2C, or simulates them",
		Settings:   func() any { return &Settings{Machine: Source{Driver: simulated}} },
		Properties: func() any { return &Properties{SendData: true, SendInterval: 5} },
		Inputs:     []string{control},
		Outputs:    []string{output},
		Methods:    []string{reset},
		New: func(settings any) (edge.Module, error) {
			s := settings.(*Settings)
			if err := s.Validate(); err != nil {
				return nil, err
			}
			return &sensor{settings: *s, changed: make(chan struct{}, 1)}, nil
		},
	}
}

// How long things may take.
const (
	// transactionLimit is when a bus counts as hung. With most buses the kernel
	// gives up after a second.
	transactionLimit = 2 * time.Second
	// readingLimit bounds a reading with all its transactions; the slowest chip
	// takes 0.6 s.
	readingLimit = 2 * time.Second
	// hungGrace is how long the module's end waits for a transaction.
	hungGrace = time.Second
	// retryFirst and retryMost are the pauses between readings of a chip that
	// fails, give or take 30 %.
	retryFirst, retryMost = 250 * time.Millisecond, 10 * time.Second

	// sendLimit bounds one try to send. There are sendTries, with pauses that
	// begin at sendPause.
	sendLimit             = time.Minute
	sendTries             = 5
	sendPause, sendLonger = 500 * time.Millisecond, 10 * time.Second

	// heartbeat is the longest that the loop sleeps.
	heartbeat = 30 * time.Second
	// aliveInLoop is the loop's promise: more than a sleep and the readings of
	// two chips that hang.
	aliveInLoop = time.Minute
	// aliveInSend is the promise while sending: more than one try and the pause
	// after it. A slow receiver is therefore never taken for a sensor that is
	// stuck. But no try goes on for ever: it ends after a minute, and counts as
	// failed.
	aliveInSend = 2 * time.Minute
)

// sensor is one run of the module.
type sensor struct {
	settings Settings
	client   *edge.Client

	simulator        *simulator  // nil if nothing is simulated
	machine, ambient *instrument // nil if simulated or, ambient, not there
	simulatedAmbient bool

	mu         sync.Mutex
	properties Properties
	changed    chan struct{} // has an element when properties were changed

	sendFault error
}

// Run measures and sends until ctx ends.
func (s *sensor) Run(ctx context.Context, c *edge.Client) error {
	s.client = c
	defer s.setUp()()

	c.HandleDesired(func(_ context.Context, properties any) error {
		s.setProperties(*properties.(*Properties))
		return nil
	})
	c.HandleInput(control, s.handleControl)
	c.HandleMethod(reset, func(context.Context, json.RawMessage) (int, any) {
		return http.StatusOK, map[string]string{"note": s.reset()}
	})
	c.Report(map[string]any{"MachineSensor": s.settings.Machine.String(), "AmbientSensor": s.ambientName()})
	return s.loop(ctx)
}

// setUp makes the instruments; what it returns gives their buses back.
func (s *sensor) setUp() (tearDown func()) {
	machine, ambient := s.settings.Machine, s.settings.Ambient
	if machine.Driver == simulated && ambient == nil {
		ambient = &machine
	}
	if machine.Driver != simulated {
		s.machine = s.instrument("machine", machine)
	}
	if ambient != nil {
		if s.simulatedAmbient = ambient.Driver == simulated; !s.simulatedAmbient {
			s.ambient = s.instrument("ambient", *ambient)
		}
	}
	if s.machine == nil || s.simulatedAmbient {
		s.simulator = newSimulator(s.settings.Seed)
	}
	return func() {
		var all sync.WaitGroup
		for _, i := range s.instruments() {
			all.Go(func() { i.port.bus.release(hungGrace) })
		}
		all.Wait()
	}
}

func (s *sensor) instrument(role string, source Source) *instrument {
	source = source.withDefaults()
	return &instrument{
		role:   role,
		source: source,
		driver: drivers[source.Driver],
		port:   &port{bus: i2cBuses.use(source.Bus), limit: transactionLimit},
		pause: &backoff.ExponentialBackOff{
			InitialInterval: retryFirst, MaxInterval: retryMost, Multiplier: 2, RandomizationFactor: 0.3,
		},
		count: s.client.Count,
		log:   s.client.Log(),
	}
}

func (s *sensor) instruments() []*instrument {
	var all []*instrument
	for _, i := range []*instrument{s.machine, s.ambient} {
		if i != nil {
			all = append(all, i)
		}
	}
	return all
}

func (s *sensor) ambientName() any {
	switch {
	case s.ambient != nil:
		return s.ambient.source.String()
	case s.simulatedAmbient:
		return simulated
	default:
		return nil
	}
}

// loop sends a message every SendInterval, and reads a chip that failed again
// when its pause is over.
func (s *sensor) loop(ctx context.Context) error {
	// A chip that is missing shows at once, even if no message is due for long.
	for _, i := range s.instruments() {
		_, _ = i.read(ctx) // i.fault has it
	}
	s.health()
	s.client.Ready()

	var last time.Time // when the last message was due
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		s.client.Alive(aliveInLoop)
		next := s.retry(ctx)
		if p := s.getProperties(); p.SendData && (s.machine == nil || s.machine.fault == nil) {
			interval := time.Duration(p.SendInterval * float64(time.Second))
			due := last.Add(interval)
			if late := time.Since(due); late >= 0 {
				// From message to message, not from the end of the sending; but
				// what was missed meanwhile is not made up for.
				if last = due; late > interval {
					last = time.Now()
				}
				s.message(ctx)
				s.health()
				continue
			}
			next = earlier(next, due)
		}
		timer.Reset(time.Until(next))
		select {
		case <-ctx.Done():
		case <-s.changed:
		case <-timer.C:
		}
	}
	return ctx.Err()
}

// retry reads the chips that failed and whose pause is over. It returns when to
// do so next, and at the latest the next heartbeat.
func (s *sensor) retry(ctx context.Context) (next time.Time) {
	next = time.Now().Add(heartbeat)
	for _, i := range s.instruments() {
		if i.fault != nil && !time.Now().Before(i.retryAt) {
			_, _ = i.read(ctx)
			s.health()
		}
		if i.fault != nil {
			next = earlier(next, i.retryAt)
		}
	}
	return next
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// message measures and sends one message. If the machine's chip fails, there is
// none.
func (s *sensor) message(ctx context.Context) {
	body, err := s.measure(ctx)
	if err != nil {
		return // the instrument has its fault
	}
	m, err := message.JSON(body)
	if err != nil {
		s.client.Log().Error("a message could not be made", "error", err)
		s.client.Count("messages_dropped", 1)
		return
	}
	// The same for every try, so that the hub can tell a repetition.
	m.ID = uuid.NewString()
	s.send(ctx, m)
}

// measure makes a message's body. An error means that the machine could not be
// measured.
func (s *sensor) measure(ctx context.Context) (message.Climate, error) {
	var body message.Climate
	if s.machine == nil {
		temperature, pressure := s.simulator.machine()
		body.Machine = message.Machine{Temperature: &temperature, Pressure: &pressure}
	} else {
		r, err := s.machine.read(ctx)
		if err != nil {
			return body, err
		}
		body.Machine = message.Machine{Temperature: &r.temperature, Pressure: r.pressure}
	}
	body.TimeCreated = message.Time{Time: time.Now()}
	switch {
	case s.simulatedAmbient:
		temperature, humidity := s.simulator.ambient()
		body.Ambient = &message.Ambient{Temperature: &temperature, Humidity: &humidity}
	case s.ambient != nil && s.ambient.fault == nil:
		if r, err := s.ambient.read(ctx); err == nil {
			body.Ambient = &message.Ambient{Temperature: &r.temperature, Humidity: r.humidity}
		}
	}
	return body, nil
}

// send sends m, again if it fails; in the end it drops m and says so.
func (s *sensor) send(ctx context.Context, m message.Message) {
	pause := &backoff.ExponentialBackOff{
		InitialInterval: sendPause, MaxInterval: sendLonger, Multiplier: 2, RandomizationFactor: 0.3,
	}
	log := s.client.Log()
	_, err := backoff.Retry(ctx, func() (struct{}, error) {
		s.client.Alive(aliveInSend)
		ctx, cancel := context.WithTimeoutCause(ctx, sendLimit, fmt.Errorf("not taken within %v", sendLimit))
		defer cancel()
		err := s.client.Send(ctx, output, m)
		if err != nil && !errors.Is(ctx.Err(), context.Canceled) {
			s.client.Count("send_failures", 1)
		}
		return struct{}{}, err
	}, backoff.WithBackOff(pause), backoff.WithMaxTries(sendTries), backoff.WithMaxElapsedTime(0),
		backoff.WithNotify(func(err error, again time.Duration) {
			log.Warn("message was not taken", "output", output, "message", m.ID, "error", err, "again", again.Round(time.Millisecond))
		}))
	switch {
	case err == nil:
		s.client.Count("messages_sent", 1)
		s.sendFault = nil
	case ctx.Err() != nil:
	default:
		s.client.Count("messages_dropped", 1)
		log.Error("message dropped", "output", output, "message", m.ID, "tries", sendTries, "error", err)
		s.sendFault = fmt.Errorf("what %s sends is not taken: %w", output, err)
	}
}

// health tells the runtime how things are.
func (s *sensor) health() {
	err := s.sendFault
	for _, i := range s.instruments() {
		err = join(err, i.fault)
	}
	if err == nil {
		s.client.Healthy()
	} else {
		s.client.Unhealthy(err)
	}
}

// join is errors.Join on one line, for a status.
func join(a, b error) error {
	if a == nil {
		return b
	}
	if b == nil {
		return a
	}
	return fmt.Errorf("%w; %w", a, b)
}

func (s *sensor) setProperties(p Properties) {
	s.mu.Lock()
	s.properties = p
	s.mu.Unlock()
	s.client.Report(map[string]any{"SendData": p.SendData, "SendInterval": p.SendInterval})
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

func (s *sensor) getProperties() Properties {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.properties
}

// handleControl takes a message on the input control.
func (s *sensor) handleControl(_ context.Context, m message.Message) error {
	toReset, err := parseControl(m.Body)
	if err != nil {
		s.client.Count("controls_rejected", 1)
		s.client.Log().Error("control message refused", "from", m.Source, "error", err)
		return err
	}
	if toReset {
		s.reset()
	}
	return nil
}

// reset starts the warm-up again, if there is one, and says what it did.
func (s *sensor) reset() string {
	if s.machine != nil {
		return "nothing to reset: the machine is measured by a " + s.machine.source.String() + ", not simulated"
	}
	s.client.Count("resets", 1)
	s.simulator.reset()
	return "the warm-up starts again with the next message"
}
