package config

import (
	"errors"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"tuxwatch/firmware/edge"
	"tuxwatch/firmware/edge/route"
)

// routeEntry is an entry of the section routes.
type routeEntry struct {
	edge.Route
	name, text string
}

// Keys of a route's long form, as in IoT Edge's deployment manifest.
const (
	keyRoute    = "route"
	keyPriority = "priority"
	keyTTL      = "timeToLiveSecs"
	keyEnabled  = "enabled"
)

var routeKeys = []string{keyRoute, keyPriority, keyTTL, keyEnabled}

// mergeRoutes lays the file's routes over the built-in ones. A built-in route
// may get a priority without its text being repeated.
func (b *builder) mergeRoutes(base, over *node) *node {
	m := newMapping(over.at)
	for _, name := range base.keys {
		m.set(name, base.fields[name])
	}
	for _, name := range over.keys {
		entry, old := over.fields[name], m.fields[name]
		switch {
		case entry.isNull():
			if old == nil {
				b.probs.add(entry.key, join("routes", name), "null takes a built-in route away, and there is none of this name%s", suggest(name, base.keys))
				continue
			}
			m.remove(name)
		case entry.mapping && entry.get(keyRoute) == nil && old != nil:
			long := newMapping(entry.at)
			long.key = entry.key
			long.set(keyRoute, old)
			m.set(name, merge(long, entry))
		default:
			m.set(name, entry)
		}
	}
	return m
}

func (b *builder) buildRoutes() {
	routes := b.tree.get("routes")
	if routes == nil {
		return
	}
	for _, name := range routes.keys {
		b.route(name, routes.fields[name])
	}
	for _, r := range b.routes {
		b.Routes = append(b.Routes, r.Route)
	}
}

func (b *builder) route(name string, entry *node) {
	path := join("routes", name)
	if name == "" {
		b.probs.add(entry.key, path, "a route needs a name")
		return
	}
	d := &decoder{tag: "yaml", probs: b.probs}
	r := routeEntry{name: name}
	r.Route = edge.Route{Name: name, Priority: edge.LowestPriority}
	text, enabled := entry, true
	switch {
	case entry.sequence:
		d.wrong(entry, path, "a route (FROM … INTO …), or a mapping with the keys "+strings.Join(routeKeys, ", "))
		return
	case entry.mapping:
		for _, key := range entry.keys {
			n, at := entry.fields[key], join(path, key)
			switch key {
			case keyRoute:
			case keyPriority:
				d.decode(n, reflect.ValueOf(&r.Priority).Elem(), at)
				if r.Priority < 0 || r.Priority > edge.LowestPriority {
					d.wrong(n, at, "from 0 (highest) to 9 (lowest)")
				}
			case keyTTL:
				d.decode(n, reflect.ValueOf(&r.TimeToLiveSecs).Elem(), at)
				if r.TimeToLiveSecs < 0 || r.TimeToLiveSecs > maxTTL {
					d.wrong(n, at, "a number of seconds from 0 (as long as the outbox keeps it) to "+strconv.Itoa(maxTTL))
				}
			case keyEnabled:
				d.decode(n, reflect.ValueOf(&enabled).Elem(), at)
			default:
				b.probs.add(n.key, at, "unknown key %q%s", clip(key), suggest(key, routeKeys))
			}
		}
		if text = entry.get(keyRoute); text == nil || text.isNull() {
			b.probs.add(entry.key, path, "the key route is missing: FROM … INTO …")
			return
		}
		path = join(path, keyRoute)
	}
	written, ok := text.value.(string)
	if !ok {
		d.wrong(text, path, "a route: FROM … INTO …")
		return
	}
	parsed, err := route.Parse(written)
	if err != nil {
		b.routeErrors(text, path, written, err)
		return
	}
	r.text = written
	r.Route.Route = parsed
	if b.checkEnds(text, path, written, parsed) && enabled {
		b.routes = append(b.routes, r)
	}
}

// maxTTL is ten years, in seconds.
const maxTTL = 10 * 365 * 24 * 3600

// routeErrors reports the mistakes in a route at their places in the file.
func (b *builder) routeErrors(text *node, path, written string, err error) {
	var list route.Errors
	if !errors.As(err, &list) {
		b.probs.add(text.at, path, "%v", err)
		return
	}
	for _, e := range list {
		b.probs.add(text.within(indexOfPlace(written, e.Line, e.Column)), path, "%s", e.Message)
	}
}

// indexOfPlace turns line and column, both from 1, into a count of characters.
func indexOfPlace(text string, line, column int) int {
	index := 0
	for ; line > 1; line-- {
		before, after, found := strings.Cut(text, "\n")
		if !found {
			break
		}
		index += utf8.RuneCountInString(before) + 1
		text = after
	}
	return index + column - 1
}

// checkEnds looks whether the modules, outputs and inputs that a route names
// exist. It reports what does not, and returns whether the route can run: one
// that leads from or to a module that is switched off cannot.
func (b *builder) checkEnds(text *node, path, written string, r *route.Route) bool {
	active := true
	check := func(id, port, what string, ports func(edge.Kind) []string, same func(a, b string) bool) {
		place := func(of string) position {
			if i := strings.Index(written, of); i >= 0 {
				return text.within(utf8.RuneCountInString(written[:i]))
			}
			return text.at
		}
		i := slices.IndexFunc(b.modules, func(m module) bool { return same(m.id, id) })
		if i < 0 {
			switch {
			case text.at.file == builtin, b.broken(id):
				// The file took the module away, and the built-in route with
				// it; or the module is reported already.
			default:
				b.probs.add(place("modules/"+id), path, "there is no module %q%s", clip(id), suggest(id, b.ids()))
			}
			active = false
			return
		}
		m := b.modules[i]
		known := ports(m.kind)
		if port != "" && !slices.ContainsFunc(known, func(k string) bool { return same(k, port) }) {
			if text.at.file == builtin {
				// The file gave the module another kind, for which the built-in
				// route was not made: as with settings, it goes with the old one.
				kind := b.tree.get("modules", m.id, "kind")
				b.warnings.add(kind.at, join(join("modules", m.id), "kind"), "a %s has no %s %q, so the built-in %s is left out; give the module a route of its own", m.kind.Name, what, port, path)
			} else if len(known) == 0 {
				b.probs.add(place(what+"s/"+port), path, "the module %q (%s) has no %ss", id, m.kind.Name, what)
			} else {
				b.probs.add(place(what+"s/"+port), path, "the module %q (%s) has no %s %q%s", id, m.kind.Name, what, clip(port), suggest(port, known))
			}
			active = false
			return
		}
		if !m.enabled {
			if text.at.file != builtin {
				b.warnings.add(place("modules/"+id), path, "the module %q is switched off, and this route with it", id)
			}
			active = false
		}
	}
	// Edge Hub compares the names in sources without regard to case.
	exactly := func(a, b string) bool { return a == b }
	if module, output := r.Source.Module, r.Source.Output; module != "" {
		check(module, output, "output", func(k edge.Kind) []string { return k.Outputs }, strings.EqualFold)
	}
	if !r.Endpoint.Upstream {
		check(r.Endpoint.Module, r.Endpoint.Input, "input", func(k edge.Kind) []string { return k.Inputs }, exactly)
	}
	return active
}

// broken tells whether the document has a module of this name that could not be
// read.
func (b *builder) broken(id string) bool { return b.tree.get("modules", id) != nil }

func (b *builder) ids() []string {
	list := make([]string, len(b.modules))
	for i, m := range b.modules {
		list[i] = m.id
	}
	return list
}
