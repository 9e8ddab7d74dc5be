package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"tuxwatch/scripts/emulator"
)

type options struct {
	build                   string
	state, image, disk, key string
	arguments               string
	prepare, console        bool
	memory                  int
	sshPort, hubPort        int
}

// built is the path of something that was built.
func (o *options) built(name ...string) string {
	return filepath.Join(append([]string{o.build}, name...)...)
}

// device is the name that it has at the hub.
const device = "pi"

// session is one run: the device, which may be off, and its hub.
type session struct {
	options
	out  io.Writer
	card *emulator.Card
	keys []ssh.Signer
	hub  *emulator.Hub

	mu      sync.Mutex // held while a command is carried out
	machine *emulator.Machine
	off     chan struct{} // closed when the power is cut by command
}

func (o *options) run(ctx context.Context, out io.Writer) (err error) {
	if err := os.MkdirAll(o.state, 0o755); err != nil {
		return err
	}
	s := &session{options: *o, out: out}
	listener, err := s.listen()
	if err != nil {
		return err
	}
	defer listener.Close()
	if s.hubPort, err = s.port(s.hubPort, "the hub"); err != nil {
		return err
	}
	if s.sshPort, err = s.port(s.sshPort, "ssh"); err != nil {
		return err
	}
	key, err := emulator.Key(s.path("id_ed25519"))
	if err != nil {
		return err
	}
	s.keys = []ssh.Signer{key}
	if err := os.WriteFile(s.path("id_ed25519.pub"), emulator.AuthorizedKey(key), 0o644); err != nil {
		return err
	}
	if s.hub, err = emulator.NewHub(s.built("bin", "tuxhub"), s.path("hub"), s.hubPort); err != nil {
		return err
	}
	defer s.hub.Stop()
	if err := s.takeCard(); err != nil {
		return err
	}
	// Linux is told things that are for the emulated Pi only; a card that is kept
	// must not have them when it is put into a real one.
	before, err := s.card.Environment()
	if err != nil {
		return err
	}
	defer func() {
		if s.disk != "" {
			err = errors.Join(err, s.card.RestoreEnvironment("extraargs", before["extraargs"]))
		}
	}()

	go s.serve(ctx, listener)
	if err := s.powerOn(ctx); err != nil {
		return err
	}
	watcher, err := s.hub.Watch()
	if err != nil {
		return err
	}
	defer watcher.Stop()
	go s.alerts(ctx, watcher)
	if err := s.wait(ctx); err != nil {
		return err
	}
	return s.end()
}

func (s *session) path(name string) string { return filepath.Join(s.state, name) }

// port returns the port, or a free one if somebody has it.
func (s *session) port(wanted int, what string) (int, error) {
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", wanted))
	if err == nil {
		return wanted, l.Close()
	}
	port, free := emulator.FreePort()
	fmt.Fprintf(s.out, "Port %d is taken: %s is on port %d.\n", wanted, what, port)
	return port, free
}

// takeCard makes a new card of the image, or opens the one that is kept.
func (s *session) takeCard() (err error) {
	if s.disk != "" {
		if s.card, err = emulator.OpenCard(s.disk); err != nil || !s.prepare {
			return err
		}
		return s.putSettings(s.card)
	}
	if s.image == "" {
		if s.image, err = emulator.FindImage(s.build); err != nil {
			return err
		}
	}
	if s.card, err = emulator.NewCard(s.image, s.path("card.img")); err != nil {
		return err
	}
	return s.putSettings(s.card)
}

// files is where settings are put: a card's FAT partition.
type files interface {
	WriteFile(name string, content []byte) error
}

// putSettings does what a user does with the card in another computer.
func (s *session) putSettings(card files) error {
	connection, err := s.hub.AddDevice(device)
	if err != nil {
		return err
	}
	authority, err := os.ReadFile(s.hub.Authority())
	if err != nil {
		return err
	}
	keys, err := s.publicKeys()
	if err != nil {
		return err
	}
	settings := s.hub.Settings() + `modules:
  tempSensor:
    settings:
      machine: {driver: tmp105, bus: "1", address: 0x48}
    desired: {SendInterval: 1}
  camera:
    settings: {source: v4l2}
    desired: {FramesPerSecond: 0.5}
`
	for name, content := range map[string][]byte{
		"hostname":              []byte("tuxwatch\n"),
		"authorized_keys":       keys,
		"hub-connection-string": []byte(connection),
		"hub-ca.pem":            authority,
		"tuxwatch.yaml":         []byte(settings),
	} {
		if err := card.WriteFile("tuxwatch/"+name, content); err != nil {
			return err
		}
	}
	return nil
}

// publicKeys are the one of this folder and the user's own.
func (s *session) publicKeys() ([]byte, error) {
	keys := emulator.AuthorizedKey(s.keys[0])
	files := []string{s.key}
	if s.key == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return keys, nil
		}
		if files, err = filepath.Glob(filepath.Join(home, ".ssh", "id_*.pub")); err != nil {
			return nil, err
		}
	}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("your public key: %w", err)
		}
		if _, _, _, _, err := ssh.ParseAuthorizedKey(content); err != nil {
			return nil, fmt.Errorf("%s is no public ssh key: %w", file, err)
		}
		keys = append(keys, strings.TrimSpace(string(content))+"\n"...)
	}
	return keys, nil
}

// powerOn boots the device and says how far it is.
func (s *session) powerOn(ctx context.Context) error {
	options := emulator.Options{
		Dir: s.path("machine"), Keys: s.keys, SSHPort: s.sshPort, Memory: s.memory,
		KernelArguments: s.arguments,
	}
	if s.console {
		options.Console = s.out
	}
	machine, err := emulator.Boot(ctx, s.card, options)
	if err != nil {
		return err
	}
	s.machine, s.off = machine, make(chan struct{})
	if err := machine.SetTemperature(20); err != nil {
		return err
	}
	go s.progress(ctx, machine)
	return nil
}

var steps = []struct {
	pattern *regexp.Regexp
	says    string
}{
	{emulator.UBoot, "U-Boot has started"},
	{regexp.MustCompile(`tuxwatch: starting slot (\w)`), "Linux is being loaded"},
	{regexp.MustCompile(`(?i)login:`), "the system is up"},
}

// progress says how far the device is, and in the end how to use it.
func (s *session) progress(ctx context.Context, machine *emulator.Machine) {
	began := time.Now()
	say := func(format string, args ...any) {
		fmt.Fprintf(s.out, "%4.0f s  %s\n", time.Since(began).Seconds(), fmt.Sprintf(format, args...))
	}
	say("switched on; until the system is up it takes a minute or two without KVM")
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		for _, step := range steps {
			if _, err := machine.Console.Wait(ctx, 0, step.pattern); err != nil {
				return
			}
			say("%s", step.says)
		}
	}()
	ready, done := context.WithTimeout(ctx, 10*time.Minute)
	defer done()
	if err := machine.WaitReady(ready); err != nil {
		if ctx.Err() == nil {
			say("no ssh with %s: %v", s.path("id_ed25519"), err)
		}
		return
	}
	say("ssh lets the key in")
	s.manual()
}

func (s *session) manual() {
	fmt.Fprintf(s.out, `
The device is up. From another terminal:
  log in                       ssh -p %d -i %s -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null tux@127.0.0.1
  make it warm, in Celsius     scripts/qemu temperature 31.5
  show the camera a penguin    scripts/qemu picture models/samples/penguin-toy-desk.jpg
  change the threshold         build/bin/tuxhub --state %s twin set %s filterModule.TemperatureThreshold=30
  network, power, sensor       scripts/qemu network off, power-cut, power-on, sensor off; scripts/qemu --help
Logs: %s. Alerts appear below as they arrive at the hub on port %d. Ctrl-C ends it all.

`, s.sshPort, s.path("id_ed25519"), s.path("hub"), device, s.path("machine"), s.hubPort)
}

// alerts prints what arrives at the hub from now on.
func (s *session) alerts(ctx context.Context, watcher *emulator.Watcher) {
	began := time.Now()
	for n := 0; ; {
		var e emulator.Event
		var err error
		e, n, err = watcher.Next(ctx, n, func(e emulator.Event) bool { return e.Time.After(began) })
		if err != nil {
			return
		}
		body := string(e.Body)
		if len(body) > 100 {
			body = body[:100] + "…"
		}
		fmt.Fprintf(s.out, "%s  %s %s/%s  %s\n", e.Time.Local().Format(time.TimeOnly), e.Device, e.Module, e.Output, body)
	}
}

// wait returns when the user has had enough, or the device has switched itself
// off.
func (s *session) wait(ctx context.Context) error {
	for {
		s.mu.Lock()
		machine, off := s.machine, s.off
		s.mu.Unlock()
		var ended <-chan struct{}
		if machine != nil {
			ended = machine.Done()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-off: // by command; it may be switched on again
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(200 * time.Millisecond):
			}
		case <-ended:
			select {
			case <-off:
			default:
				fmt.Fprintln(s.out, "The device is off.")
				return nil
			}
		}
	}
}

// end switches the device off: a card that is kept properly, another by the plug.
func (s *session) end() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.machine == nil {
		return nil
	}
	defer s.machine.PowerCut()
	select {
	case <-s.machine.Done():
		return nil
	default:
	}
	if s.disk == "" {
		return nil
	}
	fmt.Fprintln(s.out, "\nShutting down; Ctrl-C cuts the power.")
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	return s.machine.Shutdown(ctx)
}
