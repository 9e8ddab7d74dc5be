package outbox

import (
	"database/sql"
	"path/filepath"
)

// openDamaged opens a database for reading whatever it holds. Its WAL, if
// there is one, is part of it.
func openDamaged(path string) (*store, error) {
	absolute, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	db, err := sql.Open("sqlite3", dataSource(absolute))
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	s := &store{db: db}
	if s.conn, err = db.Conn(background); err != nil {
		db.Close()
		return nil, err
	}
	for _, pragma := range []string{"locking_mode = EXCLUSIVE", "wal_autocheckpoint = 0", "query_only = ON"} {
		if _, err := s.conn.ExecContext(background, "PRAGMA "+pragma); err != nil {
			s.close()
			return nil, err
		}
	}
	s.selectAfter, err = s.conn.PrepareContext(background,
		`SELECT `+columns+` FROM messages NOT INDEXED WHERE key > ? AND key <= ? ORDER BY key LIMIT ?`)
	if err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// probes bounds how often a damaged table is entered anew, which bounds the
// time that a badly damaged one costs.
const probes = 4096

// salvageLimit is where sequences are no longer looked for: more than a
// device puts in its life.
const salvageLimit = int64(1) << 40

// salvageBatch is how many rows are written in one transaction.
const salvageBatch = 256

// copyReadable copies the messages that can be read and pass their checksum,
// then what was set aside.
func copyReadable(from, to *store) (copied int, err error) {
	left := probes
	for priority := range priorities {
		low, _ := bounds(priority)
		n, err := copyRange(from, to, low, low+salvageLimit, &left)
		copied += n
		if err != nil {
			return copied, err
		}
	}
	return copied, copySetAside(from, to)
}

// copyRange copies the keys in (low, high]. Where reading stops at a damaged
// page, it goes on behind the gap: a page that is gone takes only its own rows
// along.
func copyRange(from, to *store, low, high int64, left *int) (copied int, err error) {
	for low < high {
		var batch []*row
		last := low
		readErr := from.after(low, high, salvageBatch, func(r *row) bool {
			last = r.key
			batch = append(batch, r)
			return true
		})
		n, err := writeSound(to, batch)
		copied += n
		if err != nil {
			return copied, err
		}
		low = last
		switch {
		case readErr == nil && len(batch) < salvageBatch:
			return copied, nil
		case readErr != nil:
			next, found := behindGap(from, low, high, left)
			if !found {
				return copied, nil
			}
			low = next
		}
	}
	return copied, nil
}

// writeSound writes those rows that are as they were written.
func writeSound(to *store, batch []*row) (written int, err error) {
	err = to.transaction(func() error {
		for _, r := range batch {
			if _, damage := r.decode(); damage != nil {
				continue
			}
			if err := to.put(r); err != nil {
				return err
			}
			written++
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	return written, nil
}

// copySetAside copies what was set aside as far as it can be read; it is not
// worth entering a damaged table again.
func copySetAside(from, to *store) error {
	rows, err := from.conn.QueryContext(background, `SELECT cause, moment, `+columns+` FROM set_aside ORDER BY number`)
	if err != nil {
		return nil
	}
	defer rows.Close()
	return to.transaction(func() error {
		for rows.Next() {
			var cause string
			var moment int64
			r := scanRow(rows.Scan, &cause, &moment)
			if _, damage := r.decode(); damage != nil {
				continue
			}
			_, err := to.conn.ExecContext(background, `INSERT INTO set_aside (cause, moment, `+columns+`) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)`,
				cause, moment, r.key, r.stored, r.expires, r.attempts, r.id, r.module, r.output,
				r.contentType, r.contentEncoding, r.created, r.properties, r.body, r.crc)
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// behindGap returns a key from which reading works again, so that reading
// (key, high] gives the first row behind the damaged page.
func behindGap(from *store, low, high int64, left *int) (key int64, found bool) {
	readable := func(after int64) (bool, bool) {
		any := false
		err := from.after(after, high, 1, func(*row) bool { any = true; return true })
		return err == nil, any
	}
	// Step out until a row can be read, doubling the step; then halve back.
	bad, step := low, int64(1)
	good := int64(-1)
	for *left > 0 {
		*left--
		probe := bad + step
		if probe >= high {
			probe = high - 1
		}
		if probe <= bad {
			return 0, false
		}
		ok, any := readable(probe)
		if ok && any {
			good = probe
			break
		}
		if ok && !any {
			// Behind the last row: the rows wanted, if any, are before.
			high = probe
			step = max((high-bad)/2, 1)
			if high-bad <= 1 {
				return 0, false
			}
			continue
		}
		bad = probe
		step *= 2
	}
	if good < 0 {
		return 0, false
	}
	for good-bad > 1 && *left > 0 {
		*left--
		middle := bad + (good-bad)/2
		if ok, any := readable(middle); ok && any {
			good = middle
		} else {
			bad = middle
		}
	}
	return good, true
}
