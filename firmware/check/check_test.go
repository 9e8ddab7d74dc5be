package check

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"tuxwatch/firmware/cloud"
	"tuxwatch/firmware/config"
	"tuxwatch/firmware/control"
	"tuxwatch/firmware/edge"
	"tuxwatch/firmware/modules"
	"tuxwatch/firmware/outbox"
	"tuxwatch/firmware/vision"
)

// periph's look for buses leaves its goroutines behind, once a process.
func TestMain(m *testing.M) {
	const initHost = "periph.io/x/conn/v3/driver/driverreg.initImpl"
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction(initHost+".func1"), goleak.IgnoreAnyFunction(initHost+".func2"), goleak.IgnoreAnyFunction(initHost+".func3"))
}

// noRuntime is the runtime of a machine without the model's library.
type noRuntime struct{}

func (noRuntime) Name() string { return "none" }
func (noRuntime) Open(string, int) (vision.Model, error) {
	return nil, errors.New("there is no library")
}

func parse(t *testing.T, text string) *config.Config {
	t.Helper()
	service := vision.NewService(noRuntime{})
	t.Cleanup(func() { service.Close() })
	c, err := config.Parse("tuxwatch.yaml", []byte(text), modules.Kinds(service))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// quiet is a configuration in which nothing can fail but what a test adds.
const quiet = `
modules:
  tempSensor: {settings: {machine: {driver: simulated}}}
  imageReceiveProcessModule: null
  recognizer: null
routes:
  cameraToRecognition: null
  penguinsToHub: null
`

// healthy is a computer without a fault, around an empty /sys.
func healthy(t *testing.T) System {
	return System{
		Root:         t.TempDir(),
		Now:          func() time.Time { return noon },
		Synchronized: func() (bool, error) { return true, nil },
		FileSystem: func(string) (unix.Statfs_t, error) {
			return unix.Statfs_t{Bsize: 4096, Bavail: 1 << 20, Files: 1 << 20, Ffree: 1 << 20}, nil
		},
		Device: func(string) (uint64, error) { return unix.Mkdev(179, 2), nil },
		Lookup: func(context.Context, string) ([]string, error) { return []string{"127.0.0.1"}, nil },
	}
}

var noon = time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)

func options(t *testing.T, text string) Options {
	return Options{Config: parse(t, text), ConfigSource: control.FromFile, State: t.TempDir(), System: healthy(t), Patience: 20 * time.Second}
}

// findings are what a run found.
type findings []Finding

func run(t *testing.T, o Options) (all findings) {
	t.Helper()
	Run(t.Context(), o, func(f Finding) { all = append(all, f) })
	return all
}

// has expects a finding whose text and remedy contain the words.
func (all findings) has(t *testing.T, check, subject string, result Result, words ...string) {
	t.Helper()
	var there []string
	for _, f := range all {
		if f.Check != check || f.Subject != subject {
			continue
		}
		text := f.Text + " → " + f.Remedy
		there = append(there, fmt.Sprintf("%s: %s", f.Result, text))
		if f.Result == result && !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(text, w) }) {
			return
		}
	}
	t.Errorf("no %s of %s %s with %q, but %q", result, check, subject, words, there)
}

// Each check is made once for a device that is well, in a fixed order.
func TestWell(t *testing.T) {
	o := options(t, quiet)
	o.Daemon = &control.Status{
		Version: "1.2", PID: 7, Config: control.ConfigStatus{File: "/etc/tuxwatch/tuxwatch.yaml"},
		Edge:     edge.Status{Modules: []edge.ModuleStatus{{ID: "tempSensor", Kind: "sensor", State: edge.Running, Healthy: true}}},
		Hub:      cloud.State{Status: cloud.NotConfigured},
		Watchdog: control.Watchdog{IntervalSeconds: 60},
	}
	write(t, o.System.Root+"/sys/class/watchdog/watchdog0/state", "active\n")
	write(t, o.System.Root+"/sys/class/watchdog/watchdog0/timeout", "15\n")
	write(t, o.System.Root+"/sys/class/watchdog/watchdog0/identity", "Broadcom BCM2835 Watchdog timer\n")
	all := run(t, o)
	var order []string
	for _, f := range all {
		if f.Result != OK && f.Check != "hub" {
			t.Errorf("%+v", f)
		}
		if len(order) == 0 || order[len(order)-1] != f.Check {
			order = append(order, f.Check)
		}
	}
	if want := "configuration daemon outbox sensor camera disk clock dns hub certificate watchdog"; strings.Join(order, " ") != want {
		t.Errorf("order %v, want %s", order, want)
	}
	all.has(t, "hub", "", Warn, "no hub is configured", "set hub in the configuration")
	all.has(t, "sensor", "tempSensor", OK, "simulated")
	all.has(t, "watchdog", "hardware", OK, "15 s", "BCM2835")
	all.has(t, "watchdog", "tuxwatchd", OK, "1m0s")
}

func TestRunEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	n := 0
	Run(ctx, options(t, quiet), func(Finding) {
		if n++; n == 2 {
			cancel()
		}
	})
	if n != 2 {
		t.Errorf("%d findings after the end", n-2)
	}
}

func TestConfiguration(t *testing.T) {
	o := options(t, quiet)
	o.ConfigSource = control.FromLastGood
	o.ConfigProblems = []config.Problem{{File: "tuxwatch.yaml", Line: 3, Column: 5, Message: "unknown section"}}
	run(t, o).has(t, "configuration", "", Fail, "tuxwatch.yaml:3:5: unknown section", "tuxwatch config edit")
	o.ConfigSource, o.ConfigProblems = control.FromBuiltIn, nil
	run(t, o).has(t, "configuration", "", OK, "built-in")
}

func TestDaemon(t *testing.T) {
	o := options(t, quiet)
	run(t, o).has(t, "daemon", "", Warn, "not running", "systemctl start")
	o.DaemonError = errors.New("no permission to open the socket")
	run(t, o).has(t, "daemon", "", Warn, "no permission")

	o.DaemonError = nil
	o.Daemon = &control.Status{Watchdog: control.Watchdog{Stuck: []string{"camera: its loop"}}, Hub: cloud.State{Status: cloud.NotConfigured}}
	all := run(t, o)
	all.has(t, "daemon", "", Fail, "no progress in camera: its loop")
	all.has(t, "watchdog", "tuxwatchd", Warn, "systemd does not watch it")
	for _, c := range []struct {
		stats  outbox.Stats
		result Result
		words  string
	}{
		{outbox.Stats{DiskFull: true}, Fail, "full"},
		{outbox.Stats{Fault: "input/output error"}, Fail, "input/output error"},
		{outbox.Stats{Damage: "malformed page", Salvaged: 44}, Warn, "44 messages were saved"},
		{outbox.Stats{SetAside: 3}, Warn, "3 messages"},
		{outbox.Stats{Depth: 12}, OK, "12 messages wait"},
	} {
		o.Daemon.Outbox = c.stats
		run(t, o).has(t, "outbox", "", c.result, c.words)
	}
}

// Without a daemon sensors, cameras and the model are tried.
func TestTrial(t *testing.T) {
	pictures, empty := t.TempDir(), t.TempDir()
	picture, err := os.ReadFile("../../models/samples/penguin-toy-desk.jpg")
	if err != nil {
		t.Fatal(err)
	}
	write(t, pictures+"/penguin.jpg", string(picture))
	o := options(t, fmt.Sprintf(`
modules:
  tempSensor: {settings: {machine: {driver: tmp105, bus: "97"}}}
  second: {kind: sensor, settings: {machine: {driver: simulated}}}
  camera: {settings: {source: directory, path: %q}}
  blind: {kind: camera, settings: {source: directory, path: %q}}
  broken: {kind: camera, settings: {source: command, command: [/does/not/exist]}}
  imageReceiveProcessModule: null
  recognizer: {settings: {listen: "127.0.0.1:0", model: ../../models/penguin}}
routes: {cameraToRecognition: null, penguinsToHub: null}
`, pictures, empty))
	all := run(t, o)
	all.has(t, "sensor", "tempSensor", Fail, "97", "dtparam=i2c_arm=on")
	all.has(t, "sensor", "second", OK, "simulated")
	all.has(t, "camera", "camera", OK, "directory")
	all.has(t, "camera", "blind", Fail, empty)
	all.has(t, "camera", "broken", Fail, "/does/not/exist")
	all.has(t, "model", "recognizer", Fail, "there is no library", "install the package")
}

// A camera that says nothing at all is not called well.
func TestSilentCamera(t *testing.T) {
	o := options(t, `
modules:
  camera: {settings: {source: command, command: [sleep, "600"], stall_timeout: 10m}}
  imageReceiveProcessModule: null
  recognizer: null
routes: {cameraToRecognition: null, penguinsToHub: null}
`)
	o.Patience = 300 * time.Millisecond
	run(t, o).has(t, "camera", "camera", Fail, "no picture within 300ms", "sleep 600")
}

// A bus that is there leaves wiring and address.
func TestSensorRemedy(t *testing.T) {
	o := options(t, strings.Replace(quiet, "driver: simulated", `driver: tmp105, bus: "1"`, 1))
	o.Daemon = &control.Status{
		Hub:  cloud.State{Status: cloud.NotConfigured},
		Edge: edge.Status{Modules: []edge.ModuleStatus{{ID: "tempSensor", Kind: "sensor", State: edge.Running, Cause: "no answer from tmp105\nsecond line"}}},
	}
	run(t, o).has(t, "sensor", "tempSensor", Fail, "no answer from tmp105 →", "the bus is not there")
	write(t, o.System.Root+"/dev/i2c-1", "")
	run(t, o).has(t, "sensor", "tempSensor", Fail, "wiring", "i2cdetect -y 1")

	o.Daemon.Edge.Modules[0] = edge.ModuleStatus{ID: "tempSensor", Kind: "sensor", State: edge.Starting}
	run(t, o).has(t, "sensor", "tempSensor", Warn, "still starting")
	o.Daemon.Edge.Modules[0] = edge.ModuleStatus{ID: "tempSensor", Kind: "sensor", State: edge.Restarting}
	run(t, o).has(t, "sensor", "tempSensor", Fail, "restarting", "journalctl")
	o.Daemon.Edge.Modules[0] = edge.ModuleStatus{ID: "filterModule", Kind: "filter", State: edge.Running, Healthy: true}
	run(t, o).has(t, "module", "filterModule", OK, "works")
}

func TestListeners(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	address := l.Addr().String()
	o := options(t, fmt.Sprintf(`
modules:
  tempSensor: null
  imageReceiveProcessModule: {settings: {listen: %q}}
  recognizer: null
routes: {sensorToFilter: null, cameraToRecognition: null}
`, address))
	run(t, o).has(t, "listener", "imageReceiveProcessModule", Fail, address, "address already in use", "ss -ltnp")
	o.Daemon = &control.Status{Hub: cloud.State{Status: cloud.NotConfigured}}
	run(t, o).has(t, "listener", "imageReceiveProcessModule", OK, "answers at "+address)
	l.Close()
	run(t, o).has(t, "listener", "imageReceiveProcessModule", Fail, "nobody answers at "+address)
	o.Daemon = nil
	run(t, o).has(t, "listener", "imageReceiveProcessModule", OK, "free")

	open, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	_, port, _ := net.SplitHostPort(open.Addr().String())
	for _, host := range []string{"", "0.0.0.0"} {
		if got := reachable(host + ":" + port); got != "127.0.0.1:"+port {
			t.Errorf("%q is reached at %s", host, got)
		}
	}
	if got := reachable("[::]:1"); got != "[::1]:1" {
		t.Errorf("[::] is reached at %s", got)
	}
}

func TestDisk(t *testing.T) {
	disk := func(change func(*unix.Statfs_t)) findings {
		o := options(t, quiet)
		s, _ := o.System.FileSystem("")
		change(&s)
		o.System.FileSystem = func(string) (unix.Statfs_t, error) { return s, nil }
		return run(t, o)
	}
	disk(func(*unix.Statfs_t) {}).has(t, "disk", "", OK, "4.29 GB left")
	disk(func(*unix.Statfs_t) {}).has(t, "disk", "writing", OK, "fsync")
	disk(func(s *unix.Statfs_t) { s.Flags |= unix.ST_RDONLY }).has(t, "disk", "", Fail, "read-only", "dmesg")
	disk(func(s *unix.Statfs_t) { s.Bavail = 1000 }).has(t, "disk", "", Fail, "4.1 MB left", "make room")
	disk(func(s *unix.Statfs_t) { s.Ffree = 3 }).has(t, "disk", "", Fail, "3 more files")
	disk(func(s *unix.Statfs_t) { s.Bavail = 100_000_000 / 4096 }).has(t, "disk", "", Warn, "256MB", "outbox.max_bytes")

	o := options(t, quiet)
	o.System.FileSystem = func(string) (unix.Statfs_t, error) { return unix.Statfs_t{}, errors.New("stale handle") }
	run(t, o).has(t, "disk", "", Fail, "stale handle")

	// The state is where no file can be made.
	o = options(t, quiet)
	o.State = filepath.Join(o.State, "file")
	write(t, o.State, "")
	run(t, o).has(t, "disk", "writing", Fail, "writing a file")
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(o.State), ".*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	// The default state directory may not be there yet.
	o.State = filepath.Join(t.TempDir(), "not", "yet")
	run(t, o).has(t, "disk", "writing", OK)

	// The real computer has figures for all of it.
	if s, err := fileSystem(t.TempDir()); err != nil || s.Bsize == 0 {
		t.Errorf("statfs: %+v %v", s, err)
	}
	if _, err := deviceOf(t.TempDir()); err != nil {
		t.Error(err)
	}
}

func TestCardHealth(t *testing.T) {
	o := options(t, quiet)
	sys := o.System.Root + "/sys"
	card := sys + "/devices/platform/soc/mmc0/mmc0:0001/block/mmcblk0"
	write(t, card+"/mmcblk0p2/partition", "2\n")
	if err := os.MkdirAll(sys+"/dev/block", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(card+"/mmcblk0p2", sys+"/dev/block/179:2"); err != nil {
		t.Fatal(err)
	}
	for _, f := range run(t, o) {
		if f.Check == "disk" && f.Subject == "health" {
			t.Errorf("a card that reports nothing: %+v", f)
		}
	}
	errorsCount := sys + "/fs/ext4/mmcblk0p2/errors_count"
	write(t, errorsCount, "0\n")
	life := card + "/device/life_time"
	for text, want := range map[string]Result{"0x01 0x03\n": OK, "0x09 0x01\n": Warn, "0x01 0x0b\n": Fail} {
		write(t, life, text)
		run(t, o).has(t, "disk", "health", want, "life")
	}
	write(t, card+"/device/pre_eol_info", "0x02\n")
	run(t, o).has(t, "disk", "health", Warn, "most of its spare blocks")
	write(t, card+"/device/pre_eol_info", "0x03\n")
	run(t, o).has(t, "disk", "health", Fail, "used up its spare blocks")
	write(t, errorsCount, "5\n")
	run(t, o).has(t, "disk", "health", Fail, "mmcblk0p2 has met 5 errors")
}

func TestClock(t *testing.T) {
	clock := func(now time.Time, synchronized bool, err error) findings {
		o := options(t, quiet)
		o.System.Now = func() time.Time { return now }
		o.System.Synchronized = func() (bool, error) { return synchronized, err }
		return run(t, o)
	}
	clock(noon, true, nil).has(t, "clock", "", OK, "2026-07-01T12:00:00Z, synchronized")
	clock(noon, false, nil).has(t, "clock", "", Warn, "nothing keeps it right", "NTP")
	clock(noon, false, errors.New("not permitted")).has(t, "clock", "", Warn, "not permitted")
	clock(time.Unix(0, 0), true, nil).has(t, "clock", "", Fail, "1970-01-01T00:00:00Z, which is wrong", "timedatectl")
	if _, err := synchronized(); err != nil {
		t.Errorf("this computer's: %v", err)
	}
}

func TestWatchdog(t *testing.T) {
	o := options(t, quiet)
	run(t, o).has(t, "watchdog", "hardware", Warn, "there is none", "bcm2835_wdt")
	write(t, o.System.Root+"/dev/watchdog", "")
	run(t, o).has(t, "watchdog", "hardware", Warn, "not known")
	write(t, o.System.Root+"/sys/class/watchdog/watchdog0/state", "inactive\n")
	run(t, o).has(t, "watchdog", "hardware", Warn, "nothing feeds it", "RuntimeWatchdogSec")
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
