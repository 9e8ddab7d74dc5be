package route

import (
	"cmp"
	"encoding/json"
	"math"
	"slices"
	"unicode/utf16"
)

// Result is what a condition comes to: a truth value of three-valued logic.
type Result int8

// The zero value is Undefined.
const (
	False     Result = -1
	Undefined Result = 0
	True      Result = 1
)

// String returns "true", "false" or "undefined".
func (r Result) String() string {
	switch r {
	case True:
		return "true"
	case False:
		return "false"
	}
	return "undefined"
}

// MarshalJSON gives true, false or "undefined".
func (r Result) MarshalJSON() ([]byte, error) {
	if r == Undefined {
		return json.Marshal(r.String())
	}
	return json.Marshal(r == True)
}

func truth(b bool) Result {
	if b {
		return True
	}
	return False
}

func (r Result) not() Result { return -r }

func (r Result) and(other Result) Result { return min(r, other) }

func (r Result) or(other Result) Result { return max(r, other) }

// valueType is what is known of a value before there is a message.
type valueType int

const (
	typeInvalid   valueType = iota // part of an error that is already reported
	typeUndefined                  // the literal, or $name[0]
	typeNull                       // the literal
	typeBool
	typeNumber
	typeString
	typeBody // from the body: any of them
)

func (t valueType) String() string {
	switch t {
	case typeUndefined:
		return "undefined"
	case typeNull:
		return "null"
	case typeBool:
		return "bool"
	case typeNumber:
		return "number"
	case typeString:
		return "string"
	case typeBody:
		return "a value from the body"
	}
	return "invalid"
}

// value is a value while a condition is evaluated. The kind is never
// typeInvalid nor typeBody; the zero value counts as undefined.
type value struct {
	kind   valueType
	truth  Result // of typeBool, and then not Undefined
	number float64
	text   string
	// absent marks a property that is there but null: a string that is equal
	// to nothing and joins as "".
	absent bool
}

var (
	undefinedValue = value{kind: typeUndefined}
	nullValue      = value{kind: typeNull}
)

func boolValue(r Result) value {
	if r == Undefined {
		return undefinedValue
	}
	return value{kind: typeBool, truth: r}
}

// numberValue turns what is not a number into undefined: 3 % 0, sqrt(-1).
// Infinity stays.
func numberValue(f float64) value {
	if math.IsNaN(f) {
		return undefinedValue
	}
	return value{kind: typeNumber, number: f}
}

func stringValue(s string) value { return value{kind: typeString, text: s} }

func (v value) defined() bool { return v.kind != typeUndefined && v.kind != typeInvalid }

// isText tells whether there is a text to work on.
func (v value) isText() bool { return v.kind == typeString && !v.absent }

// result is the value as the outcome of AND, OR, NOT or the whole condition.
func (v value) result() Result {
	if v.kind == typeBool {
		return v.truth
	}
	return Undefined
}

// compare evaluates a comparison of two values whose types were checked. With
// loose, one of them came from the body and its type is only known now: values
// of different types are then unequal, and neither is the greater.
func compare(op string, left, right value, loose bool) Result {
	if !left.defined() || !right.defined() {
		return Undefined
	}
	if left.kind != right.kind {
		return truth(op == "!=" || op == "<>")
	}
	if !loose && (left.absent || right.absent) {
		return Undefined
	}
	var order int
	switch left.kind {
	case typeBool:
		order = int(left.truth) - int(right.truth)
	case typeNumber:
		order = cmp.Compare(left.number, right.number)
	case typeString:
		order = compareStrings(left, right)
	}
	switch op {
	case "=":
		return truth(order == 0)
	case "!=", "<>":
		return truth(order != 0)
	case "<":
		return truth(order < 0)
	case "<=":
		return truth(order <= 0)
	case ">":
		return truth(order > 0)
	default:
		return truth(order >= 0)
	}
}

// compareStrings orders a null before every text.
func compareStrings(a, b value) int {
	switch {
	case a.absent && b.absent:
		return 0
	case a.absent:
		return -1
	case b.absent:
		return 1
	}
	return compareUTF16(a.text, b.text)
}

// compareUTF16 orders texts by their UTF-16 code units, as Edge Hub does. That
// differs from the order of bytes only between characters beyond U+FFFF, which
// are pairs of units from U+D800, and those from U+E000.
func compareUTF16(a, b string) int {
	if a == b {
		return 0
	}
	return slices.Compare(units(a), units(b))
}

// units returns the UTF-16 code units of a text: what lengths and positions
// in texts count.
func units(s string) []uint16 { return utf16.Encode([]rune(s)) }

func fromUnits(u []uint16) string { return string(utf16.Decode(u)) }
