package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// TestKilledAtAnyMoment kills the daemon, and now and then the hub, without
// warning at random moments under load. What a camera was told has arrived
// (PUBACK) must reach the hub, in order, whatever happens in between.
func TestKilledAtAnyMoment(t *testing.T) {
	if testing.Short() {
		t.Skip("200 kills take minutes; make test runs them")
	}
	const hubEvery = 10
	kills := 200
	if os.Getenv("TUXWATCH_LONG") != "" {
		kills = 1000
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))

	s := newSite(t, `
modules:
  tempSensor: {desired: {SendInterval: 0.05}}
  filterModule: {desired: {TemperatureThreshold: 0}}
  imageReceiveProcessModule: {settings: {listen: "127.0.0.1:MQTT_PORT"}}
  recognizer: {settings: {listen: "127.0.0.1:HTTP_PORT"}}
`)
	events := s.monitor()
	s.startDevice()
	penguin := s.base64File(samples(t, "penguin")[0])

	// The camera publishes one picture after the other, the next one only when
	// this one was acknowledged.
	ctx, stop := context.WithCancel(context.Background())
	var acknowledged atomic.Int64
	camera := make(chan struct{})
	go func() {
		defer close(camera)
		for n := int64(1); ctx.Err() == nil; {
			try, cancel := context.WithTimeout(ctx, 10*time.Second)
			err := exec.CommandContext(try, "mosquitto_pub", "-h", "127.0.0.1", "-p", fmt.Sprint(s.ports.mqtt),
				"-q", "1", "-t", fmt.Sprintf("load/%06d", n), "-f", penguin).Run()
			cancel()
			if err != nil {
				time.Sleep(20 * time.Millisecond) // the daemon is not there at the moment
				continue
			}
			acknowledged.Store(n)
			n++
		}
	}()

	for i := range kills {
		time.Sleep(time.Duration(random.IntN(900)) * time.Millisecond)
		s.dev.kill()
		if i%hubEvery == hubEvery-1 {
			s.hub.kill()
			s.startHub()
		}
		s.spawnDevice()
	}
	stop()
	<-camera
	last := acknowledged.Load()
	if last < int64(kills)/4 {
		t.Fatalf("only %d pictures were acknowledged during %d kills: that is no load", last, kills)
	}

	// Every acknowledged picture arrives, each for the first time in order.
	arrived, highest, duplicates := map[string]bool{}, "", 0
	s.eventually("the arrival of the rest", func() bool {
		for {
			select {
			case e := <-events:
				if e.Module != "imageReceiveProcessModule" {
					continue
				}
				var body struct {
					Topic string `json:"topic"`
				}
				if err := json.Unmarshal(e.Body, &body); err != nil || !strings.HasPrefix(body.Topic, "load/") {
					t.Fatalf("arrived: %s (%v)", e.Body, err)
				}
				switch {
				case arrived[body.Topic]:
					duplicates++
				case body.Topic < highest:
					t.Errorf("%s arrived after %s", body.Topic, highest)
				default:
					highest = body.Topic
				}
				arrived[body.Topic] = true
			default:
				return arrived[fmt.Sprintf("load/%06d", last)]
			}
		}
	})
	for n := int64(1); n <= last; n++ {
		if !arrived[fmt.Sprintf("load/%06d", n)] {
			t.Errorf("picture %d was acknowledged and never arrived", n)
		}
	}
	t.Logf("%d kills of the daemon, %d of the hub: %d pictures acknowledged, all arrived in order, %d duplicates",
		kills, kills/hubEvery, last, duplicates)
}

// TestStopsWithinTwoSecondsAndGoesOn ends the daemon as Ctrl-C does while the
// hub is away; the next start delivers what was queued.
func TestStopsWithinTwoSecondsAndGoesOn(t *testing.T) {
	s := newSite(t, `
modules:
  tempSensor: {desired: {SendInterval: 0.05}}
  filterModule: {desired: {TemperatureThreshold: 0}}
  imageReceiveProcessModule: {enabled: false}
  recognizer: {enabled: false}
`)
	s.startDevice()
	events := s.monitor()
	s.next(events, "the first alert", func(event) bool { return true })
	s.hub.kill()
	depth := func() int {
		var status struct {
			Outbox struct {
				Depth int `json:"depth"`
			} `json:"outbox"`
		}
		out := run(t, program("tuxwatch"), "status", "--json", "--socket", s.path("state/control.sock"))
		if err := json.Unmarshal([]byte(out), &status); err != nil {
			t.Fatalf("%v in %s", err, out)
		}
		return status.Outbox.Depth
	}
	s.eventually("a backlog", func() bool { return depth() >= 20 })
	queued := time.Now()
	if took := s.dev.stop(); took > 2*time.Second {
		t.Errorf("the daemon took %v to stop", took)
	}
	s.startHub()
	s.startDevice()
	before, seen := 0, map[string]bool{}
	s.next(events, "an alert of after the restart", func(e event) bool {
		var body struct {
			TimeCreated time.Time `json:"timeCreated"`
		}
		if err := json.Unmarshal(e.Body, &body); err != nil {
			t.Fatal(err)
		}
		if body.TimeCreated.Before(queued) && !seen[string(e.Body)] {
			seen[string(e.Body)] = true
			before++
		}
		return body.TimeCreated.After(queued.Add(100 * time.Millisecond))
	})
	if before < 20 {
		t.Errorf("%d of at least 20 queued alerts arrived", before)
	}
	if took := s.hub.stop(); took > 2*time.Second {
		t.Errorf("the hub took %v to stop", took)
	}
}
