package vision

import (
	"context"
	"errors"
	"image/color"
	"os"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var testTime = time.Date(2026, 11, 22, 11, 2, 3, 500_000_000, time.FixedZone("CET", 3600))

// slowRuntime's models wait in Invoke until they are let go.
func slowRuntime() (runtime *fakeRuntime, started chan struct{}, let chan struct{}) {
	started, let = make(chan struct{}, 100), make(chan struct{})
	runtime = &fakeRuntime{inputs: []Tensor{floatTensor(1, 1, 1, 3)}, outputs: []Tensor{floatTensor(1, 2)}}
	runtime.invoke = func(_, outputs [][]byte) error {
		started <- struct{}{}
		<-let
		putFloats(outputs[0], 1, 0)
		return nil
	}
	return runtime, started, let
}

func serviceWith(t *testing.T, runtime Runtime) *Service {
	t.Helper()
	s := NewService(runtime)
	if err := s.Load(t.Context(), folder(t, map[string]string{"labels.txt": "a\nb"}), LoadOptions{}); err != nil {
		t.Fatal(err)
	}
	return s
}

func ask(ctx context.Context, s *Service) error {
	_, err := s.ClassifyImage(ctx, onePixel(color.RGBA{}))
	return err
}

func TestServiceWithoutModel(t *testing.T) {
	s := NewService(&fakeRuntime{})
	if err := ask(t.Context(), s); !errors.Is(err, ErrNotReady) {
		t.Error(err)
	}
	if _, ready := s.Model(); ready {
		t.Error("there is a model")
	}
	s.Close()
	if err := ask(t.Context(), s); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
	if err := s.Load(t.Context(), folder(t, map[string]string{"labels.txt": "a"}), LoadOptions{}); err == nil {
		t.Error("loaded after Close")
	}
}

func TestServiceBoundsWaiting(t *testing.T) {
	runtime, started, let := slowRuntime()
	s := serviceWith(t, runtime)
	defer s.Close()
	s.SetMaxWaiting(2)
	results := make(chan error, 3)
	for range 3 { // one at work, two waiting
		go func() { results <- ask(t.Context(), s) }()
	}
	<-started
	for s.insideNow() < 3 {
		time.Sleep(time.Millisecond)
	}
	if err := ask(t.Context(), s); !errors.Is(err, ErrBusy) {
		t.Errorf("a fourth: %v", err)
	}
	if len(started) != 0 {
		t.Error("two at work at a time")
	}
	close(let)
	for range 3 {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
	if err := ask(t.Context(), s); err != nil {
		t.Error("when the others are done:", err)
	}
}

func (s *Service) insideNow() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.inside
}

func TestServiceWaitsNoLongerThanItsContext(t *testing.T) {
	runtime, started, let := slowRuntime()
	s := serviceWith(t, runtime)
	defer s.Close()
	first := make(chan error, 1)
	go func() { first <- ask(t.Context(), s) }()
	<-started
	ctx, cancel := context.WithCancel(t.Context())
	second := make(chan error, 1)
	go func() { second <- ask(ctx, s) }()
	for s.insideNow() < 2 {
		time.Sleep(time.Millisecond)
	}
	cancel()
	if err := <-second; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	// A model that is to be loaded gives up in the same way.
	if err := s.Load(ctx, folder(t, map[string]string{"labels.txt": "a\nb"}), LoadOptions{}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if runtime.opened != 2 || runtime.closed != 1 {
		t.Errorf("%d models opened, %d closed", runtime.opened, runtime.closed)
	}
	close(let)
	if err := <-first; err != nil {
		t.Error(err)
	}
}

func TestServiceKeepsTheOldModelUntilTheNewOneWorks(t *testing.T) {
	runtime := &fakeRuntime{inputs: []Tensor{floatTensor(1, 1, 1, 3)}, outputs: []Tensor{floatTensor(1, 2)}}
	runtime.invoke = func(_, outputs [][]byte) error { putFloats(outputs[0], 1, 0); return nil }
	s := serviceWith(t, runtime)
	before, _ := s.Model()
	for _, files := range []map[string]string{
		{"labels.txt": "a\nb\nc"},
		{},
	} {
		if err := s.Load(t.Context(), folder(t, files), LoadOptions{}); err == nil {
			t.Fatal("loaded")
		}
	}
	if after, ready := s.Model(); !ready || after.Folder != before.Folder {
		t.Error("the old model is gone")
	}
	if err := ask(t.Context(), s); err != nil {
		t.Error(err)
	}
	next := folder(t, map[string]string{"labels.txt": "c\nd", ManifestFile: "name: next\nversion: \"7\"\nlicence: Apache-2.0"})
	if err := s.Load(t.Context(), next, LoadOptions{Threads: 3}); err != nil {
		t.Fatal(err)
	}
	result, err := s.ClassifyImage(t.Context(), onePixel(color.RGBA{}))
	if err != nil || result.Best().Label != "c" || result.Model.Name != "next" || result.Model.Version != "7" || result.Model.Threads != 3 {
		t.Errorf("%+v, %v", result, err)
	}
	if err := s.Unload(); err != nil {
		t.Error(err)
	}
	if err := ask(t.Context(), s); !errors.Is(err, ErrNotReady) {
		t.Error("after Unload:", err)
	}
	if err := s.Load(t.Context(), next, LoadOptions{}); err != nil {
		t.Error("after Unload:", err)
	}
	s.Close()
	if runtime.opened != runtime.closed {
		t.Errorf("%d models opened, %d closed", runtime.opened, runtime.closed)
	}
}

func TestServiceErrorsOfTheModel(t *testing.T) {
	boom := errors.New("boom")
	runtime := &fakeRuntime{inputs: []Tensor{floatTensor(1, 1, 1, 3)}, outputs: []Tensor{floatTensor(1, 2)}}
	runtime.invoke = func(_, _ [][]byte) error { return boom }
	s := serviceWith(t, runtime)
	defer s.Close()
	for range 3 * DefaultMaxWaiting { // places are given back
		if err := ask(t.Context(), s); !errors.Is(err, boom) {
			t.Fatal(err)
		}
	}
	runtime.open = func(string) error { return os.ErrPermission }
	if err := s.Load(t.Context(), folder(t, map[string]string{"labels.txt": "a\nb"}), LoadOptions{}); !errors.Is(err, os.ErrPermission) {
		t.Error(err)
	}
}

// TestServiceUnderLoad asks from many sides while models change.
func TestServiceUnderLoad(t *testing.T) {
	runtime := &fakeRuntime{inputs: []Tensor{floatTensor(1, 1, 1, 3)}, outputs: []Tensor{floatTensor(1, 2)}}
	runtime.invoke = func(_, outputs [][]byte) error { putFloats(outputs[0], 1, 0); return nil }
	s := serviceWith(t, runtime)
	s.SetMaxWaiting(100)
	dir := folder(t, map[string]string{"labels.txt": "c\nd"})
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for range 50 {
				if err := ask(t.Context(), s); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range 20 {
		if err := s.Load(t.Context(), dir, LoadOptions{}); err != nil {
			t.Error(err)
		}
	}
	group.Wait()
	s.Close()
	if runtime.opened != runtime.closed {
		t.Errorf("%d models opened, %d closed", runtime.opened, runtime.closed)
	}
}
