package scaledjpeg

// The inverse discrete cosine transform (T.81, A.3.3) of a block's low
// frequencies into side × side pixels. With fewer frequencies the factors are
// the same; only the angles are those of the shorter transform.

// Fixed-point cosines with so many bits after the point.
const (
	cosineBits = 12
	// Between the two passes numbers keep so many bits after the point.
	middleBits = 3

	cos4 = 2896 // cos(4π/16) = √½
	cos1 = 4017 // cos(π/16)
	cos2 = 3784
	cos3 = 3406
	cos5 = 2276
	cos6 = 1567
	cos7 = 799

	// Each pass halves. The second one rounds and moves −128 … 127 to 0 … 255.
	firstShift  = cosineBits + 1 - middleBits
	firstHalf   = 1 << (firstShift - 1)
	secondShift = cosineBits + 1 + middleBits
	secondHalf  = 1<<(secondShift-1) + 128<<secondShift
)

func clamp(v int32) byte {
	if uint32(v) <= 255 {
		return byte(v)
	}
	if v < 0 {
		return 0
	}
	return 255
}

// transform writes the pixels of a block; last is the index in zigzag order of
// its last coefficient that is not zero.
func transform(block *[64]int32, last, side int, to []byte, stride int) {
	switch {
	case side == 1:
		to[0] = clamp((block[0]+4)>>3 + 128)
	case last == 0:
		value := clamp((block[0]+4)>>3 + 128)
		for y := range side {
			row := to[y*stride:][:side]
			for x := range row {
				row[x] = value
			}
		}
	case side == 2:
		a, b, c, d := block[0]+4+128<<3, block[1], block[8], block[9]
		to[0], to[1] = clamp((a+b+c+d)>>3), clamp((a-b+c-d)>>3)
		to[stride], to[stride+1] = clamp((a+b-c-d)>>3), clamp((a-b-c+d)>>3)
	case side == 4:
		transform4(block, to, stride)
	default:
		transform8(block, to, stride)
	}
}

func transform4(block *[64]int32, to []byte, stride int) {
	// cos(kπ/8) of the transform of four is cos(2kπ/16).
	var middle [16]int32
	for x := range 4 {
		f0, f1, f2, f3 := block[x], block[8+x], block[16+x], block[24+x]
		even0, even1 := (f0+f2)*cos4+firstHalf, (f0-f2)*cos4+firstHalf
		odd0, odd1 := f1*cos2+f3*cos6, f1*cos6-f3*cos2
		middle[x] = (even0 + odd0) >> firstShift
		middle[4+x] = (even1 + odd1) >> firstShift
		middle[8+x] = (even1 - odd1) >> firstShift
		middle[12+x] = (even0 - odd0) >> firstShift
	}
	for y := range 4 {
		f0, f1, f2, f3 := middle[4*y], middle[4*y+1], middle[4*y+2], middle[4*y+3]
		even0, even1 := (f0+f2)*cos4+secondHalf, (f0-f2)*cos4+secondHalf
		odd0, odd1 := f1*cos2+f3*cos6, f1*cos6-f3*cos2
		row := to[y*stride:][:4:4]
		row[0] = clamp((even0 + odd0) >> secondShift)
		row[1] = clamp((even1 + odd1) >> secondShift)
		row[2] = clamp((even1 - odd1) >> secondShift)
		row[3] = clamp((even0 - odd0) >> secondShift)
	}
}

func transform8(block *[64]int32, to []byte, stride int) {
	var middle [64]int32
	for x := range 8 {
		f1, f2, f3, f4 := block[8+x], block[16+x], block[24+x], block[32+x]
		f5, f6, f7 := block[40+x], block[48+x], block[56+x]
		if f1|f2|f3|f4|f5|f6|f7 == 0 { // most columns
			value := (block[x]*cos4 + firstHalf) >> firstShift
			for y := range 8 {
				middle[8*y+x] = value
			}
			continue
		}
		even0, even1, even2, even3 := evenPart(block[x], f2, f4, f6, firstHalf)
		odd0, odd1, odd2, odd3 := oddPart(f1, f3, f5, f7)
		middle[x] = (even0 + odd0) >> firstShift
		middle[8+x] = (even1 + odd1) >> firstShift
		middle[16+x] = (even2 + odd2) >> firstShift
		middle[24+x] = (even3 + odd3) >> firstShift
		middle[32+x] = (even3 - odd3) >> firstShift
		middle[40+x] = (even2 - odd2) >> firstShift
		middle[48+x] = (even1 - odd1) >> firstShift
		middle[56+x] = (even0 - odd0) >> firstShift
	}
	for y := range 8 {
		f := middle[8*y:][:8:8]
		even0, even1, even2, even3 := evenPart(f[0], f[2], f[4], f[6], secondHalf)
		odd0, odd1, odd2, odd3 := oddPart(f[1], f[3], f[5], f[7])
		row := to[y*stride:][:8:8]
		row[0] = clamp((even0 + odd0) >> secondShift)
		row[1] = clamp((even1 + odd1) >> secondShift)
		row[2] = clamp((even2 + odd2) >> secondShift)
		row[3] = clamp((even3 + odd3) >> secondShift)
		row[4] = clamp((even3 - odd3) >> secondShift)
		row[5] = clamp((even2 - odd2) >> secondShift)
		row[6] = clamp((even1 - odd1) >> secondShift)
		row[7] = clamp((even0 - odd0) >> secondShift)
	}
}

func evenPart(f0, f2, f4, f6, half int32) (e0, e1, e2, e3 int32) {
	sum, difference := (f0+f4)*cos4+half, (f0-f4)*cos4+half
	a, b := f2*cos2+f6*cos6, f2*cos6-f6*cos2
	return sum + a, difference + b, difference - b, sum - a
}

func oddPart(f1, f3, f5, f7 int32) (o0, o1, o2, o3 int32) {
	return f1*cos1 + f3*cos3 + f5*cos5 + f7*cos7,
		f1*cos3 - f3*cos7 - f5*cos1 - f7*cos5,
		f1*cos5 - f3*cos1 + f5*cos7 + f7*cos3,
		f1*cos7 - f3*cos5 + f5*cos3 - f7*cos1
}
