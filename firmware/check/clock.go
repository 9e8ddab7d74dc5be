package check

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// plausible is before any moment at which a device with a clock that is set can
// run this program.
var plausible = time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)

// clock: certificates and tokens are only as good as it.
func (c *checker) clock(context.Context) {
	now := c.System.Now().UTC().Truncate(time.Second)
	says := "it says " + now.Format(time.RFC3339)
	synchronized, err := c.System.Synchronized()
	const ntp = "let the device reach an NTP server (UDP port 123); timedatectl timesync-status says how that goes"
	switch {
	case now.Before(plausible) || now.After(plausible.AddDate(50, 0, 0)):
		c.fail("clock", "", says+", which is wrong", ntp+"; by hand: sudo timedatectl set-time")
	case err != nil:
		c.warn("clock", "", fmt.Sprintf("%s; whether it is kept right is not known: %v", says, err), "")
	case !synchronized:
		c.warn("clock", "", says+", and nothing keeps it right", ntp)
	default:
		c.ok("clock", "", says+", synchronized")
	}
}

// synchronized asks the kernel, whom every NTP client tells (adjtimex(2)).
func synchronized() (bool, error) {
	var t unix.Timex
	state, err := unix.Adjtimex(&t)
	if err != nil {
		return false, fmt.Errorf("adjtimex: %w", err)
	}
	const timeError, unsynchronized = 5, 0x40 // TIME_ERROR, STA_UNSYNC
	return state != timeError && t.Status&unsynchronized == 0, nil
}
