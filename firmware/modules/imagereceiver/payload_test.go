package imagereceiver

import (
	"bytes"
	"encoding/base64"
	"errors"
	"image"
	"image/jpeg"
	"image/png"
	"strings"
	"testing"
)

// jpegPicture and pngPicture are whole pictures of some detail.
func jpegPicture(t testing.TB) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := jpeg.Encode(&b, sample(), nil); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func pngPicture(t testing.TB) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := png.Encode(&b, sample()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func sample() image.Image {
	img := image.NewGray(image.Rect(0, 0, 40, 30))
	for i := range img.Pix {
		img.Pix[i] = byte(i * 7)
	}
	return img
}

// wrapped breaks text into lines, as the base64 command does.
func wrapped(text, newline string) string {
	var b strings.Builder
	for len(text) > 76 {
		b.WriteString(text[:76] + newline)
		text = text[76:]
	}
	return b.String() + text + newline
}

func TestDecodePayloadTakes(t *testing.T) {
	for name, picture := range map[string][]byte{"jpeg": jpegPicture(t), "png": pngPicture(t)} {
		std := base64.StdEncoding.EncodeToString(picture)
		for form, payload := range map[string]string{
			"raw":                        string(picture),
			"standard":                   std,
			"standard without padding":   base64.RawStdEncoding.EncodeToString(picture),
			"url":                        base64.URLEncoding.EncodeToString(picture),
			"url without padding":        base64.RawURLEncoding.EncodeToString(picture),
			"lines":                      wrapped(std, "\n"),
			"lines as Windows ends them": wrapped(std, "\r\n"),
			"blanks around":              " \t" + std + "  \n",
			"data URI":                   "data:image/jpeg;base64," + std,
			"data URI, in capitals":      "\nDATA:image/png;charset=x;BASE64," + wrapped(std, "\n"),
			"data URI without type":      "data:;base64," + std,
		} {
			got, err := decodePayload([]byte(payload), len(picture))
			if err != nil || !bytes.Equal(got, picture) {
				t.Errorf("%s as %s: %d of %d bytes, %v", name, form, len(got), len(picture), err)
			}
		}
	}
}

func TestDecodePayloadRefuses(t *testing.T) {
	picture := jpegPicture(t)
	std := base64.StdEncoding.EncodeToString(picture)
	max := len(picture)
	for _, c := range []struct {
		name, payload string
		max           int
		reason        reason
		detail        string
	}{
		{"nothing", "", max, reasonEmpty, "empty"},
		{"white space", " \r\n", max, reasonEmpty, "white space"},
		{"padding", "==", max, reasonEmpty, "padding"},
		{"words", "hello, world", max, reasonNotPicture, "byte 0x2c at offset 5"},
		{"zeroes", "\x00\x00\x00\x00", max, reasonNotPicture, "byte 0x00 at offset 0"},
		{"JSON", `{"image":"x"}`, max, reasonNotPicture, "byte 0x7b"},
		{"cut off", std[:101], max, reasonNotBase64, "cut off: 101 digits"},
		{"goes on after padding", "QQ==QQ==", max, reasonNotBase64, "after its padding"},
		{"too much padding", "QQ===", max, reasonNotBase64, "3 of padding"},
		{"base64 of text", base64.StdEncoding.EncodeToString([]byte("hello")), max, reasonNotPicture, "text/plain"},
		{"base64 of a GIF", base64.StdEncoding.EncodeToString([]byte("GIF89a....")), max, reasonNotPicture, "image/gif"},
		{"a data URI that is not base64", "data:image/jpeg,%FF%D8", max, reasonNotBase64, "not in base64"},
		{"a data URI without data", "data:image/jpeg;base64", max, reasonNotBase64, "comma"},
		{"base64 of a picture over the limit", std, max - 1, reasonTooLarge, "max_picture_bytes"},
		{"a raw picture over the limit", string(picture), max - 1, reasonTooLarge, "max_picture_bytes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := decodePayload([]byte(c.payload), c.max)
			var bad *badPicture
			if !errors.As(err, &bad) {
				t.Fatalf("error %v", err)
			}
			if bad.reason != c.reason || !strings.Contains(bad.detail, c.detail) {
				t.Errorf("%s: %s; want %s: … %s …", bad.reason, bad.detail, c.reason, c.detail)
			}
		})
	}
}

func FuzzPayload(f *testing.F) {
	for _, picture := range [][]byte{jpegPicture(f), pngPicture(f)} {
		f.Add(picture)
		f.Add([]byte(base64.StdEncoding.EncodeToString(picture)))
		f.Add([]byte("data:image/jpeg;base64," + wrapped(base64.URLEncoding.EncodeToString(picture), "\r\n")))
	}
	for _, text := range []string{"", "=", "QQ==", "data:,", "data:;base64,", "/9j/", "\x89PNG\r\n\x1a\n", "a b\nc_-+/="} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		const max = 4096
		before := bytes.Clone(payload)
		picture, err := decodePayload(payload, max)
		if !bytes.Equal(before, payload) {
			t.Fatal("the payload was changed")
		}
		if err != nil {
			var bad *badPicture
			if !errors.As(err, &bad) || bad.reason == "" || bad.detail == "" {
				t.Fatalf("error without a reason: %#v", err)
			}
			return
		}
		if len(picture) > max || pictureType(picture) == "" {
			t.Fatalf("%d bytes of type %q were taken for a picture", len(picture), pictureType(picture))
		}
		again, err := decodePayload([]byte(base64.RawURLEncoding.EncodeToString(picture)), max)
		if err != nil || !bytes.Equal(again, picture) {
			t.Fatalf("encoded again and decoded, the picture is different: %v", err)
		}
	})
}
