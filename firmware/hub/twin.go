package hub

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"strconv"
	"strings"
	"time"
)

// Azure's limits for device twins ("Understand and use device twins in IoT Hub").
const (
	maxTwinSize   = 32 << 10 // of desired, and of reported properties, as compact JSON
	maxTwinDepth  = 10
	maxTwinKey    = 1 << 10
	maxTwinString = 4 << 10
)

// ErrTwinPatch is for a patch that is not one: no JSON object, or one that goes
// beyond the limits of a device twin.
var ErrTwinPatch = errors.New("not a patch of a device twin")

// TwinProperties is one half of a device twin.
type TwinProperties struct {
	// Values is the document as JSON decodes it, numbers as json.Number.
	Values map[string]any
	// Metadata mirrors Values with the moments of change in $lastUpdated.
	Metadata map[string]any
	// Version goes up by one with every change; 1 before the first.
	Version int64
}

// Twin is the device twin: desired properties, which the device is to have, and
// reported ones, which it says it has.
type Twin struct {
	Device            string
	Version           int64 // of the whole twin
	Desired, Reported TwinProperties
}

// document is the half as Azure shows it: with $version, and with $metadata to
// those who are not the device.
func (p TwinProperties) document(metadata bool) map[string]any {
	doc := maps.Clone(p.Values)
	if metadata {
		doc["$metadata"] = p.Metadata
	}
	doc["$version"] = p.Version
	return doc
}

// MarshalJSON shows the twin as Azure's service side does.
func (t Twin) MarshalJSON() ([]byte, error) {
	return marshalPlain(map[string]any{
		"deviceId": t.Device,
		"version":  t.Version,
		"properties": map[string]any{
			"desired":  t.Desired.document(true),
			"reported": t.Reported.document(true),
		},
	})
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (t *Twin) UnmarshalJSON(b []byte) error {
	var doc struct {
		DeviceID   string `json:"deviceId"`
		Version    int64  `json:"version"`
		Properties struct {
			Desired  map[string]any `json:"desired"`
			Reported map[string]any `json:"reported"`
		} `json:"properties"`
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	if err := dec.Decode(&doc); err != nil {
		return err
	}
	half := func(values map[string]any) TwinProperties {
		p := TwinProperties{Values: values}
		if n, ok := values["$version"].(json.Number); ok {
			p.Version, _ = n.Int64()
		}
		p.Metadata, _ = values["$metadata"].(map[string]any)
		delete(values, "$version")
		delete(values, "$metadata")
		return p
	}
	*t = Twin{Device: doc.DeviceID, Version: doc.Version, Desired: half(doc.Properties.Desired), Reported: half(doc.Properties.Reported)}
	return nil
}

// parsePatch reads a patch and checks it. $version and $metadata at its top are
// left out, so that a document that was read can be written back.
func parsePatch(b []byte) (map[string]any, error) {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrTwinPatch, err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w: something follows the JSON object", ErrTwinPatch)
	}
	patch, ok := v.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("%w: not a JSON object", ErrTwinPatch)
	}
	delete(patch, "$version")
	delete(patch, "$metadata")
	if err := checkTwinValue(patch, "", 0); err != nil {
		return nil, err
	}
	return patch, nil
}

func checkTwinValue(v any, path string, depth int) error {
	bad := func(why string) error {
		if path == "" {
			return fmt.Errorf("%w: %s", ErrTwinPatch, why)
		}
		return fmt.Errorf("%w: %s: %s", ErrTwinPatch, loggable(path), why)
	}
	if depth > maxTwinDepth {
		return bad(fmt.Sprintf("nested deeper than %d", maxTwinDepth))
	}
	switch v := v.(type) {
	case map[string]any:
		for k, inner := range v {
			if k == "" || len(k) > maxTwinKey || strings.ContainsAny(k, ".$ ") || strings.ContainsFunc(k, func(r rune) bool { return r < ' ' || r == 0x7f }) {
				return bad(fmt.Sprintf("key %q: 1 to %d bytes, without space, dot, $ and control characters", loggable(k), maxTwinKey))
			}
			if err := checkTwinValue(inner, strings.TrimPrefix(path+"."+k, "."), depth+1); err != nil {
				return err
			}
		}
	case []any:
		for i, inner := range v {
			if inner == nil {
				return bad("null in an array")
			}
			if err := checkTwinValue(inner, path+"["+strconv.Itoa(i)+"]", depth+1); err != nil {
				return err
			}
		}
	case string:
		if len(v) > maxTwinString {
			return bad(fmt.Sprintf("a string of more than %d bytes", maxTwinString))
		}
	}
	return nil
}

// merge applies a patch to doc and notes in metadata when: null deletes, an
// object goes on inside, and anything else replaces (RFC 7396, JSON merge patch).
func merge(doc, metadata, patch map[string]any, stamp func() map[string]any) {
	maps.Copy(metadata, stamp())
	for k, v := range patch {
		switch v := v.(type) {
		case nil:
			delete(doc, k)
			delete(metadata, k)
		case map[string]any:
			inner, isObject := doc[k].(map[string]any)
			innerMeta, haveMeta := metadata[k].(map[string]any)
			if !isObject {
				inner = map[string]any{}
			}
			if !isObject || !haveMeta {
				innerMeta = map[string]any{}
			}
			merge(inner, innerMeta, v, stamp)
			doc[k], metadata[k] = inner, innerMeta
		default:
			doc[k], metadata[k] = v, stamp()
		}
	}
}

// apply gives the half with the patch applied, as a new value.
func (p TwinProperties) apply(patch map[string]any, now time.Time, withVersion bool) (TwinProperties, error) {
	next := TwinProperties{Values: clone(p.Values), Metadata: clone(p.Metadata), Version: p.Version + 1}
	merge(next.Values, next.Metadata, patch, func() map[string]any {
		stamp := map[string]any{"$lastUpdated": now.UTC().Format("2006-01-02T15:04:05.000Z")}
		if withVersion { // Azure notes it for desired properties only
			stamp["$lastUpdatedVersion"] = next.Version
		}
		return stamp
	})
	size, err := marshalPlain(next.Values)
	if err != nil {
		return TwinProperties{}, err
	}
	if len(size) > maxTwinSize {
		return TwinProperties{}, fmt.Errorf("%w: the properties would take %d bytes, %d are allowed", ErrTwinPatch, len(size), maxTwinSize)
	}
	// The patch was within the depth, but it goes in below what was there.
	return next, checkTwinValue(next.Values, "", 0)
}

// clone copies the objects of a document; its arrays are replaced, never changed.
func clone(doc map[string]any) map[string]any {
	out := make(map[string]any, len(doc))
	for k, v := range doc {
		if inner, ok := v.(map[string]any); ok {
			v = clone(inner)
		}
		out[k] = v
	}
	return out
}

// queryer is a database or a transaction.
type queryer interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

func readTwin(ctx context.Context, q queryer, device string) (Twin, error) {
	t := Twin{Device: device}
	var desired, desiredMeta, reported, reportedMeta sql.NullString
	var version, desiredVersion, reportedVersion sql.NullInt64
	err := q.QueryRowContext(ctx, `SELECT t.version, t.desired, t.desired_metadata, t.desired_version, t.reported, t.reported_metadata, t.reported_version
		FROM devices d LEFT JOIN twins t ON t.device = d.id WHERE d.id = ?`, device).
		Scan(&version, &desired, &desiredMeta, &desiredVersion, &reported, &reportedMeta, &reportedVersion)
	if errors.Is(err, sql.ErrNoRows) {
		return t, ErrDeviceNotFound
	}
	if err != nil {
		return t, err
	}
	object := func(s sql.NullString) map[string]any {
		v := map[string]any{}
		if s.Valid {
			dec := json.NewDecoder(strings.NewReader(s.String))
			dec.UseNumber()
			err = errors.Join(err, dec.Decode(&v))
		}
		return v
	}
	or1 := func(n sql.NullInt64) int64 {
		if n.Valid {
			return n.Int64
		}
		return 1
	}
	t.Version = or1(version)
	t.Desired = TwinProperties{object(desired), object(desiredMeta), or1(desiredVersion)}
	t.Reported = TwinProperties{object(reported), object(reportedMeta), or1(reportedVersion)}
	return t, err
}

// Twin reads a device's twin.
func (s *State) Twin(ctx context.Context, device string) (Twin, error) {
	t, err := readTwin(ctx, s.read, device)
	if err != nil {
		return Twin{}, fmt.Errorf("read the twin of device %q: %w", device, err)
	}
	return t, nil
}

// patchTwin applies a patch to one half of a twin and stores it.
func (s *State) patchTwin(ctx context.Context, device string, patch map[string]any, desired bool) (Twin, error) {
	var t Twin
	err := inTx(ctx, s.write, func(tx *sql.Tx) (err error) {
		if t, err = readTwin(ctx, tx, device); err != nil {
			return err
		}
		half := &t.Reported
		if desired {
			half = &t.Desired
		}
		if *half, err = half.apply(patch, s.now(), desired); err != nil {
			return err
		}
		t.Version++
		var texts []any
		for _, v := range []map[string]any{t.Desired.Values, t.Desired.Metadata, t.Reported.Values, t.Reported.Metadata} {
			b, err := marshalPlain(v)
			if err != nil {
				return err
			}
			texts = append(texts, string(b))
		}
		_, err = tx.ExecContext(ctx, `INSERT OR REPLACE INTO twins
			(device, version, desired, desired_metadata, desired_version, reported, reported_metadata, reported_version)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
			device, t.Version, texts[0], texts[1], t.Desired.Version, texts[2], texts[3], t.Reported.Version)
		return err
	})
	if err != nil {
		return Twin{}, fmt.Errorf("change the twin of device %q: %w", device, err)
	}
	return t, nil
}

// SetDesired merges patch, a JSON object in which null deletes a key, into the
// desired properties and gives their new version. ErrTwinPatch when it is none.
// On a State, without a running hub, the device learns of it when it next asks.
func (s *State) SetDesired(ctx context.Context, device string, patch []byte) (int64, error) {
	p, err := parsePatch(patch)
	if err != nil {
		return 0, fmt.Errorf("change the twin of device %q: %w", device, err)
	}
	t, err := s.patchTwin(ctx, device, p, true)
	return t.Desired.Version, err
}

// SetDesired merges patch, a JSON object in which null deletes a key, into the
// desired properties, has the device told when it is connected, and gives their
// new version. ErrTwinPatch when it is no such patch.
func (h *Hub) SetDesired(ctx context.Context, device string, patch []byte) (int64, error) {
	p, err := parsePatch(patch)
	if err != nil {
		return 0, fmt.Errorf("change the twin of device %q: %w", device, err)
	}
	// A device must be told of changes in the order of their versions.
	h.desired.Lock()
	defer h.desired.Unlock()
	t, err := h.patchTwin(ctx, device, p, true)
	if err != nil {
		return 0, err
	}
	if s := h.session(device); s != nil {
		topic := topicTwinDesired + "?$version=" + strconv.FormatInt(t.Desired.Version, 10)
		if _, ok := s.subscribed(topic); ok {
			p["$version"] = t.Desired.Version
			body, err := marshalPlain(p)
			if err != nil {
				return 0, fmt.Errorf("change the twin of device %q: %w", device, err)
			}
			s.push(publish(topic, body))
		}
	}
	return t.Desired.Version, nil
}

// twinGet answers a device that asks for its twin.
func (s *session) twinGet(rid string) {
	t, err := s.hub.Twin(context.WithoutCancel(s.ctx), s.device)
	if err != nil {
		s.twinError(rid, err)
		return
	}
	body, err := marshalPlain(map[string]any{"desired": t.Desired.document(false), "reported": t.Reported.document(false)})
	if err != nil {
		s.twinError(rid, err)
		return
	}
	s.respond(topicTwinResponse+"200/?$rid="+rid, body)
}

// twinReported takes a device's change of its reported properties.
func (s *session) twinReported(rid string, payload []byte) {
	patch, err := parsePatch(payload)
	if err != nil {
		s.twinError(rid, err)
		return
	}
	t, err := s.hub.patchTwin(context.WithoutCancel(s.ctx), s.device, patch, false)
	if err != nil {
		s.twinError(rid, err)
		return
	}
	s.respond(topicTwinResponse+"204/?$rid="+rid+"&$version="+strconv.FormatInt(t.Reported.Version, 10), nil)
}

func (s *session) twinError(rid string, err error) {
	status, message := 500, "the hub could not store it"
	if errors.Is(err, ErrTwinPatch) {
		status, message = 400, err.Error()
	}
	s.hub.log.Warn("twin request failed", "device", s.device, "error", err)
	body, _ := marshalPlain(map[string]any{"errorCode": status * 1000, "message": message, "timestampUtc": s.hub.now().UTC().Format(time.RFC3339)})
	s.respond(topicTwinResponse+strconv.Itoa(status)+"/?$rid="+rid, body)
}
