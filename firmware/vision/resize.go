package vision

import (
	"fmt"
	"image"
	"math"
)

// A Filter is the kernel that pixels are averaged with when a picture is
// resized. All of them widen with the reduction, so that nothing of the picture
// is skipped; this is how Pillow resizes, and the results are Pillow's.
type Filter string

// The filters, by the names that Pillow uses.
const (
	Box      Filter = "box"
	Bilinear Filter = "bilinear"
	Bicubic  Filter = "bicubic"
	Lanczos  Filter = "lanczos"
)

// kernel gives the filter's function, which is 0 beyond ± its support.
func (f Filter) kernel() (at func(x float64) float64, support float64, err error) {
	switch f {
	case Box:
		return func(x float64) float64 {
			if x > -0.5 && x <= 0.5 {
				return 1
			}
			return 0
		}, 0.5, nil
	case Bilinear:
		return func(x float64) float64 { return max(0, 1-math.Abs(x)) }, 1, nil
	case Bicubic: // Keys, a = −0.5
		return func(x float64) float64 {
			x = math.Abs(x)
			switch {
			case x < 1:
				return (1.5*x-2.5)*x*x + 1
			case x < 2:
				return ((-0.5*x+2.5)*x-4)*x + 2
			default:
				return 0
			}
		}, 2, nil
	case Lanczos:
		sinc := func(x float64) float64 {
			if x == 0 {
				return 1
			}
			return math.Sin(math.Pi*x) / (math.Pi * x)
		}
		return func(x float64) float64 {
			if x < -3 || x >= 3 {
				return 0
			}
			return sinc(x) * sinc(x/3)
		}, 3, nil
	default:
		return nil, 0, fmt.Errorf("unknown filter %q (box, bilinear, bicubic, lanczos)", f)
	}
}

// A Policy says how a picture of one shape becomes one of another.
type Policy string

const (
	// Stretch resizes width and height each on its own.
	Stretch Policy = "stretch"
	// Crop keeps the proportions, covers the whole input and cuts off what
	// stands out, the same amount on both sides.
	Crop Policy = "crop"
	// Letterbox keeps the proportions and the whole picture, in the middle of
	// a black input.
	Letterbox Policy = "letterbox"
)

// layout says where an upright picture goes: it is resized to scaled, and of
// that the part visible lands at offset in the model's input.
type layout struct {
	scaled  image.Point
	visible image.Rectangle // in the scaled picture
	offset  image.Point     // in the input
}

// place lays a picture of the given size out on an input of another.
func (p Policy) place(picture, input image.Point) (layout, error) {
	x := float64(input.X) / float64(picture.X)
	y := float64(input.Y) / float64(picture.Y)
	at := func(scale float64) image.Point {
		return image.Pt(
			max(1, int(math.RoundToEven(float64(picture.X)*scale))),
			max(1, int(math.RoundToEven(float64(picture.Y)*scale))))
	}
	switch p {
	case Stretch:
		return layout{scaled: input, visible: image.Rectangle{Max: input}}, nil
	case Crop:
		scaled := at(max(x, y))
		from := scaled.Sub(input).Div(2)
		return layout{scaled: scaled, visible: image.Rectangle{from, from.Add(input)}}, nil
	case Letterbox:
		scaled := at(min(x, y))
		return layout{scaled: scaled, visible: image.Rectangle{Max: scaled}, offset: input.Sub(scaled).Div(2)}, nil
	default:
		return layout{}, fmt.Errorf("unknown resize policy %q (stretch, crop, letterbox)", p)
	}
}

// A plane is one component of a picture: rows of samples.
type plane struct {
	samples       []byte
	stride        int
	columns, rows int
	// across and down are how many pixels share a sample: 2 and 2 for the
	// color of most JPEG files, else 1.
	across, down int
}

// weights are the samples and factors that make one resized sample.
type weights struct {
	first   int
	factors []int32
}

// The factors are fixed-point numbers with so many bits after the point, as
// Pillow's: 8 bits for the sample, 2 for filters that overshoot.
const precision = 32 - 8 - 2

// sharing says how pixels have samples in common.
type sharing struct {
	by int
	// smooth: the pixels are interpolated between samples. Where the picture
	// was decoded smaller, this would blur what is several of its pixels away.
	smooth bool
}

// axisWeights computes the weights of the resized samples [from, to) of size
// when pixels are resized to size, each sample being shared by so many pixels.
// pixels is not a whole number where a picture of odd width was decoded at half
// of it.
func axisWeights(filter Filter, samples int, shared sharing, pixels float64, size, from, to int) ([]weights, error) {
	at, support, err := filter.kernel()
	if err != nil {
		return nil, err
	}
	scale := pixels / float64(size)
	stretch := max(scale, 1)
	support *= stretch

	all := make([]weights, 0, to-from)
	factors := make([]float64, 0, 2*int(math.Ceil(support))+2)
	for i := from; i < to; i++ {
		center := (float64(i) + 0.5) * scale
		first := max(int(center-support+0.5), 0)
		last := min(int(center+support+0.5), int(math.Ceil(pixels)))
		factors = factors[:0]
		sum := 0.0
		for j := first; j < last; j++ {
			factor := at((float64(j) - center + 0.5) / stretch)
			factors = append(factors, factor)
			sum += factor
		}
		for j := range factors {
			factors[j] /= sum
		}
		if shared.by > 1 {
			first, factors = ontoShared(first, factors, samples, shared)
		}
		fixed := make([]int32, len(factors))
		for j, factor := range factors {
			fixed[j] = int32(math.Round(factor * (1 << precision)))
		}
		all = append(all, weights{first, fixed})
	}
	return all, nil
}

// ontoShared turns weights of pixels into weights of the samples that they
// share. Resizing the samples with them gives what interpolating the samples up
// to all pixels first and resizing those would, at a fraction of the cost.
//
// The interpolation is that of libjpeg, which the training used: of two pixels
// that share a sample each gets three quarters of it and a quarter of the
// neighbour on its side; larger groups get the sample as it is.
func ontoShared(first int, factors []float64, samples int, shared sharing) (int, []float64) {
	from := max(first/shared.by-1, 0)
	to := min((first+len(factors)-1)/shared.by+1, samples-1)
	folded := make([]float64, to-from+1)
	add := func(sample int, factor float64) {
		folded[min(max(sample, 0), samples-1)-from] += factor
	}
	for i, factor := range factors {
		j := first + i
		if !shared.smooth || shared.by != 2 {
			add(j/shared.by, factor)
			continue
		}
		add(j/2, factor*3/4)
		add(j/2-1+j%2*2, factor/4)
	}
	return from, folded
}

// toByte rounds a sum of weighted samples.
func toByte(sum int32) byte {
	sum = (sum + 1<<(precision-1)) >> precision
	return byte(min(max(sum, 0), 255))
}

// resize makes len(across) × len(down) samples: first along the rows, rounding
// to whole samples as Pillow does, then along the columns. The result is in
// fixed-point numbers, not rounded.
func (p plane) resize(across, down []weights) []int32 {
	top := down[0].first
	bottom := 0
	for _, w := range down {
		bottom = max(bottom, w.first+len(w.factors))
	}
	width := len(across)

	narrow := make([]byte, (bottom-top)*width)
	for y := top; y < bottom; y += 4 {
		var from, to [4][]byte
		for i := range from {
			row := min(y+i, bottom-1) // the last ones are made more than once
			from[i] = p.samples[row*p.stride:][:p.columns]
			to[i] = narrow[(row-top)*width:][:width]
		}
		narrowRows(&from, &to, across)
	}

	resized := make([]int32, len(down)*width)
	for y, w := range down {
		sums := resized[y*width:][:width]
		for i := 0; i < len(w.factors); i += 4 {
			var rows [4][]byte
			var factors [4]int32
			for j := range rows {
				row := min(i+j, len(w.factors)-1)
				rows[j] = narrow[(w.first-top+row)*width:][:width]
				if i+j < len(w.factors) {
					factors[j] = w.factors[row]
				}
			}
			addRows(sums, &rows, &factors)
		}
	}
	return resized
}

// narrowRows resizes four rows along x. Four at a time go nearly twice as fast
// as one after the other, as do the four rows of addRows.
func narrowRows(from, to *[4][]byte, across []weights) {
	for x, w := range across {
		factors := w.factors
		a, b := from[0][w.first:][:len(factors)], from[1][w.first:][:len(factors)]
		c, d := from[2][w.first:][:len(factors)], from[3][w.first:][:len(factors)]
		var sumA, sumB, sumC, sumD int32
		for i, factor := range factors {
			sumA += factor * int32(a[i])
			sumB += factor * int32(b[i])
			sumC += factor * int32(c[i])
			sumD += factor * int32(d[i])
		}
		to[0][x], to[1][x], to[2][x], to[3][x] = toByte(sumA), toByte(sumB), toByte(sumC), toByte(sumD)
	}
}

// addRows adds four weighted rows to sums.
func addRows(sums []int32, rows *[4][]byte, factors *[4]int32) {
	a, b, c, d := rows[0][:len(sums)], rows[1][:len(sums)], rows[2][:len(sums)], rows[3][:len(sums)]
	for x := range sums {
		sums[x] += factors[0]*int32(a[x]) + factors[1]*int32(b[x]) + factors[2]*int32(c[x]) + factors[3]*int32(d[x])
	}
}
