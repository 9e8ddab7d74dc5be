package vision

import "image"

// resizeTo makes an upright RGB picture of the given size: three bytes a pixel.
func (p *picture) resizeTo(size image.Point, policy Policy, filter Filter) ([]byte, error) {
	place, err := policy.place(p.upright(), size)
	if err != nil {
		return nil, err
	}
	// Resizing works on the picture as it is stored; only the small result is
	// turned.
	scaled, visible := p.orientation.turn(place.scaled), place.visible
	visible = p.orientation.stored(visible, place.scaled)
	width, height := float64(p.size.X)/float64(p.reduced), float64(p.size.Y)/float64(p.reduced)
	planes := make([][]int32, len(p.planes))
	for i, plane := range p.planes {
		across, err := axisWeights(filter, plane.columns, sharing{plane.across, p.reduced == 1}, width, scaled.X, visible.Min.X, visible.Max.X)
		if err != nil {
			return nil, err
		}
		down, err := axisWeights(filter, plane.rows, sharing{plane.down, p.reduced == 1}, height, scaled.Y, visible.Min.Y, visible.Max.Y)
		if err != nil {
			return nil, err
		}
		planes[i] = plane.resize(across, down)
	}

	out := make([]byte, 3*size.X*size.Y)
	stride := visible.Dx()
	columns, rows := place.visible.Dx(), place.visible.Dy()
	for y := range rows {
		row := out[3*((y+place.offset.Y)*size.X+place.offset.X):]
		for x := range columns {
			sx, sy := p.orientation.source(x, y, columns, rows)
			i := sy*stride + sx
			pixel := row[3*x : 3*x+3 : 3*x+3]
			switch p.model {
			case gray:
				v := toByte(planes[0][i])
				pixel[0], pixel[1], pixel[2] = v, v, v
			case ycbcr:
				pixel[0], pixel[1], pixel[2] = toRGB(planes[0][i], planes[1][i], planes[2][i])
			default:
				pixel[0], pixel[1], pixel[2] = toByte(planes[0][i]), toByte(planes[1][i]), toByte(planes[2][i])
			}
		}
	}
	return out, nil
}

// stored maps a part of an upright picture of the given size onto the picture
// as it is stored.
func (o orientation) stored(part image.Rectangle, size image.Point) image.Rectangle {
	x0, y0 := o.source(part.Min.X, part.Min.Y, size.X, size.Y)
	x1, y1 := o.source(part.Max.X-1, part.Max.Y-1, size.X, size.Y)
	return image.Rect(min(x0, x1), min(y0, y1), max(x0, x1)+1, max(y0, y1)+1)
}

// toRGB converts sums of weighted samples (JFIF 1.02, "Conversion to and from
// RGB"). Rounding them to whole samples first would cost up to two levels.
func toRGB(y, cb, cr int32) (r, g, b byte) {
	const one = 1 << precision
	l, u, v := int64(y), int64(cb)-128*one, int64(cr)-128*one
	level := func(value int64) byte {
		value = (value + one/2) >> precision
		return byte(min(max(value, 0), 255))
	}
	// The factors 1.402, 0.344136, 0.714136 and 1.772 times 2¹⁶.
	return level(l + 91881*v>>16), level(l - (22554*u+46802*v)>>16), level(l + 116130*u>>16)
}
