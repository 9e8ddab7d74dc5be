// Package picturestest makes folders with everything that people and machines
// leave among their pictures, for the tests of what reads such folders.
package picturestest

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"image"
	"image/color"
	"image/gif"
	"image/jpeg"
	"image/png"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// Odd is a file and what is to become of it.
type Odd struct {
	Name string // below the folder
	// Says is part of the one line about it; empty where there is to be none.
	Says string
	// Used is that it is a picture all the same.
	Used bool
}

// Bad fills a folder with odd files, none of which may stop a program.
func Bad(t testing.TB, dir string) []Odd {
	t.Helper()
	scene := func(n int) *image.RGBA {
		img := image.NewRGBA(image.Rect(0, 0, 64, 48))
		for i := range img.Pix {
			img.Pix[i] = byte(i*(n+3) + i/256*n)
		}
		return img
	}
	write := func(name string, content []byte) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	link := func(to, name string) {
		t.Helper()
		if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	asJPEG := func(n int) []byte {
		var b bytes.Buffer
		if err := jpeg.Encode(&b, scene(n), nil); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	asPNG := func(img image.Image) []byte {
		var b bytes.Buffer
		if err := png.Encode(&b, img); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}

	write("video.mp4", []byte("\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00mp42isom"+string(make([]byte, 4096))))
	write("video.avi", []byte("RIFF\x00\x10\x00\x00AVI LIST"+string(make([]byte, 4096))))
	write("empty.jpg", nil)
	write("huge.jpg", claim(asJPEG(1), 10_000, 10_000)) // 100 megapixels
	write("long.jpg", append(asJPEG(2), make([]byte, 11<<20)...))
	write("half.jpg", asJPEG(3)[:500])
	write("notes.txt", []byte("buy fish"))
	write("page.jpg", []byte("<html>404 not found</html>"))
	write("phone.heic", []byte("\x00\x00\x00\x18ftypheic\x00\x00\x00\x00"))
	var film bytes.Buffer
	frames := &gif.GIF{}
	for n := range 3 {
		p := image.NewPaletted(image.Rect(0, 0, 8, 8), color.Palette{color.Black, color.White})
		p.SetColorIndex(n, n, 1)
		frames.Image, frames.Delay = append(frames.Image, p), append(frames.Delay, 10)
	}
	if err := gif.EncodeAll(&film, frames); err != nil {
		t.Fatal(err)
	}
	write("film.gif", film.Bytes())
	write("animated.png", animated(asPNG(scene(4))))
	deep := image.NewNRGBA64(image.Rect(0, 0, 64, 48))
	for i := range deep.Pix {
		deep.Pix[i] = byte(i * 11)
	}
	write("sixteen bits.png", asPNG(deep))
	write("cmyk.jpg", cmyk(t))
	write("line\nbreak and spaces.jpg", asJPEG(5))
	write("not utf-8 \xff.jpg", asJPEG(6))
	write("below/further below/deep.jpg", asJPEG(7))
	write(".hidden.jpg", []byte("no picture"))
	write("Thumbs.db", []byte("no picture"))
	link("to b", "to a")
	link("to a", "to b")
	link("nowhere", "dangling.jpg")
	link("..", "below/up again")
	link("/proc/self/mem", "unreadable.jpg") // for root as well
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe.jpg"), 0o644); err != nil {
		t.Fatal(err)
	}
	return []Odd{
		{"video.mp4", "video", false}, {"video.avi", "video", false}, {"empty.jpg", "0 bytes", false},
		{"huge.jpg", "10000 × 10000 pixels", false}, {"long.jpg", "picture too large", false}, {"half.jpg", "damaged or cut off", false},
		{"notes.txt", "not a JPEG or PNG", false}, {"page.jpg", "not a JPEG or PNG", false}, {"phone.heic", "HEIC", false},
		{"film.gif", "GIF", false}, {"animated.png", "only its first picture", true}, {"sixteen bits.png", "", true},
		{"cmyk.jpg", "", true}, {"line\nbreak and spaces.jpg", "", true}, {"not utf-8 \xff.jpg", "", true},
		{"below/further below/deep.jpg", "", true}, {"to a", "round in a circle", false}, {"to b", "round in a circle", false},
		{"dangling.jpg", "link to nothing", false}, {"below/up again", "read already", false},
		{"unreadable.jpg", "input/output error", false}, {"pipe.jpg", "a named pipe", false},
	}
}

// claim changes the size in a baseline JPEG's header (ITU-T T.81, B.2.2).
func claim(file []byte, width, height uint16) []byte {
	at := bytes.Index(file, []byte{0xff, 0xc0})
	binary.BigEndian.PutUint16(file[at+5:], height)
	binary.BigEndian.PutUint16(file[at+7:], width)
	return file
}

// animated puts the chunk that says "animated" (PNG, third edition, 11.3.6) before
// a PNG's picture.
func animated(file []byte) []byte {
	chunk := []byte("acTL\x00\x00\x00\x02\x00\x00\x00\x00") // two pictures, over and over
	whole := binary.BigEndian.AppendUint32(nil, uint32(len(chunk)-4))
	whole = append(whole, chunk...)
	whole = binary.BigEndian.AppendUint32(whole, crc32.ChecksumIEEE(chunk))
	at := bytes.Index(file, []byte("IDAT")) - 4
	return append(append(bytes.Clone(file[:at]), whole...), file[at:]...)
}

// cmyk gives a JPEG with four colours, which image/jpeg does not write: it is the
// repository's own.
func cmyk(t testing.TB) []byte {
	t.Helper()
	for up := "."; len(up) < 30; up = filepath.Join("..", up) {
		data, err := os.ReadFile(filepath.Join(up, "vision/testdata/pictures/jpeg-cmyk.jpg"))
		if err == nil {
			return data
		}
	}
	t.Fatal("jpeg-cmyk.jpg is not in vision's test data")
	return nil
}
