package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"tuxwatch/firmware/clock"
	"tuxwatch/firmware/control"
	"tuxwatch/firmware/edge"
	"tuxwatch/firmware/version"
)

// serveControl answers on the control socket, which is there when it returns:
// who hears that the daemon is ready may ask it. A daemon that cannot make the
// socket works all the same.
func (d *daemon) serveControl() (stop func()) {
	l, err := control.Listen(d.socket())
	if err != nil {
		d.log.Error("tuxwatch status will not find the daemon", "error", err)
		return func() {}
	}
	return background(func(ctx context.Context) {
		if err := control.Serve(ctx, l, answers{d}, d.log); err != nil {
			d.log.Error("tuxwatch status will not find the daemon any more", "error", err)
		}
	})
}

// socket is in systemd's runtime directory, or else with the state.
func (d *daemon) socket() string {
	dir, _, _ := strings.Cut(os.Getenv("RUNTIME_DIRECTORY"), ":")
	if dir == "" {
		dir = d.state
	}
	return filepath.Join(dir, control.SocketName)
}

// answers is what the control socket tells.
type answers struct{ *daemon }

// Status tells how the daemon is doing.
func (a answers) Status() control.Status {
	d := a.daemon
	d.mu.Lock()
	s := control.Status{
		Version:  version.String(),
		PID:      os.Getpid(),
		Device:   d.config.Device.Name,
		Started:  clock.Then(d.started, time.Now()),
		Config:   d.status,
		Disabled: d.config.Disabled,
	}
	d.mu.Unlock()
	s.Summary = d.summary()
	s.Edge = d.runtime.Status()
	s.Outbox = d.store.stats()
	s.LastAlert = d.store.lastAlert.Load()
	s.Hub = d.hub.state()
	s.Watchdog = control.Watchdog{IntervalSeconds: d.watchdog.interval.Seconds(), Stuck: s.Edge.Stuck}
	return s
}

// Configuration tells what is in effect.
func (a answers) Configuration() control.Configuration {
	d := a.daemon
	d.mu.Lock()
	cfg, status := d.config, d.status
	d.mu.Unlock()
	inEffect := map[string]any{}
	for _, m := range d.runtime.Status().Modules {
		if m.Desired != nil {
			inEffect[m.ID] = m.Desired
		}
	}
	twin, _ := d.runtime.Desired()
	return control.Configuration{File: status.File, Source: status.Source, Values: cfg.Effective(twin, inEffect)}
}

// Frame asks a camera's module for its newest picture.
func (a answers) Frame(ctx context.Context, camera string, request json.RawMessage) (int, json.RawMessage) {
	return a.runtime.Invoke(ctx, camera+".snapshot", request)
}

// summary is the daemon's state in one line of words, the worst first.
func (d *daemon) summary() string {
	var parts []string
	d.mu.Lock()
	if len(d.status.Problems) > 0 {
		parts = append(parts, fmt.Sprintf("the configuration file is invalid, using the %s one", d.status.Source))
	}
	d.mu.Unlock()
	running := 0
	for _, m := range d.runtime.Status().Modules {
		switch {
		case m.State == edge.Running && m.Healthy:
			running++
		case m.Cause != "":
			cause, _, _ := strings.Cut(m.Cause, "\n")
			parts = append(parts, m.ID+": "+cause)
		default:
			parts = append(parts, m.ID+": "+string(m.State))
		}
	}
	parts = append(parts, plural(running, "module")+" working", control.HubInWords(d.hub.state()))
	box := d.store.stats()
	if box.Fault != "" {
		parts = append(parts, "outbox: "+box.Fault)
	}
	return strings.Join(append(parts, plural(box.Depth, "message")+" waiting"), "; ")
}
