// Package recognizer is the module that holds the model: it loads the model
// into the daemon's [vision.Service], which the other modules ask in-process,
// and answers pictures over HTTP as a container does that Azure Custom Vision
// exported.
//
// It has no inputs and outputs; pictures that are to become messages go through
// the modules camera and imagereceiver. Start with [Kind].
package recognizer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"strconv"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"

	"tuxwatch/firmware/edge"
	"tuxwatch/firmware/vision"
	"tuxwatch/firmware/vision/savedmodel"
)

// Settings are the module's settings in the configuration file.
type Settings struct {
	// Model is the folder of the model; empty for the one that came with
	// tuxwatch.
	Model string `yaml:"model"`
	// Runtime is what runs the model: litert, or savedmodel in a program that
	// was built with TensorFlow.
	Runtime string `yaml:"runtime"`
	// Threads that the model runs on; 0 for one each core, four at most.
	Threads int `yaml:"threads"`
	// Listen is the address of the HTTP interface; empty turns it off. Whoever
	// reaches it may use it: there is no password.
	Listen string `yaml:"listen"`
	// MaxPictureBytes is the largest picture file.
	MaxPictureBytes int `yaml:"max_picture_bytes"`
	// MaxPicturePixels is the largest width × height of a picture.
	MaxPicturePixels int `yaml:"max_picture_pixels"`
	// MaxWaiting is how many pictures may wait, from HTTP and other modules
	// together, before more are refused.
	MaxWaiting int `yaml:"max_waiting"`
}

// What can run a model.
const (
	Litert     = "litert"     // TensorFlow Lite files, with LiteRT
	SavedModel = "savedmodel" // TensorFlow SavedModels, with TensorFlow; on workstations
)

// DefaultListen is where the HTTP interface is unless configured otherwise: the
// port of the workshop's container, on this machine only.
const DefaultListen = "127.0.0.1:8085"

func defaults() *Settings {
	return &Settings{
		Runtime:          Litert,
		Listen:           DefaultListen,
		MaxPictureBytes:  vision.DefaultMaxBytes,
		MaxPicturePixels: vision.DefaultMaxPixels,
		MaxWaiting:       vision.DefaultMaxWaiting,
	}
}

// Validate checks what can be known before anything runs.
func (s *Settings) Validate() error {
	switch s.Runtime {
	case Litert:
	case SavedModel:
		if !savedmodel.Available {
			return fmt.Errorf("runtime: %s: %w", s.Runtime, savedmodel.ErrNotBuilt)
		}
		if s.Model == "" {
			return fmt.Errorf("runtime: %s needs the folder of a SavedModel in the setting model", s.Runtime)
		}
	default:
		return fmt.Errorf("runtime: %q is not known (%s, %s)", s.Runtime, Litert, SavedModel)
	}
	if s.Threads < 0 || s.Threads > 64 {
		return fmt.Errorf("threads: %d is not between 0 and 64", s.Threads)
	}
	if s.Listen != "" {
		_, port, err := net.SplitHostPort(s.Listen)
		if err != nil {
			return fmt.Errorf("listen: %q is not host:port, as in %s", s.Listen, DefaultListen)
		}
		if _, err := strconv.ParseUint(port, 10, 16); err != nil {
			return fmt.Errorf("listen: port %q is not a number between 0 and 65535", port)
		}
	}
	for name, value := range map[string]int{"max_picture_bytes": s.MaxPictureBytes, "max_picture_pixels": s.MaxPicturePixels} {
		if value < 1 {
			return fmt.Errorf("%s: %d is not more than 0", name, value)
		}
	}
	if s.MaxWaiting < 0 {
		return fmt.Errorf("max_waiting: %d is less than 0", s.MaxWaiting)
	}
	return nil
}

// Kind describes the module to the configuration. The service is the daemon's;
// it is empty before a module of this kind runs, and soon after the last one
// has ended.
func Kind(service *vision.Service) edge.Kind {
	return kind(service, pauses{look: 5 * time.Second, unload: 10 * time.Second})
}

// pauses are what tests make shorter.
type pauses struct {
	look   time.Duration // between looks whether the model's folder has changed
	unload time.Duration // from the module's end to that of its model
}

func kind(service *vision.Service, pauses pauses) edge.Kind {
	held := &holder{service: service, after: pauses.unload}
	return edge.Kind{
		Name:     "recognizer",
		Summary:  "holds the model that tells what a picture shows; HTTP on port 8085",
		Settings: func() any { return defaults() },
		Methods:  []string{"reload"},
		New: func(settings any) (edge.Module, error) {
			s, ok := settings.(*Settings)
			if !ok {
				return nil, fmt.Errorf("recognizer: settings are %T, not *recognizer.Settings", settings)
			}
			return &recognizer{settings: *s, service: service, held: held, look: pauses.look, health: map[part]error{}}, nil
		},
	}
}

// part is one of the two things that can be unwell.
type part string

const (
	thatModel    part = "model"
	thatListener part = "HTTP"
)

type recognizer struct {
	settings Settings
	service  *vision.Service
	held     *holder
	look     time.Duration
	client   *edge.Client

	mu     sync.Mutex
	health map[part]error
	loaded bool   // by this module, not the one before it
	seen   string // the folder's state when it was last loaded, or tried
}

func (r *recognizer) Run(ctx context.Context, c *edge.Client) error {
	r.client = c
	r.service.SetMaxWaiting(r.settings.MaxWaiting)
	r.held.take()
	defer r.held.release()
	c.HandleMethod("reload", func(ctx context.Context, _ json.RawMessage) (int, any) { return r.reload(ctx) })

	if err := r.load(ctx); err != nil {
		r.note(thatModel, err)
	} else {
		r.note(thatModel, nil)
	}
	c.Go(r.follow)
	c.Ready()
	if r.settings.Listen != "" {
		c.Go(r.listen)
	}
	<-ctx.Done()
	return nil
}

// note remembers how a part is and tells the runtime how the whole is.
func (r *recognizer) note(p part, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil {
		delete(r.health, p)
	} else {
		r.health[p] = fmt.Errorf("%s: %w", p, err)
	}
	if all := errors.Join(r.health[thatModel], r.health[thatListener]); all != nil {
		r.client.Unhealthy(all)
	} else {
		r.client.Healthy()
	}
}

// load loads the model's folder. When that fails, the model that is in use
// stays: the folder's own before a change, or that of the settings before.
func (r *recognizer) load(ctx context.Context) error {
	err := r.loadFolder(ctx)
	if err == nil {
		return nil
	}
	if before, there := r.service.Model(); there {
		return fmt.Errorf("%w; the model %s of %s stays in use", err, before.Name, before.Folder)
	}
	return err
}

func (r *recognizer) loadFolder(ctx context.Context) error {
	dir, err := vision.FindModel(r.settings.Model)
	if err != nil {
		return fmt.Errorf("%w in the recognizer's setting model", err)
	}
	threads := r.settings.Threads
	if threads == 0 {
		threads = min(runtime.NumCPU(), 4)
	}
	state := folderState(dir) // before: what changes while it loads is loaded again
	r.mu.Lock()
	r.seen = state
	r.mu.Unlock()
	options := vision.LoadOptions{
		Threads: threads,
		Limits:  vision.Limits{Bytes: r.settings.MaxPictureBytes, Pixels: r.settings.MaxPicturePixels},
	}
	if r.settings.Runtime == SavedModel {
		if options.Runtime, err = savedmodel.Load(); err != nil {
			return err
		}
	}
	if err := r.service.Load(ctx, dir, options); err != nil {
		return err
	}
	r.mu.Lock()
	r.loaded = true
	r.mu.Unlock()
	info, _ := r.service.Model()
	r.client.Log().Info("model loaded", "model", info.Name, "version", info.Version, "folder", info.Folder,
		"runtime", info.Runtime, "threads", info.Threads, "labels", len(info.Labels))
	r.client.Report(map[string]any{"model": info.Name, "modelVersion": info.Version})
	return nil
}

// retry calls do, with growing pauses, until it succeeds or ctx ends.
func (r *recognizer) retry(ctx context.Context, p part, do func() error) error {
	pauses := backoff.NewExponentialBackOff()
	pauses.InitialInterval = time.Second
	pauses.MaxInterval = 30 * time.Second
	last := ""
	for {
		err := do()
		if err == nil || ctx.Err() != nil {
			return nil
		}
		r.note(p, err)
		if err.Error() != last { // the same complaint once is enough
			r.client.Log().Warn("not working, trying again", "part", string(p), "error", err)
			last = err.Error()
		}
		select {
		case <-time.After(pauses.NextBackOff()):
		case <-ctx.Done():
			return nil
		}
	}
}

// reload is the direct method: it reads the model's folder again. When that
// fails, the model stays as it was.
func (r *recognizer) reload(ctx context.Context) (int, any) {
	if err := r.load(ctx); err != nil {
		return http.StatusInternalServerError, map[string]string{"error": err.Error()}
	}
	r.note(thatModel, nil)
	info, _ := r.service.Model()
	return http.StatusOK, map[string]string{"model": info.Name, "version": info.Version}
}

// listen serves HTTP until ctx ends.
func (r *recognizer) listen(ctx context.Context) error {
	var listener net.Listener
	err := r.retry(ctx, thatListener, func() (err error) {
		listener, err = (&net.ListenConfig{}).Listen(ctx, "tcp", r.settings.Listen)
		if err != nil {
			return fmt.Errorf("%w; change the recognizer's setting listen (now %s), or set it to \"\" to turn HTTP off", err, r.settings.Listen)
		}
		return nil
	})
	if err != nil || listener == nil {
		return err
	}
	r.note(thatListener, nil)
	address := listener.Addr().String()
	log := r.client.Log().With("address", address)
	log.Info("answers pictures over HTTP")
	if host, _, err := net.SplitHostPort(address); err == nil && !net.ParseIP(host).IsLoopback() {
		log.Warn("the HTTP interface can be reached from other machines and has no password")
	}
	r.client.Report(map[string]any{"address": address})
	defer r.client.Report(map[string]any{"address": nil})

	server := &http.Server{
		Handler:           newHandler(r.service, r.settings, r.client.Count, log),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      60 * time.Second,
		IdleTimeout:       60 * time.Second,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		BaseContext:       func(net.Listener) context.Context { return ctx },
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	select {
	case err := <-served:
		return fmt.Errorf("HTTP on %s: %w", address, err)
	case <-ctx.Done():
	}
	// Answers that are under way may end; nobody waits longer than a second.
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if err := server.Shutdown(closing); err != nil {
		server.Close()
	}
	<-served
	return nil
}
