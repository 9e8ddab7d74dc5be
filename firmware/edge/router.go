package edge

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"tuxwatch/firmware/edge/route"
	"tuxwatch/firmware/message"
)

// errExpired is what a delivery ends with whose message waited longer than its
// route's time to live. The message counts as dealt with.
var errExpired = errors.New("the message waited longer than its route's time to live")

// routeEntry is a route at work, with its counters.
type routeEntry struct {
	Route
	matched, delivered, failed, expired atomic.Int64
}

func (e *routeEntry) status() RouteStatus {
	return RouteStatus{
		Name: e.Name, Route: e.Text, Priority: e.Priority, TimeToLiveSecs: e.TimeToLiveSecs,
		Matched: e.matched.Load(), Delivered: e.delivered.Load(), Failed: e.failed.Load(), Expired: e.expired.Load(),
	}
}

// setRoutes makes routes the ones in effect. A route that stays as it was
// keeps its counters.
func (rt *Runtime) setRoutes(routes []Route) {
	before := make(map[string]*routeEntry)
	if old := rt.routes.Load(); old != nil {
		for _, e := range *old {
			before[e.Name] = e
		}
	}
	entries := make([]*routeEntry, 0, len(routes))
	for _, r := range routes {
		e := &routeEntry{Route: r}
		if old := before[r.Name]; old != nil && old.Text == r.Text && old.Priority == r.Priority && old.TimeToLiveSecs == r.TimeToLiveSecs {
			e = old
		}
		entries = append(entries, e)
	}
	slices.SortStableFunc(entries, func(a, b *routeEntry) int {
		if a.Priority != b.Priority {
			return a.Priority - b.Priority
		}
		return strings.Compare(a.Name, b.Name)
	})
	rt.routes.Store(&entries)
}

// send carries a message of a module to every endpoint that the routes choose.
// This is the whole way of a message through the device.
func (rt *Runtime) send(ctx context.Context, m message.Message) error {
	return rt.carry(ctx, route.Telemetry, m)
}

// notify carries a change of the twin to the routes that ask for such changes
// (source /twinChangeNotifications).
func (rt *Runtime) notify(ctx context.Context, m message.Message) error {
	asked := slices.ContainsFunc(*rt.routes.Load(), func(e *routeEntry) bool { return e.Source.Matches(route.TwinChange, "", "") })
	if !asked {
		return nil
	}
	return rt.carry(ctx, route.TwinChange, m)
}

func (rt *Runtime) carry(ctx context.Context, kind route.MessageKind, m message.Message) error {
	if m.ID == "" {
		m.ID = uuid.NewString()
	}
	if m.Created.IsZero() {
		m.Created = rt.now()
	}
	rt.messages.Add(1)

	var errs []error
	wanted := false
	in := conditionInput(m) // a body is parsed once, however many conditions look into it
	for _, e := range *rt.routes.Load() {
		if !e.Matches(kind, m.Source.Module, m.Source.Output, in) {
			continue
		}
		wanted = true
		e.matched.Add(1)
		switch err := rt.deliver(ctx, e, m); {
		case err == nil:
			e.delivered.Add(1)
		case errors.Is(err, errExpired):
			e.expired.Add(1)
			rt.log.Warn("message dropped", "route", e.Name, "message", m.ID, "reason", err)
		default:
			e.failed.Add(1)
			errs = append(errs, fmt.Errorf("route %s to %s: %w", e.Name, e.Endpoint, err))
		}
	}
	if !wanted {
		rt.unrouted.Add(1)
	}
	return errors.Join(errs...)
}

// deliver hands m to the endpoint of one route.
func (rt *Runtime) deliver(ctx context.Context, e *routeEntry, m message.Message) error {
	ttl := time.Duration(e.TimeToLiveSecs) * time.Second
	if e.Endpoint.Upstream {
		return rt.opts.Upstream.Put(ctx, m, e.Priority, ttl)
	}
	return rt.handOver(ctx, place{e.Endpoint.Module, e.Endpoint.Input}, m, e.Priority, ttl)
}

// handOver gives m to a module's input.
func (rt *Runtime) handOver(ctx context.Context, at place, m message.Message, priority int, ttl time.Duration) error {
	w := rt.worker(at.module)
	if w == nil {
		return fmt.Errorf("there is no module %s", at.module)
	}
	ctx, err := enterPlace(ctx, at)
	if err != nil {
		return err
	}

	in := w.input(at.input)
	handle, err := rt.turn(ctx, in, priority, ttl)
	if err != nil {
		return err
	}
	defer in.release()
	return handle(ctx, m.Clone())
}

// turn waits until the input is free, at most for the time to live or the
// delivery timeout.
func (rt *Runtime) turn(ctx context.Context, in *input, priority int, ttl time.Duration) (inputHandler, error) {
	limit, cause := rt.opts.DeliveryTimeout, fmt.Errorf("the input was not free for %v", rt.opts.DeliveryTimeout)
	if ttl > 0 && ttl < limit {
		limit, cause = ttl, errExpired
	}
	ctx, cancel := context.WithTimeoutCause(ctx, limit, cause)
	defer cancel()
	return in.acquire(ctx, priority)
}

// place is an input that a message is in at the moment.
type place struct{ module, input string }

type placesKey struct{}

// enterPlace notes in the context that its message is now in at. A message
// that comes back to an input which waits for it would wait for ever: routes
// that lead in a circle are refused here.
func enterPlace(ctx context.Context, at place) (context.Context, error) {
	passed, _ := ctx.Value(placesKey{}).([]place)
	if slices.Contains(passed, at) {
		var way strings.Builder
		for _, p := range append(slices.Clone(passed), at) {
			fmt.Fprintf(&way, "%s/%s → ", p.module, p.input)
		}
		return nil, fmt.Errorf("the routes lead in a circle (%s): change one of them", strings.TrimSuffix(way.String(), " → "))
	}
	return context.WithValue(ctx, placesKey{}, append(slices.Clone(passed), at)), nil
}

// conditionInput shows m to the conditions of routes, under Edge Hub's names.
// What the message does not have is left out, and so undefined there.
func conditionInput(m message.Message) *route.Input {
	in := &route.Input{Body: m.Body, Properties: make(map[string]*string, len(m.Properties)), System: make(map[string]*string)}
	for name, value := range m.Properties {
		in.Properties[name] = &value
	}
	for name, value := range map[string]string{
		"messageId":          m.ID,
		"contentType":        m.ContentType,
		"contentEncoding":    m.ContentEncoding,
		"connectionModuleId": m.Source.Module,
		"outputName":         m.Source.Output,
	} {
		if value != "" {
			in.System[name] = &value
		}
	}
	return in
}
