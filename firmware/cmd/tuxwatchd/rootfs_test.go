package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	sdunit "github.com/coreos/go-systemd/v22/unit"

	"tuxwatch/firmware/config"
	"tuxwatch/firmware/modules"
)

const rootfs = "../../../rootfs"

// The configuration that is installed changes nothing as it stands, and its
// examples are valid when the # in front of them is taken away.
func TestInstalledConfiguration(t *testing.T) {
	const file = rootfs + "/etc/tuxwatch/tuxwatch.yaml"
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	kinds := modules.Kinds(nil)
	installed, err := config.Parse("tuxwatch.yaml", data, kinds)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range installed.Effective(nil, nil) {
		if v.Origin != config.OriginDefault {
			t.Errorf("%s is set to %s", v.Path, v.Text())
		}
	}
	// Explanations have a blank after the #, examples have none or several.
	examples := regexp.MustCompile(`(?m)^#(\S|  )`).ReplaceAll(data, []byte("$1"))
	if bytes.Count(examples, []byte("\n#")) == bytes.Count(data, []byte("\n#")) {
		t.Fatal("there are no examples")
	}
	c, err := config.Parse("tuxwatch.yaml", examples, kinds)
	if err != nil {
		t.Fatalf("the examples are invalid:\n%v\n%s", err, examples)
	}
	if len(c.Warnings) > 0 {
		t.Errorf("the examples warn: %v", c.Warnings)
	}
	// Alternatives to the examples stand there as explanations.
	camera := regexp.MustCompile(`(?m)^# (settings: .*)$`).FindSubmatch(data)
	hub := regexp.MustCompile(`(?m)^# (dialect: .*)\n# (mqtt: .*)$`).FindSubmatch(data)
	if camera == nil || hub == nil {
		t.Fatal("the alternatives are missing")
	}
	alternative := fmt.Sprintf("modules:\n  camera:\n    %s\nhub:\n  %s\n  %s\n", camera[1], hub[1], hub[2])
	if _, err := config.Parse("tuxwatch.yaml", []byte(alternative), kinds); err != nil {
		t.Errorf("the alternatives are invalid:\n%v\n%s", err, alternative)
	}
}

// What the unit promises: the daemon starts without the network, comes back
// always, and gets at no more than it needs.
func TestUnitPromises(t *testing.T) {
	unit, err := os.ReadFile(rootfs + "/usr/lib/systemd/system/tuxwatchd.service")
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
	for name, want := range map[string]string{
		"After":                 "network.target time-set.target",
		"Wants":                 "",
		"Requires":              "",
		"Type":                  "notify",
		"Restart":               "always",
		"StartLimitIntervalSec": "0",
		"User":                  "tuxwatch",
		"SupplementaryGroups":   "i2c video gpio",
		"DevicePolicy":          "closed",
		"DeviceAllow":           "char-i2c rw char-gpiochip rw char-video4linux rw char-media rw char-dma_heap rw",
		"ProtectSystem":         "strict",
		"ReadWritePaths":        "",
		"NoNewPrivileges":       "true",
		"CapabilityBoundingSet": "",
		"SystemCallFilter":      "@system-service ~@privileged @resources",
		"MemoryMax":             "256M",
		"TasksMax":              "128",
	} {
		if got := strings.Join(values[name], " "); got != want {
			t.Errorf("%s=%s, want %q", name, got, want)
		}
	}
}

// systemd takes the unit without a word.
func TestUnit(t *testing.T) {
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Skip("systemd-analyze is not installed: the unit is not checked")
	}
	root := t.TempDir()
	units := filepath.Join(root, "usr/lib/systemd/system")
	for _, dir := range []string{units, filepath.Join(root, "usr/bin"), filepath.Join(root, "bin")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	// What the unit refers to.
	for _, target := range []string{"sysinit", "basic", "network", "time-set", "multi-user", "shutdown"} {
		if err := os.WriteFile(filepath.Join(units, target+".target"), []byte("[Unit]\nDescription="+target+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, program := range []string{"usr/bin/tuxwatchd", "bin/kill"} {
		if err := os.WriteFile(filepath.Join(root, program), []byte("#!/bin/sh\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	unit, err := os.ReadFile(rootfs + "/usr/lib/systemd/system/tuxwatchd.service")
	if err != nil {
		t.Fatal(err)
	}
	verify := func(unit string) string {
		t.Helper()
		path := filepath.Join(units, "tuxwatchd.service")
		if err := os.WriteFile(path, []byte(unit), 0o644); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command("systemd-analyze", "verify", "--root="+root, "tuxwatchd.service").CombinedOutput()
		if err != nil {
			return string(out) + err.Error()
		}
		return string(out)
	}
	if out := verify(string(unit)); out != "" {
		t.Errorf("systemd-analyze verify says:\n%s", out)
	}
	// The check does find mistakes.
	if out := verify(strings.Replace(string(unit), "WatchdogSec", "WatchdogSecs", 1)); !strings.Contains(out, "WatchdogSecs") {
		t.Errorf("a mistake is not found: %q", out)
	}
	services, err := filepath.Glob(rootfs + "/usr/lib/systemd/system/*.service")
	if err != nil || len(services) == 0 {
		t.Fatalf("services: %v %v", services, err)
	}
	for _, service := range services {
		out, err := exec.Command("systemd-analyze", "security", "--offline=true", "--threshold=20", service).CombinedOutput()
		if err != nil {
			t.Errorf("%s is exposed more than 2.0: %v\n%s", service, err, out)
		}
	}
}
