package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/google/renameio/v2"

	"tuxwatch/firmware/config"
	"tuxwatch/firmware/control"
)

// lastGoodName is the kept copy of the newest valid configuration file, in the
// state directory.
const lastGoodName = "last-good.yaml"

// debounce is how long the file's directory must be left alone before the file is
// read: editors write in several steps. In a directory that is never left alone
// it is read after mostDebounce.
const (
	debounce     = 200 * time.Millisecond
	mostDebounce = 2 * time.Second
)

// firstConfig finds a configuration to start with. An invalid file does not
// keep the device from starting: the last valid one is used, or where there was
// none, the built-in one.
func (d *daemon) firstConfig() error {
	cfg, err := d.load()
	source := control.FromFile
	switch {
	case err == nil:
		d.keep(cfg)
	case errors.Is(err, fs.ErrNotExist) && !d.configExplicit:
		d.log.Info("no configuration file; using the built-in configuration", "file", d.options.config)
		if cfg, err = config.Default(d.kinds); err != nil {
			return fmt.Errorf("the built-in configuration: %w", err)
		}
		source = control.FromBuiltIn
	default:
		invalid := err
		if cfg, err = config.Load(d.lastGood(), d.kinds); err == nil {
			source = control.FromLastGood
		} else {
			if !errors.Is(err, fs.ErrNotExist) {
				d.log.Error("the last good configuration cannot be used either", "error", err)
			}
			if cfg, err = config.Default(d.kinds); err != nil {
				return fmt.Errorf("the built-in configuration: %w", err)
			}
			source = control.FromBuiltIn
		}
		d.refuse(invalid, source)
	}
	d.adopt(cfg, source)
	return nil
}

func (d *daemon) lastGood() string { return filepath.Join(d.state, lastGoodName) }

// keep stores the file's text as the last good configuration.
func (d *daemon) keep(cfg *config.Config) {
	// 0600: the file may hold passwords.
	if err := renameio.WriteFile(d.lastGood(), cfg.Source, 0o600); err != nil {
		d.log.Warn("the configuration cannot be kept as the last good one", "error", err)
	}
}

// adopt makes cfg the configuration in effect, in the books.
func (d *daemon) adopt(cfg *config.Config, source string) {
	level := cfg.Log.Level
	if d.logLevel != "" {
		level = d.logLevel
	}
	if err := d.level.UnmarshalText([]byte(level)); err != nil {
		d.log.Error("setting the log level", "error", err) // it was validated
	}
	for _, w := range cfg.Warnings {
		d.log.Warn("configuration: " + w.String())
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.config = cfg
	d.status.File = d.options.config
	d.status.Source = source
	d.status.LoadedAt = time.Now()
	d.status.Warnings = cfg.Warnings
	if source == control.FromFile {
		d.status.RefusedAt, d.status.Problems = time.Time{}, nil
	}
}

// refuse notes and logs why the file is not used.
func (d *daemon) refuse(err error, instead string) {
	var problems []config.Problem
	var invalid *config.Error
	if errors.As(err, &invalid) {
		problems = invalid.Problems
	} else {
		problems = []config.Problem{{File: d.options.config, Message: err.Error()}}
	}
	d.mu.Lock()
	d.status.File = d.options.config
	d.status.RefusedAt, d.status.Problems = time.Now(), problems
	d.mu.Unlock()
	for _, p := range problems {
		d.log.Error("configuration: " + p.String())
	}
	d.log.Error("the configuration file is not used; correct it, it is read again by itself", "in effect", instead)
}

// watchConfig reads the file again when it changes, and on SIGHUP.
func (d *daemon) watchConfig(ctx context.Context) {
	w := newFileWatch(d.options.config)
	defer w.close()
	if w.err != nil {
		d.log.Warn("changes of the configuration file are not noticed; send SIGHUP after a change (systemctl reload tuxwatchd)", "error", w.err)
	}
	quiet := time.NewTimer(0) // the file may have changed since it was read
	defer quiet.Stop()
	var restless time.Time // since when events come; zero while none do
	event := func() {
		if restless.IsZero() {
			restless = time.Now()
		}
		if time.Since(restless) < mostDebounce {
			quiet.Reset(debounce)
		}
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.hangup:
			d.log.Info("reading the configuration again: SIGHUP")
			d.reload()
		case <-w.events():
			event()
		case err := <-w.errors():
			// Events were lost: look.
			d.log.Debug("watching the configuration file", "error", err)
			event()
		case <-quiet.C:
			restless = time.Time{}
			w.follow()
			if d.changed() {
				d.log.Info("reading the configuration again: the file changed")
				d.reload()
			}
		}
	}
}

// load reads the file and remembers what it held.
func (d *daemon) load() (*config.Config, error) {
	data, err := config.Read(d.options.config)
	d.seen = contents(data, err)
	if err != nil {
		return nil, err
	}
	return config.Parse(d.options.config, data, d.kinds)
}

// changed tells whether the file holds something else than when it was loaded.
func (d *daemon) changed() bool {
	return contents(config.Read(d.options.config)) != d.seen
}

// contents is a text to compare by; a file that cannot be read differs from an
// empty one.
func contents(data []byte, err error) string {
	if err != nil {
		return "error: " + err.Error()
	}
	return "text: " + string(data)
}

// reload reads the file and applies what changed. An invalid file changes
// nothing.
func (d *daemon) reload() {
	d.notify.reloading()
	defer func() { d.notify.ready(d.summary()) }()
	cfg, err := d.load()
	if err != nil {
		d.mu.Lock()
		source := d.status.Source
		d.mu.Unlock()
		d.refuse(err, source+" configuration, as before")
		return
	}
	d.keep(cfg)
	d.apply(cfg)
	d.log.Info("the configuration is in effect", "file", d.options.config)
}

// apply changes what differs and leaves the rest running.
func (d *daemon) apply(cfg *config.Config) {
	d.mu.Lock()
	before := d.config
	d.mu.Unlock()
	d.adopt(cfg, control.FromFile)
	if cfg.Outbox != before.Outbox {
		d.hub.disconnect()
		if err := d.store.resize(cfg.Outbox); err != nil {
			d.log.Error("the outbox keeps its bounds", "error", err)
		}
		d.hub.connect(cfg)
	} else if !reflect.DeepEqual(cfg.Hub, before.Hub) || cfg.Device != before.Device {
		d.hub.disconnect()
		d.hub.connect(cfg)
	}
	d.runtime.Reconfigure(cfg.Modules, cfg.Routes)
}

// fileWatch watches the directory of a file, because editors replace files
// instead of writing them, and if the file is a link, the directory of what it
// leads to.
type fileWatch struct {
	path    string
	watcher *fsnotify.Watcher
	err     error
}

func newFileWatch(path string) *fileWatch {
	w := &fileWatch{path: path}
	if w.watcher, w.err = fsnotify.NewWatcher(); w.err == nil {
		w.follow()
	}
	return w
}

// follow watches where the file is now, or where it will appear.
func (w *fileWatch) follow() {
	if w.watcher == nil {
		return
	}
	wanted := map[string]bool{existing(filepath.Dir(w.path)): true}
	if target, err := filepath.EvalSymlinks(w.path); err == nil {
		wanted[filepath.Dir(target)] = true
	}
	for _, dir := range w.watcher.WatchList() {
		if !wanted[dir] {
			_ = w.watcher.Remove(dir) // it may be gone
		}
	}
	var errs []error
	for dir := range wanted {
		// Adding again is harmless, and needed for a directory that was
		// replaced by another of the same name.
		errs = append(errs, w.watcher.Add(dir))
	}
	w.err = errors.Join(errs...)
}

// existing gives the directory, or where it is not there, the nearest above it
// that is.
func existing(dir string) string {
	for {
		if _, err := os.Stat(dir); err == nil || dir == filepath.Dir(dir) {
			return dir
		}
		dir = filepath.Dir(dir)
	}
}

func (w *fileWatch) events() <-chan fsnotify.Event {
	if w.watcher == nil {
		return nil
	}
	return w.watcher.Events
}

func (w *fileWatch) errors() <-chan error {
	if w.watcher == nil {
		return nil
	}
	return w.watcher.Errors
}

func (w *fileWatch) close() {
	if w.watcher != nil {
		w.watcher.Close()
	}
}
