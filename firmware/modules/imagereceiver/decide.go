package imagereceiver

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"tuxwatch/firmware/event"
	"tuxwatch/firmware/message"
	"tuxwatch/firmware/vision"
)

// classifyTimeout is how long one picture may take, waiting for its turn
// included.
const classifyTimeout = time.Minute

// origin says where a picture comes from.
type origin struct {
	camera   string // the MQTT client or the module
	topic    string // empty for a module
	received time.Time
	// key tells one picture from another, or is 0; again says that a picture of
	// the same key is the same one, delivered again.
	key   uint64
	again bool
}

// take decides about a payload and sends the alert if there is one. It returns
// nil when nothing is left to do, also for a payload that cannot be used, and an
// error when the same payload should come again: ctx has ended, or the alert
// could not be stored.
func (m *module) take(ctx context.Context, payload []byte, from origin) (err error) {
	defer func() {
		if p := recover(); p != nil {
			m.c.Log().Error("panic while looking at a picture", "panic", p, "stack", string(debug.Stack()))
			m.refuse(from, len(payload), &badPicture{reasonPanic, fmt.Sprintf("looking at the picture went wrong: %v", p)})
			err = nil
		}
	}()
	m.c.Count("pictures_received", 1)
	picture, err := decodePayload(payload, m.settings.MaxPictureBytes)
	var bad *badPicture
	if errors.As(err, &bad) {
		m.refuse(from, len(payload), bad)
		return nil
	}
	p := m.properties.Load()
	if p.AlertOn == onEvent {
		if again, err := m.cameras.repeated(ctx, from); again || err != nil {
			return err
		}
	}
	seen, err := m.look(ctx, picture, from, p)
	switch {
	case err == nil:
		defer seen.close()
	case errors.Is(err, errNight):
		return nil
	case errors.Is(err, vision.ErrNotPicture):
		m.refuse(from, len(payload), &badPicture{reasonNotPicture, err.Error()})
		return nil
	case errors.Is(err, vision.ErrTooLarge):
		m.refuse(from, len(payload), &badPicture{reasonTooLarge, err.Error()})
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	default:
		m.c.Count("pictures_dropped", 1)
		m.complaints.say("dropped", "a picture was dropped", "camera", from.camera, "topic", from.topic, "error", err)
		return nil
	}
	m.c.Count("pictures_classified", 1)
	if p.AlertOn == onEvent {
		return m.observe(ctx, seen, picture, from, p)
	}
	seen.close()
	if !strings.EqualFold(seen.best.Label, p.Label) || !(seen.best.Probability > p.Threshold) {
		return nil
	}
	return m.alert(ctx, seen.best, seen.model, from)
}

// refuse counts and logs a payload that cannot be used.
func (m *module) refuse(from origin, size int, bad *badPicture) {
	m.c.Count("bad_pictures", 1)
	m.c.Count("bad_pictures_"+string(bad.reason), 1)
	m.complaints.say("bad "+from.camera+" "+string(bad.reason), "a picture cannot be used",
		"camera", from.camera, "topic", from.topic, "bytes", size, "error", bad.detail)
}

// observe makes a frame of what was seen and hands it on to where events are
// found.
func (m *module) observe(ctx context.Context, seen sight, picture []byte, from origin, p *Properties) error {
	f := event.Frame{
		At: from.received, Score: seen.probability, Key: from.key, Region: seen.region,
		Camera: from.camera, Topic: from.topic, Model: seen.model.Name, ModelVersion: seen.model.Version,
	}
	if p.ThumbnailBytes > 0 && m.cameras.wants(from, seen.probability, p) {
		f.Thumbnail = m.thumbnail(ctx, seen, picture, p.ThumbnailBytes)
	}
	seen.close() // sending may take a while
	return m.cameras.observe(ctx, from, f, p)
}

// question is what the recognizer is asked.
type question func(ctx context.Context) (vision.Result, error)

// classify asks the recognizer, again while it is busy or has no model yet.
func (m *module) classify(ctx context.Context, ask question) (vision.Result, error) {
	deadline := time.Now().Add(m.settings.BusyTimeout)
	for {
		result, err := m.ask(ctx, ask)
		if !errors.Is(err, vision.ErrBusy) && !errors.Is(err, vision.ErrNotReady) {
			return result, err
		}
		if !m.wait(ctx, deadline) {
			return result, err
		}
	}
}

func (m *module) ask(ctx context.Context, ask question) (vision.Result, error) {
	ctx, cancel := context.WithTimeout(ctx, classifyTimeout)
	defer cancel()
	defer m.looking.leave(m.looking.enter(time.Now()))
	return ask(ctx)
}

// wait pauses before a repetition; false when there is to be none.
func (m *module) wait(ctx context.Context, deadline time.Time) bool {
	if time.Until(deadline) < m.env.pause {
		return false
	}
	select {
	case <-time.After(m.env.pause):
		return true
	case <-ctx.Done():
		return false
	}
}

// alert sends what was seen.
func (m *module) alert(ctx context.Context, best vision.Prediction, model vision.ModelInfo, from origin) error {
	alert, err := message.JSON(message.Penguin{
		IsPenguin:    true,
		Probability:  best.Probability,
		Label:        best.Label,
		Model:        model.Name,
		ModelVersion: model.Version,
		Camera:       from.camera,
		Topic:        from.topic,
		TimeCreated:  message.Time{Time: from.received},
	})
	if err != nil {
		return err
	}
	alert.ID = uuid.NewString() // the same in every repetition
	return m.send(ctx, alert)
}

// send sends an alert, again while that fails.
func (m *module) send(ctx context.Context, alert message.Message) error {
	deadline := time.Now().Add(m.settings.BusyTimeout)
	for {
		err := m.c.Send(ctx, Output, alert)
		if err == nil {
			m.c.Count("alerts_sent", 1)
			return nil
		}
		if !m.wait(ctx, deadline) {
			m.c.Count("alerts_failed", 1)
			return fmt.Errorf("sending the alert: %w", err)
		}
	}
}

// lookout knows since when pictures have been with the recognizer.
type lookout struct {
	mu    sync.Mutex
	next  int
	since map[int]time.Time
}

func (l *lookout) enter(now time.Time) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.since == nil {
		l.since = make(map[int]time.Time)
	}
	l.next++
	l.since[l.next] = now
	return l.next
}

func (l *lookout) leave(ticket int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.since, ticket)
}

func (l *lookout) oldest() (oldest time.Time, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, t := range l.since {
		if !ok || t.Before(oldest) {
			oldest, ok = t, true
		}
	}
	return oldest, ok
}
