package hub

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"iter"
	"mime"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// Application properties with which tuxwatch says what a message comes from.
// The hub shows them as module and output, and not among the properties.
const (
	PropertyModule = "edge-module"
	PropertyOutput = "edge-output"
)

// MaxEventSize is the largest event in bytes, body and properties together, as
// Azure IoT Hub counts it. A device that sends more is disconnected.
const MaxEventSize = 256 << 10

// Event is one device-to-cloud message, as the hub keeps it.
type Event struct {
	// Seq numbers the hub's events in the order in which they were stored, from 1
	// on; 0 while it is not stored.
	Seq    int64
	Device string
	Module string // empty when the device did not say
	Output string
	Time   time.Time // when it arrived at the hub; milliseconds
	// System holds the system properties by their service-side names:
	// messageId, contentType, contentEncoding, correlationId, …
	System     map[string]string
	Properties map[string]string // application properties
	Body       []byte
}

// ID is the id that the device gave the message; empty when it gave none.
func (e Event) ID() string { return e.System["messageId"] }

// size counts what Azure counts: the body, and the names and values of properties.
func (e Event) size() int {
	n := len(e.Body)
	for k, v := range e.Properties {
		n += len(k) + len(v)
	}
	for _, v := range e.System {
		n += len(v)
	}
	if e.Module != "" {
		n += len(PropertyModule) + len(e.Module)
	}
	if e.Output != "" {
		n += len(PropertyOutput) + len(e.Output)
	}
	return n
}

// eventJSON is how an event is shown. Its fields are a contract.
type eventJSON struct {
	Device       string            `json:"device"`
	Module       string            `json:"module"`
	Output       string            `json:"output"`
	Time         time.Time         `json:"time"`
	Properties   map[string]string `json:"properties"`
	Body         json.RawMessage   `json:"body"`
	BodyEncoding string            `json:"bodyEncoding,omitempty"`
}

// MarshalJSON shows the event as tuxhub monitor does: body is the JSON itself
// when the content type says JSON, else a string when it is UTF-8 text, else
// base64, which bodyEncoding then says.
func (e Event) MarshalJSON() ([]byte, error) {
	j := eventJSON{Device: e.Device, Module: e.Module, Output: e.Output, Time: e.Time, Properties: e.Properties}
	if j.Properties == nil {
		j.Properties = map[string]string{}
	}
	switch {
	case e.isJSON() && json.Valid(e.Body):
		j.Body = e.Body
	case utf8.Valid(e.Body):
		j.Body, _ = marshalPlain(string(e.Body))
	default:
		j.BodyEncoding = "base64"
		j.Body, _ = json.Marshal(base64.StdEncoding.EncodeToString(e.Body))
	}
	return marshalPlain(j)
}

// UnmarshalJSON reads what MarshalJSON wrote. Of the system properties only the
// content type comes back, as far as it can be told from the body.
func (e *Event) UnmarshalJSON(b []byte) error {
	var j eventJSON
	if err := json.Unmarshal(b, &j); err != nil {
		return err
	}
	*e = Event{Device: j.Device, Module: j.Module, Output: j.Output, Time: j.Time, Properties: j.Properties, System: map[string]string{}}
	var text string
	switch isText := json.Unmarshal(j.Body, &text) == nil && bytes.HasPrefix(bytes.TrimSpace(j.Body), []byte(`"`)); {
	case j.BodyEncoding == "base64" && isText:
		body, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			return fmt.Errorf("event's body: %w", err)
		}
		e.Body = body
	case isText:
		e.Body = []byte(text)
	default:
		e.Body = j.Body
		e.System["contentType"] = "application/json"
	}
	return nil
}

// isJSON trusts the content type, where the encoding is one that JSON can be
// shown in without conversion.
func (e Event) isJSON() bool {
	kind, _, err := mime.ParseMediaType(e.System["contentType"])
	if err != nil || kind != "application/json" && !strings.HasSuffix(kind, "+json") {
		return false
	}
	switch strings.ToLower(e.System["contentEncoding"]) {
	case "", "utf-8", "utf8", "us-ascii":
		return utf8.Valid(e.Body)
	}
	return false
}

// marshalPlain leaves <, > and & readable, and ends without a newline.
func marshalPlain(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// Filter chooses events.
type Filter struct {
	Device string    // only this device's; empty: every device's
	Since  time.Time // only those that arrived then or later; zero: all
}

// pageSize bounds what one read of the database holds in memory.
const pageSize = 64

// page reads the next events after a sequence number, and the number up to which
// it looked.
func (s *State) page(ctx context.Context, after int64, f Filter) ([]Event, int64, error) {
	var last int64
	if err := s.read.QueryRowContext(ctx, `SELECT coalesce(max(seq), 0) FROM events`).Scan(&last); err != nil {
		return nil, after, err
	}
	rows, err := s.read.QueryContext(ctx, `SELECT seq, device, module, output, time, system, properties, body
		FROM events WHERE seq > ? AND seq <= ? AND (? = '' OR device = ?) AND time >= ? ORDER BY seq LIMIT ?`,
		after, last, f.Device, f.Device, f.Since.UnixMilli(), pageSize)
	if err != nil {
		return nil, after, err
	}
	defer rows.Close()
	var events []Event
	for rows.Next() {
		e, err := scanEvent(rows)
		if err != nil {
			return nil, after, err
		}
		events = append(events, e)
	}
	if err := rows.Err(); err != nil {
		return nil, after, err
	}
	if len(events) == pageSize {
		last = events[pageSize-1].Seq
	}
	return events, max(after, last), nil
}

func scanEvent(rows *sql.Rows) (Event, error) {
	var e Event
	var ms int64
	var system, properties []byte
	if err := rows.Scan(&e.Seq, &e.Device, &e.Module, &e.Output, &ms, &system, &properties, &e.Body); err != nil {
		return e, err
	}
	e.Time = time.UnixMilli(ms).UTC()
	if err := json.Unmarshal(system, &e.System); err != nil {
		return e, fmt.Errorf("event %d: %w", e.Seq, err)
	}
	if err := json.Unmarshal(properties, &e.Properties); err != nil {
		return e, fmt.Errorf("event %d: %w", e.Seq, err)
	}
	return e, nil
}

// StoredEvents gives the events that are stored now, in order, from the one
// after the sequence number after.
func (s *State) StoredEvents(ctx context.Context, after int64, f Filter) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		for {
			events, upTo, err := s.page(ctx, after, f)
			if err != nil {
				yield(Event{}, fmt.Errorf("read events: %w", err))
				return
			}
			for _, e := range events {
				if !yield(e, nil) {
					return
				}
			}
			if len(events) < pageSize {
				return
			}
			after = upTo
		}
	}
}

// LastSeq is the sequence number of the newest event, 0 when there never was one.
func (s *State) LastSeq() (int64, error) {
	var last int64
	// sqlite_sequence remembers the number even when retention has removed the event.
	err := s.read.QueryRow(`SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'events'), 0)`).Scan(&last)
	if err != nil {
		return 0, fmt.Errorf("read the last sequence number: %w", err)
	}
	return last, nil
}

// DeviceStats counts the events of a device.
type DeviceStats struct {
	Device     string `json:"device"`
	Received   int64  `json:"received"`   // ever stored
	Events     int64  `json:"events"`     // kept now
	Distinct   int64  `json:"distinct"`   // different message ids among them; one without an id counts as different
	Duplicates int64  `json:"duplicates"` // Events - Distinct: delivered more than once
}

// Stats counts the hub's events.
type Stats struct {
	Events     int64         `json:"events"`
	Distinct   int64         `json:"distinct"`
	Duplicates int64         `json:"duplicates"`
	Bytes      int64         `json:"bytes"` // of bodies and properties kept
	LastSeq    int64         `json:"lastSeq"`
	Devices    []DeviceStats `json:"devices"`
}

// Stats counts by looking at every event that is kept.
func (s *State) Stats() (Stats, error) {
	stats := Stats{Devices: []DeviceStats{}}
	fail := func(err error) (Stats, error) { return Stats{}, fmt.Errorf("count events: %w", err) }
	var err error
	if stats.LastSeq, err = s.LastSeq(); err != nil {
		return fail(err)
	}
	// Removed devices may still have events; new ones may have none.
	rows, err := s.read.Query(`
		SELECT d.device, coalesce((SELECT received FROM devices WHERE id = d.device), 0),
			coalesce(e.n, 0), coalesce(e.distinct_ids, 0), coalesce(e.bytes, 0)
		FROM (SELECT id AS device FROM devices UNION SELECT device FROM events) d
		LEFT JOIN (SELECT device, count(*) AS n, sum(size) AS bytes,
				count(DISTINCT nullif(mid, '')) + sum(mid = '') AS distinct_ids
			FROM events GROUP BY device) e ON e.device = d.device
		ORDER BY d.device`)
	if err != nil {
		return fail(err)
	}
	defer rows.Close()
	for rows.Next() {
		var d DeviceStats
		var size int64
		if err := rows.Scan(&d.Device, &d.Received, &d.Events, &d.Distinct, &size); err != nil {
			return fail(err)
		}
		d.Duplicates = d.Events - d.Distinct
		stats.Events += d.Events
		stats.Distinct += d.Distinct
		stats.Duplicates += d.Duplicates
		stats.Bytes += size
		stats.Devices = append(stats.Devices, d)
	}
	if err := rows.Err(); err != nil {
		return fail(err)
	}
	slices.SortFunc(stats.Devices, func(a, b DeviceStats) int { return strings.Compare(a.Device, b.Device) })
	return stats, nil
}
