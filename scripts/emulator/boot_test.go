package emulator_test

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"tuxwatch/scripts/emulator"
)

// TestDevice boots the image, from a card with a user's settings, and goes
// through everything the device does, against a hub on this machine. It is one
// test since a boot takes minutes.
func TestDevice(t *testing.T) {
	p := newPi(t)
	slot := partition(t, p.card.Path(), 2)
	p.switchOn(emulator.Options{})
	p.took = p.ready()
	t.Logf("ssh after %v", p.took.Round(time.Second))

	p.as("boots without a failed unit", (*pi).bootsClean)
	p.as("takes the settings of the card", (*pi).tookSettings)
	p.as("ssh is for keys", (*pi).sshForKeys)
	p.as("root is read-only", (*pi).rootReadOnly)
	p.as("data has grown to the card", (*pi).dataHasGrown)
	p.as("units are sandboxed", (*pi).sandboxed)
	p.as("a warm sensor is an alert", (*pi).temperatureAlert)
	p.as("threshold by file and by twin", (*pi).threshold)
	p.as("the sensor removed and put back", (*pi).sensorRemoved)
	p.as("a penguin is an alert", (*pi).penguinAlert)
	p.as("the camera's faults", (*pi).cameraFaults)
	p.as("only what is configured listens", (*pi).listening)
	p.as("the network cut", (*pi).networkCut)
	p.as("the watchdog", (*pi).watchdog)
	p.as("the power cut", (*pi).powerCuts)
	p.as("a damaged data partition", (*pi).damagedData)

	p.PowerCut()
	if after := partition(t, p.card.Path(), 2); after != slot {
		t.Error("the root's partition has other bytes than in the image")
	}
}

// extent is where a partition of the card is, in bytes.
func extent(t *testing.T, card string, number int) (offset, size int64) {
	t.Helper()
	file, err := os.Open(card)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	mbr := make([]byte, 512)
	if _, err := file.ReadAt(mbr, 0); err != nil {
		t.Fatal(err)
	}
	entry := mbr[446+16*(number-1):]
	return int64(binary.LittleEndian.Uint32(entry[8:])) * 512, int64(binary.LittleEndian.Uint32(entry[12:])) * 512
}

// partition returns the hash of a partition's bytes.
func partition(t *testing.T, card string, number int) string {
	t.Helper()
	offset, size := extent(t, card, number)
	file, err := os.Open(card)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	hash := sha256.New()
	if _, err := io.Copy(hash, io.NewSectionReader(file, offset, size)); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", hash.Sum(nil))
}

func (p *pi) bootsClean() {
	// It says how it went when all that was to be started has been.
	p.eventually("the end of the boot", func() error {
		if state, _ := p.try("systemctl is-system-running"); strings.Contains(state, "starting") || state == "" {
			return errors.New(strings.TrimSpace(state))
		}
		return nil
	})
	if failed := p.sh("systemctl --failed --no-legend --plain"); failed != "" {
		p.Errorf("failed units:\n%s", failed)
	}
	if state, _ := p.try("systemctl is-system-running"); strings.TrimSpace(state) != "running" {
		p.Errorf("the system is %s", state)
	}
	journal, err := p.Journal(context.Background())
	if err != nil {
		p.fatal("the journal: %v", err)
	}
	for line := range strings.Lines(journal) {
		for _, sign := range []string{"ordering cycle", "Found dependency on", "Kernel panic", "Oops", "Unknown key", "Unknown section", "Failed to"} {
			if strings.Contains(line, sign) && !harmless(line) {
				p.Errorf("in the journal: %s", line)
			}
		}
	}
	p.Logf("systemd-analyze: %s", p.sh("systemd-analyze time"))
	p.Logf("critical chain:\n%s", p.sh("systemd-analyze critical-chain --no-pager tuxwatchd.service"))
}

// harmless tells lines that look bad and say no more than that QEMU is no Pi.
func harmless(line string) bool {
	for _, known := range []string{
		"raspberrypi-exp-gpio", // no answer from the Pi's firmware
		"pwrseq_simple",
	} {
		if strings.Contains(line, known) {
			return true
		}
	}
	return false
}

func (p *pi) tookSettings() {
	if name := p.sh("hostname"); name != "greenhouse" {
		p.Errorf("the host name is %q", name)
	}
	report := p.sh("sudo cat /boot/firmware/tuxwatch/REPORT.txt")
	for _, file := range []string{"authorized_keys", "hostname", "hub-connection-string", "hub-ca.pem", "tuxwatch.yaml"} {
		if !strings.Contains(report, file) {
			p.Errorf("REPORT.txt does not mention %s:\n%s", file, report)
		}
	}
	left := p.sh("sudo ls /boot/firmware/tuxwatch")
	if strings.Contains(left, "hub-connection-string") {
		p.Errorf("the connection string is still on the card: %s", left)
	}
	if mode := p.sh("sudo stat -c '%a %U' /etc/credstore/hub-connection-string"); mode != "600 root" && mode != "400 root" {
		p.Errorf("the connection string is there with mode and owner %s", mode)
	}
	p.eventually("the connection to the hub", func() error {
		s, err := p.status()
		if err == nil && s.Hub.Status != "connected" {
			err = errors.New(s.Hub.Status)
		}
		return err
	})
	s, err := p.status()
	if err != nil {
		p.fatal("%v", err)
	}
	if s.Config.Source != "file" || len(s.Config.Problems) > 0 {
		p.Errorf("the configuration in effect: %+v", s.Config)
	}
	p.agesAreTrue(s)
}

// agesAreTrue checks that nothing is older than the start, though the clock was set
// after it: by the emulator, as NTP would.
func (p *pi) agesAreTrue(s status) {
	p.Helper()
	var uptime float64
	if _, err := fmt.Sscan(p.sh("cat /proc/uptime"), &uptime); err != nil {
		p.fatal("%v", err)
	}
	// The device's clock is this machine's by now, to a second or two.
	most := time.Duration(uptime*float64(time.Second)) + 5*time.Second
	ages := map[string]time.Time{"the hub's connection": s.Hub.Since, "the daemon": s.Started}
	for _, m := range s.Edge.Modules {
		ages[m.ID] = m.Since
	}
	for what, since := range ages {
		if age := time.Since(since); age > most || age < -5*time.Second {
			p.Errorf("%s is %v old; the device was started %v ago", what, age, most)
		}
	}
}

func (p *pi) sshForKeys() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var asked []string
	password := ssh.RetryableAuthMethod(ssh.PasswordCallback(func() (string, error) {
		asked = append(asked, "password")
		return "raspberry", nil
	}), 2)
	interactive := ssh.KeyboardInteractive(func(_, _ string, questions []string, _ []bool) ([]string, error) {
		asked = append(asked, "keyboard-interactive")
		return make([]string, len(questions)), nil
	})
	if client, err := p.Login(ctx, "tux", password, interactive); err == nil {
		client.Close()
		p.Error("ssh lets a password in")
	} else if !strings.Contains(err.Error(), "unable to authenticate") || len(asked) > 0 {
		p.Errorf("ssh asked for %v: %v", asked, err)
	}
	if client, err := p.Login(ctx, "root", ssh.PublicKeys(p.key)); err == nil {
		client.Close()
		p.Error("ssh lets root in")
	}
	if out := p.sh("sudo -n id -u"); out != "0" {
		p.Errorf("sudo gives %s", out)
	}
	if locked := p.sh("sudo passwd --status tux"); !strings.HasPrefix(locked, "tux L") {
		p.Errorf("the password of tux is not locked: %s", locked)
	}
}

func (p *pi) rootReadOnly() {
	if options := p.sh("findmnt --noheadings --output OPTIONS --mountpoint /"); !slices.Contains(strings.Split(options, ","), "ro") {
		p.Errorf("the root is mounted with %s", options)
	}
	for _, file := range []string{"/touched", "/usr/bin/touched", "/etc/touched", "/boot/touched", "/root/touched"} {
		if _, err := p.try("sudo touch " + file); err == nil {
			p.Errorf("%s can be written", file)
		} else if !strings.Contains(err.Error(), "Read-only file system") {
			p.Errorf("%s: %v", file, err)
		}
	}
}

func (p *pi) dataHasGrown() {
	// The card has 2 GiB, of which boot and two slots take one.
	kilobytes, err := strconv.Atoi(strings.TrimSpace(p.sh("df --output=size /data | tail -n 1")))
	if err != nil {
		p.fatal("%v", err)
	}
	if kilobytes < 800*1024 {
		p.Errorf("/data has %d KiB; the card has room for more", kilobytes)
	}
	if p.sh("findmnt --noheadings --output FSTYPE /data") != "ext4" {
		p.Error("/data is no ext4")
	}
}

func (p *pi) sandboxed() {
	units := strings.Fields(p.sh("systemctl list-unit-files --no-legend --plain 'tuxwatch*.service' | cut -d ' ' -f 1"))
	if len(units) < 2 {
		p.fatal("the units of ours: %v", units)
	}
	exposure := regexp.MustCompile(`Overall exposure level for (\S+): ([0-9.]+)`)
	for _, unit := range units {
		out, _ := p.try("systemd-analyze security --no-pager " + unit)
		level := exposure.FindStringSubmatch(out)
		if level == nil {
			p.Errorf("systemd-analyze security %s says: %s", unit, out)
			continue
		}
		value, err := strconv.ParseFloat(level[2], 64)
		if err != nil || value > 2.0 {
			p.Errorf("%s has exposure level %s", unit, level[2])
		}
		p.Logf("%s: exposure %s", unit, level[2])
	}
}

func (p *pi) temperature(celsius float64) {
	p.Helper()
	if err := p.SetTemperature(celsius); err != nil {
		p.fatal("%v", err)
	}
}

func (p *pi) temperatureAlert() {
	// 20 °C: messages flow, and none becomes an alert.
	p.counts("tempSensor", "messages_sent", 5)
	for _, e := range p.seen.Events() {
		if celsius, ok := alert(e); ok {
			p.Errorf("an alert for %v °C", celsius)
		}
	}
	p.temperature(31.5)
	e := p.arrives("an alert for 31.5 °C", func(e emulator.Event) bool { _, ok := alert(e); return ok })
	if celsius, _ := alert(e); celsius != 31.5 {
		p.Errorf("the alert is for %v °C", celsius)
	}
	p.quiet(20)
}

// quiet sets a temperature that is no reason for an alert, and lets pass what is
// under way.
func (p *pi) quiet(celsius float64) {
	p.Helper()
	p.temperature(celsius)
	p.counts("tempSensor", "messages_sent", 3)
	p.eventually("an empty outbox", func() error {
		s, err := p.status()
		if err == nil && s.Outbox.Depth > 0 {
			err = fmt.Errorf("%d messages wait", s.Outbox.Depth)
		}
		return err
	})
	p.skip()
}

// silent checks that no alert comes while the sensor sends.
func (p *pi) silent(why string) {
	p.Helper()
	p.counts("tempSensor", "messages_sent", 5)
	for _, e := range p.seen.Events()[p.n:] {
		if celsius, ok := alert(e); ok {
			p.Errorf("an alert for %v °C, %s", celsius, why)
		}
	}
	p.skip()
}

func (p *pi) threshold() {
	set := func(celsius int) {
		// As an editor does: a new file in the place of the old one.
		edit := fmt.Sprintf(`sudo sh -c 'cd /etc/tuxwatch && grep -v "^  filterModule:" tuxwatch.yaml > new && echo "  filterModule: {desired: {TemperatureThreshold: %d}}" >> new && chmod 644 new && mv new tuxwatch.yaml && stat -c %%.Y tuxwatch.yaml'`, celsius)
		seconds, err := strconv.ParseFloat(p.sh(edit), 64)
		if err != nil {
			p.fatal("%v", err)
		}
		saved := time.UnixMicro(int64(seconds * 1e6))
		p.eventually("the new configuration", func() error {
			s, err := p.status()
			if err == nil && !s.Config.LoadedAt.After(saved) {
				err = fmt.Errorf("the configuration in effect is of %v, the file of %v; %v", s.Config.LoadedAt, saved, s.Config.Problems)
			}
			if err == nil {
				took := s.Config.LoadedAt.Sub(saved)
				if p.Logf("in effect %v after it was saved", took.Round(time.Millisecond)); took > 2*time.Second {
					p.Errorf("the new configuration took %v", took)
				}
			}
			return err
		})
	}
	set(40)
	p.quiet(20)
	p.temperature(31.5)
	p.silent("with a threshold of 40 in the file")
	// The twin wins over the file.
	p.tuxhub("twin", "set", deviceID, "filterModule.TemperatureThreshold=30")
	p.arrives("an alert with the twin's threshold of 30", func(e emulator.Event) bool { _, ok := alert(e); return ok })
	p.tuxhub("twin", "set", deviceID, "filterModule.TemperatureThreshold=35")
	p.eventually("the device's word that the threshold is 35", func() error {
		twin := p.tuxhub("twin", "get", deviceID, "--json")
		if reported := regexp.MustCompile(`(?s)"reported".*"TemperatureThreshold":\s*35`); !reported.MatchString(twin) {
			return errors.New(twin)
		}
		return nil
	})
	p.quiet(31.5)
	p.silent("with a threshold of 35 in the twin")
	p.tuxhub("twin", "set", deviceID, "filterModule.TemperatureThreshold=25")
	p.arrives("an alert with the twin's threshold of 25", func(e emulator.Event) bool { _, ok := alert(e); return ok })
	p.quiet(20)
}

func (p *pi) sensorRemoved() {
	if err := p.RemoveSensor(); err != nil {
		p.fatal("%v", err)
	}
	p.eventually("the missing sensor's being noticed", func() error {
		s, err := p.status()
		if err == nil && s.trouble("tempSensor") == nil {
			err = errors.New("tempSensor is healthy")
		}
		if err == nil {
			p.Logf("the device says: %v", s.trouble("tempSensor"))
		}
		return err
	})
	p.temperature(31.5)
	if err := p.AddSensor(); err != nil {
		p.fatal("%v", err)
	}
	e := p.arrives("an alert after the sensor came back", func(e emulator.Event) bool { _, ok := alert(e); return ok })
	if celsius, _ := alert(e); celsius != 31.5 {
		p.Errorf("it is for %v °C", celsius)
	}
	p.eventually("the sensor's health", func() error {
		s, err := p.status()
		if err == nil {
			err = s.trouble("tempSensor")
		}
		return err
	})
	p.quiet(20)
}

func sample(name string) string { return filepath.Join(root, "models", "samples", name) }

// show puts a picture in front of the camera.
func (p *pi) show(name string) {
	p.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := p.ShowPicture(ctx, sample(name)); err != nil {
		p.fatal("%v", err)
	}
}

func (p *pi) penguinAlert() {
	p.show("desk-telephone.jpg")
	p.counts("imageReceiveProcessModule", "pictures_classified", 5)
	for _, e := range p.seen.Events() {
		if _, ok := penguin(e); ok {
			p.Errorf("a desk was taken for a penguin: %s", e.Body)
		}
	}
	p.skip()
	p.show("penguin-toy-desk.jpg")
	e := p.arrives("a penguin", func(e emulator.Event) bool { _, ok := penguin(e); return ok })
	p.Logf("the alert: %s", e.Body)
}

func (p *pi) cameraFaults() {
	before := p.sh("systemctl show --property=NRestarts,MainPID tuxwatchd")
	isPenguin := func(e emulator.Event) bool { _, ok := penguin(e); return ok }
	p.show("penguin-toy-desk.jpg")
	for _, fault := range []struct {
		control string
		value   int
		lasts   bool // until it is set to 0
	}{
		{"disconnect", 1, false},
		{"inject_v4l2_buf_flag_error", 1, false},
		{"inject_vidioc_streamon_error", 1, false},
		{"inject_fatal_streaming_error", 1, false},
		{"percentage_of_dropped_buffers", 100, true},
		{"percentage_of_dropped_buffers", 50, true},
	} {
		control := func(value int) {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			if err := p.CameraControl(ctx, fault.control, value); err != nil {
				p.fatal("%v", err)
			}
		}
		control(fault.value)
		if fault.control == "inject_vidioc_streamon_error" {
			// It waits for the next time that the stream is started.
			control := fault
			control.control = "inject_fatal_streaming_error"
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			if err := p.CameraControl(ctx, control.control, 1); err != nil {
				p.fatal("%v", err)
			}
			cancel()
		}
		if fault.lasts {
			p.counts("tempSensor", "messages_sent", 5)
			control(0)
		}
		// What was under way before the fault is let pass.
		p.counts("tempSensor", "messages_sent", 3)
		p.skip()
		p.arrives(fmt.Sprintf("a penguin after the fault %s=%d", fault.control, fault.value), isPenguin)
	}

	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := p.UnplugCamera(ctx); err != nil {
		p.fatal("%v", err)
	}
	p.eventually("the missing camera's being noticed", func() error {
		s, err := p.status()
		if err == nil && s.trouble("camera") == nil {
			err = errors.New("the camera is healthy")
		}
		return err
	})
	p.skip()
	p.show("penguin-toy-desk.jpg")
	p.arrives("a penguin after the camera was plugged in again", isPenguin)
	p.eventually("the camera's health", func() error {
		s, err := p.status()
		if err == nil {
			err = s.trouble("camera")
		}
		return err
	})
	if after := p.sh("systemctl show --property=NRestarts,MainPID tuxwatchd"); after != before {
		p.Errorf("the daemon did not survive: %s before, %s after", before, after)
	}
	// The camera costs the emulated processor much.
	if err := p.UnplugCamera(ctx); err != nil {
		p.fatal("%v", err)
	}
}

// configured are the ports that others reach: ssh, and cameras in the network as
// the test's configuration has it.
var configured = []int{22, 1888}

func (p *pi) listening() {
	local := regexp.MustCompile(`^(\S+)\s+\S+\s+\d+\s+\d+\s+(\S+):(\d+|\*)\s`)
	for line := range strings.Lines(p.sh("sudo ss --listening --tcp --udp --numeric --no-header")) {
		fields := local.FindStringSubmatch(line)
		if fields == nil {
			p.Errorf("ss printed %q", line)
			continue
		}
		protocol, address := fields[1], fields[2]
		port, _ := strconv.Atoi(fields[3])
		switch {
		case strings.HasPrefix(address, "127."), strings.HasPrefix(address, "[::1]"):
		case protocol == "tcp" && slices.Contains(configured, port):
		case protocol == "udp" && port == 5353: // mDNS, for tuxwatch.local
		case protocol == "udp" && (port == 68 || port == 546): // the DHCP clients of networkd
		default:
			p.Errorf("something listens on %s port %d of %s: %s", protocol, port, address, line)
		}
	}

	// From outside, those that anything on a Debian might have, and our own.
	for _, port := range []int{
		21, 22, 23, 25, 53, 80, 111, 139, 443, 445, 515, 631, 873, 1883, 1888, 2049, 2375, 3000, 3306, 3389, 5000, 5355,
		5432, 5900, 6000, 6379, 8000, 8080, 8085, 8443, 8883, 8888, 9090, 9100, 9600, 10000, 11211, 19531, 19532,
	} {
		forwarded, err := p.Forward(port)
		if err != nil {
			p.fatal("%v", err)
		}
		open := answers(p.T, forwarded)
		if want := slices.Contains(configured, port); open != want {
			p.Errorf("port %d seen from outside: open is %v, want %v", port, open, want)
		}
	}
}

// answers tells whether somebody listens behind a forwarded port. QEMU accepts
// connections itself and closes them if the device refuses.
func answers(t *testing.T, port int) bool {
	t.Helper()
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	n, err := conn.Read(make([]byte, 1))
	return n > 0 || errors.Is(err, os.ErrDeadlineExceeded)
}

func (p *pi) networkCut() {
	p.quiet(20)
	before, err := p.status()
	if err != nil {
		p.fatal("%v", err)
	}
	arrived := len(p.seen.Events())
	p.temperature(40)
	p.arrives("an alert before the cut", func(e emulator.Event) bool { _, ok := alert(e); return ok })
	if err := p.Network(false); err != nil {
		p.fatal("%v", err)
	}
	// Longer than the hub's keep-alive would tell; nothing can be observed
	// meanwhile but the console.
	began := len(p.seen.Events())
	time.Sleep(45 * time.Second)
	if after := len(p.seen.Events()); after > began+2 {
		p.Errorf("%d messages came through the cut", after-began)
	}
	if err := p.Network(true); err != nil {
		p.fatal("%v", err)
	}
	p.quiet(20)

	// All that was put into the outbox since is at the hub, once or more.
	after, err := p.status()
	if err != nil {
		p.fatal("%v", err)
	}
	if after.PID != before.PID {
		p.fatal("the daemon was restarted")
	}
	bodies := map[string]bool{}
	for _, e := range p.seen.Events()[arrived:] {
		bodies[string(e.Body)] = true
	}
	if put := after.Outbox.Puts - before.Outbox.Puts; len(bodies) != put || put < 40 {
		p.Errorf("%d messages were queued since, %d arrived", put, len(bodies))
	} else {
		p.Logf("%d messages, all arrived", put)
	}
}

// identity is what has to be the same after every start.
func (p *pi) identity() string {
	p.Helper()
	return p.sh("cat /etc/machine-id; hostname") + "\n" + p.HostKey()
}

func (p *pi) watchdog() {
	before := p.identity()
	boot := p.sh("cat /proc/sys/kernel/random/boot_id")
	if set := p.sh("systemctl show --property=RuntimeWatchdogUSec --value"); set == "0" || set == "infinity" {
		p.Errorf("systemd feeds no watchdog: RuntimeWatchdogUSec is %s", set)
	}
	ctx, cancel := context.WithTimeout(context.Background(), bootPatience)
	defer cancel()
	if err := p.StartWatchdog(ctx); err != nil {
		p.fatal("%v", err)
	}
	seen := p.Console.Len()
	// A dead kernel that would stay so for ever. The software watchdog's timer is
	// on the processor that systemd fed it from: the panic has to leave that one
	// alive.
	dead, done := context.WithTimeout(ctx, 20*time.Second)
	defer done()
	_, _ = p.Machine.Run(dead, `sudo sh -c 'taskset -p 1 1 >/dev/null; sleep 12; echo 0 > /proc/sys/kernel/panic; sync; taskset 1 sh -c "echo c > /proc/sysrq-trigger"'`)
	if _, err := p.Console.Wait(ctx, seen, emulator.UBoot); err != nil {
		p.fatal("the watchdog did not restart the device: %v", err)
	}
	p.ready()
	if p.sh("cat /proc/sys/kernel/random/boot_id") == boot {
		p.Error("the device did not restart")
	}
	if after := p.identity(); after != before {
		p.Errorf("the device has another identity after its restart:\n%s\nbefore:\n%s", after, before)
	}
}
