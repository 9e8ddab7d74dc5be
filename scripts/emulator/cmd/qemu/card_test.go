package main

import (
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"tuxwatch/firmware/modules"
	"tuxwatch/firmware/provision"
	"tuxwatch/scripts/emulator"
)

// TestSettingsAreTaken puts onto a card what make qemu puts there, and lets the
// device's own program apply it.
func TestSettingsAreTaken(t *testing.T) {
	dir := t.TempDir()
	built := filepath.Join(dir, "bin", "tuxhub")
	if out, err := exec.Command("go", "build", "-o", built, "tuxwatch/firmware/cmd/tuxhub").CombinedOutput(); err != nil {
		t.Fatalf("building tuxhub: %v: %s", err, out)
	}
	key, err := emulator.Key(filepath.Join(dir, "id_ed25519"))
	if err != nil {
		t.Fatal(err)
	}
	users := filepath.Join(dir, "users.pub")
	const usersKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ5qXwKJX8M9DO5a3CWBkBsC2DBuAVjFvZ/rcNSGvSwF you@your-computer"
	if err := os.WriteFile(users, []byte(usersKey), 0o644); err != nil {
		t.Fatal(err)
	}
	s := &session{options: options{build: dir, state: dir, key: users}, out: io.Discard}
	s.keys = append(s.keys, key)
	if s.hub, err = emulator.NewHub(built, filepath.Join(dir, "hub"), 0); err != nil {
		t.Fatal(err)
	}
	defer s.hub.Stop()

	files := folder{}
	if err := s.putSettings(files); err != nil {
		t.Fatal(err)
	}
	card, root := filepath.Join(dir, "card"), filepath.Join(dir, "root")
	for name, content := range files {
		file := filepath.Join(card, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(root, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	report, err := provision.Run(context.Background(), provision.Options{Card: card, Root: root, Kinds: modules.Kinds(nil)})
	if err != nil {
		t.Fatal(err)
	}
	if len(report.Entries) != 5 || len(report.Problems) > 0 {
		t.Errorf("the report:\n%s", report.Text())
	}
	for _, entry := range report.Entries {
		if entry.Result != provision.Applied {
			t.Errorf("%s is %s: %v", entry.File, entry.Result, entry.Problems)
		}
	}
	for name, part := range map[string]string{
		provision.AuthorityPath:        "BEGIN CERTIFICATE",
		provision.ConnectionStringPath: "DeviceId=pi;",
		"etc/tuxwatch/tuxwatch.yaml":   "driver: tmp105",
	} {
		content, err := os.ReadFile(filepath.Join(root, name))
		if err != nil || !strings.Contains(string(content), part) {
			t.Errorf("%s does not have %q: %s (%v)", name, part, content, err)
		}
	}
	keys := string(files["tuxwatch/authorized_keys"])
	if !strings.Contains(keys, usersKey+"\n") || !strings.Contains(keys, string(emulator.AuthorizedKey(key))) {
		t.Errorf("the keys are:\n%s", keys)
	}
}

// folder is a card that is only looked at.
type folder map[string][]byte

func (f folder) WriteFile(name string, content []byte) error {
	f[name] = content
	return nil
}
