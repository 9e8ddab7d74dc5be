package route

import (
	"fmt"
	"strings"
)

// Route is one rule of the router: messages from Source for which Condition is
// True go to Endpoint. It is immutable and may be used by several goroutines.
type Route struct {
	Source    Source
	Condition *Condition // nil: every message
	Endpoint  Endpoint
	// Text is the route as it was written.
	Text string
}

// MessageKind is what sort of message asks for a route.
type MessageKind int

const (
	// Telemetry is what a module or a device sends.
	Telemetry MessageKind = iota
	// TwinChange is the notification that a twin has changed.
	TwinChange
)

// SourceKind is the form of a source.
type SourceKind int

const (
	// FromAnywhere is /*: telemetry and twin changes.
	FromAnywhere SourceKind = iota
	// FromMessages is /messages/*: all telemetry, of modules and devices.
	FromMessages
	// FromModules is /messages/modules/*: all telemetry of modules.
	FromModules
	// FromModule is /messages/modules/NAME/*: one module, on any output or none.
	FromModule
	// FromOutputs is /messages/modules/NAME/outputs/*: one module, any output.
	FromOutputs
	// FromOutput is /messages/modules/NAME/outputs/NAME: one output.
	FromOutput
	// FromTwinChanges is /twinChangeNotifications.
	FromTwinChanges
)

// Source is where a route takes messages from.
type Source struct {
	Kind   SourceKind
	Module string // with FromModule, FromOutputs and FromOutput
	Output string // with FromOutput
}

// Matches tells whether a message is from this source. Module is empty for a
// message of a device, output for one that was sent without an output. Names
// are compared without regard to case, as Edge Hub does.
func (s Source) Matches(kind MessageKind, module, output string) bool {
	if kind == TwinChange {
		return s.Kind == FromTwinChanges || s.Kind == FromAnywhere
	}
	sameModule := module != "" && strings.EqualFold(s.Module, module)
	switch s.Kind {
	case FromAnywhere, FromMessages:
		return true
	case FromModules:
		return module != ""
	case FromModule:
		return sameModule
	case FromOutputs:
		return sameModule && output != ""
	case FromOutput:
		return sameModule && output != "" && strings.EqualFold(s.Output, output)
	}
	return false
}

// String returns the source in the form that Parse reads.
func (s Source) String() string {
	switch s.Kind {
	case FromAnywhere:
		return "/*"
	case FromMessages:
		return "/messages/*"
	case FromModules:
		return "/messages/modules/*"
	case FromModule:
		return "/messages/modules/" + s.Module + "/*"
	case FromOutputs:
		return "/messages/modules/" + s.Module + "/outputs/*"
	case FromOutput:
		return "/messages/modules/" + s.Module + "/outputs/" + s.Output
	case FromTwinChanges:
		return "/twinChangeNotifications"
	}
	return fmt.Sprintf("SourceKind(%d)", s.Kind)
}

// Endpoint is where a route takes messages to: the hub, or a module's input.
type Endpoint struct {
	Upstream      bool
	Module, Input string // unless Upstream
}

// String returns the endpoint in the form that Parse reads.
func (e Endpoint) String() string {
	if e.Upstream {
		return "$upstream"
	}
	quoted := strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace("/modules/" + e.Module + "/inputs/" + e.Input)
	return `BrokeredEndpoint("` + quoted + `")`
}

// Matches tells whether a message takes this route: it is from the source and
// the condition is True for it.
func (r *Route) Matches(kind MessageKind, module, output string, in *Input) bool {
	return r.Source.Matches(kind, module, output) && (r.Condition == nil || r.Condition.Eval(in) == True)
}

// String returns the route in its plainest form; Parse reads it back.
func (r *Route) String() string {
	where := ""
	if r.Condition != nil {
		where = " WHERE " + r.Condition.String()
	}
	return "FROM " + r.Source.String() + where + " INTO " + r.Endpoint.String()
}

// Parse parses and checks a route. An error is of type [Errors].
func Parse(text string) (*Route, error) {
	tokens, err := scan(text, true)
	if err != nil {
		return nil, Errors{err}
	}
	tree, err := parseTokens(routeParser, tokens, true)
	if err != nil {
		return nil, Errors{err}
	}
	route := &Route{Text: text}
	var problems Errors
	if route.Source, err = parseSource(tree.Source); err != nil {
		problems = append(problems, err)
	}
	if tree.Where != nil {
		c := compiler{telemetry: err == nil && route.Source.Kind != FromTwinChanges && route.Source.Kind != FromAnywhere}
		condition, err := c.condition(tree.Where, conditionText(text, tokens))
		if wrong, ok := err.(Errors); ok {
			problems = append(problems, wrong...)
		}
		route.Condition = condition
	}
	if route.Endpoint, err = parseSink(tree.Into); err != nil {
		problems = append(problems, err)
	}
	if len(problems) > 0 {
		return nil, problems
	}
	return route, nil
}

const sources = "/messages/*, /messages/modules/*, /messages/modules/NAME/*, /messages/modules/NAME/outputs/*, /messages/modules/NAME/outputs/NAME, /twinChangeNotifications or /*"

// parseSource reads a source. As in Edge Hub, a trailing /* may be left out.
func parseSource(node *sourceNode) (Source, *Error) {
	path := node.Text
	if !strings.HasPrefix(path, "/") {
		return Source{}, errorAt(node.Pos, "expected a source that starts with / but found %s: expected %s", path, sources)
	}
	items := strings.Split(strings.TrimSuffix(path[1:], "/"), "/")
	if items[len(items)-1] == "*" {
		items = items[:len(items)-1]
	}
	at := node.Pos
	at.Advance("/")
	for _, item := range items {
		if item == "" || nameLength(item) != len(item) || strings.Contains(item, "*") {
			return Source{}, errorAt(at, "%q cannot be part of a source: expected %s", item, sources)
		}
		at.Advance(item + "/")
	}
	is := func(pattern ...string) bool {
		if len(items) != len(pattern) {
			return false
		}
		for i, want := range pattern {
			if want != "" && !strings.EqualFold(items[i], want) {
				return false
			}
		}
		return true
	}
	switch {
	case is():
		return Source{Kind: FromAnywhere}, nil
	case is("messages"):
		return Source{Kind: FromMessages}, nil
	case is("messages", "modules"):
		return Source{Kind: FromModules}, nil
	case is("messages", "modules", ""):
		return Source{Kind: FromModule, Module: items[2]}, nil
	case is("messages", "modules", "", "outputs"):
		return Source{Kind: FromOutputs, Module: items[2]}, nil
	case is("messages", "modules", "", "outputs", ""):
		return Source{Kind: FromOutput, Module: items[2], Output: items[4]}, nil
	case is("twinChangeNotifications"):
		return Source{Kind: FromTwinChanges}, nil
	}
	return Source{}, errorAt(node.Pos, "no messages come from %s: expected %s", path, sources)
}

func parseSink(node *sinkNode) (Endpoint, *Error) {
	if node.System != "" {
		if !strings.EqualFold(node.System, "$upstream") {
			return Endpoint{}, errorAt(node.Pos, "expected %s but found %s", anOutlet, node.System)
		}
		return Endpoint{Upstream: true}, nil
	}
	if !strings.EqualFold(node.Function, "BrokeredEndpoint") {
		return Endpoint{}, errorAt(node.Pos, "expected %s but found %s", anOutlet, node.Function)
	}
	address := unquote(node.Address.Text)
	items := strings.Split(address, "/")
	if len(items) != 5 || items[0] != "" || !strings.EqualFold(items[1], "modules") || items[2] == "" ||
		!strings.EqualFold(items[3], "inputs") || items[4] == "" {
		return Endpoint{}, errorAt(node.Address.Pos, "expected %s but found %s", anAddress, node.Address.Text)
	}
	return Endpoint{Module: items[2], Input: items[4]}, nil
}
