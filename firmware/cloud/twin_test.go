package cloud

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
	"pgregory.net/rapid"
)

// scriptedTwin is a hub whose answers about the twin a test decides.
type scriptedTwin struct {
	t *testing.T
	h *fakeHub

	mu       sync.Mutex
	conn     *connectionToHub
	requests []string // "GET" or "PATCH {…}", as they came
	get      func(n int) (status int, body string)
	patch    func(n int) (status int) // 0: no answer
	gets     int
	patched  int
}

func newScriptedTwin(t *testing.T) *scriptedTwin {
	s := &scriptedTwin{t: t}
	s.patch = func(int) int { return 204 }
	s.h = startFakeHub(t, func(c *connectionToHub) {
		s.mu.Lock()
		s.conn = c
		s.mu.Unlock()
		for p := c.next(); p != nil; p = c.next() {
			s.handle(c, p)
		}
	})
	return s
}

func (s *scriptedTwin) handle(c *connectionToHub, p *packets.PublishPacket) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, rid, _ := strings.Cut(p.TopicName, "$rid=")
	status, body := 0, ""
	switch {
	case strings.HasPrefix(p.TopicName, "$iothub/twin/GET/"):
		s.requests = append(s.requests, "GET")
		s.gets++
		status, body = s.get(s.gets)
	case strings.HasPrefix(p.TopicName, "$iothub/twin/PATCH/properties/reported/"):
		s.requests = append(s.requests, "PATCH "+string(p.Payload))
		s.patched++
		status = s.patch(s.patched)
	default:
		s.t.Errorf("published on %s", p.TopicName)
	}
	if status != 0 {
		s.send(c, fmt.Sprintf("$iothub/twin/res/%d/?$rid=%s&$version=9", status, rid), body)
	}
}

func (s *scriptedTwin) send(c *connectionToHub, topic, body string) {
	p := packets.NewControlPacket(packets.Publish).(*packets.PublishPacket)
	p.TopicName, p.Payload = topic, []byte(body)
	p.Write(c)
}

// desired sends a change of the desired properties.
func (s *scriptedTwin) desired(version int, body string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.send(s.conn, fmt.Sprintf("$iothub/twin/PATCH/properties/desired/?$version=%d", version), body)
}

func (s *scriptedTwin) seen() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.requests, " ")
}

func (s *scriptedTwin) run(device Device) *Connection {
	c, _ := run(s.t, s.h.config(s.t), openOutbox(s.t), device, func(c *Connection) {
		c.twinTiming = twinTiming{answer: patience, pause: 5 * time.Millisecond, maxPause: 20 * time.Millisecond}
	})
	return c
}

func TestAMissedChangeOfDesiredPropertiesGetsTheWholeTwin(t *testing.T) {
	s := newScriptedTwin(t)
	s.get = func(n int) (int, string) {
		return 200, fmt.Sprintf(`{"desired":{"n":%d,"$version":%d},"reported":{"$version":1}}`, n, []int{0, 5, 8}[n])
	}
	device := newFakeDevice(`{}`)
	s.run(device)
	eventually(t, "the first twin", func() bool { return device.last() == `5 full {"n":1}` })
	s.desired(6, `{"a":1,"$version":6}`)
	eventually(t, "the next change", func() bool { return device.last() == `6 patch {"a":1}` })
	s.desired(6, `{"a":"again","$version":6}`)
	s.desired(4, `{"a":"old","$version":4}`)
	s.desired(8, `{"b":1,"$version":8}`) // 7 was missed
	eventually(t, "the whole twin", func() bool { return device.last() == `8 full {"n":2}` })
	if got, want := s.seen(), "GET GET"; got != want {
		t.Errorf("asked for %s, want %s", got, want)
	}
	device.mu.Lock()
	defer device.mu.Unlock()
	if len(device.applied) != 3 {
		t.Errorf("applied %v", device.applied)
	}
}

func TestATwinOlderThanAChangeAlreadySeenIsAskedForAgain(t *testing.T) {
	s := newScriptedTwin(t)
	s.get = func(n int) (int, string) {
		if n == 1 {
			// The change overtakes the answer.
			s.send(s.conn, "$iothub/twin/PATCH/properties/desired/?$version=3", `{"a":3,"$version":3}`)
			return 200, `{"desired":{"a":2,"$version":2},"reported":{}}`
		}
		return 200, `{"desired":{"a":3,"$version":3},"reported":{}}`
	}
	device := newFakeDevice(`{}`)
	s.run(device)
	eventually(t, "the new one", func() bool { return device.last() == `3 full {"a":3}` })
	device.mu.Lock()
	defer device.mu.Unlock()
	if len(device.applied) != 1 {
		t.Errorf("applied %v", device.applied)
	}
}

func TestReportingIsTriedAgainWhenTheHubIsBusy(t *testing.T) {
	s := newScriptedTwin(t)
	s.get = func(n int) (int, string) {
		if n == 1 {
			return 429, ""
		}
		return 200, `{"desired":{"$version":1},"reported":{"kept":1,"gone":2,"$version":4}}`
	}
	s.patch = func(n int) int { return []int{0, 429, 500, 204}[n] }
	device := newFakeDevice(`{"kept":1,"new":true}`)
	c := s.run(device)
	const patch = ` PATCH {"gone":null,"new":true}`
	eventually(t, "three tries", func() bool { return s.seen() == "GET GET"+patch+patch+patch })
	eventually(t, "in step", func() bool { return c.State().TwinError == "" })
	if s := c.State(); s.Status != Connected || s.Connections != 1 {
		t.Errorf("%+v", s)
	}
}

func TestWhatTheHubWillNotTakeIsNotReportedAgainAndAgain(t *testing.T) {
	s := newScriptedTwin(t)
	s.get = func(int) (int, string) { return 200, `{"desired":{"$version":1},"reported":{}}` }
	s.patch = func(n int) int { return []int{0, 400, 204}[n] }
	device := newFakeDevice(`{"bad":1}`)
	c := s.run(device)
	eventually(t, "refused", func() bool { return strings.Contains(c.State().TwinError, "400") })
	device.report(`{"bad":1}`) // nothing new
	device.report(`{"bad":1,"other":2}`)
	eventually(t, "the next change is sent", func() bool { return c.State().TwinError == "" })
	if got, want := s.seen(), `GET PATCH {"bad":1} PATCH {"bad":1,"other":2}`; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestAHubThatDoesNotAnswerAboutTheTwinIsAskedAgain(t *testing.T) {
	s := newScriptedTwin(t)
	s.get = func(n int) (int, string) {
		if n < 3 {
			return 0, ""
		}
		return 200, `{"desired":{"$version":1},"reported":{}}`
	}
	device := newFakeDevice(`{}`)
	c, _ := run(t, s.h.config(t), openOutbox(t), device, func(c *Connection) {
		c.twinTiming = twinTiming{answer: 50 * time.Millisecond, pause: time.Millisecond, maxPause: 10 * time.Millisecond}
	})
	eventually(t, "the twin", func() bool { return device.last() == `1 full {}` })
	eventually(t, "in step", func() bool { return c.State().TwinError == "" })
}

func TestRejectedDesiredPropertiesDoNotStopTheTwin(t *testing.T) {
	s := newScriptedTwin(t)
	s.get = func(int) (int, string) { return 200, `{"desired":{"a":1,"$version":1},"reported":{}}` }
	device := newFakeDevice(`{}`)
	device.reject = true
	s.run(device)
	eventually(t, "the twin", func() bool { return device.last() != "" })
	s.desired(2, `{"a":2}`)
	eventually(t, "the change", func() bool { return device.last() == `2 patch {"a":2}` })
}

// merge applies a merge patch as RFC 7386, section 2, has it.
func merge(target, patch any) any {
	p, ok := patch.(object)
	if !ok {
		return patch
	}
	t, ok := target.(object)
	if !ok {
		t = object{}
	}
	result := object{}
	for name, value := range t {
		result[name] = value
	}
	for name, value := range p {
		if value == nil {
			delete(result, name)
		} else {
			result[name] = merge(result[name], value)
		}
	}
	return result
}

func TestDifferenceIsTheMergePatch(t *testing.T) {
	value := rapid.Custom(func(t *rapid.T) any {
		return rapid.SampledFrom([]any{json.Number("1"), json.Number("2.5"), "x", true, []any{"a"}, object{}}).Draw(t, "value")
	})
	var document *rapid.Generator[object]
	depth := 0
	document = rapid.Custom(func(t *rapid.T) object {
		depth++
		defer func() { depth-- }()
		o := object{}
		for range rapid.IntRange(0, 4).Draw(t, "members") {
			name := rapid.SampledFrom([]string{"a", "b", "c", "d"}).Draw(t, "name")
			if depth < 3 && rapid.Bool().Draw(t, "nested") {
				o[name] = document.Draw(t, "object")
			} else {
				o[name] = value.Draw(t, "leaf")
			}
		}
		return o
	})
	rapid.Check(t, func(t *rapid.T) {
		from, to := document.Draw(t, "from"), document.Draw(t, "to")
		patch := difference(from, to)
		if got := merge(from, patch); !reflect.DeepEqual(got, to) {
			t.Fatalf("%v with %v is %v, want %v", from, patch, got, to)
		}
		if reflect.DeepEqual(from, to) && len(patch) != 0 {
			t.Fatalf("no difference, but the patch %v", patch)
		}
	})
	// null in the document means the same as leaving it out.
	if got := difference(object{}, object{"a": nil}); len(got) != 0 {
		t.Errorf("got %v", got)
	}
	if got := difference(object{"a": "x"}, object{"a": nil}); !reflect.DeepEqual(got, object{"a": nil}) {
		t.Errorf("got %v", got)
	}
}
