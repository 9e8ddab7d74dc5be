package outbox

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"syscall"

	"github.com/mattn/go-sqlite3"
)

const (
	pageSize      = 4096
	applicationID = 0x74757877 // "tuxw", so that file(1) and a person can tell
	schemaVersion = 1
)

// The columns of a message are kept apart instead of in one blob, so that an
// operator can read the table with the sqlite3 shell and a later version can
// add columns.
const schema = `
CREATE TABLE messages (
	key              INTEGER PRIMARY KEY, -- priority << 56 | sequence: the order of sending
	stored           INTEGER NOT NULL,    -- Unix milliseconds
	expires          INTEGER NOT NULL,    -- Unix milliseconds, 0: never
	attempts         INTEGER NOT NULL,
	id               TEXT NOT NULL,
	module           TEXT NOT NULL,
	output           TEXT NOT NULL,
	content_type     TEXT NOT NULL,
	content_encoding TEXT NOT NULL,
	created          INTEGER NOT NULL,    -- Unix microseconds
	properties       TEXT NOT NULL,       -- JSON object of strings
	body             BLOB NOT NULL,
	crc              INTEGER NOT NULL     -- CRC-32C, see record.go
);
CREATE INDEX expiring ON messages (expires) WHERE expires <> 0;
CREATE TABLE set_aside (
	number           INTEGER PRIMARY KEY,
	cause            TEXT NOT NULL,
	moment           INTEGER NOT NULL,    -- Unix milliseconds
	key              INTEGER NOT NULL,
	stored           INTEGER NOT NULL,
	expires          INTEGER NOT NULL,
	attempts         INTEGER NOT NULL,
	id               TEXT NOT NULL,
	module           TEXT NOT NULL,
	output           TEXT NOT NULL,
	content_type     TEXT NOT NULL,
	content_encoding TEXT NOT NULL,
	created          INTEGER NOT NULL,
	properties       TEXT NOT NULL,
	body             BLOB NOT NULL,
	crc              INTEGER NOT NULL
);
`

const columns = `key, stored, expires, attempts, id, module, output, content_type, content_encoding, created, properties, body, crc`

// store is an open database. Only the outbox's writer goroutine uses it.
type store struct {
	db   *sql.DB
	conn *sql.Conn

	insert, remove, selectAfter, selectStored, pageCount, freeCount *sql.Stmt
}

// background is the context of every statement: a statement that is
// interrupted halfway gains nothing, and a context that can end costs the
// driver a goroutine for each.
var background = context.Background()

var errDamaged = errors.New("the database is damaged")

// openStore opens or creates the database at path. check reads all of it.
func openStore(path string, walPages int64, check bool) (_ *store, err error) {
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
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if s.conn, err = db.Conn(background); err != nil {
		return nil, err
	}
	// The exclusive lock keeps a second daemon out and the WAL index in memory:
	// no shared-memory file that would have to grow on a full disk.
	for _, pragma := range []string{
		fmt.Sprintf("page_size = %d", pageSize),
		"auto_vacuum = INCREMENTAL",
		"locking_mode = EXCLUSIVE",
		"journal_mode = WAL",
		"synchronous = FULL",
		"cache_size = -1024",
		"temp_store = MEMORY",
		fmt.Sprintf("wal_autocheckpoint = %d", walPages),
		fmt.Sprintf("journal_size_limit = %d", 4*walPages*pageSize),
	} {
		if _, err = s.conn.ExecContext(background, "PRAGMA "+pragma); err != nil {
			return nil, fmt.Errorf("PRAGMA %s: %w", pragma, err)
		}
	}
	if err = s.prepareSchema(); err != nil {
		return nil, err
	}
	if check {
		var verdict string
		if err = s.conn.QueryRowContext(background, "PRAGMA quick_check(1)").Scan(&verdict); err != nil {
			return nil, fmt.Errorf("checking the database: %w", err)
		}
		if verdict != "ok" {
			return nil, fmt.Errorf("%w: %s", errDamaged, verdict)
		}
	}
	return s, s.prepareStatements()
}

// dataSource names the file for the driver. The busy timeout is short: who
// else has the file open is another daemon and will keep it.
func dataSource(path string) string {
	return (&url.URL{Scheme: "file", Path: path, RawQuery: "_busy_timeout=200"}).String()
}

func (s *store) prepareSchema() error {
	var version, application, tables int64
	if err := s.scan("PRAGMA user_version", &version); err != nil {
		return err
	}
	if err := s.scan("PRAGMA application_id", &application); err != nil {
		return err
	}
	if err := s.scan("SELECT count(*) FROM sqlite_schema", &tables); err != nil {
		return err
	}
	switch {
	case version == schemaVersion && application == applicationID:
		return nil
	case tables != 0 || version != 0:
		return fmt.Errorf("%w: it is not an outbox of this version (application %#x, version %d)", errDamaged, application, version)
	}
	return s.transaction(func() error {
		_, err := s.conn.ExecContext(background, fmt.Sprintf("%s PRAGMA application_id = %d; PRAGMA user_version = %d;",
			schema, applicationID, schemaVersion))
		return err
	})
}

func (s *store) prepareStatements() (err error) {
	for _, p := range []struct {
		to  **sql.Stmt
		sql string
	}{
		{&s.insert, `INSERT INTO messages (` + columns + `) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)`},
		{&s.remove, `DELETE FROM messages WHERE key = ? RETURNING ` + sizeOfRow},
		{&s.selectAfter, `SELECT ` + columns + ` FROM messages WHERE key > ? AND key <= ? ORDER BY key LIMIT ?`},
		{&s.selectStored, `SELECT key, stored FROM messages WHERE key > ? AND key <= ? ORDER BY key LIMIT ?`},
		{&s.pageCount, `PRAGMA page_count`},
		{&s.freeCount, `PRAGMA freelist_count`},
	} {
		if *p.to, err = s.conn.PrepareContext(background, p.sql); err != nil {
			return fmt.Errorf("preparing %q: %w", p.sql, err)
		}
	}
	return nil
}

// sizeOfRow is row.size in SQL; octet_length counts bytes where length counts
// characters.
var sizeOfRow = fmt.Sprintf(`%d + octet_length(id) + octet_length(module) + octet_length(output) + octet_length(content_type)
	+ octet_length(content_encoding) + octet_length(properties) + octet_length(body)`, rowOverhead)

func (s *store) close() error {
	for _, stmt := range []*sql.Stmt{s.insert, s.remove, s.selectAfter, s.selectStored, s.pageCount, s.freeCount} {
		if stmt != nil {
			stmt.Close()
		}
	}
	if s.conn != nil {
		s.conn.Close()
	}
	return s.db.Close()
}

func (s *store) scan(query string, to ...any) error {
	if err := s.conn.QueryRowContext(background, query).Scan(to...); err != nil {
		return fmt.Errorf("%s: %w", query, err)
	}
	return nil
}

// transaction runs do between BEGIN and COMMIT; when it returns nil, what do
// wrote is on stable storage.
func (s *store) transaction(do func() error) error {
	if _, err := s.conn.ExecContext(background, "BEGIN IMMEDIATE"); err != nil {
		return err
	}
	err := do()
	if err == nil {
		_, err = s.conn.ExecContext(background, "COMMIT")
	}
	if err != nil {
		// SQLite may have rolled back by itself already, which makes this fail.
		s.conn.ExecContext(background, "ROLLBACK")
	}
	return err
}

func (s *store) put(r *row) error {
	_, err := s.insert.ExecContext(background, r.key, r.stored, r.expires, r.attempts, r.id, r.module, r.output,
		r.contentType, r.contentEncoding, r.created, r.properties, r.body, r.crc)
	return err
}

// delete removes a record and returns its size, or false when there was none.
func (s *store) delete(key int64) (size int64, found bool, err error) {
	err = s.remove.QueryRowContext(background, key).Scan(&size)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, false, nil
	}
	return size, err == nil, err
}

// after calls do with the rows in (low, high] in order, at most limit of them,
// until do returns false.
func (s *store) after(low, high int64, limit int, do func(*row) bool) error {
	rows, err := s.selectAfter.QueryContext(background, low, high, limit)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if !do(scanRow(rows.Scan)) {
			break
		}
	}
	return rows.Err()
}

// stored is after for those who need no more than when a message was put.
func (s *store) stored(low, high int64, limit int, do func(key, stored int64) bool) error {
	rows, err := s.selectStored.QueryContext(background, low, high, limit)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var key, stored int64
		if err := rows.Scan(&key, &stored); err != nil {
			return err
		}
		if !do(key, stored) {
			break
		}
	}
	return rows.Err()
}

// scanRow reads the columns after those in before. A cell that holds something
// of another type than was written makes the row undecodable, no more: its key
// is always there.
func scanRow(scan func(...any) error, before ...any) *row {
	r := &row{}
	r.damage = scan(append(before, &r.key, &r.stored, &r.expires, &r.attempts, &r.id, &r.module, &r.output,
		&r.contentType, &r.contentEncoding, &r.created, &r.properties, &r.body, &r.crc)...)
	return r
}

// usedPages is the number of pages that hold something.
func (s *store) usedPages() (int64, error) {
	var all, free int64
	if err := s.pageCount.QueryRowContext(background).Scan(&all); err != nil {
		return 0, err
	}
	if err := s.freeCount.QueryRowContext(background).Scan(&free); err != nil {
		return 0, err
	}
	return all - free, nil
}

// checkpoint moves the WAL into the database. With truncate the WAL's blocks
// go back to the file system; without, they stay for the next transactions.
func (s *store) checkpoint(truncate bool) error {
	mode := "PASSIVE"
	if truncate {
		mode = "TRUNCATE"
	}
	var busy, pages, moved int64
	return s.conn.QueryRowContext(background, "PRAGMA wal_checkpoint("+mode+")").Scan(&busy, &pages, &moved)
}

// vacuum gives up to n free pages back to the file system at the next
// checkpoint.
func (s *store) vacuum(n int64) error {
	// The statement frees one page for each row that is fetched.
	rows, err := s.conn.QueryContext(background, fmt.Sprintf("PRAGMA incremental_vacuum(%d)", n))
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
	}
	return rows.Err()
}

// isFull tells whether err means that the file system, a quota or a limit on
// the size of files left no room.
func isFull(err error) bool {
	var e sqlite3.Error
	if errors.As(err, &e) {
		return e.Code == sqlite3.ErrFull ||
			e.SystemErrno == syscall.ENOSPC || e.SystemErrno == syscall.EDQUOT || e.SystemErrno == syscall.EFBIG
	}
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EFBIG)
}

// isDamaged tells whether err means that the file's content is not a sound
// database of ours.
func isDamaged(err error) bool {
	var e sqlite3.Error
	if errors.As(err, &e) {
		return e.Code == sqlite3.ErrCorrupt || e.Code == sqlite3.ErrNotADB
	}
	return errors.Is(err, errDamaged)
}

// isLocked tells whether another process holds the database.
func isLocked(err error) bool {
	var e sqlite3.Error
	return errors.As(err, &e) && (e.Code == sqlite3.ErrBusy || e.Code == sqlite3.ErrLocked)
}

// isFailing tells whether err comes from the file system or the medium, so
// that opening the database anew may help.
func isFailing(err error) bool {
	var e sqlite3.Error
	if !errors.As(err, &e) {
		return false
	}
	switch e.Code {
	case sqlite3.ErrIoErr, sqlite3.ErrCantOpen, sqlite3.ErrReadonly, sqlite3.ErrProtocol, sqlite3.ErrNomem, sqlite3.ErrPerm:
		return true
	}
	return false
}

func syncDirectory(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	// File systems that cannot sync a directory say EINVAL; they have no
	// stronger promise to give.
	if err := d.Sync(); err != nil && !errors.Is(err, syscall.EINVAL) && !errors.Is(err, syscall.ENOTSUP) {
		return fmt.Errorf("syncing %s: %w", dir, err)
	}
	return nil
}
