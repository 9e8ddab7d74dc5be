package cloud

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// twin keeps the device's twin in step with Azure IoT Hub during one
// connection. Desired changes are sent only to a connected device, so the
// whole twin is asked for at the start, and again whenever a version is missing.
// Of the reported properties only what differs from what the hub has is sent,
// one patch at a time, so that changes in quick succession travel together.
type twin struct {
	session *session
	device  Device
	log     *slog.Logger
	get     func(rid string) error
	patch   func(rid string, patch []byte) error

	answers chan twinAnswer
	patches chan desiredPatch
	again   chan struct{} // capacity 1
	next    int           // request id
}

type twinAnswer struct {
	rid    string
	status int
	body   []byte
}

type desiredPatch struct {
	version int64
	body    []byte
}

func newTwin(s *session, device Device, log *slog.Logger, get func(string) error, patch func(string, []byte) error) *twin {
	return &twin{
		session: s, device: device, log: log, get: get, patch: patch,
		answers: make(chan twinAnswer), patches: make(chan desiredPatch), again: make(chan struct{}, 1),
	}
}

func (t *twin) answer(ctx context.Context, a twinAnswer) {
	select {
	case t.answers <- a:
	case <-ctx.Done():
	}
}

func (t *twin) desired(ctx context.Context, p desiredPatch) {
	select {
	case t.patches <- p:
	case <-ctx.Done():
	}
}

// resync makes it ask for the whole twin.
func (t *twin) resync() {
	select {
	case t.again <- struct{}{}:
	default:
	}
}

// twinTiming says how long to wait.
type twinTiming struct {
	answer   time.Duration // for an answer of the hub
	pause    time.Duration // first, after the hub could not do it now
	maxPause time.Duration
}

var defaultTwinTiming = twinTiming{answer: 30 * time.Second, pause: 2 * time.Second, maxPause: 2 * time.Minute}

// run is a loop around what is known and what is asked: at any time at most
// one request is on its way.
func (t *twin) run(ctx context.Context) error {
	var (
		version int64      // of the desired properties that the device has
		newest  int64      // version that was seen
		known   bool       // whether the hub's twin is known in this connection
		hub     = object{} // reported properties as the hub has them
		pending string     // request id of the request on its way
		sent    object     // what was sent with it; nil for GET
		refused object     // reported properties that the hub will not take
		timing  = t.session.connection.twinTiming
		pause   = timing.pause // before the next try
		dirty   = true         // the reported properties may differ
	)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	timer.Stop()
	waiting := false // for the timer, before the next request
	failed := func(what string, err error) {
		t.log.Warn("The device twin is not in step with the hub; it is tried again", "doing", what, "error", err, "in", pause)
		t.session.connection.update(func(s *State) { s.TwinError = fmt.Sprintf("%s: %v", what, err) })
		pending, sent, waiting = "", nil, true
		timer.Reset(pause)
		pause = min(2*pause, timing.maxPause)
	}
	ask := func() {
		if pending != "" || waiting {
			return
		}
		rid := strconv.Itoa(t.next + 1)
		if !known {
			t.next++
			if err := t.get(rid); err != nil {
				failed("asking for the twin", err)
				return
			}
			pending, sent = rid, nil
			timer.Reset(timing.answer)
			return
		}
		if !dirty {
			return
		}
		dirty = false
		reported, err := parseObject(t.device.Reported())
		if err != nil {
			t.log.Error("The reported properties are not a JSON object", "error", err)
			return
		}
		patch := difference(hub, reported)
		if len(patch) == 0 || refused != nil && reflect.DeepEqual(refused, reported) {
			return
		}
		data, err := json.Marshal(patch)
		if err != nil {
			t.log.Error("The reported properties cannot be encoded", "error", err)
			return
		}
		t.next++
		if err := t.patch(rid, data); err != nil {
			dirty = true
			failed("reporting properties", err)
			return
		}
		pending, sent = rid, reported
		timer.Reset(timing.answer)
	}
	inStep := func() {
		pause = timing.pause
		t.session.connection.update(func(s *State) { s.TwinError = "" })
	}
	for {
		ask()
		select {
		case <-ctx.Done():
			return nil
		case <-t.device.ReportedChanged():
			dirty = true
		case <-t.again:
			known = false
		case <-timer.C:
			if waiting {
				waiting = false
				break
			}
			what := "asking for the twin"
			if sent != nil {
				what, dirty = "reporting properties", true
				// It may have arrived or not; only the hub knows what it has.
				known = false
			}
			failed(what, fmt.Errorf("no answer within %v", timing.answer))
		case p := <-t.patches:
			newest = max(newest, p.version)
			switch {
			case !known || p.version <= version:
				// The twin that is asked for has it, or the device has it.
			case p.version == version+1:
				t.apply(ctx, p.body, p.version, false)
				version = p.version
			default:
				t.log.Info("A change of the desired properties was missed; getting the whole twin", "have", version, "got", p.version)
				known = false
			}
		case a := <-t.answers:
			if a.rid != pending || pending == "" {
				break // of a request that was given up
			}
			timer.Stop()
			wasSent := sent
			pending, sent = "", nil
			switch {
			case wasSent == nil && a.status == http.StatusOK:
				var document azureTwinDocument
				if err := json.Unmarshal(a.body, &document); err != nil {
					failed("reading the twin", err)
					break
				}
				got, err := versionOf(document.Desired)
				if err != nil {
					failed("reading the twin", err)
					break
				}
				if hub, err = objectOf(document.Reported); err != nil {
					failed("reading the twin", err)
					break
				}
				if got < newest {
					failed("asking for the twin", fmt.Errorf("version %d came, %d was announced", got, newest))
					break
				}
				known, dirty, version = true, true, got
				body, err := json.Marshal(withoutMetadata(document.Desired))
				if err != nil {
					failed("reading the twin", err)
					break
				}
				t.apply(ctx, body, got, true)
				inStep()
			case wasSent != nil && (a.status == http.StatusNoContent || a.status == http.StatusOK):
				hub, refused = wasSent, nil
				inStep()
			case wasSent != nil && a.status == http.StatusBadRequest:
				// Sending the same again would not help.
				refused = wasSent
				t.log.Error("The hub does not take the reported properties; the next change is sent again", "status", a.status)
				t.session.connection.update(func(s *State) { s.TwinError = "the hub does not take the reported properties (status 400)" })
			case wasSent != nil:
				dirty = true
				failed("reporting properties", fmt.Errorf("status %d", a.status))
			default:
				failed("asking for the twin", fmt.Errorf("status %d", a.status))
			}
		}
	}
}

func (t *twin) apply(ctx context.Context, body []byte, version int64, full bool) {
	if !full {
		object, err := parseRaw(body)
		if err != nil {
			t.log.Warn("A change of the desired properties is not a JSON object", "error", err)
			return
		}
		if body, err = json.Marshal(withoutMetadata(object)); err != nil {
			t.log.Warn("A change of the desired properties cannot be read", "error", err)
			return
		}
	}
	if err := t.device.ApplyDesired(ctx, body, version, full); err != nil {
		t.log.Warn("The device rejects desired properties and keeps the last good ones", "version", version, "error", err)
	}
	t.session.connection.update(func(s *State) { s.DesiredVersion = version })
}

type object = map[string]any

// parseObject reads a JSON object with numbers as they are written.
func parseObject(data []byte) (object, error) {
	if len(bytes.TrimSpace(data)) == 0 {
		return object{}, nil
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	var o object
	if err := decoder.Decode(&o); err != nil {
		return nil, err
	}
	if o == nil {
		o = object{}
	}
	return o, nil
}

func parseRaw(data []byte) (o map[string]json.RawMessage, err error) {
	err = json.Unmarshal(data, &o)
	return o, err
}

func objectOf(raw map[string]json.RawMessage) (object, error) {
	data, err := json.Marshal(withoutMetadata(raw))
	if err != nil {
		return nil, err
	}
	return parseObject(data)
}

// withoutMetadata leaves out $version and $metadata.
func withoutMetadata(raw map[string]json.RawMessage) map[string]json.RawMessage {
	plain := make(map[string]json.RawMessage, len(raw))
	for name, value := range raw {
		if !strings.HasPrefix(name, "$") {
			plain[name] = value
		}
	}
	return plain
}

func versionOf(desired map[string]json.RawMessage) (version int64, err error) {
	if err := json.Unmarshal(desired["$version"], &version); err != nil {
		return 0, fmt.Errorf("its desired $version: %w", err)
	}
	return version, nil
}

// difference returns the merge patch (RFC 7386) that makes from into to.
func difference(from, to object) object {
	patch := object{}
	for name := range from {
		if _, kept := to[name]; !kept {
			patch[name] = nil
		}
	}
	for name, value := range to {
		if value == nil {
			// A merge patch cannot set null; it would remove the name, and does.
			if from[name] != nil {
				patch[name] = nil
			}
			continue
		}
		old, had := from[name]
		newObject, isObject := value.(object)
		oldObject, wasObject := old.(object)
		switch {
		case had && isObject && wasObject:
			if inner := difference(oldObject, newObject); len(inner) > 0 {
				patch[name] = inner
			}
		case !had || !reflect.DeepEqual(old, value):
			patch[name] = value
		}
	}
	return patch
}
