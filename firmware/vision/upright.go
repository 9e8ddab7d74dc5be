package vision

import (
	"image"
	"math"
)

// Upright decodes a JPEG or PNG file within the classifier's limits, by the same
// way as Classify, and gives the picture upright and no longer on either side
// than longest pixels: to look at, or to change before ClassifyImage. The
// errors are Classify's.
func (c *Classifier) Upright(file []byte, longest int) (*image.RGBA, error) {
	return Upright(file, longest, c.limits)
}

// Upright is Classifier.Upright without a classifier.
func Upright(file []byte, longest int, limits Limits) (*image.RGBA, error) {
	p, err := decode(file, limits, aim{image.Pt(longest, longest), Letterbox})
	if err != nil {
		return nil, err
	}
	size := p.upright()
	if scale := float64(longest) / float64(max(size.X, size.Y)); scale < 1 {
		size.X = max(1, int(math.Round(float64(size.X)*scale)))
		size.Y = max(1, int(math.Round(float64(size.Y)*scale)))
	}
	samples, err := p.resizeTo(size, Stretch, Bilinear)
	if err != nil {
		return nil, err
	}
	img := image.NewRGBA(image.Rectangle{Max: size})
	for i := range size.X * size.Y {
		copy(img.Pix[4*i:4*i+3], samples[3*i:3*i+3])
		img.Pix[4*i+3] = 255
	}
	return img, nil
}
