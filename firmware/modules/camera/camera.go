// Package camera is the module that takes pictures and sends them on its output
// "frames": from a USB camera, from the standard output of a program that writes
// Motion JPEG, or from a folder of pictures.
//
// A picture is sent when the one before has been dealt with. Meanwhile only the
// newest picture is kept: a slow recognizer sees fewer pictures, never old ones.
// The module does not look into pictures; a message's body is the encoded
// picture, its content type says which encoding.
//
//	source ── capture, at FramesPerSecond ── newest picture ── Send
//
// Start with [Kind].
package camera

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"tuxwatch/drivers/v4l2"
	"tuxwatch/drivers/v4l2/uapi"
	"tuxwatch/firmware/edge"
	"tuxwatch/firmware/message"
)

// Output is the name of the output that pictures leave on.
const Output = "frames"

// The application properties of a picture's message.
const (
	PropertySequence = "sequence"    // counts the pictures captured since the module started
	PropertySource   = "source"      // the file's name, the camera's or the program's
	PropertyTime     = "captureTime" // when it was captured, RFC 3339
)

// Where pictures come from, as the setting source names it.
const (
	SourceDirectory = "directory"
	SourceCommand   = "command"
	SourceV4L2      = "v4l2"
)

// Settings are fixed while the module runs.
type Settings struct {
	// Source is directory, command or v4l2.
	Source string `yaml:"source"`
	// Path is the folder of pictures, for the source directory.
	Path string `yaml:"path"`
	// Command is the program with its arguments, for the source command.
	Command []string `yaml:"command"`
	// Device is the camera, for the source v4l2: a path, udev's name of it, or
	// a part of its own name; empty for the first that there is.
	Device string `yaml:"device"`
	// Format is auto, mjpeg or yuyv: how a v4l2 camera delivers pictures.
	Format string `yaml:"format"`
	// Width and Height are the wanted size of a v4l2 camera's pictures, in
	// pixels.
	Width  int `yaml:"width"`
	Height int `yaml:"height"`
	// Quality, 1 to 100, is for pictures that are compressed here: a v4l2
	// camera's in the format yuyv.
	Quality int `yaml:"quality"`
	// MaxPictureBytes is the size of the largest picture that is taken.
	MaxPictureBytes int `yaml:"max_picture_bytes"`
	// StallTimeout is how long a camera or a program may take for a picture
	// before it is started again.
	StallTimeout time.Duration `yaml:"stall_timeout"`
}

// Validate names every setting that cannot work.
func (s *Settings) Validate() error {
	var errs []error
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	switch s.Source {
	case SourceDirectory:
		if s.Path == "" {
			wrong("path: name the folder that holds the pictures")
		}
	case SourceCommand:
		if len(s.Command) == 0 || s.Command[0] == "" {
			wrong("command: name a program that writes Motion JPEG to its standard output, as a list: [rpicam-vid, --codec, mjpeg, --timeout, \"0\", --output, \"-\"]")
		}
	case SourceV4L2:
		switch v4l2.Encoding(s.Format) {
		case v4l2.Auto, v4l2.MJPEG, v4l2.YUYV:
		default:
			wrong("format: %q is not one of auto, mjpeg, yuyv", s.Format)
		}
		if s.Width < 1 || s.Width > 8192 || s.Height < 1 || s.Height > 8192 {
			wrong("width, height: %dx%d is not between 1x1 and 8192x8192", s.Width, s.Height)
		}
		if s.Quality < 1 || s.Quality > 100 {
			wrong("quality: %d is not between 1 and 100", s.Quality)
		}
	default:
		wrong("source: %q is not one of directory, command, v4l2", s.Source)
	}
	if s.MaxPictureBytes < 1024 || s.MaxPictureBytes > 64<<20 {
		wrong("max_picture_bytes: %d is not between 1024 and %d", s.MaxPictureBytes, 64<<20)
	}
	if s.StallTimeout < time.Second || s.StallTimeout > 10*time.Minute {
		wrong("stall_timeout: %v is not between 1s and 10m", s.StallTimeout)
	}
	return errors.Join(errs...)
}

// maxFramesPerSecond is more than any recognizer on a Pi keeps up with.
const maxFramesPerSecond = 30

// Properties are the desired properties.
type Properties struct {
	// FramesPerSecond is how many pictures to take in a second, at most 30; it
	// may be a fraction. 0 pauses.
	FramesPerSecond float64 `json:"FramesPerSecond"`
}

// Validate checks that the pace can be kept.
func (p *Properties) Validate() error {
	if !(p.FramesPerSecond >= 0 && p.FramesPerSecond <= maxFramesPerSecond) {
		return fmt.Errorf("FramesPerSecond: %v is not between 0 (pause) and %d", p.FramesPerSecond, maxFramesPerSecond)
	}
	return nil
}

// Kind describes the module.
func Kind() edge.Kind {
	return kind(environment{
		cameras:  uapi.Linux{},
		retryMin: 500 * time.Millisecond,
		retryMax: 30 * time.Second,
		grace:    time.Second,
	})
}

// environment is what tests put something else in place of.
type environment struct {
	cameras            uapi.System
	retryMin, retryMax time.Duration // pause before a source is opened again
	grace              time.Duration // for a program to end by itself
}

func kind(env environment) edge.Kind {
	return edge.Kind{
		Name:    "camera",
		Summary: "takes pictures from a USB camera, a program or a folder",
		Settings: func() any {
			return &Settings{
				Source: SourceDirectory, Path: "/var/lib/tuxwatch/pictures", Format: string(v4l2.Auto),
				Width: 640, Height: 480, Quality: 90, MaxPictureBytes: 10 << 20, StallTimeout: 10 * time.Second,
			}
		},
		Properties: func() any { return &Properties{FramesPerSecond: 1} },
		Outputs:    []string{Output},
		Methods:    []string{MethodSnapshot},
		New: func(settings any) (edge.Module, error) {
			return &module{settings: *settings.(*Settings), env: env, pace: newPace(time.Now)}, nil
		},
	}
}

// picture is an encoded picture on its way.
type picture struct {
	body        []byte
	contentType string
	source      string
	sequence    int
	captured    time.Time
}

// source is where pictures come from.
type source interface {
	// next waits for a picture: one captured after the call, or the next in
	// turn. After an error the source has to be closed and opened again.
	next(ctx context.Context) (picture, error)
	close()
}

type module struct {
	settings Settings
	env      environment
	pace     *pace
	newest   slot
	latest   latest
}

// Run takes and sends pictures until ctx ends.
func (m *module) Run(ctx context.Context, c *edge.Client) error {
	c.HandleDesired(func(_ context.Context, properties any) error {
		m.pace.set(properties.(*Properties).FramesPerSecond)
		return nil
	})
	m.latest.serve(c)
	m.newest.ready = make(chan struct{}, 1)
	c.Ready()
	c.Go(func(ctx context.Context) error { return m.send(ctx, c) })
	return m.capture(ctx, c)
}

// open opens the source that the settings name.
func (m *module) open(ctx context.Context, c *edge.Client) (source, error) {
	s := &m.settings
	switch s.Source {
	case SourceDirectory:
		return openDirectory(s.Path, s.MaxPictureBytes, c)
	case SourceCommand:
		return startCommand(s.Command, s.MaxPictureBytes, s.StallTimeout, m.env.grace, c)
	case SourceV4L2:
		return openCamera(m.env.cameras, s, c)
	}
	return nil, fmt.Errorf("unknown source %q", s.Source) // Validate refuses it
}

// capture takes pictures, and opens the source again when it fails: a camera
// comes back when it is plugged in again, a folder when it is filled.
func (m *module) capture(ctx context.Context, c *edge.Client) error {
	pause := m.env.retryMin
	told := ""
	for sequence := 0; ; {
		before := sequence
		err := m.captureFrom(ctx, c, &sequence)
		if ctx.Err() != nil {
			return nil
		}
		c.Unhealthy(err)
		c.Count("source_failures", 1)
		if err.Error() != told {
			told = err.Error()
			c.Log().Warn("no pictures; trying again", "error", err)
		}
		if sequence > before {
			pause, told = m.env.retryMin, ""
		}
		// Jitter keeps several cameras on one hub from starting all at once.
		wait := pause/2 + rand.N(pause)
		c.Alive(wait + time.Minute)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil
		}
		pause = min(2*pause, m.env.retryMax)
	}
}

// captureFrom opens the source and takes pictures until it fails.
func (m *module) captureFrom(ctx context.Context, c *edge.Client, sequence *int) error {
	src, err := m.open(ctx, c)
	if err != nil {
		return err
	}
	defer src.close()
	for first := true; ; first = false {
		if err := m.pace.wait(ctx, c.Alive); err != nil {
			return err
		}
		// next gives up after the stall timeout; the rest is for a busy machine.
		c.Alive(m.settings.StallTimeout + time.Minute)
		p, err := src.next(ctx)
		if err != nil {
			return err
		}
		if first {
			c.Log().Info("taking pictures", "source", src)
		}
		c.Healthy()
		c.Count("frames_captured", 1)
		p.sequence = *sequence
		*sequence++
		m.latest.p.Store(&p)
		if m.newest.put(p) {
			c.Count("frames_dropped", 1)
		}
	}
}

// send sends the newest picture, again and again.
func (m *module) send(ctx context.Context, c *edge.Client) error {
	refused := false
	for {
		p, err := m.newest.take(ctx)
		if err != nil {
			return nil
		}
		err = c.Send(ctx, Output, message.Message{
			Body:        p.body,
			ContentType: p.contentType,
			Created:     p.captured,
			Properties: map[string]string{
				PropertySequence: strconv.Itoa(p.sequence),
				PropertySource:   p.source,
				PropertyTime:     p.captured.UTC().Format(time.RFC3339Nano),
			},
		})
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil:
			c.Count("frames_sent", 1)
			if refused {
				c.Log().Info("pictures are taken again")
			}
		default:
			// A picture is not worth repeating: the next one is newer.
			c.Count("frames_refused", 1)
			if !refused {
				c.Log().Warn("a picture was not taken; going on with newer ones", "error", err)
			}
		}
		refused = err != nil
	}
}
