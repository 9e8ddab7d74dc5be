package camera

import (
	"bytes"
	"image/jpeg"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"tuxwatch/drivers/v4l2/uapi"
	"tuxwatch/drivers/v4l2/v4l2test"
	"tuxwatch/firmware/edge"
	"tuxwatch/firmware/edge/edgetest"
	"tuxwatch/firmware/message"
)

func mkfifo(path string) error { return syscall.Mkfifo(path, 0o600) }

func newWebcam(t testing.TB) *v4l2test.Camera {
	compressed := photo(t, 1)
	return &v4l2test.Camera{
		Card: "HD Webcam C270", Bus: "usb-1.2",
		Formats: []v4l2test.Format{
			{Pixels: uapi.YUYV, Sizes: [][2]uint32{{32, 24}}},
			{Pixels: uapi.MJPG, Sizes: [][2]uint32{{32, 24}}},
		},
		Current: uapi.PixFormat{Width: 32, Height: 24, PixelFormat: uapi.MJPG, SizeImage: 8192},
		Picture: func(_ int, f uapi.PixFormat) []byte {
			if f.PixelFormat == uapi.YUYV {
				return bytes.Repeat([]byte{128}, int(f.BytesPerLine*f.Height))
			}
			return compressed
		},
	}
}

func v4l2Settings(change func(*Settings)) *Settings {
	return settings(func(s *Settings) {
		s.Source = SourceV4L2
		if change != nil {
			change(s)
		}
	})
}

// decodable checks that a message holds a picture that any decoder takes.
func decodable(t testing.TB, m message.Message) {
	t.Helper()
	if m.ContentType != "image/jpeg" {
		t.Errorf("content type %q", m.ContentType)
	}
	img, err := jpeg.Decode(bytes.NewReader(m.Body))
	if err != nil {
		t.Fatal(err)
	}
	if size := img.Bounds().Size(); size.X != 32 || size.Y != 24 {
		t.Errorf("a picture of %v", size)
	}
}

func TestWebcamInBothFormats(t *testing.T) {
	for format, want := range map[string]string{"auto": "MJPG", "mjpeg": "MJPG", "yuyv": "YUYV"} {
		t.Run(format, func(t *testing.T) {
			var system v4l2test.System
			camera := newWebcam(t)
			system.Plug("/dev/video0", camera)
			h := edgetest.Start(t, quick(&system), v4l2Settings(func(s *Settings) { s.Format = format }), fast)
			for range 3 {
				m := h.Next(Output)
				decodable(t, m)
				if want := "HD Webcam C270 on usb-1.2 (/dev/video0) " + want + " 32x24"; m.Properties[PropertySource] != want {
					t.Errorf("from %q, want %q", m.Properties[PropertySource], want)
				}
			}
			h.Stop()
			if nodes, buffers := camera.Left(); nodes != 0 || buffers != 0 {
				t.Errorf("%d nodes and %d buffers were not given back", nodes, buffers)
			}
		})
	}
}

// A camera that is unplugged comes back, under another number as well, and in
// the state in which its driver refuses to set a format.
func TestWebcamComesBack(t *testing.T) {
	var system v4l2test.System
	camera := newWebcam(t)
	h := edgetest.Start(t, quick(&system), v4l2Settings(func(s *Settings) { s.Device = "C270" }), fast)
	unhealthy := func(cause string) {
		t.Helper()
		h.Eventually(func(s edge.ModuleStatus) bool { return !s.Healthy && strings.Contains(s.Cause, cause) })
	}
	unhealthy("plug one in")
	system.Plug("/dev/video0", camera)
	decodable(t, h.Next(Output))

	system.Unplug("/dev/video0")
	unhealthy("no camera is called")
	camera.Break(v4l2test.Faults{SetFmt: unix.EINVAL})
	system.Plug("/dev/video1", camera)
	for !strings.Contains(h.Next(Output).Properties[PropertySource], "/dev/video1") {
	}
	h.Eventually(func(s edge.ModuleStatus) bool { return s.Healthy })

	camera.Break(v4l2test.Faults{DQBuf: unix.EIO, Open: unix.EBUSY})
	unhealthy("end that program")
	camera.Break(v4l2test.Faults{})
	h.Eventually(func(s edge.ModuleStatus) bool { return s.Healthy })

	s := h.Status()
	if s.Restarts != 0 || s.Counters["source_failures"] < 3 {
		t.Errorf("%+v", s)
	}
	h.Stop()
	if nodes, buffers := camera.Left(); nodes != 0 || buffers != 0 {
		t.Errorf("%d nodes and %d buffers were not given back", nodes, buffers)
	}
}

func TestWebcamStalls(t *testing.T) {
	var system v4l2test.System
	camera := newWebcam(t)
	camera.Break(v4l2test.Faults{Stalled: true})
	system.Plug("/dev/video0", camera)
	// Below what Validate allows, so that the test does not take a second.
	h := edgetest.Start(t, quick(&system), v4l2Settings(func(s *Settings) { s.StallTimeout = 1e6 }), fast)
	h.Eventually(func(s edge.ModuleStatus) bool {
		return !s.Healthy && strings.Contains(s.Cause, "delivers no pictures") && camera.Opens() >= 3
	})
	camera.Break(v4l2test.Faults{})
	h.Eventually(func(s edge.ModuleStatus) bool { return s.Healthy && s.Counters["frames_sent"] > 0 })
}

func TestWebcamDamagedPictures(t *testing.T) {
	var system v4l2test.System
	camera := newWebcam(t)
	whole, n := photo(t, 1), 0
	camera.Picture = func(int, uapi.PixFormat) []byte {
		if n++; n%2 == 0 {
			return whole[:len(whole)/2] // the driver did not notice
		}
		return whole
	}
	camera.Break(v4l2test.Faults{Damage: 3})
	system.Plug("/dev/video0", camera)
	h := edgetest.Start(t, quick(&system), v4l2Settings(nil), fast)
	for range 3 {
		decodable(t, h.Next(Output))
	}
	if got := h.Status().Counters["frames_damaged"]; got < 5 {
		t.Errorf("%d damaged pictures were counted, want at least 3 by the driver and 2 by their content", got)
	}
	h.Stop()

	camera.Picture = func(int, uapi.PixFormat) []byte { return []byte("noise") }
	h = edgetest.Start(t, quick(&system), v4l2Settings(nil), fast)
	h.Eventually(func(s edge.ModuleStatus) bool {
		return !s.Healthy && strings.Contains(s.Cause, "in a row") && strings.Contains(s.Cause, "another cable")
	})
}
