package rootfs

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// command runs a unit's one ExecStart as systemd would, in the folder that is its
// WorkingDirectory, with /usr/share below root. The power goes after that many of
// its steps; -1 is all of them.
func command(t *testing.T, name, root string, steps int) {
	t.Helper()
	text := read(t, "usr/lib/systemd/system/"+name)
	start := regexp.MustCompile(`(?m)^ExecStart=/bin/sh -c '(.*)'$`).FindStringSubmatch(text)
	folder := regexp.MustCompile(`(?m)^WorkingDirectory=(.*)$`).FindStringSubmatch(text)
	if start == nil || folder == nil {
		t.Fatalf("%s starts nothing", name)
	}
	parts := strings.Split(strings.ReplaceAll(start[1], "/usr/share/", root+"/usr/share/"), " && ")
	if steps >= 0 {
		parts = parts[:steps]
	}
	if len(parts) == 0 {
		return
	}
	cmd := exec.Command("/bin/sh", "-c", strings.Join(parts, " && "))
	cmd.Dir = filepath.Join(root, folder[1])
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", name, err, out)
	}
}

// The host key of ssh is whole or not there, wherever the power goes.
func TestHostKey(t *testing.T) {
	needs(t, "ssh-keygen")
	const name = "tuxwatch-ssh-host-key.service"
	for cut := range 6 {
		root := t.TempDir()
		keys := filepath.Join(root, "etc/ssh/keys")
		if err := os.MkdirAll(keys, 0o700); err != nil {
			t.Fatal(err)
		}
		command(t, name, root, cut)
		secret := filepath.Join(keys, "ssh_host_ed25519_key")
		if _, err := os.Stat(secret); err == nil && cut < 5 {
			t.Errorf("there is a key after %d steps", cut)
		} else if err != nil { // the unit's condition is met
			command(t, name, root, -1)
		}
		out, err := exec.Command("ssh-keygen", "-y", "-f", secret).Output()
		if err != nil {
			t.Fatal(err)
		}
		public, err := os.ReadFile(secret + ".pub")
		if err != nil || !strings.HasPrefix(string(out), "ssh-ed25519 ") || strings.Fields(string(out))[1] != strings.Fields(string(public))[1] {
			t.Errorf("after %d steps and a new start: %q, %q, %v", cut, out, public, err)
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
