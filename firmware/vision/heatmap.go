package vision

import (
	"image"
	"math"
)

// A view is a map of relevance on a model's input, seen from the upright
// picture, of which the input may show a part, or which may fill a part of it.
type view struct {
	input  image.Point
	layout layout
	heat   []float64 // 0 … 1, a number for each pixel of the input
}

// inInput is the part of the input with the picture in it.
func (v view) inInput() image.Rectangle {
	return image.Rectangle{Max: v.layout.visible.Size()}.Add(v.layout.offset)
}

// at is the map's value at a place in the upright picture, given as shares of
// its width and height, interpolated between the input's pixels. seen is false
// for what the model does not see.
func (v view) at(across, down float64) (heat float64, seen bool) {
	l := v.layout
	x := across*float64(l.scaled.X) - float64(l.visible.Min.X)
	y := down*float64(l.scaled.Y) - float64(l.visible.Min.Y)
	if x < 0 || y < 0 || x > float64(l.visible.Dx()) || y > float64(l.visible.Dy()) {
		return 0, false
	}
	part := v.inInput()
	clampedFloor := func(value float64, most int) (int, int, float64) {
		floor := math.Floor(value)
		i := int(floor)
		return min(max(i, 0), most-1), min(max(i+1, 0), most-1), value - floor
	}
	x0, x1, fx := clampedFloor(x-0.5, part.Dx())
	y0, y1, fy := clampedFloor(y-0.5, part.Dy())
	value := func(x, y int) float64 { return v.heat[(y+part.Min.Y)*v.input.X+x+part.Min.X] }
	top := value(x0, y0)*(1-fx) + value(x1, y0)*fx
	bottom := value(x0, y1)*(1-fx) + value(x1, y1)*fx
	return top*(1-fy) + bottom*fy, true
}

// fine is how many parts of the picture, along each axis, the map is looked at
// in to summarise it.
const fine = 128

// grid gives the mean of each of n × n equal parts of the picture.
func (v view) grid(n int) [][]float64 {
	each := fine / n
	rows := make([][]float64, n)
	for row := range rows {
		rows[row] = make([]float64, n)
		for column := range rows[row] {
			sum := 0.0
			for y := range each {
				for x := range each {
					heat, _ := v.at((float64(column*each+x)+0.5)/fine, (float64(row*each+y)+0.5)/fine)
					sum += heat
				}
			}
			rows[row][column] = math.Round(sum/float64(each*each)*1000) / 1000
		}
	}
	return rows
}

// region bounds the connected part around the map's maximum in which it is at
// least half of that, and gives the maximum. Of a map that is 0 it is the whole
// picture.
func (v view) region() (bounding Region, peak float64) {
	var heat [fine][fine]float64
	top := image.Point{}
	for y := range fine {
		for x := range fine {
			heat[y][x], _ = v.at((float64(x)+0.5)/fine, (float64(y)+0.5)/fine)
			if heat[y][x] > heat[top.Y][top.X] {
				top = image.Pt(x, y)
			}
		}
	}
	most := heat[top.Y][top.X]
	if most == 0 {
		return Region{Width: 1, Height: 1}, 0
	}
	bounds := image.Rectangle{top, top.Add(pixel)}
	var reached [fine][fine]bool
	reached[top.Y][top.X] = true
	for next := []image.Point{top}; len(next) > 0; {
		at := next[len(next)-1]
		next = next[:len(next)-1]
		bounds = bounds.Union(image.Rectangle{at, at.Add(pixel)})
		for _, step := range []image.Point{{X: 1}, {X: -1}, {Y: 1}, {Y: -1}} {
			to := at.Add(step)
			if !to.In(image.Rect(0, 0, fine, fine)) || reached[to.Y][to.X] || heat[to.Y][to.X] < most/2 {
				continue
			}
			reached[to.Y][to.X] = true
			next = append(next, to)
		}
	}
	share := func(n int) float64 { return float64(n) / fine }
	return Region{share(bounds.Min.X), share(bounds.Min.Y), share(bounds.Dx()), share(bounds.Dy())}, most
}

// ramp are the colours of the map from 0.2 to 1, in equal steps: violet, red,
// orange, yellow. They get lighter as well, so that they can be told apart
// without telling colours apart.
var ramp = [][3]float64{{70, 20, 130}, {190, 30, 90}, {245, 100, 30}, {255, 235, 70}}

// draw lays the map over a picture: what counts is coloured, the rest is
// grayish, and what the model does not see is dark.
func (v view) draw(img *image.RGBA) {
	size := img.Rect.Size()
	for y := range size.Y {
		row := img.Pix[y*img.Stride:][: 4*size.X : 4*size.X]
		for x := range size.X {
			pixel := row[4*x : 4*x+3 : 4*x+3]
			heat, seen := v.at((float64(x)+0.5)/float64(size.X), (float64(y)+0.5)/float64(size.Y))
			colour, cover := tint(heat)
			luma := 0.299*float64(pixel[0]) + 0.587*float64(pixel[1]) + 0.114*float64(pixel[2])
			for i := range pixel {
				// Half the colour of the picture itself is taken out, so that it is
				// not mistaken for the map's.
				value := 0.5*luma + 0.5*float64(pixel[i])
				if !seen {
					value *= 0.35
				}
				pixel[i] = byte(math.Round(value*(1-cover) + colour[i]*cover))
			}
		}
	}
}

// tint gives the colour for a value of the map, and how much it covers.
func tint(heat float64) (colour [3]float64, cover float64) {
	const from, most = 0.2, 0.6
	place := (heat - from) / (1 - from)
	if place <= 0 {
		return ramp[0], 0
	}
	cover = most * min(place*2.5, 1)
	at := min(place, 1) * float64(len(ramp)-1)
	i := min(int(at), len(ramp)-2)
	for j := range colour {
		colour[j] = ramp[i][j] + (at-float64(i))*(ramp[i+1][j]-ramp[i][j])
	}
	return colour, cover
}
