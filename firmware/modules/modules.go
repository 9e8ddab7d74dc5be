// Package modules lists the kinds of modules that the program has. A new kind is
// a folder here and a line in [Kinds]; the package has no other purpose.
package modules

import (
	"tuxwatch/firmware/edge"
	"tuxwatch/firmware/modules/camera"
	"tuxwatch/firmware/modules/filter"
	"tuxwatch/firmware/modules/imagereceiver"
	"tuxwatch/firmware/modules/recognizer"
	"tuxwatch/firmware/modules/sensor"
	"tuxwatch/firmware/vision"
)

// Kinds returns every kind of module. pictures answers what pictures show, to
// the kinds that ask; it may be nil where nothing runs and configurations are
// only checked.
func Kinds(pictures *vision.Service) []edge.Kind {
	return []edge.Kind{
		sensor.Kind(),
		filter.Kind(),
		camera.Kind(),
		recognizer.Kind(pictures),
		imagereceiver.Kind(pictures),
	}
}
