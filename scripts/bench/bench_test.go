package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"tuxwatch/firmware/config"
	"tuxwatch/firmware/modules"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   float64
	}{
		{[]float64{3}, 3},
		{[]float64{9, 1, 2}, 2},
		{[]float64{4, 1, 3, 2}, 2.5},
	} {
		before := slices.Clone(c.values)
		if got := median(c.values); got != c.want {
			t.Errorf("median of %v is %v, want %v", c.values, got, c.want)
		}
		if diff := cmp.Diff(before, c.values); diff != "" {
			t.Errorf("the rounds changed their order: %s", diff)
		}
	}
}

func result(figures ...Figure) *Result {
	return &Result{Machine: Machine{CPU: "Test CPU", Cores: 2, MemoryMB: 4000, Kernel: "6.1", Disk: "ext4"}, Figures: figures, Notes: []string{"A note."}}
}

func TestTable(t *testing.T) {
	f := Figure{Part: "Speed", What: "1 thread", Unit: "ms", Better: "lower", Tuxwatch: newSample("tuxwatch", []float64{8, 12, 10})}
	r := result(f.against(newSample("peer 1.0", []float64{40, 20, 25})))
	r.Machine.Load, r.Machine.Arch = "0.10 0.20 0.30", "amd64"
	var out bytes.Buffer
	if err := r.writeTable(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"2 cores (Test CPU, amd64), 4.0 GB memory, Linux 6.1, ext4; load at the start 0.10 0.20 0.30",
		"10.0 ms (8.00–12.0)",
		"25.0 ms (20.0–40.0), peer 1.0",
		"0.40 (0.20–0.60)", // of the medians; of the first and of the second round
		"lower is better",
		"- A note.",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, &out)
		}
	}
}

func TestBar(t *testing.T) {
	for _, c := range []struct {
		rounds []float64
		pass   bool
	}{
		{[]float64{59, 60}, true},
		{[]float64{50, 50, 60.1}, false}, // the median is not what counts
	} {
		r := result(Figure{Part: "Memory", What: "resident", Unit: "MB", Tuxwatch: newSample("tuxwatchd", c.rounds)}.atMost(60))
		if err := r.check(); errors.Is(err, errBar) == c.pass || r.Passed != c.pass {
			t.Errorf("%v MB: got %v and passed=%v, want passed=%v", c.rounds, err, r.Passed, c.pass)
		}
		var out bytes.Buffer
		if err := r.writeTable(&out); err != nil {
			t.Fatal(err)
		}
		if want := map[bool]string{true: "pass: at most 60.0 MB", false: "FAIL: at most 60.0 MB"}[c.pass]; !strings.Contains(out.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, &out)
		}
	}
	if err := result().check(); err != nil {
		t.Errorf("nothing was measured, and %v", err)
	}
}

func TestParse(t *testing.T) {
	b, err := parse([]string{"--only", "outbox,memory", "--rounds", "2", "--root", "/src"})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"outbox", "memory"}, b.only); diff != "" || b.rounds != 2 || b.dir != "/src/build/bench" {
		t.Errorf("parts %v, rounds %d, folder %s", b.only, b.rounds, b.dir)
	}
	for _, wrong := range [][]string{{"--only", "flows"}, {"--rounds", "0"}, {"memory"}} {
		if _, err := parse(wrong); err == nil {
			t.Errorf("%v was accepted", wrong)
		}
	}
}

func TestAgree(t *testing.T) {
	ours := []look{{Probabilities: []float64{0.9, 0.1}}}
	near := []look{{Probabilities: []float64{0.95, 0.05}}}
	far := []look{{Probabilities: []float64{0.7, 0.3}}}
	apart, err := agree([][]look{ours, near})
	if err != nil || apart[1] < 0.049 || apart[1] > 0.051 {
		t.Errorf("got %v, %v", apart, err)
	}
	if _, err := agree([][]look{ours, near, far}); err == nil {
		t.Error("a peer that sees something else was accepted")
	}
}

func TestFlowConfigIsValid(t *testing.T) {
	text := strings.NewReplacer("MQTT_PORT", "20001", "HTTP_PORT", "20002", "MODEL", "/model").
		Replace(flowConfig([]group{{"one", 3, 1}, {"many", 5, 2}}))
	c, err := config.Parse("bench.yaml", []byte(text), modules.Kinds(nil))
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string]int{}
	for _, m := range c.Modules {
		kinds[m.Kind.Name]++
	}
	if kinds["sensor"] != 8 || kinds["filter"] != 3 || kinds["recognizer"] != 1 {
		t.Errorf("modules: %v", kinds)
	}
	upstream := 0
	for _, r := range c.Routes {
		if strings.HasPrefix(r.Name, "many") || strings.HasPrefix(r.Name, "one") {
			upstream += strings.Count(r.Text, "$upstream")
		}
	}
	if upstream != 3 {
		t.Errorf("%d routes of filters go to the hub, want 3", upstream)
	}
	if problems := c.Warnings; len(problems) > 0 {
		t.Errorf("warnings: %v", problems)
	}
}

// TestPeerFlowsAreTheSame holds the two flows of Node-RED against each other:
// they may differ in nothing but the node that writes to disk.
func TestPeerFlowsAreTheSame(t *testing.T) {
	data, err := os.ReadFile("flow.json")
	if err != nil {
		t.Fatal(err)
	}
	var nodes []map[string]any
	if err := json.Unmarshal(data, &nodes); err != nil {
		t.Fatal(err)
	}
	flow := func(tab string) map[string]map[string]any {
		of := map[string]map[string]any{}
		for _, n := range nodes {
			if n["z"] != tab {
				continue
			}
			kept := map[string]any{}
			for k, v := range n {
				if !slices.Contains([]string{"id", "z", "x", "y", "wires", "url"}, k) {
					kept[k] = v
				}
			}
			of[strings.TrimSuffix(n["id"].(string), "-2")] = kept
		}
		return of
	}
	memory, disk := flow("memory"), flow("disk")
	if _, ok := disk["store"]; !ok {
		t.Fatal("the second flow does not write to disk")
	}
	delete(disk, "store")
	if diff := cmp.Diff(memory, disk); diff != "" {
		t.Error(diff)
	}
}

func TestKeepersPut(t *testing.T) {
	for _, k := range []keeper{tuxwatchOutbox, bboltUpdate, bboltBatch} {
		rate, err := k.rate(t.Context(), t.TempDir(), 2, 50*time.Millisecond)
		if err != nil || rate <= 0 {
			t.Errorf("%s: %v puts per second, %v", k.name, rate, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := tuxwatchOutbox.rate(ctx, t.TempDir(), 1, time.Hour); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: got %v", err)
	}
}

func TestProcess(t *testing.T) {
	b := &bench{dir: t.TempDir()}
	p, err := b.start("sleeper", []string{"GREETING=hello"}, "/bin/sh", "-c", `echo $GREETING; sleep 600 & wait`)
	if err != nil {
		t.Fatal(err)
	}
	err = p.until(t.Context(), "it greets", func() error {
		if p.tail() != "hello" {
			return errors.New("not yet")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if rss, err := p.megabytes("VmRSS"); err != nil || rss <= 0 || rss > 100 {
		t.Errorf("%v MB, %v", rss, err)
	}
	p.stop()
	err = p.until(t.Context(), "it comes back", func() error { return errors.New("no") })
	if err == nil || !strings.Contains(err.Error(), "sleeper ended") || !strings.Contains(err.Error(), "hello") {
		t.Errorf("after its end: %v", err)
	}
}

func TestFreePortsDiffer(t *testing.T) {
	ports, err := freePorts(5)
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(ports)
	if len(slices.Compact(ports)) != 5 {
		t.Errorf("got %v", ports)
	}
	if dial(ports[0]) == nil {
		t.Error("somebody listens on a free port")
	}
}

func TestField(t *testing.T) {
	file := filepath.Join(t.TempDir(), "status")
	if err := os.WriteFile(file, []byte("Name:\ttuxwatchd\nVmRSS:\t   46000 kB\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if kB, err := kilobytes(file, "VmRSS"); err != nil || kB != 46000 {
		t.Errorf("got %v, %v", kB, err)
	}
	if _, err := kilobytes(file, "VmHWM"); err == nil {
		t.Error("a line that is not there was found")
	}
	if _, err := kilobytes(file, "Name"); err == nil {
		t.Error("a name is no number")
	}
}

func TestSyncLatency(t *testing.T) {
	dir := t.TempDir()
	took, err := syncLatency(dir, 20*time.Millisecond)
	if err != nil || len(took) == 0 || slices.Min(took) <= 0 {
		t.Errorf("got %v, %v", took, err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
