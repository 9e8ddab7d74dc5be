// Package imagereceiver is the module that takes pictures from cameras over
// MQTT, asks the recognizer what they show and sends an alert on its output
// "output2" where it is a penguin. Pictures from modules on the same device come
// in on the input "frames" and go the same way.
//
// It is an MQTT broker (3.1, 3.1.1 and 5) that cameras publish to, on any topic,
// with any quality of service, retained or not; a payload is a JPEG or PNG, as
// it is or in base64. It is not a broker for anything else: it passes no message
// on, refuses subscriptions, keeps no retained messages and sends no last wills.
// A retained picture is therefore looked at once, when it is published.
//
// # When a publish is acknowledged
//
// The PUBACK (QoS 1) or PUBREC (QoS 2) is sent when the decision has been made
// and, if it is an alert, when the alert is on stable storage. Until then the
// connection is not read, which holds back a camera that sends faster than the
// recognizer works. A picture that can never be used is acknowledged as well, so
// that it is not sent again for ever, counted and logged; so is one that found
// no recognizer within busy_timeout, because the next picture is worth more. If
// an alert cannot be stored, the connection is closed instead, for the camera to
// deliver the picture again.
//
// # Alerts by frame and by event
//
// By default each picture whose best prediction is the label is an alert
// ([message.Penguin]). With the desired property AlertOn "event" there is a
// message when a camera begins to show the label and one when it no longer does
// ([message.Sighting]), by the rule of package event; pictures are told apart
// by camera as the setting cameras_by says. A picture is then acknowledged when
// it has been counted and what followed from it is on stable storage. One that
// is delivered again is not counted again.
//
// An event that is under way when the module ends, or when alerts are to be by
// frame again, ends with it. Where that could not be told, because the power
// failed, it is over with the first message of the module's next start
// ([message.SightingsReset]).
//
// # Regions, masks and night frames
//
// With regions the recognizer gets to see those parts of a picture alone, and
// the one where it is surest counts; with masks, parts of it become grey. Dark
// frames can be counted, left out or believed less. For these, and for
// thumbnails, pictures are decoded here, one at a time and within the
// recognizer's limits. Where nothing of this is configured they go to the
// recognizer as they came.
//
// Start with [Kind].
package imagereceiver

import (
	"context"
	"fmt"
	"hash/maphash"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"tuxwatch/firmware/edge"
	"tuxwatch/firmware/message"
	"tuxwatch/firmware/vision"
)

// The names of the module's input and output.
const (
	Input  = "frames"
	Output = "output2"
)

// Classifier says what a picture shows. A *vision.Service is one.
type Classifier interface {
	// Classify takes a JPEG or PNG. The errors that are told apart are those of
	// package vision.
	Classify(ctx context.Context, picture []byte) (vision.Result, error)
}

// Kind describes the module; classifier answers for its pictures.
func Kind(classifier Classifier) edge.Kind {
	return kind(classifier, environment{
		retryMin: time.Second, retryMax: 30 * time.Second, pause: 100 * time.Millisecond,
		connectTimeout: 10 * time.Second, packetTimeout: time.Minute, writeTimeout: 10 * time.Second,
		tick: time.Second,
	})
}

// environment is what tests make shorter.
type environment struct {
	retryMin, retryMax time.Duration // pause before listening is tried again
	pause              time.Duration // before the recognizer or the outbox is asked again
	connectTimeout     time.Duration // for a new connection to say who it is
	packetTimeout      time.Duration // for a packet to arrive once it has begun
	writeTimeout       time.Duration // for a client to take an acknowledgement
	tick               time.Duration // between two looks at the clock
}

func kind(classifier Classifier, env environment) edge.Kind {
	return edge.Kind{
		Name:    "imagereceiver",
		Summary: "takes pictures over MQTT and alerts where the recognizer sees a penguin",
		Settings: func() any {
			return &Settings{
				Listen: "127.0.0.1:1888", MaxPictureBytes: vision.DefaultMaxBytes, MaxConnections: 16,
				MaxPicturesPerSecond: 10, BusyTimeout: 10 * time.Second, CamerasBy: byTopic, MaxCameras: 64,
			}
		},
		Properties: func() any { return defaultProperties() },
		Inputs:     []string{Input},
		Outputs:    []string{Output},
		New: func(settings any) (edge.Module, error) {
			return newModule(*settings.(*Settings), classifier, env)
		},
	}
}

type module struct {
	settings   Settings
	classifier Classifier
	env        environment
	properties atomic.Pointer[Properties]
	c          *edge.Client
	looking    lookout
	complaints complaints
	desk       chan struct{} // holds the one token that a picture may be decoded with
	cameras    cameras
}

func newModule(settings Settings, classifier Classifier, env environment) (edge.Module, error) {
	if _, able := classifier.(imageClassifier); !able && len(settings.Regions)+len(settings.Masks) > 0 {
		return nil, fmt.Errorf("regions and masks need a recognizer that takes decoded pictures; a %T does not", classifier)
	}
	m := &module{settings: settings, classifier: classifier, env: env, desk: make(chan struct{}, 1)}
	m.cameras.m = m
	return m, nil
}

// Run takes pictures until ctx ends.
func (m *module) Run(ctx context.Context, c *edge.Client) error {
	m.c = c
	m.complaints = complaints{log: c.Log(), now: time.Now, quiet: 30 * time.Second}
	c.HandleDesired(func(_ context.Context, properties any) error {
		m.properties.Store(properties.(*Properties))
		return nil
	})
	c.HandleInput(Input, func(ctx context.Context, in message.Message) error {
		return m.take(ctx, in.Body, origin{camera: in.Source.Module, received: time.Now(), key: maphash.String(seed, in.ID), again: in.ID != ""})
	})
	c.Go(m.watch)
	c.Go(m.cameras.run)
	c.Ready()
	err := m.receive(ctx)
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	if err := m.cameras.stop(ending, time.Now()); err != nil {
		c.Log().Error("the end of an event could not be told; it will be when the module starts again", "error", err)
	}
	return err
}

// watch keeps the promise of being alive for as long as no picture has been
// with the recognizer for too long.
func (m *module) watch(ctx context.Context) error {
	const step = 10 * time.Second
	tick := time.NewTicker(step)
	defer tick.Stop()
	for {
		if since, ok := m.looking.oldest(); !ok || time.Since(since) < classifyTimeout+step {
			m.c.Alive(6 * step)
		} else {
			m.c.Log().Error("the recognizer does not return", "since", since)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// receive listens for cameras, again and again while that is not possible.
func (m *module) receive(ctx context.Context) error {
	pause, told := m.env.retryMin, ""
	for ctx.Err() == nil {
		began := time.Now()
		err := m.listen(ctx)
		if ctx.Err() != nil {
			break
		}
		m.c.Unhealthy(err)
		if err.Error() != told {
			told = err.Error()
			m.c.Log().Error("cameras cannot send pictures; trying again", "error", err)
		}
		if time.Since(began) > m.env.retryMax {
			pause, told = m.env.retryMin, ""
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
		pause = min(2*pause, m.env.retryMax)
	}
	return nil
}

// listen opens the port and serves cameras until that fails or ctx ends.
func (m *module) listen(ctx context.Context) error {
	password, err := m.password()
	if err != nil {
		return err
	}
	// Keep-alive probes find out about a camera that lost its power.
	config := net.ListenConfig{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 30 * time.Second, Interval: 10 * time.Second, Count: 3}}
	listener, err := config.Listen(ctx, "tcp", m.settings.Listen)
	if err != nil {
		return fmt.Errorf("listening for cameras: %w; end the program that uses the port, or choose another with the setting listen", err)
	}
	m.c.Healthy()
	m.c.Report(map[string]any{"listen": listener.Addr().String()})
	m.c.Log().Info("listening for cameras", "mqtt", listener.Addr().String(), "login", m.settings.User != "")
	return newBroker(m, password).serve(ctx, listener)
}

// password reads the password that cameras log in with.
func (m *module) password() (string, error) {
	file := m.settings.PasswordFile
	if file == "" {
		return "", nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("reading the cameras' password: %w; write it there, or name another file with the setting password_file", err)
	}
	password, _, _ := strings.Cut(string(text), "\n")
	password = strings.TrimSuffix(password, "\r")
	if password == "" {
		return "", fmt.Errorf("the first line of %s is empty; it has to be the cameras' password", file)
	}
	if info, err := os.Stat(file); err == nil && info.Mode().Perm()&0o077 != 0 {
		m.c.Log().Warn("other users of this machine can read the cameras' password", "file", file, "remedy", "chmod 600")
	}
	return password, nil
}
