//go:build !tensorflow

package savedmodel

import (
	"errors"

	"tuxwatch/firmware/vision"
)

// ErrNotBuilt is returned by Load in programs that were built without
// TensorFlow.
var ErrNotBuilt = errors.New("this program was built without TensorFlow, which runs SavedModels; " +
	"build it with 'make build-tensorflow' (go build -tags tensorflow), or use a model for TensorFlow Lite")

// Available is whether this program was built with TensorFlow.
const Available = false

// Load returns ErrNotBuilt.
func Load() (vision.Runtime, error) { return nil, ErrNotBuilt }
