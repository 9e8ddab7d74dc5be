package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"tuxwatch/firmware/hub"
)

const (
	// memoryBar is what the daemon may take, in megabytes of 1,000,000 bytes.
	memoryBar = 60.0
	// memoryMessages is after how many messages it counts.
	memoryMessages = 10_000
	// memoryPause is the time between two pictures meanwhile.
	memoryPause = 200 * time.Millisecond
	// memoryRounds bounds the rounds: memory varies little.
	memoryRounds = 3
)

// memoryUse is what one round saw.
type memoryUse struct {
	rss, peak float64 // MB
	messages  int64
	pictures  int
}

// memory measures the daemon's resident memory with the model loaded, after
// 10,000 messages, while pictures come as well.
func (b *bench) memory(ctx context.Context) error {
	pictures, err := b.pictures(ctx)
	if err != nil {
		return err
	}
	var rss, peak []float64
	var u memoryUse
	rounds := min(b.rounds, memoryRounds)
	for round := range rounds {
		b.say("memory: %d messages, and pictures: round %d of %d", memoryMessages, round+1, rounds)
		if u, err = b.memoryRound(ctx, pictures); err != nil {
			return err
		}
		rss, peak = append(rss, u.rss), append(peak, u.peak)
	}
	const part = "Memory of the daemon"
	after := Figure{Part: part, What: "after 10,000 messages", Unit: "MB", Better: "lower", Tuxwatch: newSample("tuxwatchd", rss)}
	if b.nodeRED != nil {
		after = after.against(*b.nodeRED)
	}
	b.add(after.atMost(memoryBar),
		Figure{Part: part, What: "at most meanwhile", Unit: "MB", Better: "lower", Tuxwatch: newSample("tuxwatchd", peak)})
	b.note("Memory: VmRSS and VmHWM of tuxwatchd in MB of 1,000,000 bytes, shared libraries and the model included, after %d messages "+
		"from 50 sensors and %d pictures of 1280×720 over HTTP and MQTT.", u.messages, u.pictures)
	return nil
}

func (b *bench) memoryRound(ctx context.Context, pictures []string) (u memoryUse, err error) {
	g := group{"temp", 50, 1}
	d, err := b.startDevice(ctx, flowConfig([]group{g}))
	if err != nil {
		return u, err
	}
	defer d.stop()
	camera, err := d.camera()
	if err != nil {
		return u, err
	}
	defer camera.Disconnect(100)
	if err := d.send(ctx, g.names(), true); err != nil {
		return u, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, 5*time.Minute, errors.New("it takes more than five minutes"))
	defer cancel()
	for u.messages < memoryMessages || u.pictures < 2*len(pictures) {
		file := pictures[u.pictures%len(pictures)]
		if u.pictures%2 == 0 {
			err = d.recognize(ctx, file)
		} else {
			err = publish(camera, file)
		}
		if err != nil {
			return u, fmt.Errorf("sending %s: %w", file, err)
		}
		u.pictures++
		select {
		case <-time.After(memoryPause):
		case <-d.daemon.done:
			return u, fmt.Errorf("the daemon ended (%v):\n%s", d.daemon.err, d.daemon.tail())
		case <-ctx.Done():
			return u, fmt.Errorf("%d of %d messages have been sent: %w", u.messages, memoryMessages, context.Cause(ctx))
		}
		if u.messages, _, err = d.sent(ctx); err != nil {
			return u, err
		}
	}
	if err := d.send(ctx, g.names(), false); err != nil {
		return u, err
	}
	if u.messages, err = d.drained(ctx); err != nil {
		return u, err
	}
	if u.rss, err = d.daemon.megabytes("VmRSS"); err != nil {
		return u, err
	}
	if u.peak, err = d.daemon.megabytes("VmHWM"); err != nil {
		return u, err
	}
	a, err := d.arrived(ctx, hub.Cursor{})
	switch {
	case err != nil:
		return u, err
	case a.distinct != u.messages:
		return u, fmt.Errorf("%d messages went into the outbox, and %d are at the hub", u.messages, a.distinct)
	case a.pictures == 0:
		return u, errors.New("none of the sample pictures was a penguin at the hub")
	}
	return u, nil
}

// camera connects to the daemon's picture receiver.
func (d *device) camera() (mqtt.Client, error) {
	options := mqtt.NewClientOptions().AddBroker(fmt.Sprintf("tcp://127.0.0.1:%d", d.mqtt)).SetClientID("camera")
	options.SetAutoReconnect(false).SetConnectTimeout(10 * time.Second)
	client := mqtt.NewClient(options)
	if err := wait(client.Connect()); err != nil {
		return nil, fmt.Errorf("connecting to the picture receiver: %w", err)
	}
	return client, nil
}

// publish sends a picture as the workshop's camera does.
func publish(camera mqtt.Client, file string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	return wait(camera.Publish("image", 1, false, base64.StdEncoding.EncodeToString(data)))
}

// recognize asks the daemon's recognizer what a picture shows.
func (d *device) recognize(ctx context.Context, file string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	url := fmt.Sprintf("http://127.0.0.1:%d/image", d.http)
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(data))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/octet-stream")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	var answer struct {
		Predictions []struct {
			Probability float64 `json:"probability"`
		} `json:"predictions"`
	}
	err = json.NewDecoder(response.Body).Decode(&answer)
	if err != nil || response.StatusCode != http.StatusOK || len(answer.Predictions) == 0 {
		return fmt.Errorf("%s answered %s without predictions (%v)", url, response.Status, err)
	}
	return nil
}
