package route

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
)

func text(s string) *string { return &s }

// reading is a message of a greenhouse with everything that conditions can ask
// for.
func reading() *Input {
	return &Input{
		Body: []byte(`{
			"machine": {"temperature": 31.5, "name": "boiler", "on": true, "off": false, "note": null},
			"samples": [18, 19.5, {"at": "noon"}, [7, 8]],
			"huge": 1e400,
			"taken": "2026-11-22T11:02:03.123Z",
			"day": "2026-11-22",
			"50%": "half",
			"it's": {"a+b": 1}
		}`),
		Properties: map[string]*string{
			"MessageType":           text("Alert"),
			"level":                 text("42"),
			"shelf-no":              text("7"),
			"nothing":               nil,
			"$sensor":               text("from the application"),
			"$body.machine.name":    text("property"),
			"$body.samples[0]":      text("never seen"),
			"Grüße":                 text("straße"),
			"padded":                text("  -1,234.5e1 "),
			"emoji":                 text("a😀b"),
			"$connectionDeviceName": text("shadow"),
		},
		System: map[string]*string{
			"contentType":          text("application/json"),
			"contentEncoding":      text("utf-8"),
			"sensor":               text("from the system"),
			"connectionDeviceName": text("pi"),
			"empty":                nil,
		},
	}
}

func TestEval(t *testing.T) {
	for group, cases := range map[string]map[string]Result{
		"nothing": {"": Undefined, " \n\t": Undefined, "/* only a comment */": Undefined},
		"literals": {
			"5": Undefined, "'text'": Undefined, "true": True, "false": False, "null": False, "undefined": Undefined,
			`"it's" = 'it\'s'`:            True,
			`'\u0041\u00e9' = "Aé"`:       True,
			`'\uD83D\uDE00' = '😀'`:        True,
			`'\\u0041' = "\\" || "u0041"`: True,
			"'two\nlines' = 'two\nlines'": True,
			"0x1F = 31":                   True, "0XfF = 255": True, "0xFFFFFFFFFFFFFFFF = -1": True, "-0x10 = -16": True, "1-0x10 = -15": True,
			".5 = 0.5": True, "-.5 < 0": True, "2.5e-1 = 0.25": True, "1E2 = 100": True, "-7 + 7 = 0": True,
			"1e999 = 1 / 0": True, "-1e999 = -1 / 0": True,
		},
		"precedence": {
			"2 + 3 * 4 = 14": True, "(2 + 3) * 4 = 20": True, "20 - 5 - 5 = 10": True, "100 / 10 / 5 = 2": True,
			"1 < 2 = true": True, "true = 1 < 2": True, "false AND false OR true": True, "false AND (false OR true)": False,
			"NOT false AND false": False, "NOT (false AND false)": True, "NOT NOT true": True, "- - 3 = 3": True,
			"-(2) * 3 = -6": True, "'a' || 'b' = 'ab'": True, "(gone ?? 'x') = gone": Undefined,
			"(none ?? level) = '42'": True, "true OR true AND false": True,
			"7 % 4 = 3": True, "-7 % 4 = -3": True, "7.5 % 2 = 1.5": True,
		},
		"without spaces": {
			"1+2=3": True, "6-1*2=4": True, "as_number(level)*2=84": True, "(3)-1=2": True, "5 -1 = 4": True,
			"MessageType!='Alert'": False, "MessageType||'!'='Alert!'": True, "'a'||'b'='ab'": True,
			"$sensor!='x'": True, "1<2": True, "nothing<>'x'": Undefined,
			"(true)AND(true)": True, "not(true)": False,
		},
		"comments": {
			"/* first */ true": True, "true /* AND false */": True, "/**/1/**/=/* * / */1": True, "8 /* by */ / 2 = 4": True,
		},
		"three values": {
			"undefined AND true": Undefined, "undefined AND false": False, "false AND undefined": False,
			"undefined OR true": True, "true OR undefined": True, "undefined OR false": Undefined,
			"NOT (gone = 'x')": Undefined, "gone = 'x' OR true": True, "gone = 'x' AND false": False,
			"null AND true": False, "null OR true": True, "null OR null": False, "NOT null": True, "null = null": True,
			"null <= null": True, "null < null": False, "undefined = undefined": Undefined, "false < true": True,
			"(null AND undefined) = null": True, "is_defined(null OR undefined)": False,
		},
		"properties": {
			"messagetype = 'Alert'": True, "MESSAGETYPE = 'alert'": False, "shelf-no = '7'": True, "gone = 'x'": Undefined,
			"gone <> 'x'": Undefined, "nothing = ''": Undefined, "nothing <> 'x'": Undefined, "is_null(nothing)": True,
			"is_defined(nothing)": True, "is_defined(gone)": False, "is_null(gone)": False, "is_string(nothing)": False,
			"grüße = 'straße'": True, "level": Undefined, "level < '5'": True,
			"'<' || nothing || '>' = '<>'": True, "is_defined('<' || gone)": False, "(nothing ?? 'x') = 'x'": Undefined,
		},
		"system properties": {
			"$contentType = 'application/json'": True, "$CONTENTTYPE = 'application/json'": True,
			"{$contentEncoding} = 'utf-8'": True, "{ $contentEncoding }='utf-8'": True, "$gone = 'x'": Undefined,
			"$sensor = 'from the application'": True, "{$sensor} = 'from the system'": True,
			"is_null($empty)": True, "is_defined($x[0])": False, "is_defined({$x[0]})": False, "$body": Undefined,
		},
		"body": {
			"$body.machine.temperature > 25": True, "$BODY.machine.temperature = 31.5": True, "$body.Machine.temperature = null": True,
			"25 < $body.machine.temperature": True, "$body.machine.temperature = '31.5'": False,
			"$body.machine.temperature <> '31.5'": True, "$body.machine.temperature < '5'": False, "$body.machine.temperature > '5'": False,
			"$body.machine.on": True, "$body.machine.off": False, "NOT $body.machine.off": True, "$body.machine.temperature": Undefined,
			"$body.machine.on AND $body.machine.off": False, "true AND $body.machine.on": True, "$body.machine.on OR gone = 'x'": True,
			"$body.machine.gone OR true": True, "$body.machine.gone AND true": Undefined,
			"$body.machine.note = null": True, "$body.machine.gone = null": True, "is_null($body.machine.note)": True,
			"is_null($body.machine.gone)": True, "is_null($body.machine.name)": False, "is_defined($body.machine.gone)": True,
			"is_defined($body.machine)": False, "is_defined($body.samples)": False, "$body.machine <> null": Undefined,
			"$body.samples[0] = 18": True, "$body.samples[1] = 19.5": True, "$body.samples[2].at = 'noon'": True,
			"$body.samples[3][1] = 8": True, "$body.samples[9] = null": True, "$body.machine[0] = null": True,
			"$body.samples.at = null": True, "$body.machine.name.deeper = null": True,
			"$body.samples[0] + $body.samples[1] = 37.5": True, "$body.samples[0] * 2 = 36": True, "-$body.machine.temperature = 'x'": Undefined,
			"- $body.samples[0] = -18": True, "$body.samples[0] % 5 = 3": True, "is_defined($body.machine.name + 1)": False,
			"is_number($body.huge)": False, "$body.huge = 1 / 0": True, "$body.taken = $body.taken": Undefined, "is_defined($body.taken)": False,
			"$body.day = '2026-11-22'": True, "$body.50% = 'half'": True, "$body.it's.a+b = 1": True,
			"$body.machine.name = MessageType": False, "$body.machine.note <> nothing": True, "$body.machine.off < $body.machine.on": True,
			"($body.machine.gone ?? 5) = null": True, "$body.machine.temperature < gone": Undefined,
			"$body.machine.name < nothing": False, "$body.day > nothing": True, "$body.day = nothing": False, "$body.machine.note < 5": False, "$body.machine.gone > 5": False,
			"$body.machine.on + 1 = 2": Undefined, "NOT $body.machine.temperature": Undefined,
		},
		"body or property": {
			"$body.machine.name = 'property'": True, "$BODY.Machine.Name = 'property'": True,
			"{$body.machine.name} = 'boiler'": True, "$body.samples[0] = 'never seen'": False,
			"$body.machine.name || '!' = 'property!'": True,
		},
		"questions": {
			"is_bool(1 = 1)": True, "is_bool(level)": False, "is_bool($body.machine.on)": True, "is_bool(null)": False,
			"is_number(5)": True, "is_number(1 / 0)": False, "is_number(0 / 0)": False, "is_number('5')": False,
			"is_number($body.samples[0])": True, "is_string(level)": True, "is_string($body.machine.name)": True,
			"is_string(5)": False, "is_defined(0 / 0)": False, "is_defined(1 / 0)": True, "Is_Null(NULL_)": False,
		},
		"numbers": {
			"as_number(level) = 42": True, "as_number(level) > 41 AND as_number(level) < 43": True,
			"as_number(MessageType) > 0": Undefined, "as_number(gone) > 0": Undefined, "as_number(nothing) > 0": Undefined,
			"as_number(5) = 5": True, "as_number($body.samples[0]) = 18": True, "as_number($body.machine.on) = 1": Undefined,
			"abs(-2.5) = 2.5": True, "ceiling(2.1) = 3": True, "floor(-2.1) = -3": True, "sign(-4) = -1": True, "sign(0) = 0": True,
			"sqrt(9) = 3": True, "is_defined(sqrt(-1))": False, "square(-3) = 9": True, "power(2, 10) = 1024": True, "exp(0) = 1": True,
			"exp(1) > 2.718 AND exp(1) < 2.719": True, "is_defined(exp(1e9))": True, "abs($body.machine.name) = 1": Undefined,
			"power(as_number(gone), 0) = 1": Undefined,
		},
		"texts": {
			"concat('a', level, $body.machine.name) = 'a42property'": True, "concat(level, $body.samples[0]) = '4218'": Undefined,
			"length(emoji) = 4": True, "index_of(emoji, 'b') = 3": True, "substring(emoji, 3) = 'b'": True, "substring(emoji, 1, 2) = '😀'": True,
			"length('') = 0": True, "length(nothing) = 0": Undefined, "length($body.machine) = 0": Undefined,
			"LOWER('ÄB') = 'äb'": True, "upper('äb') = 'ÄB'": True, "contains('abc', '')": True, "contains('abc', 'C')": False,
			"starts_with(MessageType, 'Al')": True, "ends_with(MessageType, 'Al')": False, "index_of('abc', 'z') = -1": True,
			"substring('tuxwatch', 3) = 'watch'": True, "substring('tux', 3) = ''": True, "substring('tux', 3, 0) = ''": Undefined,
			"substring('tux', 4) = ''": Undefined, "substring('tux', -1) = ''": Undefined, "substring('tux', 0, 4) = ''": Undefined,
			"substring('tux', 1.9, 1.1) = 'u'": True, "substring('tux', 0 / 0) = ''": Undefined, "substring(nothing, 0) = ''": Undefined,
			"substring('tux', 0, 1 / 0) = 'tux'": Undefined,
			"'\uffff' < '😀'":                     False, "'a' < '😀'": True, "'B' < 'a'": True, "'ab' > 'a'": True,
		},
	} {
		t.Run(group, func(t *testing.T) {
			for text, want := range cases {
				condition, err := ParseCondition(text)
				if err != nil {
					t.Errorf("%s: %v", text, err)
					continue
				}
				if got := condition.Eval(reading()); got != want {
					t.Errorf("%s is %s, want %s", text, got, want)
				}
			}
		})
	}
}

// The message of a mistake is for people, so each case pins the words that
// matter and not the sentence.
func TestConditionErrors(t *testing.T) {
	for _, c := range []struct {
		text         string
		line, column int
		words        string
	}{
		// Types.
		{"3 + 'a' = 4", 1, 3, "number and string"},
		{"not 5", 1, 1, "NOT needs a truth value but has number"},
		{"not level = '4'", 1, 1, "use parentheses"},
		{"level > 40", 1, 7, "use as_number(level)"},
		{"40 < level", 1, 4, "use as_number(level)"},
		{"true\n  AND level = 1", 2, 13, "as_number(level)"},
		{"$contentType = 5", 1, 14, "as_number($contentType)"},
		{"abs(level) = 1", 1, 1, "as_number(level)"},
		{"- level = 1", 1, 1, "as_number(level)"},
		{"TRUE = true", 1, 6, "the literal is written true"},
		{"a+b = 3", 1, 5, "spaces around operators"},
		{"2*abs(3) = 6", 1, 1, "spaces around operators"},
		{"5 = undefined", 1, 3, "number and undefined"},
		{"$body.a = undefined", 1, 9, "undefined"},
		{"$name[0] = 5", 1, 10, "undefined"},
		{"level AND true", 1, 7, "AND needs two truth values"},
		{"true OR 5", 1, 6, "OR needs two truth values"},
		{"(level ?? 5) = 5", 1, 8, "as_number(level)"},
		{"'a' || 5 = 'a5'", 1, 5, "|| needs two strings"},
		{"1 < 2 < 3", 1, 7, "bool and number"},
		{"not undefined", 1, 1, "undefined"},
		{"0x10000000000000000 = 1", 1, 1, "too large"},
		// Functions.
		{"abs() = 1", 1, 1, "expected abs(number) but the arguments are ()"},
		{"abs(1, 2) = 1", 1, 1, "(number, number)"},
		{"concat('a') = 'a'", 1, 1, "concat(string, string, …)"},
		{"substring('a', 'b') = 'a'", 1, 1, "substring(string, start)"},
		{"as_number(true) = 1", 1, 1, "as_number(string or number)"},
		{"is_null() = true", 1, 1, "is_null(value)"},
		{"true AND lenght(level) = 2", 1, 10, "did you mean length?"},
		{"what_is(level)", 1, 1, "expected one of abs, as_number"},
		// Syntax.
		{"(1 = 1", 1, 1, "missing closing ')'"},
		{"true AND (1 = (2)", 1, 10, "missing closing ')'"},
		{"abs(1 = 2", 1, 10, "',' or ')'"},
		{"1 = 1)", 1, 6, "unmatched closing ')'"},
		{"abs(1)) = 1", 1, 7, "unmatched closing ')'"},
		{"1 = ", 1, 5, "expected a value"},
		{"= 1", 1, 1, "expected a value"},
		{")", 1, 1, "unmatched"},
		{"()", 1, 2, "expected a value"},
		{"abs(,1) = 2", 1, 5, "or ')'"},
		{"1 == 1", 1, 4, "one ="},
		{"true && true", 1, 6, "use AND"},
		{"true | true", 1, 6, "use OR"},
		{"1 2", 1, 3, "expected an operator or the end but found 2"},
		{"level 'x'", 1, 7, "expected an operator"},
		{"into = 'x'", 1, 1, "INTO is a reserved word"},
		{"{sensor} = 'x'", 1, 2, "starts with $"},
		{"{$sensor = 'x'", 1, 10, "'}'"},
		{"a = @", 1, 5, "invalid symbol '@'"},
		{"'x' = [1]", 1, 7, "path into the body"},
		{"level = \"open", 1, 9, "unterminated string"},
		{"level = 'Grüße \\n'", 1, 16, "unknown escape"},
		{"true /* open", 1, 6, "not closed"},
		{"\xff = 1", 1, 1, "UTF-8"},
		// Paths.
		{"$body. = 1", 1, 1, "expected a path"},
		{"$body.a..b = 1", 1, 1, "expected a path"},
		{"$body.a[] = 1", 1, 1, `"a[]"`},
		{"$body.a[x] = 1", 1, 1, `"a[x]"`},
		{"$body.[1] = 1", 1, 1, `"[1]"`},
		{"$body.a[99999999999999999999] = 1", 1, 1, "too large"},
		// Limits.
		{strings.Repeat("(", MaxDepth+1) + "1", 1, MaxDepth + 1, "nested"},
		{strings.Repeat("1", MaxLength+1), 1, 1, "too long"},
	} {
		_, err := ParseCondition(c.text)
		var first *Error
		if !errors.As(err, &first) {
			t.Errorf("%.40s: no error", c.text)
			continue
		}
		if first.Line != c.line || first.Column != c.column || !strings.Contains(first.Message, c.words) {
			t.Errorf("%.40s: %v\n want line %d, column %d: … %s …", c.text, first, c.line, c.column, c.words)
		}
	}
}

func TestEveryMistakeIsReportedOnce(t *testing.T) {
	_, err := ParseCondition("(level > 5 AND nope(1)) OR 3 + 'a' = 3")
	var all Errors
	if !errors.As(err, &all) {
		t.Fatalf("error is %T, want Errors", err)
	}
	var columns []int
	for _, one := range all {
		columns = append(columns, one.Column)
	}
	if fmt.Sprint(columns) != "[8 16 30]" {
		t.Errorf("mistakes in columns %v, want 8, 16 and 30:\n%v", columns, err)
	}
}

func TestTwinChangeIncludes(t *testing.T) {
	change := func() *Input {
		in := reading()
		in.Body = []byte(`{"properties": {"reported": {"fan": {"speed": 3}, "gone": null}}, "tags": {"room": "lab"}}`)
		return in
	}
	for text, want := range map[string]Result{
		"twin_change_includes(properties.reported.fan)":               True,
		"TWIN_CHANGE_INCLUDES(properties.reported.fan.speed)":         True,
		"twin_change_includes(properties.reported.gone)":              True,
		"twin_change_includes(tags.room)":                             True,
		"twin_change_includes(properties.desired.fan)":                False,
		"NOT twin_change_includes(properties.reported.fan.noise)":     True,
		"twin_change_includes(tags.room) AND $body.tags.room = 'lab'": True,
	} {
		condition, err := ParseCondition(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got := condition.Eval(change()); got != want {
			t.Errorf("%s is %s, want %s", text, got, want)
		}
		broken := change()
		broken.Body = []byte("no JSON")
		if got := condition.Eval(broken); got != Undefined {
			t.Errorf("%s is %s for a body that is no JSON", text, got)
		}
	}
	for _, text := range []string{
		"twin_change_includes()", "twin_change_includes(properties.reported)", "twin_change_includes(properties.reported.)", "twin_change_includes(other.x)",
		"twin_change_includes('tags.x')", "twin_change_includes(tags.a, tags.b)", "twin_change_includes(-(tags.a))", "twin_change_includes(tags.a(1))",
	} {
		if _, err := ParseCondition(text); err == nil {
			t.Errorf("%s: no error", text)
		}
	}
	const condition = " WHERE twin_change_includes(tags.x) INTO $upstream"
	for source, valid := range map[string]bool{"/twinChangeNotifications": true, "/*": true, "/messages/*": false} {
		if _, err := Parse("FROM " + source + condition); (err == nil) != valid {
			t.Errorf("FROM %s%s: %v", source, condition, err)
		}
	}
}

func TestLimitsStillAllowWhatFits(t *testing.T) {
	for name, text := range map[string]string{
		"deep":         strings.Repeat("(", MaxDepth) + "true" + strings.Repeat(")", MaxDepth),
		"many NOT":     strings.Repeat("NOT ", 4000) + "true",
		"many minus":   strings.Repeat("- ", 8000) + "1 = 1",
		"many OR":      strings.Repeat("false OR ", 1800) + "true",
		"sum":          strings.Repeat("0 + ", 4000) + "1 = 1",
		"paths":        "$body" + strings.Repeat(".a", 8000) + " = null",
		"deepest body": "$body" + ".samples" + strings.Repeat("[0]", 5000) + " = null",
	} {
		condition, err := ParseCondition(text)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := condition.Eval(reading()); got != True {
			t.Errorf("%s is %s, want true", name, got)
		}
	}
}

func TestAsNumber(t *testing.T) {
	for text, want := range map[string]string{
		"3": "3", " 3\t": "3", "+3": "3", "-3": "-3", "3-": "-3", "3+": "3", "(3)": "-3", "1,234": "1234", "3.": "3", ".5": "0.5",
		"1e3": "1000", "1E-2": "0.01", "Infinity": "+Inf", "-infinity": "-Inf", "1e999": "+Inf", "∞": "+Inf",
		"": "", "x": "", "0x10": "", "1_000": "", "inf": "", "NaN": "", "--3": "", "-3-": "", "(3": "", "(-3)": "", "1 2": "", ",5": "", "1e": "",
	} {
		got := ""
		if v := parseNumber(text); v.defined() {
			got = fmt.Sprint(v.number)
		}
		if got != want {
			t.Errorf("%q is %q, want %q", text, got, want)
		}
	}
}

func TestResultAsJSON(t *testing.T) {
	got, err := json.Marshal([]Result{True, False, Undefined})
	if want := `[true,false,"undefined"]`; err != nil || string(got) != want {
		t.Errorf("got %s, %v, want %s", got, err, want)
	}
}

func TestTheParserLibraryScansByItself(t *testing.T) {
	if _, err := conditionParser.ParseString("", "1 = 1"); err != nil {
		t.Error(err)
	}
	if _, err := conditionParser.ParseString("", "'open"); err == nil || !strings.Contains(err.Error(), "unterminated") {
		t.Errorf("got %v", err)
	}
}
