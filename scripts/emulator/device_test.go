package emulator_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"tuxwatch/scripts/emulator"
)

// root is the repository's.
const root = "../.."

// deviceID is the device's name at the hub.
const deviceID = "pi"

// Long enough for machines without KVM that are busy with other tests.
const (
	bootPatience = 8 * time.Minute
	patience     = 2 * time.Minute
)

// image returns the card image to test, which is built if there is none.
var image = sync.OnceValues(func() (string, error) {
	if file := os.Getenv("TUXWATCH_IMAGE"); file != "" {
		return file, nil
	}
	build := filepath.Join(root, "build")
	if file, err := emulator.FindImage(build); err == nil {
		return file, nil
	}
	fmt.Fprintln(os.Stderr, "there is no image: building one, which takes many minutes the first time")
	for _, command := range [][]string{{"scripts/setup", "build", "deb", "image"}, {"scripts/image/build", "--no-compress"}} {
		cmd := exec.Command(command[0], command[1:]...)
		cmd.Dir, cmd.Stdout, cmd.Stderr = root, os.Stderr, os.Stderr
		if err := cmd.Run(); err != nil {
			return "", fmt.Errorf("%s: %w", strings.Join(command, " "), err)
		}
	}
	return emulator.FindImage(build)
})

// tuxhub builds the hub of this tree.
var tuxhub = sync.OnceValues(func() (string, error) {
	cmd := exec.Command("go", "build", "-o", "build/emulator/", "./firmware/cmd/tuxhub")
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building tuxhub: %w: %s", err, out)
	}
	return filepath.Join(root, "build", "emulator", "tuxhub"), nil
})

// pi is a device with its card, and the hub it is registered with.
type pi struct {
	*testing.T
	dir  string
	card *emulator.Card
	key  ssh.Signer
	hub  *emulator.Hub
	seen *emulator.Watcher
	n    int           // events looked at
	took time.Duration // the first start
	kept bool          // its state was saved

	*emulator.Machine
}

// newPi makes a card with the settings that a user would put on it.
func newPi(t *testing.T) *pi {
	t.Helper()
	if testing.Short() {
		t.Skip("booting the image takes minutes; make test-device does it")
	}
	need := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	setup := exec.Command("scripts/setup", "emulator")
	setup.Dir = root
	out, err := setup.CombinedOutput()
	need(string(out), err)
	file, err := image()
	need("the image", err)
	t.Logf("the image is %s", file)
	program, err := tuxhub()
	need("the hub", err)
	p := &pi{T: t, dir: t.TempDir()}
	p.card, err = emulator.NewCard(file, p.path("card.img"))
	need("the card", err)
	p.key, err = emulator.Key(p.path("key"))
	need("the key", err)
	p.hub, err = emulator.NewHub(program, p.path("hub"), 0)
	need("the hub", err)
	t.Cleanup(p.hub.Stop)
	p.watch()

	connection, err := p.hub.AddDevice(deviceID)
	need("the device at the hub", err)
	authority, err := os.ReadFile(p.hub.Authority())
	need("the hub's certificate", err)
	p.put("authorized_keys", string(emulator.AuthorizedKey(p.key)))
	p.put("hostname", "greenhouse\n")
	p.put("hub-connection-string", connection)
	p.put("hub-ca.pem", string(authority))
	p.put("tuxwatch.yaml", p.hub.Settings()+configuration)
	return p
}

// configuration is the test's tuxwatch.yaml, apart from the hub.
const configuration = `  backoff: {min: 500ms, max: 5s}
modules:
  tempSensor:
    settings:
      machine: {driver: tmp105, bus: "1", address: 0x48}
    desired: {SendInterval: 1}
  camera:
    settings: {source: v4l2, device: vivid}
    desired: {FramesPerSecond: 0.5}
  imageReceiveProcessModule:
    settings: {listen: "0.0.0.0:1888", anonymous: true, busy_timeout: 60s}
`

func (p *pi) path(name string) string { return filepath.Join(p.dir, name) }

// put writes a file of the card's folder tuxwatch.
func (p *pi) put(name, content string) {
	p.Helper()
	if err := p.card.WriteFile("tuxwatch/"+name, []byte(content)); err != nil {
		p.Fatal(err)
	}
}

// report is the REPORT.txt that a user finds on the card.
func (p *pi) report() string {
	p.Helper()
	content, err := p.card.ReadFile("tuxwatch/REPORT.txt")
	if err != nil {
		p.Fatal(err)
	}
	return string(content)
}

// watch collects what arrives at the hub, from its first event on.
func (p *pi) watch() {
	p.Helper()
	watcher, err := p.hub.Watch()
	if err != nil {
		p.Fatal(err)
	}
	p.seen, p.n = watcher, 0
	p.Cleanup(watcher.Stop)
}

// switchOn puts the card in and gives power, without waiting.
func (p *pi) switchOn(options emulator.Options) {
	p.Helper()
	options.Dir, options.Keys = p.path("machine"), []ssh.Signer{p.key}
	machine, err := emulator.Boot(context.Background(), p.card, options)
	if err != nil {
		p.Fatal(err)
	}
	p.Machine = machine
	p.Cleanup(machine.PowerCut)
	if err := machine.SetTemperature(20); err != nil {
		p.Fatal(err)
	}
}

// ready waits until the device is up, and returns how long that took.
func (p *pi) ready() time.Duration {
	p.Helper()
	began := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), bootPatience)
	defer cancel()
	if err := p.WaitReady(ctx); err != nil {
		p.fatal("the boot: %v", err)
	}
	// The daemon is started after ssh may be.
	p.eventually("the daemon's start", func() error {
		_, err := p.try("systemctl is-active tuxwatchd")
		return err
	})
	return time.Since(began)
}

// artifacts is where a failed test leaves what tells why.
func (p *pi) artifacts() string {
	return filepath.Join(root, "build", "emulator", strings.ReplaceAll(p.Name(), "/", "-"))
}

// fatal saves the device's state and ends the test.
func (p *pi) fatal(format string, args ...any) {
	p.Helper()
	p.keep()
	p.Fatalf(format, args...)
}

func (p *pi) keep() {
	p.Helper()
	p.kept = true
	if err := p.Save(context.Background(), p.artifacts()); err != nil {
		p.Logf("of the device's state some could not be saved: %v", err)
	}
	p.Logf("console log, journal and screenshot are in %s", p.artifacts())
}

// as gives a part of the test a name, with the device as it is now. A part that
// fails leaves the device's state in build; the others go on.
func (p *pi) as(name string, part func(p *pi)) {
	p.T.Run(name, func(t *testing.T) {
		sub := *p
		sub.T = t
		defer func() {
			p.n, p.seen, p.Machine = sub.n, sub.seen, sub.Machine
			if t.Failed() && !sub.kept {
				sub.keep()
			}
		}()
		part(&sub)
	})
}

// try runs a command on the device.
func (p *pi) try(command string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return p.Machine.Run(ctx, command)
}

// sh runs a command on the device, which must succeed.
func (p *pi) sh(command string) string {
	p.Helper()
	out, err := p.try(command)
	if err != nil {
		p.fatal("%v\n%s", err, out)
	}
	return strings.TrimSpace(out)
}

// tuxhub runs a command of the hub's.
func (p *pi) tuxhub(args ...string) string {
	p.Helper()
	out, err := p.hub.Run(args...)
	if err != nil {
		p.fatal("%v", err)
	}
	return out
}

// eventually waits until check has nothing to say against it.
func (p *pi) eventually(what string, check func() error) {
	p.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			p.fatal("%s did not come about: %v", what, err)
		}
		time.Sleep(300 * time.Millisecond)
	}
}

// arrives waits for the next message at the hub that is wanted.
func (p *pi) arrives(what string, wanted func(emulator.Event) bool) emulator.Event {
	p.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	e, n, err := p.seen.Next(ctx, p.n, wanted)
	if err != nil {
		status, _ := p.try("tuxwatch status")
		p.fatal("%s: %v; the device says:\n%s", what, err, status)
	}
	p.n = n
	return e
}

// skip passes over what has arrived.
func (p *pi) skip() { p.n = len(p.seen.Events()) }

// status is the part of tuxwatch status --json that the tests look at.
type status struct {
	PID     int
	Started time.Time
	Config  struct {
		Source   string
		LoadedAt time.Time
		Problems []struct{ Message string }
	}
	Edge struct {
		Modules []struct {
			ID       string
			State    string
			Healthy  bool
			Cause    string
			Since    time.Time
			Restarts int
			Counters map[string]int64
		}
	}
	Outbox struct {
		Depth, Puts, Deleted int
		Damaged              int
		Fault                string
	}
	Hub struct {
		Status string
		Since  time.Time
	}
}

func (p *pi) status() (s status, err error) {
	out, err := p.try("tuxwatch status --json")
	if err == nil {
		err = json.Unmarshal([]byte(out), &s)
	}
	return s, err
}

// counter returns a module's counter.
func (s status) counter(module, name string) int64 {
	for _, m := range s.Edge.Modules {
		if m.ID == module {
			return m.Counters[name]
		}
	}
	return 0
}

// trouble says why a module is not at work.
func (s status) trouble(module string) error {
	for _, m := range s.Edge.Modules {
		switch {
		case m.ID != module:
		case m.State == "running" && m.Healthy:
			return nil
		default:
			return fmt.Errorf("%s is %s: %s", module, m.State, m.Cause)
		}
	}
	return fmt.Errorf("there is no module %s", module)
}

// counts waits until a counter has grown by n.
func (p *pi) counts(module, name string, n int64) {
	p.Helper()
	first := int64(-1)
	p.eventually(fmt.Sprintf("%d more %s of %s", n, name, module), func() error {
		s, err := p.status()
		if err != nil {
			return err
		}
		now := s.counter(module, name)
		if first < 0 {
			first = now
		}
		if now-first < n {
			return fmt.Errorf("%d since %d", now, first)
		}
		return nil
	})
}

// alert tells temperature alerts, and returns the temperature.
func alert(e emulator.Event) (celsius float64, ok bool) {
	var body struct {
		Machine struct{ Temperature float64 }
	}
	if e.Module != "filterModule" || e.Properties["MessageType"] != "Alert" || json.Unmarshal(e.Body, &body) != nil {
		return 0, false
	}
	return body.Machine.Temperature, true
}

// penguin tells what was seen, and where: the topic of a camera in the network,
// "" for the device's own.
func penguin(e emulator.Event) (topic string, ok bool) {
	var body struct {
		IsPenguin bool
		Topic     string
	}
	if e.Module != "imageReceiveProcessModule" || json.Unmarshal(e.Body, &body) != nil {
		return "", false
	}
	return body.Topic, body.IsPenguin
}
