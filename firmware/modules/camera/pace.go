package camera

import (
	"context"
	"sync"
	"time"
)

// pace says when the next picture is due. set may be called while another
// goroutine waits.
type pace struct {
	now     func() time.Time
	changed chan struct{} // holds a token after set

	mu       sync.Mutex
	interval time.Duration // 0: paused
	last     time.Time     // when the last picture was due
}

func newPace(now func() time.Time) *pace {
	return &pace{now: now, changed: make(chan struct{}, 1)}
}

func (p *pace) set(perSecond float64) {
	p.mu.Lock()
	p.interval = 0
	if perSecond > 0 {
		p.interval = time.Duration(min(float64(time.Second)/perSecond, float64(24*time.Hour)))
	}
	p.mu.Unlock()
	select {
	case p.changed <- struct{}{}:
	default:
	}
}

// left returns how long it is until the next picture is due; false while
// paused. When it returns 0 the picture counts as taken. Pictures that were
// due while nobody asked are left out rather than made up for.
func (p *pace) left() (time.Duration, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.interval == 0 {
		return 0, false
	}
	now := p.now()
	due := p.last.Add(p.interval)
	if left := due.Sub(now); left > 0 {
		return left, true
	}
	p.last = due
	if now.Sub(due) >= p.interval {
		p.last = now
	}
	return 0, true
}

// aliveStep is how often a long wait says that it is still waiting.
const aliveStep = 30 * time.Second

// wait returns when the next picture is due, or with the context's error.
// alive is told how long the next step of waiting takes at most.
func (p *pace) wait(ctx context.Context, alive func(time.Duration)) error {
	for ctx.Err() == nil {
		left, running := p.left()
		if running && left == 0 {
			return nil
		}
		if !running || left > aliveStep {
			left = aliveStep
		}
		alive(left + time.Minute)
		timer := time.NewTimer(left)
		select {
		case <-timer.C:
		case <-p.changed:
		case <-ctx.Done():
		}
		timer.Stop()
	}
	return ctx.Err()
}

// slot holds the newest picture for one reader.
type slot struct {
	ready chan struct{} // holds a token while there is a picture

	mu      sync.Mutex
	picture *picture
}

// put leaves a picture and says whether it took the place of one that was not
// taken.
func (s *slot) put(p picture) (replaced bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	replaced = s.picture != nil
	s.picture = &p
	select {
	case s.ready <- struct{}{}:
	default:
	}
	return replaced
}

// take waits for a picture and takes it.
func (s *slot) take(ctx context.Context) (picture, error) {
	for {
		select {
		case <-s.ready:
		case <-ctx.Done():
			return picture{}, ctx.Err()
		}
		if p, ok := s.grab(); ok {
			return p, nil
		}
		// The token was that of a picture which was put while the one before
		// was being taken, and was taken in its place.
	}
}

func (s *slot) grab() (picture, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.picture == nil {
		return picture{}, false
	}
	p := *s.picture
	s.picture = nil
	return p, true
}
