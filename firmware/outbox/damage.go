package outbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
)

const (
	databaseName = "outbox.db"
	// A successor of a damaged database is written under the first name and
	// gets the second when it is complete and synced; whoever finds the second
	// finishes the exchange. So a power cut at any moment loses nothing that was
	// salvaged and never pairs a database with the WAL of another.
	salvagingName = databaseName + ".salvaging"
	salvagedName  = databaseName + ".salvaged"
	damagedPrefix = databaseName + ".damaged-"
)

// reopenAfter is how long a store that could not be opened is left alone.
const reopenAfter = time.Second

// open makes o.store the open store.
func (o *Outbox) open() error {
	if o.store != nil {
		return nil
	}
	if o.openError != nil && o.options.Uptime() < o.retryAt {
		return o.openError
	}
	err := o.openOrReplace()
	if err == nil {
		err = o.load()
	}
	if isDamaged(err) && o.store != nil {
		// Counting looks at every page of the table.
		o.store.close()
		o.store = nil
		if err = o.replace(err); err == nil {
			err = o.openOrReplace()
		}
		if err == nil {
			err = o.load()
		}
	}
	if err != nil {
		if o.store != nil {
			o.store.close()
			o.store = nil
		}
		o.retryAt = o.options.Uptime() + reopenAfter
		o.openError = fmt.Errorf("outbox: opening %s: %w (%w)", filepath.Join(o.dir, databaseName), err, errUnavailable)
		return o.openError
	}
	o.openError = nil
	o.keepReserve()
	return nil
}

func (o *Outbox) openOrReplace() error {
	if err := o.finishReplacing(); err != nil {
		return err
	}
	path := filepath.Join(o.dir, databaseName)
	// A clean shutdown removes the WAL. Where it did not, the power may have
	// been cut, and the whole file is worth a look.
	wal, err := os.Stat(path + "-wal")
	unclean := err == nil && wal.Size() > 0
	_, err = os.Stat(path)
	created := errors.Is(err, fs.ErrNotExist)
	s, err := openStore(path, o.budget.walPages, unclean)
	switch {
	case err == nil:
	case isLocked(err):
		return fmt.Errorf("%w: %w; stop the other one first", ErrLocked, err)
	case isFull(err):
		os.Remove(filepath.Join(o.dir, reserveName))
		if created {
			removeDatabase(path)
		}
		return fmt.Errorf("%w: %w", ErrDiskFull, err)
	case isDamaged(err):
		if err := o.replace(err); err != nil {
			return err
		}
		if s, err = openStore(path, o.budget.walPages, false); err != nil {
			return err
		}
	default:
		return err
	}
	o.store = s
	// SQLite syncs the directory for its journals; the database's own name and
	// that of our directory are ours to sync.
	return errors.Join(syncDirectory(o.dir), syncDirectory(filepath.Dir(o.dir)))
}

// load reads the figures of the store that was just opened.
func (o *Outbox) load() error {
	if err := rebase(o.store, o.options.Clock()); err != nil {
		return err
	}
	var byPriority [priorities]int
	var depth int
	var bytes int64
	rows, err := o.store.conn.QueryContext(background, `SELECT key >> 56, count(*), total(`+sizeOfRow+`) FROM messages GROUP BY 1`)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var priority, n int
		var size float64
		if err := rows.Scan(&priority, &n, &size); err != nil {
			return err
		}
		if priority < 0 || priority >= priorities {
			return fmt.Errorf("%w: it has a message of priority %d", errDamaged, priority)
		}
		byPriority[priority] = n
		depth += n
		bytes += int64(size)
	}
	if err := rows.Err(); err != nil {
		return err
	}
	var setAside int
	if err := o.store.scan(`SELECT count(*) FROM set_aside`, &setAside); err != nil {
		return err
	}
	var last int64
	if err := o.store.scan(fmt.Sprintf(`SELECT coalesce(max(key & %d), 0) FROM messages`, int64(1)<<sequenceBits-1), &last); err != nil {
		return err
	}
	oldest := time.Time{}
	if depth > 0 {
		var ms int64
		if err := o.store.scan(`SELECT min(stored) FROM messages`, &ms); err != nil {
			return err
		}
		oldest = time.UnixMilli(ms)
	}
	if last >= o.sequence {
		o.sequence = last + 1
	}
	if o.runSequence == 1 {
		o.runSequence = o.sequence
	}
	o.count(func(s *Stats) {
		s.ByPriority, s.Depth, s.Bytes, s.SetAside, s.Oldest, s.Fault = byPriority, depth, bytes, setAside, oldest, ""
	})
	return nil
}

// replaceDamaged closes the open store, which gave cause, and replaces it.
func (o *Outbox) replaceDamaged(cause error) error {
	o.store.close()
	o.store = nil
	if err := o.replace(cause); err != nil {
		return err
	}
	if err := o.open(); err != nil {
		return err
	}
	o.announce()
	return nil
}

// replace puts a new database with all that can be read of the damaged one in
// its place, and the damaged one aside.
func (o *Outbox) replace(cause error) error {
	path := filepath.Join(o.dir, databaseName)
	o.log.Error("The outbox's database is damaged; setting it aside and carrying over what can be read", "error", cause)
	removeDatabase(filepath.Join(o.dir, salvagingName))
	salvaged, err := o.salvage(path, filepath.Join(o.dir, salvagingName))
	if err != nil {
		return fmt.Errorf("replacing the damaged database (%w): %w", cause, err)
	}
	if err := os.Rename(filepath.Join(o.dir, salvagingName), filepath.Join(o.dir, salvagedName)); err != nil {
		return fmt.Errorf("replacing the damaged database: %w", err)
	}
	if err := syncDirectory(o.dir); err != nil {
		return err
	}
	if err := o.finishReplacing(); err != nil {
		return err
	}
	o.count(func(s *Stats) {
		s.Damaged++
		s.Salvaged += int64(salvaged)
		s.Damage = fmt.Sprintf("%s: %v; %d messages carried over", o.options.Clock().UTC().Format(time.RFC3339), cause, salvaged)
	})
	o.log.Warn("A new outbox was started", "messages_carried_over", salvaged)
	return nil
}

// finishReplacing does the exchange of a damaged database for its complete
// successor, or what a power cut left of it.
func (o *Outbox) finishReplacing() error {
	path := filepath.Join(o.dir, databaseName)
	successor := filepath.Join(o.dir, salvagedName)
	if _, err := os.Stat(successor); errors.Is(err, fs.ErrNotExist) {
		removeDatabase(filepath.Join(o.dir, salvagingName))
		return nil
	}
	o.pruneDamaged(max(o.options.KeepDamaged-1, 0))
	aside := filepath.Join(o.dir, damagedPrefix+o.options.Clock().UTC().Format("20060102T150405.000Z"))
	// The WAL first: the successor must never meet it.
	for _, suffix := range []string{"-wal", "-shm", "-journal", ""} {
		var err error
		if o.options.KeepDamaged < 0 {
			err = os.Remove(path + suffix)
		} else {
			err = os.Rename(path+suffix, aside+suffix)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("setting the damaged database aside: %w", err)
		}
	}
	if err := syncDirectory(o.dir); err != nil {
		return err
	}
	if err := os.Rename(successor, path); err != nil {
		return fmt.Errorf("putting the new database in place: %w", err)
	}
	return syncDirectory(o.dir)
}

// pruneDamaged removes all but the newest keep damaged databases.
func (o *Outbox) pruneDamaged(keep int) {
	names, _ := filepath.Glob(filepath.Join(o.dir, damagedPrefix+"*Z"))
	slices.Sort(names)
	for len(names) > keep {
		removeDatabase(names[0])
		names = names[1:]
	}
}

func removeDatabase(path string) {
	for _, suffix := range []string{"-wal", "-shm", "-journal", ""} {
		os.Remove(path + suffix)
	}
}

// salvage writes to a new database at to every message that can be read from
// the one at from, and returns their number.
func (o *Outbox) salvage(from, to string) (int, error) {
	fresh, err := openStore(to, o.budget.walPages, false)
	if err != nil {
		return 0, err
	}
	n := 0
	var copyErr error
	if damaged, err := openDamaged(from); err == nil {
		n, copyErr = copyReadable(damaged, fresh)
		damaged.close()
	} else {
		o.log.Error("Nothing can be read of the damaged database", "error", err)
	}
	if isFull(copyErr) {
		o.log.Error("There is no room to carry over more of the damaged database", "messages", n, "error", copyErr)
		copyErr = nil
	}
	// Closing syncs the database and removes the WAL: one file to rename.
	return n, errors.Join(copyErr, fresh.close())
}
