package rootfs

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// commands runs a unit's ExecStartPre and ExecStart as systemd would, with its
// paths below root.
func commands(t *testing.T, name, root string, stopAfter int) {
	t.Helper()
	lines := regexp.MustCompile(`(?m)^ExecStart(?:Pre)?=(.*)$`).FindAllStringSubmatch(read(t, "usr/lib/systemd/system/"+name), -1)
	if len(lines) == 0 {
		t.Fatalf("%s starts nothing", name)
	}
	for i, line := range lines {
		if i == stopAfter {
			return
		}
		words := strings.Fields(line[1])
		for j, w := range words {
			switch {
			case w == `""`:
				words[j] = ""
			case j > 0 && (strings.HasPrefix(w, "/etc/") || strings.HasPrefix(w, "/usr/")):
				words[j] = root + w
			}
		}
		if out, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %s: %v: %s", name, line[1], err, out)
		}
	}
}

// The original configuration comes back where there is none, wherever the power
// went the time before.
func TestDefaults(t *testing.T) {
	const name = "tuxwatch-defaults.service"
	original := read(t, "etc/tuxwatch/tuxwatch.yaml")
	for cut := range 4 {
		root := t.TempDir()
		write(t, filepath.Join(root, "usr/share/tuxwatch/tuxwatch.yaml"), original)
		if err := os.MkdirAll(filepath.Join(root, "etc/tuxwatch"), 0o755); err != nil {
			t.Fatal(err)
		}
		commands(t, name, root, cut)
		file := filepath.Join(root, "etc/tuxwatch/tuxwatch.yaml")
		// Whole or not there: what ConditionFileNotEmpty goes by.
		if data, err := os.ReadFile(file); err == nil && string(data) != original {
			t.Errorf("after %d commands there is half a file", cut)
		}
		commands(t, name, root, -1)
		entries, err := os.ReadDir(filepath.Join(root, "etc/tuxwatch"))
		if err != nil || len(entries) != 1 {
			t.Errorf("there is more than the file: %v %v", entries, err)
		}
		data, err := os.ReadFile(file)
		if info, statErr := os.Stat(file); err != nil || statErr != nil || string(data) != original || info.Mode() != 0o644 {
			t.Errorf("after %d commands and a new start: %v %v", cut, info, err)
		}
	}
	u := unit(t, name)
	u.is(t, "ConditionFileNotEmpty", "!/etc/tuxwatch/tuxwatch.yaml")
	u.has(t, "Before", "tuxwatch-provision.service", "tuxwatchd.service")
}

// So does the host key of ssh.
func TestHostKey(t *testing.T) {
	needs(t, "ssh-keygen")
	for cut := range 6 {
		root := t.TempDir()
		keys := filepath.Join(root, "etc/ssh/keys")
		if err := os.MkdirAll(keys, 0o700); err != nil {
			t.Fatal(err)
		}
		commands(t, "tuxwatch-ssh-host-key.service", root, cut)
		secret := filepath.Join(keys, "ssh_host_ed25519_key")
		if _, err := os.Stat(secret); err == nil && cut < 5 {
			t.Errorf("there is a key after %d commands", cut)
		} else if err == nil {
			continue // the unit's condition is not met any more
		}
		commands(t, "tuxwatch-ssh-host-key.service", root, -1)
		out, err := exec.Command("ssh-keygen", "-y", "-f", secret).Output()
		if err != nil {
			t.Fatal(err)
		}
		public, err := os.ReadFile(secret + ".pub")
		if err != nil || !strings.HasPrefix(string(out), "ssh-ed25519 ") || strings.Fields(string(out))[1] != strings.Fields(string(public))[1] {
			t.Errorf("after %d commands and a new start: %q, %q, %v", cut, out, public, err)
		}
		if info, err := os.Stat(secret); err != nil || info.Mode() != 0o600 {
			t.Errorf("%v %v", info, err)
		}
	}
}

// Users and folders come out as the rest relies on.
func TestUsersAndFolders(t *testing.T) {
	needs(t, "systemd-sysusers")
	if os.Getuid() != 0 {
		t.Skip("users and their folders are made by root alone")
	}
	root := t.TempDir()
	write(t, filepath.Join(root, "etc/hosts"), read(t, "etc/hosts"))
	for _, folder := range []string{"usr/lib/sysusers.d", "usr/lib/tmpfiles.d"} {
		files, err := filepath.Glob(filepath.Join(rootfs, folder, "*.conf"))
		if err != nil || len(files) == 0 {
			t.Fatalf("%v %v", files, err)
		}
		for _, f := range files {
			data, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Join(root, folder, filepath.Base(f)), string(data))
		}
	}
	for _, args := range [][]string{{"systemd-sysusers", "--root=" + root}, {"systemd-tmpfiles", "--root=" + root, "--create"}} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v: %s", args, err, out)
		}
	}
	file := func(name string) string {
		data, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Error(err)
		}
		return string(data)
	}
	for name, line := range map[string]string{
		"etc/passwd": `tux:x:1000:1000:tuxwatch operator:/home/tux:/bin/bash`,
		// Locked: no password gets in.
		"etc/shadow": `tux:!\*:.*`,
		"etc/group":  `tuxwatch:x:\d+:tux`,
	} {
		if !regexp.MustCompile(`(?m)^` + line + `$`).MatchString(file(name)) {
			t.Errorf("%s lacks %s:\n%s", name, line, file(name))
		}
	}
	if got := file("data/etc/hostname"); got != "tuxwatch\n" {
		t.Errorf("the name is %q", got)
	}
	if info, err := os.Stat(filepath.Join(root, "home/tux")); err != nil || info.Mode() != os.ModeDir|0o700 {
		t.Errorf("%v %v", info, err)
	}
}
