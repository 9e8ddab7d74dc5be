package config

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Limits on a configuration file: far beyond what a device needs, and low
// enough that no file, however made, costs noticeable time or memory.
const (
	// MaxBytes is the largest file that is read.
	MaxBytes = 256 << 10
	maxDepth = 32
	maxNodes = 20_000 // aliases count as often as they are used
)

// node is a value of the document, with where it was written. Nodes are not
// changed once they are made: merged documents share them.
type node struct {
	at  position // of the value
	key position // of its key, or its own place
	// Exactly one of the three: a mapping (keys in order), a sequence, a scalar.
	mapping  bool
	sequence bool
	keys     []string
	fields   map[string]*node
	items    []*node
	// value of a scalar: nil, bool, int64, uint64, float64 or string.
	value any
	// text of a scalar without quotes, as written.
	text string
	// source is the document from the scalar's first character on.
	source []rune
	size   int // nodes in it, aliases expanded
}

// isNull tells a value that is null or was left empty.
func (n *node) isNull() bool { return !n.mapping && !n.sequence && n.value == nil }

// get gives the value at the path of keys, or nil.
func (n *node) get(keys ...string) *node {
	for _, k := range keys {
		if n == nil || !n.mapping {
			return nil
		}
		n = n.fields[k]
	}
	return n
}

// what names the sort of value in messages.
func (n *node) what() string {
	switch {
	case n.mapping:
		return "a mapping"
	case n.sequence:
		return "a list"
	}
	switch n.value.(type) {
	case nil:
		return "nothing"
	case bool:
		return "the boolean " + n.text
	case string:
		return "the text " + strconv.Quote(clip(n.text))
	}
	return "the number " + clip(n.text)
}

func clip(s string) string {
	const most = 60
	if utf8.RuneCountInString(s) <= most {
		return s
	}
	return string([]rune(s)[:most]) + "…"
}

// plain gives the value in Go's plain types, as encoding/json knows them.
func (n *node) plain() any {
	switch {
	case n.mapping:
		m := make(map[string]any, len(n.keys))
		for _, k := range n.keys {
			m[k] = n.fields[k].plain()
		}
		return m
	case n.sequence:
		list := make([]any, len(n.items))
		for i, item := range n.items {
			list[i] = item.plain()
		}
		return list
	}
	return n.value
}

// set puts a field into a mapping that is being made.
func (n *node) set(key string, v *node) {
	if _, there := n.fields[key]; !there {
		n.keys = append(n.keys, key)
	}
	n.fields[key] = v
}

func newMapping(at position) *node {
	return &node{at: at, key: at, mapping: true, fields: map[string]*node{}, size: 1}
}

// parse reads a YAML document into a tree. An empty document is an empty
// mapping.
func parse(file string, data []byte, probs *problems) (root *node) {
	start := position{file: file, line: 1, column: 1}
	if len(data) > MaxBytes {
		probs.add(start, "", "the file is larger than %d KiB; a configuration is far smaller", MaxBytes>>10)
		return nil
	}
	if at, ok := firstInvalid(data); ok {
		probs.add(position{file, at.line, at.column}, "", "the file is not UTF-8 text")
		return nil
	}
	text := strings.ReplaceAll(string(bytes.TrimPrefix(data, []byte("\ufeff"))), "\r\n", "\n")

	// The parser is for well-meant input. What it makes of a damaged file must
	// not end the daemon.
	defer func() {
		if r := recover(); r != nil {
			probs.add(start, "", "the file cannot be read as YAML (%v)", r)
			root = nil
		}
	}()
	tokens := lexer.Tokenize(text)
	if at, deep := tooDeep(tokens); deep {
		probs.add(at.in(file), "", "nested deeper than %d levels", maxDepth)
		return nil
	}
	parsed, err := parser.Parse(tokens, 0)
	if err != nil {
		var located yaml.Error
		if errors.As(err, &located) && located.GetToken() != nil {
			probs.add(tokenAt{located.GetToken()}.in(file), "", "not valid YAML: %s", plainly(located.GetMessage()))
		} else {
			probs.add(start, "", "not valid YAML: %v", err)
		}
		return nil
	}

	r := &reader{file: file, text: []rune(text), probs: probs, anchors: map[string]*node{}}
	r.lines = []int{0}
	for i, c := range r.text {
		if c == '\n' {
			r.lines = append(r.lines, i+1)
		}
	}
	for _, doc := range parsed.Docs {
		if doc.Body == nil {
			continue
		}
		if d, ok := doc.Body.(*ast.DirectiveNode); ok {
			if strings.HasPrefix(d.String(), "%YAML") {
				continue
			}
			probs.add(r.at(d), "", "directives are not used here")
			return nil
		}
		if root != nil {
			probs.add(r.at(doc.Body), "", "a second document in the file; only one is read")
			return nil
		}
		root = r.read(doc.Body, 0)
		if root == nil {
			return nil
		}
	}
	if root == nil || root.isNull() {
		return newMapping(start)
	}
	if !root.mapping {
		probs.add(root.at, "", "the file must be a mapping with the sections %s; this is %s",
			strings.Join(sections, ", "), root.what())
		return nil
	}
	return root
}

type tokenAt struct{ *token.Token }

func (t tokenAt) in(file string) position {
	if t.Token == nil || t.Position == nil {
		return position{file: file, line: 1, column: 1}
	}
	return position{file: file, line: t.Position.Line, column: max(t.Position.Column, 1)}
}

// plainly puts the parser's most common messages, some of which name its own
// inner steps, in words that say what to do.
func plainly(message string) string {
	switch {
	case strings.Contains(message, "found character '\t'"):
		return "a tab; indent with spaces"
	case strings.HasPrefix(message, "mapping key ") && strings.Contains(message, "already defined at"):
		return strings.NewReplacer("mapping key", "the key", "already defined at [", "is there already, at ", "]", "").Replace(message)
	case message == "mapping value is not allowed in this context":
		return "a second ':' on the line; put the value in quotes, or check the indentation"
	case message == "value is not allowed in this context":
		return "this does not belong here; check the indentation"
	}
	return message
}

// tooDeep finds nesting that would make the parser recurse too far. Nesting by
// indentation needs no check here: it costs so many bytes that the file's size
// bounds it.
func tooDeep(tokens token.Tokens) (tokenAt, bool) {
	flow, opened, line := 0, 0, 0
	for _, t := range tokens {
		if t.Position.Line != line {
			line, opened = t.Position.Line, 0
		}
		switch t.Type {
		case token.MappingStartType, token.SequenceStartType:
			flow++
		case token.MappingEndType, token.SequenceEndType:
			flow--
		case token.SequenceEntryType, token.MappingKeyType, token.AnchorType, token.TagType:
			opened++
		}
		if flow > maxDepth || opened > maxDepth {
			return tokenAt{t}, true
		}
	}
	return tokenAt{}, false
}

// firstInvalid finds the first byte that is not UTF-8.
func firstInvalid(data []byte) (position, bool) {
	if utf8.Valid(data) {
		return position{}, false
	}
	at := position{line: 1, column: 1}
	for len(data) > 0 {
		r, n := utf8.DecodeRune(data)
		if r == utf8.RuneError && n == 1 {
			return at, true
		}
		if r == '\n' {
			at.line, at.column = at.line+1, 1
		} else {
			at.column++
		}
		data = data[n:]
	}
	return at, false
}

// reader turns the parser's tree into nodes.
type reader struct {
	file    string
	text    []rune
	lines   []int // where in text each line begins
	probs   *problems
	anchors map[string]*node
}

func (r *reader) at(n ast.Node) position { return tokenAt{n.GetToken()}.in(r.file) }

// read gives the node, or nil when it reported why there is none.
func (r *reader) read(n ast.Node, depth int) *node {
	if depth > maxDepth {
		r.probs.add(r.at(n), "", "nested deeper than %d levels", maxDepth)
		return nil
	}
	made := r.convert(n, depth)
	if made == nil {
		return nil
	}
	if made.size > maxNodes {
		r.probs.add(r.at(n), "", "more than %d values, aliases counted as often as they are used", maxNodes)
		return nil
	}
	return made
}

func (r *reader) convert(n ast.Node, depth int) *node {
	switch n := n.(type) {
	case *ast.MappingNode:
		return r.mapping(n, n.Values, depth)
	case *ast.MappingValueNode:
		return r.mapping(n, []*ast.MappingValueNode{n}, depth)
	case *ast.SequenceNode:
		at := r.at(n)
		list := &node{at: at, key: at, sequence: true, size: 1}
		for _, v := range n.Values {
			item := r.read(v, depth+1)
			if item == nil {
				return nil
			}
			list.items = append(list.items, item)
			list.size += item.size
			if list.size > maxNodes {
				break
			}
		}
		return list
	case *ast.AnchorNode:
		if n.Name == nil || n.Value == nil {
			r.probs.add(r.at(n), "", "an anchor without a name or a value")
			return nil
		}
		made := r.read(n.Value, depth)
		if made != nil {
			r.anchors[n.Name.GetToken().Value] = made
		}
		return made
	case *ast.AliasNode:
		name := n.Value.GetToken().Value
		target := r.anchors[name]
		if target == nil {
			r.probs.add(r.at(n), "", "the alias *%s names no anchor above it", name)
			return nil
		}
		return target
	case *ast.NullNode:
		return r.scalar(n, nil)
	case *ast.BoolNode:
		return r.scalar(n, n.Value)
	case *ast.IntegerNode:
		return r.scalar(n, n.Value)
	case *ast.FloatNode:
		return r.scalar(n, n.Value)
	case *ast.InfinityNode:
		return r.scalar(n, n.Value)
	case *ast.NanNode:
		return r.scalar(n, math.NaN())
	case *ast.StringNode:
		return r.scalar(n, n.Value)
	case *ast.LiteralNode:
		made := r.scalar(n, n.Value.Value)
		made.text = n.Value.Value
		return made
	case *ast.TagNode:
		r.probs.add(r.at(n), "", "tags (%s) are not used here", n.Start.Value)
		return nil
	}
	r.probs.add(r.at(n), "", "%s is not used here", strings.ToLower(n.Type().String()))
	return nil
}

func (r *reader) scalar(n ast.Node, value any) *node {
	at := r.at(n)
	return &node{at: at, key: at, value: value, text: n.GetToken().Value, source: r.from(at), size: 1}
}

// from gives the document's text from the place on.
func (r *reader) from(at position) []rune {
	line := min(at.line, len(r.lines)) - 1
	return r.text[min(r.lines[line]+at.column-1, len(r.text)):]
}

func (r *reader) mapping(n ast.Node, values []*ast.MappingValueNode, depth int) *node {
	m := newMapping(r.at(n))
	if mn, ok := n.(*ast.MappingNode); ok && !mn.IsFlowStyle && len(values) > 0 {
		// A block mapping's token is its first ':'; its first key is where it
		// begins.
		m.at = tokenAt{values[0].Key.GetToken()}.in(r.file)
	}
	var inherited []*node
	for _, v := range values {
		if v.Key.IsMergeKey() {
			from := r.read(v.Value, depth+1)
			switch {
			case from == nil:
				return nil
			case from.mapping:
				inherited = append(inherited, from)
			case from.sequence:
				inherited = append(inherited, from.items...)
			default:
				inherited = append(inherited, from)
			}
			continue
		}
		key, ok := r.keyText(v.Key)
		if !ok {
			return nil
		}
		at := r.at(v.Key)
		if _, twice := m.fields[key]; twice {
			r.probs.add(at, key, "the key is there twice")
			return nil
		}
		value := r.read(v.Value, depth+1)
		if value == nil {
			return nil
		}
		own := *value // an alias shares its value, not its key
		own.key = at
		if own.isNull() && v.Value.GetToken().Type == token.ImplicitNullType {
			own.at = at
		}
		m.set(key, &own)
		m.size += own.size
		if m.size > maxNodes {
			break
		}
	}
	for _, from := range inherited {
		if !from.mapping {
			r.probs.add(from.at, "", "<< needs a mapping, this is %s", from.what())
			return nil
		}
		for _, k := range from.keys {
			if _, there := m.fields[k]; !there {
				m.set(k, from.fields[k])
				m.size += from.fields[k].size
			}
		}
	}
	return m
}

func (r *reader) keyText(k ast.MapKeyNode) (string, bool) {
	switch k := k.(type) {
	case *ast.StringNode:
		return k.Value, true
	case *ast.IntegerNode, *ast.BoolNode, *ast.FloatNode, *ast.NullNode:
		return k.GetToken().Value, true
	}
	r.probs.add(r.at(k), "", "a key must be plain text")
	return "", false
}

// within gives the place of the character at index (in characters) of a
// scalar's text, by following the text through the source: quotes, escapes and
// folded line breaks take other room there than in the value.
func (n *node) within(index int) position {
	at := n.at
	source, value := n.source, []rune(n.text)
	i := 0
	step := func() {
		if source[i] == '\n' {
			at.line, at.column = at.line+1, 1
		} else {
			at.column++
		}
		i++
	}
	if len(source) > 0 {
		switch source[0] {
		case '\'', '"':
			step()
		case '|', '>':
			for i < len(source) && source[i] != '\n' {
				step()
			}
		}
	}
	blank := func() bool { return source[i] == ' ' || source[i] == '\n' || source[i] == '\t' }
	for v := 0; v < len(value) && i < len(source); v++ {
		for i < len(source) && source[i] != value[v] && blank() && value[v] != ' ' && value[v] != '\n' {
			step()
		}
		if v == index || i == len(source) {
			return at
		}
		switch {
		case source[i] == '\\' && source[0] == '"':
			step()
			width := map[rune]int{'x': 3, 'u': 5, 'U': 9}[runeAt(source, i)]
			for range max(width, 1) {
				if i < len(source) {
					step()
				}
			}
		case source[i] == '\'' && source[0] == '\'' && runeAt(source, i+1) == '\'':
			step()
			step()
		case (value[v] == ' ' || value[v] == '\n') && source[i] == '\n':
			for i < len(source) && blank() {
				step()
			}
		default:
			step()
		}
	}
	return at
}

func runeAt(s []rune, i int) rune {
	if i < len(s) {
		return s[i]
	}
	return 0
}

// merge lays over on base: mappings key by key, everything else as a whole.
func merge(base, over *node) *node {
	if base == nil || !base.mapping || !over.mapping {
		return over
	}
	m := newMapping(over.at)
	m.key = over.key
	for _, k := range base.keys {
		m.set(k, base.fields[k])
	}
	for _, k := range over.keys {
		m.set(k, merge(m.fields[k], over.fields[k]))
	}
	return m
}

// join writes a path into the document, quoting keys that would not be clear.
func join(path, key string) string {
	if strings.ContainsAny(key, ".[] ") || key == "" {
		key = fmt.Sprintf("[%q]", key)
	} else if path != "" {
		key = "." + key
	}
	return path + key
}
