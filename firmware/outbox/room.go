package outbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

const reserveName = "reserve"

// enforceBytes drops the oldest of the lowest priority until a message of size
// bytes fits into the database's bound. It does not drop for the sake of a
// message of a lower priority; then it returns false.
func (o *Outbox) enforceBytes(s *store, c *changes, size int64, priority int) (fits bool, err error) {
	// Its overflow pages, its leaf, and what splitting the leaf may take.
	need := size/(pageSize-4) + 1 + 3
	limit, reason := o.budget.pages, FullBytes
	if o.stats.DiskFull && o.fullPages > 0 && o.fullPages < limit {
		limit, reason = o.fullPages, DiskFull
	}
	for {
		used, err := s.usedPages()
		if err != nil {
			return false, err
		}
		if used+need <= limit {
			return true, nil
		}
		// One at a time: how many rows make a page free cannot be known.
		dropped, err := o.dropLowest(s, c, reason, priority)
		if err != nil || !dropped {
			return false, err
		}
	}
}

// dropLowest drops the oldest of the lowest priority, unless all have a higher
// priority than the given one.
func (o *Outbox) dropLowest(s *store, c *changes, reason Reason, priority int) (dropped bool, err error) {
	victim, found, err := s.lowest()
	if err != nil || !found || ID(victim).Priority() < priority {
		return false, err
	}
	size, _, err := s.delete(victim)
	if err != nil {
		return false, err
	}
	c.add(ID(victim), size, -1)
	c.dropped = append(c.dropped, drop{ID(victim), reason})
	return true, nil
}

// lowest returns the oldest record of the lowest priority in use.
func (s *store) lowest() (key int64, found bool, err error) {
	var last *int64
	if err := s.scan(`SELECT max(key) FROM messages`, &last); err != nil || last == nil {
		return 0, false, err
	}
	low, high := bounds(ID(*last).Priority())
	err = s.stored(low, high, 1, func(k, _ int64) bool { key, found = k, true; return false })
	return key, found, err
}

// dropExpired drops what is past its own time-to-live.
func (o *Outbox) dropExpired(s *store, c *changes) error {
	now := o.options.Clock().UnixMilli()
	return o.dropWhere(s, c, Expired, `expires <> 0 AND expires <= ?`, now)
}

// dropAged drops what is older than MaxAge. Within a priority the oldest come
// first, so looking at the heads is enough.
func (o *Outbox) dropAged(s *store, c *changes) error {
	if o.options.MaxAge == 0 {
		return nil
	}
	limit := o.options.Clock().Add(-o.options.MaxAge).UnixMilli()
	for priority := range priorities {
		low, high := bounds(priority)
		newest := int64(0)
		for more := true; more; {
			more = false
			err := s.stored(max(low, newest), high, maxBatch, func(key, stored int64) bool {
				if stored > limit {
					more = false
					return false
				}
				newest, more = key, true
				return true
			})
			if err != nil {
				return err
			}
		}
		if newest != 0 {
			if err := o.dropWhere(s, c, Age, `key > ? AND key <= ?`, low, newest); err != nil {
				return err
			}
		}
	}
	return nil
}

func (o *Outbox) dropWhere(s *store, c *changes, reason Reason, where string, arguments ...any) error {
	rows, err := s.conn.QueryContext(background, `DELETE FROM messages WHERE `+where+` RETURNING key, `+sizeOfRow, arguments...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var key, size int64
		if err := rows.Scan(&key, &size); err != nil {
			return err
		}
		c.add(ID(key), size, -1)
		c.dropped = append(c.dropped, drop{ID(key), reason})
	}
	return rows.Err()
}

// maintain runs every ten seconds.
func (o *Outbox) maintain() error {
	o.followClock()
	err := o.withStore(0, func(s *store) error {
		err := o.change(s, func(c *changes) error {
			return errors.Join(o.dropExpired(s, c), o.dropAged(s, c))
		})
		if err != nil {
			return err
		}
		return o.giveBack(s)
	})
	if err == nil {
		o.keepReserve()
	}
	return err
}

// giveBack returns unused pages to the file system once they are worth a
// rewrite, a bounded number at a time. While the disk is full they stay: what
// is given back, another process could take.
func (o *Outbox) giveBack(s *store) error {
	var all, free int64
	if err := s.scan("PRAGMA page_count", &all); err != nil {
		return err
	}
	if err := s.scan("PRAGMA freelist_count", &free); err != nil {
		return err
	}
	if o.stats.DiskFull || free < 64 || free < all/4 {
		return nil
	}
	if err := s.vacuum(min(free, 4096)); err != nil {
		return err
	}
	return s.checkpoint(true)
}

// keepReserve makes the reserve when it is missing and there is room for it,
// which ends the disk-full state.
func (o *Outbox) keepReserve() {
	path := filepath.Join(o.dir, reserveName)
	info, err := os.Stat(path)
	if err == nil && info.Size() == o.budget.reserve {
		o.leaveDiskFull()
		return
	}
	if o.stats.DiskFull && fileSystemFree(o.dir) < 2*o.budget.reserve {
		return
	}
	if err = writeReserve(path, o.budget.reserve); err == nil {
		o.leaveDiskFull()
		return
	}
	os.Remove(path)
	if !isFull(err) {
		o.warn("reserve", "No room can be held back for a full disk", "bytes", o.budget.reserve, "error", err)
		return
	}
	// Without the reserve the database must not grow: what it grows by sits in
	// the WAL first, and could not be moved out of it again.
	o.enterDiskFull()
	o.fullPages = o.databasePages() + max(fileSystemFree(o.dir)-o.budget.reserve/2, 0)/2/pageSize
}

// enterDiskFull begins the state in which the database does not grow.
func (o *Outbox) enterDiskFull() {
	if o.stats.DiskFull {
		return
	}
	o.count(func(s *Stats) { s.DiskFull = true })
	o.log.Error("The file system of the outbox is full; the oldest messages of the lowest priority make room for new ones. " +
		"Free some space, or lower the outbox's max_bytes")
}

// databasePages is how many pages have blocks in the file system.
func (o *Outbox) databasePages() int64 {
	info, err := os.Stat(filepath.Join(o.dir, databaseName))
	if err != nil {
		return 0
	}
	return info.Size() / pageSize
}

func (o *Outbox) leaveDiskFull() {
	if o.stats.DiskFull {
		o.fullPages = 0
		o.count(func(s *Stats) { s.DiskFull = false })
		o.log.Info("The file system of the outbox has room again")
	}
}

func writeReserve(path string, size int64) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	// Blocks, not a hole. A file system that cannot allocate without writing
	// gets zeros.
	if err := unix.Fallocate(int(f.Fd()), 0, 0, size); errors.Is(err, unix.EOPNOTSUPP) {
		if _, err := f.Write(make([]byte, size)); err != nil {
			return err
		}
	} else if err != nil {
		return err
	}
	return errors.Join(f.Sync(), syncDirectory(filepath.Dir(path)))
}

// makeRoom is called when the file system has no room for a transaction of
// need bytes, first with attempt 0.
//
// From then on the database does not grow any more: each put drops what it
// needs first and takes the pages that this frees (enforceBytes). That in turn
// needs room in the WAL, for which the reserve is given up once. Neither file
// is made smaller while the disk is full, so they go on within their own
// blocks even when another process has taken every other one.
func (o *Outbox) makeRoom(s *store, need int64, attempt int) error {
	o.enterDiskFull()
	if attempt == 0 {
		// What costs no messages: copies of damaged databases, and starting the
		// WAL over.
		o.pruneDamaged(0)
		return s.checkpoint(false)
	}
	os.Remove(filepath.Join(o.dir, reserveName))
	err := s.checkpoint(false)
	// A few less with every attempt.
	o.fullPages = max(o.databasePages()-int64(attempt-1)*(need/pageSize+8), 8)
	return err
}

// plausible is before any moment at which this program runs with a clock that
// is set. A Raspberry Pi has no battery-backed clock and may start in 1970.
var plausible = time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)

// followClock moves the times of this run's records along when the wall clock
// was set, so that a message put a minute ago stays a minute old.
func (o *Outbox) followClock() {
	wall, uptime := o.options.Clock().Round(0), o.options.Uptime()
	step := wall.Sub(o.wallThen) - (uptime - o.uptimeThen)
	if step.Abs() < clockStepThreshold {
		// Drift is left to add up until it is a step.
		return
	}
	o.wallThen, o.uptimeThen = wall, uptime
	o.log.Info("The clock was set", "by", step.Round(time.Second))
	err := o.withStore(0, func(s *store) error {
		return s.transaction(func() error {
			_, err := s.conn.ExecContext(background, `UPDATE messages SET stored = stored + ?1,
				expires = CASE expires WHEN 0 THEN 0 ELSE expires + ?1 END WHERE key & ?2 >= ?3`,
				step.Milliseconds(), int64(1)<<sequenceBits-1, o.runSequence)
			if err != nil {
				return err
			}
			return rebase(s, wall)
		})
	})
	if err != nil {
		o.warn("clock", "The times of the messages in the outbox could not follow the clock", "error", err)
	}
}

// rebase makes now the time of storing of messages from runs whose clock was
// never set: their true age cannot be known.
func rebase(s *store, now time.Time) error {
	if now.Before(plausible) {
		return nil
	}
	_, err := s.conn.ExecContext(background, `UPDATE messages SET stored = ?1,
		expires = CASE expires WHEN 0 THEN 0 ELSE expires - stored + ?1 END WHERE stored < ?2`,
		now.UnixMilli(), plausible.UnixMilli())
	return err
}

func fileSystemSize(dir string) int64 {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil || s.Blocks == 0 {
		return 1 << 62
	}
	return int64(s.Blocks) * int64(s.Bsize)
}

func fileSystemFree(dir string) int64 {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0
	}
	return int64(s.Bavail) * int64(s.Bsize)
}

// errUnavailable marks errors of a store that is closed and not yet to be
// opened again.
var errUnavailable = errors.New("the store cannot be opened")

// withStore runs do with the open store, opening it when it is not, and deals
// with what keeps do from succeeding: it makes room for need bytes, replaces a
// damaged database and opens a failing one anew. do may run several times and
// must start over each time.
func (o *Outbox) withStore(need int64, do func(*store) error) error {
	var err error
	rooms, reopened := 0, 0
	for range 8 {
		if err = o.open(); err != nil {
			break
		}
		err = do(o.store)
		switch {
		case err == nil:
			return nil
		case isFull(err):
			if rooms == 4 {
				return o.fault(fmt.Errorf("%w: %w", ErrDiskFull, err))
			}
			if roomErr := o.makeRoom(o.store, need, rooms); roomErr != nil && !isFull(roomErr) {
				err = fmt.Errorf("making room: %w", roomErr)
				if !isDamaged(roomErr) && !isFailing(roomErr) {
					return o.fault(err)
				}
			}
			rooms++
		case isDamaged(err):
			if err := o.replaceDamaged(err); err != nil {
				return o.fault(err)
			}
		case isFailing(err):
			o.warn("failing", "The outbox's database fails; opening it anew", "error", err)
			o.store.close()
			o.store = nil
			if reopened++; reopened > 2 {
				return o.fault(err)
			}
		default:
			return err
		}
	}
	if isFull(err) {
		err = fmt.Errorf("%w: %w", ErrDiskFull, err)
	}
	return o.fault(err)
}

// fault keeps err for the status and returns it.
func (o *Outbox) fault(err error) error {
	o.count(func(s *Stats) { s.Fault = err.Error() })
	return err
}
