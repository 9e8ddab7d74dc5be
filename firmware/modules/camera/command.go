package camera

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"tuxwatch/drivers/mjpeg"
	"tuxwatch/firmware/edge"
)

// command takes pictures from the Motion JPEG that a program writes to its
// standard output. All of it is read, so that the program never waits; the
// newest picture is kept.
type command struct {
	name  string
	stall time.Duration
	grace time.Duration
	c     *edge.Client

	cmd    *exec.Cmd
	stdout *os.File
	errors tail
	ended  chan struct{} // closed when program and reader have ended
	exit   error         // how the program ended; valid once ended is closed

	mu      sync.Mutex
	gone    bool // the program has ended: its number may be another's soon
	newest  []byte
	count   int           // pictures read
	arrived chan struct{} // closed at the next picture
}

func startCommand(argv []string, max int, stall, grace time.Duration, c *edge.Client) (*command, error) {
	s := &command{
		name: filepath.Base(argv[0]), stall: stall, grace: grace, c: c,
		ended: make(chan struct{}), arrived: make(chan struct{}),
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("starting %s: %w", s.name, err)
	}
	s.stdout = r
	s.cmd = exec.Command(argv[0], argv[1:]...)
	s.cmd.Stdout = w
	s.cmd.Stderr = &s.errors
	// A process that the program left behind may hold standard error open.
	s.cmd.WaitDelay = grace
	s.cmd.SysProcAttr = &syscall.SysProcAttr{
		Setpgid:   true,            // so that whatever it starts can be ended with it
		Pdeathsig: syscall.SIGKILL, // even if this process is killed
	}
	started := make(chan error, 1)
	var inside sync.WaitGroup
	inside.Add(2)
	c.Go(func(context.Context) error {
		defer inside.Done()
		s.run(started)
		return nil
	})
	err = <-started
	w.Close()
	if err != nil {
		r.Close()
		if errors.Is(err, exec.ErrNotFound) || errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("starting the camera's program: %w; install it, or name another with the setting command", err)
		}
		return nil, fmt.Errorf("starting the camera's program: %w", err)
	}
	c.Go(func(context.Context) error {
		defer inside.Done()
		s.read(max)
		return nil
	})
	c.Go(func(context.Context) error {
		inside.Wait()
		close(s.ended)
		return nil
	})
	return s, nil
}

func (s *command) String() string {
	return fmt.Sprintf("program %s (process %d)", s.name, s.cmd.Process.Pid)
}

// run starts the program and waits for its end.
func (s *command) run(started chan<- error) {
	// The kernel sends the signal of Pdeathsig when the thread that started the
	// program ends, so this goroutine keeps its thread.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := s.cmd.Start()
	started <- err
	if err != nil {
		return
	}
	pid := s.cmd.Process.Pid
	// Wait without reaping: as long as the program is a zombie its process
	// group cannot be another's, and what is left of it can be ended.
	for unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil) == unix.EINTR {
	}
	s.mu.Lock()
	s.gone = true
	unix.Kill(-pid, unix.SIGKILL)
	s.mu.Unlock()
	s.exit = s.cmd.Wait()
}

// read reads pictures until the program's standard output ends.
func (s *command) read(max int) {
	frames := mjpeg.NewReader(s.stdout, max)
	var spare []byte
	damaged := 0
	for {
		p, err := frames.Next(spare)
		if n := frames.Stats().Damaged; n > damaged {
			s.c.Count("frames_damaged", n-damaged)
			damaged = n
		}
		if err != nil {
			// Nothing more will come; let the program notice.
			s.stdout.Close()
			return
		}
		s.mu.Lock()
		spare, s.newest = s.newest, p
		s.count++
		close(s.arrived)
		s.arrived = make(chan struct{})
		s.mu.Unlock()
	}
}

// next waits for a picture that ends after the call.
func (s *command) next(ctx context.Context) (picture, error) {
	stalled := time.NewTimer(s.stall)
	defer stalled.Stop()
	s.mu.Lock()
	arrived := s.arrived
	s.mu.Unlock()
	select {
	case <-arrived:
	case <-ctx.Done():
		return picture{}, ctx.Err()
	case <-s.ended:
		return picture{}, s.failure()
	case <-stalled.C:
		return picture{}, fmt.Errorf("%s has written no picture for %v%s", s.name, s.stall, s.errors.quote())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return picture{body: append([]byte(nil), s.newest...), contentType: "image/jpeg", source: s.name, captured: time.Now()}, nil
}

// failure says how the program ended.
func (s *command) failure() error {
	how := "ended"
	if s.exit != nil && !errors.Is(s.exit, exec.ErrWaitDelay) {
		how = "failed: " + s.exit.Error()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.count == 0 {
		how += " without a picture (it has to write Motion JPEG to its standard output)"
	}
	return fmt.Errorf("%s %s%s", s.name, how, s.errors.quote())
}

// close ends the program and everything it started.
func (s *command) close() {
	s.signal(unix.SIGTERM)
	select {
	case <-s.ended:
		return
	case <-time.After(s.grace):
	}
	s.signal(unix.SIGKILL)
	s.stdout.Close()
	<-s.ended
}

// signal sends a signal to the program's process group. When the program has
// ended, run has seen to the rest of the group.
func (s *command) signal(sig unix.Signal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.gone {
		unix.Kill(-s.cmd.Process.Pid, sig)
	}
}

// tail keeps the last lines of what is written to it.
type tail struct {
	mu   sync.Mutex
	text []byte
}

var _ io.Writer = (*tail)(nil)

const (
	tailBytes = 2048
	tailLines = 5
)

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p[max(0, len(p)-tailBytes):]...)
	if over := len(t.text) - tailBytes; over > 0 {
		t.text = append(t.text[:0], t.text[over:]...)
	}
	return len(p), nil
}

// quote returns the last lines for the end of an error, or "".
func (t *tail) quote() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	lines := strings.FieldsFunc(strings.ToValidUTF8(string(t.text), "?"), func(r rune) bool { return r == '\n' || r == '\r' })
	if len(lines) == 0 {
		return ""
	}
	if over := len(lines) - tailLines; over > 0 {
		lines = lines[over:]
	}
	return fmt.Sprintf("; it said %q", strings.Join(lines, " | "))
}
