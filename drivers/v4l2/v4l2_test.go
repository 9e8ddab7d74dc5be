package v4l2_test

import (
	"bytes"
	"context"
	"errors"
	"image"
	"image/color"
	"image/jpeg"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tuxwatch/drivers/mjpeg"
	"tuxwatch/drivers/v4l2"
	"tuxwatch/drivers/v4l2/uapi"
	"tuxwatch/drivers/v4l2/v4l2test"
)

// compressed is a picture as a camera compresses it, number n marked in its
// brightness.
func compressed(t testing.TB, n int, w, h int) []byte {
	t.Helper()
	img := image.NewYCbCr(image.Rect(0, 0, w, h), image.YCbCrSubsampleRatio422)
	for i := range img.Y {
		img.Y[i] = byte(16 + n)
	}
	for i := range img.Cb {
		img.Cb[i], img.Cr[i] = 128, 128
	}
	var b bytes.Buffer
	if err := jpeg.Encode(&b, img, nil); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// webcam is a camera such as people buy.
func webcam(t testing.TB) *v4l2test.Camera {
	return &v4l2test.Camera{
		Card: "HD Webcam C270", Bus: "usb-0000:01:00.0-1.2",
		Formats: []v4l2test.Format{
			{Pixels: uapi.YUYV, Sizes: [][2]uint32{{640, 480}, {160, 120}, {1280, 720}}},
			{Pixels: uapi.MJPG, Sizes: [][2]uint32{{640, 480}, {320, 240}, {1280, 720}}},
		},
		Picture: func(n int, f uapi.PixFormat) []byte {
			if f.PixelFormat == uapi.YUYV {
				return bytes.Repeat([]byte{byte(16 + n), 128, byte(16 + n), 128}, int(f.BytesPerLine*f.Height/4))
			}
			return append(compressed(t, n, int(f.Width), int(f.Height)), make([]byte, 100)...)
		},
	}
}

func options(change func(*v4l2.Opts)) *v4l2.Opts {
	o := v4l2.DefaultOpts
	if change != nil {
		change(&o)
	}
	return &o
}

// open opens the camera at /dev/video0 and checks at the end that everything
// was given back.
func open(t *testing.T, c *v4l2test.Camera, o *v4l2.Opts) *v4l2.Dev {
	t.Helper()
	var system v4l2test.System
	system.Plug("/dev/video0", c)
	d, err := v4l2.New(&system, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Halt(); err != nil {
			t.Error(err)
		}
		if nodes, buffers := c.Left(); nodes != 0 || buffers != 0 {
			t.Errorf("%d nodes and %d buffers were not given back", nodes, buffers)
		}
	})
	return d
}

func TestNegotiation(t *testing.T) {
	steps := [6]uint32{32, 2592, 32, 16, 1944, 8}
	for _, c := range []struct {
		name    string
		formats []v4l2test.Format
		opts    v4l2.Opts
		want    string
	}{
		{"MJPEG by itself", webcam(t).Formats, v4l2.Opts{Size: v4l2.Size{640, 480}, Encoding: v4l2.Auto}, "MJPG 640x480"},
		{"YUYV when asked", webcam(t).Formats, v4l2.Opts{Size: v4l2.Size{640, 480}, Encoding: v4l2.YUYV}, "YUYV 640x480"},
		{"the nearest discrete size, smaller", webcam(t).Formats, v4l2.Opts{Size: v4l2.Size{350, 250}, Encoding: v4l2.MJPEG}, "MJPG 320x240"},
		{"the nearest discrete size, larger", webcam(t).Formats, v4l2.Opts{Size: v4l2.Size{1920, 1080}, Encoding: v4l2.Auto}, "MJPG 1280x720"},
		{"the nearest step", []v4l2test.Format{{Pixels: uapi.YUYV, Steps: &steps}}, v4l2.Opts{Size: v4l2.Size{641, 483}, Encoding: v4l2.Auto}, "YUYV 640x480"},
		{"a step below the least", []v4l2test.Format{{Pixels: uapi.YUYV, Steps: &steps}}, v4l2.Opts{Size: v4l2.Size{1, 1}, Encoding: v4l2.Auto}, "YUYV 32x16"},
		{"a step above the greatest", []v4l2test.Format{{Pixels: uapi.YUYV, Steps: &steps}}, v4l2.Opts{Size: v4l2.Size{9000, 9000}, Encoding: v4l2.Auto}, "YUYV 2592x1944"},
		{"a driver that does not tell sizes", []v4l2test.Format{{Pixels: uapi.YUYV, Sizes: [][2]uint32{{1280, 720}}, Hidden: true}}, v4l2.Opts{Size: v4l2.Size{640, 480}, Encoding: v4l2.Auto}, "YUYV 1280x720"},
		{"unknown formats are passed over", []v4l2test.Format{{Pixels: 0x3132564e, Sizes: [][2]uint32{{8, 8}}}, {Pixels: uapi.YUYV, Sizes: [][2]uint32{{64, 48}}}}, v4l2.Opts{Size: v4l2.Size{640, 480}, Encoding: v4l2.Auto}, "YUYV 64x48"},
		{"JFIF is as good as MJPEG", []v4l2test.Format{{Pixels: uapi.JPEG, Sizes: [][2]uint32{{64, 48}}}}, v4l2.Opts{Size: v4l2.Size{640, 480}, Encoding: v4l2.MJPEG}, "JPEG 64x48"},
	} {
		t.Run(c.name, func(t *testing.T) {
			camera := webcam(t)
			camera.Formats = c.formats
			c.opts.StallTimeout = 5 * time.Second
			d := open(t, camera, &c.opts)
			if want := "HD Webcam C270 on usb-0000:01:00.0-1.2 (/dev/video0) " + c.want; d.String() != want {
				t.Errorf("got  %s\nwant %s", d, want)
			}
		})
	}
}

func TestNegotiationFails(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*v4l2test.Camera)
		opts   func(*v4l2.Opts)
		is     error
		want   string
	}{
		{"no usable format", func(c *v4l2test.Camera) { c.Formats = []v4l2test.Format{{Pixels: 'R' | 'G'<<8 | '1'<<16 | '0'<<24}} }, nil, v4l2.ErrNoFormat, "wanted auto, the camera has RG10"},
		{"no format at all", func(c *v4l2test.Camera) { c.Formats = nil }, nil, v4l2.ErrNoFormat, "the camera has none"},
		{"not the wanted format", func(c *v4l2test.Camera) { c.Formats = c.Formats[:1] }, func(o *v4l2.Opts) { o.Encoding = v4l2.MJPEG }, v4l2.ErrNoFormat, "let the format be auto"},
		{"the driver answers with another format", func(c *v4l2test.Camera) { c.Break(v4l2test.Faults{SetFmtPixels: 'N' | 'V'<<8}) }, nil, v4l2.ErrNoFormat, "answered MJPG 640x480 with NV??"},
		{"a size of nothing", func(c *v4l2test.Camera) {
			c.Formats = []v4l2test.Format{{Pixels: uapi.MJPG, Sizes: [][2]uint32{{0, 0}}}}
		}, nil, v4l2.ErrNoFormat, "size of 0x0"},
		{"YUYV of an odd width", func(c *v4l2test.Camera) {
			c.Formats = []v4l2test.Format{{Pixels: uapi.YUYV, Sizes: [][2]uint32{{33, 2}}}}
		}, nil, v4l2.ErrNoFormat, "width 33"},
		{"in use when the format is set", func(c *v4l2test.Camera) { c.Break(v4l2test.Faults{SetFmt: unix.EBUSY}) }, nil, v4l2.ErrBusy, "another program"},
		{"in use when opened", func(c *v4l2test.Camera) { c.Break(v4l2test.Faults{Open: unix.EBUSY}) }, nil, v4l2.ErrBusy, "another program"},
		{"not permitted", func(c *v4l2test.Camera) { c.Break(v4l2test.Faults{Open: unix.EACCES}) }, nil, unix.EACCES, "group video"},
		{"no bandwidth", func(c *v4l2test.Camera) { c.Break(v4l2test.Faults{StreamOn: unix.ENOSPC}) }, nil, unix.ENOSPC, "smaller size"},
		{"no memory", func(c *v4l2test.Camera) { c.Break(v4l2test.Faults{NoMemory: true}) }, nil, nil, "no memory for buffers"},
		{"streaming refused", func(c *v4l2test.Camera) { c.Break(v4l2test.Faults{StreamOn: unix.EIO}) }, nil, unix.EIO, "VIDIOC_STREAMON"},
		{"a metadata node", func(c *v4l2test.Camera) {
			c.Caps, c.DeviceCaps = uapi.CapDeviceCaps|uapi.CapVideoCapture|uapi.CapStreaming, 0x00800000|uapi.CapStreaming
		}, nil, v4l2.ErrNoFormat, "does not capture video"},
		{"a camera module", func(c *v4l2test.Camera) { c.Caps = uapi.CapVideoCaptureMplane | uapi.CapStreaming }, nil, v4l2.ErrNoFormat, "rpicam-vid"},
		{"no streaming", func(c *v4l2test.Camera) { c.Caps = uapi.CapVideoCapture }, nil, v4l2.ErrNoFormat, "does not stream"},
	} {
		t.Run(c.name, func(t *testing.T) {
			camera := webcam(t)
			c.change(camera)
			var system v4l2test.System
			system.Plug("/dev/video0", camera)
			o := options(func(o *v4l2.Opts) { o.Device = "/dev/video0" })
			if c.opts != nil {
				c.opts(o)
			}
			d, err := v4l2.New(&system, o)
			if err == nil {
				t.Fatalf("opened %v", d)
			}
			if c.is != nil && !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %q, want %v and %q", err, c.is, c.want)
			}
			if nodes, buffers := camera.Left(); nodes != 0 || buffers != 0 {
				t.Errorf("%d nodes and %d buffers were not given back", nodes, buffers)
			}
		})
	}
}

// Some drivers answer every S_FMT with EINVAL after a reset.
func TestStreamsInTheFormatThereIs(t *testing.T) {
	camera := webcam(t)
	camera.Current = uapi.PixFormat{Width: 320, Height: 240, PixelFormat: uapi.MJPG, SizeImage: 65536}
	camera.Break(v4l2test.Faults{SetFmt: unix.EINVAL})
	d := open(t, camera, options(nil))
	if !strings.HasSuffix(d.String(), "MJPG 320x240") {
		t.Error(d)
	}
	if _, err := d.Frame(t.Context(), nil); err != nil {
		t.Error(err)
	}
	camera = webcam(t)
	camera.Break(v4l2test.Faults{SetFmt: unix.EINVAL})
	var system v4l2test.System
	system.Plug("/dev/video0", camera)
	if _, err := v4l2.New(&system, options(nil)); !errors.Is(err, v4l2.ErrNoFormat) && !errors.Is(err, unix.EINVAL) {
		t.Errorf("no current format: %v", err)
	}
}

func TestFind(t *testing.T) {
	first, second := webcam(t), webcam(t)
	second.Card, second.Bus = "Microsoft LifeCam", "usb-0000:01:00.0-1.4"
	meta := webcam(t)
	meta.Caps = 0x00800000
	var system v4l2test.System
	if _, err := v4l2.New(&system, options(nil)); !errors.Is(err, v4l2.ErrNotFound) || !strings.Contains(err.Error(), "no /dev/video*") {
		t.Errorf("no camera: %v", err)
	}
	system.Plug("/dev/video1", meta)
	system.Plug("/dev/video0", first, "usb-C270-video-index0")
	system.Plug("/dev/video2", second)
	for device, want := range map[string]string{
		"":                      "/dev/video0",
		"/dev/video2":           "/dev/video2",
		"lifecam":               "/dev/video2",
		"usb-0000:01:00.0-1.4":  "/dev/video2",
		"usb-C270-video-index0": "/dev/video0",
	} {
		d, err := v4l2.New(&system, options(func(o *v4l2.Opts) { o.Device = device }))
		if err != nil {
			t.Errorf("%q: %v", device, err)
			continue
		}
		if !strings.Contains(d.String(), "("+want+")") {
			t.Errorf("%q is %v, want %s", device, d, want)
		}
		d.Halt()
	}
	_, err := v4l2.New(&system, options(func(o *v4l2.Opts) { o.Device = "Logitech" }))
	if !errors.Is(err, v4l2.ErrNotFound) || !strings.Contains(err.Error(), `"Microsoft LifeCam on`) {
		t.Errorf("a name that no camera has: %v", err)
	}
	if _, err := v4l2.New(&system, options(func(o *v4l2.Opts) { o.Device = "/dev/video9" })); !errors.Is(err, v4l2.ErrNotFound) {
		t.Errorf("a path that is not there: %v", err)
	}
	for _, c := range []*v4l2test.Camera{first, second, meta} {
		if nodes, _ := c.Left(); nodes != 0 {
			t.Errorf("%s is still open", c.Card)
		}
	}
}

// A picture asked for late is a new one, not one that waited in the driver.
func TestFrameIsFresh(t *testing.T) {
	camera := webcam(t)
	camera.Manual = true
	d := open(t, camera, options(nil))
	camera.Shoot(7) // four fill the buffers, three are lost
	taken := make(chan v4l2.Frame, 1)
	failed := make(chan error, 1)
	go func() {
		f, err := d.Frame(context.Background(), nil)
		if err != nil {
			failed <- err
			return
		}
		taken <- f
	}()
	for {
		camera.Shoot(1)
		select {
		case f := <-taken:
			if f.Sequence < 7 {
				t.Errorf("picture %d was taken before it was asked for", f.Sequence)
			}
			return
		case err := <-failed:
			t.Fatal(err)
		case <-time.After(time.Millisecond):
		}
	}
}

func TestFramesInARow(t *testing.T) {
	camera := webcam(t)
	d := open(t, camera, options(func(o *v4l2.Opts) { o.Size = v4l2.Size{320, 240} }))
	buf := make([]byte, 0, 1<<20)
	last := -1
	for range 20 {
		f, err := d.Frame(t.Context(), buf)
		if err != nil {
			t.Fatal(err)
		}
		if int(f.Sequence) <= last {
			t.Fatalf("picture %d after %d", f.Sequence, last)
		}
		last = int(f.Sequence)
		if &f.Data[0] != &buf[:1][0] {
			t.Fatal("the buffer was not used")
		}
		picture, err := f.JPEG(0)
		if err != nil {
			t.Fatal(err)
		}
		img, err := jpeg.Decode(bytes.NewReader(picture))
		if err != nil {
			t.Fatal(err)
		}
		if got, want := int(img.(*image.YCbCr).Y[0]), 16+int(f.Sequence); abs(got-want) > 2 {
			t.Fatalf("picture %d is of brightness %d, want %d", f.Sequence, got, want)
		}
	}
	if d.Stats().Frames != 20 {
		t.Errorf("%+v", d.Stats())
	}
}

func abs(n int) int { return max(n, -n) }

func TestDamagedBuffersAreCountedAndPassedOver(t *testing.T) {
	camera := webcam(t)
	camera.Break(v4l2test.Faults{Damage: 6, Empty: 3})
	d := open(t, camera, options(nil))
	f, err := d.Frame(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if f.Sequence < 9 || d.Stats().Damaged != 9 {
		t.Errorf("picture %d, %+v", f.Sequence, d.Stats())
	}
}

func TestStall(t *testing.T) {
	camera := webcam(t)
	d := open(t, camera, options(func(o *v4l2.Opts) { o.StallTimeout = 20 * time.Millisecond }))
	camera.Break(v4l2test.Faults{Stalled: true})
	if _, err := d.Frame(t.Context(), nil); !errors.Is(err, v4l2.ErrStalled) || !strings.Contains(err.Error(), "20ms") {
		t.Errorf("stalled: %v", err)
	}
	// A camera that sends nothing but damaged pictures is as good as stalled.
	camera.Break(v4l2test.Faults{Damage: 1 << 30})
	if _, err := d.Frame(t.Context(), nil); !errors.Is(err, v4l2.ErrStalled) {
		t.Errorf("only damaged pictures: %v", err)
	}
	// A device in error polls as ready, and has nothing.
	camera.Break(v4l2test.Faults{DQBuf: unix.EAGAIN})
	if _, err := d.Frame(t.Context(), nil); !errors.Is(err, v4l2.ErrStalled) {
		t.Errorf("ready without a buffer: %v", err)
	}
}

func TestFrameEndsWithItsContext(t *testing.T) {
	camera := webcam(t)
	d := open(t, camera, options(func(o *v4l2.Opts) { o.StallTimeout = time.Hour }))
	camera.Break(v4l2test.Faults{Stalled: true})
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := d.Frame(ctx, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

func TestUnplugged(t *testing.T) {
	camera := webcam(t)
	var system v4l2test.System
	system.Plug("/dev/video0", camera)
	d, err := v4l2.New(&system, options(nil))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Frame(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	system.Unplug("/dev/video0")
	if _, err := d.Frame(t.Context(), nil); !errors.Is(err, v4l2.ErrUnplugged) {
		t.Errorf("unplugged: %v", err)
	}
	// The name can be used at once for the next camera.
	system.Plug("/dev/video0", camera)
	if err := d.Halt(); err != nil {
		t.Error(err)
	}
	if _, err := d.Frame(t.Context(), nil); err == nil {
		t.Error("a picture after Halt")
	}
	if err := d.Halt(); err != nil {
		t.Errorf("Halt again: %v", err)
	}
	d, err = v4l2.New(&system, options(nil))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Frame(t.Context(), nil); err != nil {
		t.Error(err)
	}
	d.Halt()
	if nodes, buffers := camera.Left(); nodes != 0 || buffers != 0 {
		t.Errorf("%d nodes and %d buffers were not given back", nodes, buffers)
	}
}

func TestStreamError(t *testing.T) {
	camera := webcam(t)
	d := open(t, camera, options(nil))
	camera.Break(v4l2test.Faults{DQBuf: unix.EIO})
	if _, err := d.Frame(t.Context(), nil); !errors.Is(err, unix.EIO) || !strings.Contains(err.Error(), "C270") {
		t.Error(err)
	}
}

// The primary colours, in both ranges, come out of YUYV as themselves.
func TestYUYVColours(t *testing.T) {
	for name, c := range map[string]struct {
		full          bool
		stride        uint32
		y, cb, y2, cr byte
		want          color.RGBA
	}{
		"limited white": {false, 0, 235, 128, 235, 128, color.RGBA{255, 255, 255, 255}},
		"limited black": {false, 0, 16, 128, 16, 128, color.RGBA{0, 0, 0, 255}},
		"below black":   {false, 0, 0, 128, 0, 128, color.RGBA{0, 0, 0, 255}},
		"limited red":   {false, 0, 81, 90, 81, 240, color.RGBA{255, 0, 0, 255}},
		"limited blue":  {false, 32, 41, 240, 41, 110, color.RGBA{0, 0, 255, 255}},
		"full white":    {true, 0, 255, 128, 255, 128, color.RGBA{255, 255, 255, 255}},
		"full grey":     {true, 0, 100, 128, 100, 128, color.RGBA{100, 100, 100, 255}},
		"full red":      {true, 64, 76, 85, 76, 255, color.RGBA{254, 0, 0, 255}},
	} {
		t.Run(name, func(t *testing.T) {
			camera := webcam(t)
			camera.Formats = camera.Formats[:1]
			camera.Stride = c.stride
			if c.full {
				camera.Quantization = uapi.QuantizationFullRange
			}
			camera.Picture = func(_ int, f uapi.PixFormat) []byte {
				return bytes.Repeat([]byte{c.y, c.cb, c.y2, c.cr}, int(f.BytesPerLine*f.Height/4))
			}
			d := open(t, camera, options(nil))
			f, err := d.Frame(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			picture, err := f.JPEG(95)
			if err != nil {
				t.Fatal(err)
			}
			img, err := jpeg.Decode(bytes.NewReader(picture))
			if err != nil {
				t.Fatal(err)
			}
			if img.Bounds() != image.Rect(0, 0, 640, 480) {
				t.Errorf("size %v", img.Bounds())
			}
			for _, at := range []image.Point{{0, 0}, {639, 479}, {320, 240}} {
				r, g, b, _ := img.At(at.X, at.Y).RGBA()
				for i, v := range []int{int(r>>8) - int(c.want.R), int(g>>8) - int(c.want.G), int(b>>8) - int(c.want.B)} {
					if abs(v) > 3 {
						t.Errorf("channel %d at %v is off by %d", i, at, v)
					}
				}
			}
		})
	}
}

// Left and right pixel of a pair, and lines, stay where they are.
func TestYUYVGeometry(t *testing.T) {
	const w, h, stride = 16, 16, 48
	data := make([]byte, stride*h)
	for y := range h {
		for x := range w {
			data[y*stride+2*x] = byte(y*w + x)
			data[y*stride+2*x+1] = 128
		}
	}
	f := v4l2.Frame{Data: data, Format: uapi.YUYV, Size: v4l2.Size{w, h}, Stride: stride, Full: true}
	picture, err := f.JPEG(100)
	if err != nil {
		t.Fatal(err)
	}
	img, err := jpeg.Decode(bytes.NewReader(picture))
	if err != nil {
		t.Fatal(err)
	}
	for y := range h {
		for x := range w {
			got := int(img.(*image.YCbCr).YCbCrAt(x, y).Y)
			if want := y*w + x; abs(got-want) > 4 {
				t.Fatalf("pixel %d,%d is %d, want %d", x, y, got, want)
			}
		}
	}
	var damage *mjpeg.DamageError
	f.Data = data[:stride*(h-1)]
	if _, err := f.JPEG(90); !errors.As(err, &damage) {
		t.Errorf("a line is missing: %v", err)
	}
	f.Data = data[:stride*(h-1)+2*w] // the last line's padding may be missing
	if _, err := f.JPEG(90); err != nil {
		t.Error(err)
	}
}

func TestRangeOfColours(t *testing.T) {
	for name, c := range map[string]struct {
		colorspace, quantization uint32
		want                     bool
	}{
		"default":                   {0, 0, false},
		"SMPTE 170M":                {1, 0, false},
		"sRGB":                      {8, 0, false},
		"JPEG":                      {uapi.ColorspaceJPEG, 0, true},
		"sRGB in the full range":    {8, uapi.QuantizationFullRange, true},
		"JPEG in the limited range": {uapi.ColorspaceJPEG, uapi.QuantizationLimRange, false},
	} {
		camera := webcam(t)
		camera.Colorspace, camera.Quantization = c.colorspace, c.quantization
		d := open(t, camera, options(nil))
		f, err := d.Frame(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if f.Full != c.want {
			t.Errorf("%s: full range %v", name, f.Full)
		}
	}
}
