package led

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"time"

	"tuxwatch/firmware/cloud"
	"tuxwatch/firmware/control"
)

// Pattern is a way to light up.
type Pattern struct {
	// Name and Meaning are for people: how it looks, and what it says.
	Name, Meaning string
	// Trigger is the kernel's: timer, heartbeat, or none for steady light.
	Trigger string
	// On and Off are how long, with the trigger timer.
	On, Off time.Duration
}

// The patterns. Each can be told from the others at a glance.
var (
	// Starting: nothing is heard from the daemon, because the device still
	// starts, or because the daemon does not.
	Starting = Pattern{Name: "quick flashes, five a second", Meaning: "starting, or tuxwatchd does not run", Trigger: "timer", On: 100 * time.Millisecond, Off: 100 * time.Millisecond}
	// Running: all is well.
	Running = Pattern{Name: "heartbeat, two beats and a rest", Meaning: "everything works", Trigger: "heartbeat"}
	// NoHub: a hub is configured, and there is no connection to it.
	NoHub = Pattern{Name: "slow, a second on and a second off", Meaning: "the hub cannot be reached; alerts wait on the card", Trigger: "timer", On: time.Second, Off: time.Second}
	// Trouble: a module or the configuration has a fault.
	Trouble = Pattern{Name: "one flash every two seconds", Meaning: "something does not work: tuxwatch status says what", Trigger: "timer", On: 100 * time.Millisecond, Off: 1900 * time.Millisecond}
	// Alert: there was one within the last AlertFor.
	Alert = Pattern{Name: "steady light for ten seconds", Meaning: "an alert", Trigger: "none"}
)

// Patterns lists them, the most urgent first.
var Patterns = []Pattern{Alert, Starting, NoHub, Trouble, Running}

// AlertFor is how long an alert is shown.
const AlertFor = 10 * time.Second

// of is what a status looks like, apart from alerts.
func of(s *control.Status, err error) Pattern {
	if err != nil || s == nil {
		return Starting
	}
	switch s.Hub.Status {
	case cloud.NotConfigured, cloud.Connected:
	default:
		return NoHub
	}
	if len(s.Config.Problems) > 0 || len(s.Edge.Stuck) > 0 || s.Outbox.Fault != "" || s.Outbox.DiskFull {
		return Trouble
	}
	for _, m := range s.Edge.Modules {
		if !m.Healthy {
			return Trouble
		}
	}
	return Running
}

// Options say what [Show] needs.
type Options struct {
	Light *Light
	// Status asks the daemon; an error stands for one that does not run.
	Status func(context.Context) (*control.Status, error)
	// Look ticks each time the daemon is to be asked; every two seconds does.
	Look <-chan time.Time
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	Log *slog.Logger
}

// patience is how long files of a new trigger may take to be usable: udev has to
// give them to the group.
const (
	patience = 5 * time.Second
	pause    = 20 * time.Millisecond
)

// Show shows how the daemon is doing until ctx ends, and leaves the light as it
// found it. A daemon that is away is asked again for ever. The error is that the
// light cannot be read at all, or not be put back; one that cannot be set is
// logged, and tried again.
func Show(ctx context.Context, o Options) error {
	if o.Now == nil {
		o.Now = time.Now
	}
	found, err := o.Light.State()
	if err != nil {
		return err
	}
	s := &shower{Options: o}
	for {
		s.step(ctx)
		select {
		case <-o.Look:
		case <-ctx.Done():
			return o.Light.Restore(found)
		}
	}
}

// shower is a Show at work.
type shower struct {
	Options
	shown  Pattern // what the light shows; zero before it shows anything
	failed string  // the last error that was logged

	known     bool      // whether a daemon has answered yet
	lastAlert time.Time // as it said
	alertEnds time.Time
}

// step asks and shows.
func (s *shower) step(ctx context.Context) {
	status, err := s.Status(ctx)
	if ctx.Err() != nil {
		return
	}
	want := of(status, err)
	if err == nil && s.alerted(status) {
		want = Alert
	}
	if want == s.shown {
		return
	}
	if err := s.set(ctx, want); err != nil {
		if ctx.Err() == nil && s.failed != err.Error() {
			s.failed = err.Error()
			s.Log.Error("the light cannot show how the device is doing; trying again", "pattern", want.Meaning, "error", err)
		}
		s.shown = Pattern{}
		return
	}
	s.shown, s.failed = want, ""
	s.Log.Info("the light shows: "+want.Meaning, "pattern", want.Name)
}

// alerted tells whether there was an alert just now: one more than at the look
// before. When exactly it was is by a clock that may since have been set.
func (s *shower) alerted(status *control.Status) bool {
	var at time.Time
	if status.LastAlert != nil {
		at = status.LastAlert.Time
	}
	if s.known && !at.IsZero() && !at.Equal(s.lastAlert) {
		s.alertEnds = s.Now().Add(AlertFor)
	}
	s.known, s.lastAlert = true, at
	return s.Now().Before(s.alertEnds)
}

func (s *shower) set(ctx context.Context, p Pattern) error {
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for {
		err := s.Light.Set(p)
		if !errors.Is(err, fs.ErrPermission) && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		select {
		case <-time.After(pause):
		case <-deadline.C:
			return err
		case <-ctx.Done():
			return err
		}
	}
}
