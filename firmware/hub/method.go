package hub

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Errors of direct methods. Over HTTP they are 404 and 504, as at Azure.
var (
	ErrDeviceOffline = errors.New("the device is not connected, or takes no direct methods")
	ErrMethodTimeout = errors.New("the device did not answer in time")
	ErrMethodCall    = errors.New("not a method call")
)

// Azure's limits for direct methods.
const (
	maxMethodPayload     = 128 << 10
	DefaultMethodTimeout = 30 * time.Second
	maxMethodTimeout     = 300 * time.Second
)

// methodName keeps a name fit to be a level of a topic.
var methodName = regexp.MustCompile(`^[!-~]{1,100}$`)

// MethodResult is a device's answer to a direct method.
type MethodResult struct {
	Status  int             `json:"status"`  // the device's own, in HTTP's manner
	Payload json.RawMessage `json:"payload"` // JSON; null when it sent none
}

// methodCalls are the calls that wait for an answer.
type methodCalls struct {
	mu      sync.Mutex
	last    uint64
	waiting map[string]methodCall // by $rid
}

type methodCall struct {
	device string
	result chan MethodResult // takes one
}

func newMethodCalls() *methodCalls {
	// Not from 1 in every process: a late answer to a call before a restart must
	// not be taken for one to a call after it.
	return &methodCalls{last: uint64(time.Now().UnixNano()) >> 10 & 0xffff_ffff, waiting: map[string]methodCall{}}
}

// Invoke calls a direct method on a device and waits for the answer; payload is
// JSON, or empty for null. A timeout of 0 is DefaultMethodTimeout.
func (h *Hub) Invoke(ctx context.Context, device, method string, payload []byte, timeout time.Duration) (MethodResult, error) {
	fail := func(err error) (MethodResult, error) {
		return MethodResult{}, fmt.Errorf("invoke %q on device %q: %w", method, device, err)
	}
	if len(payload) == 0 {
		payload = []byte("null")
	}
	switch {
	case !methodName.MatchString(method) || strings.ContainsAny(method, "/+#?"):
		return fail(fmt.Errorf("%w: a method's name has 1 to 100 printable ASCII characters without / + # ?", ErrMethodCall))
	case !json.Valid(payload):
		return fail(fmt.Errorf("%w: the payload is not JSON", ErrMethodCall))
	case len(payload) > maxMethodPayload:
		return fail(fmt.Errorf("%w: the payload is larger than %d bytes", ErrMethodCall, maxMethodPayload))
	case timeout < 0 || timeout > maxMethodTimeout:
		return fail(fmt.Errorf("%w: the timeout is at most %v", ErrMethodCall, maxMethodTimeout))
	case timeout == 0:
		timeout = DefaultMethodTimeout
	}
	if _, err := h.Device(device); err != nil {
		return fail(err)
	}
	s := h.session(device)
	if s == nil {
		return fail(ErrDeviceOffline)
	}

	call := methodCall{device: device, result: make(chan MethodResult, 1)}
	h.methods.mu.Lock()
	h.methods.last++
	rid := strconv.FormatUint(h.methods.last, 16)
	h.methods.waiting[rid] = call
	h.methods.mu.Unlock()
	defer func() {
		h.methods.mu.Lock()
		delete(h.methods.waiting, rid)
		h.methods.mu.Unlock()
	}()

	topic := topicMethodCall + method + "/?$rid=" + rid
	if _, ok := s.subscribed(topic); !ok || !s.push(publish(topic, payload)) {
		return fail(ErrDeviceOffline)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, ErrMethodTimeout)
	defer cancel()
	select {
	case r := <-call.result:
		return r, nil
	case <-ctx.Done():
		return fail(context.Cause(ctx))
	}
}

// answer takes a device's answer to the call rid. One that nobody waits for any
// more, or that is another device's, changes nothing.
func (m *methodCalls) answer(device, rid string, status int, payload []byte) {
	if len(payload) == 0 {
		payload = []byte("null")
	} else if !json.Valid(payload) {
		payload = []byte("null")
		status = http.StatusBadGateway // whatever it said, it did not say it in JSON
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	call, ok := m.waiting[rid]
	if !ok || call.device != device {
		return
	}
	delete(m.waiting, rid)
	call.result <- MethodResult{Status: status, Payload: payload}
}
