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
// Start with [Kind].
package imagereceiver

import (
	"context"
	"errors"
	"fmt"
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

// Settings are fixed while the module runs.
type Settings struct {
	// Listen is the address and port that cameras connect to. Beyond the
	// loopback interface it needs User and PasswordFile, or Anonymous.
	Listen string `yaml:"listen"`
	// User and PasswordFile are what cameras have to log in with; the password
	// is the file's first line.
	User         string `yaml:"user"`
	PasswordFile string `yaml:"password_file"`
	// Anonymous lets anyone who reaches Listen send pictures.
	Anonymous bool `yaml:"anonymous"`
	// MaxPictureBytes is the size of the largest picture, before base64.
	MaxPictureBytes int `yaml:"max_picture_bytes"`
	// MaxConnections is how many cameras may be connected.
	MaxConnections int `yaml:"max_connections"`
	// MaxPicturesPerSecond is how many pictures one camera may send; more are
	// delayed by not reading from its connection.
	MaxPicturesPerSecond float64 `yaml:"max_pictures_per_second"`
	// BusyTimeout is how long a picture waits for a recognizer that is busy or
	// has no model before it is dropped, and an alert for the outbox.
	BusyTimeout time.Duration `yaml:"busy_timeout"`
}

// Validate names every setting that cannot work.
func (s *Settings) Validate() error {
	var errs []error
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	host, _, err := net.SplitHostPort(s.Listen)
	switch {
	case err != nil:
		wrong("listen: %w; write address:port, as in 127.0.0.1:1888", err)
	case (s.User == "") != (s.PasswordFile == ""):
		wrong("user, password_file: one is of no use without the other")
	case !loopback(host) && s.User == "" && !s.Anonymous:
		wrong("listen: %s can be reached from other machines; set user and password_file, or anonymous: true to let anyone send pictures", s.Listen)
	}
	if s.MaxPictureBytes < 1024 || s.MaxPictureBytes > 64<<20 {
		wrong("max_picture_bytes: %d is not between 1024 and %d", s.MaxPictureBytes, 64<<20)
	}
	if s.MaxConnections < 1 || s.MaxConnections > 1000 {
		wrong("max_connections: %d is not between 1 and 1000", s.MaxConnections)
	}
	if !(s.MaxPicturesPerSecond > 0 && s.MaxPicturesPerSecond <= 1000) {
		wrong("max_pictures_per_second: %v is not above 0 and at most 1000", s.MaxPicturesPerSecond)
	}
	if s.BusyTimeout < 0 || s.BusyTimeout > 5*time.Minute {
		wrong("busy_timeout: %v is not between 0 and 5m", s.BusyTimeout)
	}
	return errors.Join(errs...)
}

// loopback reports whether a host is reachable from this machine only.
func loopback(host string) bool {
	ip := net.ParseIP(host)
	return strings.EqualFold(host, "localhost") || ip != nil && ip.IsLoopback()
}

// Properties are the desired properties.
type Properties struct {
	// Label is what the best prediction has to be for an alert.
	Label string `json:"Label"`
	// Threshold is what its probability has to be above, 0 to 1.
	Threshold float64 `json:"Threshold"`
}

// Validate checks that there can be alerts.
func (p *Properties) Validate() error {
	if strings.TrimSpace(p.Label) == "" {
		return errors.New("the Label is empty: name one of the model's labels, such as penguin")
	}
	if !(p.Threshold >= 0 && p.Threshold < 1) {
		return fmt.Errorf("the Threshold %v is not a probability from 0 to below 1", p.Threshold)
	}
	return nil
}

// Kind describes the module; classifier answers for its pictures.
func Kind(classifier Classifier) edge.Kind {
	return kind(classifier, environment{
		retryMin: time.Second, retryMax: 30 * time.Second, pause: 100 * time.Millisecond,
		connectTimeout: 10 * time.Second, packetTimeout: time.Minute, writeTimeout: 10 * time.Second,
	})
}

// environment is what tests make shorter.
type environment struct {
	retryMin, retryMax time.Duration // pause before listening is tried again
	pause              time.Duration // before the recognizer or the outbox is asked again
	connectTimeout     time.Duration // for a new connection to say who it is
	packetTimeout      time.Duration // for a packet to arrive once it has begun
	writeTimeout       time.Duration // for a client to take an acknowledgement
}

func kind(classifier Classifier, env environment) edge.Kind {
	return edge.Kind{
		Name:    "imagereceiver",
		Summary: "takes pictures over MQTT and alerts where the recognizer sees a penguin",
		Settings: func() any {
			return &Settings{
				Listen: "127.0.0.1:1888", MaxPictureBytes: vision.DefaultMaxBytes, MaxConnections: 16,
				MaxPicturesPerSecond: 10, BusyTimeout: 10 * time.Second,
			}
		},
		Properties: func() any { return &Properties{Label: "penguin", Threshold: 0.5} },
		Inputs:     []string{Input},
		Outputs:    []string{Output},
		New: func(settings any) (edge.Module, error) {
			return &module{settings: *settings.(*Settings), classifier: classifier, env: env}, nil
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
		return m.take(ctx, in.Body, origin{camera: in.Source.Module, received: time.Now()})
	})
	c.Go(m.watch)
	c.Ready()
	return m.receive(ctx)
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
