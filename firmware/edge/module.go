package edge

import (
	"context"
	"encoding/json"

	"tuxwatch/firmware/edge/route"
)

// Module is one worker on the device.
//
// Run registers the module's handlers with c, does the module's work and
// returns when ctx ends. If it returns earlier, with or without an error, or
// panics, the supervisor logs and counts it and starts the module again after a
// pause. A value of Module is used for one Run.
type Module interface {
	Run(ctx context.Context, c *Client) error
}

// Kind describes a kind of module to the configuration and the runtime. A
// module's package exports one; package modules lists them.
type Kind struct {
	// Name is what the configuration calls it ("sensor").
	Name string
	// Summary is one line for help texts.
	Summary string
	// Settings returns a pointer to a new struct, defaults filled in, whose
	// yaml tags name the module's settings. Settings are fixed while the module
	// runs. The struct may have a method Validate() error.
	Settings func() any
	// Properties returns a pointer to a new struct, defaults filled in, whose
	// json tags name the module's desired properties, which the twin changes
	// while it runs. The struct may have a method Validate() error. Nil if the
	// module has none.
	Properties func() any
	// Inputs, Outputs and Methods name what the module has, so that routes can
	// be checked before anything runs.
	Inputs, Outputs, Methods []string
	// New makes a module; settings is what Settings returned, overlaid by the
	// configuration.
	New func(settings any) (Module, error)
}

// Instance is a module of the configuration.
type Instance struct {
	// ID is the module's name in routes and twin ("tempSensor").
	ID   string
	Kind Kind
	// Settings as made by Kind.Settings. Nil means the defaults.
	Settings any
	// Desired holds the desired properties that the configuration sets: a JSON
	// object, or nil. The twin wins over it.
	Desired json.RawMessage
}

// settings returns the instance's settings, or the defaults.
func (i Instance) settings() any {
	if i.Settings == nil && i.Kind.Settings != nil {
		return i.Kind.Settings()
	}
	return i.Settings
}

// validator is what settings and properties may implement.
type validator interface{ Validate() error }

// LowestPriority is a route's priority when it names none; 0 is the highest
// (IoT Edge 1.1, "Deploy modules and establish routes": priority and time to
// live).
const LowestPriority = 9

// Route is a route of the configuration: the parsed text, with the priority
// and time to live that go with it.
type Route struct {
	Name string
	*route.Route
	// Priority orders waiting messages: 0 first, 9 last.
	Priority int
	// TimeToLiveSecs is how long a message may wait for its endpoint, in
	// seconds; 0 leaves it to the outbox.
	TimeToLiveSecs int
}
