package control

import (
	"time"

	"tuxwatch/firmware/cloud"
	"tuxwatch/firmware/config"
	"tuxwatch/firmware/edge"
	"tuxwatch/firmware/outbox"
)

// Status is how the daemon is doing.
type Status struct {
	Version string    `json:"version"`
	PID     int       `json:"pid"`
	Device  string    `json:"device"`
	Started time.Time `json:"started"`
	// Summary is the state in words, as systemd shows it.
	Summary string `json:"summary"`

	Config   ConfigStatus `json:"config"`
	Edge     edge.Status  `json:"edge"`
	Disabled []string     `json:"disabled,omitempty"`
	Outbox   outbox.Stats `json:"outbox"`
	Hub      cloud.State  `json:"hub"`
	Watchdog Watchdog     `json:"watchdog"`
	// LastAlert is the newest alert that is on its way to the hub; nil when there
	// was none since the daemon started.
	LastAlert *Alert `json:"lastAlert,omitempty"`
}

// Alert is a message for the hub that says that something is up: one that a
// filter has marked as such, or a picture with what was looked for.
type Alert struct {
	// Time is when it was made.
	Time time.Time `json:"time"`
	// Module and Output are where it left from.
	Module string `json:"module"`
	Output string `json:"output"`
}

// Where the configuration in effect comes from.
const (
	FromFile     = "file"
	FromLastGood = "last good" // the kept copy of a file that was valid once
	FromBuiltIn  = "built-in"
)

// ConfigStatus says which configuration is in effect, and what is wrong with
// the file if it is not the file's.
type ConfigStatus struct {
	// File is what the daemon reads.
	File string `json:"file"`
	// Source is FromFile, FromLastGood or FromBuiltIn.
	Source string `json:"source"`
	// LoadedAt is when it came into effect.
	LoadedAt time.Time `json:"loadedAt"`
	// RefusedAt and Problems are about the newest version of the file when it
	// was refused.
	RefusedAt time.Time        `json:"refusedAt,omitzero"`
	Problems  []config.Problem `json:"problems,omitempty"`
	Warnings  []config.Problem `json:"warnings,omitempty"`
}

// Watchdog says whether systemd's watchdog watches, and is fed.
type Watchdog struct {
	// IntervalSeconds is systemd's WatchdogSec; 0 when it does not watch.
	IntervalSeconds float64 `json:"intervalSeconds"`
	// Stuck names what makes no progress; the watchdog is fed while it is empty.
	Stuck []string `json:"stuck,omitempty"`
}

// HubInWords says in a few words how the connection to the hub is doing.
func HubInWords(s cloud.State) string {
	switch s.Status {
	case cloud.NotConfigured:
		return "no hub configured"
	case cloud.Connected:
		return "connected to " + s.Hub
	case cloud.Connecting:
		return "connecting to " + s.Hub
	case cloud.Refused:
		return "refused by " + s.Hub + ": " + s.Error
	case cloud.Waiting:
		return "not connected to " + s.Hub + ": " + s.Error
	}
	return "connection to the hub " + string(s.Status)
}

// Configuration is what is configured.
type Configuration struct {
	File   string `json:"file"`
	Source string `json:"source"`
	// Values in effect, with their origins; secrets are hidden.
	Values []config.Value `json:"values"`
}
