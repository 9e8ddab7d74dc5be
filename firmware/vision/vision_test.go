package vision

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/png"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// fakeRuntime stands in for LiteRT where only the code around it is tested. A
// model file's content says what the model looks like.
type fakeRuntime struct {
	inputs, outputs []Tensor
	invoke          func(inputs, outputs [][]byte) error
	open            func(file string) error
	opened, closed  int
}

func (r *fakeRuntime) Name() string { return "fake 1" }

func (r *fakeRuntime) Open(file string, _ int) (Model, error) {
	if r.open != nil {
		if err := r.open(file); err != nil {
			return nil, err
		}
	}
	r.opened++
	return &fakeModel{r}, nil
}

type fakeModel struct{ r *fakeRuntime }

func (m *fakeModel) Inputs() []Tensor  { return m.r.inputs }
func (m *fakeModel) Outputs() []Tensor { return m.r.outputs }
func (m *fakeModel) Close() error      { m.r.closed++; return nil }
func (m *fakeModel) Invoke(inputs, outputs [][]byte) error {
	if m.r.invoke == nil {
		return nil
	}
	return m.r.invoke(inputs, outputs)
}

func floatTensor(shape ...int) Tensor { return Tensor{Name: "t", Shape: shape, Type: Float32} }

func putFloats(to []byte, values ...float32) {
	for i, v := range values {
		binary.NativeEndian.PutUint32(to[4*i:], math.Float32bits(v))
	}
}

func getFloats(from []byte) []float32 {
	values := make([]float32, len(from)/4)
	for i := range values {
		values[i] = math.Float32frombits(binary.NativeEndian.Uint32(from[4*i:]))
	}
	return values
}

// folder makes a model folder of the given files; model.tflite is added.
func folder(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	if _, ok := files["model.tflite"]; !ok {
		files["model.tflite"] = "fake"
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

type golden struct {
	Pictures []struct{ File, Golden string }
	Resize   []struct{ Policy, Filter, Golden string }
}

func readGolden(t testing.TB) (g golden) {
	t.Helper()
	data, err := os.ReadFile("testdata/golden.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &g); err != nil {
		t.Fatal(err)
	}
	return g
}

func readFile(t testing.TB, elements ...string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(elements...))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// whole is the aim that leaves a picture as large as it is.
var whole = aim{image.Pt(4096, 4096), Stretch}

// readRGB reads a golden picture as three bytes a pixel.
func readRGB(t testing.TB, name string) ([]byte, image.Point) {
	t.Helper()
	file, err := os.Open(filepath.Join("testdata/golden", name))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	img, err := png.Decode(file)
	if err != nil {
		t.Fatal(err)
	}
	size := img.Bounds().Size()
	var out []byte
	for y := range size.Y {
		for x := range size.X {
			r, g, b, _ := img.At(x, y).RGBA()
			out = append(out, byte(r>>8), byte(g>>8), byte(b>>8))
		}
	}
	return out, size
}

// difference is the largest and the mean difference of two pictures' samples.
func difference(t testing.TB, got, want []byte) (most int, mean float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d samples, want %d", len(got), len(want))
	}
	sum := 0
	for i := range got {
		d := max(int(got[i]), int(want[i])) - min(int(got[i]), int(want[i]))
		most, sum = max(most, d), sum+d
	}
	return most, float64(sum) / float64(len(got))
}

// TestResizeIsPillows: the same pixels in must give the same pixels out as in
// training, for every policy and filter.
func TestResizeIsPillows(t *testing.T) {
	p, err := decode(readFile(t, "testdata/pictures/png-rgb.png"), Limits{}, whole)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range readGolden(t).Resize {
		t.Run(c.Golden, func(t *testing.T) {
			want, size := readRGB(t, c.Golden)
			got, err := p.resizeTo(size, Policy(c.Policy), Filter(c.Filter))
			if err != nil {
				t.Fatal(err)
			}
			if most, mean := difference(t, got, want); most > 0 {
				t.Errorf("differs by up to %d, %.3f on average", most, mean)
			}
		})
	}
}

// TestPicturesAsPillowSeesThem decodes every kind of picture, turns it upright
// and compares it, resized, with what Pillow made of it.
func TestPicturesAsPillowSeesThem(t *testing.T) {
	for _, c := range readGolden(t).Pictures {
		t.Run(c.File, func(t *testing.T) {
			p, err := decode(readFile(t, "testdata/pictures", c.File), Limits{}, whole)
			if err != nil {
				t.Fatal(err)
			}
			want, size := readRGB(t, c.Golden)
			got, err := p.resizeTo(size, Stretch, Bilinear)
			if err != nil {
				t.Fatal(err)
			}
			// PNG leaves nothing to the decoder. JPEG decoders round
			// differently, and Pillow cuts colors that RGB cannot hold to
			// its range before resizing, not after: that shows at the edges
			// of the scene's glaring colors.
			mostAllowed, meanAllowed := 24, 0.6
			if strings.HasSuffix(c.File, ".png") {
				mostAllowed, meanAllowed = 1, 0.3
			}
			most, mean := difference(t, got, want)
			if most > mostAllowed || mean > meanAllowed {
				t.Errorf("differs by up to %d, %.3f on average", most, mean)
			}
		})
	}
}

// TestReducedDecoding: decoding to a smaller size first gives the same small
// picture, nearly, and only where it stays well above its aim.
func TestReducedDecoding(t *testing.T) {
	for _, c := range []struct {
		picture image.Point
		aim     aim
		want    int
	}{
		{image.Pt(1280, 720), aim{image.Pt(224, 224), Stretch}, 2},
		{image.Pt(1280, 672), aim{image.Pt(224, 224), Stretch}, 2},
		{image.Pt(1280, 671), aim{image.Pt(224, 224), Stretch}, 1},
		{image.Pt(1280, 671), aim{image.Pt(224, 224), Letterbox}, 2},
		{image.Pt(720, 1280), aim{image.Pt(224, 224), Crop}, 2},
		{image.Pt(4000, 3000), aim{image.Pt(224, 224), Stretch}, 8},
		{image.Pt(8000, 8000), aim{image.Pt(100, 100), Stretch}, 8},
		{image.Pt(640, 480), aim{image.Pt(224, 224), Stretch}, 1},
		{image.Pt(100, 100), aim{image.Pt(224, 224), Stretch}, 1},
	} {
		if got, err := c.aim.reduction(c.picture); got != c.want || err != nil {
			t.Errorf("%v for %v: 1/%d, want 1/%d (%v)", c.picture, c.aim, got, c.want, err)
		}
	}
	for _, name := range []string{"jpeg-444.jpg", "jpeg-422.jpg", "jpeg-420.jpg", "jpeg-odd.jpg", "jpeg-gray.jpg", "exif-6.jpg"} {
		for _, policy := range []Policy{Stretch, Crop, Letterbox} {
			data, size := readFile(t, "testdata/pictures", name), image.Pt(20, 12)
			var small [2][]byte
			for i, aim := range []aim{whole, {size, policy}} {
				p, err := decode(data, Limits{}, aim)
				if err != nil {
					t.Fatal(err)
				}
				if (p.reduced > 1) != (i == 1) {
					t.Errorf("%s for %v: decoded at 1/%d", name, aim, p.reduced)
				}
				if small[i], err = p.resizeTo(size, policy, Bilinear); err != nil {
					t.Fatal(err)
				}
			}
			// The scene's hard edges and colors show it more than photographs.
			if most, mean := difference(t, small[1], small[0]); mean > 2 {
				t.Errorf("%s, %s: differs by up to %d, %.2f on average", name, policy, most, mean)
			}
		}
	}
}

func TestOrientationSurvivesCropping(t *testing.T) {
	// What is cut out must be the same part of the upright picture, however it
	// was stored.
	want, err := decode(readFile(t, "testdata/pictures/exif-1.jpg"), Limits{}, whole)
	if err != nil {
		t.Fatal(err)
	}
	for _, policy := range []Policy{Crop, Letterbox} {
		size := image.Pt(33, 57)
		reference, err := want.resizeTo(size, policy, Bilinear)
		if err != nil {
			t.Fatal(err)
		}
		for o := 2; o <= 8; o++ {
			p, err := decode(readFile(t, "testdata/pictures", fmt.Sprintf("exif-%d.jpg", o)), Limits{}, whole)
			if err != nil {
				t.Fatal(err)
			}
			got, err := p.resizeTo(size, policy, Bilinear)
			if err != nil {
				t.Fatal(err)
			}
			if most, mean := difference(t, got, reference); mean > 1.5 {
				t.Errorf("%s, orientation %d: differs by up to %d, %.2f on average", policy, o, most, mean)
			}
		}
	}
}

func TestWhatIsNotAPicture(t *testing.T) {
	jpg := readFile(t, "testdata/pictures/jpeg-420.jpg")
	pngFile := readFile(t, "testdata/pictures/png-rgb.png")
	flipped := append([]byte(nil), pngFile...)
	flipped[len(flipped)/2] ^= 1
	for name, data := range map[string][]byte{
		"nothing":         nil,
		"text":            []byte("hello"),
		"GIF":             []byte("GIF89a\x01\x00\x01\x00\x00\x00\x00;"),
		"JPEG signature":  jpg[:3],
		"half a JPEG":     jpg[:len(jpg)/2],
		"JPEG header":     jpg[:200],
		"PNG signature":   pngFile[:8],
		"half a PNG":      pngFile[:len(pngFile)/2],
		"flipped bit PNG": flipped,
		"HTML":            []byte("<!doctype html><title>no</title>"),
	} {
		if _, err := decode(data, Limits{}, whole); !errors.Is(err, ErrNotPicture) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// header changes the size that a picture claims to have.
func claim(t *testing.T, file string, width, height uint32) []byte {
	t.Helper()
	data := append([]byte(nil), readFile(t, "testdata/pictures", file)...)
	if strings.HasSuffix(file, ".png") {
		binary.BigEndian.PutUint32(data[16:], width)
		binary.BigEndian.PutUint32(data[20:], height)
		binary.BigEndian.PutUint32(data[29:], pngChecksum(data[12:29]))
		return data
	}
	for segment := range jpegSegments(data) {
		if segment.marker == 0xc0 || segment.marker == markerSOF2 {
			binary.BigEndian.PutUint16(segment.payload[1:], uint16(height))
			binary.BigEndian.PutUint16(segment.payload[3:], uint16(width))
			return data
		}
	}
	t.Fatal("no frame in", file)
	return nil
}

func pngChecksum(chunk []byte) uint32 {
	crc := ^uint32(0)
	for _, b := range chunk {
		crc ^= uint32(b)
		for range 8 {
			crc = crc>>1 ^ 0xedb88320&-(crc&1)
		}
	}
	return ^crc
}

func TestTooLarge(t *testing.T) {
	small := readFile(t, "testdata/pictures/png-rgb.png")
	for name, c := range map[string]struct {
		data   []byte
		limits Limits
	}{
		"bytes":                    {small, Limits{Bytes: len(small) - 1}},
		"pixels":                   {small, Limits{Pixels: 149*83 - 1}},
		"JPEG bomb":                {claim(t, "jpeg-420.jpg", 65500, 65500), Limits{}},
		"PNG bomb":                 {claim(t, "png-rgb.png", 20000, 20000), Limits{}},
		"PNG of one line":          {claim(t, "png-rgb.png", 1<<31-1, 1), Limits{}},
		"progressive, much memory": {claim(t, "jpeg-progressive.jpg", 6300, 6300), Limits{}},
	} {
		if _, err := decode(c.data, c.limits, whole); !errors.Is(err, ErrTooLarge) || errors.Is(err, ErrNotPicture) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := decode(small, Limits{Bytes: len(small), Pixels: 149 * 83}, whole); err != nil {
		t.Errorf("at the limits: %v", err)
	}
}

func TestExifThatLies(t *testing.T) {
	entry := func(order binary.AppendByteOrder, tag, kind uint16, count uint32, value uint16) []byte {
		data := order.AppendUint16(nil, tag)
		data = order.AppendUint16(data, kind)
		data = order.AppendUint32(data, count)
		data = order.AppendUint16(data, value)
		return order.AppendUint16(data, 0)
	}
	tiff := func(order binary.AppendByteOrder, mark string, entries ...[]byte) []byte {
		data := append([]byte(mark), order.AppendUint32(nil, 8)...)
		data = order.AppendUint16(data, uint16(len(entries)))
		for _, e := range entries {
			data = append(data, e...)
		}
		return data
	}
	le, be := binary.LittleEndian, binary.BigEndian
	huge := entry(le, 0x010f, 4, 0x40000001, 0) // one that asks a library for 8 GB
	for name, c := range map[string]struct {
		tiff []byte
		want orientation
	}{
		"little-endian":         {tiff(le, "II*\x00", entry(le, 0x0112, 3, 1, 6)), 6},
		"big-endian":            {tiff(be, "MM\x00*", entry(be, 0x0112, 3, 1, 8)), 8},
		"after a huge entry":    {tiff(le, "II*\x00", huge, entry(le, 0x0112, 3, 1, 3)), 3},
		"zero":                  {tiff(le, "II*\x00", entry(le, 0x0112, 3, 1, 0)), 1},
		"nine":                  {tiff(le, "II*\x00", entry(le, 0x0112, 3, 1, 9)), 1},
		"not a number":          {tiff(le, "II*\x00", entry(le, 0x0112, 2, 1, 6)), 1},
		"none":                  {tiff(le, "II*\x00", entry(le, 0x0110, 3, 1, 6)), 1},
		"cut off":               {tiff(le, "II*\x00", entry(le, 0x0112, 3, 1, 6))[:20], 1},
		"directory beyond":      {append([]byte("II*\x00"), 0xff, 0xff, 0xff, 0xff, 0, 0), 1},
		"more entries than are": {le.AppendUint16([]byte("II*\x00\x08\x00\x00\x00"), 65535), 1},
		"another mark":          {tiff(le, "XX*\x00", entry(le, 0x0112, 3, 1, 6)), 1},
		"nothing":               {nil, 1},
	} {
		if got := tiffOrientation(c.tiff); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}

func FuzzDecode(f *testing.F) {
	files, err := filepath.Glob("testdata/pictures/*")
	if err != nil || len(files) == 0 {
		f.Fatal("no pictures to start from", err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
		f.Add(data[:len(data)/2])
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		limits := Limits{Bytes: 1 << 20, Pixels: 1 << 20, Memory: 16 << 20}
		p, err := decode(data, limits, aim{image.Pt(1+len(data)%64, 12), Crop})
		if err != nil {
			if !errors.Is(err, ErrNotPicture) && !errors.Is(err, ErrTooLarge) {
				t.Fatalf("an error of no kind: %v", err)
			}
			if strings.Contains(err.Error(), "panicked") {
				t.Fatal(err)
			}
			return
		}
		if p.size.X*p.size.Y > limits.Pixels {
			t.Fatalf("decoded %v", p.size)
		}
		for _, policy := range []Policy{Stretch, Crop, Letterbox} {
			out, err := p.resizeTo(image.Pt(16, 12), policy, Bilinear)
			if err != nil || len(out) != 3*16*12 {
				t.Fatalf("%s: %d samples, %v", policy, len(out), err)
			}
		}
	})
}
