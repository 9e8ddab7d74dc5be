package camera

import (
	"context"
	"errors"
	"fmt"

	"tuxwatch/drivers/mjpeg"
	"tuxwatch/drivers/v4l2"
	"tuxwatch/drivers/v4l2/uapi"
	"tuxwatch/firmware/edge"
)

// webcam takes pictures from a USB camera.
type webcam struct {
	dev     *v4l2.Dev
	quality int
	max     int
	c       *edge.Client
	name    string
	buf     []byte
	damaged int // counted so far
}

func openCamera(system uapi.System, s *Settings, c *edge.Client) (*webcam, error) {
	dev, err := v4l2.New(system, &v4l2.Opts{
		Device:       s.Device,
		Size:         v4l2.Size{Width: s.Width, Height: s.Height},
		Encoding:     v4l2.Encoding(s.Format),
		StallTimeout: s.StallTimeout,
	})
	if err != nil {
		return nil, fmt.Errorf("opening the camera: %w%s", err, remedy(err))
	}
	return &webcam{dev: dev, quality: s.Quality, max: s.MaxPictureBytes, c: c, name: dev.String()}, nil
}

// remedy says what to do about an error that does not say so itself.
func remedy(err error) string {
	switch {
	case errors.Is(err, v4l2.ErrBusy): // first: it may be why none was found
		return "; end that program, or name another camera with the setting device"
	case errors.Is(err, v4l2.ErrNotFound):
		return "; plug one in, or name another with the setting device"
	}
	return ""
}

func (w *webcam) String() string { return w.name }

func (w *webcam) close() {
	if err := w.dev.Halt(); err != nil {
		w.c.Log().Debug("closing the camera", "error", err)
	}
}

// damagedInARow is how many pictures may arrive damaged before the camera is
// started again.
const damagedInARow = 30

func (w *webcam) next(ctx context.Context) (picture, error) {
	var damage *mjpeg.DamageError
	for range damagedInARow {
		frame, err := w.dev.Frame(ctx, w.buf)
		if err != nil {
			w.count(w.dev.Stats().Damaged)
			return picture{}, fmt.Errorf("taking a picture: %w", err)
		}
		w.buf = frame.Data
		body, err := frame.JPEG(w.quality)
		if err == nil && len(body) > w.max {
			return picture{}, fmt.Errorf("the picture from %s has %d bytes, more than max_picture_bytes (%d) allows; choose a smaller size", w.name, len(body), w.max)
		}
		w.count(w.dev.Stats().Damaged)
		if err == nil {
			return picture{body: body, contentType: "image/jpeg", source: w.name, captured: frame.Time}, nil
		}
		if !errors.As(err, &damage) {
			return picture{}, err
		}
		w.c.Count("frames_damaged", 1)
	}
	return picture{}, fmt.Errorf("%d pictures in a row from %s are damaged, the last: %w; try another cable, port or format", damagedInARow, w.name, damage)
}

// count counts the pictures that the driver marked as damaged.
func (w *webcam) count(total int) {
	if total > w.damaged {
		w.c.Count("frames_damaged", total-w.damaged)
		w.damaged = total
	}
}
