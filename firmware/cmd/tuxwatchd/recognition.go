package main

import (
	"fmt"
	"log/slog"

	"tuxwatch/firmware/vision"
	"tuxwatch/firmware/vision/litert"
)

// newRecognition makes the service that the recognizer loads its model into.
// Without the runtime library the daemon works, less the recognizer, which says
// why.
func newRecognition(log *slog.Logger) *vision.Service {
	library, err := litert.Load("")
	if err != nil {
		log.Error("pictures cannot be recognized", "error", err)
		return vision.NewService(noRuntime{err})
	}
	return vision.NewService(library)
}

// noRuntime stands in for a runtime library that cannot be loaded.
type noRuntime struct{ cause error }

// Name says that it is none.
func (noRuntime) Name() string { return "none" }

// Open says why there is none.
func (r noRuntime) Open(file string, _ int) (vision.Model, error) {
	return nil, fmt.Errorf("opening the model %s: %w", file, r.cause)
}
