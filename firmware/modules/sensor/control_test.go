package sensor

import "testing"

func TestParseControl(t *testing.T) {
	for body, want := range map[string]bool{
		`[{"command":0}]`: true, `{"command":0}`: true, ` [ { "command" : 0 } ] `: true, "\n{\"Command\":0}": true,
		`[{"command":1}]`: false, `{"command":1}`: false, `[{"command":1},{"command":0}]`: true,
		`[{"command":0,"properties":{}}]`: true,
	} {
		if reset, err := parseControl([]byte(body)); err != nil || reset != want {
			t.Errorf("%s: %v, %v", body, reset, err)
		}
	}
	for _, body := range malformedControls {
		if reset, err := parseControl([]byte(body)); err == nil {
			t.Errorf("%q was taken, reset %v", body, reset)
		} else if reset {
			t.Errorf("%q: reset with an error", body)
		}
	}
}

var malformedControls = []string{
	``, `x`, `0`, `null`, `"reset"`, `[]`, `{}`, `[{}]`, `[null]`, `[0]`, `{"command":null}`, `{"command":"0"}`, `{"command":0.5}`,
	`{"command":2}`, `{"command":-1}`, `[{"command":0},{"command":2}]`, `[{"command":0},{}]`, `[{"command":0}`, `[{"command":0}] x`, `{"command":1e99}`,
}

func FuzzControl(f *testing.F) {
	f.Add([]byte(`[{"command":0}]`))
	f.Add([]byte(`{"command":1}`))
	for _, body := range malformedControls {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		if reset, err := parseControl(body); reset && err != nil {
			t.Errorf("%q: reset with the error %v", body, err)
		}
	})
}
