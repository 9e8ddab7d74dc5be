package route

import (
	"strings"
	"sync"
)

// Input is a message as conditions see it. Set the fields before the first
// evaluation and leave them alone after it; then any number of conditions may
// be evaluated with one Input, also at the same time. It must not be copied.
type Input struct {
	// Body is the payload; it is parsed at most once, and only if a condition
	// looks into it.
	Body []byte
	// Properties are the application's; nil is a property that is null. Their
	// names are looked up without regard to case.
	Properties map[string]*string
	// System are the system properties by their plain names, such as
	// contentType and contentEncoding.
	System map[string]*string

	parse  sync.Once
	parsed map[string]any
}

// property looks a name up without regard to case. Where several names differ
// only in case, the exact one wins and then the first in byte order.
func property(properties map[string]*string, name string) value {
	text, found := properties[name]
	if !found {
		match := ""
		for candidate, its := range properties {
			if strings.EqualFold(candidate, name) && (!found || candidate < match) {
				match, text, found = candidate, its, true
			}
		}
	}
	switch {
	case !found:
		return undefinedValue
	case text == nil:
		return value{kind: typeString, absent: true}
	}
	return stringValue(*text)
}

// root returns the body, nil if conditions cannot look into it.
func (in *Input) root() map[string]any {
	in.parse.Do(func() {
		in.parsed = parseBody(in.Body, property(in.System, "contentType"), property(in.System, "contentEncoding"))
	})
	return in.parsed
}

// body returns what the steps lead to in the body.
func (in *Input) body(steps []step) value {
	root := in.root()
	if root == nil {
		return undefinedValue
	}
	// As in Edge Hub, what is not there is null.
	node, _ := find(root, steps)
	return leaf(node)
}

// includes tells whether the steps lead to anything in the body, be it null.
func (in *Input) includes(steps []step) Result {
	root := in.root()
	if root == nil {
		return Undefined
	}
	_, found := find(root, steps)
	return truth(found)
}
