package route

import (
	"errors"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	filter := Endpoint{Module: "filterModule", Input: "input1"}
	for _, c := range []struct {
		text      string
		source    Source
		condition string
		endpoint  Endpoint
	}{
		{`FROM /messages/modules/tempSensor/outputs/temperatureOutput INTO BrokeredEndpoint("/modules/filterModule/inputs/input1")`,
			Source{FromOutput, "tempSensor", "temperatureOutput"}, "", filter},
		{`select * from /messages/modules/tempSensor/outputs/* into brokeredendpoint('/MODULES/filterModule/INPUTS/input1')`,
			Source{FromOutputs, "tempSensor", ""}, "", filter},
		{"SELECT\n*\nFROM\n/messages/*\nWHERE\n$body.a = 1\nINTO\n$upstream", Source{Kind: FromMessages}, "$body.a = 1", Endpoint{Upstream: true}},
		{"FROM /messages/modules/* WHERE MessageType = 'INTO' INTO $Upstream", Source{Kind: FromModules}, "MessageType = 'INTO'", Endpoint{Upstream: true}},
		{"FROM /messages/modules/my-module_1.x/* INTO $upstream", Source{FromModule, "my-module_1.x", ""}, "", Endpoint{Upstream: true}},
		{"FROM /messages/modules/x INTO $upstream", Source{FromModule, "x", ""}, "", Endpoint{Upstream: true}},
		{"FROM /messages/modules/x/outputs INTO $upstream", Source{FromOutputs, "x", ""}, "", Endpoint{Upstream: true}},
		{"FROM /messages/modules INTO $upstream", Source{Kind: FromModules}, "", Endpoint{Upstream: true}},
		{"FROM /messages INTO $upstream", Source{Kind: FromMessages}, "", Endpoint{Upstream: true}},
		{"FROM /messages/ INTO $upstream", Source{Kind: FromMessages}, "", Endpoint{Upstream: true}},
		{"FROM /* INTO $upstream", Source{Kind: FromAnywhere}, "", Endpoint{Upstream: true}},
		{"FROM /* WHERE true /* a comment */ INTO /* and one more */ $upstream", Source{Kind: FromAnywhere}, "true /* a comment */", Endpoint{Upstream: true}},
		{"  FROM /twinChangeNotifications INTO $upstream  ", Source{Kind: FromTwinChanges}, "", Endpoint{Upstream: true}},
		{"FROM /twinchangenotifications/* INTO $upstream", Source{Kind: FromTwinChanges}, "", Endpoint{Upstream: true}},
		{`FROM /messages/* INTO BrokeredEndpoint("/modules/a\"\u0062/inputs/c'd")`, Source{Kind: FromMessages}, "", Endpoint{Module: `a"b`, Input: "c'd"}},
	} {
		r, err := Parse(c.text)
		if err != nil {
			t.Errorf("%s: %v", c.text, err)
			continue
		}
		condition := ""
		if r.Condition != nil {
			condition = r.Condition.String()
		}
		if r.Source != c.source || condition != c.condition || r.Endpoint != c.endpoint || r.Text != c.text {
			t.Errorf("%s: got %+v %q %+v", c.text, r.Source, condition, r.Endpoint)
		}
	}
}

func TestParseErrors(t *testing.T) {
	for _, c := range []struct {
		text         string
		line, column int
		words        string
	}{
		{"", 1, 1, "expected SELECT * FROM or FROM but found the end"},
		{"FORM /messages/* INTO $upstream", 1, 1, "expected SELECT * FROM or FROM but found FORM"},
		{"SELECT * FORM /messages/* INTO $upstream", 1, 10, "expected FROM but found FORM"},
		{"SELECT FROM /messages/* INTO $upstream", 1, 8, "expected * but found FROM"},
		{"FROM", 1, 5, "expected a source"},
		{"FROM INTO $upstream", 1, 6, "expected a source"},
		{"FROM messages/* INTO $upstream", 1, 6, "starts with /"},
		{"FROM /mesages/* INTO $upstream", 1, 6, "no messages come from /mesages/*"},
		{"FROM /messages/events INTO $upstream", 1, 6, "no messages come from"},
		{"FROM /messages/modules/*/outputs/x INTO $upstream", 1, 24, `"*" cannot be part`},
		{"FROM /messages//modules INTO $upstream", 1, 16, `"" cannot be part`},
		{"FROM /messages/modules/a@b INTO $upstream", 1, 24, `"a@b" cannot be part`},
		{"FROM /messages/* $upstream", 1, 18, "expected WHERE or INTO but found $upstream"},
		{"FROM /messages/*", 1, 17, "expected WHERE or INTO but found the end"},
		{"FROM /messages/* WHERE INTO $upstream", 1, 24, "expected a value"},
		{"FROM /messages/* WHERE a = 'x'", 1, 31, "expected an operator or INTO but found the end"},
		{"FROM /messages/* WHERE (a = 'x' INTO $upstream", 1, 33, "')'"},
		{"FROM /messages/*\nWHERE level > 5\nINTO $upstream", 2, 13, "as_number(level)"},
		{"FROM /messages/* INTO", 1, 22, "expected $upstream or BrokeredEndpoint"},
		{"FROM /messages/* INTO upstream", 1, 31, "expected '('"},
		{"FROM /messages/* INTO $downstream", 1, 23, "expected $upstream or BrokeredEndpoint"},
		{`FROM /messages/* INTO Endpoint("/modules/a/inputs/b")`, 1, 23, "but found Endpoint"},
		{"FROM /messages/* INTO BrokeredEndpoint(5)", 1, 40, "an address in quotes"},
		{`FROM /messages/* INTO BrokeredEndpoint("/modules/a/outputs/b")`, 1, 40, "an address in quotes"},
		{`FROM /messages/* INTO BrokeredEndpoint("/modules//inputs/b")`, 1, 40, "an address in quotes"},
		{`FROM /messages/* INTO BrokeredEndpoint("/modules/a/inputs/b"`, 1, 61, "expected ')'"},
		{`FROM /messages/* INTO BrokeredEndpoint("/modules/a/inputs/b)`, 1, 40, "unterminated string"},
		{"FROM /messages/* INTO $upstream true", 1, 33, "expected the end of the route but found true"},
		{"FROM /messages/* INTO $upstream;", 1, 32, "invalid symbol"},
		{strings.Repeat(" ", MaxLength) + "FROM", 1, 1, "too long"},
	} {
		_, err := Parse(c.text)
		var first *Error
		if !errors.As(err, &first) {
			t.Errorf("%.60s: no error", c.text)
			continue
		}
		if first.Line != c.line || first.Column != c.column || !strings.Contains(first.Message, c.words) {
			t.Errorf("%.60s: %v\n want line %d, column %d: … %s …", c.text, first, c.line, c.column, c.words)
		}
	}
}

func TestParseReportsSourceConditionAndEndpoint(t *testing.T) {
	_, err := Parse("FROM /here WHERE level = 5 INTO $nowhere")
	var all Errors
	if !errors.As(err, &all) || len(all) != 3 || all[0].Column != 6 || all[1].Column != 24 || all[2].Column != 33 {
		t.Errorf("got %v, want mistakes in columns 6, 24 and 33", err)
	}
}

func TestSourceMatches(t *testing.T) {
	type message struct {
		kind           MessageKind
		module, output string
	}
	messages := map[string]message{
		"device":     {Telemetry, "", ""},
		"x":          {Telemetry, "x", ""},
		"x.y":        {Telemetry, "x", "y"},
		"X.Y":        {Telemetry, "X", "Y"},
		"x.z":        {Telemetry, "x", "z"},
		"xy.y":       {Telemetry, "xy", "y"},
		"twinChange": {TwinChange, "", ""},
	}
	for source, want := range map[string]string{
		"/*":                             "device x x.y X.Y x.z xy.y twinChange",
		"/messages/*":                    "device x x.y X.Y x.z xy.y",
		"/messages/modules/*":            "x x.y X.Y x.z xy.y",
		"/messages/modules/x/*":          "x x.y X.Y x.z",
		"/messages/modules/x/outputs/*":  "x.y X.Y x.z",
		"/messages/modules/x/outputs/y":  "x.y X.Y",
		"/twinChangeNotifications":       "twinChange",
		"/Messages/Modules/X/Outputs/Y/": "x.y X.Y",
	} {
		r, err := Parse("FROM " + source + " INTO $upstream")
		if err != nil {
			t.Fatal(err)
		}
		for name, m := range messages {
			expect := false
			for _, one := range strings.Fields(want) {
				expect = expect || one == name
			}
			if got := r.Source.Matches(m.kind, m.module, m.output); got != expect {
				t.Errorf("%s matches %s: %t, want %t", source, name, got, expect)
			}
		}
	}
}

func TestRouteMatches(t *testing.T) {
	for text, want := range map[string]bool{
		"FROM /messages/modules/x/* INTO $upstream":                                         true,
		"FROM /messages/modules/x/* WHERE MessageType = 'Alert' INTO $upstream":             true,
		"FROM /messages/modules/x/* WHERE MessageType = 'None' INTO $upstream":              false,
		"FROM /messages/modules/x/* WHERE gone = 'x' INTO $upstream":                        false,
		"FROM /messages/modules/other/* WHERE $body.machine.temperature > 1 INTO $upstream": false,
	} {
		r, err := Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := r.Matches(Telemetry, "x", "out", reading()); got != want {
			t.Errorf("%s: %t, want %t", text, got, want)
		}
	}
}
