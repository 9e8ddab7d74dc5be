package outbox

import (
	"errors"
	"fmt"
	"maps"
	"time"
)

// work is the writer goroutine: it alone touches the store.
func (o *Outbox) work() {
	defer close(o.finished)
	maintenance := time.NewTicker(maintenanceEvery)
	defer maintenance.Stop()
	flush := time.NewTimer(time.Hour)
	flush.Stop()
	armed := false
	defer flush.Stop()
	for {
		select {
		case r := <-o.requests:
			o.serve(o.gather(r))
		case <-o.deleted:
			if o.pendingDeletes() >= maxPendingDeletes {
				o.flushQuietly()
			} else if !armed {
				flush.Reset(o.options.DeleteDelay)
				armed = true
			}
		case <-flush.C:
			armed = false
			o.flushQuietly()
		case <-maintenance.C:
			if err := o.maintain(); err != nil {
				o.warn("maintenance", "The outbox could not be tidied up; it is tried again", "error", err)
			}
		case <-o.closing:
			o.closeError = o.shut()
			return
		}
	}
}

func (o *Outbox) shut() error {
	if o.store == nil {
		return nil
	}
	err := o.flush()
	if o.store != nil {
		// Closing moves the WAL into the database and removes it, which tells
		// the next Open that nothing has to be checked.
		err = errors.Join(err, o.store.close())
		o.store = nil
	}
	if err != nil {
		return fmt.Errorf("outbox: closing %s: %w", o.dir, err)
	}
	return nil
}

// gather adds the requests that are waiting already to the first, so that they
// share one fsync.
func (o *Outbox) gather(first *request) []*request {
	batch := []*request{first}
	var bytes int64
	for next := first; ; {
		if next.put != nil {
			bytes += next.put.size()
		}
		if len(batch) >= maxBatch || bytes >= o.budget.batch {
			return batch
		}
		select {
		case next = <-o.requests:
			batch = append(batch, next)
		default:
			return batch
		}
	}
}

func (o *Outbox) serve(batch []*request) {
	o.followClock()
	var puts []*request
	for _, r := range batch {
		if r.put != nil {
			puts = append(puts, r)
		}
	}
	if len(puts) > 0 {
		o.putAll(puts)
	}
	for _, r := range batch {
		if r.run != nil {
			r.done <- r.run()
		}
	}
}

// putAll stores the rows in one transaction or, when that fails, each in its
// own, so that one that cannot be stored does not take the others along.
func (o *Outbox) putAll(puts []*request) {
	refused, err := o.tryPut(puts)
	if err != nil && len(puts) > 1 && !errors.Is(err, errUnavailable) {
		for _, p := range puts {
			o.putAll([]*request{p})
		}
		return
	}
	stored := 0
	for i := range puts {
		if err == nil && refused[i] == nil {
			stored++
		}
	}
	// Counted before anyone is told, so that who was told finds it counted.
	o.count(func(s *Stats) {
		s.Puts += int64(stored)
		s.Rejected += int64(len(puts) - stored)
	})
	for i, p := range puts {
		if err != nil {
			p.done <- err
		} else {
			p.done <- refused[i]
		}
	}
	if err != nil {
		o.warn("put", "Messages cannot be stored", "messages", len(puts), "error", err)
	}
	if stored > 0 {
		o.announce()
	}
}

// tryPut says which of the rows were refused because everything that could be
// dropped for them has a higher priority.
func (o *Outbox) tryPut(puts []*request) (refused []error, err error) {
	var size int64
	for _, p := range puts {
		size += p.put.size()
		// Given once, kept when the transaction is tried again.
		p.put.key = int64(newID(ID(p.put.key).Priority(), o.sequence))
		o.sequence++
	}
	again := false
	err = o.withStore(size, func(s *store) error {
		refused = make([]error, len(puts))
		defer func() { again = true }()
		return o.change(s, func(c *changes) error {
			for i, p := range puts {
				if again {
					// A commit whose fsync failed may turn out to be in the file after
					// all when the database was opened anew.
					size, found, err := s.delete(p.put.key)
					if err != nil {
						return err
					}
					if found {
						c.add(ID(p.put.key), size, -1)
					}
				}
				fits, err := o.enforceBytes(s, c, p.put.size(), ID(p.put.key).Priority())
				if err != nil {
					return err
				}
				if !fits {
					refused[i] = ErrFull
					if o.stats.DiskFull {
						refused[i] = ErrDiskFull
					}
					continue
				}
				if err := s.put(p.put); err != nil {
					return err
				}
				c.add(ID(p.put.key), p.put.size(), +1)
			}
			return nil
		})
	})
	return refused, err
}

// changes is what a transaction does to the figures, applied when it is
// committed.
type changes struct {
	depth    [priorities]int
	bytes    int64
	deleted  int64
	setAside int
	dropped  []drop
}

type drop struct {
	id     ID
	reason Reason
}

func (c *changes) add(id ID, size int64, n int) {
	c.depth[id.Priority()] += n
	c.bytes += int64(n) * size
}

// change runs do in a transaction that also writes the pending deletions.
func (o *Outbox) change(s *store, do func(*changes) error) error {
	o.mu.Lock()
	pending := maps.Clone(o.pending)
	o.mu.Unlock()
	c := &changes{}
	var oldest time.Time
	err := s.transaction(func() error {
		for id := range pending {
			size, found, err := s.delete(int64(id))
			if err != nil {
				return err
			}
			if found {
				c.add(id, size, -1)
				c.deleted++
			}
		}
		if err := do(c); err != nil {
			return err
		}
		var err error
		oldest, err = o.findOldest(s, c)
		return err
	})
	if err != nil {
		return err
	}
	o.mu.Lock()
	for id := range pending {
		delete(o.pending, id)
	}
	o.stats.Deleted += c.deleted
	o.stats.Bytes += c.bytes
	o.stats.SetAside += c.setAside
	for priority, n := range c.depth {
		o.stats.ByPriority[priority] += n
		o.stats.Depth += n
	}
	for _, d := range c.dropped {
		o.stats.Dropped[d.reason]++
	}
	o.stats.Oldest = oldest
	o.stats.Fault = ""
	o.mu.Unlock()
	o.reportDrops(c.dropped)
	return nil
}

// findOldest is cheap: one look at the head of each priority in use.
func (o *Outbox) findOldest(s *store, c *changes) (time.Time, error) {
	var oldest int64
	for priority := range priorities {
		if o.stats.ByPriority[priority]+c.depth[priority] == 0 {
			continue
		}
		low, high := bounds(priority)
		err := s.stored(low, high, 1, func(_, stored int64) bool {
			if oldest == 0 || stored < oldest {
				oldest = stored
			}
			return false
		})
		if err != nil {
			return time.Time{}, err
		}
	}
	if oldest == 0 {
		return time.Time{}, nil
	}
	return time.UnixMilli(oldest), nil
}

// bounds returns the keys of a priority as (low, high].
func bounds(priority int) (low, high int64) {
	low = int64(newID(priority, 0))
	return low, low | (1<<sequenceBits - 1)
}

func (o *Outbox) reportDrops(drops []drop) {
	counts := map[Reason]int{}
	for _, d := range drops {
		counts[d.reason]++
		if o.onDrop != nil {
			o.onDrop(d.id, d.reason)
		}
	}
	for reason, n := range counts {
		o.warn("drop "+string(reason), "Messages were dropped unsent", "reason", reason, "messages", n)
	}
}

func (o *Outbox) pendingDeletes() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.pending)
}

func (o *Outbox) flush() error {
	if o.pendingDeletes() == 0 {
		return nil
	}
	return o.withStore(0, func(s *store) error {
		return o.change(s, func(*changes) error { return nil })
	})
}

func (o *Outbox) flushQuietly() {
	if err := o.flush(); err != nil {
		// They stay pending and go with the next transaction that works.
		o.warn("flush", "Acknowledged messages cannot be deleted yet", "error", err)
	}
}

// warn logs at most once a minute for each key, so that a flood of messages
// does not become a flood of log lines on the same full disk.
func (o *Outbox) warn(key, text string, attributes ...any) {
	now := o.options.Uptime()
	if last, seen := o.warned[key]; seen && now-last < time.Minute {
		return
	}
	o.warned[key] = now
	o.log.Warn(text, attributes...)
}
