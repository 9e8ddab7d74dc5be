package main

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"tuxwatch/firmware/config"
	"tuxwatch/firmware/control"
	"tuxwatch/firmware/message"
	"tuxwatch/firmware/outbox"
)

// store is the outbox as the runtime sees it: one place that stays, while the
// outbox behind it may be opened anew with other bounds.
type store struct {
	dir string
	log *slog.Logger

	lastAlert atomic.Pointer[control.Alert]

	mu     sync.RWMutex // held for reading during each put
	box    *outbox.Outbox
	bounds config.Outbox
}

func openStore(dir string, bounds config.Outbox, log *slog.Logger) (*store, error) {
	s := &store{dir: dir, log: log}
	return s, s.open(bounds)
}

func (s *store) open(bounds config.Outbox) error {
	box, err := outbox.Open(s.dir, outbox.Options{
		MaxBytes: int64(bounds.MaxBytes),
		MaxAge:   bounds.MaxAge,
		Logger:   s.log,
	})
	if err != nil {
		return fmt.Errorf("opening the outbox in %s: %w", s.dir, err)
	}
	s.box, s.bounds = box, bounds
	return nil
}

// Put stores a message for the hub; see [outbox.Outbox.Put].
func (s *store) Put(ctx context.Context, m message.Message, priority int, ttl time.Duration) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if err := s.box.Put(ctx, m, priority, ttl); err != nil {
		return err
	}
	if isAlert(m) {
		s.lastAlert.Store(&control.Alert{Time: m.Created, Module: m.Source.Module, Output: m.Source.Output})
	}
	return nil
}

// resize opens the outbox with other bounds. Nobody may read from it meanwhile:
// the connection to the hub is to be ended before.
func (s *store) resize(bounds config.Outbox) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.bounds
	if err := s.box.Close(); err != nil {
		s.log.Error("closing the outbox", "error", err)
	}
	err := s.open(bounds)
	if err != nil {
		if again := s.open(before); again != nil {
			s.log.Error("the outbox cannot be opened again; messages for the hub are refused until the daemon is started anew", "error", again)
		}
	}
	return err
}

func (s *store) current() *outbox.Outbox {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.box
}

func (s *store) stats() outbox.Stats { return s.current().Stats() }

func (s *store) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.box.Close(); err != nil {
		s.log.Error("closing the outbox", "error", err)
	}
}
