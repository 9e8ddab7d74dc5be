package teach

import (
	"image"
	"math"
	"math/rand/v2"

	"golang.org/x/image/draw"
	"golang.org/x/image/math/f64"
)

// workingSize is the longer side of a picture that changed copies are made of:
// with it a part of the picture still has enough pixels for the model's input.
const workingSize = 512

// augment gives a changed copy of a picture, as another moment, place or light
// would show the same: mirrored, moved, nearer or farther, a little turned,
// lighter or darker, warmer or colder, blurred, with a camera's noise.
func augment(img *image.RGBA, r *rand.Rand) *image.RGBA {
	out := move(img, r)
	relight(out, r)
	switch r.IntN(4) {
	case 0:
		out = soften(out, 0.3+0.4*r.Float64())
	case 1:
		addNoise(out, 2+6*r.Float64(), r)
	}
	return out
}

// move turns, scales, shifts and perhaps mirrors. At most a quarter of each side
// is lost, so that what the picture is about stays in it.
func move(img *image.RGBA, r *rand.Rand) *image.RGBA {
	size := img.Bounds().Size()
	w, h := float64(size.X), float64(size.Y)
	keep := 0.75 + 0.25*r.Float64() // of width and height
	angle := (2*r.Float64() - 1) * 8 * math.Pi / 180
	dx, dy := (2*r.Float64()-1)*(1-keep)/2*w, (2*r.Float64()-1)*(1-keep)/2*h
	mirror := 1.0
	if r.IntN(2) == 0 {
		mirror = -1
	}
	// Around the middle: turned, magnified, and the part at (dx, dy) in sight.
	sin, cos := math.Sincos(angle)
	a, b := mirror*cos/keep, -sin/keep
	c, d := mirror*sin/keep, cos/keep
	cx, cy := w/2+dx, h/2+dy
	toTarget := f64.Aff3{
		a, b, w/2 - a*cx - b*cy,
		c, d, h/2 - c*cx - d*cy,
	}
	out := image.NewRGBA(img.Bounds())
	// What the turned picture leaves free in the corners shows the picture
	// itself, which is closer to a real scene than a black corner.
	copy(out.Pix, img.Pix)
	draw.ApproxBiLinear.Transform(out, toTarget, img, img.Bounds(), draw.Src, nil)
	return out
}

// relight changes exposure, contrast and white balance.
func relight(img *image.RGBA, r *rand.Rand) {
	exposure := math.Exp((2*r.Float64() - 1) * 0.45)
	contrast := 1 + (2*r.Float64()-1)*0.25
	warmth := (2*r.Float64() - 1) * 0.10
	gains := [3]float64{exposure * (1 + warmth), exposure, exposure * (1 - warmth)}
	var table [3][256]uint8
	for color, gain := range gains {
		for v := range 256 {
			level := (float64(v)*gain-128)*contrast + 128
			table[color][v] = uint8(min(max(math.Round(level), 0), 255))
		}
	}
	for i := 0; i < len(img.Pix); i += 4 {
		img.Pix[i] = table[0][img.Pix[i]]
		img.Pix[i+1] = table[1][img.Pix[i+1]]
		img.Pix[i+2] = table[2][img.Pix[i+2]]
	}
}

// soften loses detail as a lens out of focus does: smaller and larger again.
func soften(img *image.RGBA, scale float64) *image.RGBA {
	b := img.Bounds()
	small := image.NewRGBA(image.Rect(0, 0, max(1, int(float64(b.Dx())*scale)), max(1, int(float64(b.Dy())*scale))))
	draw.ApproxBiLinear.Scale(small, small.Bounds(), img, b, draw.Src, nil)
	return small // the model's input is filled from it directly
}

// addNoise adds what a small sensor adds in dim light.
func addNoise(img *image.RGBA, deviation float64, r *rand.Rand) {
	// Drawing a number for each sample would take longer than all the rest.
	var noise [1024]int
	for i := range noise {
		noise[i] = int(math.Round(r.NormFloat64() * deviation))
	}
	state := r.Uint32()
	for i, v := range img.Pix {
		if i%4 == 3 {
			continue
		}
		state = state*1664525 + 1013904223
		img.Pix[i] = uint8(min(max(int(v)+noise[state>>22], 0), 255))
	}
}
