package imagereceiver

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"tuxwatch/firmware/event"
	"tuxwatch/firmware/message"
)

// stopTimeout is how long the ends of events may take to send when the module
// ends.
const stopTimeout = 5 * time.Second

// errStopping is returned for frames that come too late.
var errStopping = errors.New("the module is being ended")

// cameras holds what is known of each camera where alerts are by event: it turns
// the notices of package event into messages and sees them off.
//
// A frame is counted once, and its notices are told until they are taken: a
// notice that cannot be sent waits, and is sent before anything else is decided
// about that camera.
type cameras struct {
	m *module

	mu     sync.Mutex
	known  map[cameraKey]*camera
	closed bool

	begin sync.Mutex
	reset *message.Message // still to be sent before anything else
	begun bool
}

// cameraKey tells cameras apart.
type cameraKey struct{ camera, topic string }

// keyOf says which camera a picture is from.
func (s *Settings) keyOf(from origin) cameraKey {
	switch {
	case from.topic == "" || s.CamerasBy == byClient:
		return cameraKey{camera: from.camera}
	case s.CamerasBy == byTopic:
		return cameraKey{topic: from.topic}
	}
	return cameraKey{from.camera, from.topic}
}

// camera is what is remembered of one.
type camera struct {
	key   cameraKey
	users int // guarded by cameras.mu

	mu      sync.Mutex // what follows; a frame or the clock has it to itself
	track   event.Track
	label   string // what the track's scores are of
	waiting []message.Message
	counted uint64 // the last frame's key, and when that was
	seen    time.Time
	refused uint64 // the key of a frame that was counted and will come again
}

// enter gets hold of a camera; nil if there are too many.
func (cs *cameras) enter(key cameraKey) (*camera, error) {
	cs.mu.Lock()
	if cs.closed {
		cs.mu.Unlock()
		return nil, errStopping
	}
	c := cs.known[key]
	if c == nil {
		if len(cs.known) >= cs.m.settings.MaxCameras {
			cs.mu.Unlock()
			return nil, nil
		}
		c = &camera{key: key}
		if cs.known == nil {
			cs.known = make(map[cameraKey]*camera)
		}
		cs.known[key] = c
	}
	c.users++
	cs.mu.Unlock()
	c.mu.Lock()
	return c, nil
}

// leave lets go of a camera; forget says that there is nothing to remember.
func (cs *cameras) leave(c *camera, forget bool) {
	c.mu.Unlock()
	cs.mu.Lock()
	defer cs.mu.Unlock()
	c.users--
	if forget && c.users == 0 {
		delete(cs.known, c.key)
	}
}

// all gets the cameras there are.
func (cs *cameras) all() []*camera {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	var list []*camera
	for _, c := range cs.known {
		c.users++
		list = append(list, c)
	}
	return list
}

// repeated says whether a frame has been counted already. If so, what it led to
// has been sent as well, unless there is an error.
func (cs *cameras) repeated(ctx context.Context, from origin) (bool, error) {
	if from.key == 0 {
		return false, nil
	}
	c, err := cs.enter(cs.m.settings.keyOf(from))
	if c == nil {
		return false, err
	}
	defer cs.leave(c, false)
	if !c.has(from) {
		return false, nil
	}
	cs.m.c.Count("pictures_repeated", 1)
	if err := cs.flush(ctx, c); err != nil {
		return true, err
	}
	if from.key == c.refused { // this is how it came again
		c.refused = 0
	}
	return true, nil
}

// has says whether a frame has been counted.
func (c *camera) has(from origin) bool {
	if from.key == 0 {
		return false
	}
	return from.key == c.refused || from.again && (from.key == c.counted || c.track.Holds(from.key))
}

// wants says whether a frame of this probability is worth a thumbnail.
func (cs *cameras) wants(from origin, probability float64, p *Properties) bool {
	c, _ := cs.enter(cs.m.settings.keyOf(from))
	if c == nil {
		return false
	}
	defer cs.leave(c, false)
	track, _ := c.track.Tick(from.received, p.rules())
	return track.Wants(probability, p.rules())
}

// observe counts a frame and sends what that leads to. After an error the same
// frame has to come again.
func (cs *cameras) observe(ctx context.Context, from origin, f event.Frame, p *Properties) error {
	c, err := cs.enter(cs.m.settings.keyOf(from))
	if err != nil {
		return err
	}
	if c == nil {
		cs.m.c.Count("cameras_refused", 1)
		cs.m.complaints.say("cameras", "too many cameras; events of one are not looked for",
			"camera", from.camera, "topic", from.topic, "max_cameras", cs.m.settings.MaxCameras)
		return nil
	}
	defer cs.leave(c, false)
	if err := cs.flush(ctx, c); err != nil {
		return err
	}
	if c.has(from) { // it came twice at the same time
		return nil
	}
	cs.relabel(c, f.At, p)
	track, notices := c.track.Observe(f, p.rules(), uuid.NewString)
	cs.keep(c, track, notices)
	c.counted, c.seen, c.refused = f.Key, f.At, 0
	if err := cs.flush(ctx, c); err != nil {
		c.refused = f.Key
		return err
	}
	return nil
}

// relabel begins anew where something else is looked for.
func (cs *cameras) relabel(c *camera, now time.Time, p *Properties) {
	if c.label != p.Label {
		track, notices := c.track.Close(event.OtherLabel, now)
		cs.keep(c, track, notices)
		c.label = p.Label
	}
}

// keep puts a step of the decision into the camera, and what is to be told of it.
func (cs *cameras) keep(c *camera, track event.Track, notices []event.Notice) {
	c.track = track
	for _, n := range notices {
		switch n.What {
		case event.Start:
			cs.m.c.Count("events_started", 1)
		case event.End:
			cs.m.c.Count("events_ended", 1)
		}
		cs.m.c.Log().Info("event", "what", n.What, "reason", n.Reason, "id", n.Event.ID, "camera", n.Event.Best.Camera,
			"topic", n.Event.Best.Topic, "region", n.Event.Best.Region, "frames", n.Event.Frames, "best", n.Event.Best.Score)
		body, err := message.JSON(sighting(n, c.label))
		if err != nil {
			cs.m.c.Log().Error("an event cannot be told", "error", err) // unreachable: its numbers are numbers
			continue
		}
		body.ID = uuid.NewString() // the same in every repetition
		c.waiting = append(c.waiting, body)
	}
}

// sighting is a notice in the form that travels.
func sighting(n event.Notice, label string) message.Sighting {
	best := n.Event.Best
	s := message.Sighting{
		IsPenguin: n.What != event.End, Event: string(n.What), ID: n.Event.ID, Reason: string(n.Reason), Label: label,
		Probability: n.Event.Median, BestProbability: best.Score, BestTime: message.Time{Time: best.At}, Region: best.Region,
		Frames: n.Event.Frames, Started: message.Time{Time: n.Event.Started}, Ended: message.Time{Time: n.Event.Ended},
		Model: best.Model, ModelVersion: best.ModelVersion, Camera: best.Camera, Topic: best.Topic,
		TimeCreated: message.Time{Time: n.At},
	}
	if n.NewBest || n.What == event.End {
		s.Thumbnail = best.Thumbnail
	}
	return s
}

// flush sends what waits, in order.
func (cs *cameras) flush(ctx context.Context, c *camera) error {
	for len(c.waiting) > 0 {
		if err := cs.start(ctx); err != nil {
			return err
		}
		if err := cs.m.send(ctx, c.waiting[0]); err != nil {
			return err
		}
		c.waiting = slices.Delete(c.waiting, 0, 1)
	}
	return nil
}

// start tells, before anything else, that older events are over.
func (cs *cameras) start(ctx context.Context) error {
	cs.begin.Lock()
	defer cs.begin.Unlock()
	if cs.begun {
		return nil
	}
	if cs.reset == nil {
		body, err := message.JSON(message.SightingsReset{Event: message.SightingReset, TimeCreated: message.Time{Time: time.Now()}})
		if err != nil {
			return err
		}
		body.ID = uuid.NewString()
		cs.reset = &body
	}
	if err := cs.m.send(ctx, *cs.reset); err != nil {
		return err
	}
	cs.begun = true
	return nil
}

// run looks at the clock until ctx ends.
func (cs *cameras) run(ctx context.Context) error {
	tick := time.NewTicker(cs.m.env.tick)
	defer tick.Stop()
	for {
		if err := cs.tick(ctx, time.Now()); err != nil && ctx.Err() == nil {
			cs.m.complaints.say("events", "an event could not be told; trying again", "error", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// tick ends the events of cameras that are silent, sends what still waits, and
// forgets the cameras of which there is nothing to remember.
func (cs *cameras) tick(ctx context.Context, now time.Time) error {
	p := cs.m.properties.Load()
	var err error // the first; then nothing more is sent until the next tick
	if p.AlertOn == onEvent {
		err = cs.start(ctx)
	}
	for _, c := range cs.all() {
		if !c.mu.TryLock() { // a frame is being seen to
			cs.mu.Lock()
			c.users--
			cs.mu.Unlock()
			continue
		}
		cs.pass(c, now, p, func() {
			if err == nil {
				err = cs.flush(ctx, c)
			}
		})
	}
	return err
}

// pass is what the time that has passed does to a camera.
func (cs *cameras) pass(c *camera, now time.Time, p *Properties, flush func()) {
	forget := false
	defer func() { cs.leave(c, forget) }()
	if p.AlertOn != onEvent {
		track, notices := c.track.Close(event.SwitchedOff, now)
		cs.keep(c, track, notices)
		flush()
		forget = len(c.waiting) == 0
		return
	}
	cs.relabel(c, now, p)
	track, notices := c.track.Tick(now, p.rules())
	cs.keep(c, track, notices)
	flush()
	// For as long as a frame may come again, it has to be known.
	forget = len(c.waiting) == 0 && c.track.Idle(now, p.rules()) && now.Sub(c.seen) >= p.rules().Timeout
}

// stop ends all events; later frames are refused.
func (cs *cameras) stop(ctx context.Context, now time.Time) error {
	cs.mu.Lock()
	cs.closed = true
	cs.mu.Unlock()
	var errs []error
	for _, c := range cs.all() {
		c.mu.Lock()
		track, notices := c.track.Close(event.Stopped, now)
		cs.keep(c, track, notices)
		errs = append(errs, cs.flush(ctx, c))
		cs.leave(c, true)
	}
	return errors.Join(errs...)
}
