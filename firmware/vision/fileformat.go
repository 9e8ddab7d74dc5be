package vision

import (
	"encoding/binary"
	"iter"
)

// What has to be known of the two file formats beside decoding them.

const (
	jpegSignature = "\xff\xd8\xff"
	pngSignature  = "\x89PNG\r\n\x1a\n"
)

// JPEG markers (ITU-T T.81, table B.1).
const (
	markerSOF2 = 0xc2 // start of frame, progressive
	markerSOS  = 0xda // start of scan
	markerEOI  = 0xd9
	markerAPP1 = 0xe1
)

type jpegSegment struct {
	marker  byte
	offset  int // of the marker in the file
	payload []byte
}

// jpegSegments gives the segments of a JPEG file up to and with the start of
// its first scan (T.81, B.1.1.4). It ends early where the file is damaged.
func jpegSegments(data []byte) iter.Seq[jpegSegment] {
	return func(yield func(jpegSegment) bool) {
		at := 2
		for at+4 <= len(data) {
			if data[at] != 0xff {
				return
			}
			marker := data[at+1]
			if marker == 0xff { // fill byte
				at++
				continue
			}
			if marker == markerEOI {
				return
			}
			size := int(binary.BigEndian.Uint16(data[at+2:]))
			if size < 2 || at+2+size > len(data) {
				return
			}
			if !yield(jpegSegment{marker, at, data[at+4 : at+2+size]}) || marker == markerSOS {
				return
			}
			at += 2 + size
		}
	}
}

// pngChunk gives the content of the first chunk of a type that comes before the
// picture's data (PNG, third edition, 5.3), or nil.
func pngChunk(data []byte, chunkType string) []byte {
	const head, checksum = 8, 4
	at := len(pngSignature)
	for at+head <= len(data) {
		size := uint64(binary.BigEndian.Uint32(data[at:]))
		name := string(data[at+4 : at+head])
		if name == "IDAT" || uint64(at)+head+size+checksum > uint64(len(data)) {
			return nil
		}
		if name == chunkType {
			return data[at+head : at+head+int(size)]
		}
		at += head + int(size) + checksum
	}
	return nil
}
