package teach

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"tuxwatch/firmware/edge"
	"tuxwatch/firmware/modules/recognizer"
	"tuxwatch/firmware/vision"
)

// The daemon takes a taught folder by the recognizer's setting model, while
// pictures are being recognized: each is answered, by the old model or the new.
// A folder that does not load leaves the taught one at work.
func TestDaemonSwitchesToTheTaughtModel(t *testing.T) {
	model, f := taught(t)
	dir := filepath.Join(t.TempDir(), "rings")
	if err := model.Write(dir, f); err != nil {
		t.Fatal(err)
	}
	service := vision.NewService(f.Runtime)
	defer service.Close()
	kind := recognizer.Kind(service)
	with := func(folder string) []edge.Instance {
		s := kind.Settings().(*recognizer.Settings)
		s.Model, s.Listen, s.Threads = folder, "", 1
		return []edge.Instance{{ID: "recognizer", Kind: kind, Settings: s}}
	}
	rt := edge.New(edge.Options{Modules: with(baseModel), Log: slog.New(slog.DiscardHandler)})
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

	picture, err := os.ReadFile(filepath.Join("../../models/samples", "desk-empty.jpg"))
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	answers := map[string]int{} // by the model's first label
	stop := make(chan struct{})
	var askers sync.WaitGroup
	for range 3 {
		askers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				result, err := service.Classify(ctx, picture)
				if err != nil {
					t.Errorf("a picture was not answered: %v", err)
					return
				}
				if result.Predictions[0].Probability+result.Predictions[1].Probability < 0.99 {
					t.Errorf("%+v", result.Predictions)
				}
				mu.Lock()
				answers[result.Model.Labels[0]]++
				mu.Unlock()
			}
		})
	}
	count := func(label string) int {
		mu.Lock()
		defer mu.Unlock()
		return answers[label]
	}
	wait := func(what string, is func() bool) {
		t.Helper()
		for deadline := time.Now().Add(30 * time.Second); !is(); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) || t.Failed() {
				t.Fatalf("it never came to this: %s", what)
			}
		}
	}
	func() {
		defer func() { close(stop); askers.Wait() }()
		wait("the released model answers", func() bool { return count("penguin")+count("noPenguin") > 0 })
		rt.Reconfigure(with(dir), nil)
		wait("the taught model answers", func() bool { return count("ring") > 0 })
		if s := rt.Status().Modules[0]; !s.Healthy || s.Reported["model"] != "rings" || s.Reported["modelVersion"] != model.Report.Version {
			t.Errorf("%+v", s)
		}

		// The head of another network: it is refused, in words, and the taught
		// model goes on.
		broken := filepath.Join(t.TempDir(), "broken")
		if err := os.CopyFS(broken, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		other := `{"format":1,"weights":[1,2,3],"temperature":1,"threshold":0.5}`
		if err := errors.Join(os.WriteFile(filepath.Join(broken, headFile), []byte(other), 0o644), os.Remove(filepath.Join(broken, sumsFile))); err != nil {
			t.Fatal(err)
		}
		rt.Reconfigure(with(broken), nil)
		wait("the module says why it keeps the model", func() bool {
			s := rt.Status().Modules[0]
			return !s.Healthy && strings.Contains(s.Cause, "taught on another model") && strings.Contains(s.Cause, "rings of "+dir+" stays in use")
		})
		before := count("ring")
		wait("the taught model still answers", func() bool { return count("ring") > before+3 })

		// And back.
		released := count("penguin") + count("noPenguin")
		rt.Reconfigure(with(baseModel), nil)
		wait("the released model answers again", func() bool { return count("penguin")+count("noPenguin") > released })
	}()
}
