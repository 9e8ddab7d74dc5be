package hub

import (
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/google/renameio/v2"
)

// The JSON API. The control socket serves all of it; over TCP the device
// registry is missing, since it holds keys.
//
//	GET    /v1/status
//	GET    /v1/stats
//	GET    /v1/events?after=N&device=ID&since=TIME&follow=1   one record a line
//	GET    /v1/devices/{id}/twin
//	PATCH  /v1/devices/{id}/twin/desired                      a merge patch
//	POST   /v1/devices/{id}/methods/{name}?timeout=30s        the payload
//	POST   /v1/devices/{id}/messages                          the body; X-Property-{name}: value
//	GET    /v1/devices, POST, GET|PATCH|DELETE /v1/devices/{id}, POST /v1/devices/{id}/keys
//
// Errors are {"error":{"code":…,"message":…}}.

// eventRecord is an event on the wire: what is shown, and what else there is.
type eventRecord struct {
	Seq    int64             `json:"seq"`
	Store  string            `json:"store"` // of which database seq is
	System map[string]string `json:"system"`
	Event  json.RawMessage   `json:"event"`
}

// startRecord begins a stream of events, so that a client knows at once that it
// is connected, to which database, and where it begins.
type startRecord struct {
	Store string `json:"store"`
	After int64  `json:"after"`
}

// problem is how an error travels.
type problem struct {
	Error struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	} `json:"error"`
}

// problems ties errors to HTTP, both ways.
var problems = []struct {
	err    error
	code   string
	status int
}{
	{ErrDeviceNotFound, "DeviceNotFound", http.StatusNotFound},
	{ErrDeviceOffline, "DeviceNotOnline", http.StatusNotFound},
	{ErrDeviceExists, "DeviceAlreadyExists", http.StatusConflict},
	{ErrDeviceID, "ArgumentInvalid", http.StatusBadRequest},
	{ErrTwinPatch, "InvalidTwinPatch", http.StatusBadRequest},
	{ErrMethodCall, "InvalidMethodCall", http.StatusBadRequest},
	{ErrMethodTimeout, "GatewayTimeout", http.StatusGatewayTimeout},
	{ErrQueueFull, "DeviceMaximumQueueDepthExceeded", http.StatusForbidden},
	{ErrBoundLarge, "MessageTooLarge", http.StatusRequestEntityTooLarge},
}

func writeError(w http.ResponseWriter, err error) {
	status, code := http.StatusInternalServerError, "InternalError"
	for _, p := range problems {
		if errors.Is(err, p.err) {
			status, code = p.status, p.code
			break
		}
	}
	writeProblem(w, status, code, err.Error())
}

func writeProblem(w http.ResponseWriter, status int, code, message string) {
	var p problem
	p.Error.Code, p.Error.Message = code, message
	writeJSON(w, status, p)
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	b, err := marshalPlain(v)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(b, '\n'))
}

// answer writes v, or the error instead.
func answer(w http.ResponseWriter, v any, err error) {
	if err != nil {
		writeError(w, err)
		return
	}
	writeJSON(w, http.StatusOK, v)
}

// maxRequestBody is above every limit that the hub sets itself.
const maxRequestBody = 512 << 10

func readBody(w http.ResponseWriter, r *http.Request) ([]byte, bool) {
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequestBody))
	if err != nil {
		writeProblem(w, http.StatusRequestEntityTooLarge, "MessageTooLarge", "read the request: "+err.Error())
		return nil, false
	}
	return b, true
}

// sharedHandler is the part of the API that is served over TCP as well.
func (h *Hub) sharedHandler() *http.ServeMux {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", func(w http.ResponseWriter, r *http.Request) { answer(w, h.Status(), nil) })
	mux.HandleFunc("GET /v1/stats", func(w http.ResponseWriter, r *http.Request) {
		stats, err := h.Stats()
		answer(w, stats, err)
	})
	mux.HandleFunc("GET /v1/events", h.serveEvents)
	mux.HandleFunc("GET /v1/devices/{id}/twin", func(w http.ResponseWriter, r *http.Request) {
		t, err := h.Twin(r.Context(), r.PathValue("id"))
		answer(w, t, err)
	})
	mux.HandleFunc("PATCH /v1/devices/{id}/twin/desired", func(w http.ResponseWriter, r *http.Request) {
		if body, ok := readBody(w, r); ok {
			version, err := h.SetDesired(r.Context(), r.PathValue("id"), body)
			answer(w, map[string]int64{"version": version}, err)
		}
	})
	mux.HandleFunc("POST /v1/devices/{id}/methods/{name}", h.serveInvoke)
	mux.HandleFunc("POST /v1/devices/{id}/messages", h.serveSend)
	return mux
}

// adminHandler is the whole API, for the control socket.
func (h *Hub) adminHandler() http.Handler {
	mux := h.sharedHandler()
	mux.HandleFunc("GET /v1/devices", func(w http.ResponseWriter, r *http.Request) {
		devices, err := h.Devices()
		answer(w, devices, err)
	})
	mux.HandleFunc("POST /v1/devices", func(w http.ResponseWriter, r *http.Request) {
		var d Device
		if body, ok := readBody(w, r); ok {
			if err := json.Unmarshal(body, &d); err != nil {
				writeProblem(w, http.StatusBadRequest, "ArgumentInvalid", "read the request: "+err.Error())
				return
			}
			d, err := h.AddDevice(d.ID)
			answer(w, d, err)
		}
	})
	mux.HandleFunc("GET /v1/devices/{id}", func(w http.ResponseWriter, r *http.Request) {
		d, err := h.Device(r.PathValue("id"))
		answer(w, d, err)
	})
	mux.HandleFunc("PATCH /v1/devices/{id}", func(w http.ResponseWriter, r *http.Request) {
		var change struct {
			Enabled *bool `json:"enabled"`
		}
		body, ok := readBody(w, r)
		if !ok {
			return
		}
		if err := json.Unmarshal(body, &change); err != nil || change.Enabled == nil {
			writeProblem(w, http.StatusBadRequest, "ArgumentInvalid", `expected {"enabled":true|false}`)
			return
		}
		answer(w, struct{}{}, h.SetEnabled(r.PathValue("id"), *change.Enabled))
	})
	mux.HandleFunc("DELETE /v1/devices/{id}", func(w http.ResponseWriter, r *http.Request) {
		answer(w, struct{}{}, h.RemoveDevice(r.PathValue("id")))
	})
	mux.HandleFunc("POST /v1/devices/{id}/keys", func(w http.ResponseWriter, r *http.Request) {
		d, err := h.RegenerateKeys(r.PathValue("id"))
		answer(w, d, err)
	})
	return mux
}

func (h *Hub) serveEvents(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	bad := func(name string, err error) {
		writeProblem(w, http.StatusBadRequest, "ArgumentInvalid", fmt.Sprintf("%s: %v", name, err))
	}
	f := Filter{Device: q.Get("device")}
	if v := q.Get("since"); v != "" {
		t, err := time.Parse(time.RFC3339Nano, v)
		if err != nil {
			bad("since", err)
			return
		}
		f.Since = t
	}
	last, err := h.LastSeq()
	if err != nil {
		writeError(w, err)
		return
	}
	after := last // from now on
	if v := q.Get("after"); v != "" {
		if after, err = strconv.ParseInt(v, 10, 64); err != nil {
			bad("after", err)
			return
		}
		// A number of another database says nothing about this one: begin where it does.
		if store := q.Get("store"); store != "" && store != h.id {
			after = 0
		}
	}
	events := h.StoredEvents(r.Context(), after, f)
	if q.Get("follow") == "1" {
		events = h.Events(r.Context(), after, f)
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	flush := http.NewResponseController(w)
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	if enc.Encode(startRecord{Store: h.id, After: after}) != nil || flush.Flush() != nil {
		return
	}
	for e, err := range events {
		if err != nil {
			// The status is out already: a broken stream is how the client learns.
			h.log.Error("stream of events broken off", "error", err)
			panic(http.ErrAbortHandler)
		}
		shown, err := e.MarshalJSON()
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		if enc.Encode(eventRecord{Seq: e.Seq, Store: h.id, System: e.System, Event: shown}) != nil || flush.Flush() != nil {
			return
		}
	}
}

func (h *Hub) serveInvoke(w http.ResponseWriter, r *http.Request) {
	var timeout time.Duration
	if v := r.URL.Query().Get("timeout"); v != "" {
		var err error
		if timeout, err = time.ParseDuration(v); err != nil || timeout <= 0 {
			writeProblem(w, http.StatusBadRequest, "ArgumentInvalid", fmt.Sprintf("timeout %q is not a duration such as 30s", v))
			return
		}
	}
	if body, ok := readBody(w, r); ok {
		result, err := h.Invoke(r.Context(), r.PathValue("id"), r.PathValue("name"), body, timeout)
		answer(w, result, err)
	}
}

// propertyHeader carries an application property of a cloud-to-device message.
const propertyHeader = "X-Property"

func (h *Hub) serveSend(w http.ResponseWriter, r *http.Request) {
	body, ok := readBody(w, r)
	if !ok {
		return
	}
	m := Bound{Body: body, Properties: map[string]string{}, ContentType: r.Header.Get("Content-Type"), ContentEncoding: r.Header.Get("Content-Encoding")}
	for _, p := range r.Header.Values(propertyHeader) {
		_, properties, err := parseBag(p)
		if err != nil {
			writeProblem(w, http.StatusBadRequest, "ArgumentInvalid", propertyHeader+": "+err.Error())
			return
		}
		for k, v := range properties {
			m.Properties[k] = v
		}
	}
	id, err := h.Send(r.Context(), r.PathValue("id"), m)
	answer(w, map[string]string{"messageId": id}, err)
}

// tcpHandler guards the API over TCP: no web page may reach it through a
// browser on this machine, and beyond loopback it needs the token.
func (h *Hub) tcpHandler() http.Handler {
	handler := http.NewCrossOriginProtection().Handler(h.sharedHandler())
	loopback := h.httpToken == ""
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if loopback && !localName(r.Host) {
			// A name that was made to point here, to get around the browser's rules.
			writeProblem(w, http.StatusMisdirectedRequest, "HostNotLocal", "this address is only reached as localhost or by its number")
			return
		}
		if !loopback {
			token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
			if subtle.ConstantTimeCompare([]byte(token), []byte(h.httpToken)) != 1 {
				w.Header().Set("WWW-Authenticate", "Bearer")
				writeProblem(w, http.StatusUnauthorized, "Unauthorized", "send the token in the state folder's file "+tokenName+" as: Authorization: Bearer TOKEN")
				return
			}
		}
		handler.ServeHTTP(w, r)
	})
}

func isLoopback(l net.Listener) bool {
	a, err := netip.ParseAddrPort(l.Addr().String())
	return err == nil && a.Addr().Unmap().IsLoopback()
}

// localName tells whether a Host header names this machine's loopback.
func localName(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.Trim(host, "[]")
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

// tokenName is the file with the token of the API over TCP.
const tokenName = "http-token"

func loadToken(dir string) (string, error) {
	file := filepath.Join(dir, tokenName)
	b, err := os.ReadFile(file)
	if err == nil {
		if token := strings.TrimSpace(string(b)); len(token) >= 16 {
			return token, nil
		}
		return "", fmt.Errorf("%s: the token has fewer than 16 characters; remove the file to have one made", file)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("read the API's token: %w", err)
	}
	token := newID()
	if err := renameio.WriteFile(file, []byte(token+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("write the API's token: %w", err)
	}
	return token, nil
}
