package provision

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	sdunit "github.com/coreos/go-systemd/v22/unit"
)

const unitPath = "../../rootfs/usr/lib/systemd/system/tuxwatch-provision.service"

// What the unit promises: before everything that reads the files, after the
// folders are there, never in the way of the boot, and able to write to each
// place that the package names.
func TestUnitPromises(t *testing.T) {
	unit, err := os.ReadFile(unitPath)
	if err != nil {
		t.Fatal(err)
	}
	options, err := sdunit.DeserializeOptions(bytes.NewReader(unit))
	if err != nil {
		t.Fatal(err)
	}
	values := map[string][]string{}
	for _, o := range options {
		values[o.Name] = append(values[o.Name], strings.Fields(o.Value)...)
	}
	has := func(name string, wants ...string) {
		t.Helper()
		for _, want := range wants {
			if !strings.Contains(" "+strings.Join(values[name], " ")+" ", " "+want+" ") {
				t.Errorf("%s=%v lacks %s", name, values[name], want)
			}
		}
	}
	has("Before", "tuxwatchd.service", "ssh.service", "ssh.socket", "systemd-networkd.service", "network-pre.target", "wpa_supplicant@wlan0.service")
	has("After", "local-fs.target", "time-set.target")
	has("ConditionPathIsMountPoint", "/boot/firmware")
	has("Type", "oneshot")
	has("ExecStart", "/usr/bin/tuxwatch provision")
	has("StateDirectory", filepath.Base(StateDir))
	for _, never := range []string{"Requires", "RequiresMountsFor", "FailureAction", "OnFailure"} {
		if len(values[never]) > 0 {
			t.Errorf("%s=%v", never, values[never])
		}
	}
	for _, path := range []string{ConfigPath, ConfigBackupPath, AuthorityPath, KeysPath, HostnamePath, WifiPath, NetworkDir, ConnectionStringPath, StateDir, "/boot/firmware/" + cardReport} {
		writable := false
		for _, w := range values["ReadWritePaths"] {
			writable = writable || strings.HasPrefix(path+"/", strings.TrimPrefix(w, "-")+"/")
		}
		if !writable {
			t.Errorf("%s is not within ReadWritePaths=%v", path, values["ReadWritePaths"])
		}
	}
}

// systemd takes the unit without a word.
func TestUnit(t *testing.T) {
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Skip("systemd-analyze is not installed: the unit is not checked")
	}
	unit, err := os.ReadFile(unitPath)
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	units := filepath.Join(root, "usr/lib/systemd/system")
	write(t, filepath.Join(root, "usr/bin/tuxwatch"), "#!/bin/sh\n")
	if err := os.Chmod(filepath.Join(root, "usr/bin/tuxwatch"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, target := range []string{"sysinit", "basic", "network-pre", "local-fs", "time-set", "multi-user", "shutdown"} {
		write(t, filepath.Join(units, target+".target"), "[Unit]\nDescription="+target+"\n")
	}
	verify := func(unit string) string {
		t.Helper()
		write(t, filepath.Join(units, filepath.Base(unitPath)), unit)
		out, err := exec.Command("systemd-analyze", "verify", "--man=no", "--root="+root, filepath.Base(unitPath)).CombinedOutput()
		if err != nil {
			return string(out) + err.Error()
		}
		return string(out)
	}
	if out := verify(string(unit)); out != "" {
		t.Errorf("systemd-analyze verify says:\n%s", out)
	}
	// The check does find mistakes.
	if out := verify(strings.Replace(string(unit), "RemainAfterExit", "RemainAfterExits", 1)); !strings.Contains(out, "RemainAfterExits") {
		t.Errorf("a mistake is not found: %q", out)
	}
	out, err := exec.Command("systemd-analyze", "security", "--offline=true", "--threshold=20", unitPath).CombinedOutput()
	if err != nil {
		t.Errorf("the unit is exposed more than 2.0: %v\n%s", err, out)
	}
}
