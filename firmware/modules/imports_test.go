package modules

import (
	"os/exec"
	"strings"
	"testing"
)

// dependencies returns, for every package that the pattern matches, all
// packages it is built from.
func dependencies(t *testing.T, pattern string) map[string][]string {
	t.Helper()
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}} {{join .Deps " "}}`, pattern).Output()
	if err != nil {
		t.Fatalf("go list %s: %v", pattern, err)
	}
	all := make(map[string][]string)
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		all[fields[0]] = fields[1:]
	}
	if len(all) == 0 {
		t.Fatalf("%s matches no package", pattern)
	}
	return all
}

func within(path, folder string) bool { return path == folder || strings.HasPrefix(path, folder+"/") }

// Drivers are of use without tuxwatch.
func TestDriversKnowNothingOfFirmware(t *testing.T) {
	for name, deps := range dependencies(t, "tuxwatch/drivers/...") {
		for _, dep := range deps {
			if within(dep, "tuxwatch/firmware") {
				t.Errorf("%s depends on %s", name, dep)
			}
		}
	}
}

// A module reads inputs and writes outputs; where messages go is the runtime's.
func TestModulesKnowNothingOfTheHubNorOfEachOther(t *testing.T) {
	const modules = "tuxwatch/firmware/modules"
	for name, deps := range dependencies(t, modules+"/...") {
		if name == modules {
			continue // the list of all kinds
		}
		own := modules + "/" + strings.Split(strings.TrimPrefix(name, modules+"/"), "/")[0]
		for _, dep := range deps {
			for _, other := range []string{"cloud", "outbox", "hub", "config", "control", "cmd"} {
				if within(dep, "tuxwatch/firmware/"+other) {
					t.Errorf("%s depends on %s", name, dep)
				}
			}
			if within(dep, modules) && !within(dep, own) {
				t.Errorf("%s depends on another module, %s", name, dep)
			}
		}
	}
}

// What only the operator's command needs does not weigh on the daemon.
func TestTheDaemonIsLean(t *testing.T) {
	for _, deps := range dependencies(t, "tuxwatch/firmware/cmd/tuxwatchd") {
		for _, dep := range deps {
			for _, heavy := range []string{"gonum.org/v1", "github.com/vbauerster", "tuxwatch/firmware/teach", "tuxwatch/firmware/evaluate", "tuxwatch/firmware/hub"} {
				if within(dep, heavy) {
					t.Errorf("tuxwatchd depends on %s", dep)
				}
			}
		}
	}
}
