package edge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"tuxwatch/firmware/message"
)

// Upstream is where the endpoint $upstream leads: the outbox.
type Upstream interface {
	// Put returns nil when m is on stable storage. ttl 0 means no limit but the
	// store's own.
	Put(ctx context.Context, m message.Message, priority int, ttl time.Duration) error
}

// Options say what a Runtime runs.
type Options struct {
	Modules  []Instance
	Routes   []Route
	Upstream Upstream
	// TwinFile keeps the twin's desired properties across restarts. Empty
	// keeps them in memory alone.
	TwinFile string
	Log      *slog.Logger
	// RestartMin and RestartMax bound the pause before a failed module is
	// started again. 0 means one second and one minute.
	RestartMin, RestartMax time.Duration
	// DeliveryTimeout bounds how long a message waits for a module's input to
	// be free. 0 means 30 seconds.
	DeliveryTimeout time.Duration
	// Now is the clock. Nil means time.Now.
	Now func() time.Time
}

// Runtime runs modules and carries messages between them. Make one with New.
type Runtime struct {
	opts Options
	log  *slog.Logger
	now  func() time.Time
	twin *twin

	routes   atomic.Pointer[[]*routeEntry]
	messages atomic.Int64
	unrouted atomic.Int64
	changed  chan struct{}

	reconfigure sync.Mutex // one Reconfigure, or start, at a time
	mu          sync.Mutex
	workers     map[string]*worker
	running     context.Context // nil before Run
}

// New returns a Runtime. It reads the twin's file; a damaged one is set aside
// and reported in the log.
func New(opts Options) *Runtime {
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	if opts.RestartMin == 0 {
		opts.RestartMin = time.Second
	}
	if opts.RestartMax == 0 {
		opts.RestartMax = time.Minute
	}
	if opts.DeliveryTimeout == 0 {
		opts.DeliveryTimeout = 30 * time.Second
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	rt := &Runtime{
		opts:    opts,
		log:     opts.Log,
		now:     opts.Now,
		changed: make(chan struct{}, 1),
		workers: make(map[string]*worker),
	}
	rt.twin = loadTwin(rt, opts.TwinFile)
	rt.setRoutes(opts.Routes)
	for _, inst := range opts.Modules {
		rt.workers[inst.ID] = newWorker(rt, inst)
	}
	return rt
}

// Run starts the modules and returns when ctx has ended and all of them with
// it.
func (rt *Runtime) Run(ctx context.Context) error {
	rt.reconfigure.Lock()
	rt.mu.Lock()
	if rt.running != nil {
		rt.mu.Unlock()
		rt.reconfigure.Unlock()
		return errors.New("the runtime is running already")
	}
	rt.running = ctx
	for _, w := range rt.workers {
		w.start(ctx)
	}
	rt.mu.Unlock()
	rt.reconfigure.Unlock()

	<-ctx.Done()
	rt.reconfigure.Lock() // nothing is started any more
	defer rt.reconfigure.Unlock()
	for _, w := range rt.list() {
		w.halt()
	}
	return nil
}

// Settled waits until every module was ready or failed once: from then on the
// device does what it can do.
func (rt *Runtime) Settled(ctx context.Context) error {
	for _, w := range rt.list() {
		select {
		case <-w.settled:
		case <-ctx.Done():
			return fmt.Errorf("waiting for the module %s: %w", w.id, context.Cause(ctx))
		}
	}
	return nil
}

// Reconfigure makes modules and routes the configuration in effect. A module
// whose kind or settings changed is started afresh; one of which only desired
// properties changed is told of them; the others go on undisturbed, and so do
// messages on their way.
func (rt *Runtime) Reconfigure(modules []Instance, routes []Route) {
	rt.reconfigure.Lock()
	defer rt.reconfigure.Unlock()

	wanted := make(map[string]Instance, len(modules))
	for _, inst := range modules {
		wanted[inst.ID] = inst
	}
	for _, w := range rt.list() {
		inst, keep := wanted[w.id]
		delete(wanted, w.id)
		switch {
		case !keep:
			rt.mu.Lock()
			delete(rt.workers, w.id)
			rt.mu.Unlock()
			w.remove()
			rt.restart(w, nil)
			rt.log.Info("module removed", "module", w.id)
		case !sameModule(w.instance(), inst):
			rt.restart(w, &inst)
		default:
			rt.twin.reconfigured(w, inst)
		}
	}
	for _, inst := range modules {
		if _, fresh := wanted[inst.ID]; !fresh {
			continue
		}
		w := newWorker(rt, inst)
		rt.mu.Lock()
		rt.workers[inst.ID] = w
		ctx := rt.running
		rt.mu.Unlock()
		if ctx != nil && ctx.Err() == nil {
			w.start(ctx)
		}
	}
	rt.setRoutes(routes)
	rt.reportedChanged()
}

// restart ends w's module and, if inst is not nil, starts it as inst says.
func (rt *Runtime) restart(w *worker, inst *Instance) {
	rt.mu.Lock()
	ctx := rt.running
	rt.mu.Unlock()
	if ctx != nil {
		w.halt()
	}
	if inst == nil {
		return
	}
	w.mu.Lock()
	w.inst = *inst
	w.mu.Unlock()
	if ctx != nil && ctx.Err() == nil {
		w.start(ctx)
	}
}

func sameModule(a, b Instance) bool {
	return a.Kind.Name == b.Kind.Name && reflect.DeepEqual(a.settings(), b.settings())
}

func (w *worker) instance() Instance {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.inst
}

// worker returns the module of that name, or nil.
func (rt *Runtime) worker(id string) *worker {
	rt.mu.Lock()
	defer rt.mu.Unlock()
	return rt.workers[id]
}

// list returns the workers, sorted by name.
func (rt *Runtime) list() []*worker {
	rt.mu.Lock()
	defer rt.mu.Unlock()
	all := make([]*worker, 0, len(rt.workers))
	for _, w := range rt.workers {
		all = append(all, w)
	}
	slices.SortFunc(all, func(a, b *worker) int { return strings.Compare(a.id, b.id) })
	return all
}

// Stuck names what makes no progress: loops that broke their promise to call
// Alive, and handlers that have not returned for two minutes. The service
// manager's watchdog is to be fed only while it is empty.
func (rt *Runtime) Stuck() []string {
	var names []string
	for _, w := range rt.list() {
		if what := w.stuck(rt.now()); what != "" {
			names = append(names, what)
		}
	}
	return names
}

// Status returns what the runtime knows of itself.
func (rt *Runtime) Status() Status {
	s := Status{
		Messages:       rt.messages.Load(),
		Unrouted:       rt.unrouted.Load(),
		DesiredVersion: rt.twin.version(),
		Stuck:          rt.Stuck(),
	}
	for _, w := range rt.list() {
		s.Modules = append(s.Modules, w.status())
	}
	for _, e := range *rt.routes.Load() {
		s.Routes = append(s.Routes, e.status())
	}
	return s
}

// Invoke answers a direct method from the hub. A method is named
// "module.method", or by itself where only one module has it. "ping", "status"
// and "send" are the device's own; send delivers a message to a module's input:
// {"module":"tempSensor","input":"control","body":[{"command":0}]}. The status
// is one of HTTP's.
func (rt *Runtime) Invoke(ctx context.Context, method string, payload json.RawMessage) (status int, response json.RawMessage) {
	switch method {
	case "ping":
		return answer(map[string]any{"time": message.Time{Time: rt.now()}})
	case "status":
		return answer(rt.Status())
	case "send":
		return rt.sendInput(ctx, payload)
	}
	module, name, qualified := strings.Cut(method, ".")
	if !qualified {
		module, name = "", method
	}
	var owners []*run
	var known []string
	for _, w := range rt.list() {
		w.mu.Lock()
		r := w.run
		w.mu.Unlock()
		if r == nil {
			continue
		}
		r.mu.Lock()
		for m := range r.methods {
			known = append(known, w.id+"."+m)
			if m == name && (module == "" || module == w.id) {
				owners = append(owners, r)
			}
		}
		r.mu.Unlock()
	}
	switch len(owners) {
	case 1:
		if status, response, found := owners[0].invoke(ctx, name, payload); found {
			return status, response
		}
	case 0:
	default:
		return failure(http.StatusConflict, "several modules have a method %s; say which: MODULE.%s", name, name)
	}
	slices.Sort(known)
	return failure(http.StatusNotFound, "no module that runs has a method %s; there are: ping, status, send, %s", method, strings.Join(known, ", "))
}

// sendInput is the direct method "send".
func (rt *Runtime) sendInput(ctx context.Context, payload json.RawMessage) (int, json.RawMessage) {
	var order struct {
		Module     string            `json:"module"`
		Input      string            `json:"input"`
		Body       json.RawMessage   `json:"body"`
		Properties map[string]string `json:"properties"`
	}
	if err := json.Unmarshal(payload, &order); err != nil || order.Module == "" || order.Input == "" || order.Body == nil {
		return failure(http.StatusBadRequest, `send takes {"module":…,"input":…,"body":…} with a body in JSON`)
	}
	w := rt.worker(order.Module)
	if w == nil || !slices.Contains(w.instance().Kind.Inputs, order.Input) {
		return failure(http.StatusNotFound, "there is no input %s of a module %s", order.Input, order.Module)
	}
	m := message.Message{
		ID: uuid.NewString(), Created: rt.now(), Properties: order.Properties,
		Body: order.Body, ContentType: message.ContentTypeJSON, ContentEncoding: message.EncodingUTF8,
	}
	if err := rt.handOver(ctx, place{order.Module, order.Input}, m, LowestPriority, 0); err != nil {
		return failure(http.StatusInternalServerError, "%s did not take the message: %v", order.Module, err)
	}
	return answer(map[string]string{"messageId": m.ID})
}

func answer(body any) (int, json.RawMessage) {
	response, err := json.Marshal(body)
	if err != nil {
		return failure(http.StatusInternalServerError, "the answer is not JSON: %v", err)
	}
	return http.StatusOK, response
}

func failure(status int, format string, args ...any) (int, json.RawMessage) {
	response, _ := json.Marshal(map[string]string{"message": fmt.Sprintf(format, args...)}) // strings always encode
	return status, response
}

// Reported returns the device's reported properties: an object with one member
// a module, which holds what the module reported, its health, and why its last
// desired properties were refused, if they were.
func (rt *Runtime) Reported() json.RawMessage {
	all := make(map[string]map[string]any)
	for _, w := range rt.list() {
		s := w.status()
		section := s.Reported
		section["health"] = "ok"
		if !s.Healthy {
			// The first line is the cause; a panic's stack stays on the device.
			section["health"], _, _ = strings.Cut(s.Cause, "\n")
		}
		section["desiredError"] = nil
		if s.DesiredError != "" {
			section["desiredError"] = s.DesiredError
		}
		all[w.id] = section
	}
	data, err := json.Marshal(all)
	if err != nil {
		rt.log.Error("reported properties are not JSON; nothing is reported", "error", err)
		return json.RawMessage("{}")
	}
	return data
}

// ReportedChanged receives after Reported has changed. Several changes may
// come as one.
func (rt *Runtime) ReportedChanged() <-chan struct{} { return rt.changed }

func (rt *Runtime) reportedChanged() {
	select {
	case rt.changed <- struct{}{}:
	default:
	}
}

// ApplyDesired takes the device's desired properties from the hub: an object
// with one member a module. full says that it is the whole document; otherwise
// it is a merge patch (RFC 7396). It returns after every module has taken or
// refused its part and the document is on stable storage. A part that is
// refused leaves the properties that were in effect; the error names it.
func (rt *Runtime) ApplyDesired(ctx context.Context, desired json.RawMessage, version int64, full bool) error {
	change, err := parseDesired(desired)
	if err != nil {
		return err
	}
	err = rt.twin.apply(ctx, change, version, full)
	rt.reportedChanged()
	notice := message.Message{Body: desired, ContentType: message.ContentTypeJSON, ContentEncoding: message.EncodingUTF8}
	return errors.Join(err, rt.notify(ctx, notice))
}

// Desired returns the device's desired properties as the hub last gave them.
func (rt *Runtime) Desired() (desired json.RawMessage, version int64) { return rt.twin.document() }
