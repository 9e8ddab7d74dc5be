package check

import (
	"context"
	"fmt"
	"strings"

	"tuxwatch/firmware/control"
)

func (c *checker) configuration(context.Context) {
	file := c.Config.File
	if c.Daemon != nil {
		file = c.Daemon.Config.File
	}
	for _, p := range c.ConfigProblems {
		c.fail("configuration", "", p.String(), "correct it; tuxwatch config edit shows what is wrong while you do, and tuxwatchd reads it by itself")
	}
	switch {
	case len(c.ConfigProblems) > 0:
	case c.ConfigSource == control.FromBuiltIn:
		c.ok("configuration", "", "the built-in one: there is no file")
	default:
		c.ok("configuration", "", file+" is valid")
	}
	for _, w := range c.Config.Warnings {
		c.warn("configuration", "", w.String(), "")
	}
}

func (c *checker) daemon(context.Context) {
	const start = "start it: sudo systemctl start tuxwatchd; if it ends again: journalctl -u tuxwatchd"
	switch {
	case c.Daemon == nil && c.DaemonError != nil:
		c.warn("daemon", "", c.DaemonError.Error(), start)
	case c.Daemon == nil:
		c.warn("daemon", "", "tuxwatchd is not running; what it would use is tried without it", start)
	case len(c.Daemon.Watchdog.Stuck) > 0:
		c.fail("daemon", "", "no progress in "+strings.Join(c.Daemon.Watchdog.Stuck, ", "),
			"systemd starts it again by itself; if it comes back, keep what journalctl -u tuxwatchd shows")
	default:
		c.ok("daemon", "", fmt.Sprintf("tuxwatchd %s runs (process %d)", c.Daemon.Version, c.Daemon.PID))
	}
	if c.Daemon == nil {
		return
	}
	o := c.Daemon.Outbox
	switch {
	case o.DiskFull:
		c.fail("outbox", "", "the disk is full; old messages are dropped", "make room, or lower outbox.max_bytes")
	case o.Fault != "":
		c.fail("outbox", "", "it cannot be written: "+o.Fault, "see the check disk")
	case o.Damage != "":
		c.warn("outbox", "", fmt.Sprintf("it was damaged (%s); %d messages were saved", o.Damage, o.Salvaged), "if this comes back, replace the card")
	case o.SetAside > 0:
		c.warn("outbox", "", fmt.Sprintf("%d messages that the hub kept refusing are set aside", o.SetAside), "see journalctl -u tuxwatchd for the hub's reasons")
	default:
		c.ok("outbox", "", fmt.Sprintf("%d messages wait", o.Depth))
	}
}
