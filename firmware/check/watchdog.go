package check

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"
)

// watchdog: the board's, which starts a system again that hangs, and systemd's,
// which does so with the daemon.
func (c *checker) watchdog(context.Context) {
	const dir = "/sys/class/watchdog/watchdog0"
	state, err := os.ReadFile(c.path(dir + "/state"))
	const turnOn = "set RuntimeWatchdogSec=15 in /etc/systemd/system.conf and start again"
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if _, err := os.Stat(c.path("/dev/watchdog")); err == nil {
			c.warn("watchdog", "hardware", "there is one, but whether it is used is not known", turnOn)
			break
		}
		c.warn("watchdog", "hardware", "there is none: a system that hangs stays so", "on a Raspberry Pi: load bcm2835_wdt, or remove dtparam=watchdog=off from config.txt")
	case err != nil:
		c.warn("watchdog", "hardware", err.Error(), "")
	case strings.TrimSpace(string(state)) == "active":
		identity, _ := os.ReadFile(c.path(dir + "/identity"))
		c.ok("watchdog", "hardware", strings.TrimSpace(fmt.Sprintf("active, after %d s; %s", number(c.path(dir+"/timeout")), identity)))
	default:
		c.warn("watchdog", "hardware", "nothing feeds it: a system that hangs stays so", turnOn)
	}
	if c.Daemon == nil {
		return
	}
	if w := c.Daemon.Watchdog; w.IntervalSeconds > 0 {
		c.ok("watchdog", "tuxwatchd", fmt.Sprintf("systemd starts it again after %v without progress", time.Duration(w.IntervalSeconds*float64(time.Second))))
	} else {
		c.warn("watchdog", "tuxwatchd", "systemd does not watch it", "start it as the service tuxwatchd rather than by hand")
	}
}
