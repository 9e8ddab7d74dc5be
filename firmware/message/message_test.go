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

func TestSightingsJSON(t *testing.T) {
	at := func(seconds int64) Time { return Time{time.Unix(seconds, 0)} }
	for _, c := range []struct {
		body any
		want string
	}{
		{
			Sighting{
				IsPenguin: true, Event: SightingStart, ID: "1", Label: "penguin", Probability: 0.75, BestProbability: 0.9,
				BestTime: at(2), Region: "door", Frames: 3, Started: at(1), Model: "m", ModelVersion: "2", Camera: "c", Topic: "t",
				TimeCreated: at(3), Thumbnail: []byte("jpeg"),
			},
			`{"IsPenguin":true,"event":"start","id":"1","label":"penguin","probability":0.75,"bestProbability":0.9,` +
				`"bestTime":"1970-01-01T00:00:02.000Z","region":"door","frames":3,"started":"1970-01-01T00:00:01.000Z",` +
				`"model":"m","modelVersion":"2","camera":"c","topic":"t","timeCreated":"1970-01-01T00:00:03.000Z","thumbnail":"anBlZw=="}`,
		},
		{
			Sighting{Event: SightingEnd, ID: "1", Reason: "gone", Label: "penguin", BestTime: at(2), Frames: 9, Started: at(1), Ended: at(8), TimeCreated: at(8)},
			`{"IsPenguin":false,"event":"end","id":"1","reason":"gone","label":"penguin","probability":0,"bestProbability":0,` +
				`"bestTime":"1970-01-01T00:00:02.000Z","frames":9,"started":"1970-01-01T00:00:01.000Z",` +
				`"ended":"1970-01-01T00:00:08.000Z","timeCreated":"1970-01-01T00:00:08.000Z"}`,
		},
		{
			SightingsReset{Event: SightingReset, TimeCreated: at(1)},
			`{"IsPenguin":false,"event":"reset","timeCreated":"1970-01-01T00:00:01.000Z"}`,
		},
	} {
		m, err := JSON(c.body)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c.want, string(m.Body)); diff != "" {
			t.Error(diff)
		}
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
