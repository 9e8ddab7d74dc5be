package v4l2

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"tuxwatch/drivers/v4l2/uapi"
)

// The errors that New and Frame wrap, for telling what to do: all but
// ErrNoFormat may pass by themselves.
var (
	ErrNotFound  = errors.New("no such camera")
	ErrUnplugged = errors.New("the camera is gone")
	ErrStalled   = errors.New("the camera delivers no pictures")
	ErrBusy      = errors.New("the camera is used by another program")
	ErrNoFormat  = errors.New("the camera offers no usable format")
)

// Opts says which camera to use, and how.
type Opts struct {
	// Device is a path (/dev/video0), a name in /dev/v4l/by-id or
	// /dev/v4l/by-path, or a part of the camera's own name or of its bus
	// address as the driver reports them. Empty means the first camera that
	// there is. A path that is not one of udev's links may name another camera
	// after replugging.
	Device string
	// Size is the wanted size; the nearest one that the camera offers is used.
	Size Size
	// Encoding is how the camera should deliver pictures.
	Encoding Encoding
	// StallTimeout is how long to wait for a picture before the camera counts
	// as stalled.
	StallTimeout time.Duration
}

// DefaultOpts is for any USB camera.
var DefaultOpts = Opts{Size: Size{640, 480}, Encoding: Auto, StallTimeout: 5 * time.Second}

// buffers is how many buffers the driver is asked for. Two are enough to
// capture without a gap; two more ride out a busy processor.
const buffers = 4

// Dev is a camera that is capturing. It is not safe for concurrent use.
type Dev struct {
	node   uapi.Node
	path   string
	name   string
	opts   Opts
	pix    uapi.PixFormat
	memory [][]byte
	stats  Stats
}

// Stats counts what came from the camera since New.
type Stats struct {
	Frames  int // pictures returned
	Damaged int // pictures that the driver marked as damaged, or that came empty
}

// New opens the camera that opts describe and starts it. The caller ends it
// with Halt. uapi.Linux{} is the running kernel.
func New(system uapi.System, opts *Opts) (*Dev, error) {
	d := &Dev{opts: *opts}
	if err := d.find(system); err != nil {
		return nil, err
	}
	if err := d.start(); err != nil {
		err = fmt.Errorf("starting %v: %w", d, err)
		d.Halt()
		return nil, err
	}
	return d, nil
}

// String names the camera and what it delivers.
func (d *Dev) String() string {
	s := fmt.Sprintf("%s (%s)", d.name, d.path)
	if d.pix.Width > 0 {
		s += fmt.Sprintf(" %s %dx%d", d.pix.PixelFormat, d.pix.Width, d.pix.Height)
	}
	return s
}

// Stats returns what came from the camera so far.
func (d *Dev) Stats() Stats { return d.stats }

// find opens the node that opts.Device describes.
func (d *Dev) find(system uapi.System) error {
	wanted := d.opts.Device
	if path := wanted; path != "" {
		if !strings.HasPrefix(path, "/") {
			path = system.Link(wanted)
		}
		if path != "" {
			return d.open(system, path)
		}
	}
	paths, err := system.Nodes()
	if err != nil {
		return fmt.Errorf("listing the video devices: %w", err)
	}
	var refused []error
	for _, path := range paths {
		err := d.open(system, path)
		if err == nil && d.matches(wanted) {
			return nil
		}
		if err != nil {
			refused = append(refused, err)
			continue
		}
		refused = append(refused, fmt.Errorf("%s is %q", path, d.name))
		d.node.Close()
		d.node = nil
	}
	what := "no camera is plugged in"
	if wanted != "" {
		what = fmt.Sprintf("no camera is called %q", wanted)
	}
	if len(refused) == 0 {
		return fmt.Errorf("%w: %s; there is no /dev/video*", ErrNotFound, what)
	}
	return fmt.Errorf("%w: %s; looked at: %w", ErrNotFound, what, joined(refused))
}

// joined puts errors in one line.
func joined(errs []error) error {
	err := errs[0]
	for _, next := range errs[1:] {
		err = fmt.Errorf("%w; %w", err, next)
	}
	return err
}

// open opens a node if it is a camera.
func (d *Dev) open(system uapi.System, path string) error {
	node, err := system.Open(path)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENXIO) {
		return fmt.Errorf("%w: %w", ErrNotFound, err)
	}
	if errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) {
		return fmt.Errorf("%w; put the user that runs this into the group video", err)
	}
	if errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("%w: %w", ErrBusy, err)
	}
	if err != nil {
		return err
	}
	d.path = path
	err = d.inspect(node)
	if err != nil {
		node.Close()
		return fmt.Errorf("%s: %w", path, err)
	}
	d.node = node
	return nil
}

// inspect asks a node what it is (section "ioctl VIDIOC_QUERYCAP").
func (d *Dev) inspect(node uapi.Node) error {
	var c uapi.Capability
	if err := call(node, uapi.QueryCap, unsafe.Pointer(&c)); err != nil {
		if errors.Is(err, unix.ENOTTY) || errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("not a video device: %w", err)
		}
		return err
	}
	// A camera has several nodes (pictures, metadata); only DeviceCaps speaks
	// of this one.
	caps := c.Capabilities
	if caps&uapi.CapDeviceCaps != 0 {
		caps = c.DeviceCaps
	}
	d.name = uapi.Text(c.Card[:])
	if bus := uapi.Text(c.BusInfo[:]); bus != "" {
		d.name += " on " + bus
	}
	switch {
	case caps&uapi.CapVideoCapture == 0 && caps&uapi.CapVideoCaptureMplane != 0:
		return fmt.Errorf("%w: %q has the multi-planar interface only, as camera modules and codecs do; use rpicam-vid for a camera module", ErrNoFormat, d.name)
	case caps&uapi.CapVideoCapture == 0:
		return fmt.Errorf("%w: %q does not capture video", ErrNoFormat, d.name)
	case caps&uapi.CapStreaming == 0:
		return fmt.Errorf("%w: %q does not stream", ErrNoFormat, d.name)
	}
	return nil
}

// matches reports whether the node that was opened goes by the wanted name.
func (d *Dev) matches(wanted string) bool {
	return strings.Contains(strings.ToLower(d.name), strings.ToLower(wanted))
}

// start negotiates the format and starts streaming.
func (d *Dev) start() error {
	if err := d.negotiate(); err != nil {
		return err
	}
	request := uapi.RequestBuffers{Count: buffers, Type: uapi.BufTypeVideoCapture, Memory: uapi.MemoryMmap}
	if err := call(d.node, uapi.ReqBufs, unsafe.Pointer(&request)); err != nil {
		return fmt.Errorf("asking for %d buffers: %w", buffers, err)
	}
	if request.Count == 0 {
		return fmt.Errorf("the driver has no memory for buffers of %d bytes; choose a smaller size", d.pix.SizeImage)
	}
	for i := range request.Count {
		b := buffer(i)
		if err := call(d.node, uapi.QueryBuf, unsafe.Pointer(&b)); err != nil {
			return fmt.Errorf("asking for buffer %d: %w", i, err)
		}
		memory, err := d.node.Mmap(int64(b.Offset), int(b.Length))
		if err != nil {
			return fmt.Errorf("mapping buffer %d of %d bytes: %w", i, b.Length, err)
		}
		d.memory = append(d.memory, memory)
		if err := d.queue(i); err != nil {
			return err
		}
	}
	kind := int32(uapi.BufTypeVideoCapture)
	err := call(d.node, uapi.StreamOn, unsafe.Pointer(&kind))
	if errors.Is(err, unix.ENOSPC) {
		return fmt.Errorf("%w: not enough USB bandwidth for %s %dx%d; choose a smaller size, MJPEG, or another USB port",
			err, d.pix.PixelFormat, d.pix.Width, d.pix.Height)
	}
	return err
}

// negotiate agrees with the driver on a format (section "Data Format
// Negotiation").
func (d *Dev) negotiate() error {
	offered := d.formats()
	var refused error
	for _, format := range d.opts.Encoding.candidates(offered) {
		err := d.setFormat(format)
		if err == nil {
			return nil
		}
		if errors.Is(err, ErrBusy) || errors.Is(err, ErrUnplugged) {
			return err
		}
		refused = errors.Join(refused, err)
	}
	// Some drivers refuse every S_FMT after they were reset, yet stream in the
	// format they have.
	current := uapi.Format{Type: uapi.BufTypeVideoCapture}
	if err := call(d.node, uapi.GetFmt, unsafe.Pointer(&current)); err == nil {
		if len(d.opts.Encoding.candidates([]uapi.FourCC{current.Pix.PixelFormat})) > 0 && d.usable(current.Pix) == nil {
			d.pix = current.Pix
			return nil
		}
	}
	if refused != nil {
		return fmt.Errorf("%w: %w", ErrNoFormat, refused)
	}
	hint := ""
	if len(d.opts.Encoding.candidates(offered)) == 0 && len(Auto.candidates(offered)) > 0 {
		hint = "; let the format be auto"
	}
	return fmt.Errorf("%w: wanted %s, the camera has %s%s", ErrNoFormat, d.opts.Encoding, list(offered), hint)
}

// setFormat asks for a pixel format in the wanted size and keeps what the driver
// made of it.
func (d *Dev) setFormat(pixels uapi.FourCC) error {
	size := nearestSize(d.sizes(pixels), d.opts.Size)
	f := uapi.Format{Type: uapi.BufTypeVideoCapture, Pix: uapi.PixFormat{
		Width: uint32(size.Width), Height: uint32(size.Height), PixelFormat: pixels,
		Field: uapi.FieldNone, Priv: uapi.PixFmtPrivMagic,
	}}
	if err := call(d.node, uapi.SetFmt, unsafe.Pointer(&f)); err != nil {
		return fmt.Errorf("setting %s %v: %w", pixels, size, err)
	}
	if f.Pix.PixelFormat != pixels {
		return fmt.Errorf("the driver answered %s %v with %s", pixels, size, f.Pix.PixelFormat)
	}
	if err := d.usable(f.Pix); err != nil {
		return err
	}
	d.pix = f.Pix
	return nil
}

// usable checks that a driver's format makes sense before memory is read by it.
func (d *Dev) usable(p uapi.PixFormat) error {
	const most = 1 << 14
	if p.Width == 0 || p.Height == 0 || p.Width > most || p.Height > most {
		return fmt.Errorf("the driver answered with a size of %dx%d", p.Width, p.Height)
	}
	if p.PixelFormat == uapi.YUYV && (p.Width%2 != 0 || p.BytesPerLine != 0 && p.BytesPerLine < 2*p.Width) {
		return fmt.Errorf("the driver answered with YUYV of width %d in lines of %d bytes", p.Width, p.BytesPerLine)
	}
	return nil
}

// formats lists what the camera offers.
func (d *Dev) formats() []uapi.FourCC {
	var formats []uapi.FourCC
	for i := range uint32(256) { // no driver has as many; a broken one must not hold us
		f := uapi.FmtDesc{Index: i, Type: uapi.BufTypeVideoCapture}
		if call(d.node, uapi.EnumFmt, unsafe.Pointer(&f)) != nil {
			break
		}
		formats = append(formats, f.PixelFormat)
	}
	return formats
}

// sizes lists the sizes that the camera offers in a format; none if the driver
// does not tell.
func (d *Dev) sizes(pixels uapi.FourCC) []sizeRange {
	var sizes []sizeRange
	for i := range uint32(256) {
		f := uapi.FrmSizeEnum{Index: i, PixelFormat: pixels}
		if call(d.node, uapi.EnumFrameSizes, unsafe.Pointer(&f)) != nil {
			break
		}
		s := f.Size
		if f.Type == uapi.FrmSizeTypeDiscrete {
			one := Size{int(s[0]), int(s[1])}
			sizes = append(sizes, sizeRange{min: one, max: one})
			continue
		}
		r := sizeRange{
			min:  Size{int(s[0]), int(s[3])},
			max:  Size{int(s[1]), int(s[4])},
			step: Size{int(s[2]), int(s[5])},
		}
		if f.Type == uapi.FrmSizeTypeContinuous {
			r.step = Size{1, 1}
		}
		return append(sizes, r)
	}
	return sizes
}

// Halt stops the camera and gives everything back. The Dev cannot be used
// afterwards.
func (d *Dev) Halt() error {
	if d.node == nil {
		return nil
	}
	// The camera may be gone: go through all of it whatever the answers. The
	// driver must stop filling the buffers before they are unmapped.
	kind := int32(uapi.BufTypeVideoCapture)
	call(d.node, uapi.StreamOff, unsafe.Pointer(&kind))
	for _, memory := range d.memory {
		d.node.Munmap(memory)
	}
	d.memory = nil
	none := uapi.RequestBuffers{Type: uapi.BufTypeVideoCapture, Memory: uapi.MemoryMmap}
	call(d.node, uapi.ReqBufs, unsafe.Pointer(&none))
	err := d.node.Close()
	d.node = nil
	if err != nil {
		return fmt.Errorf("closing %s: %w", d.path, err)
	}
	return nil
}

func buffer(index uint32) uapi.Buffer {
	return uapi.Buffer{Index: index, Type: uapi.BufTypeVideoCapture, Memory: uapi.MemoryMmap}
}

// queue gives a buffer to the driver to fill.
func (d *Dev) queue(index uint32) error {
	b := buffer(index)
	if err := call(d.node, uapi.QBuf, unsafe.Pointer(&b)); err != nil {
		return fmt.Errorf("queueing buffer %d: %w", index, err)
	}
	return nil
}

// call makes a request and names it in the error.
func call(node uapi.Node, request uapi.Request, arg unsafe.Pointer) error {
	err := node.Ioctl(request, arg)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO):
		return fmt.Errorf("%w (%v: %w)", ErrUnplugged, request, err)
	case errors.Is(err, unix.EBUSY):
		return fmt.Errorf("%w (%v: %w)", ErrBusy, request, err)
	default:
		return fmt.Errorf("%v: %w", request, err)
	}
}
