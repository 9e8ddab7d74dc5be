package uapi

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"unsafe"

	"github.com/google/go-cmp/cmp"
)

// member is a structure's size (no name) or the offset of one of its members.
type member struct {
	c     string // expression of C
	value uintptr
}

func layout() []member {
	var (
		capability Capability
		desc       FmtDesc
		size       FrmSizeEnum
		format     Format
		pix        PixFormat
		request    RequestBuffers
		buffer     Buffer
	)
	return []member{
		{"sizeof(struct v4l2_capability)", unsafe.Sizeof(capability)},
		{"offsetof(struct v4l2_capability, card)", unsafe.Offsetof(capability.Card)},
		{"offsetof(struct v4l2_capability, bus_info)", unsafe.Offsetof(capability.BusInfo)},
		{"offsetof(struct v4l2_capability, capabilities)", unsafe.Offsetof(capability.Capabilities)},
		{"offsetof(struct v4l2_capability, device_caps)", unsafe.Offsetof(capability.DeviceCaps)},
		{"sizeof(struct v4l2_fmtdesc)", unsafe.Sizeof(desc)},
		{"offsetof(struct v4l2_fmtdesc, type)", unsafe.Offsetof(desc.Type)},
		{"offsetof(struct v4l2_fmtdesc, description)", unsafe.Offsetof(desc.Description)},
		{"offsetof(struct v4l2_fmtdesc, pixelformat)", unsafe.Offsetof(desc.PixelFormat)},
		{"sizeof(struct v4l2_frmsizeenum)", unsafe.Sizeof(size)},
		{"offsetof(struct v4l2_frmsizeenum, pixel_format)", unsafe.Offsetof(size.PixelFormat)},
		{"offsetof(struct v4l2_frmsizeenum, type)", unsafe.Offsetof(size.Type)},
		{"offsetof(struct v4l2_frmsizeenum, discrete)", unsafe.Offsetof(size.Size)},
		{"offsetof(struct v4l2_frmsizeenum, discrete.height)", unsafe.Offsetof(size.Size) + 4},
		{"offsetof(struct v4l2_frmsizeenum, stepwise.min_height)", unsafe.Offsetof(size.Size) + 12},
		{"offsetof(struct v4l2_frmsizeenum, stepwise.step_height)", unsafe.Offsetof(size.Size) + 20},
		{"sizeof(struct v4l2_format)", unsafe.Sizeof(format)},
		{"offsetof(struct v4l2_format, fmt.pix)", unsafe.Offsetof(format.Pix)},
		{"sizeof(struct v4l2_pix_format)", unsafe.Sizeof(pix)},
		{"offsetof(struct v4l2_pix_format, pixelformat)", unsafe.Offsetof(pix.PixelFormat)},
		{"offsetof(struct v4l2_pix_format, bytesperline)", unsafe.Offsetof(pix.BytesPerLine)},
		{"offsetof(struct v4l2_pix_format, sizeimage)", unsafe.Offsetof(pix.SizeImage)},
		{"offsetof(struct v4l2_pix_format, colorspace)", unsafe.Offsetof(pix.Colorspace)},
		{"offsetof(struct v4l2_pix_format, priv)", unsafe.Offsetof(pix.Priv)},
		{"offsetof(struct v4l2_pix_format, quantization)", unsafe.Offsetof(pix.Quantization)},
		{"sizeof(struct v4l2_requestbuffers)", unsafe.Sizeof(request)},
		{"offsetof(struct v4l2_requestbuffers, memory)", unsafe.Offsetof(request.Memory)},
		{"sizeof(struct v4l2_buffer)", unsafe.Sizeof(buffer)},
		{"offsetof(struct v4l2_buffer, bytesused)", unsafe.Offsetof(buffer.BytesUsed)},
		{"offsetof(struct v4l2_buffer, flags)", unsafe.Offsetof(buffer.Flags)},
		{"offsetof(struct v4l2_buffer, timestamp)", unsafe.Offsetof(buffer.Seconds)},
		{"offsetof(struct v4l2_buffer, timestamp.tv_usec)", unsafe.Offsetof(buffer.Micros)},
		{"offsetof(struct v4l2_buffer, timecode)", unsafe.Offsetof(buffer.Timecode)},
		{"offsetof(struct v4l2_buffer, sequence)", unsafe.Offsetof(buffer.Sequence)},
		{"offsetof(struct v4l2_buffer, memory)", unsafe.Offsetof(buffer.Memory)},
		{"offsetof(struct v4l2_buffer, m.offset)", unsafe.Offsetof(buffer.Offset)},
		{"offsetof(struct v4l2_buffer, length)", unsafe.Offsetof(buffer.Length)},
		{"VIDIOC_QUERYCAP", uintptr(QueryCap)},
		{"VIDIOC_ENUM_FMT", uintptr(EnumFmt)},
		{"VIDIOC_G_FMT", uintptr(GetFmt)},
		{"VIDIOC_S_FMT", uintptr(SetFmt)},
		{"VIDIOC_REQBUFS", uintptr(ReqBufs)},
		{"VIDIOC_QUERYBUF", uintptr(QueryBuf)},
		{"VIDIOC_QBUF", uintptr(QBuf)},
		{"VIDIOC_DQBUF", uintptr(DQBuf)},
		{"VIDIOC_STREAMON", uintptr(StreamOn)},
		{"VIDIOC_STREAMOFF", uintptr(StreamOff)},
		{"VIDIOC_ENUM_FRAMESIZES", uintptr(EnumFrameSizes)},
		{"V4L2_CAP_VIDEO_CAPTURE", CapVideoCapture},
		{"V4L2_CAP_VIDEO_CAPTURE_MPLANE", CapVideoCaptureMplane},
		{"V4L2_CAP_STREAMING", CapStreaming},
		{"V4L2_CAP_DEVICE_CAPS", CapDeviceCaps},
		{"V4L2_BUF_TYPE_VIDEO_CAPTURE", BufTypeVideoCapture},
		{"V4L2_MEMORY_MMAP", MemoryMmap},
		{"V4L2_BUF_FLAG_ERROR", BufFlagError},
		{"V4L2_FIELD_NONE", FieldNone},
		{"V4L2_FRMSIZE_TYPE_DISCRETE", FrmSizeTypeDiscrete},
		{"V4L2_FRMSIZE_TYPE_CONTINUOUS", FrmSizeTypeContinuous},
		{"V4L2_FRMSIZE_TYPE_STEPWISE", FrmSizeTypeStepwise},
		{"V4L2_PIX_FMT_PRIV_MAGIC", PixFmtPrivMagic},
		{"V4L2_COLORSPACE_JPEG", ColorspaceJPEG},
		{"V4L2_QUANTIZATION_FULL_RANGE", QuantizationFullRange},
		{"V4L2_QUANTIZATION_LIM_RANGE", QuantizationLimRange},
		{"V4L2_PIX_FMT_MJPEG", uintptr(MJPG)},
		{"V4L2_PIX_FMT_JPEG", uintptr(JPEG)},
		{"V4L2_PIX_FMT_YUYV", uintptr(YUYV)},
	}
}

// The kernel's own header, through the C compiler that cgo needs anyway, says
// what every offset and number has to be.
func TestLayoutIsTheHeaders(t *testing.T) {
	if runtime.GOARCH != "amd64" && runtime.GOARCH != "arm64" {
		t.Fatalf("the layouts are not for %s", runtime.GOARCH)
	}
	var source, got strings.Builder
	source.WriteString("#include <stddef.h>\n#include <stdio.h>\n#include <linux/videodev2.h>\nint main(void) {\n")
	for _, m := range layout() {
		fmt.Fprintf(&source, "\tprintf(\"%%s = %%#lx\\n\", %q, (unsigned long)(%s));\n", m.c, m.c)
		fmt.Fprintf(&got, "%s = %s\n", m.c, hex(m.value))
	}
	source.WriteString("\treturn 0;\n}\n")

	dir := t.TempDir()
	file, program := filepath.Join(dir, "layout.c"), filepath.Join(dir, "layout")
	if err := os.WriteFile(file, []byte(source.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	compiler := "cc"
	if named := os.Getenv("CC"); named != "" {
		compiler = named
	}
	if out, err := exec.Command(compiler, "-o", program, file).CombinedOutput(); err != nil {
		t.Fatalf("compiling against <linux/videodev2.h> (apt-get install gcc libc6-dev linux-libc-dev): %v\n%s", err, out)
	}
	want, err := exec.Command(program).Output()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got.String()); diff != "" {
		t.Errorf("the header's (-) and this package's (+) layout differ:\n%s", diff)
	}
}

func hex(v uintptr) string {
	if v == 0 { // as printf's %#lx has it
		return "0"
	}
	return fmt.Sprintf("%#x", v)
}

func TestNames(t *testing.T) {
	for f, want := range map[FourCC]string{MJPG: "MJPG", YUYV: "YUYV", 0x0000ff01: "????", YUYV | 1<<31: "YUYV"} {
		if got := f.String(); got != want {
			t.Errorf("%#x is %q, want %q", uint32(f), got, want)
		}
	}
	if got := DQBuf.String(); got != "VIDIOC_DQBUF" {
		t.Error(got)
	}
	if got := Request(1).String(); got != "unknown ioctl" {
		t.Error(got)
	}
	for s, want := range map[string]string{"UVC\x00xx": "UVC", "full": "full", "": ""} {
		if got := Text([]byte(s)); got != want {
			t.Errorf("%q is %q", s, got)
		}
	}
}

func TestOpenRefusesWhatIsNoDevice(t *testing.T) {
	file := filepath.Join(t.TempDir(), "video0")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{file: "not a character device", file + "x": "no such file"} {
		if _, err := (Linux{}).Open(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("opening %s: %v, want %q", path, err, want)
		}
	}
	n, err := Linux{}.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	var c Capability
	if err := n.Ioctl(QueryCap, unsafe.Pointer(&c)); err == nil {
		t.Error("/dev/null answered VIDIOC_QUERYCAP")
	}
	if ready, err := n.Poll(0); err != nil || !ready {
		t.Errorf("polling /dev/null: %v, %v", ready, err)
	}
}
