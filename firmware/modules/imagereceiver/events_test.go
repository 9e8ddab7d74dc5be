package imagereceiver

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	wire "github.com/eclipse/paho.mqtt.golang/packets"

	"tuxwatch/firmware/edge"
	"tuxwatch/firmware/message"
)

// byEventDesired are desired properties for events that are quick to make.
const byEventDesired = `{"AlertOn":"event","Window":3,"CoolDown":0}`

// startEvents starts a module that alerts by event and takes its first message.
func startEvents(t *testing.T, change func(*Settings), desired string) *receiver {
	t.Helper()
	r := startWith(t, quick(), change, desired)
	r.reset(t)
	return r
}

// reset takes the message that a module begins with.
func (r *receiver) reset(t *testing.T) {
	t.Helper()
	if body := string(r.Next(Output).Body); !strings.HasPrefix(body, `{"IsPenguin":false,"event":"reset","timeCreated":"`) {
		t.Fatalf("the first message is %s", body)
	}
}

// sighting returns the next message of an event.
func (r *receiver) sighting(t *testing.T, what string) message.Sighting {
	t.Helper()
	m := r.Next(Output)
	if m.ContentType != "application/json" || m.ContentEncoding != "utf-8" || m.ID == "" {
		t.Errorf("content type %q, encoding %q, ID %q", m.ContentType, m.ContentEncoding, m.ID)
	}
	var s message.Sighting
	if err := json.Unmarshal(m.Body, &s); err != nil {
		t.Fatal(err)
	}
	if s.Event != what || s.IsPenguin != (what != message.SightingEnd) || (s.Reason != "") != (what == message.SightingEnd) {
		t.Fatalf("want %s, got %s", what, m.Body)
	}
	return s
}

// frames sends frames of these brightnesses to the input.
func (r *receiver) frames(t *testing.T, brightnesses ...byte) {
	t.Helper()
	for _, b := range brightnesses {
		if err := r.Send(Input, message.Message{Body: shade(t, b)}); err != nil {
			t.Fatal(err)
		}
	}
}

// The brightness of frames that show a penguin, none, and perhaps one.
const hi, lo, mid = 230, 10, 110

func TestEventFromFlickeringFrames(t *testing.T) {
	r := startEvents(t, nil, byEventDesired)
	before := time.Now().Add(-time.Second)
	r.frames(t, lo, hi, lo, lo, hi, lo, lo) // flickers up
	r.None(Output)
	r.frames(t, hi, 250)
	start := r.sighting(t, message.SightingStart)
	r.frames(t, lo, hi, 240, lo, hi, mid, mid, mid) // flickers down, and between the thresholds
	r.None(Output)
	r.frames(t, lo, hi, lo)
	end := r.sighting(t, message.SightingEnd)
	r.frames(t, lo, lo, lo)
	r.None(Output)

	if start.ID == "" || start.ID != end.ID || !start.Started.Equal(end.Started.Time) || start.Started.Before(before) || start.Ended.Unix() > 0 {
		t.Errorf("%+v\n%+v", start, end)
	}
	if start.Label != "penguin" || start.Model != "colours" || start.ModelVersion != "1" || start.Camera != "from_frames" || start.Topic != "" || start.Region != "" || start.Thumbnail != nil {
		t.Errorf("%+v", start)
	}
	near := func(got, brightness float64) bool { return got > brightness/255-0.02 && got < brightness/255+0.02 }
	if start.Frames != 2 || !near(start.Probability, hi) || !near(start.BestProbability, 250) {
		t.Errorf("%+v", start)
	}
	if end.Reason != "gone" || end.Frames != 13 || !near(end.Probability, lo) || !near(end.BestProbability, 250) || end.BestTime.Before(end.Started.Time) || end.Ended.Before(end.BestTime.Time) {
		t.Errorf("%+v", end)
	}
	r.counter(t, "events_started", 1)
	r.counter(t, "events_ended", 1)
	r.counter(t, "pictures_classified", 23)
	r.counter(t, "alerts_sent", 3)
}

func TestEventEndsInSilence(t *testing.T) {
	r := startEvents(t, nil, `{"AlertOn":"event","Window":3,"CoolDown":0,"Timeout":0.2}`)
	// On a slow machine the gaps may be longer than that: then it ends earlier.
	for range 3 {
		r.frames(t, hi)
	}
	for r.Status().Counters["events_started"] == 0 {
		r.frames(t, hi)
	}
	r.sighting(t, message.SightingStart)
	end := r.sighting(t, message.SightingEnd)
	if end.Reason != "timeout" || end.Ended.After(end.TimeCreated.Add(-200*time.Millisecond)) {
		t.Errorf("%+v", end)
	}
}

func TestEventUpdates(t *testing.T) {
	r := startEvents(t, nil, `{"AlertOn":"event","Window":3,"UpdateInterval":0.001}`)
	r.frames(t, hi, hi, hi)
	start := r.sighting(t, message.SightingStart)
	for r.Status().Counters["alerts_sent"] < 4 {
		r.frames(t, hi)
	}
	update := r.sighting(t, message.SightingUpdate)
	if update.ID != start.ID || update.Frames <= start.Frames || !update.TimeCreated.After(start.TimeCreated.Time) {
		t.Errorf("%+v\n%+v", start, update)
	}
}

func TestEventSurvivesChangedProperties(t *testing.T) {
	r := startEvents(t, nil, byEventDesired)
	desire := func(properties string) {
		t.Helper()
		if err := r.SetDesired(properties); err != nil {
			t.Fatal(err)
		}
	}
	r.frames(t, hi, hi, hi)
	start := r.sighting(t, message.SightingStart)
	desire(`{"AlertOn":"event","Window":7,"Threshold":0.95,"EndThreshold":0.3,"CoolDown":0,"MinFrames":20}`)
	r.frames(t, mid, mid, mid, mid, mid, mid, mid)
	r.None(Output)
	desire(`{"AlertOn":"event","Window":3,"EndThreshold":0.45,"CoolDown":0}`)
	r.frames(t, mid)
	if end := r.sighting(t, message.SightingEnd); end.ID != start.ID || end.Reason != "gone" || end.Frames != 11 {
		t.Errorf("%+v", end)
	}

	// Another label is another event.
	r.frames(t, hi, hi, hi)
	start = r.sighting(t, message.SightingStart)
	desire(`{"AlertOn":"event","Window":3,"CoolDown":0,"Label":"Other"}`)
	if end := r.sighting(t, message.SightingEnd); end.ID != start.ID || end.Reason != "labelChanged" || end.Label != "penguin" {
		t.Errorf("%+v", end)
	}
	r.frames(t, lo, lo, lo)
	start = r.sighting(t, message.SightingStart)
	if start.Label != "Other" {
		t.Errorf("%+v", start)
	}

	// Without a wish for events there are none.
	desire(`{"AlertOn":"frame","Label":"Other"}`)
	if end := r.sighting(t, message.SightingEnd); end.ID != start.ID || end.Reason != "switchedOff" || end.Label != "Other" {
		t.Errorf("%+v", end)
	}
	r.frames(t, lo)
	r.alert(t)
	r.None(Output)
	r.counter(t, "events_started", 3)
	r.counter(t, "events_ended", 3)
}

func TestEventEndsWithTheModule(t *testing.T) {
	r := startEvents(t, nil, byEventDesired)
	r.frames(t, hi, hi, hi)
	start := r.sighting(t, message.SightingStart)
	r.Stop()
	if end := r.sighting(t, message.SightingEnd); end.ID != start.ID || end.Reason != "stopped" {
		t.Errorf("%+v", end)
	}
	r.None(Output)
}

// A module that broke off half-way tells the end of its events all the same, and
// when it starts again that older ones are over.
func TestEventsAfterARestart(t *testing.T) {
	r := startEvents(t, nil, byEventDesired)
	r.frames(t, hi, hi, hi)
	start := r.sighting(t, message.SightingStart)
	var mu sync.Mutex
	broken := false
	r.Refuse(func(string, message.Message) error {
		mu.Lock()
		defer mu.Unlock()
		if !broken {
			broken = true
			panic("the outbox broke")
		}
		return nil
	})
	// By the clock, so that there is no frame to be looked at again.
	if err := r.SetDesired(`{"AlertOn":"event","Window":3,"Timeout":0.01}`); err != nil {
		t.Fatal(err)
	}
	if end := r.sighting(t, message.SightingEnd); end.ID != start.ID || end.Reason != "timeout" {
		t.Errorf("%+v", end)
	}
	r.reset(t)
	r.Eventually(func(s edge.ModuleStatus) bool { return s.State == edge.Running && s.Restarts == 1 })
}

// A notice that cannot be sent keeps the picture from being acknowledged; the
// picture comes again, and is not counted again.
func TestEventIsToldUntilItIsStored(t *testing.T) {
	r := startEvents(t, func(s *Settings) { s.BusyTimeout = 5 * time.Millisecond }, byEventDesired)
	r.frames(t, hi, hi)
	var mu sync.Mutex
	ids := make(map[string]bool)
	r.Refuse(func(_ string, m message.Message) error {
		mu.Lock()
		defer mu.Unlock()
		ids[m.ID] = true
		return errors.New("disk full")
	})
	third := message.Message{ID: "third", Body: shade(t, hi)}
	for range 3 {
		if err := r.Send(Input, third); err == nil || !strings.Contains(err.Error(), "disk full") {
			t.Fatalf("acknowledged although it could not be stored: %v", err)
		}
	}
	r.Eventually(func(s edge.ModuleStatus) bool { return s.Counters["alerts_failed"] > 3 }) // the clock tries as well
	r.Refuse(nil)
	if err := r.Send(Input, third); err != nil {
		t.Fatal(err)
	}
	start := r.sighting(t, message.SightingStart)
	r.None(Output)
	mu.Lock()
	if len(ids) != 1 {
		t.Errorf("the repetitions are not one message: %v", ids)
	}
	mu.Unlock()
	r.frames(t, lo, lo)
	if end := r.sighting(t, message.SightingEnd); start.Frames != 3 || end.Frames != 5 || end.ID != start.ID {
		t.Errorf("%d and %d frames", start.Frames, end.Frames)
	}
	r.counter(t, "pictures_classified", 5)
}

// A QoS 1 publish whose acknowledgement was lost comes again with the DUP flag.
func TestRepeatedPublishIsCountedOnce(t *testing.T) {
	r := startEvents(t, nil, byEventDesired)
	s, _ := speak(t, r, "door", false)
	publish := func(id uint16, dup bool, brightness byte) {
		t.Helper()
		s.publish(id, 1, dup, shade(t, brightness))
		if p, ok := s.read().(*wire.PubackPacket); !ok || p.MessageID != id {
			t.Fatalf("%v instead of PUBACK %d", p, id)
		}
	}
	publish(1, false, hi)
	publish(1, true, hi)
	publish(1, true, hi)
	publish(2, false, 231)
	publish(1, true, hi) // both acknowledgements were lost
	publish(2, true, 231)
	r.counter(t, "pictures_repeated", 4)
	r.counter(t, "pictures_classified", 2)
	r.None(Output)
	// The same picture without the flag is another frame: cameras that see
	// nothing move may well send it.
	publish(3, false, 231)
	if start := r.sighting(t, message.SightingStart); start.Frames != 3 || start.Camera != "door" || start.Topic != "t" {
		t.Errorf("%+v", start)
	}
	// The last frame of an event is no part of the next.
	publish(4, false, lo)
	publish(5, false, 11)
	r.sighting(t, message.SightingEnd)
	publish(5, true, 11)
	r.counter(t, "pictures_repeated", 5)
	r.counter(t, "pictures_classified", 5)
}

// A camera that was refused may connect anew and know nothing of its repeating
// itself.
func TestRefusedPublishIsCountedOnce(t *testing.T) {
	r := startEvents(t, func(s *Settings) { s.BusyTimeout = 5 * time.Millisecond }, byEventDesired)
	for range 2 {
		if err := done(dial(t, r, nil).Publish("t", 1, false, penguin(t))); err != nil {
			t.Fatal(err)
		}
	}
	r.Refuse(func(string, message.Message) error { return errors.New("disk full") })
	last := shade(t, 222)
	for range 3 {
		token := dial(t, r, nil).Publish("t", 1, false, last)
		if token.WaitTimeout(patience) && token.Error() == nil {
			t.Fatal("acknowledged although it could not be stored")
		}
	}
	r.Refuse(nil)
	if err := done(dial(t, r, nil).Publish("t", 1, false, last)); err != nil {
		t.Fatal(err)
	}
	if start := r.sighting(t, message.SightingStart); start.Frames != 3 {
		t.Errorf("%+v", start)
	}
	r.counter(t, "pictures_classified", 3)
	// From now on the same picture is another frame.
	if err := done(dial(t, r, nil).Publish("t", 1, false, last)); err != nil {
		t.Fatal(err)
	}
	r.counter(t, "pictures_classified", 4)
}

// Acknowledged is what has been decided about and stored.
func TestEventPictureIsAcknowledgedWhenStored(t *testing.T) {
	r := startEvents(t, nil, byEventDesired)
	c := dial(t, r, nil)
	for range 2 {
		if err := done(c.Publish("t", 1, false, penguin(t))); err != nil {
			t.Fatal(err)
		}
	}
	entered, leave := make(chan bool), make(chan bool)
	r.Refuse(func(string, message.Message) error {
		entered <- true
		<-leave
		return nil
	})
	token := c.Publish("t", 1, false, penguin(t))
	<-entered
	select {
	case <-token.Done():
		t.Error("acknowledged before the event was stored")
	case <-time.After(50 * time.Millisecond):
	}
	leave <- true
	if err := done(token); err != nil {
		t.Error(err)
	}
	r.Refuse(nil)
	r.sighting(t, message.SightingStart)
}

func TestCamerasAreToldApart(t *testing.T) {
	// publish sends a picture as one that is a client, and goes away.
	publish := func(t *testing.T, r *receiver, client, topic string, brightness byte) {
		t.Helper()
		c := dial(t, r, func(o *paho.ClientOptions) { o.SetClientID(client) })
		defer c.Disconnect(0)
		if err := done(c.Publish(topic, 1, false, shade(t, brightness))); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("topic", func(t *testing.T) {
		r := startEvents(t, nil, byEventDesired)
		for i := range 3 { // a new client each time, as of mosquitto_pub
			r.None(Output)
			publish(t, r, fmt.Sprint("mosq-", i), "yard", hi)
			publish(t, r, fmt.Sprint("mosq-", i), "door", lo)
		}
		if s := r.sighting(t, message.SightingStart); s.Topic != "yard" || !strings.HasPrefix(s.Camera, "mosq-") {
			t.Errorf("%+v", s)
		}
		r.None(Output)
	})
	t.Run("client", func(t *testing.T) {
		r := startEvents(t, func(s *Settings) { s.CamerasBy = byClient }, byEventDesired)
		for i := range 3 { // a topic for each picture
			r.None(Output)
			publish(t, r, "door", fmt.Sprint("pictures/", i), lo)
			publish(t, r, "yard", fmt.Sprint("pictures/", i), hi)
		}
		if s := r.sighting(t, message.SightingStart); s.Camera != "yard" {
			t.Errorf("%+v", s)
		}
	})
	t.Run("both", func(t *testing.T) {
		r := startEvents(t, func(s *Settings) { s.CamerasBy = byBoth }, byEventDesired)
		for _, brightness := range []byte{hi, hi, hi} {
			r.None(Output)
			publish(t, r, "yard", "left", lo)
			publish(t, r, "door", "right", lo)
			publish(t, r, "yard", "right", brightness)
		}
		if s := r.sighting(t, message.SightingStart); s.Camera != "yard" || s.Topic != "right" {
			t.Errorf("%+v", s)
		}
	})
}

func TestCamerasAreBounded(t *testing.T) {
	r := startEvents(t, func(s *Settings) { s.MaxCameras = 2 }, `{"AlertOn":"event","Window":3,"CoolDown":0,"Timeout":600}`)
	c := dial(t, r, nil)
	see := func(topic string) {
		t.Helper()
		if err := done(c.Publish(topic, 1, false, penguin(t))); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		see("a")
		see("b")
		see("c") // is looked at, and that is all
	}
	if a, b := r.sighting(t, message.SightingStart), r.sighting(t, message.SightingStart); a.Topic != "a" || b.Topic != "b" {
		t.Errorf("%+v\n%+v", a, b)
	}
	r.None(Output)
	r.counter(t, "cameras_refused", 3)
	// Those that are silent make room.
	if err := r.SetDesired(`{"AlertOn":"event","Window":3,"CoolDown":0,"Timeout":0.01}`); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		r.sighting(t, message.SightingEnd)
	}
	if err := r.SetDesired(byEventDesired); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(patience)
	for refused := int64(-1); r.Status().Counters["cameras_refused"] != refused; {
		if time.Now().After(deadline) {
			t.Fatal("cameras that are silent are not forgotten")
		}
		refused = r.Status().Counters["cameras_refused"]
		see("c")
	}
	see("c")
	see("c")
	if s := r.sighting(t, message.SightingStart); s.Topic != "c" {
		t.Errorf("%+v", s)
	}
}

// Many cameras at once, some on the same topic: for each, start and end in turn.
func TestManyCameras(t *testing.T) {
	r := startEvents(t, nil, byEventDesired)
	var wait sync.WaitGroup
	for n := range 8 {
		c := dial(t, r, func(o *paho.ClientOptions) { o.SetClientID(fmt.Sprint("camera", n)) })
		wait.Go(func() {
			for i := range 24 {
				brightness := byte(lo)
				if i/6%2 == 1 {
					brightness = hi
				}
				if err := done(c.Publish(fmt.Sprint("topic", n/2), byte(n%3), false, shade(t, brightness))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wait.Wait()
	r.counter(t, "pictures_classified", 8*24)
	r.Stop()
	s := r.Status()
	if started, ended := s.Counters["events_started"], s.Counters["events_ended"]; started < 4 || started != ended {
		t.Errorf("%d events started, %d ended", started, ended)
	}
	open := make(map[string]string)
	for range s.Counters["events_started"] + s.Counters["events_ended"] {
		var e message.Sighting
		if err := json.Unmarshal(r.Next(Output).Body, &e); err != nil {
			t.Fatal(err)
		}
		switch {
		case e.Event == message.SightingStart && open[e.Topic] == "":
			open[e.Topic] = e.ID
		case e.Event == message.SightingEnd && open[e.Topic] == e.ID:
			delete(open, e.Topic)
		default:
			t.Fatalf("%s of %s, open: %v", e.Event, e.ID, open)
		}
	}
	r.None(Output)
	if len(open) > 0 {
		t.Errorf("left open: %v", open)
	}
}
