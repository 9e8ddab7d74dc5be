package e2e

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// mainJob starts scripts/run, which is what make run starts.
func mainJob(t *testing.T, state string, hub, mqtt, http int) *process {
	t.Helper()
	return spawn(t, nil, filepath.Join(root, "scripts", "run"), "--state", state,
		"--hub-port", fmt.Sprint(hub), "--mqtt-port", fmt.Sprint(mqtt), "--http-port", fmt.Sprint(http))
}

func (p *process) prints(what string) {
	p.t.Helper()
	for deadline := time.Now().Add(patience); !strings.Contains(p.log.tail(1<<20), what); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			p.t.Fatalf("it never printed %q, but\n%s", what, p.log.tail(4000))
		}
	}
}

// TestMainJob is make run: both alerts at the hub, a picture of one's own, an
// end within two seconds and a second run that knows the first.
func TestMainJob(t *testing.T) {
	state := t.TempDir()
	hub, mqtt, http := freePort(t), freePort(t), freePort(t)
	job := mainJob(t, state, hub, mqtt, http)
	job.prints("Ctrl-C stops")
	job.prints("[MessageType=Alert]")
	job.prints(`{"IsPenguin":true`)
	run(t, program("tuxwatch"), "send-image", "--broker", fmt.Sprintf("tcp://127.0.0.1:%d", mqtt), "--topic", "my/own", samples(t, "penguin")[0])
	job.prints(`"topic":"my/own"`)
	if took := job.stop(); took > 2*time.Second {
		t.Errorf("the main job took %v to stop", took)
	}
	// Nothing of it is left.
	for _, port := range []int{hub, mqtt, http} {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			t.Errorf("after the end: %v", err)
			continue
		}
		l.Close()
	}
	before := run(t, program("tuxhub"), "--state", filepath.Join(state, "hub"), "stats", "--json")

	again := mainJob(t, state, hub, mqtt, http)
	again.prints("[MessageType=Alert]")
	if after := run(t, program("tuxhub"), "--state", filepath.Join(state, "hub"), "stats", "--json"); after == before {
		t.Errorf("the second run added nothing to %s", before)
	}
	again.stop()

	// Even without warning it takes everything along.
	third := mainJob(t, state, hub, mqtt, http)
	third.prints("Ctrl-C stops")
	third.kill()
	for _, port := range []int{hub, mqtt, http} {
		for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
			l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
			if err == nil {
				l.Close()
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("after the end: %v", err)
			}
		}
	}
}

func TestMainJobNamesTheOptionWhenAPortIsTaken(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	port := fmt.Sprint(taken.Addr().(*net.TCPAddr).Port)
	for _, option := range []string{"--hub-port", "--mqtt-port", "--http-port"} {
		args := []string{"--state", t.TempDir()}
		for _, o := range []string{"--hub-port", "--mqtt-port", "--http-port"} {
			if o != option {
				args = append(args, o, fmt.Sprint(freePort(t)))
			}
		}
		out, err := exec.Command(filepath.Join(root, "scripts", "run"), append(args, option, port)...).CombinedOutput()
		if err == nil || !strings.Contains(string(out), option) || !strings.Contains(string(out), port) {
			t.Errorf("%s taken: %v, %s", option, err, out)
		}
	}
	if out, err := exec.Command(filepath.Join(root, "scripts", "run"), "--nonsense").CombinedOutput(); err == nil || !strings.Contains(string(out), "usage") {
		t.Errorf("%v, %s", err, out)
	}
}

// TestRefusedCredentials gives the device a wrong key: it says what is wrong
// and what to do, keeps queueing, and delivers once the key is right.
func TestRefusedCredentials(t *testing.T) {
	s := newSite(t, `
modules:
  tempSensor: {desired: {SendInterval: 0.05}}
  filterModule: {desired: {TemperatureThreshold: 0}}
  imageReceiveProcessModule: {enabled: false}
  recognizer: {enabled: false}
`)
	right, err := os.ReadFile(s.path("connection-string"))
	if err != nil {
		t.Fatal(err)
	}
	wrong := strings.TrimSpace(string(right))
	at := strings.Index(wrong, "SharedAccessKey=") + len("SharedAccessKey=")
	key := []byte(wrong)
	key[at] = map[bool]byte{true: 'B', false: 'A'}[key[at] == 'A']
	s.write("connection-string", string(key))
	s.startDevice()
	events := s.monitor()
	status := func() string {
		return run(t, program("tuxwatch"), "status", "--socket", s.path("state/control.sock"))
	}
	s.eventually("the refusal in the status", func() bool { return strings.Contains(status(), "refused") })
	if text := status(); !strings.Contains(text, deviceID) || strings.Contains(text, string(key[at:at+20])) {
		t.Errorf("the status names no device, or a secret:\n%s", text)
	}
	if log := s.dev.log.tail(1 << 20); strings.Contains(log, string(key[at:at+20])) {
		t.Error("the key is in the log")
	}
	select {
	case e := <-events:
		t.Fatalf("something arrived: %+v", e)
	default:
	}
	s.write("connection-string", string(right))
	s.next(events, "an alert after the key was corrected", func(event) bool { return true })
}
