// Package clock tells moments truly on a device whose clock is set while it
// runs: a Pi has none of its own, and is years off until NTP has been heard.
package clock

import "time"

// step is the least difference taken for a setting of the clock. NTP slews
// smaller ones away, over which the two clocks of Linux part by nanoseconds
// that are not worth a moment's moving about.
const step = time.Second

// Then returns when then was, by what the clock says now: where it was set in
// between, the moment is moved by as much. Both must come from time.Now, whose
// monotonic part tells how long it has been (package time, "Monotonic Clocks").
func Then(then, now time.Time) time.Time {
	elapsed, said := now.Sub(then), now.Round(0).Sub(then.Round(0))
	if (said - elapsed).Abs() < step {
		return then
	}
	return now.Add(-elapsed)
}
