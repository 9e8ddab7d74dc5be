package config

import (
	"testing"
	"time"
)

func TestSize(t *testing.T) {
	for text, want := range map[string]int64{
		"0": 0, "1B": 1, "512KB": 512e3, "100MB": 100e6, "100 MB": 100e6, "64MiB": 64 << 20, "1.5GB": 1.5e9,
		"2k": 2e3, "3mib": 3 << 20, "1TB": 1e12, " 7 kb ": 7e3,
	} {
		if got, err := parseSize(text); err != nil || got != want {
			t.Errorf("%q: %d, %v; want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "5", "-1MB", "MB", "1XB", "1e3MB", "0x10KB", "1.2.3MB", "99999999999TB", "NaNMB", "1_0KB", "inf MB"} {
		if got, err := parseSize(text); err == nil {
			t.Errorf("%q is taken for %d", text, got)
		}
	}
	for size, want := range map[Size]string{0: "0B", 1: "1B", 1500: "1500B", 2000: "2KB", 1 << 20: "1MiB", 256e6: "256MB"} {
		if got := size.String(); got != want {
			t.Errorf("%d is written %s, want %s", int64(size), got, want)
		}
		var back Size
		if err := back.UnmarshalText([]byte(size.String())); err != nil || back != size {
			t.Errorf("%s is read back as %d, %v", size, int64(back), err)
		}
	}
}

func TestDuration(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"0": 0, "0s": 0, "5s": 5 * time.Second, "1m30s": 90 * time.Second, "1.5h": 90 * time.Minute,
		"7d": 168 * time.Hour, "2w": 336 * time.Hour, "1w2d3h": 219 * time.Hour, "-2m": -2 * time.Minute, " 3s ": 3 * time.Second,
	} {
		if got, err := parseDuration(text); err != nil || got != want {
			t.Errorf("%q: %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "5", "s", "d", "1.5d", "d5", "--5s", "5 minutes", "1h2d", "99999999999w", "9999999d9999999h"} {
		if got, err := parseDuration(text); err == nil {
			t.Errorf("%q is taken for %v", text, got)
		}
	}
	for d, want := range map[time.Duration]string{
		0: "0s", time.Second: "1s", time.Minute: "1m", 90 * time.Second: "1m30s", time.Hour: "1h", 36 * time.Hour: "36h",
		48 * time.Hour: "2d", 1500 * time.Millisecond: "1.5s", 10 * time.Second: "10s",
	} {
		if got := formatDuration(d); got != want {
			t.Errorf("%v is written %s, want %s", d, got, want)
		}
		if back, err := parseDuration(formatDuration(d)); err != nil || back != d {
			t.Errorf("%v is read back as %v, %v", d, back, err)
		}
	}
}
