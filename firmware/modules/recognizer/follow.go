package recognizer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"tuxwatch/firmware/vision"
)

// follow loads the model until that succeeds once, and from then on again
// whenever its folder changes, as when it is taught anew.
func (r *recognizer) follow(ctx context.Context) error {
	err := r.retry(ctx, thatModel, func() error {
		if r.isLoaded() { // at the start, or by the method reload
			return nil
		}
		err := r.load(ctx)
		if err == nil {
			r.note(thatModel, nil)
		}
		return err
	})
	if err != nil || ctx.Err() != nil {
		return err
	}
	dir, err := vision.FindModel(r.settings.Model)
	if err != nil {
		return err
	}
	tick := time.NewTicker(r.look)
	defer tick.Stop()
	for before := ""; ; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		state := folderState(dir)
		settled := state == before // nobody is still writing to it
		before = state
		if !settled || state == r.lastSeen() {
			continue
		}
		r.client.Log().Info("the model's folder has changed; loading it again", "folder", dir)
		err := r.load(ctx)
		if err != nil {
			r.client.Log().Warn("the changed model does not load", "error", err)
		}
		r.note(thatModel, err)
	}
}

func (r *recognizer) isLoaded() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.loaded
}

func (r *recognizer) lastSeen() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.seen
}

// folderState is a text that changes with the files of a folder.
func folderState(dir string) string {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "error: " + err.Error()
	}
	var state strings.Builder
	for _, e := range entries {
		info, err := e.Info()
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			fmt.Fprintf(&state, "%s: %v\n", e.Name(), err)
			continue
		}
		fmt.Fprintf(&state, "%s %d %d\n", e.Name(), info.Size(), info.ModTime().UnixNano())
	}
	return state.String()
}

// holder keeps the model in the service while a module with other settings takes
// the place of one that ends, so that pictures go on being recognized. It frees
// the model when none has.
type holder struct {
	service *vision.Service
	after   time.Duration

	mu     sync.Mutex
	takers int
	timer  *time.Timer
}

func (h *holder) take() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.takers++
	if h.timer != nil {
		h.timer.Stop()
	}
}

func (h *holder) release() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.takers--
	h.timer = time.AfterFunc(h.after, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.takers == 0 {
			h.service.Unload() // closing a model that is freed has no error to give
		}
	})
}
