package v4l2

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/jpeg"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"tuxwatch/drivers/mjpeg"
	"tuxwatch/drivers/v4l2/uapi"
)

// Frame is a picture as the camera delivered it.
type Frame struct {
	Data     []byte
	Format   uapi.FourCC
	Size     Size
	Stride   int    // bytes from line to line, for YUYV
	Full     bool   // YUYV uses the whole range 0 to 255
	Sequence uint32 // the driver's count of pictures, with those that got lost
	Time     time.Time
}

// pollSlice is how long a wait for the camera goes on before it looks whether
// it is still wanted.
const pollSlice = 200 * time.Millisecond

// Frame waits for the next picture that the camera finishes and stores it in
// buf if it has room. Pictures that were waiting in the driver are thrown away,
// so the picture is at most one frame older than the call. It returns
// ErrStalled if no whole picture comes within the stall timeout, ErrUnplugged
// if the camera is gone; the camera has to be opened again then.
func (d *Dev) Frame(ctx context.Context, buf []byte) (Frame, error) {
	if d.node == nil {
		return Frame{}, errors.New("v4l2: Frame after Halt")
	}
	if err := d.flush(); err != nil {
		return Frame{}, err
	}
	deadline := time.Now().Add(d.opts.StallTimeout)
	damaged := d.stats.Damaged
	for {
		if err := ctx.Err(); err != nil {
			return Frame{}, err
		}
		left := time.Until(deadline)
		if left <= 0 {
			return Frame{}, fmt.Errorf("%w: nothing usable for %v (%d damaged) from %v",
				ErrStalled, d.opts.StallTimeout, d.stats.Damaged-damaged, d)
		}
		ready, err := d.node.Poll(min(left, pollSlice))
		if err != nil {
			return Frame{}, fmt.Errorf("waiting for %v: %w", d, err)
		}
		if !ready {
			continue
		}
		b, whole, err := d.dequeue()
		if errors.Is(err, unix.EAGAIN) {
			// A device in error polls as ready. Wait, so as not to spin on it.
			select {
			case <-time.After(time.Millisecond):
			case <-ctx.Done():
			}
			continue
		}
		if err != nil {
			return Frame{}, err
		}
		if !whole {
			d.stats.Damaged++
			if err := d.queue(b.Index); err != nil {
				return Frame{}, err
			}
			continue
		}
		frame := Frame{
			Data:     append(buf[:0], d.memory[b.Index][:b.BytesUsed]...),
			Format:   d.pix.PixelFormat,
			Size:     Size{int(d.pix.Width), int(d.pix.Height)},
			Stride:   int(d.pix.BytesPerLine),
			Full:     fullRange(d.pix),
			Sequence: b.Sequence,
			Time:     time.Now(),
		}
		if err := d.queue(b.Index); err != nil {
			return Frame{}, err
		}
		d.stats.Frames++
		return frame, nil
	}
}

// flush gives the pictures that wait in the driver back to it.
func (d *Dev) flush() error {
	for range d.memory {
		b, _, err := d.dequeue()
		if errors.Is(err, unix.EAGAIN) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := d.queue(b.Index); err != nil {
			return err
		}
	}
	return nil
}

// dequeue takes a filled buffer from the driver and says whether it holds a
// whole picture (section "ioctl VIDIOC_QBUF, VIDIOC_DQBUF").
func (d *Dev) dequeue() (b uapi.Buffer, whole bool, err error) {
	b = buffer(0)
	if err := call(d.node, uapi.DQBuf, unsafe.Pointer(&b)); err != nil {
		if errors.Is(err, unix.EAGAIN) {
			return b, false, unix.EAGAIN
		}
		return b, false, fmt.Errorf("reading from %v: %w", d, err)
	}
	if int(b.Index) >= len(d.memory) {
		return b, false, fmt.Errorf("reading from %v: the driver returned buffer %d of %d", d, b.Index, len(d.memory))
	}
	whole = b.Flags&uapi.BufFlagError == 0 && b.BytesUsed > 0 && int(b.BytesUsed) <= len(d.memory[b.Index])
	return b, whole, nil
}

// fullRange says whether a format's luminance goes from 0 to 255 rather than
// from 16 to 235 (section "Colorspaces": the default is the limited range for
// all colour spaces but JPEG's).
func fullRange(p uapi.PixFormat) bool {
	if p.Priv == uapi.PixFmtPrivMagic && p.Quantization != uapi.QuantizationDefault {
		return p.Quantization == uapi.QuantizationFullRange
	}
	return p.Colorspace == uapi.ColorspaceJPEG
}

// JPEG returns the picture as a JPEG file. What the camera compressed itself is
// kept as it is, with the Huffman tables that many leave out; YUYV is
// compressed at the given quality, 1 to 100. A *mjpeg.DamageError says that the
// picture arrived damaged.
func (f Frame) JPEG(quality int) ([]byte, error) {
	if f.Format != uapi.YUYV {
		return mjpeg.Picture(f.Data)
	}
	img, err := f.ycbcr()
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	b.Grow(f.Size.Width * f.Size.Height / 4)
	if err := jpeg.Encode(&b, img, &jpeg.Options{Quality: quality}); err != nil {
		return nil, fmt.Errorf("compressing a picture of %v: %w", f.Size, err)
	}
	return b.Bytes(), nil
}

// ycbcr unpacks YUYV, two pixels in the four bytes Y0 Cb Y1 Cr (section "Packed
// YUV formats"), into the planes of JPEG, whose values use the whole range
// (JFIF 1.02, page 3).
func (f Frame) ycbcr() (*image.YCbCr, error) {
	w, h := f.Size.Width, f.Size.Height
	stride := f.Stride
	if stride == 0 {
		stride = 2 * w
	}
	if w <= 0 || h <= 0 || w%2 != 0 || stride < 2*w || len(f.Data) < (h-1)*stride+2*w {
		return nil, &mjpeg.DamageError{Reason: fmt.Sprintf("%d bytes for %v YUYV in lines of %d bytes", len(f.Data), f.Size, stride)}
	}
	luma, chroma := &limitedLuma, &limitedChroma
	if f.Full {
		luma, chroma = &same, &same
	}
	img := image.NewYCbCr(image.Rect(0, 0, w, h), image.YCbCrSubsampleRatio422)
	for y := range h {
		line := f.Data[y*stride : y*stride+2*w]
		ys := img.Y[y*img.YStride : y*img.YStride+w]
		cbs := img.Cb[y*img.CStride : y*img.CStride+w/2]
		crs := img.Cr[y*img.CStride : y*img.CStride+w/2]
		for x := range w / 2 {
			p := line[4*x : 4*x+4]
			ys[2*x], ys[2*x+1] = luma[p[0]], luma[p[2]]
			cbs[x], crs[x] = chroma[p[1]], chroma[p[3]]
		}
	}
	return img, nil
}

// Tables from the limited range (ITU-R BT.601: luminance 16 to 235, colour
// differences 16 to 240) to the whole one.
var limitedLuma, limitedChroma, same = func() (l, c, s [256]byte) {
	for i := range 256 {
		l[i] = clamp((float64(i) - 16) * 255 / 219)
		c[i] = clamp((float64(i)-128)*255/224 + 128)
		s[i] = byte(i)
	}
	return
}()

func clamp(v float64) byte { return byte(min(max(v+0.5, 0), 255)) }
