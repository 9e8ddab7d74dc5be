package sensor

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"regexp"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"tuxwatch/firmware/edge"
	"tuxwatch/firmware/edge/edgetest"
	"tuxwatch/firmware/edge/route"
	"tuxwatch/firmware/message"
)

func TestMain(m *testing.M) {
	initHost() // outside the bubbles of the tests, as its goroutines are not theirs
	m.Run()
}

// bubble runs a test on a clock of its own, which jumps to the next thing that
// is due when all goroutines wait. It fails a test that leaves one behind.
func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}

func climate(t *testing.T, m message.Message) message.Climate {
	t.Helper()
	var c message.Climate
	if err := json.Unmarshal(m.Body, &c); err != nil {
		t.Fatalf("%s: %v", m.Body, err)
	}
	return c
}

func TestSimulatedMessage(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := edgetest.Start(t, Kind(), &Settings{Machine: Source{Driver: simulated}, Seed: 1}, "")
		m := h.Next(output)
		form := regexp.MustCompile(`^{"machine":{"temperature":21,"pressure":1},"ambient":{"temperature":2[01]\.\d+,"humidity":2[456]},"timeCreated":"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"}$`)
		if !form.Match(m.Body) {
			t.Errorf("the body is %s", m.Body)
		}
		if m.ContentType != "application/json" || m.ContentEncoding != "utf-8" || m.ID == "" || len(m.Properties) != 0 {
			t.Errorf("the envelope is %+v", m)
		}
		if c := climate(t, h.Next(output)); *c.Machine.Temperature == 21 {
			t.Error("the second value is the first")
		}
		want := map[string]any{"SendData": true, "SendInterval": 5.0, "MachineSensor": simulated, "AmbientSensor": simulated}
		if diff := cmp.Diff(want, h.Status().Reported); diff != "" {
			t.Error(diff)
		}
		if s := h.Status(); s.State != edge.Running || !s.Healthy || s.Counters["messages_sent"] < 1 {
			t.Errorf("%+v", s)
		}
	})
}

// TestInterval: the time between two messages, from one to the next, and that a
// change counts from the last message.
func TestInterval(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := edgetest.Start(t, Kind(), nil, "")
		last := climate(t, h.Next(output)).TimeCreated
		expect := func(want time.Duration) {
			t.Helper()
			time.Sleep(time.Until(last.Add(want))) // Next is not as patient
			at := climate(t, h.Next(output)).TimeCreated
			if got := at.Sub(last.Time); got != want {
				t.Errorf("a message after %v, want %v", got, want)
			}
			last = at
		}
		set := func(desired string) {
			t.Helper()
			if err := h.SetDesired(desired); err != nil {
				t.Fatal(err)
			}
		}
		expect(5 * time.Second)
		expect(5 * time.Second)

		time.Sleep(3 * time.Second)
		set(`{"SendInterval":0.25}`) // due long ago: at once
		expect(3 * time.Second)
		expect(250 * time.Millisecond)
		expect(250 * time.Millisecond)

		set(`{"SendInterval":60}`)
		time.Sleep(10 * time.Second)
		set(`{"SendInterval":20}`)
		expect(20 * time.Second)

		set(`{"SendInterval":60,"SendData":false}`)
		time.Sleep(time.Hour)
		h.None(output)
		if stuck := h.Stuck(); len(stuck) != 0 {
			t.Errorf("without anything to send, the watchdog would bite: %v", stuck)
		}
		set(`{"SendInterval":60}`)
		expect(time.Hour)
		expect(time.Minute)

		for _, bad := range []string{`{"SendInterval":0}`, `{"SendInterval":"5"}`, `{"SendData":"yes"}`, `{"SendInterval":1e6}`} {
			if err := h.SetDesired(bad); err == nil {
				t.Errorf("%s was accepted", bad)
			}
		}
		expect(time.Minute)
	})
}

// TestNothingIsSimulatedWhileNothingIsSent: the warm-up goes by messages.
func TestNothingIsSimulatedWhileNothingIsSent(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := edgetest.Start(t, Kind(), nil, `{"SendData":false}`)
		time.Sleep(time.Hour)
		if err := h.SetDesired(`{"SendData":true}`); err != nil {
			t.Fatal(err)
		}
		if c := climate(t, h.Next(output)); *c.Machine.Temperature != 21 {
			t.Errorf("the warm-up began without a message: %v", *c.Machine.Temperature)
		}
	})
}

// TestSlowReceiver: a message that is late does not make the following ones
// late, and what was missed meanwhile is not made up for.
func TestSlowReceiver(t *testing.T) {
	for blocked, want := range map[time.Duration][]time.Duration{
		3 * time.Second:  {5, 10, 15, 20},
		7 * time.Second:  {5, 12, 15, 20},
		32 * time.Second: {5, 37, 42, 47},
	} {
		t.Run(blocked.String(), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				h := edgetest.Start(t, Kind(), nil, "")
				first := climate(t, h.Next(output)).TimeCreated
				var slow atomic.Bool
				slow.Store(true)
				h.Refuse(func(string, message.Message) error {
					if slow.Swap(false) {
						time.Sleep(blocked)
					}
					return nil
				})
				time.Sleep(time.Minute)
				for i, want := range want {
					if got := climate(t, h.Next(output)).TimeCreated.Sub(first.Time); got != want*time.Second {
						t.Errorf("message %d after %v, want %v", i+1, got, want*time.Second)
					}
				}
			})
		})
	}
}

func TestReset(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := edgetest.Start(t, Kind(), nil, `{"SendInterval":1}`)
		warm := func() {
			t.Helper()
			for range 20 {
				h.Next(output)
			}
			if c := climate(t, h.Next(output)); *c.Machine.Temperature < 22 {
				t.Fatalf("not warm after 20 messages: %v", *c.Machine.Temperature)
			}
		}
		cold := func(how string, want bool) {
			t.Helper()
			if c := climate(t, h.Next(output)); (*c.Machine.Temperature == 21 && *c.Machine.Pressure == 1) != want {
				t.Errorf("%s: %v °C", how, *c.Machine.Temperature)
			}
		}
		warm()
		if status, response := h.Invoke(reset, "null"); status != 200 || !json.Valid(response) {
			t.Errorf("%d %s", status, response)
		}
		cold("method", true)
		for body, want := range map[string]bool{`[{"command":0}]`: true, `{"command":0}`: true, `[{"command":1}]`: false} {
			warm()
			if err := h.Send(control, message.Message{Body: []byte(body)}); err != nil {
				t.Error(err)
			}
			cold(body, want)
		}
		warm()
		for _, body := range malformedControls {
			if err := h.Send(control, message.Message{Body: []byte(body)}); err == nil {
				t.Errorf("%q was accepted", body)
			}
		}
		cold("malformed", false)
		s := h.Status()
		if s.Counters["controls_rejected"] != int64(len(malformedControls)) || s.Counters["resets"] != 3 || s.Restarts != 0 {
			t.Errorf("%+v", s)
		}
	})
}

func TestSendThatFailsIsRepeated(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := edgetest.Start(t, Kind(), nil, "")
		h.Next(output)
		var ids, bodies []string
		refusals := 4
		h.Refuse(func(_ string, m message.Message) error {
			if refusals--; refusals < 0 {
				return nil
			}
			ids, bodies = append(ids, m.ID), append(bodies, string(m.Body))
			return errors.New("the disk is full")
		})
		m := h.Next(output)
		synctest.Wait()
		if len(ids) != 4 {
			t.Fatalf("%d refusals", len(ids))
		}
		for i := range ids {
			if ids[i] != m.ID || bodies[i] != string(m.Body) {
				t.Errorf("another message was sent in its place: %s %s", ids[i], bodies[i])
			}
		}
		if s := h.Status(); s.Counters["send_failures"] != 4 || s.Counters["messages_dropped"] != 0 || !s.Healthy {
			t.Errorf("%+v", s)
		}

		h.Refuse(func(string, message.Message) error { return errors.New("the disk is still full") })
		h.Eventually(func(s edge.ModuleStatus) bool { return s.Counters["messages_dropped"] == 1 && !s.Healthy })
		if s := h.Status(); s.Counters["send_failures"] < 4+5 || !regexp.MustCompile(`temperatureOutput sends is not taken: .*still full`).MatchString(s.Cause) {
			t.Errorf("%+v", s)
		}
		h.Refuse(nil)
		h.Next(output)
		h.Eventually(func(s edge.ModuleStatus) bool { return s.Healthy })
	})
}

// blocked is an upstream that takes nothing and never answers.
type blocked struct{ tries chan message.Message }

func (b blocked) Put(ctx context.Context, m message.Message, _ int, _ time.Duration) error {
	b.tries <- m
	<-ctx.Done()
	return context.Cause(ctx)
}

// TestBlockedReceiver: a receiver that never answers is given up after a
// minute, five times, and the watchdog does not take that for a fault of the
// sensor.
func TestBlockedReceiver(t *testing.T) {
	bubble(t, func(t *testing.T) {
		upstream := blocked{make(chan message.Message, 100)}
		all, err := route.Parse("FROM /messages/* INTO $upstream")
		if err != nil {
			t.Fatal(err)
		}
		rt := edge.New(edge.Options{
			Modules:  []edge.Instance{{ID: "tempSensor", Kind: Kind()}},
			Routes:   []edge.Route{{Name: "all", Route: all}},
			Upstream: upstream,
		})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- rt.Run(ctx) }()

		start := time.Now()
		first := <-upstream.tries
		for range 4 {
			if again := <-upstream.tries; again.ID != first.ID {
				t.Errorf("%s was tried instead of %s", again.ID, first.ID)
			}
			if stuck := rt.Stuck(); len(stuck) != 0 {
				t.Errorf("after %v the watchdog would bite: %v", time.Since(start), stuck)
			}
		}
		next := <-upstream.tries
		if next.ID == first.ID {
			t.Error("tried a sixth time")
		}
		if waited := time.Since(start); waited < 5*time.Minute || waited > 6*time.Minute {
			t.Errorf("gave up after %v", waited)
		}
		if s := rt.Status().Modules[0]; s.Counters["send_failures"] != 5 || s.Counters["messages_dropped"] != 1 || s.Restarts != 0 || s.Healthy {
			t.Errorf("%+v", s)
		}
		end := time.Now()
		cancel()
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		if d := time.Since(end); d > time.Second {
			t.Errorf("took %v to end", d)
		}
	})
}

func TestWarmUpReachesTheHubAsItIs(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := edgetest.Start(t, Kind(), &Settings{Machine: Source{Driver: simulated}, Seed: 42}, `{"SendInterval":0.05}`)
		same := newSimulator(42)
		for i := range 300 {
			temperature, pressure := same.machine()
			air, humidity := same.ambient()
			c := climate(t, h.Next(output))
			got := []float64{*c.Machine.Temperature, *c.Machine.Pressure, *c.Ambient.Temperature, *c.Ambient.Humidity}
			for j, want := range []float64{temperature, pressure, air, humidity} {
				if math.Abs(got[j]-want) > tiny {
					t.Fatalf("message %d: %v", i, got)
				}
			}
		}
	})
}
