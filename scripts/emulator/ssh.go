package emulator

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"path"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

const user = "tux"

// Key returns the ssh key in a file, which is made when there is none.
func Key(file string) (ssh.Signer, error) {
	content, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		content, err = newKey()
		if err == nil {
			err = os.WriteFile(file, content, 0o600)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("ssh key: %w", err)
	}
	signer, err := ssh.ParsePrivateKey(content)
	if err != nil {
		return nil, fmt.Errorf("ssh key %s: %w", file, err)
	}
	return signer, nil
}

func newKey() ([]byte, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	block, err := ssh.MarshalPrivateKey(private, "tuxwatch emulator")
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(block), nil
}

// AuthorizedKey is the line for authorized_keys that lets a key in.
func AuthorizedKey(key ssh.Signer) []byte { return ssh.MarshalAuthorizedKey(key.PublicKey()) }

// SSHPort is the port of 127.0.0.1 that leads to the device's ssh.
func (m *Machine) SSHPort() int { return m.sshPort }

// WaitReady waits until ssh lets the key in, and sets the clock.
func (m *Machine) WaitReady(ctx context.Context) error {
	// Before that there is no network.
	if _, err := m.Console.Wait(ctx, 0, linuxStarts); err != nil {
		return err
	}
	for {
		attempt, cancel := context.WithTimeout(ctx, 20*time.Second)
		_, err := m.ssh(attempt)
		cancel()
		if err == nil {
			return m.SetClock(ctx)
		}
		// The keys are put in place before ssh starts: none of ours will do. sshd
		// shuts out those who go on trying.
		if strings.Contains(err.Error(), "unable to authenticate") {
			return fmt.Errorf("ssh refuses the key: %w", err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for ssh: %w (%w); the console ends with:\n%s", ctx.Err(), err, lastLines(m.Console.Text(), 15))
		case <-m.ended:
			return fmt.Errorf("waiting for ssh: the device is off; the console ends with:\n%s", lastLines(m.Console.Text(), 15))
		case <-time.After(500 * time.Millisecond):
		}
	}
}

// SetClock sets the device's clock to this machine's, as NTP does where there is
// any: a Pi has no clock of its own.
func (m *Machine) SetClock(ctx context.Context) error {
	_, err := m.Run(ctx, fmt.Sprintf("sudo date --set=@%.3f", float64(time.Now().UnixMilli())/1000))
	return err
}

// Login tries to log in and returns the connection, which the caller closes.
func (m *Machine) Login(ctx context.Context, user string, how ...ssh.AuthMethod) (*ssh.Client, error) {
	address := fmt.Sprintf("127.0.0.1:%d", m.sshPort)
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	// The handshake takes no context: end it by closing what it reads from.
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	config := &ssh.ClientConfig{User: user, Auth: how, HostKeyCallback: m.remember}
	c, channels, requests, err := ssh.NewClientConn(conn, address, config)
	if err != nil {
		conn.Close()
		return nil, err
	}
	return ssh.NewClient(c, channels, requests), nil
}

// remember keeps the host's key. It is not compared with an earlier one: the
// connection does not leave this machine, and the tests compare it themselves.
func (m *Machine) remember(_ string, _ net.Addr, key ssh.PublicKey) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.hostKey = key
	return nil
}

// HostKey is the key the device showed when ssh connected, in the form of
// authorized_keys.
func (m *Machine) HostKey() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.hostKey == nil {
		return ""
	}
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(m.hostKey)))
}

// ssh returns the connection that commands go through.
func (m *Machine) ssh(ctx context.Context) (*ssh.Client, error) {
	m.mu.Lock()
	client := m.client
	m.mu.Unlock()
	if client != nil {
		return client, nil
	}
	if len(m.options.Keys) == 0 {
		return nil, errors.New("there is no key to log in with")
	}
	client, err := m.Login(ctx, user, ssh.PublicKeys(m.options.Keys...))
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	m.client = client
	m.mu.Unlock()
	return client, nil
}

func (m *Machine) closeSSH() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.client != nil {
		m.client.Close()
		m.client = nil
	}
}

// Run runs a shell command as tux and returns what it printed on its standard
// output. The error has what it printed on the other.
func (m *Machine) Run(ctx context.Context, command string) (string, error) {
	return m.run(ctx, command, nil)
}

func (m *Machine) run(ctx context.Context, command string, input []byte) (string, error) {
	// Closing the connection ends whatever waits for it.
	defer context.AfterFunc(ctx, m.closeSSH)()
	var session *ssh.Session
	for attempt := 0; ; attempt++ {
		client, err := m.ssh(ctx)
		if err != nil {
			return "", fmt.Errorf("ssh to run %q: %w", brief(command), err)
		}
		if session, err = client.NewSession(); err == nil {
			break
		}
		// The device has rebooted: connect again, once.
		m.closeSSH()
		if attempt > 0 {
			return "", fmt.Errorf("ssh to run %q: %w", brief(command), err)
		}
	}
	defer session.Close()
	var stdout, stderr bytes.Buffer
	session.Stdout, session.Stderr = &stdout, &stderr
	if input != nil {
		session.Stdin = bytes.NewReader(input)
	}
	if err := session.Run(command); err != nil {
		if ctx.Err() != nil {
			err = fmt.Errorf("%w (%w)", ctx.Err(), err)
		}
		return stdout.String(), fmt.Errorf("%q on the device: %w: %s", brief(command), err, strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), nil
}

func brief(command string) string {
	first, rest, _ := strings.Cut(command, "\n")
	if rest != "" || len(first) > 120 {
		return first[:min(len(first), 120)] + "…"
	}
	return first
}

// Upload writes a file on the device, as root, in one step: whoever reads it sees
// the old content or the new. mode is chmod's.
func (m *Machine) Upload(ctx context.Context, file, mode string, content []byte) error {
	if strings.ContainsAny(file, "' \n") {
		return fmt.Errorf("no name for a file on the device: %q", file)
	}
	temporary := path.Join(path.Dir(file), ".upload-"+path.Base(file))
	_, err := m.run(ctx, fmt.Sprintf("sudo sh -c 'cat > %[1]s && chmod %[2]s %[1]s && mv %[1]s %[3]s'", temporary, mode, file), content)
	if err != nil {
		return fmt.Errorf("writing %s: %w", file, err)
	}
	return nil
}
