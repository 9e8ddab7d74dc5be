package route

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"

	"github.com/alecthomas/participle/v2/lexer"
)

// evaluate computes a part of a condition for one message.
type evaluate func(*Input) value

// part is a checked part of a condition.
type part struct {
	kind valueType
	eval evaluate
	// property is its name, when the part is nothing but a property, for hints.
	property string
}

func constant(v value) part {
	return part{kind: v.kind, eval: func(*Input) value { return v }}
}

// invalid stands for a part with an error that is already reported; nothing
// more is reported about what it is used in.
var invalid = constant(value{})

// compiler checks the types of a syntax tree and turns it into functions.
type compiler struct {
	errors Errors
	// telemetry is set for a route that never sees a change of a twin.
	telemetry bool
}

func (c *compiler) fail(pos lexer.Position, format string, args ...any) part {
	c.errors = append(c.errors, errorAt(pos, format, args...))
	return invalid
}

// precedence of the operators between two operands; the higher binds tighter,
// and all group from the left. NOT and the sign bind tighter than all of them.
var precedence = map[string]int{
	"*": 7, "/": 7, "%": 7,
	"+": 6, "-": 6, "||": 6,
	"<": 5, "<=": 5, ">": 5, ">=": 5,
	"=": 4, "!=": 4, "<>": 4,
	"AND": 3,
	"OR":  2,
	"??":  1,
}

func (c *compiler) expression(e *expression) part {
	left, rest := c.climb(c.operand(e.First), e.Rest, 1)
	if len(rest) > 0 {
		return c.fail(rest[0].Pos, "unknown operator %s", rest[0].Op)
	}
	return left
}

// climb applies the operators of at least the given precedence and returns
// what is left over for its caller.
func (c *compiler) climb(left part, rest []*operation, lowest int) (part, []*operation) {
	for len(rest) > 0 {
		op, pos := strings.ToUpper(rest[0].Op), rest[0].Pos
		level := precedence[op]
		if level < lowest {
			break
		}
		var right part
		right, rest = c.climb(c.operand(rest[0].Right), rest[1:], level+1)
		left = c.binary(op, pos, left, right)
	}
	return left, rest
}

func (c *compiler) operand(o *operand) part {
	p := c.primary(o)
	for _, prefix := range slices.Backward(o.Prefixes) {
		if prefix.Op == "-" {
			p = c.negate(prefix.Pos, p)
		} else {
			p = c.not(prefix.Pos, p)
		}
	}
	return p
}

func (c *compiler) primary(o *operand) part {
	switch {
	case o.Number != nil:
		return c.numberLiteral(o.Number)
	case o.Text != nil:
		return constant(stringValue(unquote(*o.Text)))
	case o.Word != nil:
		return constant(wordLiteral(*o.Word))
	case o.Path != nil:
		return c.path(o.Path, false)
	case o.Escaped != nil:
		return c.path(o.Escaped, true)
	case o.Name != nil && o.Name.Call != nil:
		return c.call(o.Name)
	case o.Name != nil:
		name := o.Name.Name
		return part{kind: typeString, property: name, eval: func(in *Input) value {
			return property(in.Properties, name)
		}}
	default:
		return c.expression(o.Group)
	}
}

func wordLiteral(word string) value {
	switch word {
	case "true":
		return boolValue(True)
	case "false":
		return boolValue(False)
	case "null":
		return nullValue
	}
	return undefinedValue
}

func (c *compiler) numberLiteral(n *numberNode) part {
	unsigned, negative := strings.CutPrefix(n.Text, "-")
	digits, isHex := strings.CutPrefix(strings.ToLower(unsigned), "0x")
	if !isHex {
		return constant(numberValue(parseFloat(n.Text)))
	}
	number, err := strconv.ParseUint(digits, 16, 64)
	if err != nil {
		return c.fail(n.Pos, "%s is too large: expected a hexadecimal number of at most 64 bits", n.Text)
	}
	signed := float64(int64(number)) // as Edge Hub reads 64 bits
	if negative {
		signed = -signed
	}
	return constant(numberValue(signed))
}

var escape = regexp.MustCompile(`\\u[0-9a-fA-F]{4}(?:\\u[0-9a-fA-F]{4})*|\\["'\\]`)

// unquote returns the text of a string token. Characters beyond U+FFFF are
// written as two escapes.
func unquote(token string) string {
	return escape.ReplaceAllStringFunc(token[1:len(token)-1], func(match string) string {
		if match[1] != 'u' {
			return match[1:]
		}
		var encoded []uint16
		for ; match != ""; match = match[6:] {
			unit, _ := strconv.ParseUint(match[2:6], 16, 16) // the scanner saw to it
			encoded = append(encoded, uint16(unit))
		}
		return string(utf16.Decode(encoded))
	})
}

// path compiles $name and, escaped, {$name}. An application property of that
// very name wins over the body and the system property unless it is escaped.
func (c *compiler) path(node *pathNode, escaped bool) part {
	name := node.Text
	steps, isBody, err := bodyPath(name)
	if err != nil {
		return c.fail(node.Pos, "%s: %v", name, err)
	}
	if isBody {
		indexed := strings.Contains(name, "[") // no property has such a name
		return part{kind: typeBody, eval: func(in *Input) value {
			if !escaped && !indexed {
				if v := property(in.Properties, name); v.defined() {
					return v
				}
			}
			return in.body(steps)
		}}
	}
	if strings.ContainsAny(name, "[]") {
		return constant(undefinedValue)
	}
	return part{kind: typeString, property: name, eval: func(in *Input) value {
		if !escaped {
			if v := property(in.Properties, name); v.defined() {
				return v
			}
		}
		return property(in.System, name[1:])
	}}
}

func (c *compiler) negate(pos lexer.Position, p part) part {
	if p.kind == typeInvalid {
		return invalid
	}
	if p.kind != typeNumber && p.kind != typeBody {
		return c.fail(pos, "- needs a number but has %s%s", describe(p), hint(typeNumber, p))
	}
	return part{kind: p.kind, eval: func(in *Input) value {
		if v := p.eval(in); v.kind == typeNumber {
			return numberValue(-v.number)
		}
		return undefinedValue
	}}
}

func (c *compiler) not(pos lexer.Position, p part) part {
	switch p.kind {
	case typeInvalid:
		return invalid
	case typeNull:
		return constant(boolValue(True))
	case typeBool, typeBody:
		return part{kind: typeBool, eval: func(in *Input) value {
			return boolValue(p.eval(in).result().not())
		}}
	}
	return c.fail(pos, "NOT needs a truth value but has %s (NOT binds tightly: use parentheses, as in NOT (a = 'b'))", describe(p))
}

func (c *compiler) binary(op string, pos lexer.Position, left, right part) part {
	if left.kind == typeInvalid || right.kind == typeInvalid {
		return invalid
	}
	switch op {
	case "+", "-", "*", "/", "%":
		return c.arithmetic(op, pos, left, right)
	case "||":
		return c.join(pos, left, right)
	case "AND":
		return c.and(pos, left, right)
	case "OR":
		return c.or(pos, left, right)
	case "??":
		return c.coalesce(pos, left, right)
	}
	return c.comparison(op, pos, left, right)
}

var calculations = map[string]func(a, b float64) float64{
	"+": func(a, b float64) float64 { return a + b },
	"-": func(a, b float64) float64 { return a - b },
	"*": func(a, b float64) float64 { return a * b },
	"/": func(a, b float64) float64 { return a / b },
	"%": math.Mod,
}

func (c *compiler) arithmetic(op string, pos lexer.Position, left, right part) part {
	for _, p := range []part{left, right} {
		if p.kind != typeNumber && p.kind != typeBody {
			return c.fail(pos, "%s needs two numbers but has %s and %s%s", op, describe(left), describe(right), hint(typeNumber, left, right))
		}
	}
	calculate := calculations[op]
	return part{kind: max(left.kind, right.kind), eval: func(in *Input) value {
		a, b := left.eval(in), right.eval(in)
		if a.kind != typeNumber || b.kind != typeNumber {
			return undefinedValue
		}
		return numberValue(calculate(a.number, b.number))
	}}
}

func (c *compiler) join(pos lexer.Position, left, right part) part {
	for _, p := range []part{left, right} {
		if p.kind != typeString && p.kind != typeBody {
			return c.fail(pos, "|| needs two strings but has %s and %s", describe(left), describe(right))
		}
	}
	return part{kind: typeString, eval: func(in *Input) value {
		return concat([]value{left.eval(in), right.eval(in)})
	}}
}

// comparable tells whether two types may be compared: both the same, or one of
// them only known with the message.
func comparable(left, right valueType) bool {
	if left == right {
		return true
	}
	return left == typeBody && right != typeUndefined || right == typeBody && left != typeUndefined
}

func (c *compiler) comparison(op string, pos lexer.Position, left, right part) part {
	if !comparable(left.kind, right.kind) {
		return c.fail(pos, "%s compares values of one type but has %s and %s%s", op, describe(left), describe(right), hint(typeNumber, left, right))
	}
	loose := left.kind == typeBody || right.kind == typeBody
	return part{kind: typeBool, eval: func(in *Input) value {
		return boolValue(compare(op, left.eval(in), right.eval(in), loose))
	}}
}

func (c *compiler) logical(op string, pos lexer.Position, left, right part) bool {
	for _, p := range []part{left, right} {
		if p.kind == typeNumber || p.kind == typeString {
			c.fail(pos, "%s needs two truth values but has %s and %s", op, describe(left), describe(right))
			return false
		}
	}
	return true
}

func (c *compiler) and(pos lexer.Position, left, right part) part {
	if !c.logical("AND", pos, left, right) {
		return invalid
	}
	if left.kind == typeNull || right.kind == typeNull {
		return constant(nullValue)
	}
	return part{kind: typeBool, eval: func(in *Input) value {
		first := left.eval(in).result()
		if first == False {
			return boolValue(False)
		}
		return boolValue(first.and(right.eval(in).result()))
	}}
}

func (c *compiler) or(pos lexer.Position, left, right part) part {
	if !c.logical("OR", pos, left, right) {
		return invalid
	}
	switch {
	case left.kind == typeNull && right.kind == typeNull:
		return constant(nullValue)
	case left.kind == typeNull: // counts for nothing
		left = constant(boolValue(False))
	case right.kind == typeNull:
		right = constant(boolValue(False))
	}
	return part{kind: typeBool, eval: func(in *Input) value {
		first := left.eval(in).result()
		if first == True {
			return boolValue(True)
		}
		return boolValue(first.or(right.eval(in).result()))
	}}
}

func (c *compiler) coalesce(pos lexer.Position, left, right part) part {
	if !comparable(left.kind, right.kind) {
		return c.fail(pos, "?? needs two values of one type but has %s and %s%s", describe(left), describe(right), hint(typeNumber, left, right))
	}
	return part{kind: max(left.kind, right.kind), eval: func(in *Input) value {
		if v := left.eval(in); v.defined() {
			return v
		}
		return right.eval(in)
	}}
}

// outcome turns the outermost part into a truth value.
func (p part) outcome() func(*Input) Result {
	if p.kind == typeNull {
		return func(*Input) Result { return False }
	}
	return func(in *Input) Result { return p.eval(in).result() }
}

func describe(p part) string {
	if p.property != "" {
		return fmt.Sprintf("%s (the property %s)", p.kind, p.property)
	}
	return p.kind.String()
}

var suspicious = regexp.MustCompile(`[-+*%|'&!]`)

// hint adds what to do when a property is used where its type does not fit.
func hint(wanted valueType, parts ...part) string {
	numbers := wanted == typeNumber && (len(parts) == 1 || slices.ContainsFunc(parts, func(p part) bool { return p.kind == typeNumber }))
	for _, p := range parts {
		switch {
		case p.property == "":
		case strings.EqualFold(p.property, "true") || strings.EqualFold(p.property, "false") ||
			strings.EqualFold(p.property, "null") || strings.EqualFold(p.property, "undefined"):
			return fmt.Sprintf(" (the literal is written %s)", strings.ToLower(p.property))
		case suspicious.MatchString(p.property):
			return fmt.Sprintf(" (%s is one name: put spaces around operators)", p.property)
		case numbers:
			return fmt.Sprintf(" (properties are strings: use as_number(%s))", p.property)
		}
	}
	return ""
}
