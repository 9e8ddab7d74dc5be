package hub

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
)

// socketName is the Unix socket for the operator's commands, in the state folder.
const socketName = "hub.sock"

// maxSocketPath is what fits in a socket address (unix(7)).
const maxSocketPath = 100

// withSocket calls f with a path to the socket in dir that is short enough,
// whatever dir is: by way of an open folder, where needed.
func withSocket(dir string, f func(path string) error) error {
	path := filepath.Join(dir, socketName)
	if len(path) <= maxSocketPath {
		return f(path)
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return f(filepath.Join("/proc/self/fd", strconv.Itoa(int(d.Fd())), socketName))
}

// listenUnix takes the socket. The caller holds the state's lock, so one that is
// there already was left behind by a hub that ended without notice.
func listenUnix(dir string) (l net.Listener, err error) {
	path := filepath.Join(dir, socketName)
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("remove the old control socket: %w", err)
	}
	err = withSocket(dir, func(short string) error {
		l, err = net.Listen("unix", short)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("%w on the control socket %s: %w", ErrListen, path, err)
	}
	// The short path may be gone by then; the folder's lock ends with the process.
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return nil, fmt.Errorf("protect the control socket: %w", err)
	}
	return l, nil
}

// dialUnix reaches the hub whose state is in dir.
func dialUnix(ctx context.Context, dir string) (c net.Conn, err error) {
	err = withSocket(dir, func(short string) error {
		var d net.Dialer
		c, err = d.DialContext(ctx, "unix", short)
		return err
	})
	return c, err
}
