package main

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"tuxwatch/firmware/cloud"
	"tuxwatch/firmware/config"
	"tuxwatch/firmware/control"
	"tuxwatch/firmware/edge"
	"tuxwatch/firmware/outbox"
)

// noon is the moment of the made-up status.
var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// madeUp is a daemon with everything to show.
type madeUp struct{}

func (madeUp) Status() control.Status {
	return control.Status{
		Version: "1.2.3",
		PID:     123,
		Device:  "greenhouse-1",
		Started: noon.Add(-50 * time.Hour),
		Summary: "camera: /dev/video0: no such device; 2 modules working; refused by hub.example; 12 messages waiting",
		Config: control.ConfigStatus{
			File: "/etc/tuxwatch/tuxwatch.yaml", Source: control.FromFile, LoadedAt: noon.Add(-3 * time.Hour),
			RefusedAt: noon.Add(-90 * time.Second),
			Problems: []config.Problem{
				{File: "/etc/tuxwatch/tuxwatch.yaml", Line: 4, Column: 7, Path: "modules.camera.settings.source", Message: `"v4l" is not one of directory, command, v4l2`},
			},
			Warnings: []config.Problem{{File: "/etc/tuxwatch/tuxwatch.yaml", Line: 9, Column: 12, Path: "routes.r", Message: `the module "x" is switched off, and this route with it`}},
		},
		Edge: edge.Status{
			Modules: []edge.ModuleStatus{
				{
					ID: "camera", Kind: "camera", State: edge.Running, Since: noon.Add(-time.Hour), Cause: "/dev/video0: no such device\nsecond line",
					Counters: map[string]int64{"frames_dropped": 3, "frames": 100}, Restarts: 2,
				},
				{
					ID: "filterModule", Kind: "filter", State: edge.Running, Since: noon.Add(-50 * time.Hour), Healthy: true,
					Desired:      map[string]any{"TemperatureThreshold": 25, "AlertOn": "every"},
					DesiredError: `TemperatureThreshold: "hot" is not a number`,
					Reported:     map[string]any{"TemperatureThreshold": 25},
				},
				{ID: "tempSensor", Kind: "sensor", State: edge.Restarting, Since: noon.Add(-time.Second)},
			},
			Routes: []edge.RouteStatus{
				{Name: "filterToHub", Route: "FROM /messages/modules/filterModule/outputs/*\n  INTO $upstream", Priority: 9, Matched: 1234, Delivered: 1200, Failed: 30, Expired: 4},
				{Name: "r", Route: "FROM /messages/* INTO $upstream", Priority: 2},
			},
			Messages: 5000, Unrouted: 17, Stuck: []string{"camera: its loop"},
		},
		Disabled: []string{"recognizer"},
		Outbox: outbox.Stats{
			Depth: 12, Bytes: 34567, MaxBytes: 256e6, Oldest: noon.Add(-26 * time.Hour), Puts: 1200, Deleted: 1180, Rejected: 1,
			Dropped: map[outbox.Reason]int64{outbox.Age: 5, outbox.FullBytes: 3, outbox.Expired: 0}, SetAside: 2, DiskFull: true, Fault: "no space left on device",
			Damaged: 1, Damage: "malformed page", Salvaged: 44,
		},
		Hub: cloud.State{
			Dialect: "azure", Hub: "hub.example", Device: "greenhouse-1", Status: cloud.Refused, Since: noon.Add(-10 * time.Minute),
			Error: "bad credentials", Remedy: "check the key", NextAttempt: noon.Add(42 * time.Second), Failures: 9,
			Connections: 4, Sent: 1190, Acked: 1180, Resent: 6, InFlight: 0, TwinError: "version 3 is missing",
		},
		Watchdog:  control.Watchdog{IntervalSeconds: 60, Stuck: []string{"camera: its loop"}},
		LastAlert: &control.Alert{Time: noon.Add(-12 * time.Second), Module: "filterModule", Output: "output1"},
	}
}

func (madeUp) Frame(context.Context, string, json.RawMessage) (int, json.RawMessage) {
	return http.StatusNotFound, json.RawMessage(`{"error":"there is no method camera.snapshot"}`)
}

func (madeUp) Configuration() control.Configuration {
	return control.Configuration{File: "/etc/tuxwatch/tuxwatch.yaml", Source: control.FromFile, Values: []config.Value{
		{Path: "modules.filterModule.desired.TemperatureThreshold", Value: 30, Origin: config.OriginTwin},
		{Path: "log.level", Value: "debug", Origin: "/etc/tuxwatch/tuxwatch.yaml:3"},
	}}
}

func TestStatusForPeople(t *testing.T) {
	healthy := control.Status{
		Version: "1.2.3", PID: 123, Device: "d", Started: noon.Add(-90 * time.Second), Summary: "2 modules working",
		Config: control.ConfigStatus{File: "/etc/tuxwatch/tuxwatch.yaml", Source: control.FromBuiltIn, LoadedAt: noon},
		Hub:    cloud.State{Status: cloud.NotConfigured},
		Outbox: outbox.Stats{MaxBytes: 64 << 20},
	}
	for name, s := range map[string]control.Status{"troubled": madeUp{}.Status(), "healthy": healthy} {
		t.Run(name, func(t *testing.T) {
			var out strings.Builder
			if err := writeStatus(&out, &s, noon); err != nil {
				t.Fatal(err)
			}
			golden := "testdata/status-" + name + ".golden"
			if *update {
				if err := os.WriteFile(golden, []byte(out.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), out.String()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestAgesAndSizes(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0s", 59 * time.Second: "59s", time.Minute: "1m0s", 61 * time.Minute: "1h1m", 49 * time.Hour: "2d1h", -time.Hour: "0s",
	} {
		if got := age(noon.Add(-d), noon); got != want {
			t.Errorf("%v ago: %s, want %s", d, got, want)
		}
	}
	for n, want := range map[int64]string{0: "0 B", 999: "999 B", 1000: "1 kB", 34567: "34.6 kB", 256e6: "256 MB", 5e15: "5000 TB"} {
		if got := size(n); got != want {
			t.Errorf("%d bytes: %s, want %s", n, got, want)
		}
	}
}

// --watch shows it again and again until it is interrupted, which is no failure.
func TestWatch(t *testing.T) {
	defer goleak.VerifyNone(t)
	socket := filepath.Join(t.TempDir(), control.SocketName)
	l, err := control.Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	serving, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- control.Serve(serving, l, madeUp{}, slog.New(slog.DiscardHandler)) }()
	defer func() {
		stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	}()

	ctx, interrupt := context.WithTimeout(t.Context(), 20*time.Second)
	defer interrupt()
	out := &lines{after: 3, do: interrupt}
	var stderr strings.Builder
	code := run(ctx, []string{"status", "--watch", "--json", "--interval", "100ms", "--socket", socket}, nil, out, &stderr)
	if code != 0 || out.n < 3 {
		t.Errorf("ended with %d after %d lines: %s", code, out.n, &stderr)
	}
}

// lines counts lines, and does something after some.
type lines struct {
	n, after int
	do       func()
}

func (l *lines) Write(p []byte) (int, error) {
	l.n += bytes.Count(p, []byte("\n"))
	if l.n >= l.after {
		l.do()
	}
	return len(p), nil
}
