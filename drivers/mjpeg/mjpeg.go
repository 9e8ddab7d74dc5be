// Package mjpeg cuts a Motion JPEG stream into pictures that any JPEG decoder
// takes.
//
// Motion JPEG has no container: pictures follow one another, with padding, a
// multipart boundary or nothing in between. Looking for the two bytes of an
// end-of-image marker is not enough, because they also end the thumbnail that
// an Exif header may hold. [Reader] therefore follows the structure of each
// picture (ITU-T T.81, Annex B): marker segments by their length,
// entropy-coded data by byte stuffing.
//
// USB cameras leave out the Huffman tables to save bandwidth; the reader puts
// in the standard ones. It does not decode anything. Start with [Reader] for a
// stream and [Picture] for one picture.
package mjpeg

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
)

// The markers that structure a picture (ITU-T T.81, Table B.1).
const (
	markTEM  = 0x01
	markSOF0 = 0xc0
	markDHT  = 0xc4
	markRST0 = 0xd0
	markRST7 = 0xd7
	markSOI  = 0xd8
	markEOI  = 0xd9
	markSOS  = 0xda
)

// DamageError says why bytes that began like a picture are not one. The stream
// can be read on after it.
type DamageError struct{ Reason string }

func (e *DamageError) Error() string { return "damaged JPEG: " + e.Reason }

// Stats counts what a Reader has seen.
type Stats struct {
	Pictures int   // whole pictures returned
	Damaged  int   // pictures given up: broken off, malformed or too large
	Skipped  int64 // bytes between pictures
}

// Reader reads pictures from a stream. It is not safe for concurrent use.
type Reader struct {
	r     *bufio.Reader
	max   int
	stats Stats

	atPicture bool // the start-of-image marker has been consumed
	tables    bool // the picture brings Huffman tables
	scan      int  // where its first scan starts, 0 before it
}

// NewReader returns a Reader of r that gives up pictures larger than
// maxPicture bytes.
func NewReader(r io.Reader, maxPicture int) *Reader {
	return &Reader{r: bufio.NewReaderSize(r, 32<<10), max: maxPicture}
}

// Stats returns what has been read so far.
func (r *Reader) Stats() Stats { return r.stats }

// Next returns the next whole picture, stored in buf if it has room. Damaged
// pictures are passed over and counted. It returns io.EOF when the stream ends
// between pictures, io.ErrUnexpectedEOF when it ends within one.
func (r *Reader) Next(buf []byte) ([]byte, error) {
	for {
		picture, err := r.next(buf[:0])
		var damage *DamageError
		switch {
		case err == nil:
			r.stats.Pictures++
			return picture, nil
		case errors.As(err, &damage):
			r.stats.Damaged++
		default:
			return nil, err
		}
	}
}

func (r *Reader) next(p []byte) ([]byte, error) {
	if err := r.seek(); err != nil {
		return nil, err
	}
	r.tables, r.scan = false, 0
	p, err := r.picture(append(p, 0xff, markSOI))
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, err
	}
	if !r.tables && r.scan > 0 {
		p = withTables(p, r.scan)
	}
	return p, nil
}

// seek reads up to and including the next start-of-image marker.
func (r *Reader) seek() error {
	for !r.atPicture {
		skipped, err := r.r.ReadSlice(0xff)
		r.stats.Skipped += int64(len(skipped))
		if err == bufio.ErrBufferFull {
			continue
		}
		if err != nil {
			return err
		}
		next, err := r.r.Peek(2)
		if err != nil {
			return err
		}
		// Another marker must follow at once; FF D8 alone is common in noise.
		if next[0] == markSOI && next[1] == 0xff {
			r.r.Discard(1)
			r.stats.Skipped--
			r.atPicture = true
		}
	}
	r.atPicture = false
	return nil
}

// picture reads the segments after the start of the image, up to its end.
func (r *Reader) picture(p []byte) ([]byte, error) {
	marker, err := r.marker()
	for {
		if err != nil {
			return nil, err
		}
		switch {
		case marker == markSOI:
			// The picture before broke off; this is where the next one starts.
			r.atPicture = true
			return nil, &DamageError{"broken off before its end"}
		case marker == markEOI:
			if r.scan == 0 {
				return nil, &DamageError{"no image data"}
			}
			return append(p, 0xff, markEOI), nil
		case marker == 0 || marker > markTEM && marker < markSOF0:
			return nil, &DamageError{fmt.Sprintf("reserved marker %#x", marker)}
		case marker == markTEM, marker >= markRST0 && marker <= markRST7:
			p = append(p, 0xff, marker) // stands alone
			marker, err = r.marker()
		default:
			if p, err = r.segment(p, marker); err != nil {
				return nil, err
			}
			if marker == markSOS {
				p, marker, err = r.entropy(p)
			} else {
				marker, err = r.marker()
			}
		}
	}
}

// marker reads a marker, with the fill bytes allowed before it (T.81, B.1.1.2).
func (r *Reader) marker() (byte, error) {
	b, err := r.r.ReadByte()
	if err != nil {
		return 0, err
	}
	if b != 0xff {
		return 0, &DamageError{fmt.Sprintf("%#02x where a marker was expected", b)}
	}
	for b == 0xff {
		if b, err = r.r.ReadByte(); err != nil {
			return 0, err
		}
	}
	return b, nil
}

// segment appends a marker segment: marker, length, contents.
func (r *Reader) segment(p []byte, marker byte) ([]byte, error) {
	size, err := r.r.Peek(2)
	if err != nil {
		return nil, err
	}
	length := int(size[0])<<8 | int(size[1])
	if length < 2 {
		return nil, &DamageError{fmt.Sprintf("segment %#x of length %d", marker, length)}
	}
	if err := r.fits(len(p) + 2 + length); err != nil {
		return nil, err
	}
	switch {
	case marker == markDHT:
		r.tables = true
	case marker == markSOS && r.scan == 0:
		r.scan = len(p)
	}
	p = append(p, 0xff, marker)
	start := len(p)
	p = append(p, make([]byte, length)...)
	_, err = io.ReadFull(r.r, p[start:])
	return p, err
}

// entropy appends entropy-coded data and returns the marker that ends it.
func (r *Reader) entropy(p []byte) ([]byte, byte, error) {
	for {
		data, err := r.r.ReadSlice(0xff)
		if fits := r.fits(len(p) + len(data) + 1); fits != nil {
			return nil, 0, fits
		}
		p = append(p, data...)
		if err == bufio.ErrBufferFull {
			continue
		}
		if err != nil {
			return nil, 0, err
		}
		b, err := r.r.ReadByte()
		if err != nil {
			return nil, 0, err
		}
		switch {
		case b == 0, b >= markRST0 && b <= markRST7:
			p = append(p, b)
		case b == 0xff: // fill before a marker
			p = p[:len(p)-1]
			r.r.UnreadByte()
		default:
			return p[:len(p)-1], b, nil
		}
	}
}

func (r *Reader) fits(size int) error {
	if size > r.max {
		return &DamageError{fmt.Sprintf("larger than %d bytes", r.max)}
	}
	return nil
}

// Picture returns the picture at the start of data as a whole JPEG: without
// what follows its end (drivers pad their buffers) and with Huffman tables. The
// error is a *DamageError.
func Picture(data []byte) ([]byte, error) {
	if len(data) < 3 || data[0] != 0xff || data[1] != markSOI || data[2] != 0xff {
		return nil, &DamageError{"no start of an image"}
	}
	r := Reader{r: bufio.NewReaderSize(bytes.NewReader(data), 16), max: math.MaxInt}
	p, err := r.next(make([]byte, 0, len(data)+len(standardTables)))
	if err == io.ErrUnexpectedEOF {
		return nil, &DamageError{"broken off before its end"}
	}
	return p, err
}

// withTables puts the standard Huffman tables before the scan that starts at
// offset at.
func withTables(p []byte, at int) []byte {
	tail := len(p) - at
	p = append(p, standardTables...)
	copy(p[at+len(standardTables):], p[at:at+tail])
	copy(p[at:], standardTables)
	return p
}
