package config

import (
	"encoding"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Value is one value in effect and where it comes from.
type Value struct {
	// Path is its place in the document ("modules.tempSensor.desired.SendInterval").
	Path string `json:"path"`
	// Value as the file would have it.
	Value any `json:"value"`
	// Origin is "default", "FILE:LINE", "credential" (systemd's) or "twin".
	Origin string `json:"origin"`
}

// The origins that are not places in a file.
const (
	OriginDefault    = "default"
	OriginCredential = "credential"
	OriginTwin       = "twin"
)

// hidden stands in for a secret.
const hidden = "(hidden)"

// Effective lists every value of c with its origin, in the order of the
// document. Secrets are hidden.
//
// twin holds what the device's twin sets, an object with one member a module,
// as [edge.Runtime.Desired] returns it, and inEffect each module's desired
// properties as its status shows them; both are nil where no daemon runs.
func (c *Config) Effective(twin json.RawMessage, inEffect map[string]any) []Value {
	var twins map[string]json.RawMessage
	// A twin that is not an object sets nothing.
	_ = json.Unmarshal(twin, &twins)

	l := &lister{root: c.tree, credentials: c.credentials}
	l.walk([]string{"device"}, reflect.ValueOf(c.Device), "yaml")
	for _, m := range c.modules {
		at := []string{"modules", m.id}
		l.add(append(at, "kind"), m.kind.Name)
		l.add(append(at, "enabled"), m.enabled)
		if m.settings != nil {
			l.walk(append(at, "settings"), reflect.ValueOf(m.settings), "yaml")
		}
		if m.properties != nil {
			l.desired(append(at, "desired"), m.properties, members(twins[m.id]), members(inEffect[m.id]))
		}
	}
	for _, r := range c.routes {
		l.add([]string{"routes", r.name, keyRoute}, r.text)
		l.add([]string{"routes", r.name, keyPriority}, r.Priority)
		l.add([]string{"routes", r.name, keyTTL}, r.TimeToLiveSecs)
	}
	l.walk([]string{"outbox"}, reflect.ValueOf(c.Outbox), "yaml")
	l.walk([]string{"hub"}, reflect.ValueOf(c.Hub), "yaml")
	l.walk([]string{"log"}, reflect.ValueOf(c.Log), "yaml")
	return l.values
}

// members gives the members of a value that is an object in JSON, else none.
func members(v any) map[string]any {
	data, err := json.Marshal(v)
	if err != nil {
		return nil
	}
	var m map[string]any
	if json.Unmarshal(data, &m) != nil {
		return nil
	}
	return m
}

// desired lists a module's desired properties: those of the file and the
// defaults, or where the module says that others are in effect, those.
func (l *lister) desired(keys []string, configured any, twin, inEffect map[string]any) {
	before := len(l.values)
	l.walk(keys, reflect.ValueOf(configured), "json")
	was := members(configured)
	for _, name := range slices.Sorted(maps.Keys(inEffect)) {
		now := inEffect[name]
		_, set := twin[name]
		if reflect.DeepEqual(now, was[name]) && !(set && reflect.DeepEqual(now, twin[name])) {
			continue
		}
		// A value that differs from the file's is the twin's, if not of its
		// newest version then of one that the module accepted before.
		path := l.path(append(slices.Clone(keys), name))
		at := slices.IndexFunc(l.values[before:], func(v Value) bool { return v.Path == path || strings.HasPrefix(v.Path, path+".") })
		l.values = slices.DeleteFunc(l.values, func(v Value) bool { return v.Path == path || strings.HasPrefix(v.Path, path+".") })
		value := Value{Path: path, Value: now, Origin: OriginTwin}
		if at < 0 {
			l.values = append(l.values, value)
		} else {
			l.values = slices.Insert(l.values, before+at, value)
		}
	}
}

// lister walks values as the decoder does, the other way round.
type lister struct {
	root        *node
	credentials []string
	values      []Value
}

// walk lists v, which stands at the path of keys.
func (l *lister) walk(keys []string, v reflect.Value, tag string) {
	for v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface {
		if v.IsNil() {
			return
		}
		v = v.Elem()
	}
	if text, ok := asText(v); ok {
		l.add(keys, text)
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for _, f := range fieldsOf(v.Type(), tag) {
			inner, err := v.FieldByIndexErr(f.index)
			if err != nil {
				continue
			}
			at := append(slices.Clone(keys), f.name)
			l.walk(at, inner, tag)
		}
	case reflect.Map:
		if v.Type().Key().Kind() != reflect.String {
			return
		}
		mapKeys := v.MapKeys()
		slices.SortFunc(mapKeys, func(a, b reflect.Value) int { return strings.Compare(a.String(), b.String()) })
		for _, k := range mapKeys {
			l.walk(append(slices.Clone(keys), k.String()), v.MapIndex(k), tag)
		}
	case reflect.Slice, reflect.Array:
		list := make([]any, v.Len())
		for i := range list {
			if text, ok := asText(v.Index(i)); ok {
				list[i] = text
			} else {
				list[i] = v.Index(i).Interface()
			}
		}
		l.add(keys, list)
	case reflect.Func, reflect.Chan, reflect.UnsafePointer:
	default:
		l.add(keys, v.Interface())
	}
}

// asText gives the text form of values that have one.
func asText(v reflect.Value) (string, bool) {
	if v.Type() == durationType {
		return formatDuration(time.Duration(v.Int())), true
	}
	if !v.CanInterface() {
		return "", false
	}
	if m, ok := v.Interface().(encoding.TextMarshaler); ok {
		if text, err := m.MarshalText(); err == nil {
			return string(text), true
		}
	}
	return "", false
}

func (l *lister) add(keys []string, value any) {
	if secret(keys) && !reflect.ValueOf(value).IsZero() {
		value = hidden
	}
	l.values = append(l.values, Value{Path: l.path(keys), Value: value, Origin: l.origin(keys)})
}

func (l *lister) path(keys []string) string {
	path := ""
	for _, k := range keys {
		path = join(path, k)
	}
	return path
}

// origin looks up where the document sets the value.
func (l *lister) origin(keys []string) string {
	n := l.root.get(keys...)
	if n == nil && len(keys) == 3 && keys[0] == "routes" && keys[2] == "route" {
		n = l.root.get(keys[:2]...) // the short form
		if n != nil && n.mapping {
			n = nil
		}
	}
	if n == nil || n.at.file == builtin || n.isNull() {
		if slices.Contains(l.credentials, l.path(keys)) {
			return OriginCredential
		}
		return OriginDefault
	}
	return fmt.Sprintf("%s:%d", n.at.file, n.at.line)
}

// secret tells values that must not be shown, by the last key's name. What only
// names a file is none.
func secret(keys []string) bool {
	last := strings.ToLower(keys[len(keys)-1])
	if strings.HasSuffix(last, "_file") {
		return false
	}
	for _, word := range []string{"password", "connection_string", "secret", "shared_access_key"} {
		if strings.Contains(last, word) {
			return true
		}
	}
	word := last[strings.LastIndex(last, "_")+1:]
	return word == "key" || word == "token"
}

// Text writes the value in one line, as the file would have it.
func (v Value) Text() string {
	switch x := v.Value.(type) {
	case string:
		if x == "" || strings.ContainsAny(x, "\n\"'#:{}[],&*") || strings.TrimSpace(x) != x {
			return strconv.Quote(x)
		}
		return x
	}
	data, err := json.Marshal(v.Value)
	if err != nil {
		return fmt.Sprint(v.Value)
	}
	return string(data)
}
