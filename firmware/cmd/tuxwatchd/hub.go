package main

import (
	"context"
	"log/slog"
	"sync"

	"tuxwatch/firmware/cloud"
	"tuxwatch/firmware/config"
	"tuxwatch/firmware/edge"
)

// hub is the connection to the hub, which is made anew when its settings
// change.
type hub struct {
	store  *store
	device *edge.Runtime
	log    *slog.Logger

	mu   sync.Mutex
	conn *cloud.Connection // nil while there is none
	stop func()
}

func newHub(s *store, device *edge.Runtime, log *slog.Logger) *hub {
	return &hub{store: s, device: device, log: log}
}

// connect starts to connect, as cfg says. A hub that cannot be reached, or
// settings that turn out not to work, leave the device working: what is for the
// hub waits in the store.
func (h *hub) connect(cfg *config.Config) {
	h.mu.Lock()
	defer h.mu.Unlock()
	conn, err := cloud.New(cfg.Hub, h.store.current(), h.device, h.log.With("part", "hub"))
	if err != nil {
		// The configuration was validated; all the same the device goes on.
		h.log.Error("no connection to the hub; messages wait on disk until its settings change", "error", err)
		return
	}
	h.conn = conn
	h.stop = background(func(ctx context.Context) {
		if err := conn.Run(ctx); err != nil && ctx.Err() == nil {
			h.log.Error("the connection to the hub has ended; messages wait on disk until its settings change", "error", err)
		}
	})
}

// disconnect ends the connection and waits until it has ended.
func (h *hub) disconnect() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.stop != nil {
		h.stop()
	}
	h.conn, h.stop = nil, nil
}

func (h *hub) state() cloud.State {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.conn == nil {
		return cloud.State{Status: cloud.Stopped}
	}
	return h.conn.State()
}
