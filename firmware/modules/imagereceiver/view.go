package imagereceiver

import (
	"image"
	"image/color"
	"image/draw"
	"math"

	"golang.org/x/image/vector"
)

// grey is what the model gets to see of what it is not to see.
var grey = image.NewUniform(color.Gray{128})

// The size that pictures are decoded to for a scene.
const (
	// enough is how many pixels the longer side of a region has at least, if
	// the picture has them: models take 224 or so on both sides, and the shorter
	// side of a 16:9 picture is little more than half of the longer one.
	enough = 640
	// most bounds the memory that a decoded picture takes, to 16 MiB.
	most = 2048
)

// longest is the size to decode pictures to.
func (s scene) longest() int {
	least := 1.0
	for _, r := range s.regions {
		left, top, right, bottom := box(r.outline)
		least = min(least, right-left, bottom-top)
	}
	return int(min(most, math.Ceil(enough/least)))
}

// mask fills the masks' areas of a picture with grey and returns what it has
// hidden; nil for nothing.
func (s scene) mask(img *image.RGBA) *image.Alpha {
	if len(s.masks) == 0 {
		return nil
	}
	hidden := image.NewAlpha(img.Rect)
	for _, m := range s.masks {
		m.rasterize(hidden)
	}
	draw.DrawMask(img, img.Rect, grey, image.Point{}, hidden, image.Point{}, draw.Over)
	return hidden
}

// rasterize adds the area to an alpha image of a whole picture.
func (a area) rasterize(to *image.Alpha) {
	size := to.Rect.Size()
	r := vector.NewRasterizer(size.X, size.Y)
	for i, p := range a.outline {
		x, y := float32(p[0]*float64(size.X)), float32(p[1]*float64(size.Y))
		if i == 0 {
			r.MoveTo(x, y)
		} else {
			r.LineTo(x, y)
		}
	}
	r.ClosePath()
	r.Draw(to, to.Rect, image.Opaque, image.Point{})
}

// cut returns the area's part of a picture, grey where a polygon leaves its box.
func (a area) cut(img *image.RGBA) image.Image {
	size := img.Rect.Size()
	left, top, right, bottom := box(a.outline)
	part := image.Rect(
		int(left*float64(size.X)), int(top*float64(size.Y)),
		int(math.Ceil(right*float64(size.X))), int(math.Ceil(bottom*float64(size.Y))),
	).Intersect(img.Rect)
	if a.whole {
		return img.SubImage(part)
	}
	inside := image.NewAlpha(img.Rect)
	a.rasterize(inside)
	own := image.NewRGBA(part)
	draw.Draw(own, part, grey, image.Point{}, draw.Src)
	draw.DrawMask(own, part, img, part.Min, inside, part.Min, draw.Over)
	return own
}

// light is what was measured of a picture.
type light struct {
	luminance float64 // the average, 0 (black) to 1 (white)
	// color is how much the pixels differ in color (the standard deviation of
	// their chrominance, 0 to 1), not how colorful they are: an infrared
	// picture may well have a tint, but only one.
	color float64
}

// colorless is what an infrared picture's light.color is below. JPEG leaves
// something of its noise there; photographs by daylight have 0.02 and more.
const colorless = 0.01

// measure takes the light of what is not hidden, from some of the pixels. A
// picture that is hidden altogether is not dark.
func measure(img *image.RGBA, hidden *image.Alpha) light {
	const samples = 1 << 14
	size := img.Rect.Size()
	step := max(1, int(math.Sqrt(float64(size.X)*float64(size.Y)/samples)))
	var n, y, cb, cr, cb2, cr2 float64
	for py := img.Rect.Min.Y; py < img.Rect.Max.Y; py += step {
		for px := img.Rect.Min.X; px < img.Rect.Max.X; px += step {
			if hidden != nil && hidden.AlphaAt(px, py).A > 0 {
				continue
			}
			p := img.RGBAAt(px, py)
			luma, blue, red := color.RGBToYCbCr(p.R, p.G, p.B)
			b, r := float64(blue)/255, float64(red)/255
			n++
			y += float64(luma) / 255
			cb += b
			cr += r
			cb2 += b * b
			cr2 += r * r
		}
	}
	if n == 0 {
		return light{luminance: 1, color: 1}
	}
	variance := cb2/n - cb/n*cb/n + cr2/n - cr/n*cr/n
	return light{luminance: y / n, color: math.Sqrt(max(0, variance))}
}

// night says whether the light is that of a night frame.
func (p *Properties) night(l light) bool {
	return l.luminance < p.NightLuminance || p.NightGrey && l.color < colorless
}
