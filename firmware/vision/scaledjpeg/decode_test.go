package scaledjpeg

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	"image/jpeg"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

const pictures = "../testdata/pictures"

// files are the test pictures of the kinds that are decoded here.
var files = []string{
	"jpeg-444.jpg", "jpeg-422.jpg", "jpeg-420.jpg", "jpeg-odd.jpg", "jpeg-restart.jpg", "jpeg-gray.jpg", "exif-6.jpg",
}

func read(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(pictures, name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

type plane struct {
	pixels        []byte
	stride        int
	width, height int
}

// planesOf gives the components of a picture, without what is beyond its edges.
func planesOf(t testing.TB, img image.Image) []plane {
	t.Helper()
	size := img.Bounds().Size()
	switch img := img.(type) {
	case *image.Gray:
		return []plane{{img.Pix, img.Stride, size.X, size.Y}}
	case *image.YCbCr:
		chroma := img.Rect
		last := img.COffset(size.X-1, size.Y-1)
		chroma.Max = image.Pt(last%img.CStride+1, last/img.CStride+1)
		return []plane{
			{img.Y, img.YStride, size.X, size.Y},
			{img.Cb, img.CStride, chroma.Max.X, chroma.Max.Y},
			{img.Cr, img.CStride, chroma.Max.X, chroma.Max.Y},
		}
	}
	t.Fatalf("decoded to %T", img)
	return nil
}

// compare returns the largest and the mean difference of a plane from what the
// other one's pixels are on average over squares of side × side.
func compare(t testing.TB, small, full plane, side int) (most, mean float64) {
	t.Helper()
	if small.width != (full.width+side-1)/side || small.height != (full.height+side-1)/side {
		t.Fatalf("%d × %d of %d × %d at 1/%d", small.width, small.height, full.width, full.height, side)
	}
	sum, count := 0.0, 0
	for y := range full.height / side {
		for x := range full.width / side {
			average := 0.0
			for dy := range side {
				for dx := range side {
					average += float64(full.pixels[(y*side+dy)*full.stride+x*side+dx])
				}
			}
			average /= float64(side * side)
			d := math.Abs(float64(small.pixels[y*small.stride+x]) - average)
			most = max(most, d)
			sum += d
			count++
		}
	}
	return most, sum / float64(count)
}

// TestSameAsTheStandardLibrary: at full size, but for the rounding of the
// transforms, which the standard leaves open within limits.
func TestSameAsTheStandardLibrary(t *testing.T) {
	for _, name := range files {
		data := read(t, name)
		checkAgainstStandard(t, name, data)
	}
}

func checkAgainstStandard(t testing.TB, name string, data []byte) {
	t.Helper()
	got, err := Decode(data, 1)
	if err != nil {
		t.Errorf("%s: %v", name, err)
		return
	}
	want, err := jpeg.Decode(bytes.NewReader(data))
	if err != nil {
		t.Fatal(name, err)
	}
	if got.Bounds() != want.Bounds() {
		t.Fatalf("%s: %v, want %v", name, got.Bounds(), want.Bounds())
	}
	for i, full := range planesOf(t, want) {
		if most, mean := compare(t, planesOf(t, got)[i], full, 1); most > 2 || mean > 0.2 {
			t.Errorf("%s: component %d differs by up to %.0f, %.3f on average", name, i, most, mean)
		}
	}
}

// TestReduced: the average of the pixels that became one, about. The transform
// of the low frequencies is a better low-pass filter than the average, so at
// edges they differ.
func TestReduced(t *testing.T) {
	for _, name := range files {
		data := read(t, name)
		full, err := Decode(data, 1)
		if err != nil {
			t.Fatal(name, err)
		}
		for _, denominator := range []int{2, 4, 8} {
			small, err := Decode(data, denominator)
			if err != nil {
				t.Fatal(name, err)
			}
			size := full.Bounds().Size()
			if want := image.Pt((size.X+denominator-1)/denominator, (size.Y+denominator-1)/denominator); small.Bounds().Size() != want {
				t.Errorf("%s at 1/%d: %v, want %v", name, denominator, small.Bounds().Size(), want)
			}
			luma := planesOf(t, full)[0]
			most, mean := compare(t, planesOf(t, small)[0], luma, denominator)
			// An eighth is exactly the average of its block, but for rounding
			// and pixels that were cut to their range.
			limit := 2.5
			if denominator == 8 {
				limit = 0.8
			}
			if mean > limit {
				t.Errorf("%s at 1/%d: differs by up to %.0f, %.2f on average", name, denominator, most, mean)
			}
		}
	}
}

// TestManyPictures compares with the standard library on pictures of every size
// around a block's, at qualities from the worst to the best.
func TestManyPictures(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for i := range 120 {
		width, height := 1+random.IntN(40), 1+random.IntN(40)
		img := image.NewRGBA(image.Rect(0, 0, width, height))
		for y := range height {
			for x := range width {
				at := img.PixOffset(x, y)
				img.Pix[at] = byte(x * 6)
				img.Pix[at+1] = byte(128 + 100*math.Sin(float64(y*i)/20))
				img.Pix[at+2] = byte(random.IntN(256))
				img.Pix[at+3] = 255
			}
		}
		var file bytes.Buffer
		if err := jpeg.Encode(&file, img, &jpeg.Options{Quality: 1 + i%100}); err != nil {
			t.Fatal(err)
		}
		checkAgainstStandard(t, fmt.Sprintf("%d × %d, quality %d", width, height, 1+i%100), file.Bytes())
	}
}

// TestWithoutHuffmanTables takes the tables out of a picture, as cameras do that
// send Motion JPEG.
func TestWithoutHuffmanTables(t *testing.T) {
	img := image.NewGray(image.Rect(0, 0, 50, 40))
	for i := range img.Pix {
		img.Pix[i] = byte(i * i / 50)
	}
	var file bytes.Buffer
	if err := jpeg.Encode(&file, img, nil); err != nil { // with the standard's tables
		t.Fatal(err)
	}
	whole := file.Bytes()
	at := bytes.Index(whole, []byte{0xff, dht})
	size := int(whole[at+2])<<8 | int(whole[at+3])
	without := append(append([]byte(nil), whole[:at]...), whole[at+2+size:]...)
	if bytes.Contains(without, []byte{0xff, dht}) {
		t.Fatal("there are more tables")
	}
	want, err := Decode(whole, 1)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Decode(without, 1)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.(*image.Gray).Pix, want.(*image.Gray).Pix) {
		t.Error("another picture")
	}
}

func TestUnsupported(t *testing.T) {
	for _, name := range []string{"jpeg-progressive.jpg", "jpeg-cmyk.jpg"} {
		if _, err := Decode(read(t, name), 1); !errors.Is(err, ErrUnsupported) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Decode(read(t, files[0]), 3); err == nil {
		t.Error("a third")
	}
	// RGB, by Adobe's marker and by the components' names.
	rgb := read(t, "jpeg-444.jpg")
	adobe := append([]byte{0xff, soi, 0xff, app14, 0, 14}, "Adobe\x00\x64\x00\x00\x00\x00\x00"...)
	if _, err := Decode(append(adobe, rgb[2:]...), 1); !errors.Is(err, ErrUnsupported) {
		t.Errorf("Adobe RGB: %v", err)
	}
}

// TestCutOff: no prefix of a picture is one, wherever it is cut.
func TestCutOff(t *testing.T) {
	for _, name := range []string{"jpeg-420.jpg", "jpeg-restart.jpg", "jpeg-gray.jpg"} {
		data := read(t, name)
		end := len(data) - 2 // the end-of-image marker is not needed
		for cut := 0; cut < end-1; cut += 1 + cut/50 {
			if _, err := Decode(data[:cut], 2); !errors.Is(err, ErrDamaged) {
				t.Fatalf("%s, the first %d of %d bytes: %v", name, cut, len(data), err)
			}
		}
		if _, err := Decode(data[:end], 2); err != nil {
			t.Errorf("%s without its end marker: %v", name, err)
		}
	}
}

func TestRestartMarkerMissing(t *testing.T) {
	data := read(t, "jpeg-restart.jpg")
	at := bytes.Index(data, []byte{0xff, rst0 + 3})
	broken := append([]byte(nil), data...)
	broken[at+1] = rst0 + 5
	if _, err := Decode(broken, 1); !errors.Is(err, ErrDamaged) {
		t.Error(err)
	}
}

func FuzzDecode(f *testing.F) {
	for _, name := range append(files, "jpeg-progressive.jpg", "jpeg-cmyk.jpg") {
		data := read(f, name)
		f.Add(data, uint8(0))
		f.Add(data[:len(data)/2], uint8(3))
	}
	f.Fuzz(func(t *testing.T, data []byte, power uint8) {
		config, err := jpeg.DecodeConfig(bytes.NewReader(data))
		if err != nil || config.Width*config.Height > 1<<20 {
			return
		}
		denominator := 1 << (power % 4)
		got, err := Decode(data, denominator)
		if err != nil {
			if !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrUnsupported) {
				t.Fatalf("an error of no kind: %v", err)
			}
			return
		}
		want := image.Pt((config.Width+denominator-1)/denominator, (config.Height+denominator-1)/denominator)
		if got.Bounds().Size() != want {
			t.Fatalf("%v, want %v", got.Bounds().Size(), want)
		}
		for y := range want.Y { // every pixel is there
			got.At(0, y)
			got.At(want.X-1, y)
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	data := photograph(b)
	b.Run("image/jpeg", func(b *testing.B) {
		for b.Loop() {
			if _, err := jpeg.Decode(bytes.NewReader(data)); err != nil {
				b.Fatal(err)
			}
		}
	})
	for _, denominator := range []int{1, 2, 4, 8} {
		b.Run(fmt.Sprintf("1/%d", denominator), func(b *testing.B) {
			for b.Loop() {
				if _, err := Decode(data, denominator); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// photograph is a picture of 1280 × 720 with about as much detail as a camera's.
func photograph(b *testing.B) []byte {
	b.Helper()
	random := rand.New(rand.NewPCG(3, 4))
	img := image.NewYCbCr(image.Rect(0, 0, 1280, 720), image.YCbCrSubsampleRatio420)
	for y := range 720 {
		for x := range 1280 {
			img.Y[y*img.YStride+x] = byte(128 + 60*math.Sin(float64(x)/40)*math.Cos(float64(y)/25) + float64(random.IntN(9)))
		}
	}
	for i := range img.Cb {
		img.Cb[i], img.Cr[i] = byte(i/img.CStride/3), byte(i%img.CStride/3)
	}
	var file bytes.Buffer
	if err := jpeg.Encode(&file, img, &jpeg.Options{Quality: 75}); err != nil {
		b.Fatal(err)
	}
	return file.Bytes()
}
