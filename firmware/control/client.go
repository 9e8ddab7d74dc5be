package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"time"
)

// ErrNotRunning is that no daemon answers.
var ErrNotRunning = errors.New("tuxwatchd is not running")

// Client asks the daemon behind a socket. The zero value looks for it where the
// environment says (TUXWATCH_SOCKET) and then in [DefaultSockets].
type Client struct {
	// Socket is the path to ask at; empty means to look.
	Socket string
}

// timeout bounds one question: the daemon answers from memory.
const timeout = 10 * time.Second

// Status asks how the daemon is doing.
func (c Client) Status(ctx context.Context) (*Status, error) {
	var s Status
	return &s, c.get(ctx, "/v1/status", &s)
}

// Configuration asks what is configured and where each value comes from.
func (c Client) Configuration(ctx context.Context) (*Configuration, error) {
	var cfg Configuration
	return &cfg, c.get(ctx, "/v1/config", &cfg)
}

func (c Client) get(ctx context.Context, path string, into any) error {
	status, body, err := c.ask(ctx, path)
	if err != nil {
		return err
	}
	if status != http.StatusOK {
		return refusal(status, body)
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("reading tuxwatchd's answer (is it the same version as this command?): %w", err)
	}
	return nil
}

func refusal(status int, body []byte) error {
	return fmt.Errorf("asking tuxwatchd: %d %s: %s", status, http.StatusText(status), strings.TrimSpace(string(body)))
}

// ask gives the answer as it is.
func (c Client) ask(ctx context.Context, path string) (status int, body []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	transport := &http.Transport{
		DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return c.dial(ctx) },
		DisableKeepAlives: true,
	}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://tuxwatchd"+path, nil)
	if err != nil {
		return 0, nil, err
	}
	resp, err := transport.RoundTrip(req)
	if errors.Is(err, ErrNotRunning) {
		return 0, nil, err
	}
	if err != nil {
		return 0, nil, fmt.Errorf("asking tuxwatchd: %w", err)
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(io.LimitReader(resp.Body, 16<<20))
	if err != nil {
		return 0, nil, fmt.Errorf("asking tuxwatchd: %w", err)
	}
	return resp.StatusCode, body, nil
}

// dial connects to the first socket that is there.
func (c Client) dial(ctx context.Context) (net.Conn, error) {
	paths := DefaultSockets
	if c.Socket != "" {
		paths = []string{c.Socket}
	} else if env := os.Getenv(EnvSocket); env != "" {
		paths = []string{env}
	}
	var last error
	for _, p := range paths {
		conn, err := dial(ctx, p)
		switch {
		case err == nil:
			return conn, nil
		case errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED):
			// Nobody is there; a refused one is left over from a crash.
		case errors.Is(err, fs.ErrPermission):
			last = fmt.Errorf("no permission to open %s: use sudo, or become a member of the group that owns it", p)
		default:
			last = err
		}
	}
	if last == nil {
		last = fmt.Errorf("%w (no answer at %s)", ErrNotRunning, strings.Join(paths, ", "))
	}
	return nil, last
}
