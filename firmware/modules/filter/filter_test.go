package filter

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"tuxwatch/firmware/edge"
	"tuxwatch/firmware/edge/edgetest"
	"tuxwatch/firmware/message"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func body(temperature float64) message.Message {
	return message.Message{
		Body:            fmt.Appendf(nil, `{"machine":{"temperature":%v,"pressure":1.5},  "x":[1 ]}`, temperature),
		ContentType:     message.ContentTypeJSON,
		ContentEncoding: message.EncodingUTF8,
	}
}

// send delivers a temperature and returns the MessageType of what came out, or
// "" if nothing did.
func send(t *testing.T, h *edgetest.Harness, temperature float64) string {
	t.Helper()
	before := h.Status().Counters
	if err := h.Send(input, body(temperature)); err != nil {
		t.Fatal(err)
	}
	after := h.Status().Counters
	if after["alerts_sent"]+after["normals_sent"] == before["alerts_sent"]+before["normals_sent"] {
		h.None(output)
		if after["messages_filtered"] != before["messages_filtered"]+1 {
			t.Errorf("%v was neither sent nor counted as filtered", temperature)
		}
		return ""
	}
	return h.Next(output).Properties[MessageType]
}

func TestWhatIsForwarded(t *testing.T) {
	type step struct {
		temperature float64
		want        string
	}
	for _, c := range []struct {
		name    string
		desired string
		steps   []step
	}{
		{"by default above 25", "", []step{
			{24.9, ""}, {25, ""}, {25.0001, Alert}, {30, Alert}, {25, ""}, {-40, ""}, {26, Alert}, {1e300, Alert},
		}},
		{"below zero", `{"TemperatureThreshold":-20}`, []step{{-20, ""}, {-19.5, Alert}, {0, Alert}, {-20.5, ""}}},
		{"every, with a hysteresis that makes no difference", `{"Hysteresis":2}`, []step{
			{26, Alert}, {24, ""}, {26, Alert}, {22, ""}, {26, Alert},
		}},
		{"change", `{"AlertOn":"change"}`, []step{
			{20, ""}, {26, Alert}, {27, ""}, {28, ""}, {25, ""}, {25.5, Alert}, {25.6, ""}, {24, ""},
		}},
		{"change with hysteresis", `{"AlertOn":"change","Hysteresis":2}`, []step{
			{24, ""}, {26, Alert}, {24, ""}, {26, ""}, {23.1, ""}, {26, ""}, {23, ""}, {25, ""}, {26, Alert},
		}},
		{"change and the return to normal", `{"AlertOn":"change","Hysteresis":2,"SendNormal":true}`, []step{
			{20, ""}, {26, Alert}, {24, ""}, {22, Normal}, {21, ""}, {26, Alert}, {23, Normal},
		}},
		{"every and the return to normal", `{"Hysteresis":1,"SendNormal":true}`, []step{
			{20, ""}, {26, Alert}, {26, Alert}, {24.5, ""}, {24, Normal}, {24, ""},
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := edgetest.Start(t, Kind(), nil, c.desired)
			for i, s := range c.steps {
				if got := send(t, h, s.temperature); got != s.want {
					t.Errorf("step %d, %v °C: got %q, want %q", i, s.temperature, got, s.want)
				}
			}
		})
	}
}

func TestMessageIsKept(t *testing.T) {
	h := edgetest.Start(t, Kind(), nil, "")
	in := body(31.5)
	in.ID = "an id"
	in.Properties = map[string]string{"a": "1", "messagetype": "Telemetry"}
	if err := h.Send(input, in); err != nil {
		t.Fatal(err)
	}
	out := h.Next(output)
	if string(out.Body) != string(in.Body) {
		t.Errorf("the body came out as %s", out.Body)
	}
	if diff := cmp.Diff(map[string]string{"a": "1", MessageType: Alert}, out.Properties); diff != "" {
		t.Error(diff)
	}
	if out.ID != in.ID || out.ContentType != in.ContentType || out.ContentEncoding != in.ContentEncoding {
		t.Errorf("the envelope changed: %+v", out)
	}
	if out.Source.Output != output {
		t.Errorf("sent on %q", out.Source.Output)
	}
}

func TestTwinTakesEffectWithTheNextMessage(t *testing.T) {
	h := edgetest.Start(t, Kind(), nil, `{"TemperatureThreshold":50}`)
	reported := func(threshold float64, alertOn string) {
		t.Helper()
		want := map[string]any{"TemperatureThreshold": threshold, "Hysteresis": 0.0, "AlertOn": alertOn, "SendNormal": false}
		if diff := cmp.Diff(want, h.Status().Reported); diff != "" {
			t.Error(diff)
		}
	}
	reported(50, Every)
	expect := func(temperature float64, want string) {
		t.Helper()
		if got := send(t, h, temperature); got != want {
			t.Errorf("%v: got %q, want %q", temperature, got, want)
		}
	}
	set := func(desired string) {
		t.Helper()
		if err := h.SetDesired(desired); err != nil {
			t.Fatal(err)
		}
	}
	expect(30, "")
	set(`{"TemperatureThreshold":29}`)
	reported(29, Every)
	expect(30, Alert)
	set(`{"TemperatureThreshold":29,"AlertOn":"change"}`)
	reported(29, Change)
	expect(30, "") // it is alerting already
	set(`{"TemperatureThreshold":40,"AlertOn":"change"}`)
	expect(30, "")
	expect(41, Alert)

	for _, bad := range []string{
		`{"TemperatureThreshold":"hot"}`, `{"Hysteresis":-1}`, `{"AlertOn":"always"}`, `{"AlertOn":"Change"}`, `{"SendNormal":1}`,
	} {
		if err := h.SetDesired(bad); err == nil {
			t.Errorf("%s was accepted", bad)
		}
	}
	reported(40, Change)
	expect(20, "")
	expect(41, Alert)
}

func TestPoisonIsCountedAndDropped(t *testing.T) {
	h := edgetest.Start(t, Kind(), nil, "")
	poison := []string{
		``, `x`, `null`, `[]`, `31`, `"31"`, `{}`, `{"machine":null}`, `{"machine":31}`, `{"machine":{}}`, `{"machine":{"pressure":2}}`,
		`{"machine":{"temperature":null}}`, `{"machine":{"temperature":"31"}}`, `{"machine":{"temperature":true}}`,
		`{"machine":{"temperature":1e999}}`, `{"machine":{"temperature":NaN}}`, `{"machine":{"temperature":31}`,
		`{"machine":{"temperature":31}} more`, "\xff\xfe{\x00}\x00", "\xff\xd8\xff\xe0 a picture",
	}
	for _, p := range poison {
		if err := h.Send(input, message.Message{Body: []byte(p)}); err != nil {
			t.Errorf("%q was given back to its sender: %v", p, err)
		}
	}
	h.None(output)
	if got := h.Status().Counters["messages_rejected"]; got != int64(len(poison)) {
		t.Errorf("%d rejected, want %d", got, len(poison))
	}
	if got := send(t, h, 31); got != Alert {
		t.Errorf("after that a good message was %q", got)
	}
	if s := h.Status(); s.Restarts != 0 || !s.Healthy {
		t.Errorf("%+v", s)
	}
}

// listener hears what the module logs.
type listener struct {
	testing.TB
	mu    sync.Mutex
	heard strings.Builder
}

func (l *listener) Logf(format string, args ...any) {
	l.mu.Lock()
	fmt.Fprintf(&l.heard, format, args...)
	l.mu.Unlock()
	l.TB.Logf(format, args...)
}

func (l *listener) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.heard.String(), text)
}

func TestPoisonIsLoggedOncePerBurst(t *testing.T) {
	log := &listener{TB: t}
	h := edgetest.Start(log, Kind(), nil, "")
	for burst := 1; burst <= 2; burst++ {
		for range 5 {
			if err := h.Send(input, message.Message{Body: []byte("x")}); err != nil {
				t.Fatal(err)
			}
		}
		if n := log.count("message dropped"); n != burst {
			t.Errorf("burst %d: dropped messages were logged %d times", burst, n)
		}
		send(t, h, 20)
		if n := log.count("dropped=5"); n != burst {
			t.Errorf("burst %d: its end was logged %d times", burst, n)
		}
	}
}

func TestAlertThatWasNotTakenIsTriedAgain(t *testing.T) {
	h := edgetest.Start(t, Kind(), nil, `{"AlertOn":"change"}`)
	full := errors.New("the disk is full")
	h.Refuse(func(string, message.Message) error { return full })
	if err := h.Send(input, body(31)); !errors.Is(err, full) {
		t.Fatalf("the sender was told %v", err)
	}
	h.Refuse(nil)
	if got := send(t, h, 31); got != Alert {
		t.Errorf("the alert that nobody took was not sent again: %q", got)
	}
	if got := send(t, h, 31); got != "" {
		t.Errorf("sent once more: %q", got)
	}
	h.Eventually(func(s edge.ModuleStatus) bool { return s.Counters["send_failures"] == 1 })
}

// TestJudge holds the decision against the words of the package's
// documentation, for any properties and temperatures.
func TestJudge(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		degrees := rapid.Float64Range(-60, 160)
		p := Properties{
			TemperatureThreshold: degrees.Draw(t, "threshold"), Hysteresis: rapid.Float64Range(0, 20).Draw(t, "hysteresis"),
			AlertOn: rapid.SampledFrom([]string{Every, Change}).Draw(t, "alertOn"), SendNormal: rapid.Bool().Draw(t, "sendNormal"),
		}
		if err := p.Validate(); err != nil {
			t.Fatal(err)
		}
		alerting, alerts := false, 0
		for _, temperature := range rapid.SliceOf(degrees).Draw(t, "temperatures") {
			after, messageType := judge(p, alerting, temperature)
			above := temperature > p.TemperatureThreshold
			switch {
			case messageType == Alert && !above:
				t.Fatalf("alert at %v", temperature)
			case above && !after:
				t.Fatalf("armed at %v", temperature)
			case above && p.AlertOn == Every && messageType != Alert:
				t.Fatalf("no alert at %v", temperature)
			case messageType == Normal && (!p.SendNormal || !alerting || after):
				t.Fatalf("return to normal from %v to %v", alerting, after)
			case alerting && !after && temperature > p.TemperatureThreshold-p.Hysteresis:
				t.Fatalf("alert over at %v", temperature)
			}
			if messageType == Alert {
				alerts++
			}
			if !after {
				alerts = 0
			}
			if p.AlertOn == Change && alerts > 1 {
				t.Fatal("two alerts without a return to normal")
			}
			alerting = after
		}
	})
}

func FuzzTemperature(f *testing.F) {
	for _, seed := range []string{`{"machine":{"temperature":31.5}}`, `{"Machine":{"TEMPERATURE":-1e3}}`, `[]`, `{"machine":[{}]}`, "\xff"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		temperature, err := temperatureOf(body)
		if err != nil {
			return
		}
		if !json.Valid(body) {
			t.Errorf("%q has the temperature %v and is not JSON", body, temperature)
		}
		if _, err := json.Marshal(temperature); err != nil {
			t.Errorf("the temperature is no number: %v", err)
		}
	})
}
