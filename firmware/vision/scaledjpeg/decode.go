// Package scaledjpeg decodes baseline JPEG pictures, optionally straight to a
// half, a quarter or an eighth of their size. Start with [Decode].
//
// A classifier wants 224 × 224 pixels of a picture that has millions. Decoding
// to a smaller size leaves most of the inverse cosine transform and most of the
// memory away: each block of 8 × 8 pixels is transformed by its low frequencies
// alone into 4 × 4, 2 × 2 or one pixel, the way libjpeg's scaling does it. The
// standard library and the kept-up libraries for Go decode whole pictures only,
// and take about three times as long for them.
//
// It is not for every JPEG: progressive and other uncommon ones are
// ErrUnsupported, and image/jpeg decodes those. Nor does it read metadata. All
// arithmetic is on integers, so that the pixels are the same on every processor.
//
// References are to ITU-T T.81, the JPEG standard.
package scaledjpeg

import (
	"encoding/binary"
	"errors"
	"fmt"
	"image"
)

var (
	// ErrUnsupported is returned for pictures that image/jpeg has to decode.
	ErrUnsupported = errors.New("not a JPEG of the common kind")
	// ErrDamaged is returned for what is not a whole JPEG picture.
	ErrDamaged = errors.New("damaged JPEG")
)

// Markers (T.81, table B.1).
const (
	sof0  = 0xc0 // baseline
	sof1  = 0xc1 // extended sequential; with eight bits it is decoded the same
	dht   = 0xc4
	sof15 = 0xcf
	jpg   = 0xc8
	dac   = 0xcc
	rst0  = 0xd0
	soi   = 0xd8
	eoi   = 0xd9
	sos   = 0xda
	dqt   = 0xdb
	dri   = 0xdd
	app0  = 0xe0
	app14 = 0xee
)

type component struct {
	id         byte
	h, v       int // sampling factors
	quant      byte
	dc, ac     *huffman
	side       int // of a decoded block: 8, 4, 2 or 1
	prediction int32
	pixels     []byte
	stride     int
}

type decoder struct {
	data       []byte
	at         int
	side       int // of a decoded block of luma: 8, 4, 2 or 1
	size       image.Point
	quant      [4]*[64]int32 // in zigzag order
	dc, ac     [4]*huffman
	interval   int // restart interval in MCUs; 0: none
	components []component
	jfif       bool
	adobe      int // color transform of an Adobe marker, −1 without
}

// Decode decodes a JPEG file to 1/denominator of its width and height, rounded
// up; denominator is 1, 2, 4 or 8. The result is an *image.YCbCr or an
// *image.Gray. Before calling it, check the size in the header with
// jpeg.DecodeConfig: Decode needs up to three bytes for each pixel of the result.
//
// Pictures without Huffman tables, as many cameras send them, are decoded with
// the standard's example tables.
func Decode(data []byte, denominator int) (image.Image, error) {
	if denominator != 1 && denominator != 2 && denominator != 4 && denominator != 8 {
		return nil, fmt.Errorf("scaledjpeg: denominator %d is not 1, 2, 4 or 8", denominator)
	}
	d := &decoder{data: data, side: 8 / denominator, adobe: -1, dc: standard.dc, ac: standard.ac}
	if err := d.segments(); err != nil {
		return nil, err
	}
	if err := d.scan(); err != nil {
		return nil, err
	}
	return d.image(denominator), nil
}

func damaged(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrDamaged, fmt.Sprintf(format, args...))
}

func unsupported(what string) error { return fmt.Errorf("%w: %s", ErrUnsupported, what) }

// segments reads everything up to the picture's data (T.81, B.2).
func (d *decoder) segments() error {
	if len(d.data) < 2 || d.data[0] != 0xff || d.data[1] != soi {
		return damaged("it does not begin as a JPEG does")
	}
	d.at = 2
	for {
		if d.at+4 > len(d.data) {
			return damaged("it ends in its header")
		}
		if d.data[d.at] != 0xff {
			return damaged("there is no marker where one has to be")
		}
		marker := d.data[d.at+1]
		if marker == 0xff { // fill byte
			d.at++
			continue
		}
		size := int(binary.BigEndian.Uint16(d.data[d.at+2:]))
		if size < 2 || d.at+2+size > len(d.data) {
			return damaged("segment %#x is cut off", marker)
		}
		payload := d.data[d.at+4 : d.at+2+size]
		d.at += 2 + size
		var err error
		switch {
		case marker == sof0 || marker == sof1:
			err = d.frame(payload)
		case marker == dht:
			err = d.huffmanTables(payload)
		case marker > sof1 && marker <= sof15 && marker != jpg && marker != dac:
			err = unsupported("progressive, lossless or arithmetic coding")
		case marker == dqt:
			err = d.quantTables(payload)
		case marker == dri:
			if len(payload) != 2 {
				return damaged("restart interval of %d bytes", len(payload))
			}
			d.interval = int(binary.BigEndian.Uint16(payload))
		case marker == app0:
			d.jfif = len(payload) >= 5 && string(payload[:5]) == "JFIF\x00"
		case marker == app14:
			if len(payload) >= 12 && string(payload[:5]) == "Adobe" {
				d.adobe = int(payload[11])
			}
		case marker == sos:
			return d.scanHeader(payload)
		case marker == soi || marker == eoi || marker >= rst0 && marker < soi || marker <= 1:
			return damaged("marker %#x in its header", marker)
		}
		if err != nil {
			return err
		}
	}
}

// frame reads the frame header (T.81, B.2.2).
func (d *decoder) frame(p []byte) error {
	if d.components != nil {
		return damaged("it has two frames")
	}
	if len(p) < 6 || len(p) != 6+3*int(p[5]) {
		return damaged("its frame header has %d bytes", len(p))
	}
	if p[0] != 8 {
		return unsupported("samples of other than 8 bits")
	}
	d.size = image.Pt(int(binary.BigEndian.Uint16(p[3:])), int(binary.BigEndian.Uint16(p[1:])))
	if d.size.X == 0 || d.size.Y == 0 {
		return unsupported("a size that is not in the header")
	}
	if p[5] != 1 && p[5] != 3 {
		return unsupported("neither gray nor of three colors")
	}
	for ; len(p) > 6; p = p[3:] {
		c := component{id: p[6], h: int(p[7] >> 4), v: int(p[7] & 15), quant: p[8]}
		if c.quant > 3 {
			return damaged("quantisation table %d", c.quant)
		}
		d.components = append(d.components, c)
	}
	if len(d.components) == 1 {
		// One component alone is never interleaved (T.81, A.2.2).
		d.components[0].h, d.components[0].v = 1, 1
		return nil
	}
	if _, ok := subsampling[[2]int{d.components[0].h, d.components[0].v}]; !ok {
		return unsupported("uncommon subsampling")
	}
	for _, c := range d.components[1:] {
		if c.h != 1 || c.v != 1 {
			return unsupported("uncommon subsampling")
		}
	}
	return nil
}

// subsampling by the luma component's factors, the others having 1 and 1.
var subsampling = map[[2]int]image.YCbCrSubsampleRatio{
	{1, 1}: image.YCbCrSubsampleRatio444,
	{2, 1}: image.YCbCrSubsampleRatio422,
	{2, 2}: image.YCbCrSubsampleRatio420,
	{1, 2}: image.YCbCrSubsampleRatio440,
	{4, 1}: image.YCbCrSubsampleRatio411,
	{4, 2}: image.YCbCrSubsampleRatio410,
}

// quantTables reads quantisation tables (T.81, B.2.4.1).
func (d *decoder) quantTables(p []byte) error {
	for len(p) > 0 {
		bytes, id := int(p[0]>>4)+1, p[0]&15
		if bytes > 2 || id > 3 || len(p) < 1+64*bytes {
			return damaged("a quantisation table is cut off or out of range")
		}
		table := new([64]int32)
		for i := range table {
			if bytes == 1 {
				table[i] = int32(p[1+i])
			} else {
				table[i] = int32(binary.BigEndian.Uint16(p[1+2*i:]))
			}
		}
		d.quant[id] = table
		p = p[1+64*bytes:]
	}
	return nil
}

// huffmanTables reads Huffman tables (T.81, B.2.4.2).
func (d *decoder) huffmanTables(p []byte) error {
	for len(p) > 0 {
		if len(p) < 17 {
			return damaged("a Huffman table is cut off")
		}
		class, id := p[0]>>4, p[0]&15
		if class > 1 || id > 3 {
			return damaged("Huffman table %d of class %d", id, class)
		}
		symbols := 0
		for _, n := range p[1:17] {
			symbols += int(n)
		}
		if symbols > 256 || len(p) < 17+symbols {
			return damaged("a Huffman table is cut off")
		}
		table, err := newHuffman(p[1:17], p[17:17+symbols])
		if err != nil {
			return err
		}
		if class == 0 {
			d.dc[id] = table
		} else {
			d.ac[id] = table
		}
		p = p[17+symbols:]
	}
	return nil
}

// scanHeader reads the header of the scan (T.81, B.2.3). A picture whose colors
// come in scans of their own is left to image/jpeg.
func (d *decoder) scanHeader(p []byte) error {
	if d.components == nil {
		return damaged("its data comes before its header")
	}
	if len(p) < 1 || len(p) != 4+2*int(p[0]) {
		return damaged("its scan header has %d bytes", len(p))
	}
	if int(p[0]) != len(d.components) {
		return unsupported("more than one scan")
	}
	if len(d.components) == 3 {
		ids := string([]byte{d.components[0].id, d.components[1].id, d.components[2].id})
		if d.adobe == 0 || d.adobe < 0 && !d.jfif && ids == "RGB" {
			return unsupported("colors stored as RGB")
		}
	}
	for i := range d.components {
		c := &d.components[i]
		if p[1+2*i] != c.id {
			return damaged("its scan names component %d", p[1+2*i])
		}
		dc, ac := p[2+2*i]>>4, p[2+2*i]&15
		if dc > 3 || ac > 3 || d.dc[dc] == nil || d.ac[ac] == nil || d.quant[c.quant] == nil {
			return damaged("a table is missing")
		}
		c.dc, c.ac = d.dc[dc], d.ac[ac]
	}
	return nil
}

// scan decodes the picture's data, MCU by MCU (T.81, A.2).
func (d *decoder) scan() error {
	luma := d.components[0]
	across := (d.size.X + 8*luma.h - 1) / (8 * luma.h)
	down := (d.size.Y + 8*luma.v - 1) / (8 * luma.v)
	for i := range d.components {
		c := &d.components[i]
		c.side = d.side
		if i > 0 && d.sharpChroma() {
			c.side *= 2
		}
		c.stride = across * c.h * c.side
		c.pixels = make([]byte, c.stride*down*c.v*c.side)
	}
	bits := bitReader{data: d.data, at: d.at}
	restarts := 0
	var block [64]int32
	for mcu := range across * down {
		if d.interval > 0 && mcu > 0 && mcu%d.interval == 0 {
			if !bits.restart(byte(rst0 + restarts%8)) {
				return damaged("restart marker %d is missing", restarts)
			}
			restarts++
			for i := range d.components {
				d.components[i].prediction = 0
			}
		}
		left, top := mcu%across, mcu/across
		for i := range d.components {
			c := &d.components[i]
			quant := d.quant[c.quant]
			for v := range c.v {
				for h := range c.h {
					last, ok := c.decodeBlock(&bits, quant, &block)
					if !ok {
						return damaged("its data makes no sense")
					}
					y := (top*c.v + v) * c.side
					x := (left*c.h + h) * c.side
					transform(&block, last, c.side, c.pixels[y*c.stride+x:], c.stride)
				}
			}
		}
		if bits.exhausted() {
			return damaged("it is cut off")
		}
	}
	return nil
}

// sharpChroma says whether color, which the picture has at half the resolution
// both ways, is reduced by one step less than luma and thus gets its resolution.
func (d *decoder) sharpChroma() bool {
	return d.side < 8 && len(d.components) == 3 && d.components[0].h == 2 && d.components[0].v == 2
}

// image makes the result of the decoded components.
func (d *decoder) image(denominator int) image.Image {
	rect := image.Rect(0, 0, (d.size.X+denominator-1)/denominator, (d.size.Y+denominator-1)/denominator)
	luma := d.components[0]
	if len(d.components) == 1 {
		return &image.Gray{Pix: luma.pixels, Stride: luma.stride, Rect: rect}
	}
	ratio := subsampling[[2]int{luma.h, luma.v}]
	if d.sharpChroma() {
		ratio = image.YCbCrSubsampleRatio444
	}
	return &image.YCbCr{
		Y: luma.pixels, Cb: d.components[1].pixels, Cr: d.components[2].pixels,
		YStride: luma.stride, CStride: d.components[1].stride,
		SubsampleRatio: ratio, Rect: rect,
	}
}
