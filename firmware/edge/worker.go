package edge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"runtime/debug"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"

	"tuxwatch/firmware/clock"
	"tuxwatch/firmware/message"
)

// handlerLimit is how long one call into a module may take before the module
// counts as stuck. A handler may rightly wait for a slow receiver or a slow
// card, so the limit is far above what either takes.
const handlerLimit = 2 * time.Minute

type (
	methodHandler  func(ctx context.Context, payload json.RawMessage) (status int, response any)
	desiredHandler func(ctx context.Context, properties any) error
)

// worker supervises one module: it starts it, restarts it after a failure and
// keeps what outlives a restart (its inputs, counters and properties).
type worker struct {
	rt  *Runtime
	id  string
	log *slog.Logger

	stop context.CancelFunc
	done chan struct{}

	mu       sync.Mutex
	inst     Instance
	inputs   map[string]*input
	run      *run // the Run under way; nil between two
	state    State
	since    time.Time
	settled  chan struct{} // closed when the module was ready or failed once
	isReady  bool
	cause    error
	restarts int64
	counters map[string]int64
	reported map[string]any
	desired  any // properties in effect
	refused  error
}

func newWorker(rt *Runtime, inst Instance) *worker {
	return &worker{
		rt:       rt,
		id:       inst.ID,
		log:      rt.log.With("module", inst.ID),
		inst:     inst,
		inputs:   make(map[string]*input),
		state:    Starting,
		since:    rt.now(),
		settled:  make(chan struct{}),
		counters: make(map[string]int64),
		reported: make(map[string]any),
	}
}

// start begins to supervise; the worker ends with ctx or by halt.
func (w *worker) start(ctx context.Context) {
	ctx, w.stop = context.WithCancel(ctx)
	w.done = make(chan struct{})
	go func() {
		defer close(w.done)
		w.supervise(ctx)
	}()
}

// halt ends the module and waits for it.
func (w *worker) halt() {
	w.stop()
	<-w.done
}

// supervise runs the module again and again until ctx ends.
func (w *worker) supervise(ctx context.Context) {
	pause := &backoff.ExponentialBackOff{
		InitialInterval:     w.rt.opts.RestartMin,
		MaxInterval:         w.rt.opts.RestartMax,
		Multiplier:          2,
		RandomizationFactor: 0.3,
	}
	for {
		started := time.Now()
		err := w.runOnce(ctx)
		if ctx.Err() != nil {
			w.setState(Stopped, nil)
			return
		}
		if time.Since(started) > w.rt.opts.RestartMax {
			pause.Reset()
		}
		wait := pause.NextBackOff()
		w.mu.Lock()
		w.restarts++
		w.mu.Unlock()
		w.setState(Restarting, err)
		w.log.Error("module failed; it will be started again", "error", err, "in", wait.Round(time.Millisecond))
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			w.setState(Stopped, nil)
			return
		}
	}
}

// runOnce makes the module and runs it until it ends.
func (w *worker) runOnce(ctx context.Context) error {
	runCtx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	r := &run{w: w, ctx: runCtx, cancel: cancel, methods: make(map[string]methodHandler), calls: make(map[*call]struct{})}
	w.mu.Lock()
	w.run = r
	w.isReady = false
	inst := w.inst
	w.mu.Unlock()
	w.setState(Starting, nil)

	err := contain(func() error {
		m, err := inst.Kind.New(inst.settings())
		if err != nil {
			return fmt.Errorf("setting up: %w", err)
		}
		return m.Run(runCtx, &Client{run: r})
	})
	// Calls that are still in the module end before the next Run begins.
	cancel(err)
	w.mu.Lock()
	w.run = nil
	w.mu.Unlock()
	w.closeInputs()
	r.inside.Wait()

	// A panic in a handler, and an error in a goroutine of the module, end the
	// Run through its context.
	if cause := context.Cause(runCtx); cause != nil && !errors.Is(cause, context.Canceled) {
		return cause
	}
	if err == nil {
		return errors.New("ended by itself")
	}
	return err
}

func (w *worker) setState(s State, cause error) {
	w.mu.Lock()
	w.state = s
	w.since = w.rt.now()
	w.cause = cause
	if s == Restarting {
		w.settle()
	}
	w.mu.Unlock()
	w.rt.reportedChanged()
}

// settle lets those go who wait for the module's first result. The caller
// holds mu.
func (w *worker) settle() {
	select {
	case <-w.settled:
	default:
		close(w.settled)
	}
}

func (w *worker) ready(r *run) {
	w.mu.Lock()
	changed, kind := w.run == r && !w.isReady, w.inst.Kind.Name
	if changed {
		w.isReady = true
		w.state = Running
		w.since = w.rt.now()
		w.settle()
	}
	w.mu.Unlock()
	if changed {
		w.log.Info("module is running", "kind", kind)
		w.rt.reportedChanged()
	}
}

func (w *worker) health(r *run, err error) {
	w.mu.Lock()
	was := w.cause
	current := w.run == r
	if current {
		w.cause = err
	}
	w.mu.Unlock()
	// Only now, so that who waits for the module does not see it run and well
	// for a moment.
	w.ready(r)
	if !current {
		return
	}
	switch {
	case err == nil && was != nil:
		w.log.Info("module is healthy again", "after", was)
	case err != nil && (was == nil || was.Error() != err.Error()):
		w.log.Warn("module is not healthy", "cause", err)
	default:
		return
	}
	w.rt.reportedChanged()
}

// input returns the named input, which exists from the first time anyone
// speaks of it.
func (w *worker) input(name string) *input {
	w.mu.Lock()
	defer w.mu.Unlock()
	in := w.inputs[name]
	if in == nil {
		in = &input{}
		w.inputs[name] = in
	}
	return in
}

// closeInputs makes messages wait until the next Run takes them.
func (w *worker) closeInputs() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, in := range w.inputs {
		in.setHandler(nil)
	}
}

// remove turns away everyone who sends to the module.
func (w *worker) remove() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, in := range w.inputs {
		in.remove()
	}
}

func (w *worker) status() ModuleStatus {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := ModuleStatus{
		ID: w.id, Kind: w.inst.Kind.Name, State: w.state, Since: clock.Then(w.since, w.rt.now()),
		Healthy:  w.cause == nil && w.state != Restarting,
		Restarts: w.restarts,
		Counters: counted(w.counters),
		Desired:  w.desired,
		Reported: maps.Clone(w.reported),
	}
	if w.cause != nil {
		s.Cause = w.cause.Error()
	}
	if w.refused != nil {
		s.DesiredError = w.refused.Error()
	}
	return s
}

// stuck says what in the module makes no progress; "" if all does.
func (w *worker) stuck(now time.Time) string {
	w.mu.Lock()
	r := w.run
	w.mu.Unlock()
	if r == nil {
		return ""
	}
	w.mu.Lock()
	late := !r.aliveUntil.IsZero() && now.After(r.aliveUntil)
	w.mu.Unlock()
	if late {
		return w.id + ": its loop"
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for c := range r.calls {
		if now.Sub(c.began) > handlerLimit {
			return w.id + ": " + c.what
		}
	}
	return ""
}

// run is one Run of a module.
type run struct {
	w          *worker
	ctx        context.Context
	cancel     context.CancelCauseFunc
	inside     sync.WaitGroup // calls into the module from outside its Run
	aliveUntil time.Time      // guarded by w.mu

	mu      sync.Mutex
	methods map[string]methodHandler
	desired desiredHandler
	calls   map[*call]struct{}
}

// call is one call into the module, for finding those that hang.
type call struct {
	what  string
	began time.Time
}

var errNotRunning = errors.New("the module is not running at the moment")

// enter calls f, which is code of the module, on the caller's goroutine: a
// panic ends the module's Run and not the caller, and f's context ends with
// the Run as well as with ctx.
func (r *run) enter(ctx context.Context, what string, f func(ctx context.Context) error) error {
	r.w.mu.Lock()
	if r.w.run != r {
		r.w.mu.Unlock()
		return errNotRunning
	}
	r.inside.Add(1)
	r.w.mu.Unlock()
	defer r.inside.Done()

	c := &call{what: what, began: r.w.rt.now()}
	r.mu.Lock()
	r.calls[c] = struct{}{}
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		delete(r.calls, c)
		r.mu.Unlock()
	}()

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := context.AfterFunc(r.ctx, func() { cancel(errNotRunning) })
	defer stop()

	err := contain(func() error { return f(ctx) })
	var p *panicError
	if errors.As(err, &p) && p.fresh() {
		r.w.closeInputs() // nothing more for a module that broke off half-way
		r.cancel(fmt.Errorf("%s: %w", what, p))
	}
	return err
}

func (r *run) setInput(name string, h inputHandler) {
	in := r.w.input(name)
	r.w.mu.Lock()
	defer r.w.mu.Unlock()
	if r.w.run != r {
		return
	}
	in.setHandler(func(ctx context.Context, m message.Message) error {
		return r.enter(ctx, "input "+name, func(ctx context.Context) error { return h(ctx, m) })
	})
}

func (r *run) setMethod(name string, h methodHandler) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.methods[name] = h
}

func (r *run) setDesired(h desiredHandler) {
	r.mu.Lock()
	r.desired = h
	r.mu.Unlock()
	r.w.rt.twin.attach(r)
}

// invoke calls a direct method of the module. found is false if it has none of
// that name.
func (r *run) invoke(ctx context.Context, method string, payload json.RawMessage) (status int, response json.RawMessage, found bool) {
	r.mu.Lock()
	h := r.methods[method]
	r.mu.Unlock()
	if h == nil {
		return 0, nil, false
	}
	var answer any
	err := r.enter(ctx, "method "+method, func(ctx context.Context) error {
		status, answer = h(ctx, payload)
		return nil
	})
	if err != nil {
		status, response = failure(http.StatusInternalServerError, "the method %s of %s failed: %v", method, r.w.id, err)
		return status, response, true
	}
	response, err = json.Marshal(answer)
	if err != nil {
		status, response = failure(http.StatusInternalServerError, "the answer of the method %s of %s is not JSON: %v", method, r.w.id, err)
	}
	return status, response, true
}

// panicError is a panic that was contained.
type panicError struct {
	value  any
	stack  []byte
	raised bool
}

func (p *panicError) Error() string { return fmt.Sprintf("panic: %v\n%s", p.value, p.stack) }

// fresh reports whether the panic has not been blamed on a module yet: a panic
// in a receiver comes back to the sender as an ordinary error.
func (p *panicError) fresh() bool {
	first := !p.raised
	p.raised = true
	return first
}

// contain turns a panic of f into an error.
func contain(f func() error) (err error) {
	defer func() {
		if value := recover(); value != nil {
			err = &panicError{value: value, stack: debug.Stack()}
		}
	}()
	return f()
}
