// Package event decides from the scores of one camera's frames when something
// came into view and when it went: one event from many frames, in place of an
// alert for each.
//
// It is arithmetic alone. It has no goroutines, no clock and no randomness:
// time comes with the frames, and a [Track] is a value from which each step
// makes the next, so that a step whose result could not be passed on is simply
// not kept. It knows nothing of pictures, messages or cameras. Start with
// [Track.Observe].
//
// # The rule
//
// What counts is the median of the last Window scores, of at least
// [LeastScores]: one frame that differs from those around it changes nothing.
//
// An event begins when the median has been above Start for MinFrames frames and
// MinDuration, and CoolDown has passed since the one before ended. It ends when
// the median is at or below End, or when no frame came for Timeout. In between,
// with a median that is neither, it goes on. No frame belongs to two events:
// the window begins anew after each.
package event

import (
	"slices"
	"time"
)

// LeastScores is how many scores a median takes at least.
const LeastScores = 3

// Rules are what a Track decides by. They may change from one step to the next.
type Rules struct {
	// Start is what the median has to be above for an event to begin, and End
	// what it has to fall to for the event to end; End ≤ Start.
	Start, End float64
	// Window is how many scores the median is of; at least LeastScores.
	Window int
	// MinFrames and MinDuration are for how many frames, and how long, the
	// median has to be above Start. The frame that lifts it above is the first.
	MinFrames   int
	MinDuration time.Duration
	// CoolDown is how long after an event's end no other begins.
	CoolDown time.Duration
	// Timeout is how long frames may stay away. After that an event is over and
	// older scores are forgotten.
	Timeout time.Duration
	// Update is how often there is news of an event under way; 0 for never.
	Update time.Duration
}

// Frame is one picture that a model looked at. The decision depends on At and
// Score alone; the rest goes with the frame into the event.
type Frame struct {
	At    time.Time
	Score float64 // 0 to 1
	// Key tells a frame that is delivered again, see Track.Holds; 0 when there
	// is nothing to tell it by.
	Key                 uint64
	Region              string // of the picture, where the score is from
	Camera, Topic       string
	Model, ModelVersion string
	Thumbnail           []byte // a JPEG, or nil
}

// Event is what is known of one event.
type Event struct {
	ID string
	// Started is the time of the first frame above Rules.Start.
	Started time.Time
	// Ended is zero while the event is under way. After that it is the time of
	// the frame that ended it, or of the last one there was.
	Ended time.Time
	// Frames counts those from Started on.
	Frames int
	// Median of the window at the event's last frame.
	Median float64
	// Best is the frame with the highest score, the first of equals. Last is
	// the last one.
	Best, Last Frame
}

// What a Notice is about.
type What string

const (
	Start  What = "start"
	Update What = "update"
	End    What = "end"
)

// Reason is why an event ended.
type Reason string

const (
	Gone        Reason = "gone"         // the median fell
	Silence     Reason = "timeout"      // no frame came
	Stopped     Reason = "stopped"      // the program ends
	SwitchedOff Reason = "switchedOff"  // nobody wants events any more
	OtherLabel  Reason = "labelChanged" // it is something else that is looked for now
)

// Notice is something to tell. Start and End of an event always come in turn,
// with any number of Updates between them.
type Notice struct {
	What   What
	Reason Reason // of an End
	At     time.Time
	Event  Event
	// NewBest says that Event.Best is another frame than in the notice before.
	NewBest bool
}

// Track is what is remembered of one camera. The zero value has seen nothing.
type Track struct {
	window []Frame // the newest last; never written to once it is in a Track
	last   time.Time

	// event is under way if told, and otherwise one that may become one: the
	// median is above Start, since then for so many frames.
	event *Event
	told  bool
	since time.Time
	above int

	noticed  time.Time // when the last notice was given
	bestTold float64   // the best score in it
	over     bool      // there has been an event
	ended    time.Time // when the last one's end was noticed
}

// Observe takes the next frame. id names an event that begins; each call has to
// give another name. Frames that come out of order count as if they came in
// order.
func (t Track) Observe(f Frame, r Rules, id func() string) (Track, []Notice) {
	if !(f.Score >= 0) { // not a number
		f.Score = 0
	}
	if f.At.Before(t.last) {
		f.At = t.last
	}
	t, notices := t.Tick(f.At, r)
	t.last = f.At
	t.window = pushed(t.window, f, max(r.Window, LeastScores))
	if t.event != nil {
		t.event = t.event.with(f)
	}
	if len(t.window) < LeastScores {
		return t, notices
	}
	median := median(t.window)
	if t.told {
		t.event.Median = median
		return t.goOn(f.At, r, notices)
	}
	if !(median > r.Start) {
		t.event, t.above = nil, 0
		return t, notices
	}
	if t.event == nil {
		t.event, t.since, t.above = t.begin(r), f.At, 0
	}
	t.above++
	t.event.Median = median
	waits := t.over && f.At.Sub(t.ended) < r.CoolDown
	if waits || t.above < r.MinFrames || f.At.Sub(t.since) < r.MinDuration {
		return t, notices
	}
	t.event.ID = id()
	t.told = true
	return t.notice(Start, "", f.At, notices)
}

// goOn is the part of Observe for an event under way.
func (t Track) goOn(now time.Time, r Rules, notices []Notice) (Track, []Notice) {
	switch {
	case t.event.Median <= r.End:
		return t.end(Gone, now, now, notices)
	case r.Update > 0 && now.Sub(t.noticed) >= r.Update:
		return t.notice(Update, "", now, notices)
	}
	return t, notices
}

// begin makes the event that the window holds: from its first score above
// Start, of which there is one, for the median is.
func (t Track) begin(r Rules) *Event {
	first := slices.IndexFunc(t.window, func(f Frame) bool { return f.Score > r.Start })
	e := &Event{Started: t.window[first].At, Best: t.window[first]}
	for _, f := range t.window[first:] {
		e = e.with(f)
	}
	return e
}

// with returns the event with one more frame.
func (e Event) with(f Frame) *Event {
	e.Frames++
	e.Last = f
	e.Last.Thumbnail = nil // nobody asks for it
	if f.Score > e.Best.Score {
		e.Best = f
	}
	return &e
}

// Tick says that it is now so late. It ends an event whose frames stay away.
func (t Track) Tick(now time.Time, r Rules) (Track, []Notice) {
	if len(t.window) == 0 || now.Sub(t.last) < r.Timeout {
		return t, nil
	}
	return t.Close(Silence, now)
}

// Close ends the event under way, if there is one, and forgets all scores.
func (t Track) Close(why Reason, now time.Time) (Track, []Notice) {
	if t.told {
		return t.end(why, t.last, now, nil)
	}
	t.window, t.event, t.above = nil, nil, 0
	return t, nil
}

// end ends the event.
func (t Track) end(why Reason, ended, now time.Time, notices []Notice) (Track, []Notice) {
	e := *t.event
	e.Ended = ended
	t.event = &e
	t, notices = t.notice(End, why, now, notices)
	t.window, t.event, t.told, t.above = nil, nil, false, 0
	t.over, t.ended = true, now
	return t, notices
}

func (t Track) notice(what What, why Reason, now time.Time, notices []Notice) (Track, []Notice) {
	n := Notice{What: what, Reason: why, At: now, Event: *t.event}
	n.NewBest = what == Start || n.Event.Best.Score > t.bestTold
	t.noticed, t.bestTold = now, n.Event.Best.Score
	return t, append(notices, n)
}

// Open returns the event under way.
func (t Track) Open() (Event, bool) {
	if !t.told {
		return Event{}, false
	}
	return *t.event, true
}

// Holds says whether a frame of this key is in the window: it has been counted.
func (t Track) Holds(key uint64) bool {
	return key != 0 && slices.ContainsFunc(t.window, func(f Frame) bool { return f.Key == key })
}

// Wants says whether a frame with this score may become an event's best one, so
// that its Thumbnail is worth making.
func (t Track) Wants(score float64, r Rules) bool {
	if t.told {
		return score > t.event.Best.Score
	}
	return score > r.Start
}

// Idle says whether there is nothing to remember: the zero Track would decide
// as this one does.
func (t Track) Idle(now time.Time, r Rules) bool {
	return len(t.window) == 0 && !(t.over && now.Sub(t.ended) < r.CoolDown)
}

// pushed returns a new window with one more frame and at most size.
func pushed(window []Frame, f Frame, size int) []Frame {
	from := max(0, len(window)+1-size)
	next := make([]Frame, 0, len(window)-from+1)
	return append(append(next, window[from:]...), f)
}

// median of the frames' scores: the middle one, or halfway between the two
// middle ones.
func median(window []Frame) float64 {
	scores := make([]float64, len(window))
	for i, f := range window {
		scores[i] = f.Score
	}
	slices.Sort(scores)
	n := len(scores)
	return scores[(n-1)/2] + (scores[n/2]-scores[(n-1)/2])/2
}
