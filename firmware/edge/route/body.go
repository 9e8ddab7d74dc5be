package route

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"
)

const bodyPrefix = "$body."

// step goes one level down in the body: to a field, or to an element when the
// name is empty.
type step struct {
	name  string
	index int
}

var segment = regexp.MustCompile(`^([^][.]+)((?:\[[0-9]+\])*)$`)

// bodyPath takes $body.path[0].field apart. It returns false for a name that
// does not start with $body. in any case.
func bodyPath(name string) (steps []step, isBody bool, err error) {
	if len(name) < len(bodyPrefix) || !strings.EqualFold(name[:len(bodyPrefix)], bodyPrefix) {
		return nil, false, nil
	}
	steps, err = parsePath(name[len(bodyPrefix):])
	return steps, true, err
}

func parsePath(path string) ([]step, error) {
	var steps []step
	for _, part := range strings.Split(path, ".") {
		m := segment.FindStringSubmatch(part)
		if m == nil {
			return nil, fmt.Errorf("expected a path such as field[0].field with a name or a name and an index between the dots, but found %q", part)
		}
		steps = append(steps, step{name: m[1]})
		for _, digits := range strings.FieldsFunc(m[2], func(r rune) bool { return r == '[' || r == ']' }) {
			index, err := strconv.Atoi(digits)
			if err != nil {
				return nil, fmt.Errorf("the index %s is too large", digits)
			}
			steps = append(steps, step{index: index})
		}
	}
	return steps, nil
}

// find goes down from the root; false if the steps lead nowhere.
func find(node any, steps []step) (any, bool) {
	for _, s := range steps {
		switch parent := node.(type) {
		case map[string]any:
			child, found := parent[s.name]
			if s.name == "" || !found {
				return nil, false
			}
			node = child
		case []any:
			if s.name != "" || s.index >= len(parent) {
				return nil, false
			}
			node = parent[s.index]
		default:
			return nil, false
		}
	}
	return node, true
}

// leaf makes a value of what was found in the body; nil, also for what was not
// found, is null.
func leaf(node any) value {
	switch leaf := node.(type) {
	case nil:
		return nullValue
	case bool:
		return boolValue(truth(leaf))
	case json.Number:
		return numberValue(parseFloat(leaf.String()))
	case string:
		if isDate(leaf) {
			return undefinedValue
		}
		return stringValue(leaf)
	}
	return undefinedValue
}

// parseBody returns nil for a body that conditions cannot look into.
func parseBody(body []byte, contentType, encoding value) map[string]any {
	if media, _, err := mime.ParseMediaType(contentType.text); err != nil || media != "application/json" {
		return nil
	}
	text, err := toUTF8(body, encoding.text)
	if err != nil {
		return nil
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	var root map[string]any
	if decoder.Decode(&root) != nil {
		return nil
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil
	}
	return root
}

// toUTF8 converts a text from the content encoding that a message declares.
// UTF-16 and UTF-32 are little-endian unless a byte order mark says otherwise.
func toUTF8(text []byte, encoding string) ([]byte, error) {
	switch strings.ToLower(encoding) {
	case "utf-8":
		return bytes.TrimPrefix(text, []byte("\xef\xbb\xbf")), nil
	case "utf-16":
		if len(text)%2 != 0 {
			return nil, errors.New("half a UTF-16 unit")
		}
		order := byteOrder(bytes.HasPrefix(text, []byte{0xfe, 0xff}))
		encoded := make([]uint16, len(text)/2)
		for i := range encoded {
			encoded[i] = order.Uint16(text[2*i:])
		}
		return []byte(strings.TrimPrefix(string(utf16.Decode(encoded)), "\ufeff")), nil
	case "utf-32":
		if len(text)%4 != 0 {
			return nil, errors.New("part of a UTF-32 unit")
		}
		order := byteOrder(bytes.HasPrefix(text, []byte{0, 0, 0xfe, 0xff}))
		runes := make([]rune, len(text)/4)
		for i := range runes {
			runes[i] = rune(order.Uint32(text[4*i:]))
		}
		return []byte(strings.TrimPrefix(string(runes), "\ufeff")), nil
	}
	return nil, fmt.Errorf("content encoding %q is none of utf-8, utf-16 and utf-32", encoding)
}

func byteOrder(big bool) binary.ByteOrder {
	if big {
		return binary.BigEndian
	}
	return binary.LittleEndian
}

var microsoftDate = regexp.MustCompile(`^/Date\(-?[0-9]+(?:[-+][0-9]{4})?\)/$`)

// isDate tells whether Edge Hub's JSON library makes a date of a text, which
// conditions then cannot use: ISO 8601 with date and time, or /Date(…)/.
func isDate(text string) bool {
	if microsoftDate.MatchString(text) {
		return true
	}
	if len(text) < 19 || len(text) > 40 || text[10] != 'T' || strings.Contains(text, ",") {
		return false
	}
	for _, layout := range []string{"2006-01-02T15:04:05", "2006-01-02T15:04:05Z07:00", "2006-01-02T15:04:05Z0700", "2006-01-02T15:04:05Z07"} {
		if _, err := time.Parse(layout, text); err == nil {
			return true
		}
	}
	return false
}
