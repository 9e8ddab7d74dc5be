package provision

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"tuxwatch/firmware/cloud"
)

// parseConnectionString reads a file with a device's connection string and
// gives it as the daemon reads it. device and hub are what a report may say.
func parseConnectionString(text string, now time.Time) (value, device, hub string, problems []Problem) {
	lines := meaningfulLines(text, "#")
	switch len(lines) {
	case 0:
		return "", "", "", []Problem{{Message: "there is no connection string in it"}}
	case 1:
	default:
		return "", "", "", []Problem{lines[1].problem(0, "there is more than one line; a connection string is one")}
	}
	value = unquote(lines[0].text)
	endpoint, err := checkConnectionString(value, now)
	if err != nil {
		return "", "", "", []Problem{lines[0].problem(0, "%v", err)}
	}
	return value, endpoint.Device, endpoint.Hub, nil
}

// checkConnectionString asks the connection itself, which reads it from a file:
// one in memory, so that the secret is on no disk until it is known to be right.
func checkConnectionString(value string, now time.Time) (cloud.Endpoint, error) {
	fd, err := unix.MemfdCreate("connection-string", unix.MFD_CLOEXEC)
	if err != nil {
		return cloud.Endpoint{}, fmt.Errorf("making a file in memory to check it: %w", err)
	}
	file := os.NewFile(uintptr(fd), "connection-string")
	defer file.Close()
	if _, err := file.WriteString(value); err != nil {
		return cloud.Endpoint{}, fmt.Errorf("making a file in memory to check it: %w", err)
	}
	c := cloud.DefaultConfig()
	c.Dialect = cloud.DialectAzure
	c.ConnectionStringFile = fmt.Sprintf("/proc/self/fd/%d", fd)
	endpoint, err := c.Endpoint(func() time.Time { return now }, slog.New(slog.DiscardHandler))
	if err != nil {
		// Where it was read from says nothing to anybody.
		message := err.Error()
		if _, after, ok := strings.Cut(message, c.ConnectionStringFile+": "); ok {
			message = after
		}
		return endpoint, errors.New(message)
	}
	return endpoint, nil
}
