package cloud

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"sync"
)

// methodCall is a direct method that the hub calls.
type methodCall struct {
	name    string
	id      string // to answer with
	payload []byte
}

// maxMethodCalls bounds the methods that run at the same time.
const maxMethodCalls = 8

// methodCalls runs methods, each in a goroutine of its own, and answers.
type methodCalls struct {
	device Device
	log    *slog.Logger
	answer func(call methodCall, status int, response []byte) error
	slots  chan struct{}
	group  sync.WaitGroup
}

func newMethodCalls(device Device, log *slog.Logger, answer func(methodCall, int, []byte) error) *methodCalls {
	return &methodCalls{device: device, log: log, answer: answer, slots: make(chan struct{}, maxMethodCalls)}
}

func (m *methodCalls) start(ctx context.Context, call methodCall) {
	select {
	case m.slots <- struct{}{}:
	default:
		m.reply(call, http.StatusTooManyRequests, json.RawMessage(`{"error":"too many methods are running"}`))
		return
	}
	m.group.Go(func() {
		defer func() { <-m.slots }()
		payload := json.RawMessage(call.payload)
		if len(payload) == 0 {
			payload = json.RawMessage("null")
		}
		if !json.Valid(payload) {
			m.reply(call, http.StatusBadRequest, json.RawMessage(`{"error":"the payload is not JSON"}`))
			return
		}
		status, response := m.device.Invoke(ctx, call.name, payload)
		m.reply(call, status, response)
	})
}

func (m *methodCalls) reply(call methodCall, status int, response json.RawMessage) {
	if len(response) == 0 {
		response = json.RawMessage("null")
	}
	if err := m.answer(call, status, response); err != nil {
		m.log.Warn("The answer of a method could not be sent", "method", call.name, "error", err)
	}
}

// wait waits for the methods that still run; their context has ended.
func (m *methodCalls) wait() { m.group.Wait() }
