package config

import (
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
)

// decoder puts a tree into Go values, strictly, and goes on after an error so
// that one reading finds them all. Field names come from the struct tag named
// tag: yaml for settings, json for desired properties.
type decoder struct {
	tag   string
	probs *problems
}

var (
	textUnmarshaler = reflect.TypeFor[encoding.TextUnmarshaler]()
	jsonUnmarshaler = reflect.TypeFor[json.Unmarshaler]()
	yamlUnmarshaler = reflect.TypeFor[yaml.InterfaceUnmarshaler]()
	durationType    = reflect.TypeFor[time.Duration]()
)

// decode puts n into v, which is settable. Null leaves what is there: it means
// the default.
func (d *decoder) decode(n *node, v reflect.Value, path string) {
	if n.isNull() {
		switch v.Kind() {
		case reflect.Pointer, reflect.Interface, reflect.Map, reflect.Slice:
			v.SetZero()
		}
		return
	}
	if d.custom(n, v, path) {
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
		}
		d.decode(n, v.Elem(), path)
	case reflect.Interface:
		if v.NumMethod() == 0 {
			v.Set(reflect.ValueOf(n.plain()))
			return
		}
		d.probs.add(n.at, path, "cannot be set in the file")
	case reflect.Struct:
		d.structure(n, v, path)
	case reflect.Map:
		d.mapped(n, v, path)
	case reflect.Slice, reflect.Array:
		d.list(n, v, path)
	case reflect.Bool:
		if b, ok := n.value.(bool); ok {
			v.SetBool(b)
			return
		}
		d.wrong(n, path, "true or false")
	case reflect.String:
		switch n.value.(type) {
		case string, int64, uint64, float64:
			if strings.HasSuffix(path, "_file") && looksSecret(n.text) {
				// Not in the message, which goes to logs.
				d.probs.add(n.at, path, "must be the name of a file; this looks like the secret itself, which belongs into a file that only the daemon's user can read")
				return
			}
			if n.text != "" || n.value == "" {
				v.SetString(n.text)
				return
			}
		}
		d.wrong(n, path, "text")
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		d.integer(n, v, path)
	case reflect.Float32, reflect.Float64:
		if f, ok := number(n.value); ok && !v.OverflowFloat(f) {
			v.SetFloat(f)
			return
		}
		d.wrong(n, path, "a number")
	default:
		d.probs.add(n.at, path, "cannot be set in the file")
	}
}

// custom decodes types that read themselves, and reports whether v is one.
func (d *decoder) custom(n *node, v reflect.Value, path string) bool {
	t := v.Type()
	if t == durationType {
		if n.mapping || n.sequence {
			d.wrong(n, path, "a duration, as in 500ms, 5s, 10m, 12h or 7d")
			return true
		}
		duration, err := parseDuration(n.text)
		if err != nil {
			d.probs.add(n.at, path, "%v", err)
			return true
		}
		v.SetInt(int64(duration))
		return true
	}
	p := reflect.PointerTo(t)
	var err error
	switch {
	case d.tag == "json" && p.Implements(jsonUnmarshaler):
		var data []byte
		if data, err = json.Marshal(n.plain()); err == nil {
			err = v.Addr().Interface().(json.Unmarshaler).UnmarshalJSON(data)
		}
	case d.tag == "yaml" && p.Implements(yamlUnmarshaler):
		inner := &decoder{tag: d.tag, probs: &problems{}}
		err = v.Addr().Interface().(yaml.InterfaceUnmarshaler).UnmarshalYAML(func(into any) error {
			inner.probs.list = nil // a type may try one form after another
			inner.decode(n, reflect.ValueOf(into).Elem(), path)
			return inner.probs.err()
		})
		if err != nil && len(inner.probs.list) > 0 {
			d.probs.list = append(d.probs.list, inner.probs.list...)
			return true
		}
	case p.Implements(textUnmarshaler):
		if n.mapping || n.sequence {
			d.wrong(n, path, "text")
			return true
		}
		err = v.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(n.text))
	default:
		return false
	}
	if err != nil {
		d.probs.add(n.at, path, "%v", err)
	}
	return true
}

func (d *decoder) wrong(n *node, path, want string) {
	d.probs.add(n.at, path, "must be %s; this is %s", want, n.what())
}

// looksSecret tells a connection string or a PEM block from a file's name.
func looksSecret(text string) bool {
	return strings.Contains(text, "SharedAccessKey=") || strings.Contains(text, "-----BEGIN ")
}

func number(value any) (float64, bool) {
	switch x := value.(type) {
	case int64:
		return float64(x), true
	case uint64:
		return float64(x), true
	case float64:
		return x, !math.IsNaN(x) && !math.IsInf(x, 0)
	}
	return 0, false
}

func (d *decoder) integer(n *node, v reflect.Value, path string) {
	// A count of bytes is written with its unit.
	if text, ok := n.value.(string); ok && (strings.HasSuffix(path, "_bytes") || strings.HasSuffix(path, "Bytes")) {
		size, err := parseSize(text)
		if err != nil {
			d.probs.add(n.at, path, "%v", err)
			return
		}
		if !d.setInteger(v, size) {
			d.probs.add(n.at, path, "%s is too large", n.text)
		}
		return
	}
	var ok bool
	switch x := n.value.(type) {
	case int64:
		ok = d.setInteger(v, x)
	case uint64:
		if v.CanUint() {
			if ok = !v.OverflowUint(x); ok {
				v.SetUint(x)
			}
		} else if ok = x <= math.MaxInt64 && !v.OverflowInt(int64(x)); ok {
			v.SetInt(int64(x))
		}
	case float64:
		ok = x == math.Trunc(x) && math.Abs(x) < 1<<53 && d.setInteger(v, int64(x))
	}
	if ok {
		return
	}
	want := "a whole number"
	bits := v.Type().Bits()
	switch {
	case v.CanUint() && bits < 32:
		want += " from 0 to " + strconv.FormatUint(math.MaxUint64>>(64-bits), 10)
	case v.CanUint():
		want += ", not negative"
	}
	d.wrong(n, path, want)
}

func (d *decoder) setInteger(v reflect.Value, x int64) bool {
	if v.CanUint() {
		if x < 0 || v.OverflowUint(uint64(x)) {
			return false
		}
		v.SetUint(uint64(x))
		return true
	}
	if v.OverflowInt(x) {
		return false
	}
	v.SetInt(x)
	return true
}

func (d *decoder) structure(n *node, v reflect.Value, path string) {
	fields := fieldsOf(v.Type(), d.tag)
	if !n.mapping {
		d.wrong(n, path, "a mapping with the keys "+strings.Join(names(fields), ", "))
		return
	}
	for _, key := range n.keys {
		value := n.fields[key]
		i := indexOf(fields, key)
		if i < 0 {
			if len(fields) == 0 {
				d.probs.add(value.key, join(path, key), "unknown key %q; there is nothing to set here", clip(key))
				continue
			}
			d.probs.add(value.key, join(path, key), "unknown key %q%s", clip(key), suggest(key, names(fields)))
			continue
		}
		d.decode(value, v.FieldByIndex(fields[i].index), join(path, key))
	}
}

func (d *decoder) mapped(n *node, v reflect.Value, path string) {
	if !n.mapping {
		d.wrong(n, path, "a mapping")
		return
	}
	t := v.Type()
	if t.Key().Kind() != reflect.String {
		d.probs.add(n.at, path, "cannot be set in the file")
		return
	}
	if v.IsNil() {
		v.Set(reflect.MakeMap(t))
	} else {
		// The defaults' map may be shared between values.
		own := reflect.MakeMap(t)
		for it := v.MapRange(); it.Next(); {
			own.SetMapIndex(it.Key(), it.Value())
		}
		v.Set(own)
	}
	for _, key := range n.keys {
		k := reflect.ValueOf(key).Convert(t.Key())
		if n.fields[key].isNull() {
			v.SetMapIndex(k, reflect.Value{}) // null takes a default's entry away
			continue
		}
		item := reflect.New(t.Elem()).Elem()
		if old := v.MapIndex(k); old.IsValid() {
			item.Set(old)
		}
		d.decode(n.fields[key], item, join(path, key))
		v.SetMapIndex(k, item)
	}
}

func (d *decoder) list(n *node, v reflect.Value, path string) {
	if !n.sequence {
		d.wrong(n, path, "a list")
		return
	}
	if v.Kind() == reflect.Slice {
		v.Set(reflect.MakeSlice(v.Type(), len(n.items), len(n.items)))
	} else if v.Len() != len(n.items) {
		d.probs.add(n.at, path, "must be a list of %d; this has %d", v.Len(), len(n.items))
		return
	}
	for i, item := range n.items {
		d.decode(item, v.Index(i), fmt.Sprintf("%s[%d]", path, i))
	}
}

// field is a struct's field as the file names it.
type field struct {
	name  string
	index []int
}

// fieldsOf lists what of a struct can be set; embedded and inlined structs
// count as the outer's own.
func fieldsOf(t reflect.Type, tag string) []field {
	var list []field
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get(tag), ",")
		if name == "-" || !f.IsExported() && !f.Anonymous {
			continue
		}
		if f.Type.Kind() == reflect.Struct && (strings.Contains(options, "inline") || f.Anonymous && name == "") {
			for _, inner := range fieldsOf(f.Type, tag) {
				list = append(list, field{inner.name, append([]int{i}, inner.index...)})
			}
			continue
		}
		if !f.IsExported() {
			continue
		}
		if name == "" {
			// What the two libraries do without a tag.
			if name = f.Name; tag == "yaml" {
				name = strings.ToLower(name)
			}
		}
		list = append(list, field{name, []int{i}})
	}
	return list
}

func indexOf(fields []field, name string) int {
	for i, f := range fields {
		if f.name == name {
			return i
		}
	}
	return -1
}

func names(fields []field) []string {
	list := make([]string, len(fields))
	for i, f := range fields {
		list[i] = f.name
	}
	return list
}

// validate calls the value's Validate, if it has one, and puts each of its
// errors at the place of the key that the error's text begins with; where it
// begins with none, at the whole section.
func (d *decoder) validate(value any, n *node, at position, path string) {
	v, ok := value.(interface{ Validate() error })
	if !ok {
		return
	}
	section := n
	for _, err := range flatten(v.Validate()) {
		n := section
		where, whole := at, path
		keys, message := n.named(err.Error())
		for _, k := range keys {
			n = n.get(k)
			where, whole = n.at, join(whole, k)
		}
		d.probs.add(where, whole, "%s", message)
	}
}

// flatten takes joined errors apart.
func flatten(err error) []error {
	if err == nil {
		return nil
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok || err.Error() != errors.Join(joined.Unwrap()...).Error() {
		return []error{err}
	}
	var list []error
	for _, e := range joined.Unwrap() {
		list = append(list, flatten(e)...)
	}
	return list
}

// named follows the keys that the message begins with ("broker: listen: must
// be …", "broker.listen must be …") as far as the document has them. It returns
// them and what is left of the message.
func (n *node) named(message string) (keys []string, rest string) {
	for {
		end := strings.IndexAny(message, " :.")
		if end <= 0 || n.get(message[:end]) == nil {
			return keys, message
		}
		n = n.get(message[:end])
		keys = append(keys, message[:end])
		after := strings.TrimLeft(message[end:], ":. ")
		if message[end] == ' ' {
			// A sentence about the key; most need not repeat its name.
			if verb, _, _ := strings.Cut(after, " "); slices.Contains([]string{"must", "is", "needs", "has", "cannot"}, verb) {
				return keys, after
			}
			return keys, message
		}
		message = after
	}
}
