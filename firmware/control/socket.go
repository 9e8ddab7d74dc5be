package control

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// SocketName is the socket's file name in its directory.
const SocketName = "control.sock"

// EnvSocket is the environment variable that names the socket.
const EnvSocket = "TUXWATCH_SOCKET"

// DefaultSockets are where the daemon's socket is: under systemd, and when it
// was started by hand with the default state directory.
var DefaultSockets = []string{"/run/tuxwatch/" + SocketName, "/var/lib/tuxwatch/" + SocketName}

// Listen makes the socket, which the owner and the group may use. A socket left
// over from a daemon that died is replaced; the caller makes sure that no other
// daemon is alive.
func Listen(path string) (net.Listener, error) {
	if info, err := os.Lstat(path); err == nil {
		if info.Mode().Type() != fs.ModeSocket {
			return nil, fmt.Errorf("making the control socket: %s is in the way; remove it", path)
		}
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("removing the control socket of an earlier run: %w", err)
		}
	}
	short, done, err := shorten(path)
	if err != nil {
		return nil, fmt.Errorf("making the control socket: %w", err)
	}
	defer done()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: short, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("making the control socket %s: %w", path, err)
	}
	l.SetUnlinkOnClose(false) // under its short name it cannot be found any more
	if err := os.Chmod(path, 0o660); err != nil {
		l.Close()
		return nil, fmt.Errorf("making the control socket: %w", err)
	}
	return &listener{UnixListener: l, path: path}, nil
}

type listener struct {
	*net.UnixListener
	path string
}

// Close also removes the file.
func (l *listener) Close() error {
	err := l.UnixListener.Close()
	if rm := os.Remove(l.path); rm != nil && !errors.Is(rm, fs.ErrNotExist) {
		err = errors.Join(err, rm)
	}
	return err
}

func dial(ctx context.Context, path string) (net.Conn, error) {
	short, done, err := shorten(path)
	if err != nil {
		return nil, err
	}
	defer done()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", short)
	var op *net.OpError
	if errors.As(err, &op) {
		err = fmt.Errorf("%s: %w", path, op.Err)
	}
	return conn, err
}

// shorten gives a name for the socket that fits into a socket address
// (unix(7): 108 bytes), by way of its directory's descriptor where the path is
// longer. done ends the name's life.
func shorten(path string) (short string, done func(), err error) {
	if len(path) < len(syscall.RawSockaddrUnix{}.Path) {
		return path, func() {}, nil
	}
	dir, err := unix.Open(filepath.Dir(path), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", nil, &fs.PathError{Op: "open", Path: filepath.Dir(path), Err: err}
	}
	return fmt.Sprintf("/proc/self/fd/%d/%s", dir, filepath.Base(path)), func() { unix.Close(dir) }, nil
}
