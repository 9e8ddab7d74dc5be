package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"tuxwatch/firmware/control"
)

// camera is where pictures come from, one by one; a control.Client is one.
type camera interface {
	// Frame gives the newest picture of the camera, nil while there is none
	// newer than after.
	Frame(ctx context.Context, name string, after time.Time) (*control.Frame, error)
}

// frames reads new pictures of the daemon's camera, as they come.
type frames struct {
	camera camera
	name   string
	after  time.Time
	// pause is how long to wait before asking again.
	pause time.Duration
	// patience is how long a camera may give nothing new.
	patience time.Duration
}

const (
	framePause    = 100 * time.Millisecond
	framePatience = 30 * time.Second
)

func daemonFrames(socket, name string) *frames {
	return &frames{camera: control.Client{Socket: socket}, name: name, pause: framePause, patience: framePatience}
}

// next waits for a picture that it has not given yet. The first one may have
// been taken before.
func (f *frames) next(ctx context.Context) (*control.Frame, error) {
	deadline := time.Now().Add(f.patience)
	for {
		frame, err := f.camera.Frame(ctx, f.name, f.after)
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case errors.Is(err, control.ErrNoPicture):
			// It may be starting.
		case err != nil:
			return nil, explainCamera(err)
		case frame != nil:
			f.after = frame.CaptureTime
			return frame, nil
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("the camera %s has given no new picture for %v; tuxwatch status tells how it is (is its FramesPerSecond 0?)", f.name, f.patience)
		}
		select {
		case <-time.After(f.pause):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// fresh waits for a picture that is taken from now on.
func (f *frames) fresh(ctx context.Context) (*control.Frame, error) {
	f.after = time.Now()
	return f.next(ctx)
}

// explainCamera says what to do about an error.
func explainCamera(err error) error {
	switch {
	case errors.Is(err, control.ErrNotRunning):
		return fmt.Errorf("%w; pictures come from its camera: start it with sudo systemctl start tuxwatchd, or say where it is with --socket", err)
	case errors.Is(err, control.ErrNoCamera):
		return fmt.Errorf("%w; name its module with --camera (tuxwatch status lists the modules)", err)
	}
	return err
}
