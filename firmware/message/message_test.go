package message

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func number(v float64) *float64 { return &v }

func TestClimateIsTheWorkshopsJSON(t *testing.T) {
	created := time.Date(2026, 11, 22, 12, 2, 3, 123456789, time.FixedZone("CET", 3600))
	for _, c := range []struct {
		name string
		body Climate
		want string
	}{
		{
			"simulated",
			Climate{
				Machine:     Machine{Temperature: number(21.3), Pressure: number(1)},
				Ambient:     &Ambient{Temperature: number(20.8), Humidity: number(25)},
				TimeCreated: Time{created},
			},
			`{"machine":{"temperature":21.3,"pressure":1},"ambient":{"temperature":20.8,"humidity":25},"timeCreated":"2026-11-22T11:02:03.123Z"}`,
		},
		{
			"a chip that measures temperature alone",
			Climate{Machine: Machine{Temperature: number(-40)}, TimeCreated: Time{created}},
			`{"machine":{"temperature":-40},"timeCreated":"2026-11-22T11:02:03.123Z"}`,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, err := JSON(c.body)
			if err != nil {
				t.Fatal(err)
			}
			if got := string(m.Body); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
			if m.ContentType != "application/json" || m.ContentEncoding != "utf-8" {
				t.Errorf("content type %q, encoding %q", m.ContentType, m.ContentEncoding)
			}
			var back Climate
			if err := json.Unmarshal(m.Body, &back); err != nil {
				t.Fatal(err)
			}
			if !back.TimeCreated.Equal(created.Truncate(time.Millisecond)) {
				t.Errorf("time came back as %v", back.TimeCreated)
			}
		})
	}
}

func TestPenguinSaysIsPenguinFirst(t *testing.T) {
	m, err := JSON(Penguin{IsPenguin: true, Probability: 0.97, Label: "penguin", TimeCreated: Time{time.Unix(0, 0)}})
	if err != nil {
		t.Fatal(err)
	}
	want := `{"IsPenguin":true,"probability":0.97,"label":"penguin","timeCreated":"1970-01-01T00:00:00.000Z"}`
	if diff := cmp.Diff(want, string(m.Body)); diff != "" {
		t.Error(diff)
	}
}

func TestTimeRefusesOtherForms(t *testing.T) {
	for _, text := range []string{`12`, `"yesterday"`, `"2026-11-22"`, `null1`} {
		var at Time
		if err := json.Unmarshal([]byte(text), &at); err == nil {
			t.Errorf("%s was taken as %v", text, at)
		}
	}
}

func TestWithLeavesTheOriginalAlone(t *testing.T) {
	first := Message{Properties: map[string]string{"a": "1"}}
	second := first.With("b", "2")
	if diff := cmp.Diff(map[string]string{"a": "1"}, first.Properties); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(map[string]string{"a": "1", "b": "2"}, second.Properties); diff != "" {
		t.Error(diff)
	}
	if third := (Message{}).With("x", "y"); third.Properties["x"] != "y" {
		t.Error("With on a message without properties lost the property")
	}
}

func TestJSONNamesWhatCannotBeEncoded(t *testing.T) {
	if _, err := JSON(make(chan int)); err == nil {
		t.Fatal("a channel was encoded")
	}
}
