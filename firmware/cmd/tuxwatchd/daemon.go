package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"tuxwatch/firmware/config"
	"tuxwatch/firmware/control"
	"tuxwatch/firmware/edge"
	"tuxwatch/firmware/modules"
	"tuxwatch/firmware/version"
)

// daemon is everything that runs, and how it hangs together:
//
//	modules ── runtime ── routes ──► store (outbox on disk) ──► hub (connection)
//	   ▲          ▲                                              │
//	   └── twin, methods ◄───────────────────────────────────────┘
type daemon struct {
	options
	log     *slog.Logger
	level   *slog.LevelVar
	started time.Time

	kinds    []edge.Kind
	runtime  *edge.Runtime
	store    *store
	hub      *hub
	notify   *notifier
	watchdog *watchdog

	hangup chan os.Signal // SIGHUP
	seen   string         // the file as it was last loaded; of the goroutine that reloads

	mu     sync.Mutex
	config *config.Config       // in effect
	status control.ConfigStatus // of it
}

const (
	// settleLimit is how long the start waits for modules that neither become
	// ready nor fail, before the daemon calls itself ready without them.
	settleLimit = 30 * time.Second
	// stopLimit is how long the end waits for what does not end. What is in the
	// outbox is on disk all the while.
	stopLimit = 1800 * time.Millisecond
)

// run wires everything up, runs it until ctx ends, and takes it down again.
func (d *daemon) run(ctx context.Context) error {
	d.started = time.Now()
	// From the very start: an unexpected SIGHUP would end the process.
	d.hangup = make(chan os.Signal, 1)
	signal.Notify(d.hangup, syscall.SIGHUP)
	defer signal.Stop(d.hangup)
	d.log.Info("tuxwatchd starts", "version", version.String(), "config", d.options.config, "state", d.state)
	unlock, err := lockState(d.state)
	if err != nil {
		return err
	}
	defer unlock()

	// Configuration: the file's, or else the last good one, or the built-in.
	recognition := newRecognition(d.log)
	defer recognition.Close()
	d.kinds = modules.Kinds(recognition)
	if err := d.firstConfig(); err != nil {
		return err
	}
	cfg := d.config

	// The way of a message: module → runtime → store → hub.
	if d.store, err = openStore(filepath.Join(d.state, "outbox"), cfg.Outbox, d.log); err != nil {
		return err
	}
	d.runtime = edge.New(edge.Options{
		Modules:  cfg.Modules,
		Routes:   cfg.Routes,
		Upstream: d.store,
		TwinFile: filepath.Join(d.state, "twin.json"),
		Log:      d.log,
	})
	stopModules := background(func(ctx context.Context) { d.runtime.Run(ctx) })
	d.hub = newHub(d.store, d.runtime, d.log)
	d.hub.connect(cfg)

	// Those who look at it from outside: systemd and the operator.
	d.notify = &notifier{log: d.log}
	d.watchdog = newWatchdog(d.runtime.Stuck, d.notify, d.log)
	stopControl := d.serveControl()
	d.settle(ctx, settleLimit)
	if ctx.Err() == nil {
		d.notify.ready(d.summary())
		d.log.Info("ready", "status", d.summary())
	}
	stopWatchdog := background(func(ctx context.Context) { d.watchdog.run(ctx, d.summary) })
	stopReload := background(d.watchConfig)

	<-ctx.Done()
	d.log.Info("tuxwatchd stops")
	d.notify.stopping()
	return stopAll(stopLimit, []step{
		{"the reading of the configuration", stopReload},
		{"the modules", stopModules},
		{"the connection to the hub", d.hub.disconnect},
		{"the control socket", stopControl},
		{"the watchdog", stopWatchdog},
		{"the outbox", d.store.close},
	})
}

// settle waits until every module works or has said why not. A missing sensor
// does not hold up the start, and neither does a module that hangs.
func (d *daemon) settle(ctx context.Context, limit time.Duration) {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("not ready after %v", limit))
	defer cancel()
	if err := d.runtime.Settled(ctx); err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		d.log.Error("starting without a module that hangs", "error", err)
	}
}

// background runs f in a goroutine; stop ends it and waits for it.
func background(f func(ctx context.Context)) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		f(ctx)
	}()
	return func() {
		cancel()
		<-done
	}
}

// step is something that stops, and its name for the log.
type step struct {
	what string
	stop func()
}

// stopAll stops one after the other, within the limit. What hangs is named in
// the error; the process ends all the same.
func stopAll(limit time.Duration, steps []step) error {
	var at atomic.Pointer[string]
	done := make(chan struct{})
	go func() {
		defer close(done)
		for _, s := range steps {
			at.Store(&s.what)
			s.stop()
		}
	}()
	select {
	case <-done:
		return nil
	case <-time.After(limit):
		return fmt.Errorf("%s did not stop within %v; ending without waiting (what is in the outbox is kept)", *at.Load(), limit)
	}
}

// lockState makes the state directory and keeps a second daemon out of it.
func lockState(dir string) (unlock func(), err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the state directory: %w; choose another with --state", err)
	}
	path := filepath.Join(dir, "lock")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the state directory: %w; choose another with --state", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		defer f.Close()
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("locking %s: %w", path, err)
		}
		by := "another tuxwatchd"
		owner := make([]byte, 20)
		if n, _ := f.Read(owner); n > 0 {
			by += " (process " + strings.TrimSpace(string(owner[:n])) + ")"
		}
		return nil, fmt.Errorf("%s runs with the state directory %s; end it first, or choose another with --state", by, dir)
	}
	// For that message alone: the lock is what counts, and a full disk must not
	// keep the daemon from starting.
	if f.Truncate(0) == nil {
		fmt.Fprintln(f, os.Getpid())
	}
	return func() { f.Close() }, nil
}
