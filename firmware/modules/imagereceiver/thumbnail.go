package imagereceiver

import (
	"bytes"
	"image"
	"image/jpeg"

	"golang.org/x/image/draw"
)

// thumbnailSide is the longer side of the largest thumbnail, in pixels.
const thumbnailSide = 640

// encodeThumbnail makes a JPEG of at most so many bytes: it tries lower quality
// first, then smaller pictures, each time with three quarters of the sides. At
// minThumbnail bytes even noise fits.
func encodeThumbnail(img image.Image, most int) ([]byte, error) {
	size := img.Bounds().Size()
	longest := max(size.X, size.Y)
	for side := min(longest, thumbnailSide); ; side = side * 3 / 4 {
		small := img
		if side < longest {
			to := image.NewRGBA(image.Rect(0, 0, max(1, size.X*side/longest), max(1, size.Y*side/longest)))
			draw.BiLinear.Scale(to, to.Rect, img, img.Bounds(), draw.Src, nil)
			small = to
		}
		for _, quality := range []int{85, 70, 50} {
			var b bytes.Buffer
			if err := jpeg.Encode(&b, small, &jpeg.Options{Quality: quality}); err != nil {
				return nil, err
			}
			if b.Len() <= most || side <= 1 {
				return b.Bytes(), nil
			}
		}
	}
}
