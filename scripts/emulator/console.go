package emulator

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"sync"
)

// UBoot is what U-Boot prints when it starts: its version comes before it has
// found the serial port.
var UBoot = regexp.MustCompile(`Core: +\d+ devices`)

// linuxStarts is the last that U-Boot prints.
var linuxStarts = regexp.MustCompile(`Starting kernel \.\.\.`)

// Console is what the device prints on its serial port, from U-Boot on. All of
// it is kept.
type Console struct {
	mu      sync.Mutex
	text    []byte
	changed chan struct{} // closed and replaced when there is more
	ended   bool
	input   io.Writer
}

func newConsole(input io.Writer) *Console {
	return &Console{changed: make(chan struct{}), input: input}
}

// collect reads until the device is gone, with a copy to each of the writers.
func (c *Console) collect(from io.Reader, copies ...io.Writer) {
	chunk := make([]byte, 4096)
	for {
		n, err := from.Read(chunk)
		for _, w := range copies {
			w.Write(chunk[:n])
		}
		c.mu.Lock()
		c.text = append(c.text, chunk[:n]...)
		c.ended = err != nil
		close(c.changed)
		c.changed = make(chan struct{})
		c.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// Text returns all there is.
func (c *Console) Text() string {
	text, _, _ := c.snapshot()
	return text
}

func (c *Console) snapshot() (text string, changed <-chan struct{}, ended bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return string(c.text), c.changed, c.ended
}

// Len returns how much there is; what Wait takes to look at later output only.
func (c *Console) Len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.text)
}

// Wait waits until the output from offset on matches, and returns the match
// with its groups.
func (c *Console) Wait(ctx context.Context, offset int, pattern *regexp.Regexp) ([]string, error) {
	at, err := c.find(ctx, offset, pattern)
	if err != nil {
		return nil, fmt.Errorf("waiting for %q on the console: %w; it ends with:\n%s", pattern, err, lastLines(c.Text(), 15))
	}
	return pattern.FindStringSubmatch(c.Text()[offset:at[1]]), nil
}

// find waits for a match and returns where it begins and ends.
func (c *Console) find(ctx context.Context, offset int, pattern *regexp.Regexp) ([2]int, error) {
	for {
		text, changed, ended := c.snapshot()
		if at := pattern.FindStringIndex(text[offset:]); at != nil {
			return [2]int{offset + at[0], offset + at[1]}, nil
		}
		if err := ctx.Err(); err != nil {
			return [2]int{}, err
		}
		if ended {
			return [2]int{}, errors.New("the device is off")
		}
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
}

// Type types on the serial console.
func (c *Console) Type(text string) error {
	_, err := io.WriteString(c.input, text)
	return err
}

func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
