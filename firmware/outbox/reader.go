package outbox

import (
	"context"
	"fmt"
	"sync"
)

// Reader hands out the records of an outbox, each once. A sender makes one per
// connection: what it has read and not deleted is in flight, and when the
// connection is gone, a new Reader begins at the first record that is still
// there, which sends again, in order, what was not acknowledged.
type Reader struct {
	outbox *Outbox

	mu sync.Mutex
	// last is, for each priority, the last record handed out. Within a priority
	// records only ever come behind it, so this is all there is to remember.
	last [priorities]int64
}

// NewReader returns a reader that starts at the first record.
func (o *Outbox) NewReader() *Reader {
	r := &Reader{outbox: o}
	for priority := range r.last {
		r.last[priority], _ = bounds(priority)
	}
	return r
}

// Next returns the next records, at least one and at most n, fewer when they
// are large. It waits until there is one or ctx ends.
func (r *Reader) Next(ctx context.Context, n int) ([]Record, error) {
	for {
		r.outbox.mu.Lock()
		changed := r.outbox.changed
		r.outbox.mu.Unlock()
		records, err := r.TryNext(ctx, n)
		if err != nil || len(records) > 0 {
			return records, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-r.outbox.closing:
			return nil, ErrClosed
		}
	}
}

// TryNext is [Reader.Next] without waiting: it returns nothing when there is
// nothing to read.
func (r *Reader) TryNext(ctx context.Context, n int) ([]Record, error) {
	if n < 1 {
		return nil, fmt.Errorf("outbox: reading %d records", n)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	last := r.last
	var records []Record
	err := r.outbox.do(ctx, func() (err error) {
		records, err = r.outbox.read(&last, n)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("outbox: reading: %w", err)
	}
	r.last = last
	return records, nil
}

// read runs in the writer goroutine.
func (o *Outbox) read(last *[priorities]int64, n int) ([]Record, error) {
	var records []Record
	err := o.withStore(0, func(s *store) error {
		for {
			records = nil
			unreadable := map[ID]string{}
			expired := false
			now := o.options.Clock().UnixMilli()
			next := *last
			bytes := 0
			o.mu.Lock()
			depth := o.stats.ByPriority
			o.mu.Unlock()
			for priority := range priorities {
				if depth[priority] == 0 || len(records) >= n || bytes >= maxReadBytes {
					continue
				}
				_, high := bounds(priority)
				// Records that are acknowledged but still in the table are passed
				// over, so there may be more rows to look at than are wanted.
				err := s.after(next[priority], high, n+o.pendingDeletes(), func(row *row) bool {
					id := ID(row.key)
					record, err := row.decode()
					switch {
					case err != nil:
						unreadable[id] = err.Error()
					case o.isPending(id):
						next[priority] = row.key
					case row.expires != 0 && row.expires <= now:
						expired = true
					default:
						next[priority] = row.key
						records = append(records, record)
						bytes += record.Size
					}
					return len(records) < n && bytes < maxReadBytes
				})
				if err != nil {
					return err
				}
			}
			if len(unreadable) == 0 && !expired {
				*last = next
				return nil
			}
			// Out of the way with them, then read again.
			err := o.change(s, func(c *changes) error {
				for id, cause := range unreadable {
					if err := o.setAside(s, c, id, "it cannot be decoded: "+cause); err != nil {
						return err
					}
				}
				return o.dropExpired(s, c)
			})
			if err != nil {
				return err
			}
		}
	})
	return records, err
}

func (o *Outbox) isPending(id ID) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	_, pending := o.pending[id]
	return pending
}
