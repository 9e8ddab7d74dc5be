package rootfs

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"tuxwatch/firmware/led"
	"tuxwatch/firmware/provision"
)

// The daemon starts without the network, comes back always, and gets at no more
// than it needs.
func TestDaemon(t *testing.T) {
	u := unit(t, "tuxwatchd.service")
	for name, want := range map[string]string{
		"After":                 "",
		"Wants":                 "",
		"Requires":              "",
		"Type":                  "notify",
		"Restart":               "always",
		"StartLimitIntervalSec": "0",
		"User":                  "tuxwatch",
		"SupplementaryGroups":   "i2c video gpio",
		"DevicePolicy":          "closed",
		"DeviceAllow":           "char-89 rw char-81 rw char-gpiochip rw char-media rw char-dma_heap rw",
		"ProtectSystem":         "strict",
		"ReadWritePaths":        "",
		"NoNewPrivileges":       "true",
		"CapabilityBoundingSet": "",
		"SystemCallFilter":      "@system-service ~@privileged @resources",
		"MemoryMax":             "256M",
		"TasksMax":              "128",
	} {
		u.is(t, name, want)
	}
	// What it comes after: with a package, the network, to say goodbye at the end; on
	// the image what it needs to start, and nothing that waits for the basic system.
	unit(t, "tuxwatchd.service.d/10-order.conf").is(t, "After", "network.target time-set.target")
	if target, err := os.Readlink(filepath.Join(rootfs, "etc/systemd/system/tuxwatchd.service.d/10-order.conf")); err != nil || target != "/dev/null" {
		t.Errorf("10-order.conf is in effect on the image: %s %v", target, err)
	}
	image := unit(t, "tuxwatchd.service.d/10-image.conf")
	image.is(t, "DefaultDependencies", "no")
	image.is(t, "After", "local-fs.target wpa_supplicant@wlan0.service")
	image.is(t, "Conflicts", "shutdown.target")
	image.is(t, "Before", "shutdown.target")
	image.is(t, "RuntimeDirectoryPreserve", "yes")
	newer := unit(t, "tuxwatchd.service.d/20-image-257.conf")
	newer.is(t, "RestartSteps", "5")
	newer.is(t, "RestartMaxDelaySec", "60")
	newer.is(t, "PrivateTmp", "disconnected")
	for _, name := range []string{"ethernet", "wifi"} {
		if file := read(t, "usr/lib/systemd/network/80-tuxwatch-"+name+".network"); !strings.Contains(file, "\nKeepConfiguration=dynamic-on-stop\n") {
			t.Errorf("the addresses of 80-tuxwatch-%s.network go with networkd, before the daemon has said goodbye", name)
		}
	}
}

// What is on the card is applied before everything that reads it, after the
// folders are there, never in the way of the boot, and each place that the program
// writes to is one that it can write to, and that is kept.
func TestProvision(t *testing.T) {
	u := unit(t, "tuxwatch-provision.service")
	u.has(t, "Before", "tuxwatchd.service", "ssh.service", "ssh.socket", "systemd-networkd.service", "network-pre.target", "wpa_supplicant@wlan0.service")
	u.has(t, "After", "local-fs.target")
	u.is(t, "ConditionPathIsMountPoint", "/boot/firmware")
	u.is(t, "Type", "oneshot")
	u.is(t, "ExecStart", "/usr/bin/tuxwatchd --apply-card /boot/firmware")
	u.is(t, "StateDirectory", filepath.Base(provision.StateDir))
	for _, never := range []string{"Requires", "RequiresMountsFor", "FailureAction", "OnFailure"} {
		u.is(t, never, "")
	}
	kept := mounts(t)
	for _, place := range []string{
		provision.ConfigPath, provision.ConfigBackupPath, provision.AuthorityPath, provision.KeysPath, provision.HostnamePath,
		provision.WifiPath, provision.NetworkDir, provision.ConnectionStringPath, provision.StateDir, "/boot/firmware/tuxwatch/REPORT.txt",
	} {
		// A link, as /etc/hostname is, leads to where it is kept.
		if target, err := os.Readlink(filepath.Join(rootfs, place)); err == nil {
			if filepath.IsAbs(target) {
				t.Errorf("%s is an absolute link, which provision takes for a way out", place)
			}
			place = filepath.Join(filepath.Dir(place), target)
		}
		within := func(folder string) bool { return folder != "" && strings.HasPrefix(place+"/", folder+"/") }
		writable, isKept := false, false
		for _, w := range u["ReadWritePaths"] {
			writable = writable || within(strings.TrimPrefix(w, "-"))
		}
		for where, what := range kept {
			isKept = isKept || within(where) && (what == "/data"+where || where == "/data" || where == "/boot/firmware")
		}
		if !writable {
			t.Errorf("%s is not within ReadWritePaths=%v", place, u["ReadWritePaths"])
		}
		if !isKept {
			t.Errorf("%s is on no partition that is kept", place)
		}
	}
}

// mounts are what is mounted from where, by our units.
func mounts(t *testing.T) map[string]string {
	t.Helper()
	from := map[string]string{}
	for _, name := range ours(t, ".mount") {
		u := unit(t, name)
		from[strings.Join(u["Where"], " ")] = strings.Join(u["What"], " ")
	}
	return from
}

// Each place that is kept is mounted from the same path below /data, by a unit of
// the name that systemd wants, and a failure of one does not stop the boot.
func TestMounts(t *testing.T) {
	got := mounts(t)
	for _, where := range []string{
		"/etc/tuxwatch", "/etc/credstore", "/etc/ssh/authorized_keys.d", "/etc/ssh/keys", "/etc/systemd/network", "/etc/wpa_supplicant", "/etc/machine-id",
		"/home", "/var/lib/tuxwatch", "/var/lib/tuxwatch-provision", "/var/lib/systemd",
	} {
		if got[where] != "/data"+where {
			t.Errorf("%s is mounted from %q", where, got[where])
		}
	}
	for where, what := range map[string]string{
		"/data": "/dev/tuxwatch/data", "/boot/firmware": "/dev/tuxwatch/boot", "/var": "tmpfs", "/var/log/journal": "/data/journal",
	} {
		if got[where] != what {
			t.Errorf("%s is mounted from %q, want %q", where, got[where], what)
		}
	}
	for _, name := range ours(t, ".mount") {
		u := unit(t, name)
		// systemd.mount(5): the name is the path, escaped as systemd-escape(1) does.
		escaped := strings.NewReplacer("-", `\x2d`, "/", "-").Replace(strings.TrimPrefix(strings.Join(u["Where"], ""), "/"))
		if name != escaped+".mount" {
			t.Errorf("%s mounts on %s", name, u["Where"])
		}
		u.is(t, "WantedBy", "local-fs.target")
		u.is(t, "RequiredBy", "")
	}
	for _, secret := range []string{"etc-credstore.mount", "etc-ssh-keys.mount", "etc-wpa_supplicant.mount", "var-lib-tuxwatch.mount"} {
		unit(t, secret).is(t, "DirectoryMode", "0700")
	}
	if options := strings.Join(unit(t, "boot-firmware.mount")["Options"], ""); !strings.Contains(options, "umask=0077") || !strings.Contains(options, "sync") {
		t.Errorf("the FAT partition, with passwords, is mounted with %s", options)
	}
	// The initramfs mounts it itself, before there is a udev.
	init := read(t, "usr/lib/tuxwatch/initramfs/init")
	if options := strings.Join(unit(t, "boot-firmware.mount")["Options"], ""); !strings.Contains(init, "-o "+options+` "$boot_device" /sysroot/boot/firmware`) {
		t.Errorf("the initramfs mounts the boot partition with other options than %s", options)
	}
	// The names of the devices that the units wait for.
	rules := read(t, "usr/lib/udev/rules.d/70-tuxwatch-card.rules")
	for label, link := range map[string]string{"TUXWATCH": "boot", "tuxwatch-data": "data"} {
		if !strings.Contains(rules, `ENV{ID_FS_LABEL}=="`+label+`", SYMLINK+="tuxwatch/`+link+`"`) {
			t.Errorf("udev makes no /dev/tuxwatch/%s", link)
		}
	}
}

// Nobody gets in but with a key, as tux; and without a key there is no sshd.
func TestSSH(t *testing.T) {
	config := read(t, "etc/ssh/sshd_config.d/10-tuxwatch.conf")
	for _, line := range []string{
		"AllowUsers " + provision.LoginUser, "PermitRootLogin no", "PasswordAuthentication no", "KbdInteractiveAuthentication no",
		"AuthenticationMethods publickey", "PermitEmptyPasswords no",
		"AuthorizedKeysFile .ssh/authorized_keys " + filepath.Dir(provision.KeysPath) + "/%u",
		"HostKey /etc/ssh/keys/ssh_host_ed25519_key",
	} {
		if !strings.Contains("\n"+config, "\n"+line+"\n") {
			t.Errorf("sshd's configuration lacks %q", line)
		}
	}
	u := unit(t, "ssh.service.d/10-tuxwatch.conf")
	// Either of the two will do (systemd.unit(5), the pipe).
	u.is(t, "ConditionFileNotEmpty", "|"+provision.KeysPath+" |/home/"+provision.LoginUser+"/.ssh/authorized_keys")
	u.has(t, "After", "tuxwatch-provision.service", "tuxwatch-ssh-host-key.service")
	u.has(t, "Wants", "tuxwatch-ssh-host-key.service")
	u.is(t, "StartLimitIntervalSec", "0")
	unit(t, "tuxwatch-ssh-host-key.service").is(t, "ConditionFileNotEmpty", "!/etc/ssh/keys/ssh_host_ed25519_key")
	if users := read(t, "usr/lib/sysusers.d/tuxwatch-image.conf"); !regexp.MustCompile(`(?m)^u ` + provision.LoginUser + ` `).MatchString(users) {
		t.Errorf("there is no user %s", provision.LoginUser)
	}
	// What Debian starts beside it.
	for _, file := range []string{"etc/systemd/system/sshd-keygen.service"} {
		if target, err := os.Readlink(filepath.Join(rootfs, file)); err != nil || target != "/dev/null" {
			t.Errorf("%s is not masked: %v %v", file, target, err)
		}
	}
}

// The supplicant and the light wait for their hardware, not the boot.
func TestHardwareThatMayBeMissing(t *testing.T) {
	unit(t, "wpa_supplicant@wlan0.service.d/10-tuxwatch.conf").is(t, "ConditionFileNotEmpty", provision.WifiPath)
	for rules, started := range map[string]string{"70-tuxwatch-wifi.rules": "wpa_supplicant@wlan0.service", "70-tuxwatch-led.rules": "tuxwatch-led.service"} {
		if text := read(t, "usr/lib/udev/rules.d/"+rules); !strings.Contains(text, `TAG+="systemd", ENV{SYSTEMD_WANTS}+="`+started+`"`) {
			t.Errorf("%s does not start %s", rules, started)
		}
	}
	u := unit(t, "tuxwatch-led.service")
	u.is(t, "WantedBy", "")
	u.is(t, "DynamicUser", "true")
	u.has(t, "SupplementaryGroups", "gpio", "tuxwatch")
}

// systemd feeds the watchdog within what its hardware can count: 15 seconds
// (bcm2835_wdt, PM_WDOG_TIME_SET).
func TestWatchdog(t *testing.T) {
	for _, name := range []string{"RuntimeWatchdogSec", "RebootWatchdogSec"} {
		if !regexp.MustCompile(`(?m)^` + name + `=15$`).MatchString(read(t, "usr/lib/systemd/system.conf.d/10-tuxwatch.conf")) {
			t.Errorf("%s is not 15 seconds", name)
		}
	}
	if !strings.Contains(read(t, "usr/lib/sysctl.d/60-tuxwatch.conf"), "kernel.panic = 10\n") {
		t.Error("a kernel that panics waits for somebody")
	}
}

// What is not a folder or a file that Debian shows is a link that leads where it
// says, and scripts can be run.
func TestModes(t *testing.T) {
	for link, want := range map[string]string{
		"etc/hostname": "../data/etc/hostname", "etc/resolv.conf": "../run/systemd/resolve/stub-resolv.conf",
		// What systemd-tmpfiles would make in the root, which is read-only.
		"etc/tmpfiles.d/credstore.conf": "/dev/null", "etc/tmpfiles.d/home.conf": "/dev/null",
		"etc/mtab": "../proc/self/mounts", "etc/default/locale": "../locale.conf", "etc/vconsole.conf": "default/keyboard",
	} {
		if got, err := os.Readlink(filepath.Join(rootfs, link)); err != nil || got != want {
			t.Errorf("%s: %q %v", link, got, err)
		}
	}
	// run-parts(8) runs what is executable.
	for script, want := range map[string]bool{"10-tuxwatch": true, "10-uname": false} {
		info, err := os.Stat(filepath.Join(rootfs, "etc/update-motd.d", script))
		if err != nil {
			t.Fatal(err)
		}
		if runs := info.Mode()&0o111 != 0; runs != want {
			t.Errorf("%s: executable %v", script, runs)
		}
	}
}

// The card says of the light what the program shows.
func TestCardExplainsTheLight(t *testing.T) {
	readme := read(t, "usr/share/tuxwatch/card/README.txt")
	// Read on any computer, also with Windows' oldest editor.
	if strings.Count(readme, "\r\n") != strings.Count(readme, "\n") {
		t.Error("README.txt has lines that do not end as Windows wants them")
	}
	text := strings.Join(strings.Fields(readme), " ")
	for _, p := range led.Patterns {
		if !strings.Contains(text, p.Name+" "+p.Meaning) {
			t.Errorf("README.txt lacks %q: %q", p.Name, p.Meaning)
		}
	}
}
