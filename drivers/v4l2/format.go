package v4l2

import (
	"fmt"
	"strings"

	"tuxwatch/drivers/v4l2/uapi"
)

// Size is the size of a picture in pixels.
type Size struct{ Width, Height int }

func (s Size) String() string { return fmt.Sprintf("%dx%d", s.Width, s.Height) }

// sizeRange holds the sizes that a camera offers in a format: any that lies
// between Min and Max in whole steps from Min. A discrete size has Min == Max.
type sizeRange struct{ min, max, step Size }

// nearest returns the size of the range that is nearest to want.
func (r sizeRange) nearest(want Size) Size {
	return Size{
		Width:  nearestStep(want.Width, r.min.Width, r.max.Width, r.step.Width),
		Height: nearestStep(want.Height, r.min.Height, r.max.Height, r.step.Height),
	}
}

func nearestStep(want, low, high, step int) int {
	if high < low {
		high = low
	}
	want = min(max(want, low), high)
	if step <= 0 {
		return low
	}
	steps := (want - low + step/2) / step
	if low+steps*step > high {
		steps = (high - low) / step
	}
	return low + steps*step
}

// nearestSize returns the size nearest to want that ranges offer: the one whose
// width and height differ least, the larger of two equally near. Without ranges
// it is want itself, for the driver to adjust.
func nearestSize(ranges []sizeRange, want Size) Size {
	best, found := want, false
	distance := func(s Size) int { return abs(s.Width-want.Width) + abs(s.Height-want.Height) }
	for _, r := range ranges {
		s := r.nearest(want)
		if d := distance(s) - distance(best); !found || d < 0 || d == 0 && s.Width*s.Height > best.Width*best.Height {
			best, found = s, true
		}
	}
	return best
}

func abs(n int) int { return max(n, -n) }

// Encoding is how a camera is asked to deliver its pictures.
type Encoding string

// The encodings. With Auto the camera's own JPEG is preferred: it needs a
// fraction of the USB bandwidth, and no work here.
const (
	Auto  Encoding = "auto"
	MJPEG Encoding = "mjpeg"
	YUYV  Encoding = "yuyv"
)

// candidates returns which of the offered pixel formats to try, best first.
func (e Encoding) candidates(offered []uapi.FourCC) []uapi.FourCC {
	preference := map[Encoding][]uapi.FourCC{
		Auto:  {uapi.MJPG, uapi.JPEG, uapi.YUYV},
		MJPEG: {uapi.MJPG, uapi.JPEG},
		YUYV:  {uapi.YUYV},
	}[e]
	var found []uapi.FourCC
	for _, f := range preference {
		for _, o := range offered {
			if f == o {
				found = append(found, f)
				break
			}
		}
	}
	return found
}

func list(formats []uapi.FourCC) string {
	if len(formats) == 0 {
		return "none"
	}
	names := make([]string, len(formats))
	for i, f := range formats {
		names[i] = f.String()
	}
	return strings.Join(names, ", ")
}
