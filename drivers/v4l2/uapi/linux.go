package uapi

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Linux is the running kernel.
type Linux struct{}

// Nodes lists /dev/video*, lowest number first.
func (Linux) Nodes() ([]string, error) {
	paths, err := filepath.Glob("/dev/video[0-9]*")
	if err != nil {
		return nil, err
	}
	number := func(path string) int {
		n, _ := strconv.Atoi(strings.TrimPrefix(path, "/dev/video"))
		return n
	}
	sort.Slice(paths, func(i, j int) bool { return number(paths[i]) < number(paths[j]) })
	return paths, nil
}

// Link looks for the name that udev gave a device.
func (Linux) Link(name string) string {
	if strings.ContainsRune(name, '/') {
		return ""
	}
	for _, dir := range []string{"/dev/v4l/by-id", "/dev/v4l/by-path"} {
		path := filepath.Join(dir, name)
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	return ""
}

// Open opens a device for reading, without blocking.
func (Linux) Open(path string) (Node, error) {
	for {
		// Not os.Open: its files join the runtime's poller, which some
		// drivers answer with an error before streaming has begun.
		fd, err := unix.Open(path, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err == nil {
			var stat unix.Stat_t
			if err := unix.Fstat(fd, &stat); err == nil && stat.Mode&unix.S_IFMT != unix.S_IFCHR {
				unix.Close(fd)
				return nil, &os.PathError{Op: "open", Path: path, Err: errors.New("not a character device")}
			}
			return &node{fd: fd}, nil
		}
		if err != unix.EINTR {
			return nil, &os.PathError{Op: "open", Path: path, Err: err}
		}
	}
}

type node struct{ fd int }

func (n *node) Ioctl(request Request, arg unsafe.Pointer) error {
	for {
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(n.fd), uintptr(request), uintptr(arg))
		switch errno {
		case 0:
			return nil
		case unix.EINTR:
		default:
			return errno
		}
	}
}

func (n *node) Mmap(offset int64, length int) ([]byte, error) {
	return unix.Mmap(n.fd, offset, length, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
}

func (n *node) Munmap(memory []byte) error { return unix.Munmap(memory) }

func (n *node) Poll(timeout time.Duration) (bool, error) {
	deadline := time.Now().Add(timeout)
	for {
		fds := []unix.PollFd{{Fd: int32(n.fd), Events: unix.POLLIN}}
		left := max(0, time.Until(deadline).Milliseconds())
		ready, err := unix.Poll(fds, int(left))
		switch {
		case err == unix.EINTR:
		case err != nil:
			return false, fmt.Errorf("poll: %w", err)
		default:
			return ready > 0, nil
		}
	}
}

func (n *node) Close() error { return unix.Close(n.fd) }
