package recognizer

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tuxwatch/firmware/edge"
	"tuxwatch/firmware/edge/edgetest"
	"tuxwatch/firmware/vision"
)

// quickly is short enough for a test to wait for.
var quickly = pauses{look: 10 * time.Millisecond, unload: time.Millisecond}

// eventually waits for what happens without the module's status telling.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it never came to this: " + what)
		}
	}
}

// A folder that is replaced, as tuxwatch teach does, is loaded again by itself; a
// replacement that does not load is told of and leaves the model at work.
func TestFolderIsReplaced(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "model")
	put := func(labels string) {
		t.Helper()
		fresh := dir + ".new"
		if err := os.CopyFS(fresh, os.DirFS(filepath.Join(testdata, "models", "uint8"))); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(fresh, "labels.txt"), []byte(labels), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(fresh, dir); err != nil {
			t.Fatal(err)
		}
	}
	put("first\nother\n")
	service := newService(t)
	h := edgetest.Start(t, kind(service, quickly), settings(func(s *Settings) { s.Model = dir; s.Listen = "" }), "")
	best := func() string {
		result, err := service.Classify(t.Context(), picture(t, "jpeg-gray.jpg"))
		if err != nil {
			t.Fatal(err)
		}
		return strings.Join(result.Model.Labels, " ")
	}
	if got := best(); got != "first other" {
		t.Fatal(got)
	}
	put("second\nother\n")
	eventually(t, "the new model is at work", func() bool { return best() == "second other" })
	put("only one label\n")
	h.Eventually(func(s edge.ModuleStatus) bool {
		return !s.Healthy && strings.Contains(s.Cause, "1 labels") && strings.Contains(s.Cause, "the model model of "+dir+" stays in use")
	})
	if got := best(); got != "second other" {
		t.Error(got)
	}
	put("third\nother\n")
	h.Eventually(func(s edge.ModuleStatus) bool { return s.Healthy })
	if got := best(); got != "third other" {
		t.Error(got)
	}
	if n := h.Status().Restarts; n != 0 {
		t.Errorf("the module was restarted %d times", n)
	}
}

// Other settings start another module. The model of the one before is at work
// until the new one's is, and stays if the new one's does not load.
func TestSettingsChange(t *testing.T) {
	service := newService(t)
	// Longer than the test: what keeps the model is the new module.
	k := kind(service, pauses{look: 10 * time.Millisecond, unload: time.Hour})
	with := func(model string) []edge.Instance {
		return []edge.Instance{{ID: "recognizer", Kind: k, Settings: settings(func(s *Settings) { s.Model = model; s.Listen = "" })}}
	}
	released, float := filepath.Join(testdata, "models", "uint8"), filepath.Join(testdata, "models", "float3")
	rt := edge.New(edge.Options{Modules: with(released), Log: slog.New(slog.DiscardHandler)})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- rt.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	if err := rt.Settled(ctx); err != nil {
		t.Fatal(err)
	}
	model := func() string {
		info, ready := service.Model()
		if !ready {
			t.Fatal("there is no model")
		}
		return info.Name
	}
	nowhere := filepath.Join(t.TempDir(), "nowhere")
	rt.Reconfigure(with(nowhere), nil)
	eventually(t, "the module says why", func() bool {
		s := rt.Status().Modules[0]
		return !s.Healthy && strings.Contains(s.Cause, nowhere) && strings.Contains(s.Cause, "the model uint8 of "+released+" stays in use")
	})
	if got := model(); got != "uint8" {
		t.Error(got)
	}
	rt.Reconfigure(with(float), nil)
	eventually(t, "the new model is at work", func() bool { return model() == "float3" && rt.Status().Modules[0].Healthy })
}

// Without a module the model is freed.
func TestEndFreesTheModel(t *testing.T) {
	service := newService(t)
	h := edgetest.Start(t, kind(service, quickly), settings(func(s *Settings) { s.Listen = "" }), "")
	h.Stop()
	eventually(t, "the model is freed", func() bool {
		_, err := service.Classify(t.Context(), picture(t, "jpeg-gray.jpg"))
		return errors.Is(err, vision.ErrNotReady)
	})
}
