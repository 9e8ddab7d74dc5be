package e2e

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// TestFullDisk lets another program fill the disk that the daemon keeps its
// state on, while the hub is away: the daemon goes on, drops the oldest and
// counts it, and delivers again when there is room.
func TestFullDisk(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("NOT TESTED: mounting a small disk needs root")
	}
	s := newSite(t, `
outbox: {max_bytes: 8MB}
modules:
  tempSensor: {desired: {SendInterval: 0.05}}
  filterModule: {desired: {TemperatureThreshold: 0}}
  imageReceiveProcessModule: {enabled: false}
  recognizer: {enabled: false}
`)
	disk := s.path("state")
	if err := os.Mkdir(disk, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=12m"); err != nil {
		t.Skipf("NOT TESTED: no small disk can be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if s.dev != nil {
			s.dev.kill()
		}
		if err := syscall.Unmount(disk, 0); err != nil {
			t.Errorf("unmounting %s: %v", disk, err)
		}
	})
	s.startDevice()
	events := s.monitor()
	s.next(events, "the first alert", func(event) bool { return true })
	s.hub.kill()

	outbox := func() (o struct {
		Dropped map[string]int64 `json:"dropped"`
		Depth   int              `json:"depth"`
		Puts    int64            `json:"puts"`
	}) {
		var status struct {
			Outbox json.RawMessage `json:"outbox"`
		}
		out := run(t, program("tuxwatch"), "status", "--json", "--socket", s.path("state/control.sock"))
		if err := errors.Join(json.Unmarshal([]byte(out), &status), json.Unmarshal(status.Outbox, &o)); err != nil {
			t.Fatalf("%v in %s", err, out)
		}
		return o
	}
	s.eventually("a backlog", func() bool { return outbox().Depth >= 200 })
	fill(t, filepath.Join(disk, "of-another-program"))
	s.eventually("messages dropped and counted because the disk is full", func() bool {
		return outbox().Dropped["disk_full"] > 0
	})
	taken := outbox().Puts
	s.eventually("new messages in place of the oldest", func() bool { return outbox().Puts > taken+10 })

	if err := os.Remove(filepath.Join(disk, "of-another-program")); err != nil {
		t.Fatal(err)
	}
	room := time.Now()
	s.startHub()
	s.next(events, "an alert of the time after", func(e event) bool {
		var body struct {
			TimeCreated time.Time `json:"timeCreated"`
		}
		return json.Unmarshal(e.Body, &body) == nil && body.TimeCreated.After(room)
	})
	s.dev.stop()
}

// fill takes every byte that is left.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for block := make([]byte, 64<<10); len(block) > 0; {
		if _, err := f.Write(block); errors.Is(err, syscall.ENOSPC) {
			block = block[:len(block)/2]
		} else if err != nil {
			t.Fatal(err)
		}
	}
}
