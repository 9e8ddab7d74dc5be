// Package v4l2test is a kernel with cameras for tests of code that uses package
// v4l2: it answers the requests as Linux's video buffer layer does, and breaks
// in the ways that cameras do. It holds itself to the rules of the interface: a
// request that a real driver would refuse, such as queueing a buffer twice, is
// refused.
//
// Start with [System].
package v4l2test

import (
	"errors"
	"os"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"tuxwatch/drivers/v4l2/uapi"
)

// System is a kernel with cameras. The zero value has none.
type System struct {
	mu    sync.Mutex
	paths []string
	nodes map[string]*Camera
	links map[string]string
}

// Plug makes a camera appear at a path, with names that udev gives it.
func (s *System) Plug(path string, c *Camera, names ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.nodes == nil {
		s.nodes, s.links = make(map[string]*Camera), make(map[string]string)
	}
	if s.nodes[path] == nil {
		s.paths = append(s.paths, path)
	}
	s.nodes[path] = c
	for _, name := range names {
		s.links[name] = path
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gone = false
	c.changed()
}

// Unplug takes the camera at a path away. Whoever has it open gets ENODEV.
func (s *System) Unplug(path string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.nodes[path]
	for i, p := range s.paths {
		if p == path {
			s.paths = append(s.paths[:i:i], s.paths[i+1:]...)
		}
	}
	delete(s.nodes, path)
	for name, target := range s.links {
		if target == path {
			delete(s.links, name)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gone = true
	c.changed()
}

// Nodes lists the paths of the cameras, in the order they were plugged in.
func (s *System) Nodes() ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.paths...), nil
}

// Link returns the path of the camera with one of udev's names.
func (s *System) Link(name string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.links[name]
}

// Open opens a camera.
func (s *System) Open(path string) (uapi.Node, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.nodes[path]
	if c == nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: unix.ENOENT}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.faults.Open != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: c.faults.Open}
	}
	c.opens++
	c.open++
	return &node{camera: c}, nil
}

// Format is a pixel format that a camera offers.
type Format struct {
	Pixels uapi.FourCC
	Sizes  [][2]uint32 // discrete sizes
	Steps  *[6]uint32  // or a stepwise range: least, greatest, step of width, then of height
	Hidden bool        // the driver does not tell its sizes
}

// Faults are ways in which a camera misbehaves. An errno answers the request.
type Faults struct {
	Open         error
	SetFmt       error
	SetFmtPixels uapi.FourCC // S_FMT answers with this format
	StreamOn     error
	DQBuf        error
	Stalled      bool // takes no pictures
	Damage       int  // so many pictures are marked as damaged
	Empty        int  // so many pictures hold nothing
	NoMemory     bool // REQBUFS gives no buffers
}

// Camera is one camera. Set the exported fields before it is plugged in.
type Camera struct {
	Card, Bus string
	// Caps and DeviceCaps replace the capabilities of a plain camera.
	Caps, DeviceCaps uint32
	Formats          []Format
	// Current is what G_FMT answers before S_FMT.
	Current uapi.PixFormat
	// Stride is added to the length of each line of uncompressed formats.
	Stride uint32
	// Colorspace and Quantization as S_FMT answers them.
	Colorspace, Quantization uint32
	// Picture makes the n-th picture, counted from 0.
	Picture func(n int, format uapi.PixFormat) []byte
	// Manual cameras take a picture at Shoot only; others whenever a program
	// waits for one.
	Manual bool

	mu      sync.Mutex
	waiters []chan struct{}
	faults  Faults
	gone    bool
	owner   *node // who has buffers
	open    int
	opens   int
	shots   int
	lost    int
	mapped  int
}

// Break sets the ways in which the camera misbehaves from now on.
func (c *Camera) Break(f Faults) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.faults = f
	c.changed()
}

// Shoot takes n pictures; those for which no buffer is queued are lost.
func (c *Camera) Shoot(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for range n {
		c.shoot()
	}
}

// Opens returns how often the camera was opened.
func (c *Camera) Opens() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.opens
}

// Left returns what programs have not given back: open nodes and mapped
// buffers.
func (c *Camera) Left() (nodes, buffers int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.open, c.mapped
}

// changed wakes those in Poll. The caller holds mu.
func (c *Camera) changed() {
	for _, w := range c.waiters {
		close(w)
	}
	c.waiters = nil
}

// shoot takes a picture. The caller holds mu.
func (c *Camera) shoot() {
	n := c.owner
	number := c.shots
	c.shots++
	if n == nil || !n.streaming || len(n.queued) == 0 || c.gone || c.faults.Stalled {
		c.lost++
		return
	}
	index := n.queued[0]
	n.queued = n.queued[1:]
	done := filled{index: index, sequence: uint32(number)}
	switch {
	case c.faults.Empty > 0:
		c.faults.Empty--
	case c.faults.Damage > 0:
		c.faults.Damage--
		done.flags = uapi.BufFlagError
		done.used = 10
	default:
		done.used = uint32(copy(n.buffers[index], c.Picture(number, n.format)))
	}
	n.done = append(n.done, done)
	c.changed()
}

// filled is a buffer that waits to be dequeued.
type filled struct{ index, used, flags, sequence uint32 }

// node is a camera that a program has open.
type node struct {
	camera    *Camera
	format    uapi.PixFormat
	buffers   [][]byte
	mappings  map[*byte]bool
	queued    []uint32
	done      []filled
	streaming bool
	closed    bool
}

// Ioctl answers a request.
func (n *node) Ioctl(request uapi.Request, arg unsafe.Pointer) error {
	c := n.camera
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case n.closed:
		return unix.EBADF
	case c.gone:
		return unix.ENODEV
	}
	switch request {
	case uapi.QueryCap:
		return c.queryCap((*uapi.Capability)(arg))
	case uapi.EnumFmt:
		f := (*uapi.FmtDesc)(arg)
		if int(f.Index) >= len(c.Formats) || f.Type != uapi.BufTypeVideoCapture {
			return unix.EINVAL
		}
		f.PixelFormat = c.Formats[f.Index].Pixels
	case uapi.EnumFrameSizes:
		return c.enumSizes((*uapi.FrmSizeEnum)(arg))
	case uapi.GetFmt:
		if n.format.Width == 0 {
			n.format = c.Current
		}
		(*uapi.Format)(arg).Pix = n.format
	case uapi.SetFmt:
		return n.setFmt((*uapi.Format)(arg))
	case uapi.ReqBufs:
		return n.reqBufs((*uapi.RequestBuffers)(arg))
	case uapi.QueryBuf:
		b := (*uapi.Buffer)(arg)
		if int(b.Index) >= len(n.buffers) || b.Type != uapi.BufTypeVideoCapture {
			return unix.EINVAL
		}
		b.Offset, b.Length = b.Index<<20, uint32(len(n.buffers[b.Index]))
	case uapi.QBuf:
		return n.queue((*uapi.Buffer)(arg))
	case uapi.DQBuf:
		return n.dequeue((*uapi.Buffer)(arg))
	case uapi.StreamOn:
		if c.faults.StreamOn != nil {
			return c.faults.StreamOn
		}
		if len(n.buffers) == 0 {
			return unix.EINVAL
		}
		n.streaming = true
	case uapi.StreamOff:
		n.streaming, n.queued, n.done = false, nil, nil
	default:
		return unix.ENOTTY
	}
	return nil
}

func (c *Camera) queryCap(out *uapi.Capability) error {
	copy(out.Card[:], c.Card)
	copy(out.BusInfo[:], c.Bus)
	out.Capabilities, out.DeviceCaps = c.Caps, c.DeviceCaps
	if c.Caps == 0 {
		out.DeviceCaps = uapi.CapVideoCapture | uapi.CapStreaming
		out.Capabilities = out.DeviceCaps | uapi.CapDeviceCaps
	}
	return nil
}

func (c *Camera) enumSizes(out *uapi.FrmSizeEnum) error {
	for _, f := range c.Formats {
		switch {
		case f.Pixels != out.PixelFormat || f.Hidden:
		case f.Steps != nil && out.Index == 0:
			out.Type, out.Size = uapi.FrmSizeTypeStepwise, *f.Steps
			return nil
		case int(out.Index) < len(f.Sizes):
			out.Type = uapi.FrmSizeTypeDiscrete
			out.Size = [6]uint32{f.Sizes[out.Index][0], f.Sizes[out.Index][1]}
			return nil
		}
	}
	return unix.EINVAL
}

// setFmt adjusts what it cannot do, as drivers must.
func (n *node) setFmt(f *uapi.Format) error {
	c := n.camera
	if c.faults.SetFmt != nil {
		return c.faults.SetFmt
	}
	if c.owner != nil && len(c.owner.buffers) > 0 {
		return unix.EBUSY
	}
	var offered *Format
	for i := range c.Formats {
		if c.Formats[i].Pixels == f.Pix.PixelFormat {
			offered = &c.Formats[i]
		}
	}
	if offered == nil {
		offered = &c.Formats[0]
		f.Pix.PixelFormat = offered.Pixels
	}
	known := offered.Steps != nil
	for _, s := range offered.Sizes {
		known = known || s == [2]uint32{f.Pix.Width, f.Pix.Height}
	}
	if !known {
		f.Pix.Width, f.Pix.Height = offered.Sizes[0][0], offered.Sizes[0][1]
	}
	if c.faults.SetFmtPixels != 0 {
		f.Pix.PixelFormat = c.faults.SetFmtPixels
	}
	f.Pix.BytesPerLine = 0
	if f.Pix.PixelFormat == uapi.YUYV {
		f.Pix.BytesPerLine = 2*f.Pix.Width + c.Stride
	}
	f.Pix.SizeImage = (2*f.Pix.Width+c.Stride)*f.Pix.Height + 4096
	f.Pix.Colorspace, f.Pix.Quantization = c.Colorspace, c.Quantization
	n.format = f.Pix
	return nil
}

func (n *node) reqBufs(r *uapi.RequestBuffers) error {
	c := n.camera
	switch {
	case c.owner != nil && c.owner != n:
		return unix.EBUSY
	case len(n.mappings) > 0 || n.streaming:
		return unix.EBUSY
	}
	n.buffers = nil
	c.owner = nil
	if c.faults.NoMemory {
		r.Count = 0
	}
	if r.Count == 0 {
		return nil
	}
	if n.format.Width == 0 {
		n.format = c.Current
	}
	for range r.Count {
		n.buffers = append(n.buffers, make([]byte, max(4096, n.format.SizeImage)))
	}
	c.owner = n
	return nil
}

func (n *node) queue(b *uapi.Buffer) error {
	if int(b.Index) >= len(n.buffers) || b.Memory != uapi.MemoryMmap {
		return unix.EINVAL
	}
	for _, q := range n.queued {
		if q == b.Index {
			return unix.EINVAL
		}
	}
	for _, d := range n.done {
		if d.index == b.Index {
			return unix.EINVAL
		}
	}
	n.queued = append(n.queued, b.Index)
	return nil
}

func (n *node) dequeue(b *uapi.Buffer) error {
	c := n.camera
	switch {
	case !n.streaming:
		return unix.EINVAL
	case c.faults.DQBuf != nil:
		return c.faults.DQBuf
	case len(n.done) == 0:
		return unix.EAGAIN
	}
	done := n.done[0]
	n.done = n.done[1:]
	b.Index, b.BytesUsed, b.Flags, b.Sequence = done.index, done.used, done.flags, done.sequence
	return nil
}

// Mmap maps the buffer that QUERYBUF gave the offset of.
func (n *node) Mmap(offset int64, length int) ([]byte, error) {
	n.camera.mu.Lock()
	defer n.camera.mu.Unlock()
	index := int(offset >> 20)
	if index >= len(n.buffers) || length != len(n.buffers[index]) {
		return nil, unix.EINVAL
	}
	if n.mappings == nil {
		n.mappings = make(map[*byte]bool)
	}
	n.mappings[&n.buffers[index][0]] = true
	n.camera.mapped++
	return n.buffers[index], nil
}

// Munmap takes a mapping back. It refuses while the driver may write into it.
func (n *node) Munmap(memory []byte) error {
	n.camera.mu.Lock()
	defer n.camera.mu.Unlock()
	if len(memory) == 0 || !n.mappings[&memory[0]] || n.streaming && !n.camera.gone {
		return unix.EINVAL
	}
	delete(n.mappings, &memory[0])
	n.camera.mapped--
	return nil
}

// Poll waits for a picture.
func (n *node) Poll(timeout time.Duration) (bool, error) {
	c := n.camera
	over := time.NewTimer(timeout)
	defer over.Stop()
	for {
		c.mu.Lock()
		if n.closed {
			c.mu.Unlock()
			return false, errors.New("poll on a closed node")
		}
		if len(n.done) == 0 && !c.Manual {
			c.shoot()
		}
		if c.gone || c.faults.DQBuf != nil || len(n.done) > 0 {
			c.mu.Unlock()
			return true, nil
		}
		woken := make(chan struct{})
		c.waiters = append(c.waiters, woken)
		c.mu.Unlock()
		select {
		case <-woken:
		case <-over.C:
			return false, nil
		}
	}
}

// Close closes the node and ends what it was doing.
func (n *node) Close() error {
	c := n.camera
	c.mu.Lock()
	defer c.mu.Unlock()
	if n.closed {
		return unix.EBADF
	}
	n.closed = true
	c.open--
	if c.owner == n {
		c.owner = nil
	}
	return nil
}
