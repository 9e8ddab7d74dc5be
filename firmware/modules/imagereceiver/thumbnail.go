package imagereceiver

import (
	"bytes"
	"image"
	"image/jpeg"
	"math"

	"golang.org/x/image/draw"
)

// thumbnailSide is the longer side of the largest thumbnail, in pixels.
const thumbnailSide = 640

// encodeThumbnail makes a JPEG of at most so many bytes: it tries lower quality
// first, then smaller pictures, by as much as the last one was too large. At
// minThumbnail bytes even noise fits.
func encodeThumbnail(img image.Image, most int) ([]byte, error) {
	size := img.Bounds().Size()
	longest := max(size.X, size.Y)
	side := min(longest, thumbnailSide)
	for {
		small := img
		if side < longest {
			to := image.NewRGBA(image.Rect(0, 0, max(1, size.X*side/longest), max(1, size.Y*side/longest)))
			draw.BiLinear.Scale(to, to.Rect, img, img.Bounds(), draw.Src, nil)
			small = to
		}
		var b bytes.Buffer
		for _, quality := range []int{85, 70, 50} {
			b.Reset()
			if err := jpeg.Encode(&b, small, &jpeg.Options{Quality: quality}); err != nil {
				return nil, err
			}
			if b.Len() <= most || side <= 1 {
				return b.Bytes(), nil
			}
		}
		fits := float64(side) * math.Sqrt(float64(most)/float64(b.Len()))
		side = max(1, int(min(fits, 0.9*float64(side))))
	}
}
