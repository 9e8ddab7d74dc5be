package hub

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
)

const (
	// Events that arrive while a commit waits for the disk go into the next one
	// together: that, not the disk's latency, decides the throughput.
	maxBatch      = 512
	maxBatchBytes = 8 << 20
	// How many events, and how much of them in bytes, wait for the committer before
	// devices have to: what the hub's memory is bounded by.
	commitQueue      = 1024
	commitQueueBytes = 32 << 20
	// Events by age are removed this often, and at most so many at a time that
	// devices do not feel it.
	expireEvery = time.Minute
	expireBatch = 2000
)

// Retention bounds the events that are kept; the oldest go first. Zero values
// mean no bound.
type Retention struct {
	Events int64         // number
	Age    time.Duration // since arrival
	Bytes  int64         // of bodies and properties
}

// DefaultRetention is 100,000 events, 7 days, 512 MiB, whichever is met first.
var DefaultRetention = Retention{Events: 100_000, Age: 7 * 24 * time.Hour, Bytes: 512 << 20}

// pendingEvent is an event on its way into the database. done is closed when it
// is there, or when err says why it is not.
type pendingEvent struct {
	event Event
	done  chan struct{}
	err   error
}

// committer is the one writer of events: it stores what comes in, many at a
// time, and tells who waits for new ones.
type committer struct {
	state     *State
	retention Retention
	log       *slog.Logger
	queue     chan *pendingEvent
	room      *semaphore.Weighted // bytes of events that are not stored yet

	mu     sync.Mutex
	stored chan struct{} // closed, and made anew, with every commit

	// Only the run goroutine uses these.
	kept, bytes int64
}

// newCommitter brings the database within the retention, which may be another
// one than when it was last open.
func newCommitter(s *State, r Retention, log *slog.Logger) (*committer, error) {
	c := &committer{state: s, retention: r, log: log, queue: make(chan *pendingEvent, commitQueue), room: semaphore.NewWeighted(commitQueueBytes), stored: make(chan struct{})}
	if err := s.read.QueryRow(`SELECT count(*), coalesce(sum(size), 0) FROM events`).Scan(&c.kept, &c.bytes); err != nil {
		return nil, fmt.Errorf("count the stored events: %w", err)
	}
	if err := c.trim(); err != nil {
		// A full disk must not keep the hub from starting: it frees room later.
		log.Error("cannot remove old events", "error", err)
	}
	return c, nil
}

// put hands an event over; false when ctx ends first.
func (c *committer) put(ctx context.Context, p *pendingEvent) bool {
	if c.room.Acquire(ctx, int64(p.event.size())) != nil {
		return false
	}
	select {
	case c.queue <- p:
		return true
	case <-ctx.Done():
		c.room.Release(int64(p.event.size()))
		return false
	}
}

// news gives a channel that is closed when events have been stored after the call.
func (c *committer) news() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stored
}

// run stores events until ctx ends. Then it still stores those that wait.
func (c *committer) run(ctx context.Context) {
	expire := time.NewTicker(expireEvery)
	defer expire.Stop()
	for {
		select {
		case p := <-c.queue:
			c.commit(p)
		case <-expire.C:
			if err := c.trim(); err != nil {
				c.log.Error("cannot remove old events", "error", err)
			}
		case <-ctx.Done():
			for {
				select {
				case p := <-c.queue:
					c.commit(p)
				default:
					return
				}
			}
		}
	}
}

// commit stores first and what else waits, in one transaction.
func (c *committer) commit(first *pendingEvent) {
	batch := []*pendingEvent{first}
	size := first.event.size()
fill:
	for len(batch) < maxBatch && size < maxBatchBytes {
		select {
		case p := <-c.queue:
			batch = append(batch, p)
			size += p.event.size()
		default:
			break fill
		}
	}
	kept, bytes := c.kept, c.bytes
	err := inTx(context.Background(), c.state.write, func(tx *sql.Tx) error {
		if err := c.insert(tx, batch); err != nil {
			return err
		}
		return c.dropOldest(tx)
	})
	if err != nil {
		c.kept, c.bytes = kept, bytes
		err = fmt.Errorf("store %d events: %w", len(batch), err)
		c.log.Error("events not stored, so not acknowledged", "error", err)
	}
	for _, p := range batch {
		p.err = err
		close(p.done)
	}
	c.room.Release(int64(size))
	if err == nil {
		c.mu.Lock()
		close(c.stored)
		c.stored = make(chan struct{})
		c.mu.Unlock()
	}
}

func (c *committer) insert(tx *sql.Tx, batch []*pendingEvent) error {
	insert, err := tx.Prepare(`INSERT INTO events (device, mid, time, size, module, output, system, properties, body)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`)
	if err != nil {
		return err
	}
	defer insert.Close()
	received := map[string]int{}
	for _, p := range batch {
		e := &p.event
		system, err := json.Marshal(e.System)
		if err != nil {
			return err
		}
		properties, err := json.Marshal(e.Properties)
		if err != nil {
			return err
		}
		body := e.Body
		if body == nil {
			body = []byte{} // NULL is not an empty body
		}
		size := e.size()
		res, err := insert.Exec(e.Device, e.ID(), e.Time.UnixMilli(), size, e.Module, e.Output, system, properties, body)
		if err != nil {
			return err
		}
		if e.Seq, err = res.LastInsertId(); err != nil {
			return err
		}
		received[e.Device]++
		c.kept++
		c.bytes += int64(size)
	}
	for device, n := range received {
		if _, err := tx.Exec(`UPDATE devices SET received = received + ? WHERE id = ?`, n, device); err != nil {
			return err
		}
	}
	return nil
}

// dropOldest removes what number and bytes do not allow.
func (c *committer) dropOldest(tx *sql.Tx) error {
	over := func() bool {
		return c.retention.Events > 0 && c.kept > c.retention.Events || c.retention.Bytes > 0 && c.bytes > c.retention.Bytes
	}
	for over() {
		rows, err := tx.Query(`SELECT seq, size FROM events ORDER BY seq LIMIT ?`, expireBatch)
		if err != nil {
			return err
		}
		var last int64
		for over() && rows.Next() {
			var size int64
			if err := rows.Scan(&last, &size); err != nil {
				rows.Close()
				return err
			}
			c.kept--
			c.bytes -= size
		}
		if err := rows.Err(); err != nil {
			return err
		}
		rows.Close()
		if last == 0 { // the table is empty, so the figures were wrong
			c.kept, c.bytes = 0, 0
			return nil
		}
		if _, err := tx.Exec(`DELETE FROM events WHERE seq <= ?`, last); err != nil {
			return err
		}
	}
	return nil
}

// trim enforces the whole retention, age too, a batch at a time.
func (c *committer) trim() error {
	for more := true; more; {
		more = false
		kept, bytes := c.kept, c.bytes
		err := inTx(context.Background(), c.state.write, func(tx *sql.Tx) error {
			if err := c.dropOldest(tx); err != nil || c.retention.Age <= 0 {
				return err
			}
			// Events are numbered as they arrived: the old ones are the first. One
			// whose clock was wrong goes when its turn comes.
			oldest := c.state.now().Add(-c.retention.Age).UnixMilli()
			var n, size int64
			var last sql.NullInt64
			err := tx.QueryRow(`SELECT count(*), coalesce(sum(size), 0), max(seq) FROM (
				SELECT seq, size, time FROM events ORDER BY seq LIMIT ?) WHERE time < ?`, expireBatch, oldest).Scan(&n, &size, &last)
			if err != nil || n == 0 {
				return err
			}
			res, err := tx.Exec(`DELETE FROM events WHERE seq <= ? AND time < ?`, last.Int64, oldest)
			if err != nil {
				return err
			}
			deleted, err := res.RowsAffected()
			c.kept -= deleted
			c.bytes -= size
			more = deleted == expireBatch
			return err
		})
		if err != nil {
			c.kept, c.bytes = kept, bytes
			return fmt.Errorf("remove old events: %w", err)
		}
	}
	return nil
}
