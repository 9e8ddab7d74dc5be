package imagereceiver

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"net/http"
)

// reason is why a picture was not taken, as the counters name it.
type reason string

const (
	reasonEmpty      reason = "empty"
	reasonNotBase64  reason = "not_base64"
	reasonNotPicture reason = "not_picture"
	reasonTooLarge   reason = "too_large"
	reasonPanic      reason = "panic"
)

// badPicture is the error for a payload that is not a usable picture. Sending
// the same payload again cannot help.
type badPicture struct {
	reason reason
	detail string
}

func (e *badPicture) Error() string { return e.detail }

// The first bytes of the two picture formats (ITU-T T.81, B.1.1.3; PNG
// specification, 5.2).
var (
	jpegStart = []byte{0xff, 0xd8, 0xff}
	pngStart  = []byte("\x89PNG\r\n\x1a\n")
)

// pictureType returns the media type of an encoded picture, or "".
func pictureType(picture []byte) string {
	switch {
	case bytes.HasPrefix(picture, jpegStart):
		return "image/jpeg"
	case bytes.HasPrefix(picture, pngStart):
		return "image/png"
	}
	return ""
}

// decodePayload returns the picture in the payload of a publish: the bytes of a
// JPEG or PNG as they are, or base64 of them in the standard or the URL alphabet
// (RFC 4648, sections 4 and 5), padded or not, with any white space in between,
// after an optional data URI prefix (RFC 2397). The picture may be at most max
// bytes. It may share memory with payload. The error is a *badPicture.
func decodePayload(payload []byte, max int) ([]byte, error) {
	if len(payload) == 0 {
		return nil, &badPicture{reasonEmpty, "the payload is empty"}
	}
	picture := payload
	if pictureType(payload) == "" {
		var err error
		if picture, err = decodeText(payload, max); err != nil {
			return nil, err
		}
	}
	if len(picture) > max {
		return nil, tooLarge(len(picture), max)
	}
	if pictureType(picture) == "" {
		return nil, &badPicture{reasonNotPicture, fmt.Sprintf(
			"the base64 holds %d bytes that are neither JPEG nor PNG (they look like %s)", len(picture), http.DetectContentType(picture))}
	}
	return picture, nil
}

func tooLarge(size, max int) error {
	return &badPicture{reasonTooLarge, fmt.Sprintf("the picture has %d bytes, more than max_picture_bytes (%d) allows", size, max)}
}

// decodeText decodes base64 as cameras and command-line tools write it.
func decodeText(text []byte, max int) ([]byte, error) {
	text, err := cutDataURI(text)
	if err != nil {
		return nil, err
	}
	digits := make([]byte, 0, len(text))
	padding := 0
	for i, c := range text {
		switch {
		case c == ' ', c == '\n', c == '\r', c == '\t':
			continue
		case c == '=':
			padding++
			continue
		case c == '-':
			c = '+'
		case c == '_':
			c = '/'
		case !alphabet[c]:
			return nil, &badPicture{reasonNotPicture, fmt.Sprintf(
				"the payload is neither a JPEG, nor a PNG, nor base64 of one: byte %#02x at offset %d", c, i)}
		}
		if padding > 0 {
			return nil, &badPicture{reasonNotBase64, fmt.Sprintf("the base64 goes on after its padding, at offset %d", i)}
		}
		digits = append(digits, c)
	}
	switch {
	case len(digits) == 0:
		return nil, &badPicture{reasonEmpty, "the payload holds no base64, only white space or padding"}
	case len(digits)%4 == 1 || padding > 2:
		return nil, &badPicture{reasonNotBase64, fmt.Sprintf("the base64 is cut off: %d digits, %d of padding", len(digits), padding)}
	}
	size := base64.RawStdEncoding.DecodedLen(len(digits))
	if size > max {
		return nil, tooLarge(size, max)
	}
	picture := make([]byte, size)
	n, err := base64.RawStdEncoding.Decode(picture, digits)
	if err != nil { // unreachable: every digit has been checked
		return nil, &badPicture{reasonNotBase64, err.Error()}
	}
	return picture[:n], nil
}

// alphabet holds the digits of standard base64.
var alphabet = func() (a [256]bool) {
	for _, c := range []byte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/") {
		a[c] = true
	}
	return a
}()

// cutDataURI takes away a prefix such as "data:image/jpeg;base64,".
func cutDataURI(text []byte) ([]byte, error) {
	const scheme = "data:"
	trimmed := bytes.TrimLeft(text, " \t\r\n")
	if len(trimmed) < len(scheme) || !bytes.EqualFold(trimmed[:len(scheme)], []byte(scheme)) {
		return text, nil
	}
	header, data, found := bytes.Cut(trimmed, []byte(","))
	if !found {
		return nil, &badPicture{reasonNotBase64, "the data URI has no comma before its data"}
	}
	const encoding = ";base64"
	if len(header) < len(encoding) || !bytes.EqualFold(header[len(header)-len(encoding):], []byte(encoding)) {
		return nil, &badPicture{reasonNotBase64, "the data URI is not in base64"}
	}
	return data, nil
}
