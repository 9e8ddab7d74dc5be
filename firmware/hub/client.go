package hub

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"syscall"
	"time"
)

// ErrNotRunning is returned when no hub runs on the state folder.
var ErrNotRunning = errors.New("the hub is not running")

// Client reaches a hub that runs in another process, through the control socket
// in its state folder. Its methods are the hub's, with its errors.
type Client struct {
	dir  string
	http *http.Client
}

// NewClient is for the hub whose state is in dir. It does not connect yet.
func NewClient(dir string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) { return dialUnix(ctx, dir) }
	return &Client{dir: dir, http: &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}}
}

// request sends a request and reads a JSON answer into out, if that is not nil.
func (c *Client) request(ctx context.Context, method, path string, header http.Header, body []byte, out any) error {
	resp, err := c.open(ctx, method, path, header, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if out == nil {
		return nil
	}
	if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
		return fmt.Errorf("read the hub's answer: %w", notRunning(err))
	}
	return nil
}

// open sends a request and gives the response to a successful one.
func (c *Client) open(ctx context.Context, method, path string, header http.Header, body []byte) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://hub"+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if header != nil {
		req.Header = header
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("reach the hub in %s: %w", c.dir, notRunning(err))
	}
	if resp.StatusCode < 300 {
		return resp, nil
	}
	defer resp.Body.Close()
	var p problem
	b, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if json.Unmarshal(b, &p) != nil || p.Error.Message == "" {
		return nil, fmt.Errorf("the hub answered %s to %s %s", resp.Status, method, path)
	}
	for _, known := range problems {
		if p.Error.Code == known.code {
			return nil, remoteError{p.Error.Message, known.err}
		}
	}
	return nil, errors.New(p.Error.Message)
}

// remoteError has the hub's words, and is the error that it had there.
type remoteError struct {
	message string
	err     error
}

func (e remoteError) Error() string { return e.message }
func (e remoteError) Unwrap() error { return e.err }

// notRunning recognises the errors of a socket that nobody listens on, or stopped to.
func notRunning(err error) error {
	for _, gone := range []error{fs.ErrNotExist, syscall.ECONNREFUSED, syscall.ECONNRESET, syscall.EPIPE, io.EOF, io.ErrUnexpectedEOF} {
		if errors.Is(err, gone) {
			return fmt.Errorf("%w (%w)", ErrNotRunning, err)
		}
	}
	return err
}

func devicePath(id, rest string) string { return "/v1/devices/" + url.PathEscape(id) + rest }

// Status tells where the hub listens and who is connected.
func (c *Client) Status(ctx context.Context) (Status, error) {
	var st Status
	return st, c.request(ctx, http.MethodGet, "/v1/status", nil, nil, &st)
}

// Stats counts the hub's events.
func (c *Client) Stats() (Stats, error) {
	var st Stats
	return st, c.request(context.Background(), http.MethodGet, "/v1/stats", nil, nil, &st)
}

// AddDevice registers a device and makes its keys.
func (c *Client) AddDevice(id string) (Device, error) {
	body, err := json.Marshal(Device{ID: id})
	if err != nil {
		return Device{}, err
	}
	var d Device
	return d, c.request(context.Background(), http.MethodPost, "/v1/devices", nil, body, &d)
}

// Device looks a device up.
func (c *Client) Device(id string) (Device, error) {
	if err := checkDeviceID(id); err != nil {
		return Device{}, err
	}
	var d Device
	return d, c.request(context.Background(), http.MethodGet, devicePath(id, ""), nil, nil, &d)
}

// Devices lists the registry.
func (c *Client) Devices() ([]Device, error) {
	var devices []Device
	return devices, c.request(context.Background(), http.MethodGet, "/v1/devices", nil, nil, &devices)
}

// RemoveDevice forgets a device.
func (c *Client) RemoveDevice(id string) error {
	if err := checkDeviceID(id); err != nil {
		return err
	}
	return c.request(context.Background(), http.MethodDelete, devicePath(id, ""), nil, nil, nil)
}

// SetEnabled lets a device sign in, or refuses it.
func (c *Client) SetEnabled(id string, enabled bool) error {
	if err := checkDeviceID(id); err != nil {
		return err
	}
	body := fmt.Appendf(nil, `{"enabled":%t}`, enabled)
	return c.request(context.Background(), http.MethodPatch, devicePath(id, ""), nil, body, nil)
}

// RegenerateKeys replaces both keys of a device.
func (c *Client) RegenerateKeys(id string) (Device, error) {
	if err := checkDeviceID(id); err != nil {
		return Device{}, err
	}
	var d Device
	return d, c.request(context.Background(), http.MethodPost, devicePath(id, "/keys"), nil, nil, &d)
}

// Twin reads a device's twin.
func (c *Client) Twin(ctx context.Context, device string) (Twin, error) {
	if err := checkDeviceID(device); err != nil {
		return Twin{}, err
	}
	var t Twin
	return t, c.request(ctx, http.MethodGet, devicePath(device, "/twin"), nil, nil, &t)
}

// SetDesired merges a patch into the desired properties and gives their new version.
func (c *Client) SetDesired(ctx context.Context, device string, patch []byte) (int64, error) {
	if err := checkDeviceID(device); err != nil {
		return 0, err
	}
	var out struct {
		Version int64 `json:"version"`
	}
	return out.Version, c.request(ctx, http.MethodPatch, devicePath(device, "/twin/desired"), nil, patch, &out)
}

// Invoke calls a direct method on a device.
func (c *Client) Invoke(ctx context.Context, device, method string, payload []byte, timeout time.Duration) (MethodResult, error) {
	if err := checkDeviceID(device); err != nil {
		return MethodResult{}, err
	}
	path := devicePath(device, "/methods/"+url.PathEscape(method))
	if timeout != 0 {
		path += "?timeout=" + timeout.String()
	}
	var r MethodResult
	return r, c.request(ctx, http.MethodPost, path, nil, payload, &r)
}

// Send queues a message for a device and gives its id.
func (c *Client) Send(ctx context.Context, device string, m Bound) (string, error) {
	if err := checkDeviceID(device); err != nil {
		return "", err
	}
	header := http.Header{}
	if m.ContentType != "" {
		header.Set("Content-Type", m.ContentType)
	}
	if m.ContentEncoding != "" {
		header.Set("Content-Encoding", m.ContentEncoding)
	}
	for k, v := range m.Properties {
		header.Add(propertyHeader, escape(k)+"="+escape(v))
	}
	var out struct {
		ID string `json:"messageId"`
	}
	return out.ID, c.request(ctx, http.MethodPost, devicePath(device, "/messages"), header, m.Body, &out)
}

// Cursor is a place in a hub's events: after number Seq of the database Store.
// The zero Cursor is before the first event.
type Cursor struct {
	Store string
	Seq   int64
}

// Streamed is an event as it comes from a running hub, with the place after it.
// The first of a stream has no event: it says that the stream has begun, and where.
type Streamed struct {
	Event  *Event
	Line   json.RawMessage // the event as JSON, as [Event.MarshalJSON] shows it
	Cursor Cursor
}

// Events streams events: from the place from on, or, when that is nil, those
// that arrive from now on. With follow it goes on until ctx ends or the hub
// does; the latter is ErrNotRunning, and a new call with the last Cursor goes on
// where this one ended.
func (c *Client) Events(ctx context.Context, from *Cursor, f Filter, follow bool) iter.Seq2[Streamed, error] {
	return func(yield func(Streamed, error) bool) {
		q := url.Values{}
		if from != nil {
			q.Set("after", strconv.FormatInt(from.Seq, 10))
			q.Set("store", from.Store)
		}
		if f.Device != "" {
			q.Set("device", f.Device)
		}
		if !f.Since.IsZero() {
			q.Set("since", f.Since.Format(time.RFC3339Nano))
		}
		if follow {
			q.Set("follow", "1")
		}
		resp, err := c.open(ctx, http.MethodGet, "/v1/events?"+q.Encode(), nil, nil)
		if err != nil {
			yield(Streamed{}, err)
			return
		}
		defer resp.Body.Close()
		r := bufio.NewReader(resp.Body)
		for first := true; ; first = false {
			line, err := r.ReadBytes('\n')
			if err != nil {
				if !follow && errors.Is(err, io.EOF) || ctx.Err() != nil {
					return
				}
				yield(Streamed{}, fmt.Errorf("the stream of events ended: %w", notRunning(err)))
				return
			}
			s, err := parseStreamed(line, first)
			if !yield(s, err) || err != nil {
				return
			}
		}
	}
}

func parseStreamed(line []byte, first bool) (Streamed, error) {
	if first {
		var start startRecord
		err := json.Unmarshal(line, &start)
		return Streamed{Cursor: Cursor{start.Store, start.After}}, err
	}
	var rec eventRecord
	if err := json.Unmarshal(line, &rec); err != nil {
		return Streamed{}, fmt.Errorf("read an event: %w", err)
	}
	var e Event
	if err := json.Unmarshal(rec.Event, &e); err != nil {
		return Streamed{}, fmt.Errorf("read event %d: %w", rec.Seq, err)
	}
	e.Seq, e.System = rec.Seq, rec.System
	return Streamed{Event: &e, Line: rec.Event, Cursor: Cursor{rec.Store, rec.Seq}}, nil
}
