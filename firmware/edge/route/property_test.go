package route

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"
)

func TestRouteRoundTrip(t *testing.T) {
	sourceName := rapid.StringMatching(`[a-zA-Z0-9_.$+!'|&~-][a-zA-Z0-9_.]{0,8}`)
	endpointName := rapid.StringMatching(`[^/\n]{1,8}`)
	conditions := []string{"", "true", "MessageType = 'INTO'", "/* INTO */ a = \"b\"", "$body.a[0]  >  5\n AND {$x} <> 'y'", "twin_change_includes(tags.a)"}
	rapid.Check(t, func(t *rapid.T) {
		r := Route{
			Source: Source{Kind: rapid.SampledFrom([]SourceKind{
				FromAnywhere, FromMessages, FromModules, FromModule, FromOutputs, FromOutput, FromTwinChanges,
			}).Draw(t, "kind")},
			Endpoint: Endpoint{Upstream: rapid.Bool().Draw(t, "upstream")},
		}
		if k := r.Source.Kind; k == FromModule || k == FromOutputs || k == FromOutput {
			r.Source.Module = sourceName.Draw(t, "module")
		}
		if r.Source.Kind == FromOutput {
			r.Source.Output = sourceName.Draw(t, "output")
		}
		if !r.Endpoint.Upstream {
			r.Endpoint.Module, r.Endpoint.Input = endpointName.Draw(t, "to module"), endpointName.Draw(t, "to input")
		}
		if text := rapid.SampledFrom(conditions).Draw(t, "condition"); text != "" {
			condition, err := ParseCondition(text)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.HasPrefix(text, "twin") || r.Source.Kind == FromTwinChanges {
				r.Condition = condition
			}
		}
		again, err := Parse(r.String())
		if err != nil {
			t.Fatalf("%s: %v", r.String(), err)
		}
		if again.Source != r.Source || again.Endpoint != r.Endpoint || again.String() != r.String() {
			t.Fatalf("%s became %s", r.String(), again.String())
		}
	})
}

// term is a random sum with what it should come to: an oracle that knows
// nothing of parsing.
type term struct {
	text  string
	value float64
	level int
}

func drawTerm(t *rapid.T, depth int) term {
	if depth == 0 || rapid.IntRange(0, 3).Draw(t, "leaf") == 0 {
		n := rapid.IntRange(0, 99).Draw(t, "number")
		return term{fmt.Sprint(n), float64(n), 9}
	}
	op := rapid.SampledFrom([]string{"+", "-", "*", "/", "%"}).Draw(t, "operator")
	level := precedence[op]
	left, right := drawTerm(t, depth-1), drawTerm(t, depth-1)
	if left.level < level {
		left.text = "(" + left.text + ")"
	}
	if right.level <= level {
		right.text = "(" + right.text + ")"
	}
	blank := rapid.SampledFrom([]string{" ", "\n", " /* + */ ", "\t\t"}).Draw(t, "blank")
	var value float64
	switch op {
	case "+":
		value = left.value + right.value
	case "-":
		value = left.value - right.value
	case "*":
		value = left.value * right.value
	case "/":
		value = left.value / right.value
	default:
		value = math.Mod(left.value, right.value)
	}
	return term{left.text + blank + op + blank + right.text, value, level}
}

func TestArithmeticAgainstAnOracle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sum := drawTerm(t, 5)
		wanted := text(fmt.Sprint(sum.value))
		condition, err := ParseCondition(sum.text + " = as_number(wanted)")
		if err != nil {
			t.Fatalf("%s: %v", sum.text, err)
		}
		want := True
		if math.IsNaN(sum.value) {
			want = Undefined
		} else if math.IsInf(sum.value, 0) {
			wanted = text(strings.ReplaceAll(*wanted, "Inf", "Infinity"))
		}
		if got := condition.Eval(&Input{Properties: map[string]*string{"wanted": wanted}}); got != want {
			t.Fatalf("%s = %v is %s, want %s", sum.text, sum.value, got, want)
		}
	})
}

// The body is parsed once, and only when a condition asks for it, however many
// conditions look at the message at the same time.
func TestInputIsParsedOnceAndSharedByConditions(t *testing.T) {
	in := reading()
	condition := func(text string) *Condition {
		t.Helper()
		c, err := ParseCondition(text)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	condition("MessageType = 'Alert'").Eval(in)
	if in.parsed != nil {
		t.Error("the body was parsed for a condition that does not look into it")
	}
	look := condition("$body.samples[0] = 18")
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if got := look.Eval(in); got != True {
				t.Errorf("got %s", got)
			}
		})
	}
	wg.Wait()
	in.Body = []byte("{}")
	if got := look.Eval(in); got != True {
		t.Errorf("the body was parsed again: %s", got)
	}
}

func checkPlaces(t *testing.T, text string, err error) {
	t.Helper()
	var all Errors
	if !errors.As(err, &all) || len(all) == 0 {
		t.Fatalf("%q: error is %T", text, err)
	}
	lines := strings.Split(text, "\n")
	for _, one := range all {
		if one.Message == "" || one.Line < 1 || one.Line > len(lines) || one.Column < 1 ||
			one.Column > utf8.RuneCountInString(lines[one.Line-1])+1 {
			t.Fatalf("%q: error is outside the text: %v", text, one)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, text := range []string{
		"", "FROM /* INTO $upstream", "SELECT * FROM /messages/modules/x/outputs/y WHERE a = 'b' INTO BrokeredEndpoint(\"/modules/a/inputs/b\")",
		"FROM /messages/* WHERE /* c */ $body.a[0] > 5\nINTO $upstream", "FROM /x INTO $y", "SELECT FROM", "FROM /messages/*/ WHERE", "FROM\x00/\xff",
		`FROM /* INTO BrokeredEndpoint("/modules/\u0000\\/inputs/\"")`,
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r, err := Parse(text)
		if err != nil {
			checkPlaces(t, text, err)
			return
		}
		again, err := Parse(r.String())
		if err != nil || again.String() != r.String() {
			t.Fatalf("%q reads back as %v, %v", r.String(), again, err)
		}
		r.Matches(Telemetry, "x", "y", reading())
	})
}

func FuzzCondition(f *testing.F) {
	for _, text := range []string{
		"", "true AND not false OR null", "as_number(level) * 2 >= -1.5e3 % 0xFF", "'a' || \"\\u00e9\" <> concat('x', $sensor)", "{$sensor} ?? 'x' = none",
		"$body.machine.temperature > 25 AND $body.samples[3][1] = 8", "substring('abc', 1 / 0, 0 % 0) = ''", "((((", "))))", "a!=b||c", "/* /* */ 1+2=3",
		"- - - NOT NOT -x", "is_null(,)", "$", "$body.", "{$", "'\\ud800'", "twin_change_includes(tags.x)",
	} {
		f.Add(text, []byte(`{"a":[1,{"b":null}]}`))
	}
	f.Fuzz(func(t *testing.T, text string, body []byte) {
		condition, err := ParseCondition(text)
		if err != nil {
			checkPlaces(t, text, err)
			return
		}
		in := reading()
		first := condition.Eval(in)
		if again := condition.Eval(in); again != first || first.String() == "" {
			t.Fatalf("%q is %s and then %s", text, first, again)
		}
		in = reading()
		in.Body = body
		condition.Eval(in)
	})
}
