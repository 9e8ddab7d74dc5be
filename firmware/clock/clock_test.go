package clock_test

import (
	"testing"
	"time"

	"tuxwatch/firmware/clock"
)

// A moment is told as it was, to the nanosecond, while the clock is not set,
// however the two clocks are slewed. (That it moves with a clock that is set,
// the emulated Pi shows, whose clock a test can set.)
func TestThenStays(t *testing.T) {
	then := time.Now()
	for range 100_000 {
		if got := clock.Then(then, time.Now()); !got.Equal(then) {
			t.Fatalf("got %v, want %v", got, then)
		}
	}
}

// A moment without a monotonic part is taken by the clock alone.
func TestThenWithoutMonotonicPart(t *testing.T) {
	now := time.Now()
	then := now.Add(-time.Hour).Round(0)
	if got := clock.Then(then, now); !got.Equal(then) {
		t.Errorf("got %v, want %v", got, then)
	}
}
