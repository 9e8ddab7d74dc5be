package vision

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/jpeg"
	"image/png"

	"tuxwatch/firmware/vision/scaledjpeg"
)

// Limits bound what a picture may cost. The zero value of a field stands for
// its default.
type Limits struct {
	// Bytes is the largest file, 10 MiB by default.
	Bytes int
	// Pixels is the largest width × height, 40 million by default. It is
	// compared with what the file's header claims, before decoding.
	Pixels int
	// Memory is the most that decoding may need, in bytes, as estimated from
	// the header; 256 MiB by default. A progressive JPEG needs about four
	// times as much as a baseline one of the same size.
	Memory int
}

// The defaults of Limits.
const (
	DefaultMaxBytes  = 10 << 20
	DefaultMaxPixels = 40_000_000
	DefaultMaxMemory = 256 << 20
)

func (l Limits) orDefaults() Limits {
	if l.Bytes == 0 {
		l.Bytes = DefaultMaxBytes
	}
	if l.Pixels == 0 {
		l.Pixels = DefaultMaxPixels
	}
	if l.Memory == 0 {
		l.Memory = DefaultMaxMemory
	}
	return l
}

var (
	// ErrNotPicture is returned for what is not a JPEG or PNG picture, or is a
	// damaged one.
	ErrNotPicture = errors.New("not a JPEG or PNG picture")
	// ErrDamaged is the ErrNotPicture of a file that begins as a JPEG or PNG
	// does, but cannot be decoded.
	ErrDamaged = fmt.Errorf("%w: it is damaged or cut off", ErrNotPicture)
	// ErrTooLarge is returned for a picture beyond the limits.
	ErrTooLarge = errors.New("picture too large")
)

// colorModel says what the planes of a picture are.
type colorModel int

const (
	gray  colorModel = iota // one plane
	rgb                     // three planes
	ycbcr                   // three planes, JFIF's Y, Cb, Cr
)

// A picture is a decoded one, as it is stored: its planes, and how it has to be
// turned.
type picture struct {
	size        image.Point // as stored
	reduced     int         // the planes have 1/reduced of its width and height
	model       colorModel
	planes      []plane
	orientation orientation
}

// upright is the size of the picture once it is turned.
func (p *picture) upright() image.Point { return p.orientation.turn(p.size) }

// An aim is what a picture is decoded for. A JPEG that is to become much smaller
// is decoded to a smaller size in the first place.
type aim struct {
	size   image.Point // of the model's input
	policy Policy
}

// headroom is how many times larger than its aim a picture is decoded at least,
// so that the filter still has enough to average. At 1.5 photographs come out
// within half a level, on average, of what decoding them whole gives.
const headroom = 1.5

// reduction is the factor, 1, 2, 4 or 8, that a picture may be decoded smaller by.
func (a aim) reduction(upright image.Point) (int, error) {
	place, err := a.policy.place(upright, a.size)
	if err != nil {
		return 0, err
	}
	least := min(float64(upright.X)/float64(place.scaled.X), float64(upright.Y)/float64(place.scaled.Y)) / headroom
	factor := 1
	for factor < 8 && float64(2*factor) <= least {
		factor *= 2
	}
	return factor, nil
}

// decode decodes a JPEG or PNG file within the limits, large enough for its aim.
// Whatever the bytes are, it returns a picture or an error that is ErrNotPicture
// or ErrTooLarge.
func decode(data []byte, limits Limits, purpose aim) (p *picture, err error) {
	limits = limits.orDefaults()
	if len(data) > limits.Bytes {
		return nil, fmt.Errorf("%w: %d bytes, the limit is %d", ErrTooLarge, len(data), limits.Bytes)
	}
	// The decoders are not expected to panic, but they have done so before.
	defer func() {
		if cause := recover(); cause != nil {
			p, err = nil, fmt.Errorf("%w: the decoder panicked: %v", ErrDamaged, cause)
		}
	}()
	switch {
	case bytes.HasPrefix(data, []byte(jpegSignature)):
		p, err = decodeJPEG(data, limits, purpose)
	case bytes.HasPrefix(data, []byte(pngSignature)):
		p, err = decodePNG(data, limits)
	default:
		return nil, ErrNotPicture
	}
	if err != nil && !errors.Is(err, ErrTooLarge) {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return p, err
}

func decodeJPEG(data []byte, limits Limits, purpose aim) (*picture, error) {
	config, err := jpeg.DecodeConfig(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	size, err := limits.size(config)
	if err != nil {
		return nil, err
	}
	turn := readOrientation(data)
	factor, err := purpose.reduction(turn.turn(size))
	if err != nil {
		return nil, err
	}
	// Planes are padded to whole blocks, hence a little more than 3 bytes.
	if err := limits.memory(size, 4, factor*factor); err != nil {
		return nil, err
	}
	img, err := scaledjpeg.Decode(data, factor)
	if errors.Is(err, scaledjpeg.ErrUnsupported) {
		factor = 1
		if err := limits.memory(size, jpegBytesPerPixel(config, data), 1); err != nil {
			return nil, err
		}
		img, err = jpeg.Decode(bytes.NewReader(data))
	}
	if err != nil {
		return nil, err
	}
	p, err := fromImage(img)
	if err != nil {
		return nil, err
	}
	p.size, p.reduced, p.orientation = size, factor, turn
	return p, nil
}

func decodePNG(data []byte, limits Limits) (*picture, error) {
	config, err := png.DecodeConfig(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	size, err := limits.size(config)
	if err != nil {
		return nil, err
	}
	if err := limits.memory(size, pngBytesPerPixel(config), 1); err != nil {
		return nil, err
	}
	img, err := png.Decode(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	p, err := fromImage(img)
	if err != nil {
		return nil, err
	}
	p.orientation = readOrientation(data)
	return p, nil
}

// size checks the size in a picture's header.
func (l Limits) size(config image.Config) (image.Point, error) {
	if config.Width <= 0 || config.Height <= 0 {
		return image.Point{}, fmt.Errorf("its header says %d × %d pixels", config.Width, config.Height)
	}
	if int64(config.Width)*int64(config.Height) > int64(l.Pixels) {
		return image.Point{}, fmt.Errorf("%w: %d × %d pixels, the limit is %d in all", ErrTooLarge, config.Width, config.Height, l.Pixels)
	}
	return image.Pt(config.Width, config.Height), nil
}

// memory checks what decoding is going to take.
func (l Limits) memory(size image.Point, bytesPerPixel, divisor int) error {
	if need := int64(size.X) * int64(size.Y) * int64(bytesPerPixel) / int64(divisor); need > int64(l.Memory) {
		return fmt.Errorf("%w: decoding %d × %d pixels would need %d MiB, the limit is %d MiB",
			ErrTooLarge, size.X, size.Y, need>>20, l.Memory>>20)
	}
	return nil
}

// jpegBytesPerPixel estimates, from above, what image/jpeg takes.
func jpegBytesPerPixel(config image.Config, data []byte) int {
	components := 3
	switch config.ColorModel {
	case color.GrayModel:
		components = 1
	case color.CMYKModel:
		components = 8 // decoded, and converted
	}
	for segment := range jpegSegments(data) {
		if segment.marker == markerSOF2 {
			components *= 5 // all coefficients are kept, four bytes each
		}
	}
	return components
}

// pngBytesPerPixel estimates, from above, what image/png takes: the picture, its
// planes, and a second picture where it is interlaced.
func pngBytesPerPixel(config image.Config) int {
	switch config.ColorModel {
	case color.GrayModel:
		return 2
	case color.RGBA64Model, color.NRGBA64Model:
		return 8 + 8 + 3
	default:
		return 4 + 4 + 3
	}
}

// fromImage takes the planes of an image: those of a YCbCr or gray one as they
// are, those of any other converted to RGB. What is transparent is laid over
// white, as on paper.
func fromImage(img image.Image) (*picture, error) {
	bounds := img.Bounds()
	if bounds.Empty() {
		return nil, errors.New("the picture has no pixels")
	}
	p := &picture{size: bounds.Size(), reduced: 1, orientation: upright}
	switch img := img.(type) {
	case *image.YCbCr:
		p.model = ycbcr
		p.planes = ycbcrPlanes(img)
	case *image.Gray:
		p.model = gray
		p.planes = []plane{wholePlane(img.Pix[img.PixOffset(bounds.Min.X, bounds.Min.Y):], img.Stride, p.size)}
	default:
		p.model = rgb
		p.planes = rgbPlanes(img)
	}
	return p, nil
}

func wholePlane(samples []byte, stride int, size image.Point) plane {
	return plane{
		samples: samples, stride: stride, columns: size.X, rows: size.Y,
		across: 1, down: 1,
	}
}

func ycbcrPlanes(img *image.YCbCr) []plane {
	bounds, size := img.Rect, img.Rect.Size()
	luma := wholePlane(img.Y[img.YOffset(bounds.Min.X, bounds.Min.Y):], img.YStride, size)
	across, down := 1, 1
	switch img.SubsampleRatio {
	case image.YCbCrSubsampleRatio422:
		across = 2
	case image.YCbCrSubsampleRatio420:
		across, down = 2, 2
	case image.YCbCrSubsampleRatio440:
		down = 2
	case image.YCbCrSubsampleRatio411:
		across = 4
	case image.YCbCrSubsampleRatio410:
		across, down = 4, 2
	}
	offset := img.COffset(bounds.Min.X, bounds.Min.Y)
	chroma := func(samples []byte) plane {
		return plane{
			samples: samples[offset:], stride: img.CStride,
			columns: (size.X + across - 1) / across, rows: (size.Y + down - 1) / down,
			across: across, down: down,
		}
	}
	return []plane{luma, chroma(img.Cb), chroma(img.Cr)}
}

// rgbPlanes converts band by band, so that a large picture is not held twice in
// four bytes a pixel.
func rgbPlanes(img image.Image) []plane {
	const band = 32
	bounds, size := img.Bounds(), img.Bounds().Size()
	samples := make([]byte, 3*size.X*size.Y)
	red, green, blue := samples[:size.X*size.Y], samples[size.X*size.Y:2*size.X*size.Y], samples[2*size.X*size.Y:]
	canvas := image.NewRGBA(image.Rect(0, 0, size.X, min(band, size.Y)))
	white := image.NewUniform(color.White)
	to := 0
	for top := 0; top < size.Y; top += band {
		rows := min(band, size.Y-top)
		part := image.Rect(0, 0, size.X, rows)
		draw.Draw(canvas, part, white, image.Point{}, draw.Src)
		draw.Draw(canvas, part, img, bounds.Min.Add(image.Pt(0, top)), draw.Over)
		for from := 0; from < rows*canvas.Stride; from += 4 {
			pixel := canvas.Pix[from : from+3 : from+3]
			red[to], green[to], blue[to] = pixel[0], pixel[1], pixel[2]
			to++
		}
	}
	return []plane{
		wholePlane(red, size.X, size),
		wholePlane(green, size.X, size),
		wholePlane(blue, size.X, size),
	}
}
