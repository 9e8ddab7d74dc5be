package vision

import (
	"bytes"
	"encoding/binary"
	"image"
)

// orientation is the value of Exif's tag 0x0112: how the stored picture has to
// be turned to stand upright (Exif 2.32, 4.6.4).
type orientation uint8

const (
	upright       orientation = 1
	flipX         orientation = 2 // mirrored left to right
	rotate180     orientation = 3
	flipY         orientation = 4
	transpose     orientation = 5 // rows are columns
	rotate90      orientation = 6 // to be turned clockwise
	transverse    orientation = 7
	rotate270     orientation = 8
	orientationID             = 0x0112
)

// swapsAxes says whether width and height change places.
func (o orientation) swapsAxes() bool { return o >= transpose && o <= rotate270 }

// turn gives the size of an upright picture for that of the stored one, and the
// other way round.
func (o orientation) turn(size image.Point) image.Point {
	if o.swapsAxes() {
		return image.Pt(size.Y, size.X)
	}
	return size
}

// source gives, for a place in an upright picture of the given size, the
// place in the stored one.
func (o orientation) source(x, y, width, height int) (int, int) {
	switch o {
	case flipX:
		return width - 1 - x, y
	case rotate180:
		return width - 1 - x, height - 1 - y
	case flipY:
		return x, height - 1 - y
	case transpose:
		return y, x
	case rotate90:
		return y, width - 1 - x
	case transverse:
		return height - 1 - y, width - 1 - x
	case rotate270:
		return height - 1 - y, x
	default:
		return x, y
	}
}

// readOrientation finds the orientation in a JPEG or PNG file; upright when
// there is none or it makes no sense.
//
// The ready-made Exif libraries read every tag and trust the counts in them:
// a picture of a few hundred bytes can make them ask for gigabytes, which ends
// the process. One tag is all that is needed.
func readOrientation(data []byte) orientation {
	if bytes.HasPrefix(data, []byte(pngSignature)) {
		return tiffOrientation(pngChunk(data, "eXIf"))
	}
	for segment := range jpegSegments(data) {
		if segment.marker == markerAPP1 {
			if tiff, ok := bytes.CutPrefix(segment.payload, []byte("Exif\x00\x00")); ok {
				return tiffOrientation(tiff)
			}
		}
	}
	return upright
}

// tiffOrientation reads the tag from the first directory of a TIFF structure
// (TIFF 6.0, section 2).
func tiffOrientation(tiff []byte) orientation {
	const entrySize, typeShort = 12, 3
	if len(tiff) < 8 {
		return upright
	}
	var order binary.ByteOrder
	switch string(tiff[:4]) {
	case "II*\x00":
		order = binary.LittleEndian
	case "MM\x00*":
		order = binary.BigEndian
	default:
		return upright
	}
	start := order.Uint32(tiff[4:])
	if uint64(start)+2 > uint64(len(tiff)) {
		return upright
	}
	directory := tiff[start:]
	entries := int(order.Uint16(directory))
	directory = directory[2:]
	for range entries {
		if len(directory) < entrySize {
			return upright
		}
		if order.Uint16(directory) == orientationID {
			value := order.Uint16(directory[8:])
			if order.Uint16(directory[2:]) != typeShort || value < 1 || value > 8 {
				return upright
			}
			return orientation(value)
		}
		directory = directory[entrySize:]
	}
	return upright
}
