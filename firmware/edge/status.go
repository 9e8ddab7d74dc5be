package edge

import "time"

// State is where a module is in its life.
type State string

// The states of a module.
const (
	Starting   State = "starting"   // Run has been called; it has not said Ready yet
	Running    State = "running"    // at work
	Restarting State = "restarting" // it failed and waits for its next start
	Stopped    State = "stopped"    // ended with the runtime, or removed
)

// ModuleStatus is what the runtime knows of a module.
type ModuleStatus struct {
	ID    string    `json:"id"`
	Kind  string    `json:"kind"`
	State State     `json:"state"`
	Since time.Time `json:"since"`
	// Healthy is false while the module has said why it cannot do its work.
	Healthy bool `json:"healthy"`
	// Cause is why it is not healthy, or why it was last restarted while it is
	// restarting.
	Cause    string           `json:"cause,omitempty"`
	Restarts int64            `json:"restarts"`
	Counters map[string]int64 `json:"counters,omitempty"`
	// Desired holds the properties in effect.
	Desired any `json:"desired,omitempty"`
	// DesiredError says why the twin's last change was refused.
	DesiredError string         `json:"desiredError,omitempty"`
	Reported     map[string]any `json:"reported,omitempty"`
}

// RouteStatus is what the runtime knows of a route.
type RouteStatus struct {
	Name           string `json:"name"`
	Route          string `json:"route"`
	Priority       int    `json:"priority"`
	TimeToLiveSecs int    `json:"timeToLiveSecs,omitempty"`
	// Matched counts messages that the route chose, Delivered those that its
	// endpoint took, Failed those it did not take, Expired those that waited
	// longer than their time to live.
	Matched   int64 `json:"matched"`
	Delivered int64 `json:"delivered"`
	Failed    int64 `json:"failed"`
	Expired   int64 `json:"expired"`
}

// Status is what the runtime knows of itself.
type Status struct {
	Modules []ModuleStatus `json:"modules"`
	Routes  []RouteStatus  `json:"routes"`
	// Messages counts what modules sent, Unrouted what no route wanted.
	Messages int64 `json:"messages"`
	Unrouted int64 `json:"unrouted"`
	// DesiredVersion is the version of the twin's desired properties.
	DesiredVersion int64 `json:"desiredVersion"`
	// Stuck names what makes no progress; empty when all is well.
	Stuck []string `json:"stuck,omitempty"`
}
