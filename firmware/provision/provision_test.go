package provision

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf16"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"tuxwatch/firmware/modules"
)

var update = flag.Bool("update", false, "write the golden files anew")

var kinds = modules.Kinds(nil)

const (
	secretKey = "c2VjcmV0LXNlY3JldC1zZWNyZXQ="
	hubString = "HostName=hub.example.com;DeviceId=greenhouse-1;SharedAccessKey=" + secretKey
	wifiText  = "ssid=Garden\npsk=correct horse\ncountry=de\n"
)

// wire writes strings as RFC 4251 does.
func wire(fields ...string) string {
	var b []byte
	for _, f := range fields {
		b = binary.BigEndian.AppendUint32(b, uint32(len(f)))
		b = append(b, f...)
	}
	return base64.StdEncoding.EncodeToString(b)
}

var (
	ed25519Key = "ssh-ed25519 " + wire("ssh-ed25519", strings.Repeat("k", 32)) + " me@example"
	ecdsaKey   = "ecdsa-sha2-nistp256 " + wire("ecdsa-sha2-nistp256", "nistp256", strings.Repeat("e", 65))
	rsaKey     = "ssh-rsa " + wire("ssh-rsa", "\x01\x00\x01", "\x00"+strings.Repeat("\xab", 256)) + " me"
)

var start = time.Date(2026, 11, 22, 11, 2, 3, 0, time.UTC)

// bench is a card and a device in a temporary folder.
type bench struct {
	t interface {
		Fatal(...any)
		Helper()
	}
	card, root string
	options    Options
}

func newBench(t *testing.T, files map[string]string) *bench {
	dir := tempDir(t)
	b := &bench{t: t, card: filepath.Join(dir, "card"), root: filepath.Join(dir, "root")}
	b.make(files)
	return b
}

// tempDir is a folder in memory where there is one: the tests wait for the disk
// very often.
func tempDir(t *testing.T) string {
	dir, err := os.MkdirTemp("/dev/shm", "provision-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func (b *bench) make(files map[string]string) {
	for _, dir := range []string{b.card, b.root} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			b.t.Fatal(err)
		}
	}
	b.options = Options{Card: b.card, Root: b.root, Now: func() time.Time { return start }, Kinds: kinds}
	for name, text := range files {
		b.put(name, text)
	}
}

func (b *bench) put(name, text string) {
	b.t.Helper()
	write(b.t, filepath.Join(b.card, name), text)
}

func write(t interface{ Fatal(...any) }, path, text string) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func (b *bench) run() *Report {
	b.t.Helper()
	report, err := Run(context.Background(), b.options)
	if err != nil {
		b.t.Fatal(err)
	}
	return report
}

// read gives a file's text, "" where there is none.
func (b *bench) read(dir, name string) string {
	b.t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		b.t.Fatal(err)
	}
	return string(data)
}

func (b *bench) onCard(name string) string   { b.t.Helper(); return b.read(b.card, name) }
func (b *bench) onDevice(name string) string { b.t.Helper(); return b.read(b.root, name) }

func results(r *Report) map[string]Result {
	m := map[string]Result{}
	for _, e := range r.Entries {
		m[e.File] = e.Result
	}
	return m
}

var everything = map[string]string{
	"tuxwatch/tuxwatch.yaml":           "modules:\n  filterModule:\n    desired: {TemperatureThreshold: 30}\n",
	"tuxwatch/authorized_keys":         "# mine\n" + ed25519Key + "\n" + rsaKey + "\n",
	"tuxwatch/wifi.conf":               wifiText,
	"tuxwatch/hostname":                "Greenhouse-1\n",
	"tuxwatch/hub-connection-string":   hubString + "\n",
	"tuxwatch/network/10-eth0.network": "[Match]\nName=eth0\n\n[Network]\nDHCP=yes\n",
	"tuxwatch/network/wg0.netdev":      "[NetDev]\nName=wg0\nKind=wireguard\n[WireGuard]\nPrivateKey=" + secretKey + "\n",
	"ssh":                              "",
	"userconf.txt":                     "pi:$6$salt$hash\n",
	"config.txt":                       "arm_64bit=1\n",
}

// Everything right is in its place with the mode that it needs; secrets, and
// they alone, are no longer on the card.
func TestEverything(t *testing.T) {
	b := newBench(t, everything)
	write(t, b.root+"/etc/group", "root:x:0:\nbroken\nsystemd-network:x:998:\n")
	var name string
	b.options.SetHostname = func(n string) error { name = n; return nil }
	for file, result := range results(b.run()) {
		want := Applied
		if file == "ssh" || file == "userconf.txt" {
			want = Ignored
		}
		if result != want {
			t.Errorf("%s: %s, want %s", file, result, want)
		}
	}
	if name != "greenhouse-1" {
		t.Errorf("the running system is called %q", name)
	}
	for file, want := range map[string]struct {
		text string
		mode fs.FileMode
	}{
		ConfigPath:                      {everything[cardConfig], 0o644},
		KeysPath:                        {ed25519Key + "\n" + rsaKey + "\n", 0o644},
		HostnamePath:                    {"greenhouse-1\n", 0o644},
		ConnectionStringPath:            {hubString + "\n", 0o600},
		NetworkDir + "/10-eth0.network": {everything["tuxwatch/network/10-eth0.network"], 0o644},
		NetworkDir + "/wg0.netdev":      {everything["tuxwatch/network/wg0.netdev"], 0o640},
		WifiPath: {"# Written by tuxwatch provision from the card's settings.\nctrl_interface=/run/wpa_supplicant\ncountry=DE\n\n" +
			"network={\n\tssid=\"Garden\"\n\tpsk=\"correct horse\"\n\tkey_mgmt=WPA-PSK\n}\n", 0o600},
	} {
		if diff := cmp.Diff(want.text, b.onDevice(file)); diff != "" {
			t.Errorf("%s: %s", file, diff)
		}
		if info, err := os.Stat(filepath.Join(b.root, file)); err != nil || info.Mode() != want.mode {
			t.Errorf("%s: mode %v, want %v (%v)", file, info.Mode(), want.mode, err)
		}
	}
	// networkd, which is not root, has to read its keys.
	if info, err := os.Stat(filepath.Join(b.root, NetworkDir, "wg0.netdev")); err != nil {
		t.Error(err)
	} else if gid := info.Sys().(*syscall.Stat_t).Gid; os.Geteuid() == 0 && gid != 998 {
		t.Errorf("the file with networkd's key belongs to group %d", gid)
	}
	if info, err := os.Stat(filepath.Dir(filepath.Join(b.root, ConnectionStringPath))); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the secrets' folder: %v, %v", info.Mode(), err)
	}
	for file, text := range everything {
		want := text
		switch file {
		case cardWifi, cardConnection, imagerUser, "tuxwatch/network/wg0.netdev":
			want = ""
		}
		if got := b.onCard(file); got != want {
			t.Errorf("%s on the card: %q", file, got)
		}
	}
}

// The report as people see it, with one of everything that can be wrong.
func TestReport(t *testing.T) {
	b := newBench(t, map[string]string{
		"tuxwatch/README.txt":              "…",
		"tuxwatch/tuxwatch.yaml.txt":       "modules:\n  filterModul:\n    desired: {}\nlog:\n  level: loud\n",
		"tuxwatch/authorized_keys":         ed25519Key + "\r\nssh-dss AAAA old\r\n  ssh-ed25519 AAAAC3 cut\r\n",
		"tuxwatch/WIFI.CONF":               "ssid=Garden\r\npsk=short\r\n",
		"tuxwatch/hostname":                "my_pi\n",
		"tuxwatch/hub-connection-string":   "HostName=hub.example.com;SharedAccessKey=" + secretKey,
		"tuxwatch/network/10-eth0.network": "Name=eth0\n",
		"tuxwatch/network/eth0.conf":       "[Match]\n",
		"tuxwatch/hostnam":                 "x",
		"custom.toml": "config_version = 1\n[system]\nhostname = \"other\"\n[user]\nname = \"pi\"\npassword = \"$5$hash\"\npassword_encrypted = true\n" +
			"[ssh]\nenabled = true\npassword_authentication = true\nauthorized_keys = [\"" + rsaKey + "\"]\n[wlan]\nssid = \"Hall\"\npassword = \"secret words\"\nhidden = true\ncountry = \"gb\"\n[locale]\nkeymap = \"gb\"\ntimezone = \"Europe/London\"\n",
		"userconf.txt": "pi:$6$salt$hash\n",
		"ssh":          "",
	})
	report := b.run()
	got := b.onCard(cardReport)
	const golden = "testdata/REPORT.txt"
	if *update {
		write(t, golden, got)
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("REPORT.txt (-update writes it anew):\n%s", diff)
	}
	if strings.Count(got, "\r\n") != strings.Count(got, "\n") {
		t.Error("the lines do not end as Notepad wants them")
	}
	if kept := b.onDevice(reportPath); strings.ReplaceAll(got, "\r\n", "\n") != kept || kept != report.Text() {
		t.Error("the report on the device is another")
	}
}

// What was changed on the device after it was applied stays, until the card's
// file changes; the one before is then kept.
func TestAppliedOnce(t *testing.T) {
	b := newBench(t, map[string]string{cardConfig: "log: {level: warn}\n"})
	write(t, b.root+ConfigPath, "log: {level: error}\n")
	b.run()
	if got := b.onDevice(ConfigBackupPath); got != "log: {level: error}\n" {
		t.Errorf("the configuration before: %q", got)
	}
	first := b.onCard(cardReport)
	write(t, b.root+ConfigPath, "log: {level: debug}\n")
	b.options.Now = func() time.Time { return start.Add(time.Hour) }
	before, err := os.Stat(filepath.Join(b.card, cardReport))
	if err != nil {
		t.Fatal(err)
	}
	if got := results(b.run()); got[cardConfig] != Applied {
		t.Errorf("the second time: %v", got)
	}
	if got := b.onDevice(ConfigPath); got != "log: {level: debug}\n" {
		t.Errorf("what was changed on the device became %q", got)
	}
	after, err := os.Stat(filepath.Join(b.card, cardReport))
	if err != nil || !os.SameFile(before, after) || b.onCard(cardReport) != first {
		t.Errorf("the card was written to without need: %v", err)
	}
	// A mistake, and then what was there before: still nothing to do.
	b.put(cardConfig, "log: {level: loud}\n")
	if got := results(b.run()); got[cardConfig] != Wrong {
		t.Errorf("a mistake: %v", got)
	}
	if got := b.onDevice(ConfigPath); got != "log: {level: debug}\n" {
		t.Errorf("a mistake made the configuration %q", got)
	}
	b.put(cardConfig, "log: {level: info}\n")
	b.run()
	if got := b.onDevice(ConfigPath); got != "log: {level: info}\n" {
		t.Errorf("the changed file is not applied: %q", got)
	}
	if got := b.onDevice(ConfigBackupPath); got != "log: {level: debug}\n" {
		t.Errorf("the configuration before: %q", got)
	}
	// Taken away and put there again it is meant.
	if err := os.Remove(filepath.Join(b.card, cardConfig)); err != nil {
		t.Fatal(err)
	}
	b.run()
	write(t, b.root+ConfigPath, "log: {level: debug}\n")
	b.put(cardConfig, "log: {level: info}\n")
	b.run()
	if got := b.onDevice(ConfigPath); got != "log: {level: info}\n" {
		t.Errorf("put there again it is not applied: %q", got)
	}
}

// A secret that was moved stays in the report, and the same put there again is
// applied and removed again.
func TestSecretAgain(t *testing.T) {
	b := newBench(t, map[string]string{cardConnection: hubString})
	b.run()
	report := b.run()
	if len(report.Entries) != 1 || !report.Entries[0].Removed {
		t.Fatalf("after it was moved: %+v", report.Entries)
	}
	write(t, b.root+ConnectionStringPath, "another")
	b.put(cardConnection, hubString)
	b.run()
	if b.onDevice(ConnectionStringPath) != hubString+"\n" || b.onCard(cardConnection) != "" {
		t.Error("the same secret put there again is not applied")
	}
}

// A card that cannot be written to: everything is applied, and what holds a
// secret is flagged at each start until it could be removed.
func TestReadOnlyCard(t *testing.T) {
	b := newBench(t, map[string]string{cardConnection: hubString, cardHostname: "pi"})
	b.options.cardFault = func() error { return &fs.PathError{Op: "open", Path: "x", Err: syscall.EROFS} }
	for range 2 {
		report := b.run()
		text := report.Text()
		for _, want := range []string{"read-only: " + cardConnection, "read-only: " + cardReport, "STILL ON THE CARD"} {
			if !strings.Contains(text, want) {
				t.Errorf("the report does not say %q:\n%s", want, text)
			}
		}
		if b.onDevice(ConnectionStringPath) == "" || b.onDevice(HostnamePath) != "pi\n" {
			t.Error("not applied")
		}
		if !strings.Contains(b.onDevice(reportPath), "read-only: "+cardConnection) {
			t.Error("the report on the device does not have it")
		}
	}
	b.options.cardFault = nil
	if text := b.run().Text(); strings.Contains(text, "read-only") || b.onCard(cardConnection) != "" {
		t.Errorf("writable again:\n%s", text)
	}
}

// A device that cannot be written to: secrets stay on the card, nothing counts
// as applied, and the boot goes on.
func TestDeviceFull(t *testing.T) {
	b := newBench(t, everything)
	b.options.deviceFault = func() error { return syscall.ENOSPC }
	report := b.run()
	for file, result := range results(report) {
		if result != Failed && result != Ignored {
			t.Errorf("%s: %s", file, result)
		}
	}
	if b.onCard(cardConnection) == "" || b.onCard(cardWifi) == "" || b.onCard(imagerUser) == "" {
		t.Error("a secret is gone")
	}
	if len(report.Problems) == 0 || !strings.Contains(report.Text(), "no space left") {
		t.Errorf("the report does not say why:\n%s", report.Text())
	}
	b.options.deviceFault = nil
	if got := results(b.run()); got[cardConnection] != Applied || got[cardWifi] != Applied {
		t.Errorf("with space again: %v", got)
	}
}

type powerCut struct{}

// Whenever the power goes: each file on the device is whole, a secret is on the
// card or on the device, and the next run leads to where one without a cut does.
func TestPowerCuts(t *testing.T) {
	finished := newBench(t, everything)
	finished.run()
	for cut := 0; ; cut++ {
		b := newBench(t, everything)
		write(t, b.root+ConfigPath, "log: {level: error}\n")
		steps := 0
		fault := func() error {
			if steps++; steps > cut {
				panic(powerCut{})
			}
			return nil
		}
		b.options.cardFault, b.options.deviceFault = fault, fault
		complete := func() (complete bool) {
			defer func() {
				if p := recover(); p != nil {
					if p != any(powerCut{}) {
						panic(p)
					}
				}
			}()
			b.run()
			return true
		}()
		for file, on := range map[string]string{cardConnection: ConnectionStringPath, cardWifi: WifiPath, "tuxwatch/network/wg0.netdev": NetworkDir + "/wg0.netdev"} {
			if b.onCard(file) != everything[file] && b.onDevice(on) != finished.onDevice(on) {
				t.Fatalf("cut %d: %s is neither on the card nor on the device", cut, file)
			}
		}
		if got := b.onDevice(ConfigPath); got != "log: {level: error}\n" && got != everything[cardConfig] {
			t.Fatalf("cut %d: the configuration is %q", cut, got)
		}
		b.options.cardFault, b.options.deviceFault = nil, nil
		b.run()
		if got := b.onDevice(ConfigBackupPath); got != "log: {level: error}\n" {
			t.Fatalf("cut %d: the configuration before is %q", cut, got)
		}
		os.Remove(filepath.Join(b.root, ConfigBackupPath))
		for _, dirs := range [][2]string{{finished.root, b.root}, {finished.card, b.card}} {
			// The report says that there is a configuration from before.
			want, got := tree(t, dirs[0]), tree(t, dirs[1])
			for _, m := range []map[string]string{want, got} {
				delete(m, inside(statePath))
				delete(m, inside(reportPath))
				delete(m, cardReport)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("after cut %d and another run:\n%s", cut, diff)
			}
		}
		if complete {
			if cut < 20 {
				t.Errorf("there were %d steps only", cut)
			}
			return
		}
	}
}

// tree gives every file below dir.
func tree(t interface{ Fatal(...any) }, dir string) map[string]string {
	m := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(dir, path)
		switch {
		case e.Type()&fs.ModeSymlink != 0:
			target, _ := os.Readlink(path)
			m[name] = "-> " + target
		case e.Type().IsRegular():
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			m[name] = string(data)
		default:
			m[name] = "(" + e.Type().String() + ")"
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// The rest of a secret whose erasing was cut short is removed without a word.
func TestHalfErased(t *testing.T) {
	b := newBench(t, map[string]string{cardConnection: hubString})
	b.run()
	b.put(cardConnection, strings.Repeat("\x00", len(hubString)))
	report := b.run()
	if got := results(report); got[cardConnection] != Applied || !report.Entries[0].Removed {
		t.Errorf("%+v", report.Entries)
	}
	if _, err := os.Stat(filepath.Join(b.card, cardConnection)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it is still there: %v", err)
	}
	if b.onDevice(ConnectionStringPath) != hubString+"\n" {
		t.Error("the secret is gone")
	}
}

func TestDryRun(t *testing.T) {
	b := newBench(t, everything)
	before := tree(t, filepath.Dir(b.card))
	b.options.DryRun = true
	b.options.SetHostname = func(string) error { t.Error("the running system is renamed"); return nil }
	report := b.run()
	if got := results(report); got[cardConfig] != Applied || got[cardConnection] != Applied {
		t.Errorf("%v", got)
	}
	if !strings.Contains(report.Text(), "nothing was changed") {
		t.Error("the report does not say that it is a trial")
	}
	if diff := cmp.Diff(before, tree(t, filepath.Dir(b.card))); diff != "" {
		t.Error(diff)
	}
}

// A card of somebody who uses none of this stays as it is.
func TestNothingThere(t *testing.T) {
	b := newBench(t, map[string]string{"config.txt": "x"})
	if report := b.run(); len(report.Entries) > 0 || len(report.Problems) > 0 {
		t.Errorf("%+v", report)
	}
	if got := tree(t, b.card); len(got) != 2 {
		t.Errorf("the card has %v", got)
	}
}

// Editors of all kinds.
func TestEncodings(t *testing.T) {
	utf16le := func(s string, order binary.AppendByteOrder, mark bool) string {
		var b []byte
		if mark {
			b = order.AppendUint16(b, 0xfeff)
		}
		for _, u := range utf16.Encode([]rune(s)) {
			b = order.AppendUint16(b, u)
		}
		return string(b)
	}
	const text = "# Gewächshaus\r\npi-7\r\n"
	for name, data := range map[string]string{
		"unix": "pi-7\n", "windows": text, "mac": "pi-7\r", "mark": "\xef\xbb\xbf" + text,
		"utf-16":            utf16le(text, binary.LittleEndian, true),
		"utf-16 big endian": utf16le(text, binary.BigEndian, true),
		"utf-16 unmarked":   utf16le(text, binary.LittleEndian, false),
	} {
		b := newBench(t, map[string]string{"tuxwatch/Hostname.TXT": data})
		if report := b.run(); b.onDevice(HostnamePath) != "pi-7\n" {
			t.Errorf("%s: %+v", name, report.Entries)
		}
	}
	for data, want := range map[string]string{
		"pi\n\xe4\n":                             "line 2, column 1: this is not text in UTF-8",
		"pi\nab\x1b":                             "line 2, column 3: there is a control character",
		strings.Repeat("#", maxTextBytes) + "\n": "too large: more than 64 KB",
	} {
		b := newBench(t, map[string]string{cardHostname: data})
		if report := b.run(); !strings.Contains(report.Text(), want) {
			t.Errorf("%.10q: %s", data, report.Text())
		}
	}
}

// The folder tuxwatch goes before Imager's file, which is applied otherwise.
func TestImager(t *testing.T) {
	const settings = "config_version = 1\n[system]\nhostname = \"imager\"\n[ssh]\nauthorized_keys = [%q]\n[wlan]\nssid = \"Hall\"\npassword = \"%s\"\npassword_encrypted = true\ncountry = \"GB\"\n"
	psk := strings.Repeat("ab", 32)
	b := newBench(t, map[string]string{imagerSettings: fmt.Sprintf(settings, rsaKey, psk), cardHostname: "mine"})
	report := b.run()
	if b.onDevice(HostnamePath) != "mine\n" || b.onDevice(KeysPath) != rsaKey+"\n" || !strings.Contains(b.onDevice(WifiPath), "psk="+psk+"\n") {
		t.Errorf("%v\n%s", tree(t, b.root), report.Text())
	}
	if b.onCard(imagerSettings) != "" {
		t.Error("the password is still on the card")
	}
	// With a mistake in it, it stays to be corrected, and says that it is there.
	b = newBench(t, map[string]string{imagerSettings: fmt.Sprintf(strings.Replace(settings, "imager", "my pi", 1), rsaKey, psk)})
	report = b.run()
	if got := results(report)[imagerSettings]; got != Partly || b.onDevice(KeysPath) == "" || b.onCard(imagerSettings) == "" || !strings.Contains(report.Text(), "STILL ON THE CARD") {
		t.Errorf("%s\n%s", got, report.Text())
	}
}

// A link on the device stays, and what it leads to is replaced.
func TestLinkOnDevice(t *testing.T) {
	for _, target := range []string{"tuxwatch/hostname", "/etc/tuxwatch/hostname"} {
		b := newBench(t, map[string]string{cardHostname: "pi"})
		write(t, b.root+"/etc/tuxwatch/hostname", "old\n")
		if err := os.Symlink(target, b.root+HostnamePath); err != nil {
			t.Fatal(err)
		}
		report := b.run()
		if link, err := os.Readlink(b.root + HostnamePath); link != target || b.onDevice("/etc/tuxwatch/hostname") != "pi\n" {
			t.Errorf("%s: %q %v\n%s", target, link, err, report.Text())
		}
	}
}

// No names, links or contents make it write outside of card and root, or say a
// secret.
func TestStaysInside(t *testing.T) {
	base := tempDir(t)
	n := 0
	rapid.Check(t, func(t *rapid.T) {
		n++
		dir := filepath.Join(base, fmt.Sprint(n))
		defer os.RemoveAll(dir)
		write(t, filepath.Join(dir, "outside/file"), "untouched")
		b := &bench{t: t, card: filepath.Join(dir, "card"), root: filepath.Join(dir, "root")}
		b.make(nil)
		names := []string{cardConfig, cardKeys, cardWifi, cardHostname, cardConnection, cardReport, cardNetwork, imagerSettings, imagerUser, imagerSSH, imagerFirstRun, imagerUserData, imagerNetwork, imagerMetaData,
			cardNetwork + "/a.network", cardNetwork + "/..network", cardNetwork + "/a\\..\\b.network", cardNetwork + "/%2e%2e.link"}
		contents := []string{hubString, wifiText, "psk=" + secretKey + "\nssid=x", "../../outside/file", everything[cardConfig], ed25519Key,
			"config_version = 1\n[wlan]\nssid = \"a\"\npassword = \"" + secretKey + "\n", secretKey, "psk = " + secretKey[:10] + "\n" + secretKey, "network={\nssid=\"a\"\n" + secretKey + "\npsk=\"" + secretKey, "HostName=h;" + secretKey,
			"network:\n  version: 2\n  wifis:\n    wlan0:\n      access-points:\n        \"a\":\n          password: \"" + secretKey + "\"\n", "hostname: pi\nusers:\n- name: pi\n  passwd: " + secretKey + "\n",
			imagerCustom + " set_wlan 'a' '" + secretKey + "' 'DE'\n" + imagerCustom + " set_hostname pi\n"}
		// No secret belongs into the configuration; those that can be told by their
		// form do not come up.
		inConfig := []string{hubString, wifiText, "hub: {" + hubString + "}", everything[cardConfig]}
		targets := []string{"../outside", "../outside/file", "../../outside/file", dir + "/outside/file", "../../../outside", "tuxwatch", "."}
		place := func(root string, name string) {
			path := filepath.Join(root, name)
			if os.MkdirAll(filepath.Dir(path), 0o755) != nil {
				return
			}
			if rapid.Bool().Draw(t, "link") {
				os.Symlink(rapid.SampledFrom(targets).Draw(t, "target"), path)
				return
			}
			// What is there already may be a link that leads out.
			if _, err := os.Lstat(path); err == nil {
				return
			}
			content := contents
			if name == cardConfig {
				content = inConfig
			}
			text := rapid.SampledFrom(content).Draw(t, "content")
			if rapid.Bool().Draw(t, "mixed") {
				text = text[:rapid.IntRange(0, len(text)).Draw(t, "cut")] + rapid.String().Draw(t, "text")
			}
			if f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644); err == nil {
				f.WriteString(text)
				f.Close()
			}
		}
		if rapid.Bool().Draw(t, "links on the device") {
			for _, name := range rapid.SliceOfN(rapid.SampledFrom([]string{"etc", "etc/tuxwatch", ConfigPath, HostnamePath, "etc/ssh", "var/lib/tuxwatch-provision", statePath}), 0, 3).Draw(t, "on the device") {
				path := filepath.Join(b.root, name)
				if real, err := filepath.EvalSymlinks(filepath.Dir(path)); err == nil && !strings.HasPrefix(real, b.root) {
					continue
				}
				os.MkdirAll(filepath.Dir(path), 0o755)
				os.Symlink(rapid.SampledFrom(targets).Draw(t, "target"), path)
			}
		}
		for _, name := range rapid.SliceOfN(rapid.SampledFrom(names), 0, 8).Draw(t, "on the card") {
			if real, err := filepath.EvalSymlinks(filepath.Join(b.card, filepath.Dir(name))); err == nil && !strings.HasPrefix(real, b.card) {
				continue
			}
			place(b.card, name)
		}
		before := tree(t, filepath.Join(dir, "outside"))
		for range 2 {
			text := b.run().Text()
			for _, secret := range []string{secretKey, secretKey[:10], "correct horse"} {
				if strings.Contains(text, secret) {
					t.Fatalf("the report says a secret:\n%s", text)
				}
			}
		}
		if diff := cmp.Diff(before, tree(t, filepath.Join(dir, "outside"))); diff != "" {
			t.Fatal(diff)
		}
		entries, err := os.ReadDir(dir)
		if err != nil || len(entries) != 3 {
			t.Fatalf("%v %v", entries, err)
		}
	})
}

// Run's own errors: a folder that is not there, and a context that ended.
func TestErrors(t *testing.T) {
	b := newBench(t, nil)
	o := b.options
	o.Card += "/none"
	if _, err := Run(context.Background(), o); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "opening the card") {
		t.Errorf("no card: %v", err)
	}
	o = b.options
	o.Root += "/none"
	if _, err := Run(context.Background(), o); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "root file system") {
		t.Errorf("no root: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Run(ctx, b.options); !errors.Is(err, context.Canceled) {
		t.Errorf("ended: %v", err)
	}
}

// Odd things on the card are reported and do no harm.
func TestOddities(t *testing.T) {
	b := newBench(t, nil)
	if err := os.MkdirAll(filepath.Join(b.card, cardHostname), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(b.card, cardWifi), 0o600); err != nil {
		t.Fatal(err)
	}
	for i := range maxNetworkFiles + 1 {
		b.put(fmt.Sprintf("%s/%d.network", cardNetwork, i), "[Match]\nName=x\n")
	}
	for i := range maxOthers + 1 {
		b.put(fmt.Sprintf("%s/other%d", cardDir, i), "")
	}
	write(t, b.root+statePath, "{")
	report := b.run()
	if got := results(report); got[cardHostname] != Wrong || got[cardWifi] != Wrong || got[cardNetwork] != Wrong {
		t.Errorf("%v", got)
	}
	if len(report.Entries) != 3+maxOthers || len(report.Problems) != 2 || !strings.Contains(report.Problems[0], "damaged") {
		t.Errorf("%d entries, %q", len(report.Entries), report.Problems)
	}
}

// At every start the running system gets the name that is set, whether or not
// the card has one; that it cannot is reported.
func TestRunningName(t *testing.T) {
	b := newBench(t, map[string]string{"tuxwatch/README.txt": ""})
	var names []string
	b.options.SetHostname = func(name string) error { names = append(names, name); return nil }
	b.run() // there is none
	write(t, b.root+HostnamePath, "pi-7\n")
	b.run()
	write(t, b.root+HostnamePath, "not a name\n")
	b.run()
	if diff := cmp.Diff([]string{"pi-7"}, names); diff != "" {
		t.Error(diff)
	}
	write(t, b.root+HostnamePath, "pi-7\n")
	b.options.SetHostname = func(string) error { return syscall.EPERM }
	b.run()
	if got := b.onCard(cardReport); !strings.Contains(got, "ATTENTION  The name pi-7 is in effect after the next start only: operation not permitted") {
		t.Error(got)
	}
}
