package emulator

import (
	"context"
	"fmt"
	"image"
	"image/color"
	_ "image/jpeg" // what pictures come as
	_ "image/png"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/image/draw"
)

// The camera's picture, as the program in the folder vivid wants it.
const pictureWidth, pictureHeight = 640, 480

// On the device: a file system in memory of our own, since /run may not allow
// programs; nothing of it is on the card.
const (
	guestDir     = "/run/emulator"
	guestProgram = guestDir + "/vivid"
	guestPicture = guestDir + "/picture.yuyv"
	cameraUnit   = "emulator-camera.service"
)

// PlugCamera plugs a camera in that shows grey until [Machine.ShowPicture], and
// returns its device, such as /dev/video0. It is the kernel's virtual video
// driver, with a program of ours that feeds it.
func (m *Machine) PlugCamera(ctx context.Context) (string, error) {
	if m.cameraPlugged(ctx) {
		device, err := m.Run(ctx, "sudo "+guestProgram+" device")
		return strings.TrimSpace(device), err
	}
	program, err := m.cameraProgram(ctx)
	if err != nil {
		return "", err
	}
	// One HDMI input, one HDMI output, and neither radio nor teletext. The daemon
	// opens a camera as soon as it may, and the signal cannot be chosen any more
	// once pictures flow: until then the device is root's.
	const load = "sudo sh -ec '" +
		"mkdir -p " + guestDir + " /run/udev/rules.d; " +
		"mountpoint -q " + guestDir + " || mount -t tmpfs -o mode=0755,size=32m tmpfs " + guestDir + "; " +
		`echo "SUBSYSTEM==\"video4linux\", ATTR{name}==\"vivid-*\", GROUP=\"root\", MODE=\"0600\"" >/run/udev/rules.d/99-emulator.rules; ` +
		"udevadm control --reload; " +
		"modprobe vivid n_devs=1 node_types=0x101 num_inputs=1 input_types=3 num_outputs=1 output_types=1'"
	if _, err := m.Run(ctx, load); err != nil {
		return "", fmt.Errorf("plugging the camera in: %w", err)
	}
	if err := m.Upload(ctx, guestProgram, "0755", program); err != nil {
		return "", fmt.Errorf("plugging the camera in: %w", err)
	}
	if err := m.Upload(ctx, guestPicture, "0644", yuyv(image.NewUniform(color.Gray{128}))); err != nil {
		return "", fmt.Errorf("plugging the camera in: %w", err)
	}
	device, err := m.Run(ctx, "sudo sh -ec 'udevadm settle; device=$("+guestProgram+" setup); "+
		"systemd-run --quiet --collect --unit="+cameraUnit+" --property=Restart=always "+guestProgram+" show "+guestPicture+"; "+
		"chgrp video $device; chmod 0660 $device; echo $device'")
	if err != nil {
		return "", fmt.Errorf("plugging the camera in: %w", err)
	}
	return strings.TrimSpace(device), nil
}

// UnplugCamera takes the camera away.
func (m *Machine) UnplugCamera(ctx context.Context) error {
	// The daemon lets go of the device when it finds it gone; the module cannot
	// be unloaded before.
	_, err := m.Run(ctx, "sudo systemctl stop "+cameraUnit+"; "+
		"echo vivid.0 | sudo tee /sys/bus/platform/drivers/vivid/unbind >/dev/null; "+
		"for i in $(seq 100); do sudo modprobe -r vivid 2>/dev/null && exit 0; sleep 0.2; done; sudo modprobe -r vivid")
	if err != nil {
		return fmt.Errorf("unplugging the camera: %w", err)
	}
	return nil
}

// ShowPicture puts a picture, a JPEG or PNG file, in front of the camera, which
// is plugged in if it is not. It is scaled to fit, with grey around it.
func (m *Machine) ShowPicture(ctx context.Context, file string) error {
	picture, err := decode(file)
	if err != nil {
		return err
	}
	if !m.cameraPlugged(ctx) {
		if _, err := m.PlugCamera(ctx); err != nil {
			return err
		}
	}
	if err := m.Upload(ctx, guestPicture, "0644", yuyv(picture)); err != nil {
		return fmt.Errorf("showing %s: %w", file, err)
	}
	return nil
}

// CameraControl sets a control of the camera's driver, by the name that v4l2-ctl
// gives it. Its faults are disconnect, inject_v4l2_buf_flag_error,
// inject_vidioc_streamon_error, inject_fatal_streaming_error,
// percentage_of_dropped_buffers and others; see the kernel's documentation of
// vivid.
func (m *Machine) CameraControl(ctx context.Context, name string, value int) error {
	_, err := m.Run(ctx, fmt.Sprintf("sudo %s control %s %d", guestProgram, name, value))
	return err
}

// cameraPlugged asks the device, which forgets the camera when it restarts.
func (m *Machine) cameraPlugged(ctx context.Context) bool {
	_, err := m.Run(ctx, "systemctl is-active --quiet "+cameraUnit)
	return err == nil
}

// cameraProgram builds the program that feeds the driver.
func (m *Machine) cameraProgram(ctx context.Context) ([]byte, error) {
	_, here, _, _ := runtime.Caller(0)
	program := m.path("vivid")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", program, "./vivid")
	build.Dir = filepath.Dir(here)
	build.Env = append(os.Environ(), "GOOS=linux", "GOARCH=arm64", "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("building the camera's program: %w: %s", err, out)
	}
	return os.ReadFile(program)
}

func decode(file string) (image.Image, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	picture, _, err := image.Decode(f)
	if err != nil {
		return nil, fmt.Errorf("picture %s: %w", file, err)
	}
	return picture, nil
}

// yuyv scales a picture to what the camera takes and writes it as a USB camera
// does: two pixels in four bytes, limited range, BT.601.
func yuyv(picture image.Image) []byte {
	frame := image.NewRGBA(image.Rect(0, 0, pictureWidth, pictureHeight))
	draw.Draw(frame, frame.Bounds(), image.NewUniform(color.Gray{128}), image.Point{}, draw.Src)
	if _, uniform := picture.(*image.Uniform); uniform {
		draw.Draw(frame, frame.Bounds(), picture, image.Point{}, draw.Src)
	} else {
		size := picture.Bounds().Size()
		w, h := pictureWidth, size.Y*pictureWidth/size.X
		if h > pictureHeight {
			w, h = size.X*pictureHeight/size.Y, pictureHeight
		}
		at := image.Rect(0, 0, w, h).Add(image.Pt((pictureWidth-w)/2, (pictureHeight-h)/2))
		draw.CatmullRom.Scale(frame, at, picture, picture.Bounds(), draw.Src, nil)
	}
	out := make([]byte, 0, 2*pictureWidth*pictureHeight)
	for y := range pictureHeight {
		for x := 0; x < pictureWidth; x += 2 {
			y0, u0, v0 := limited(frame.RGBAAt(x, y))
			y1, u1, v1 := limited(frame.RGBAAt(x+1, y))
			out = append(out, y0, byte((int(u0)+int(u1))/2), y1, byte((int(v0)+int(v1))/2))
		}
	}
	return out
}

// limited converts to YCbCr with 16 as black and 235 as white.
func limited(c color.RGBA) (y, u, v uint8) {
	y, u, v = color.RGBToYCbCr(c.R, c.G, c.B)
	return uint8(16 + int(y)*219/255), uint8(128 + (int(u)-128)*224/255), uint8(128 + (int(v)-128)*224/255)
}
