package emulator

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// monitor is a client of QEMU's control protocol (QEMU, docs/interop/qmp-spec.rst):
// one JSON object a line, answers to commands in their order, events in between.
type monitor struct {
	conn net.Conn
	read *bufio.Reader
	mu   sync.Mutex
}

// patience is how long QEMU may take to answer: its answers wait for a loop
// that serves the emulated devices too.
const patience = 60 * time.Second

// newMonitor takes QEMU's greeting and ends the negotiation.
func newMonitor(conn net.Conn) (*monitor, error) {
	m := &monitor{conn: conn, read: bufio.NewReader(conn)}
	conn.SetReadDeadline(time.Now().Add(patience))
	if _, err := m.read.ReadBytes('\n'); err != nil {
		return nil, fmt.Errorf("waiting for QEMU's greeting: %w", err)
	}
	return m, m.do("qmp_capabilities", nil, nil)
}

// do executes a command. result, if not nil, takes what it returns.
func (m *monitor) do(command string, arguments, result any) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	request := map[string]any{"execute": command}
	if arguments != nil {
		request["arguments"] = arguments
	}
	line, err := json.Marshal(request)
	if err != nil {
		return err
	}
	m.conn.SetDeadline(time.Now().Add(patience))
	if _, err := m.conn.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("QEMU's command %s: %w", command, err)
	}
	for {
		line, err := m.read.ReadBytes('\n')
		if err != nil {
			return fmt.Errorf("QEMU's answer to %s: %w", command, err)
		}
		var answer struct {
			Return json.RawMessage
			Error  *struct{ Desc string }
			Event  string
		}
		if err := json.Unmarshal(line, &answer); err != nil {
			return fmt.Errorf("QEMU's answer to %s: %w", command, err)
		}
		switch {
		case answer.Event != "":
		case answer.Error != nil:
			return fmt.Errorf("QEMU's command %s: %w", command, errors.New(answer.Error.Desc))
		case result != nil:
			return json.Unmarshal(answer.Return, result)
		default:
			return nil
		}
	}
}

// set sets a property of an object in QEMU's tree.
func (m *monitor) set(path, property string, value any) error {
	return m.do("qom-set", map[string]any{"path": path, "property": property, "value": value}, nil)
}
