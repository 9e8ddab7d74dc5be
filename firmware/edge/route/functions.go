package route

import (
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/agnivade/levenshtein"
)

// function is one built-in. Exactly one of params and check says which
// arguments it takes.
type function struct {
	usage string
	// params are the types of the arguments, of which the last optional ones
	// may be left out and the last one repeated when it is variadic. An
	// argument from the body fits any of them: if it turns out to be of
	// another type, the result is undefined.
	params   []valueType
	optional int
	variadic bool
	// check is for functions that take exactly one argument, of several types.
	check func(valueType) bool

	result valueType
	eval   func(args []value) value
}

var functions = map[string]function{
	"abs":     numeric("abs(number)", math.Abs),
	"ceiling": numeric("ceiling(number)", math.Ceil),
	"exp":     numeric("exp(number)", math.Exp),
	"floor":   numeric("floor(number)", math.Floor),
	"sqrt":    numeric("sqrt(number)", math.Sqrt),
	"square":  numeric("square(number)", func(x float64) float64 { return x * x }),
	"sign": numeric("sign(number)", func(x float64) float64 {
		switch {
		case x > 0:
			return 1
		case x < 0:
			return -1
		}
		return 0
	}),
	"power": {
		usage: "power(number, number)", params: []valueType{typeNumber, typeNumber}, result: typeNumber,
		eval: func(args []value) value { return numberValue(math.Pow(args[0].number, args[1].number)) },
	},

	"as_number": {
		usage: "as_number(string or number)", result: typeNumber,
		check: func(t valueType) bool { return t == typeString || t == typeNumber || t == typeBody },
		eval: func(args []value) value {
			switch v := args[0]; {
			case v.kind == typeNumber:
				return v
			case v.isText():
				return parseNumber(v.text)
			}
			return undefinedValue
		},
	},
	"is_bool": inquiry("is_bool(value)", func(v value) Result { return truth(v.kind == typeBool) }),
	"is_defined": inquiry("is_defined(value)", func(v value) Result {
		return truth(v.defined())
	}),
	"is_null": inquiry("is_null(value)", func(v value) Result { return truth(v.kind == typeNull || v.absent) }),
	"is_number": inquiry("is_number(value)", func(v value) Result {
		return truth(v.kind == typeNumber && !math.IsInf(v.number, 0))
	}),
	"is_string": inquiry("is_string(value)", func(v value) Result { return truth(v.isText()) }),

	"concat": {
		usage: "concat(string, string, …)", params: []valueType{typeString, typeString, typeString}, variadic: true, optional: 1,
		result: typeString, eval: concat,
	},
	"length": textual("length(string)", typeNumber, 1, func(texts []string) value {
		return numberValue(float64(len(units(texts[0]))))
	}),
	"lower": textual("lower(string)", typeString, 1, func(texts []string) value {
		return stringValue(strings.ToLower(texts[0]))
	}),
	"upper": textual("upper(string)", typeString, 1, func(texts []string) value {
		return stringValue(strings.ToUpper(texts[0]))
	}),
	"contains": textual("contains(string, string)", typeBool, 2, func(texts []string) value {
		return boolValue(truth(strings.Contains(texts[0], texts[1])))
	}),
	"starts_with": textual("starts_with(string, string)", typeBool, 2, func(texts []string) value {
		return boolValue(truth(strings.HasPrefix(texts[0], texts[1])))
	}),
	"ends_with": textual("ends_with(string, string)", typeBool, 2, func(texts []string) value {
		return boolValue(truth(strings.HasSuffix(texts[0], texts[1])))
	}),
	"index_of": textual("index_of(string, string)", typeNumber, 2, func(texts []string) value {
		before, _, found := strings.Cut(texts[0], texts[1])
		if !found {
			return numberValue(-1)
		}
		return numberValue(float64(len(units(before))))
	}),
	"substring": {
		usage: "substring(string, start) or substring(string, start, length)", params: []valueType{typeString, typeNumber, typeNumber}, optional: 1,
		result: typeString, eval: substring,
	},
}

func numeric(usage string, calculate func(float64) float64) function {
	return function{
		usage: usage, params: []valueType{typeNumber}, result: typeNumber,
		eval: func(args []value) value { return numberValue(calculate(args[0].number)) },
	}
}

// inquiry is a function that takes a value of any type and has an answer for
// all of them.
func inquiry(usage string, ask func(value) Result) function {
	return function{
		usage: usage, check: func(valueType) bool { return true }, result: typeBool,
		eval: func(args []value) value { return boolValue(ask(args[0])) },
	}
}

// textual is a function of texts; it is undefined for a property that is null.
func textual(usage string, result valueType, count int, work func([]string) value) function {
	return function{
		usage: usage, params: slices.Repeat([]valueType{typeString}, count), result: result,
		eval: func(args []value) value {
			texts := make([]string, len(args))
			for i, arg := range args {
				if arg.absent {
					return undefinedValue
				}
				texts[i] = arg.text
			}
			return work(texts)
		},
	}
}

func concat(args []value) value {
	var joined strings.Builder
	for _, arg := range args {
		if arg.kind != typeString {
			return undefinedValue
		}
		joined.WriteString(arg.text)
	}
	return stringValue(joined.String())
}

func substring(args []value) value {
	if args[0].absent {
		return undefinedValue
	}
	text, start := units(args[0].text), args[1].number
	end := float64(len(text))
	if start < 0 || start > end || len(args) == 3 && start == end {
		return undefinedValue
	}
	if len(args) == 3 {
		length := args[2].number
		if length < 0 || length > end-start {
			return undefinedValue
		}
		end = math.Trunc(start) + math.Trunc(length)
	}
	return stringValue(fromUnits(text[int(start):int(end)]))
}

// accepts tells whether a function takes arguments of these types.
func (f function) accepts(types []valueType) bool {
	if f.check != nil {
		return len(types) == 1 && f.check(types[0])
	}
	if len(types) < len(f.params)-f.optional || len(types) > len(f.params) && !f.variadic {
		return false
	}
	for i, t := range types {
		if t != typeBody && t != f.params[min(i, len(f.params)-1)] {
			return false
		}
	}
	return true
}

func (c *compiler) call(node *nameNode) part {
	if strings.EqualFold(node.Name, twinChangeIncludes) {
		return c.twinChangeIncludes(node)
	}
	args := make([]part, len(node.Call.List))
	types := make([]valueType, len(args))
	broken := false
	for i, arg := range node.Call.List {
		args[i] = c.expression(arg)
		types[i] = args[i].kind
		broken = broken || types[i] == typeInvalid
	}
	f, known := functions[strings.ToLower(node.Name)]
	switch {
	case !known:
		return c.fail(node.Pos, "unknown function %s%s", node.Name, similarFunction(node.Name))
	case broken:
		return invalid
	case !f.accepts(types):
		given := make([]string, len(args))
		for i, arg := range args {
			given[i] = arg.kind.String()
		}
		advice := ""
		if f.params != nil && slices.Contains(f.params, typeNumber) && f.params[0] == typeNumber {
			advice = hint(typeNumber, append(slices.Clone(args), part{kind: typeNumber})...)
		}
		return c.fail(node.Pos, "expected %s but the arguments are (%s)%s", f.usage, strings.Join(given, ", "), advice)
	}
	return part{kind: f.result, eval: func(in *Input) value {
		values := make([]value, len(args))
		for i, arg := range args {
			values[i] = arg.eval(in)
			if f.params != nil && values[i].kind != f.params[min(i, len(f.params)-1)] {
				return undefinedValue
			}
		}
		return f.eval(values)
	}}
}

// twinChangeIncludes is the one function whose argument is no expression but a
// path into the notification.
const twinChangeIncludes = "twin_change_includes"

var twinPaths = []string{"properties.reported.", "properties.desired.", "tags."}

// twinChangeIncludes compiles twin_change_includes(properties.reported.path),
// which tells whether a twin's change has something there.
func (c *compiler) twinChangeIncludes(node *nameNode) part {
	var path string
	if args := node.Call.List; len(args) == 1 && len(args[0].Rest) == 0 {
		only := args[0].First
		if only.Name != nil && only.Name.Call == nil && len(only.Prefixes) == 0 {
			path = only.Name.Name
		}
	}
	steps, err := parsePath(path)
	if err != nil || !slices.ContainsFunc(twinPaths, func(start string) bool {
		return len(path) > len(start) && strings.EqualFold(path[:len(start)], start)
	}) {
		return c.fail(node.Pos, "expected %s(path) with a path that starts with %s", twinChangeIncludes, strings.Join(twinPaths, ", "))
	}
	if c.telemetry {
		return c.fail(node.Pos, "%s needs the source /twinChangeNotifications", twinChangeIncludes)
	}
	return part{kind: typeBool, eval: func(in *Input) value { return boolValue(in.includes(steps)) }}
}

func similarFunction(name string) string {
	if suspicious.MatchString(name) {
		return fmt.Sprintf(" (%s is one name: put spaces around operators)", name)
	}
	names := slices.Sorted(maps.Keys(functions))
	for _, known := range names {
		if len(name) < 2*len(known) && levenshtein.ComputeDistance(strings.ToLower(name), known) <= 2 {
			return fmt.Sprintf(" (did you mean %s?)", known)
		}
	}
	return ": expected one of " + strings.Join(names, ", ")
}

// decimal is what .NET's double.TryParse takes with NumberStyles.Any in the
// invariant culture, currency signs aside: blanks around, a sign before or
// after or parentheses for a negative number, and commas between digits.
var decimal = regexp.MustCompile(`^[ \t-\r]*(\()?([-+]?)((?:[0-9][0-9,]*(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|(?i:infinity|∞))([-+]?)(\))?[ \t-\r]*$`)

// parseNumber reads a number from a text; undefined when there is none.
func parseNumber(text string) value {
	m := decimal.FindStringSubmatch(text)
	if m == nil {
		return undefinedValue
	}
	open, before, digits, after, closed := m[1], m[2], m[3], m[4], m[5]
	if (open == "") != (closed == "") || before != "" && after != "" || open != "" && before+after != "" {
		return undefinedValue
	}
	number := math.Inf(1)
	if digits[0] < 0x80 && !strings.EqualFold(digits, "infinity") {
		number = parseFloat(strings.ReplaceAll(digits, ",", ""))
	}
	if open != "" || before == "-" || after == "-" {
		number = -number
	}
	return numberValue(number)
}

// parseFloat reads a number that is known to be well-formed; one that is too
// large is infinite.
func parseFloat(text string) float64 {
	number, _ := strconv.ParseFloat(text, 64)
	return number
}
