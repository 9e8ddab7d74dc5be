package camera

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"

	"tuxwatch/firmware/edge"
	"tuxwatch/firmware/edge/edgetest"
)

func TestSnapshot(t *testing.T) {
	dir := t.TempDir()
	h := edgetest.Start(t, quick(nil), settings(func(s *Settings) { s.Path = dir }), fast)
	if status, body := h.Invoke("snapshot", ""); status != 503 || !bytes.Contains(body, []byte("no picture yet")) {
		t.Errorf("before the first: %d %s", status, body)
	}
	write(t, dir, "one.jpg", photo(t, 1))
	h.Eventually(func(s edge.ModuleStatus) bool { return s.Counters["frames_captured"] > 0 })
	status, body := h.Invoke("snapshot", `{}`)
	var s Snapshot
	if err := json.Unmarshal(body, &s); status != 200 || err != nil {
		t.Fatalf("%d %s %v", status, body, err)
	}
	if s.Source != "one.jpg" || s.ContentType != "image/jpeg" || !bytes.Equal(s.Picture, photo(t, 1)) || time.Since(s.CaptureTime) > time.Minute {
		t.Errorf("%+v", s)
	}
	for name, c := range map[string]struct {
		payload string
		status  int
	}{
		"none newer":   {`{"after":"` + s.CaptureTime.Add(time.Hour).Format(time.RFC3339Nano) + `"}`, 304},
		"an older one": {`{"after":"` + s.CaptureTime.Add(-1).Format(time.RFC3339Nano) + `"}`, 200},
		"too large":    {`{"maxBytes":10}`, 413},
		"not JSON":     {`"now"`, 400},
	} {
		if status, body := h.Invoke("snapshot", c.payload); status != c.status {
			t.Errorf("%s: %d %s, want %d", name, status, body, c.status)
		}
	}
}
