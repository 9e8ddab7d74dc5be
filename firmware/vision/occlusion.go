package vision

import (
	"image"
	"math"
	"slices"
)

// A window is a part of a picture with soft edges: a product of one weight for
// the column and one for the row, each 0 … 256. Hard edges would be an object
// of their own to a network.
type window struct {
	across, down []uint16
	// shown: the picture is blurred but for the window, not in the window alone.
	shown bool
	// scale is the number of the scale that the window belongs to.
	scale int
}

// A scale is a lattice of windows: so many along each axis, each covering a
// share of the axis.
type scale struct {
	along int
	share float64
	shown bool
}

// The scales. Large windows find what the model decides by as a whole, small
// ones where it is; what is enough when it alone is shown finds it where the
// picture has several reasons, each of which suffices (hiding one changes
// nothing then). Together they are 180 windows.
var scales = []scale{
	{along: 5, share: 0.5},
	{along: 7, share: 0.3},
	{along: 9, share: 0.18},
	{along: 5, share: 0.45, shown: true},
}

// Invocations is how often explaining a picture runs the model: once for the
// picture as it is, once for it wholly blurred, and once for each window.
const Invocations = 2 + 5*5 + 7*7 + 9*9 + 5*5

// windows lists the windows on an input, in their order. visible is the part of
// the input with the picture in it: of a letterboxed one the bars are left out.
func windows(input image.Point, visible image.Rectangle) []window {
	var all []window
	for i, s := range scales {
		var columns, rows [][]uint16
		for n := range s.along {
			centre := (float64(n) + 0.5) / float64(s.along)
			columns = append(columns, profile(input.X, visible.Min.X, visible.Max.X, centre, s.share))
			rows = append(rows, profile(input.Y, visible.Min.Y, visible.Max.Y, centre, s.share))
		}
		for _, row := range rows {
			for _, column := range columns {
				all = append(all, window{across: column, down: row, shown: s.shown, scale: i})
			}
		}
	}
	return all
}

// profile is a window along one axis: 256 in the middle, with a cosine's slope
// to 0 on either side; at half of its height it covers share of from … to.
func profile(size, from, to int, centre, share float64) []uint16 {
	const slope = 0.3 // of half the width, on either side of the edge
	weights := make([]uint16, size)
	half := share / 2 * float64(to-from)
	middle := float64(from) + centre*float64(to-from)
	for i := from; i < to; i++ {
		distance := math.Abs(float64(i)+0.5-middle) / half
		fall := min(max((distance-1+slope)/(2*slope), 0), 1)
		weights[i] = uint16(math.Round(128 * (1 + math.Cos(math.Pi*fall))))
	}
	return weights
}

// canvas is a picture in the size of a model's input that windows are laid on:
// samples as resizeTo makes them, three bytes a pixel.
type canvas struct {
	size           image.Point
	sharp, blurred []byte
	mixed          []byte
}

func newCanvas(samples []byte, size image.Point, visible image.Rectangle) *canvas {
	return &canvas{
		size: size, sharp: samples, blurred: blur(samples, size, visible), mixed: make([]byte, len(samples)),
	}
}

// blur makes of a picture what shows colours and light, but no shape any more:
// three passes of a box a quarter as wide as the picture, close to a Gaussian.
// What is not visible stays as it is.
func blur(samples []byte, size image.Point, visible image.Rectangle) []byte {
	out := slices.Clone(samples)
	line := make([]byte, max(size.X, size.Y))
	// pass averages n pixels' samples of one colour, the first at start.
	pass := func(start, step, n, radius int) {
		for i := range n {
			line[i] = out[start+i*step]
		}
		// Beyond its ends a line goes on with its last samples.
		at := func(i int) int { return int(line[min(max(i, 0), n-1)]) }
		sum := 0
		for i := -radius; i <= radius; i++ {
			sum += at(i)
		}
		width := 2*radius + 1
		for i := range n {
			out[start+i*step] = byte((sum + width/2) / width)
			sum += at(i+radius+1) - at(i-radius)
		}
	}
	for range 3 {
		for color := range 3 {
			for y := visible.Min.Y; y < visible.Max.Y; y++ {
				pass(3*(y*size.X+visible.Min.X)+color, 3, visible.Dx(), visible.Dx()/8)
			}
			for x := visible.Min.X; x < visible.Max.X; x++ {
				pass(3*(visible.Min.Y*size.X+x)+color, 3*size.X, visible.Dy(), visible.Dy()/8)
			}
		}
	}
	return out
}

// under gives the samples with a window laid on the picture, valid until the
// next call.
func (c *canvas) under(w window) []byte {
	inside, outside := c.blurred, c.sharp
	if w.shown {
		inside, outside = outside, inside
	}
	copy(c.mixed, outside)
	for y, down := range w.down {
		if down == 0 {
			continue
		}
		for x, across := range w.across {
			if across == 0 {
				continue
			}
			share := int(across) * int(down) // 0 … 2¹⁶
			for i := 3 * (y*c.size.X + x); i < 3*(y*c.size.X+x+1); i++ {
				c.mixed[i] = byte((int(inside[i])*share + int(outside[i])*(1<<16-share) + 1<<15) >> 16)
			}
		}
	}
	return c.mixed
}

// evidence is how much speaks for a label: the logarithm of its odds, bounded
// at the steps of one in 256 that quantised models answer in.
func evidence(probability float64) float64 {
	const least = 1.0 / 512
	p := min(max(probability, least), 1-least)
	return math.Log(p / (1 - p))
}

// full is the evidence, on average over the scales, that makes a part count
// fully: the odds are divided by four and a half without it. Parts that count
// less are shown as less, however much they count beside the others: a picture
// of nothing in particular has no part that its label hangs on.
const full = 1.5

// relevance adds up the effects of windows into a map of the input's size: at
// every scale a pixel gets the mean of the effects of the windows over it, by
// their weights there, and the scales count alike. It is 0 … 1.
func relevance(input image.Point, all []window, effects []float64) []float64 {
	total := make([]float64, input.X*input.Y)
	for s := range scales {
		sums, weights := make([]float64, len(total)), make([]float64, len(total))
		for i, w := range all {
			if w.scale != s {
				continue
			}
			for y, down := range w.down {
				if down == 0 {
					continue
				}
				for x, across := range w.across {
					weight := float64(down) * float64(across)
					sums[y*input.X+x] += weight * effects[i]
					weights[y*input.X+x] += weight
				}
			}
		}
		for i, weight := range weights {
			if weight > 0 {
				total[i] += sums[i] / weight
			}
		}
	}
	most := full * float64(len(scales))
	for _, v := range total {
		most = max(most, v)
	}
	for i, v := range total {
		// The square takes back some of what windows spread around the cause.
		share := max(v, 0) / most
		total[i] = share * share
	}
	return total
}
