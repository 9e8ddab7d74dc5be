package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"time"

	"github.com/google/renameio/v2"
	"github.com/spf13/cobra"

	"tuxwatch/firmware/control"
	"tuxwatch/firmware/pictures"
)

// takePictures fills the two folders from the daemon's camera.
func takePictures(cmd *cobra.Command, f teachFlags) error {
	t := taker{
		out: cmd.ErrOrStderr(), frames: daemonFrames(f.socket, f.camera),
		number: f.number, countdown: f.countdown, interval: f.interval,
	}
	for i, dir := range []string{f.positive, f.negative} {
		if err := t.take(cmd.Context(), dir, f.labels[i], i == 0); err != nil {
			if cmd.Context().Err() != nil {
				return failed("stopped while taking pictures of %s; those taken are in %s", f.labels[i], pictures.Name(dir))
			}
			return failed("taking pictures of %s: %w", f.labels[i], err)
		}
	}
	return nil
}

// taker takes pictures of one thing after the other.
type taker struct {
	out       io.Writer
	frames    *frames
	number    int
	countdown time.Duration
	interval  time.Duration
}

// take counts down and takes the pictures of one kind.
func (t *taker) take(ctx context.Context, dir, label string, shows bool) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("making the folder: %w", err)
	}
	// Whether there is a camera at all is known before anyone has to pose.
	if _, err := t.frames.next(ctx); err != nil {
		return err
	}
	if shows {
		fmt.Fprintf(t.out, "Put what is to be recognized (%s) before the camera; move and turn it between the pictures.\n", label)
	} else {
		fmt.Fprintf(t.out, "Now take it away (%s): show what the camera sees without it, and what may be mistaken for it.\n", label)
	}
	if err := t.wait(ctx, t.countdown, true); err != nil {
		return err
	}
	for i := range t.number {
		if i > 0 {
			if err := t.wait(ctx, t.interval, false); err != nil {
				return err
			}
		}
		frame, err := t.frames.fresh(ctx)
		if err != nil {
			return err
		}
		path, err := saveFrame(dir, frame)
		if err != nil {
			return err
		}
		fmt.Fprintf(t.out, "%d of %d: %s\n", i+1, t.number, pictures.Name(path))
	}
	return nil
}

// wait lets time pass, the whole seconds told.
func (t *taker) wait(ctx context.Context, d time.Duration, tell bool) error {
	end := time.Now().Add(d)
	for {
		left := time.Until(end)
		if left <= 0 {
			return ctx.Err()
		}
		step := left
		if tell {
			seconds := math.Ceil(left.Seconds())
			fmt.Fprintf(t.out, "%.0f … ", seconds)
			step = left - time.Duration((seconds-1)*float64(time.Second))
		}
		select {
		case <-time.After(step):
		case <-ctx.Done():
			return ctx.Err()
		}
		if tell && time.Until(end) <= 0 {
			fmt.Fprintln(t.out)
		}
	}
}

// saveFrame writes a picture under the time that it was taken.
func saveFrame(dir string, frame *control.Frame) (string, error) {
	path := filepath.Join(dir, frameName(frame))
	if err := renameio.WriteFile(path, frame.Picture, 0o644); err != nil {
		return "", fmt.Errorf("keeping a picture: %w", err)
	}
	return path, nil
}

func frameName(frame *control.Frame) string {
	ending := ".jpg"
	if frame.ContentType == "image/png" {
		ending = ".png"
	}
	return frame.CaptureTime.UTC().Format("20060102-150405.000") + ending
}
