package rootfs

import (
	"bytes"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	sdunit "github.com/coreos/go-systemd/v22/unit"
)

const (
	rootfs = "../../rootfs"
	units  = rootfs + "/usr/lib/systemd/system"
)

// read gives a file of rootfs/.
func read(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(rootfs, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// settings are a unit's values by name, each with those of all its lines, word by
// word.
type settings map[string][]string

func unit(t *testing.T, name string) settings {
	t.Helper()
	options, err := sdunit.DeserializeOptions(strings.NewReader(read(t, "usr/lib/systemd/system/"+name)))
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	values := settings{}
	for _, o := range options {
		values[o.Name] = append(values[o.Name], strings.Fields(o.Value)...)
	}
	return values
}

// has expects words in a setting.
func (s settings) has(t *testing.T, name string, words ...string) {
	t.Helper()
	for _, w := range words {
		if !slices.Contains(s[name], w) {
			t.Errorf("%s=%s lacks %s", name, strings.Join(s[name], " "), w)
		}
	}
}

// is expects a setting to be exactly that.
func (s settings) is(t *testing.T, name, want string) {
	t.Helper()
	if got := strings.Join(s[name], " "); got != want {
		t.Errorf("%s=%s, want %q", name, got, want)
	}
}

// ours are the names of the units with that ending.
func ours(t *testing.T, ending string) []string {
	t.Helper()
	entries, err := os.ReadDir(units)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ending) {
			names = append(names, e.Name())
		}
	}
	if len(names) == 0 {
		t.Fatalf("there is no unit *%s", ending)
	}
	return names
}

// theirs are the units of Debian that ours add to, as far as it matters here.
var theirs = map[string]string{
	"ssh.service":                          "[Service]\nExecStart=/usr/sbin/sshd -D\n[Install]\nWantedBy=multi-user.target\nAlias=sshd.service\n",
	"wpa_supplicant@.service":              "[Service]\nExecStart=/usr/sbin/wpa_supplicant -i%I\n",
	"tmp.mount":                            "[Unit]\nDefaultDependencies=no\nBefore=local-fs.target\n[Mount]\nWhat=tmpfs\nWhere=/tmp\nType=tmpfs\n",
	"systemd-fsck@.service":                "[Unit]\nDefaultDependencies=no\n[Service]\nType=oneshot\nExecStart=/usr/sbin/fsck %f\n",
	"systemd-networkd.service":             "[Unit]\nDefaultDependencies=no\nAfter=network-pre.target\nBefore=network.target\n[Service]\nExecStart=/usr/sbin/networkd\n[Install]\nWantedBy=multi-user.target\nAlso=systemd-networkd-wait-online.service\n",
	"systemd-networkd-wait-online.service": "[Service]\nExecStart=/usr/sbin/networkd\n[Install]\nWantedBy=network-online.target\n",
	"systemd-resolved.service":             "[Unit]\nDefaultDependencies=no\nBefore=network.target\n[Service]\nExecStart=/usr/sbin/resolved\n[Install]\nWantedBy=sysinit.target\n",
	"systemd-timesyncd.service":            "[Unit]\nDefaultDependencies=no\nBefore=time-set.target sysinit.target\n[Service]\nExecStart=/usr/sbin/timesyncd\n[Install]\nWantedBy=sysinit.target\n",
	"systemd-random-seed.service":          "[Unit]\nDefaultDependencies=no\nRequiresMountsFor=/var/lib/systemd/random-seed\n[Service]\nType=oneshot\nExecStart=/usr/sbin/random-seed\n",
	"systemd-sysusers.service":             "[Unit]\nDefaultDependencies=no\nBefore=sysinit.target\n[Service]\nType=oneshot\nExecStart=/usr/sbin/sysusers\n",
	"systemd-tmpfiles-setup.service":       "[Unit]\nDefaultDependencies=no\nAfter=local-fs.target\nBefore=sysinit.target\n[Service]\nType=oneshot\nExecStart=/usr/sbin/tmpfiles\n",
	"e2scrub_reap.service":                 "[Service]\nExecStart=/usr/sbin/e2scrub\n[Install]\nWantedBy=multi-user.target\n",
	"serial-getty@.service":                "[Service]\nExecStart=/usr/sbin/getty %I\n[Install]\nWantedBy=getty.target\n",
	"getty@.service":                       "[Service]\nExecStart=/usr/sbin/getty %I\n[Install]\nWantedBy=getty.target\nDefaultInstance=tty1\n",
}

// system makes a root with rootfs/, the units of Debian, and every program that
// a unit names.
func system(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	err := filepath.WalkDir(rootfs, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		to := filepath.Join(root, strings.TrimPrefix(path, rootfs))
		switch d.Type() {
		case fs.ModeDir:
			return os.MkdirAll(to, 0o755)
		case fs.ModeSymlink:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			return os.Symlink(target, to)
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(to, data, 0o644)
	})
	if err != nil {
		t.Fatal(err)
	}
	there := filepath.Join(root, "usr/lib/systemd/system")
	for name, text := range theirs {
		write(t, filepath.Join(there, name), "[Unit]\nDescription="+name+"\n"+text)
	}
	for _, target := range []string{
		"default", "sysinit", "basic", "multi-user", "local-fs", "local-fs-pre", "swap", "umount", "network-pre", "network", "network-online",
		"time-set", "shutdown", "getty", "reboot", "remote-fs",
	} {
		write(t, filepath.Join(there, target+".target"), "[Unit]\nDescription="+target+"\n")
	}
	programs := regexp.MustCompile(`(?m)^Exec\w+=[-@:+!]*(/\S+)`)
	for _, name := range append(ours(t, ".service"), slices.Collect(keys(theirs))...) {
		text, err := os.ReadFile(filepath.Join(there, name))
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range programs.FindAllSubmatch(text, -1) {
			write(t, filepath.Join(root, string(p[1])), "#!/bin/sh\n")
			if err := os.Chmod(filepath.Join(root, string(p[1])), 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
	return root
}

func keys[V any](m map[string]V) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
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

// needs skips where a program is not installed.
func needs(t *testing.T, program string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		t.Skipf("%s is not installed (scripts/setup check installs it)", program)
	}
}

func systemdVersion(t *testing.T) int {
	t.Helper()
	out, err := exec.Command("systemd-analyze", "--version").Output()
	if err != nil {
		t.Fatal(err)
	}
	version := regexp.MustCompile(`^systemd (\d+)`).FindSubmatch(out)
	if version == nil {
		t.Fatalf("systemd-analyze --version: %s", out)
	}
	n, _ := strconv.Atoi(string(version[1]))
	return n
}

// systemd takes every unit, with the drop-ins, without a word, and none waits for
// one that waits for it.
func TestVerify(t *testing.T) {
	needs(t, "systemd-analyze")
	root := system(t)
	newer := filepath.Join(root, "usr/lib/systemd/system/tuxwatchd.service.d/20-image-257.conf")
	if v := systemdVersion(t); v < 257 {
		// The device has 257; here the file's settings are not known.
		t.Logf("systemd %d does not know all of %s, which is left out", v, filepath.Base(newer))
		if err := os.Remove(newer); err != nil {
			t.Fatal(err)
		}
	}
	all := append(ours(t, ".service"), ours(t, ".mount")...)
	all = append(all, "ssh.service", "wpa_supplicant@wlan0.service", "tmp.mount")
	verify := func() string {
		t.Helper()
		out, err := exec.Command("systemd-analyze", append([]string{"verify", "--man=no", "--root=" + root}, all...)...).CombinedOutput()
		if err != nil {
			return string(out) + err.Error()
		}
		return string(out)
	}
	if out := verify(); out != "" {
		t.Errorf("systemd-analyze verify says:\n%s", out)
	}
	// The check does find mistakes, in each of them.
	for _, name := range all {
		path := filepath.Join(root, "usr/lib/systemd/system", strings.Replace(name, "wlan0", "", 1)+".d", "99-mistake.conf")
		write(t, path, "[Unit]\nWantz=nothing\n")
	}
	out := verify()
	for _, name := range all {
		if want := strings.Replace(name, "wlan0", "", 1) + ".d/99-mistake.conf"; !strings.Contains(out, want) {
			t.Errorf("a mistake in %s is not found", name)
		}
	}
}

// A cycle of ordering is found as well: the promise of TestVerify.
func TestVerifyFindsCycles(t *testing.T) {
	needs(t, "systemd-analyze")
	root := system(t)
	write(t, filepath.Join(root, "usr/lib/systemd/system/data.mount.d/99-mistake.conf"), "[Unit]\nAfter=tuxwatch-provision.service\nWants=tuxwatch-provision.service\n")
	out, _ := exec.Command("systemd-analyze", "verify", "--man=no", "--root="+root, "tuxwatchd.service", "tuxwatch-provision.service").CombinedOutput()
	if !bytes.Contains(out, []byte("cycle")) {
		t.Errorf("not found: %q", out)
	}
}

// Every service of ours is exposed 2.0 at most.
func TestExposure(t *testing.T) {
	needs(t, "systemd-analyze")
	for _, name := range ours(t, ".service") {
		out, err := exec.Command("systemd-analyze", "security", "--offline=true", "--threshold=20", filepath.Join(units, name)).CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}

// The preset turns on what is ours and what Debian has for it, and nothing else.
func TestPreset(t *testing.T) {
	needs(t, "systemctl")
	root := system(t)
	if out, err := exec.Command("systemctl", "--root="+root, "preset-all").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	on := map[string]bool{}
	links, err := filepath.Glob(filepath.Join(root, "etc/systemd/system/*.wants/*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		on[filepath.Base(l)] = true
	}
	want := []string{"getty@tty1.service", "serial-getty@ttyS1.service", "ssh.service", "systemd-networkd.service", "systemd-resolved.service", "systemd-timesyncd.service"}
	for _, name := range append(ours(t, ".service"), ours(t, ".mount")...) {
		if len(unit(t, name)["WantedBy"]) > 0 {
			want = append(want, name)
		}
	}
	for _, name := range want {
		if !on[name] {
			t.Errorf("%s is not turned on", name)
		}
		delete(on, name)
	}
	for name := range on {
		t.Errorf("%s is turned on", name)
	}
}
