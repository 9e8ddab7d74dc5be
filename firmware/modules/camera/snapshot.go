package camera

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"tuxwatch/firmware/edge"
)

// MethodSnapshot is the direct method that answers with the newest picture, a
// [Snapshot]. Its payload, which may be left out, is a [SnapshotRequest].
const MethodSnapshot = "snapshot"

// SnapshotRequest says which picture is wanted.
type SnapshotRequest struct {
	// After is the capture time of the picture that the asker has: the answer is
	// 304 while there is none newer.
	After time.Time `json:"after,omitzero"`
	// MaxBytes is the largest picture that the asker takes; 0 for what a hub
	// carries. The answer to a larger one is 413.
	MaxBytes int `json:"maxBytes,omitempty"`
}

// Snapshot is a picture as the method gives it.
type Snapshot struct {
	Sequence    int       `json:"sequence"`
	Source      string    `json:"source"`
	CaptureTime time.Time `json:"captureTime"`
	ContentType string    `json:"contentType"`
	// Picture is the encoded picture; base64 in JSON.
	Picture []byte `json:"picture"`
}

// hubBytes is the largest picture that is answered unless more is asked for: in
// base64 it fits into the 128 KB that Azure IoT Hub has for a method's answer.
const hubBytes = 90_000

// latest is the picture that was captured last.
type latest struct{ p atomic.Pointer[picture] }

func (l *latest) serve(c *edge.Client) {
	c.HandleMethod(MethodSnapshot, func(_ context.Context, payload json.RawMessage) (int, any) {
		var request SnapshotRequest
		if len(payload) > 0 {
			if err := json.Unmarshal(payload, &request); err != nil {
				return http.StatusBadRequest, failure("the payload must be an object with after and maxBytes, or nothing: %v", err)
			}
		}
		return l.answer(request)
	})
}

func (l *latest) answer(request SnapshotRequest) (int, any) {
	p := l.p.Load()
	most := request.MaxBytes
	if most == 0 {
		most = hubBytes
	}
	switch {
	case p == nil:
		return http.StatusServiceUnavailable, failure("the camera has taken no picture yet")
	case !p.captured.After(request.After):
		return http.StatusNotModified, nil
	case len(p.body) > most:
		return http.StatusRequestEntityTooLarge, failure("the picture has %d bytes, more than maxBytes (%d)", len(p.body), most)
	}
	return http.StatusOK, Snapshot{p.sequence, p.source, p.captured, p.contentType, p.body}
}

func failure(format string, args ...any) map[string]string {
	return map[string]string{"error": fmt.Sprintf(format, args...)}
}
