// Package check goes through what a device needs to do its work, from the
// sensor's bus to the hub's certificate, and says for each what is wrong and
// what to do about it. It changes nothing on the device. Start with [Run].
//
// Where the daemon runs, its word counts for what it holds: sensors, cameras,
// ports, the connection to the hub. Where it does not, the modules are run for
// a moment, and the hub is greeted but not logged in to.
package check

import (
	"context"
	"log/slog"
	"net"
	"time"

	"golang.org/x/sys/unix"

	"tuxwatch/firmware/config"
	"tuxwatch/firmware/control"
	"tuxwatch/firmware/edge"
)

// Result is how a check ended.
type Result string

// The results, from good to bad.
const (
	OK   Result = "ok"
	Warn Result = "warn" // it works, but not as well or as long as it should
	Fail Result = "fail"
)

// Finding is what one check found.
type Finding struct {
	// Check is the check's name: configuration, daemon, sensor, camera, model,
	// listener, module, disk, image, clock, dns, hub, certificate,
	// watchdog.
	Check string `json:"check"`
	// Subject is what of that kind it is about, where there may be several: a
	// module's name, a file.
	Subject string `json:"subject,omitempty"`
	Result  Result `json:"result"`
	// Text is what was found, Remedy what to do about it.
	Text   string `json:"text"`
	Remedy string `json:"remedy,omitempty"`
}

// Options say what is checked.
type Options struct {
	// Config is the configuration in effect.
	Config *config.Config
	// ConfigSource is where Config is from, as control has it, and
	// ConfigProblems why the file is not it.
	ConfigSource   string
	ConfigProblems []config.Problem
	// Daemon is the running daemon's status; nil where none runs, and then
	// DaemonError may say why it cannot be asked.
	Daemon      *control.Status
	DaemonError error
	// State is the daemon's state directory.
	State string
	// System is the computer; the zero value is this one.
	System System
	Log    *slog.Logger
	// Patience bounds each check. 0 means ten seconds.
	Patience time.Duration
}

// System is what the checks look at beyond the configuration. Tests give their
// own.
type System struct {
	// Root goes before /dev, /proc, /run and /sys.
	Root string
	// Now is the clock. Nil means time.Now.
	Now func() time.Time
	// Synchronized says whether something keeps the clock right. Nil means to
	// ask the kernel.
	Synchronized func() (bool, error)
	// FileSystem is statfs(2), Device the number of the device that a path is
	// on. Nil means to ask the kernel.
	FileSystem func(path string) (unix.Statfs_t, error)
	Device     func(path string) (uint64, error)
	// Lookup resolves a name. Nil means the system's resolver.
	Lookup func(ctx context.Context, host string) ([]string, error)
}

// Run makes every check and calls found with each finding, in a fixed order. It
// returns early when ctx ends.
func Run(ctx context.Context, o Options, found func(Finding)) {
	if o.Patience == 0 {
		o.Patience = 10 * time.Second
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	o.System = o.System.withDefaults()
	c := &checker{Options: o, found: func(f Finding) {
		if ctx.Err() == nil {
			found(f)
		}
	}}
	for _, check := range []func(context.Context){
		c.configuration,
		c.daemon,
		c.modules,
		c.listeners,
		c.disk,
		c.image,
		c.clock,
		c.network, // dns, hub, certificate
		c.watchdog,
	} {
		if ctx.Err() != nil {
			return
		}
		check(ctx)
	}
}

func (s System) withDefaults() System {
	if s.Now == nil {
		s.Now = time.Now
	}
	if s.Synchronized == nil {
		s.Synchronized = synchronized
	}
	if s.FileSystem == nil {
		s.FileSystem = fileSystem
	}
	if s.Device == nil {
		s.Device = deviceOf
	}
	if s.Lookup == nil {
		s.Lookup = net.DefaultResolver.LookupHost
	}
	return s
}

// checker makes the checks.
type checker struct {
	Options
	found func(Finding)

	statuses []edge.ModuleStatus // of the daemon, or of the trial
}

func (c *checker) ok(check, subject, text string) {
	c.found(Finding{Check: check, Subject: subject, Result: OK, Text: text})
}

func (c *checker) warn(check, subject, text, remedy string) {
	c.found(Finding{Check: check, Subject: subject, Result: Warn, Text: text, Remedy: remedy})
}

func (c *checker) fail(check, subject, text, remedy string) {
	c.found(Finding{Check: check, Subject: subject, Result: Fail, Text: text, Remedy: remedy})
}

func (c *checker) path(p string) string { return c.System.Root + p }
