package scaledjpeg

import "tuxwatch/drivers/mjpeg"

// standard holds the typical Huffman tables (T.81, K.3.3): cameras that send
// Motion JPEG leave them out of every frame, since all use the same.
var standard = func() (d decoder) {
	segment := mjpeg.StandardTables()
	if err := d.huffmanTables(segment[4:]); err != nil { // behind marker and length
		panic(err)
	}
	return d
}()
