// Package uapi is the part of Linux's video capture interface, Video for Linux
// 2, that package v4l2 needs: the structures and request numbers of
// <linux/videodev2.h>, and [Node], an open device that takes them.
//
// Node is an interface so that a driver can be tested against a fake kernel
// (package v4l2test). The package decides nothing: see package v4l2 for that.
//
// The layouts are those of 64-bit Linux, which amd64 and arm64 share; 32-bit
// systems lay out [Buffer] and [Format] differently and are not supported.
package uapi

import (
	"time"
	"unsafe"
)

// Layouts below hold where a pointer has 8 bytes; this fails to compile
// elsewhere.
var _ [unsafe.Sizeof(uintptr(0)) - 8]struct{}

// Request is the number of an ioctl request.
type Request uint32

// The requests, in the encoding of <asm-generic/ioctl.h>: direction, size of
// the argument, type 'V', number.
const (
	QueryCap       = Request(read | unsafe.Sizeof(Capability{})<<16 | 'V'<<8) // number 0
	EnumFmt        = Request(read | write | unsafe.Sizeof(FmtDesc{})<<16 | 'V'<<8 | 2)
	GetFmt         = Request(read | write | unsafe.Sizeof(Format{})<<16 | 'V'<<8 | 4)
	SetFmt         = Request(read | write | unsafe.Sizeof(Format{})<<16 | 'V'<<8 | 5)
	ReqBufs        = Request(read | write | unsafe.Sizeof(RequestBuffers{})<<16 | 'V'<<8 | 8)
	QueryBuf       = Request(read | write | unsafe.Sizeof(Buffer{})<<16 | 'V'<<8 | 9)
	QBuf           = Request(read | write | unsafe.Sizeof(Buffer{})<<16 | 'V'<<8 | 15)
	DQBuf          = Request(read | write | unsafe.Sizeof(Buffer{})<<16 | 'V'<<8 | 17)
	StreamOn       = Request(write | unsafe.Sizeof(int32(0))<<16 | 'V'<<8 | 18)
	StreamOff      = Request(write | unsafe.Sizeof(int32(0))<<16 | 'V'<<8 | 19)
	EnumFrameSizes = Request(read | write | unsafe.Sizeof(FrmSizeEnum{})<<16 | 'V'<<8 | 74)

	write = 1 << 30
	read  = 2 << 30
)

func (r Request) String() string {
	names := map[Request]string{
		QueryCap: "VIDIOC_QUERYCAP", EnumFmt: "VIDIOC_ENUM_FMT", GetFmt: "VIDIOC_G_FMT", SetFmt: "VIDIOC_S_FMT",
		ReqBufs: "VIDIOC_REQBUFS", QueryBuf: "VIDIOC_QUERYBUF", QBuf: "VIDIOC_QBUF", DQBuf: "VIDIOC_DQBUF",
		StreamOn: "VIDIOC_STREAMON", StreamOff: "VIDIOC_STREAMOFF", EnumFrameSizes: "VIDIOC_ENUM_FRAMESIZES",
	}
	if name, ok := names[r]; ok {
		return name
	}
	return "unknown ioctl"
}

// Constants of <linux/videodev2.h>, without their V4L2_ prefix.
const (
	CapVideoCapture       = 0x00000001
	CapVideoCaptureMplane = 0x00001000
	CapStreaming          = 0x04000000
	CapDeviceCaps         = 0x80000000

	BufTypeVideoCapture = 1
	MemoryMmap          = 1
	BufFlagError        = 0x00000040

	FieldNone = 1

	FrmSizeTypeDiscrete   = 1
	FrmSizeTypeContinuous = 2
	FrmSizeTypeStepwise   = 3

	PixFmtPrivMagic = 0xfeedcafe

	ColorspaceJPEG = 7

	QuantizationDefault   = 0
	QuantizationFullRange = 1
	QuantizationLimRange  = 2
)

// FourCC names a pixel format by four characters.
type FourCC uint32

// The pixel formats that matter here.
const (
	MJPG FourCC = 'M' | 'J'<<8 | 'P'<<16 | 'G'<<24 // Motion JPEG
	JPEG FourCC = 'J' | 'P'<<8 | 'E'<<16 | 'G'<<24 // JFIF JPEG
	YUYV FourCC = 'Y' | 'U'<<8 | 'Y'<<16 | 'V'<<24 // YCbCr 4:2:2, packed
)

func (f FourCC) String() string {
	b := []byte{byte(f), byte(f >> 8), byte(f >> 16), byte(f>>24) &^ 0x80}
	for i, c := range b {
		if c < ' ' || c > '~' {
			b[i] = '?'
		}
	}
	return string(b)
}

// Capability is struct v4l2_capability.
type Capability struct {
	Driver       [16]byte
	Card         [32]byte
	BusInfo      [32]byte
	Version      uint32
	Capabilities uint32
	DeviceCaps   uint32
	_            [3]uint32
}

// FmtDesc is struct v4l2_fmtdesc.
type FmtDesc struct {
	Index       uint32
	Type        uint32
	Flags       uint32
	Description [32]byte
	PixelFormat FourCC
	MbusCode    uint32
	_           [3]uint32
}

// FrmSizeEnum is struct v4l2_frmsizeenum. Size holds width and height of a
// discrete size, or the six fields of struct v4l2_frmsize_stepwise: least,
// greatest and step of the width, then of the height.
type FrmSizeEnum struct {
	Index       uint32
	PixelFormat FourCC
	Type        uint32
	Size        [6]uint32
	_           [2]uint32
}

// PixFormat is struct v4l2_pix_format.
type PixFormat struct {
	Width        uint32
	Height       uint32
	PixelFormat  FourCC
	Field        uint32
	BytesPerLine uint32
	SizeImage    uint32
	Colorspace   uint32
	Priv         uint32
	Flags        uint32
	YcbcrEnc     uint32
	Quantization uint32
	XferFunc     uint32
}

// Format is struct v4l2_format with the pix member of its union, which has
// members that hold pointers and is therefore aligned to 8 bytes.
type Format struct {
	Type uint32
	_    uint32
	Pix  PixFormat
	_    [200 - unsafe.Sizeof(PixFormat{})]byte
}

// RequestBuffers is struct v4l2_requestbuffers.
type RequestBuffers struct {
	Count        uint32
	Type         uint32
	Memory       uint32
	Capabilities uint32
	Flags        uint8
	_            [3]uint8
}

// Buffer is struct v4l2_buffer with the offset member of its union m.
type Buffer struct {
	Index     uint32
	Type      uint32
	BytesUsed uint32
	Flags     uint32
	Field     uint32
	_         uint32
	Seconds   int64 // timestamp, a struct timeval
	Micros    int64
	Timecode  [16]byte
	Sequence  uint32
	Memory    uint32
	Offset    uint32
	_         uint32
	Length    uint32
	_         uint32
	RequestFD int32
	_         uint32
}

// Node is an open video device.
type Node interface {
	// Ioctl makes a request; arg points to the structure that goes with it.
	// The error is the kernel's errno. An interrupted call is repeated.
	Ioctl(request Request, arg unsafe.Pointer) error
	// Mmap maps a buffer of the driver; Munmap takes it back.
	Mmap(offset int64, length int) ([]byte, error)
	Munmap(memory []byte) error
	// Poll waits until a buffer can be dequeued or the device is in error, at
	// most for timeout. It returns false when the time is over.
	Poll(timeout time.Duration) (bool, error)
	Close() error
}

// System finds and opens video devices.
type System interface {
	// Nodes lists the paths of the devices that exist.
	Nodes() ([]string, error)
	// Open opens the device with that path.
	Open(path string) (Node, error)
	// Link returns the path of the device that udev calls name in
	// /dev/v4l/by-id or /dev/v4l/by-path, or "".
	Link(name string) string
}

// Text returns the characters of a C string before its end.
func Text(s []byte) string {
	for i, c := range s {
		if c == 0 {
			return string(s[:i])
		}
	}
	return string(s)
}
