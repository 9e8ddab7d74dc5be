package emulator

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"
)

// Options says how to boot a card. The zero value does for a test, with Dir and
// Keys set.
type Options struct {
	// QEMU is the program; empty finds one (see [FindQEMU]).
	QEMU string
	// Dir is where console.log, qemu.log and what QEMU needs are written. The
	// logs of one boot are appended to those before.
	Dir string
	// Keys log in as tux.
	Keys []ssh.Signer
	// SSHPort is the port of 127.0.0.1 that leads to the device's port 22; 0
	// takes a free one.
	SSHPort int
	// Memory, in MiB, is what the kernel may use (mem=); 0 is all of the Pi's
	// 1 GiB.
	Memory int
	// Processors is how many of the Pi's four cores are switched on; 0 is as many
	// as this machine has. More take turns with each other, and those that wait
	// for work in U-Boot never rest.
	Processors int
	// KernelArguments are added to the kernel's command line.
	KernelArguments string
	// Console gets what the serial console prints, as well.
	Console io.Writer
}

// Machine is an emulated Raspberry Pi 3 that is switched on.
type Machine struct {
	// Console is its serial port.
	Console *Console

	card    *Card
	options Options
	sshPort int
	command *exec.Cmd
	monitor *monitor
	logs    []*os.File
	plugs   sync.WaitGroup // what plugs the network in
	ended   chan struct{}  // closed when QEMU has
	err     error          // why, once it has

	mu       sync.Mutex
	forwards []string // beside ssh's
	client   *ssh.Client
	hostKey  ssh.PublicKey
}

// FindQEMU returns a qemu-system-aarch64 that is recent enough: the one on the
// PATH, or the one that scripts/setup emulator put into the cache.
func FindQEMU() (string, error) {
	candidates := []string{}
	if path, err := exec.LookPath("qemu-system-aarch64"); err == nil {
		candidates = append(candidates, path)
	}
	cache := os.Getenv("TUXWATCH_CACHE")
	if home, err := os.UserHomeDir(); cache == "" && err == nil {
		cache = filepath.Join(home, ".cache", "tuxwatch")
	}
	candidates = append(candidates, filepath.Join(cache, "qemu", "qemu-system-aarch64"))
	for _, path := range candidates {
		out, err := exec.Command(path, "--version").Output()
		var major int
		if _, scan := fmt.Sscanf(string(out), "QEMU emulator version %d.", &major); err == nil && scan == nil && major >= 10 {
			return path, nil
		}
	}
	return "", errors.New("QEMU 10 or later is missing: scripts/setup emulator brings it")
}

// watchdogArgument keeps systemd's hands off the SoC's watchdog, see the
// package's comment. The device does not exist until StartWatchdog.
const watchdogArgument = "systemd.watchdog_device=/dev/watchdog1"

// Boot switches the device on, with the card in it. It returns as soon as QEMU
// runs; see [Machine.WaitReady]. When ctx ends, the power is cut.
func Boot(ctx context.Context, card *Card, options Options) (*Machine, error) {
	m, err := boot(ctx, card, options)
	if err != nil {
		return nil, fmt.Errorf("booting %s: %w", card.path, err)
	}
	return m, nil
}

func boot(ctx context.Context, card *Card, options Options) (*Machine, error) {
	if options.QEMU == "" {
		qemu, err := FindQEMU()
		if err != nil {
			return nil, err
		}
		options.QEMU = qemu
	}
	if options.Processors == 0 {
		options.Processors = min(4, runtime.NumCPU())
	}
	m := &Machine{card: card, options: options, sshPort: options.SSHPort, ended: make(chan struct{})}
	if err := os.MkdirAll(options.Dir, 0o755); err != nil {
		return nil, err
	}
	if err := m.kernelArguments(); err != nil {
		return nil, err
	}
	if err := m.extract("u-boot.bin", "u-boot.bin"); err != nil {
		return nil, err
	}
	// The firmware's own name for a Pi 3's device tree, and Linux's.
	if err := m.extract("bcm2837-rpi-3-b.dtb", "pi.dtb"); err != nil {
		if err := m.extract("bcm2710-rpi-3-b.dtb", "pi.dtb"); err != nil {
			return nil, err
		}
	}
	if m.sshPort == 0 {
		port, err := FreePort()
		if err != nil {
			return nil, err
		}
		m.sshPort = port
	}
	if err := m.start(ctx); err != nil {
		return nil, err
	}
	return m, nil
}

// kernelArguments puts what is to be added to the kernel's command line where
// the image's boot script looks for it.
func (m *Machine) kernelArguments() error {
	arguments := []string{watchdogArgument, fmt.Sprintf("nr_cpus=%d", m.options.Processors)}
	if m.options.Memory > 0 {
		arguments = append(arguments, fmt.Sprintf("mem=%dM", m.options.Memory))
	}
	if m.options.KernelArguments != "" {
		arguments = append(arguments, m.options.KernelArguments)
	}
	wanted := strings.Join(arguments, " ")
	variables, err := m.card.Environment()
	if err != nil {
		return err
	}
	if variables["extraargs"] == wanted {
		return nil
	}
	return m.card.SetEnvironment(map[string]string{"extraargs": wanted})
}

// extract takes a file that QEMU needs from the card's FAT partition.
func (m *Machine) extract(name, to string) error {
	content, err := m.card.ReadFile(name)
	if err != nil {
		return err
	}
	return os.WriteFile(m.path(to), content, 0o644)
}

func (m *Machine) path(name string) string { return filepath.Join(m.options.Dir, name) }

// sensorPath is the thermometer's place in QEMU's tree, and sensorAddress the
// one on the bus; elsewhere is an address that I2C reserves, so that nobody asks
// there.
const (
	sensorPath    = "/machine/peripheral/sensor"
	sensorAddress = 0x48
	elsewhere     = 0x7f
)

func (m *Machine) start(ctx context.Context) (err error) {
	// Ours and QEMU's end of the connection to its monitor.
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	mine, theirs := os.NewFile(uintptr(pair[0]), "monitor"), os.NewFile(uintptr(pair[1]), "monitor")
	defer mine.Close()
	defer theirs.Close()

	cmd := exec.Command(m.options.QEMU,
		"-machine", "raspi3b",
		"-global", fmt.Sprintf("driver=bcm2837,property=enabled-cpus,value=%d", m.options.Processors),
		"-kernel", m.path("u-boot.bin"), "-dtb", m.path("pi.dtb"),
		"-drive", "if=sd,format=raw,cache=writeback,file="+strings.ReplaceAll(m.card.path, ",", ",,"),
		"-display", "none",
		// The console is on the second serial port, the mini UART.
		"-serial", "null", "-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console",
		"-chardev", "socket,id=monitor,fd=3", "-mon", "chardev=monitor,mode=control",
		"-netdev", fmt.Sprintf("user,id=net0,hostfwd=tcp:127.0.0.1:%d-:22", m.sshPort),
		"-device", fmt.Sprintf("tmp105,id=sensor,bus=i2c-bus.1,address=%#x", sensorAddress))
	cmd.ExtraFiles = []*os.File{theirs}
	// A group of its own: Ctrl-C is for the program that started it. Should that
	// be killed, QEMU ends as well.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	input, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	output, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	consoleLog, err := m.openLog("console.log")
	if err != nil {
		return err
	}
	qemuLog, err := m.openLog("qemu.log")
	if err != nil {
		return err
	}
	cmd.Stderr = qemuLog
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting QEMU: %w", err)
	}
	m.command = cmd
	m.Console = newConsole(input)
	copies := []io.Writer{consoleLog}
	if m.options.Console != nil {
		copies = append(copies, m.options.Console)
	}
	go func() {
		defer close(m.ended)
		m.Console.collect(output, copies...)
		m.err = cmd.Wait()
		for _, log := range m.logs {
			log.Close()
		}
	}()
	theirs.Close()
	conn, err := net.FileConn(mine)
	if err == nil {
		m.monitor, err = newMonitor(conn)
	}
	if err != nil {
		m.PowerCut()
		said, _ := os.ReadFile(m.path("qemu.log"))
		return fmt.Errorf("%w; QEMU says: %s", err, lastLines(string(said), 5))
	}
	m.plugs.Go(m.plugNetwork)
	go func() {
		select {
		case <-ctx.Done():
			m.PowerCut()
		case <-m.ended:
		}
	}()
	return nil
}

// plugNetwork plugs the USB network adapter in each time that Linux starts. QEMU
// tells of a device that is there once, when it is plugged in; U-Boot, which looks
// at the bus first, would take that from Linux.
func (m *Machine) plugNetwork() {
	for seen := 0; ; {
		match, err := m.Console.find(context.Background(), seen, linuxStarts)
		if err != nil {
			return // off
		}
		seen = match[1]
		m.closeSSH() // to the system before
		// After a restart it is the one from before. So is the network: its DHCP
		// server would give another address, which no port leads to, if Linux
		// chooses another of the drivers that fit the adapter, and with it another
		// hardware address.
		_ = m.monitor.do("device_del", map[string]any{"id": "nic0"}, nil)
		err = m.monitor.do("netdev_del", map[string]any{"id": "net0"}, nil)
		if err == nil {
			err = m.monitor.do("netdev_add", map[string]any{"type": "user", "id": "net0", "hostfwd": m.allForwards()}, nil)
		}
		if err == nil {
			err = m.monitor.do("device_add", map[string]any{
				"driver": "usb-net", "id": "nic0", "netdev": "net0", "mac": "b8:27:eb:00:00:01",
				// A port of the Pi's own: QEMU puts a hub in between otherwise, and that is
				// what would be plugged in.
				"bus": "usb-bus.0", "port": "1",
			}, nil)
		}
		if err != nil {
			fmt.Fprintln(m.logs[1], "plugging the network adapter in:", err)
		}
	}
}

// allForwards are the ports of this machine that lead to the device, in QEMU's
// words.
func (m *Machine) allForwards() []map[string]string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var all []map[string]string
	for _, f := range append([]string{forward(m.sshPort, 22)}, m.forwards...) {
		all = append(all, map[string]string{"str": f})
	}
	return all
}

func forward(port, guestPort int) string {
	return fmt.Sprintf("tcp:127.0.0.1:%d-:%d", port, guestPort)
}

func (m *Machine) openLog(name string) (*os.File, error) {
	log, err := os.OpenFile(m.path(name), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	m.logs = append(m.logs, log)
	return log, nil
}

// PowerCut takes the power away. What the system had not written to the card by
// then is lost. The card can be booted again.
func (m *Machine) PowerCut() {
	_ = m.command.Process.Kill() // gone already is as good
	<-m.ended
	m.plugs.Wait()
	m.closeSSH()
	if m.monitor != nil {
		m.monitor.conn.Close()
	}
}

// Done is closed when the device is off, by PowerCut or of its own.
func (m *Machine) Done() <-chan struct{} { return m.ended }

// Shutdown tells the system to power off, and waits until it has.
func (m *Machine) Shutdown(ctx context.Context) error {
	// The connection may end before the command's answer.
	_, _ = m.Run(ctx, "sudo systemctl poweroff --no-block")
	select {
	case <-m.ended:
		m.PowerCut()
		return nil
	case <-ctx.Done():
		return fmt.Errorf("waiting for the device to power off: %w; the console ends with:\n%s", ctx.Err(), lastLines(m.Console.Text(), 10))
	}
}

// SetTemperature sets what the thermometer measures, in degrees Celsius. It
// rounds as the chip does, to 1/16.
func (m *Machine) SetTemperature(celsius float64) error {
	return m.monitor.set(sensorPath, "temperature", int64(celsius*1000))
}

// RemoveSensor takes the thermometer off the I2C bus: nothing acknowledges at its
// address any longer.
func (m *Machine) RemoveSensor() error { return m.moveSensor(elsewhere) }

// AddSensor puts the thermometer back.
func (m *Machine) AddSensor() error { return m.moveSensor(sensorAddress) }

func (m *Machine) moveSensor(address int) error {
	// QEMU lets the address of a device that is not realized be changed. The bus
	// finds it all the same, and it keeps on measuring.
	if err := m.monitor.set(sensorPath, "realized", false); err != nil {
		return err
	}
	return m.monitor.set(sensorPath, "address", address)
}

// Network connects or disconnects the cable, ssh included. The system does not
// notice more than that nothing arrives any longer.
func (m *Machine) Network(on bool) error {
	return m.monitor.do("set_link", map[string]any{"name": "net0", "up": on}, nil)
}

// Forward leads a free port of 127.0.0.1 to a TCP port of the device, and returns
// it.
func (m *Machine) Forward(guestPort int) (int, error) {
	port, err := FreePort()
	if err != nil {
		return 0, err
	}
	var said string
	err = m.monitor.do("human-monitor-command", map[string]any{
		"command-line": "hostfwd_add net0 " + forward(port, guestPort),
	}, &said)
	if err == nil && strings.TrimSpace(said) != "" {
		err = errors.New(strings.TrimSpace(said))
	}
	if err != nil {
		return 0, fmt.Errorf("leading port %d to the device's port %d: %w", port, guestPort, err)
	}
	m.mu.Lock()
	m.forwards = append(m.forwards, forward(port, guestPort))
	m.mu.Unlock()
	return port, nil
}

// Screenshot writes what a monitor on the HDMI port shows, as PNG.
func (m *Machine) Screenshot(file string) error {
	absolute, err := filepath.Abs(file)
	if err != nil {
		return err
	}
	return m.monitor.do("screendump", map[string]any{"filename": absolute, "format": "png"}, nil)
}

// Save writes what tells how the device is doing into a folder: the console's
// text, a screenshot and the journal. It saves what it can get.
func (m *Machine) Save(ctx context.Context, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	// All boots of this card are in the log.
	text, err := os.ReadFile(m.path("console.log"))
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "console.log"), text, 0o644)
	}
	select {
	case <-m.ended:
		return err
	default:
	}
	err = errors.Join(err, m.Screenshot(filepath.Join(dir, "screenshot.png")))
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	journal, failed := m.Journal(ctx)
	if failed == nil {
		failed = os.WriteFile(filepath.Join(dir, "journal.log"), []byte(journal), 0o644)
	}
	return errors.Join(err, failed)
}

// Journal returns the journal since the device was switched on.
func (m *Machine) Journal(ctx context.Context) (string, error) {
	return m.Run(ctx, "sudo journalctl --boot --no-pager --output=short-precise")
}

// FreePort returns a TCP port of 127.0.0.1 that nobody listens on.
func FreePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// StartWatchdog puts the kernel's software watchdog in the place of the SoC's,
// which QEMU cannot run: systemd takes it as soon as it is there, and feeds it.
func (m *Machine) StartWatchdog(ctx context.Context) error {
	_, err := m.Run(ctx, "sudo modprobe softdog && for i in $(seq 100); do "+
		"[ \"$(cat /sys/class/watchdog/watchdog1/state)\" = active ] && exit 0; sleep 0.2; done; "+
		"echo 'systemd does not feed it' >&2; exit 1")
	if err != nil {
		return fmt.Errorf("starting the watchdog: %w", err)
	}
	return nil
}
