package edge

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/google/renameio/v2"
)

// twin holds the desired properties of the device: one object, one member a
// module. It survives restarts in a file.
type twin struct {
	rt   *Runtime
	file string

	mu   sync.Mutex // also: one change at a time reaches the modules
	data twinData
}

// twinData is what the file holds.
type twinData struct {
	// Version and Desired are the hub's document as it was last given.
	Version int64          `json:"version"`
	Desired map[string]any `json:"desired"`
	// Accepted holds, a module, the last part of it that the module took. It
	// stays in effect while a newer one is refused.
	Accepted map[string]json.RawMessage `json:"accepted"`
}

// loadTwin reads the file. Without one the twin is empty; a damaged one is set
// aside.
func loadTwin(rt *Runtime, file string) *twin {
	t := &twin{rt: rt, file: file, data: twinData{Desired: map[string]any{}, Accepted: map[string]json.RawMessage{}}}
	if file == "" {
		return t
	}
	content, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return t
	}
	var data twinData
	if err == nil {
		err = json.Unmarshal(content, &data)
	}
	if err != nil {
		aside := file + ".damaged"
		rt.log.Error("the stored twin cannot be read; starting without it until the hub sends it again",
			"file", file, "error", err, "kept as", aside, "rename error", os.Rename(file, aside))
		return t
	}
	if data.Desired == nil {
		data.Desired = map[string]any{}
	}
	if data.Accepted == nil {
		data.Accepted = map[string]json.RawMessage{}
	}
	t.data = data
	return t
}

// store writes the file durably: a new file, synced, in the old one's place,
// and the folder synced.
func (t *twin) store() error {
	if t.file == "" {
		return nil
	}
	content, err := json.Marshal(t.data)
	if err == nil {
		err = renameio.WriteFile(t.file, content, 0o600)
	}
	if err == nil {
		err = syncFolder(filepath.Dir(t.file))
	}
	if err != nil {
		return fmt.Errorf("storing the twin in %s: %w", t.file, err)
	}
	return nil
}

func syncFolder(path string) error {
	folder, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}

func (t *twin) version() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.data.Version
}

func (t *twin) document() (json.RawMessage, int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	content, err := json.Marshal(t.data.Desired)
	if err != nil { // it came from JSON
		return json.RawMessage("{}"), t.data.Version
	}
	return content, t.data.Version
}

// parseDesired reads a document or a merge patch from the hub.
func parseDesired(desired json.RawMessage) (map[string]any, error) {
	var change map[string]any
	if err := json.Unmarshal(desired, &change); err != nil || change == nil {
		return nil, fmt.Errorf("the twin's desired properties must be a JSON object, one member a module, not %.60q", desired)
	}
	return change, nil
}

// apply makes a document, or a merge patch, take effect.
func (t *twin) apply(ctx context.Context, change map[string]any, version int64, full bool) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	before := t.data.Desired
	if full {
		t.data.Desired = mergePatch(map[string]any{}, change)
	} else {
		t.data.Desired = mergePatch(before, change)
	}
	t.data.Version = version

	var errs []error
	for _, w := range t.rt.list() {
		was, is := section(before, w.id), section(t.data.Desired, w.id)
		if bytes.Equal(was, is) {
			continue
		}
		if err := t.offer(ctx, w); err != nil {
			errs = append(errs, err)
		}
	}
	for name := range change {
		if t.rt.worker(name) == nil && t.data.Desired[name] != nil {
			errs = append(errs, fmt.Errorf("desired properties for %q: there is no such module; there are: %s", name, t.names()))
		}
	}
	return errors.Join(append(errs, t.store())...)
}

func (t *twin) names() string {
	var names []string
	for _, w := range t.rt.list() {
		names = append(names, w.id)
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// attach tells a module that has just registered its handler of the properties
// in effect.
func (t *twin) attach(r *run) {
	t.mu.Lock()
	defer t.mu.Unlock()
	accepted := string(t.data.Accepted[r.w.id])
	// A refusal is logged, counted and shown by offer; the module starts with
	// what it last accepted.
	_ = t.offer(r.ctx, r.w)
	if accepted != string(t.data.Accepted[r.w.id]) {
		if err := t.store(); err != nil {
			r.w.log.Error("the module's desired properties are in effect, but not stored", "error", err)
		}
	}
}

// reconfigured gives the module the configuration's new desired properties.
func (t *twin) reconfigured(w *worker, inst Instance) {
	t.mu.Lock()
	defer t.mu.Unlock()
	w.mu.Lock()
	same := bytes.Equal(w.inst.Desired, inst.Desired)
	w.inst = inst
	w.mu.Unlock()
	if !same {
		_ = t.offer(w.rt.context(), w) // logged, counted and shown by offer
	}
}

// context returns the context that modules run under.
func (rt *Runtime) context() context.Context {
	rt.mu.Lock()
	defer rt.mu.Unlock()
	if rt.running == nil {
		return context.Background()
	}
	return rt.running
}

// offer gives the module the newest properties, and if it refuses them the ones
// it last accepted, and if it refuses those too the configuration's. It
// returns why the newest were refused. The caller holds t.mu.
func (t *twin) offer(ctx context.Context, w *worker) error {
	newest := section(t.data.Desired, w.id)
	candidates := []json.RawMessage{newest, t.data.Accepted[w.id], nil}
	var refused error
	for i, candidate := range candidates {
		if i > 0 && bytes.Equal(candidate, candidates[i-1]) {
			continue
		}
		err := w.take(ctx, candidate)
		if errors.Is(err, errNotRunning) {
			return nil // it will ask when it starts
		}
		if err == nil {
			if candidate == nil {
				delete(t.data.Accepted, w.id)
			} else {
				t.data.Accepted[w.id] = candidate
			}
			break
		}
		if refused == nil {
			refused = fmt.Errorf("desired properties for %s: %w", w.id, err)
		}
	}
	w.mu.Lock()
	w.refused = refused
	if refused != nil {
		w.counters["desired_refused"]++
	}
	w.mu.Unlock()
	if refused != nil {
		w.log.Error("desired properties refused; the ones before stay in effect", "error", refused)
	}
	return refused
}

// take makes the module's desired properties: defaults, overlaid by the
// configuration's, overlaid by the twin's; and calls its handler with them.
func (w *worker) take(ctx context.Context, fromTwin json.RawMessage) error {
	w.mu.Lock()
	r, inst := w.run, w.inst
	w.mu.Unlock()
	if r == nil {
		return errNotRunning
	}
	r.mu.Lock()
	h := r.desired
	r.mu.Unlock()
	properties, err := inst.Kind.DesiredProperties(inst.Desired, fromTwin)
	if err != nil {
		return err
	}
	if h != nil {
		err = r.enter(ctx, "desired properties", func(ctx context.Context) error { return h(ctx, properties) })
		if err != nil {
			return err
		}
	}
	w.mu.Lock()
	w.desired = properties
	w.mu.Unlock()
	return nil
}

// DesiredProperties returns the desired properties that result from the
// kind's defaults and the given JSON objects, each overlaid on the one before;
// nil ones are left out. Unknown names, wrong types and values that the kind's
// Validate refuses are errors.
func (k Kind) DesiredProperties(overlays ...json.RawMessage) (any, error) {
	if k.Properties == nil {
		for _, overlay := range overlays {
			if len(overlay) > 0 && string(overlay) != "{}" {
				return nil, fmt.Errorf("modules of kind %s have no desired properties", k.Name)
			}
		}
		return nil, nil
	}
	properties := k.Properties()
	for _, overlay := range overlays {
		if len(overlay) == 0 {
			continue
		}
		decoder := json.NewDecoder(bytes.NewReader(overlay))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(properties); err != nil {
			return nil, explain(err)
		}
		if _, err := decoder.Token(); err != io.EOF {
			return nil, errors.New("there is more after the JSON object")
		}
	}
	if v, ok := properties.(validator); ok {
		if err := v.Validate(); err != nil {
			return nil, err
		}
	}
	return properties, nil
}

// explain words a JSON error for someone who edits a twin.
func explain(err error) error {
	var wrong *json.UnmarshalTypeError
	if errors.As(err, &wrong) && wrong.Field != "" {
		return fmt.Errorf("%s must be a %s, not a %s", wrong.Field, wrong.Type, wrong.Value)
	}
	return errors.New(strings.TrimPrefix(err.Error(), "json: "))
}

// section returns one module's part of a twin, or nil.
func section(desired map[string]any, module string) json.RawMessage {
	part, ok := desired[module]
	if !ok || part == nil {
		return nil
	}
	content, err := json.Marshal(part)
	if err != nil { // it came from JSON
		return nil
	}
	return content
}

// mergePatch applies a JSON merge patch (RFC 7396) and returns the result,
// which shares nothing with target that the patch changes.
func mergePatch(target, patch map[string]any) map[string]any {
	result := make(map[string]any, len(target)+len(patch))
	for name, value := range target {
		result[name] = value
	}
	for name, value := range patch {
		switch value := value.(type) {
		case nil:
			delete(result, name)
		case map[string]any:
			inner, _ := result[name].(map[string]any)
			result[name] = mergePatch(inner, value)
		default:
			result[name] = value
		}
	}
	return result
}
