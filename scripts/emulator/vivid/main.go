// Vivid runs on the emulated device and lets the kernel's virtual video driver,
// vivid, be a camera that shows a chosen picture: what is written to the
// driver's HDMI output appears at its HDMI input, which is the camera.
//
//	vivid setup             wires output and input, prints the camera's device
//	vivid device            prints the camera's device
//	vivid show FILE         shows a picture, and each that the file is replaced with
//	vivid control NAME N    sets a control, for the driver's faults
//
// The file holds one picture as YUYV, 640x480. See the kernel's documentation,
// admin-guide/media/vivid, for the controls; names are written as v4l2-ctl does.
package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"tuxwatch/drivers/v4l2/uapi"
)

// The size of the picture, and so of the signal between output and input.
const width, height = 640, 480

// Requests and structures of <linux/videodev2.h> that a camera's reader does not
// need, and so package uapi does not have.
const (
	readWrite = 3 << 30

	setControl   = uapi.Request(readWrite | unsafe.Sizeof(control{})<<16 | 'V'<<8 | 28)
	queryControl = uapi.Request(readWrite | unsafe.Sizeof(controlInfo{})<<16 | 'V'<<8 | 36)
	setInput     = uapi.Request(readWrite | unsafe.Sizeof(int32(0))<<16 | 'V'<<8 | 39)
	setOutput    = uapi.Request(readWrite | unsafe.Sizeof(int32(0))<<16 | 'V'<<8 | 47)
	setTimings   = uapi.Request(readWrite | unsafe.Sizeof(timings{})<<16 | 'V'<<8 | 87)

	capVideoOutput     = 0x00000002
	bufTypeVideoOutput = 2
	nextControl        = 0x80000000 // V4L2_CTRL_FLAG_NEXT_CTRL
)

type control struct {
	id    uint32
	value int32
}

type controlInfo struct {
	id, kind               uint32
	name                   [32]byte
	minimum, maximum, step int32
	defaultValue           int32
	flags                  uint32
	_                      [2]uint32
}

// timings is struct v4l2_dv_timings, which is packed.
type timings [132]byte

// vga is the signal of 640x480 at 59.94 Hz (CEA-861, VIC 1).
func vga() *timings {
	var t timings
	fields := t[4:]
	put := func(at int, values ...uint32) {
		for i, v := range values {
			binary.LittleEndian.PutUint32(fields[at+4*i:], v)
		}
	}
	put(0, width, height, 0, 0)
	binary.LittleEndian.PutUint64(fields[16:], 25175000)
	put(24, 16, 96, 48, 10, 2, 33)
	return &t
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "vivid:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 1 && args[0] == "setup":
		return setup()
	case len(args) == 1 && args[0] == "device":
		camera, path, err := open(uapi.CapVideoCapture)
		if err != nil {
			return err
		}
		fmt.Println(path)
		return camera.Close()
	case len(args) == 2 && args[0] == "show":
		for {
			// The driver's faults end a stream, as pulling the cable does.
			err := show(args[1])
			if errors.Is(err, os.ErrNotExist) {
				return err
			}
			fmt.Fprintln(os.Stderr, "vivid: once more after:", err)
			time.Sleep(200 * time.Millisecond)
		}
	case len(args) == 3 && args[0] == "control":
		value, err := strconv.Atoi(args[2])
		if err != nil {
			return err
		}
		return set(args[1], int32(value))
	default:
		return errors.New("usage: vivid setup | device | show FILE | control NAME VALUE")
	}
}

// open opens the driver's node with a capability and returns its path.
func open(capability uint32) (uapi.Node, string, error) {
	paths, err := uapi.Linux{}.Nodes()
	if err != nil {
		return nil, "", err
	}
	for _, path := range paths {
		node, err := uapi.Linux{}.Open(path)
		if err != nil {
			continue
		}
		var c uapi.Capability
		if err := node.Ioctl(uapi.QueryCap, unsafe.Pointer(&c)); err == nil &&
			uapi.Text(c.Driver[:]) == "vivid" && c.DeviceCaps&capability != 0 {
			return node, path, nil
		}
		node.Close()
	}
	return nil, "", fmt.Errorf("none of the video devices %v is vivid's: is the module loaded, and the device connected", paths)
}

func setup() error {
	camera, path, err := open(uapi.CapVideoCapture)
	if err != nil {
		return err
	}
	defer camera.Close()
	output, _, err := open(capVideoOutput)
	if err != nil {
		return err
	}
	defer output.Close()
	var first int32
	for _, step := range []struct {
		what    string
		node    uapi.Node
		request uapi.Request
		arg     unsafe.Pointer
	}{
		{"choosing the camera's input", camera, setInput, unsafe.Pointer(&first)},
		{"choosing the output", output, setOutput, unsafe.Pointer(&first)},
		{"the output's signal", output, setTimings, unsafe.Pointer(vga())},
		{"the input's signal", camera, setTimings, unsafe.Pointer(vga())},
	} {
		if err := step.node.Ioctl(step.request, step.arg); err != nil {
			return fmt.Errorf("%s: %w", step.what, err)
		}
	}
	// 0 would be the driver's test picture, 1 nothing, 2 the first output. No
	// text is laid over the picture.
	if err := errors.Join(set("hdmi_000_0_is_connected_to", 2), set("osd_text_mode", 2)); err != nil {
		return err
	}
	fmt.Println(path)
	return nil
}

// set sets the control of that name, of the camera or else of the output.
func set(name string, value int32) error {
	for _, capability := range []uint32{uapi.CapVideoCapture, capVideoOutput} {
		node, path, err := open(capability)
		if err != nil {
			return err
		}
		defer node.Close()
		info := controlInfo{id: nextControl}
		for node.Ioctl(queryControl, unsafe.Pointer(&info)) == nil {
			if called(uapi.Text(info.name[:])) == name {
				c := control{id: info.id, value: value}
				if err := node.Ioctl(setControl, unsafe.Pointer(&c)); err != nil {
					return fmt.Errorf("setting %s of %s to %d: %w", name, path, value, err)
				}
				return nil
			}
			info.id |= nextControl
		}
	}
	return fmt.Errorf("the driver has no control %s", name)
}

// called writes a control's name as v4l2-ctl does.
func called(name string) string {
	words := strings.FieldsFunc(strings.ToLower(name), func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9')
	})
	return strings.Join(words, "_")
}

// show streams the picture in the file until something goes wrong.
func show(file string) error {
	output, path, err := open(capVideoOutput)
	if err != nil {
		return err
	}
	defer output.Close()
	f := uapi.Format{Type: bufTypeVideoOutput, Pix: uapi.PixFormat{
		Width: width, Height: height, PixelFormat: uapi.YUYV, Field: uapi.FieldNone, Priv: uapi.PixFmtPrivMagic,
	}}
	if err := output.Ioctl(uapi.SetFmt, unsafe.Pointer(&f)); err != nil {
		return fmt.Errorf("%s: setting the format: %w", path, err)
	}
	if f.Pix.PixelFormat != uapi.YUYV || f.Pix.Width != width || f.Pix.Height != height || f.Pix.BytesPerLine != 2*width {
		return fmt.Errorf("%s: the driver wants %v in %dx%d", path, f.Pix.PixelFormat, f.Pix.Width, f.Pix.Height)
	}
	buffers := uapi.RequestBuffers{Count: 3, Type: bufTypeVideoOutput, Memory: uapi.MemoryMmap}
	if err := output.Ioctl(uapi.ReqBufs, unsafe.Pointer(&buffers)); err != nil {
		return fmt.Errorf("%s: asking for buffers: %w", path, err)
	}
	picture, stamp, err := load(file, time.Time{})
	if err != nil {
		return err
	}
	var memory [][]byte
	for i := range buffers.Count {
		b := uapi.Buffer{Index: i, Type: bufTypeVideoOutput, Memory: uapi.MemoryMmap}
		if err := output.Ioctl(uapi.QueryBuf, unsafe.Pointer(&b)); err != nil {
			return fmt.Errorf("%s: asking for buffer %d: %w", path, i, err)
		}
		m, err := output.Mmap(int64(b.Offset), int(b.Length))
		if err != nil {
			return fmt.Errorf("%s: mapping buffer %d: %w", path, i, err)
		}
		defer output.Munmap(m)
		memory = append(memory, m)
		copy(m, picture)
		if err := queue(output, i); err != nil {
			return err
		}
	}
	kind := int32(bufTypeVideoOutput)
	if err := output.Ioctl(uapi.StreamOn, unsafe.Pointer(&kind)); err != nil {
		return fmt.Errorf("%s: starting: %w", path, err)
	}
	stale := 0 // buffers that hold the picture before
	for frame := 0; ; frame++ {
		b := uapi.Buffer{Type: bufTypeVideoOutput, Memory: uapi.MemoryMmap}
		for {
			err := output.Ioctl(uapi.DQBuf, unsafe.Pointer(&b))
			if err == nil {
				break
			}
			if err != unix.EAGAIN {
				return fmt.Errorf("%s: taking a buffer back: %w", path, err)
			}
			time.Sleep(10 * time.Millisecond)
		}
		if frame%8 == 0 {
			next, changed, err := load(file, stamp)
			if err != nil {
				return err
			}
			if next != nil {
				picture, stamp, stale = next, changed, len(memory)
			}
		}
		if stale > 0 { // they come back in turn
			copy(memory[b.Index], picture)
			stale--
		}
		if err := queue(output, b.Index); err != nil {
			return err
		}
	}
}

func queue(output uapi.Node, index uint32) error {
	b := uapi.Buffer{Index: index, Type: bufTypeVideoOutput, Memory: uapi.MemoryMmap,
		BytesUsed: 2 * width * height, Field: uapi.FieldNone}
	if err := output.Ioctl(uapi.QBuf, unsafe.Pointer(&b)); err != nil {
		return fmt.Errorf("queueing buffer %d: %w", index, err)
	}
	return nil
}

// load reads the picture if the file is not the one of that time.
func load(file string, seen time.Time) ([]byte, time.Time, error) {
	info, err := os.Stat(file)
	if err != nil || info.ModTime().Equal(seen) {
		return nil, seen, err
	}
	picture, err := os.ReadFile(file)
	if err == nil && len(picture) != 2*width*height {
		err = fmt.Errorf("%s has %d bytes, not the %d of YUYV %dx%d", file, len(picture), 2*width*height, width, height)
	}
	return picture, info.ModTime(), err
}
