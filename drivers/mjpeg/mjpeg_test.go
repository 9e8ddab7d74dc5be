package mjpeg

import (
	"bytes"
	"errors"
	"image"
	"image/color"
	"image/jpeg"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// photo returns a JPEG whose content depends on seed, with enough detail that
// its entropy-coded data has stuffed bytes.
func photo(t testing.TB, seed int) []byte {
	t.Helper()
	img := image.NewRGBA(image.Rect(0, 0, 64, 48))
	state := uint32(seed)*2654435761 + 1
	for i := range img.Pix {
		state = state*1664525 + 1013904223
		img.Pix[i] = byte(state >> 24)
	}
	img.Set(0, 0, color.White)
	var b bytes.Buffer
	if err := jpeg.Encode(&b, img, &jpeg.Options{Quality: 95}); err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(b.Bytes(), []byte{0xff, 0}) {
		t.Fatal("the sample has no stuffed bytes")
	}
	return b.Bytes()
}

// withThumbnail puts a whole JPEG into an APP1 segment, as Exif does.
func withThumbnail(t testing.TB, p []byte) []byte {
	t.Helper()
	thumbnail := photo(t, 99)
	length := len(thumbnail) + 2 + 6
	if length > 0xffff {
		t.Fatal("thumbnail too large")
	}
	out := []byte{0xff, markSOI, 0xff, 0xe1, byte(length >> 8), byte(length)}
	out = append(out, "Exif\x00\x00"...)
	out = append(out, thumbnail...)
	return append(out, p[2:]...)
}

// withoutTables removes the DHT segment, as USB cameras do.
func withoutTables(t testing.TB, p []byte) []byte {
	t.Helper()
	at := bytes.Index(p, []byte{0xff, markDHT})
	if at < 0 {
		t.Fatal("no DHT segment")
	}
	length := int(p[at+2])<<8 | int(p[at+3])
	return append(append([]byte{}, p[:at]...), p[at+2+length:]...)
}

func readAll(r *Reader) (pictures [][]byte, err error) {
	for {
		p, err := r.Next(nil)
		if err != nil {
			return pictures, err
		}
		pictures = append(pictures, p)
	}
}

func TestReaderCutsStreams(t *testing.T) {
	a, b, c := photo(t, 1), photo(t, 2), photo(t, 3)
	thumb := withThumbnail(t, b)
	broken := a[:len(a)/2]
	fill := bytes.Replace(a, []byte{0xff, markSOS}, []byte{0xff, 0xff, 0xff, markSOS}, 1)
	for _, test := range []struct {
		name    string
		stream  [][]byte
		want    [][]byte
		damaged int
		err     error
	}{
		{"back to back", [][]byte{a, b, c}, [][]byte{a, b, c}, 0, io.EOF},
		{"a thumbnail does not split", [][]byte{a, thumb, c}, [][]byte{a, thumb, c}, 0, io.EOF},
		{"multipart headers", [][]byte{[]byte("--b\r\nContent-Type: image/jpeg\r\n\r\n"), a, []byte("\r\n--b\r\n\r\n"), b}, [][]byte{a, b}, 0, io.EOF},
		{"zero padding", [][]byte{a, make([]byte, 5000), b}, [][]byte{a, b}, 0, io.EOF},
		{"started in the middle", [][]byte{a[len(a)/2:], b}, [][]byte{b}, 0, io.EOF},
		{"one broken off", [][]byte{a, broken, b}, [][]byte{a, b}, 1, io.EOF},
		{"ends within a picture", [][]byte{a, broken}, [][]byte{a}, 0, io.ErrUnexpectedEOF},
		{"fill bytes before a marker", [][]byte{fill, b}, [][]byte{a, b}, 0, io.EOF},
		{"a header of garbage", [][]byte{{0xff, 0xd8, 0xff, 0x03, 7, 7}, b}, [][]byte{b}, 1, io.EOF},
		{"a segment shorter than its length field", [][]byte{{0xff, 0xd8, 0xff, 0xe0, 0, 1}, b}, [][]byte{b}, 1, io.EOF},
		{"no image data", [][]byte{{0xff, 0xd8, 0xff, 0xd9}, b}, [][]byte{b}, 1, io.EOF},
		{"tables missing", [][]byte{withoutTables(t, a), b}, [][]byte{nil, b}, 0, io.EOF},
		{"nothing", nil, nil, 0, io.EOF},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := NewReader(iotest.HalfReader(bytes.NewReader(bytes.Join(test.stream, nil))), 1<<20)
			got, err := readAll(r)
			if err != test.err {
				t.Errorf("ended with %v, want %v", err, test.err)
			}
			if len(got) != len(test.want) {
				t.Fatalf("%d pictures, want %d", len(got), len(test.want))
			}
			for i := range got {
				if test.want[i] != nil && !bytes.Equal(got[i], test.want[i]) {
					t.Errorf("picture %d differs", i)
				}
				if _, err := jpeg.Decode(bytes.NewReader(got[i])); err != nil {
					t.Errorf("picture %d: %v", i, err)
				}
			}
			want := Stats{Pictures: len(test.want), Damaged: test.damaged, Skipped: r.Stats().Skipped}
			if diff := cmp.Diff(want, r.Stats()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestReaderIsBounded(t *testing.T) {
	a := photo(t, 1)
	endless := io.MultiReader(bytes.NewReader(a[:len(a)-2]), io.LimitReader(zeroes{}, 10<<20), bytes.NewReader(a))
	r := NewReader(endless, 100<<10)
	got, err := r.Next(nil)
	if err != nil || !bytes.Equal(got, a) {
		t.Fatalf("the picture after an endless one: %d bytes, %v", len(got), err)
	}
	if cap(got) > 300<<10 {
		t.Errorf("buffer grew to %d bytes", cap(got))
	}
	if r.Stats().Damaged != 1 {
		t.Errorf("%d damaged, want 1", r.Stats().Damaged)
	}
	if _, err := NewReader(bytes.NewReader(a), len(a)-1).Next(nil); !errors.Is(err, io.EOF) {
		t.Errorf("a picture over the limit by one byte gave %v", err)
	}
	if _, err := NewReader(bytes.NewReader(a), len(a)).Next(nil); err != nil {
		t.Errorf("a picture of just the limit: %v", err)
	}
}

type zeroes struct{}

func (zeroes) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestReaderUsesTheBuffer(t *testing.T) {
	a := photo(t, 1)
	buf := make([]byte, 0, 2*len(a))
	got, err := NewReader(bytes.NewReader(a), 1<<20).Next(buf)
	if err != nil {
		t.Fatal(err)
	}
	if &got[0] != &buf[:1][0] {
		t.Error("the picture is not in the buffer that was given")
	}
}

func TestPictureMendsWhatCamerasSend(t *testing.T) {
	a := photo(t, 1)
	bare := withoutTables(t, a)
	if _, err := jpeg.Decode(bytes.NewReader(bare)); err == nil {
		t.Fatal("the decoder takes pictures without tables; this test has lost its point")
	}
	mended, err := Picture(append(bare, make([]byte, 100)...))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.HasSuffix(mended, []byte{0xff, markEOI}) {
		t.Error("the padding is still there")
	}
	want, err := jpeg.Decode(bytes.NewReader(a))
	if err != nil {
		t.Fatal(err)
	}
	got, err := jpeg.Decode(bytes.NewReader(mended))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(want.(*image.YCbCr).Y, got.(*image.YCbCr).Y) {
		t.Error("the mended picture decodes to something else")
	}
	if again, err := Picture(a); err != nil || !bytes.Equal(again, a) {
		t.Errorf("a whole picture was changed: %v", err)
	}
	for _, c := range []struct{ data, want string }{
		{"", "no start"},
		{"\xff\xd8", "no start"},
		{"GIF89a", "no start"},
		{string(a[:len(a)-2]), "broken off"},
		{string(a[:30]), "broken off"},
	} {
		_, err := Picture([]byte(c.data))
		var damage *DamageError
		if !errors.As(err, &damage) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.10q: %v, want %q", c.data, err, c.want)
		}
	}
}

// Whatever noise lies between pictures and however the stream is cut into
// reads, whole pictures come out as they went in, unless the noise looks like a
// picture itself.
func TestReaderProperty(t *testing.T) {
	samples := [][]byte{photo(t, 1), photo(t, 2), withThumbnail(t, photo(t, 3))}
	rapid.Check(t, func(t *rapid.T) {
		var stream bytes.Buffer
		var want [][]byte
		for range rapid.IntRange(0, 4).Draw(t, "pictures") {
			noise := rapid.SliceOfN(rapid.ByteRange(0, 0xfe), 0, 40).Draw(t, "noise")
			stream.Write(noise)
			p := rapid.SampledFrom(samples).Draw(t, "picture")
			stream.Write(p)
			want = append(want, p)
		}
		got, err := readAll(NewReader(&stream, 1<<20))
		if err != io.EOF {
			t.Fatal(err)
		}
		if !slices.EqualFunc(want, got, bytes.Equal) {
			t.Fatal("pictures differ")
		}
	})
}

func FuzzReader(f *testing.F) {
	a := photo(f, 1)
	f.Add(a)
	f.Add(withThumbnail(f, a))
	f.Add(withoutTables(f, a))
	f.Add([]byte{0xff, 0xd8, 0xff, 0xda, 0, 2, 0xff, 0xff, 0xff, 0xd9})
	f.Fuzz(func(t *testing.T, data []byte) {
		const limit = 1 << 16
		r := NewReader(bytes.NewReader(data), limit)
		for {
			p, err := r.Next(nil)
			if err != nil {
				return
			}
			if len(p) > limit+len(standardTables) {
				t.Fatalf("a picture of %d bytes passed the limit of %d", len(p), limit)
			}
			again, err := Picture(p)
			if err != nil {
				t.Fatalf("a picture that was read is refused: %v", err)
			}
			if !bytes.Equal(again, p) {
				t.Fatal("reading a picture twice changed it")
			}
		}
	})
}
