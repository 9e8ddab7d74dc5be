package route

import (
	"encoding/binary"
	"errors"
	"testing"
	"unicode/utf16"
)

func utf16Bytes(order binary.AppendByteOrder, s string) (b []byte) {
	for _, unit := range utf16.Encode([]rune(s)) {
		b = order.AppendUint16(b, unit)
	}
	return b
}

func utf32Bytes(order binary.AppendByteOrder, s string) (b []byte) {
	for _, r := range s {
		b = order.AppendUint32(b, uint32(r))
	}
	return b
}

func TestWhichBodiesConditionsLookInto(t *testing.T) {
	const object, marked = `{"a": "ö😀"}`, "\ufeff" + `{"a": "ö😀"}`
	little, big := binary.LittleEndian, binary.BigEndian
	condition, err := ParseCondition("$body.a = 'ö😀'")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		contentType, encoding string
		body                  []byte
		want                  Result
	}{
		"utf-8":                   {"application/json", "utf-8", []byte(object), True},
		"any case":                {"Application/JSON", "UTF-8", []byte(object), True},
		"with parameters":         {"application/json; charset=utf-8", "utf-8", []byte(object), True},
		"utf-8 marked":            {"application/json", "utf-8", []byte(marked), True},
		"utf-16":                  {"application/json", "utf-16", utf16Bytes(little, object), True},
		"utf-16 marked":           {"application/json", "UTF-16", utf16Bytes(little, marked), True},
		"utf-16 big-endian":       {"application/json", "utf-16", utf16Bytes(big, marked), True},
		"utf-32":                  {"application/json", "utf-32", utf32Bytes(little, object), True},
		"utf-32 marked":           {"application/json", "UTF-32", utf32Bytes(little, marked), True},
		"utf-32 big-endian":       {"application/json", "utf-32", utf32Bytes(big, marked), True},
		"utf-16 declared utf-8":   {"application/json", "utf-8", utf16Bytes(little, object), Undefined},
		"utf-8 declared utf-16":   {"application/json", "utf-16", []byte(object), Undefined},
		"odd utf-16":              {"application/json", "utf-16", append(utf16Bytes(little, object), 0), Undefined},
		"odd utf-32":              {"application/json", "utf-32", append(utf32Bytes(little, object), 0), Undefined},
		"no character":            {"application/json", "utf-32", []byte{0xff, 0xff, 0xff, 0xff}, Undefined},
		"another type":            {"text/plain", "utf-8", []byte(object), Undefined},
		"no type":                 {"", "utf-8", []byte(object), Undefined},
		"no encoding":             {"application/json", "", []byte(object), Undefined},
		"an encoding not taken":   {"application/json", "latin1", []byte(object), Undefined},
		"malformed":               {"application/json", "utf-8", []byte(`{"a": `), Undefined},
		"two objects":             {"application/json", "utf-8", []byte(object + object), Undefined},
		"an array":                {"application/json", "utf-8", []byte(`["ö😀"]`), Undefined},
		"null":                    {"application/json", "utf-8", []byte("null"), Undefined},
		"empty":                   {"application/json", "utf-8", nil, Undefined},
		"last of two wins":        {"application/json", "utf-8", []byte(`{"a": 1, "a": "ö😀"}`), True},
		"the path's case matters": {"application/json", "utf-8", []byte(`{"A": "ö😀"}`), False},
	} {
		in := &Input{Body: c.body, System: map[string]*string{"ContentType": &c.contentType, "CONTENTENCODING": &c.encoding}}
		if got := condition.Eval(in); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
	if got := condition.Eval(&Input{Body: []byte(object)}); got != Undefined {
		t.Errorf("without system properties: %s", got)
	}
	if got := condition.Eval(&Input{Body: []byte(object), System: map[string]*string{"contentType": nil, "contentEncoding": nil}}); got != Undefined {
		t.Errorf("with null system properties: %s", got)
	}
}

func TestIsDate(t *testing.T) {
	for text, want := range map[string]bool{
		"2026-11-22T11:02:03":                       true,
		"2026-11-22T11:02:03Z":                      true,
		"2026-11-22T11:02:03.123Z":                  true,
		"2026-11-22T11:02:03.1234567+01:00":         true,
		"2026-11-22T11:02:03-0800":                  true,
		"2026-11-22T11:02:03+01":                    true,
		"/Date(1763809323000)/":                     true,
		"/Date(-5+0100)/":                           true,
		"2026-11-22":                                false,
		"2026-11-22 11:02:03":                       false,
		"2026-13-22T11:02:03Z":                      false,
		"2026-11-22T11:02:03,5Z":                    false,
		"2026-11-22T11:02:03Z and more":             false,
		"2026-11-22T11:02:03.12345678901234567890Z": false,
		"/Date(x)/":                                 false,
		"":                                          false,
	} {
		if got := isDate(text); got != want {
			t.Errorf("%q: %t, want %t", text, got, want)
		}
	}
}

// Names that differ only in case are told apart when one is exact; otherwise
// the choice must not change from one evaluation to the next.
func TestPropertyCase(t *testing.T) {
	properties := map[string]*string{"LEVEL": text("upper"), "Level": text("title"), "level": text("lower")}
	for name, want := range map[string]string{"level": "lower", "LEVEL": "upper", "lEVEL": "upper"} {
		for range 20 {
			if got := property(properties, name); got.text != want {
				t.Fatalf("%s is %q, want %q", name, got.text, want)
			}
		}
	}
}

func TestErrorText(t *testing.T) {
	_, err := ParseCondition("1 + 'a' = 2 OR\n nope()")
	want := "line 1, column 3: + needs two numbers but has number and string\nline 2, column 2: unknown function nope: expected one of abs, as_number, ceiling, concat, contains, ends_with, exp, floor, index_of, is_bool, is_defined, is_null, is_number, is_string, length, lower, power, sign, sqrt, square, starts_with, substring, upper"
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
	var all Errors
	if !errors.As(err, &all) || !errors.Is(err, all[1]) {
		t.Error("the single mistakes cannot be found in the error")
	}
}
