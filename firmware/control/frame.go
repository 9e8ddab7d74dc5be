package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"
)

// Frame is a picture of one of the daemon's cameras.
type Frame struct {
	Sequence    int       `json:"sequence"` // counts from the start of the camera's module
	Source      string    `json:"source"`
	CaptureTime time.Time `json:"captureTime"`
	ContentType string    `json:"contentType"`
	Picture     []byte    `json:"picture"` // encoded, as the camera's module got it
}

var (
	// ErrNoCamera is that the daemon has no camera of that name.
	ErrNoCamera = errors.New("tuxwatchd has no such camera")
	// ErrNoPicture is that the camera has not taken a picture yet.
	ErrNoPicture = errors.New("the camera has taken no picture yet")
)

// frameBytes is the largest picture that is asked for: a camera's own limit, and
// in base64 less than a Client reads.
const frameBytes = 10 << 20

// Frame gives the newest picture of a camera, named by its module, or nil while
// there is none newer than after.
func (c Client) Frame(ctx context.Context, camera string, after time.Time) (*Frame, error) {
	query := url.Values{"camera": {camera}}
	if !after.IsZero() {
		query.Set("after", after.Format(time.RFC3339Nano))
	}
	status, body, err := c.ask(ctx, "/v1/frame?"+query.Encode())
	if err != nil {
		return nil, err
	}
	switch status {
	case http.StatusOK:
	case http.StatusNotModified:
		return nil, nil
	case http.StatusNotFound:
		return nil, fmt.Errorf("%w: %q: %s", ErrNoCamera, camera, reason(body))
	case http.StatusServiceUnavailable:
		return nil, fmt.Errorf("%w (%s)", ErrNoPicture, camera)
	default:
		return nil, refusal(status, body)
	}
	var f Frame
	if err := json.Unmarshal(body, &f); err != nil {
		return nil, fmt.Errorf("reading a picture from tuxwatchd (is it the same version as this command?): %w", err)
	}
	return &f, nil
}

// reason is the error in an answer.
func reason(body []byte) string {
	var answer struct{ Error string }
	if json.Unmarshal(body, &answer) == nil && answer.Error != "" {
		return answer.Error
	}
	return string(body)
}

// writeFrame answers GET /v1/frame.
func writeFrame(w http.ResponseWriter, r *http.Request, d Daemon) {
	request := struct {
		After    time.Time `json:"after,omitzero"`
		MaxBytes int       `json:"maxBytes"`
	}{MaxBytes: frameBytes}
	if after := r.URL.Query().Get("after"); after != "" {
		var err error
		if request.After, err = time.Parse(time.RFC3339Nano, after); err != nil {
			http.Error(w, "after: "+err.Error(), http.StatusBadRequest)
			return
		}
	}
	payload, err := json.Marshal(request)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	status, answer := d.Frame(r.Context(), r.URL.Query().Get("camera"), payload)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if status != http.StatusNotModified { // which has no body
		w.Write(answer) // an asker that has gone away needs no answer
	}
}
