package hub

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	_ "github.com/mattn/go-sqlite3" // the database driver
	"golang.org/x/sys/unix"
)

// ErrStateInUse is returned for a state folder that another process has open.
var ErrStateInUse = errors.New("the state folder is in use")

// lockPatience is how long opening waits for another process to let go: a
// command that works on the files needs less.
const lockPatience = time.Second

// State is the hub's folder: device registry, twins, events and what waits for
// devices, in a SQLite database. One process has it open at a time.
type State struct {
	dir  string
	now  func() time.Time
	lock *os.File
	// SQLite has one writer at a time, so one connection writes; readers run beside it.
	write, read *sql.DB
	id          string // of this database, so that a sequence number is not taken for another's
}

// schema of version 1. Tables that belong to a device go with it.
const schema = `
CREATE TABLE hub (id TEXT NOT NULL);
CREATE TABLE devices (
	id TEXT PRIMARY KEY,
	primary_key TEXT NOT NULL,
	secondary_key TEXT NOT NULL,
	enabled INTEGER NOT NULL,
	created INTEGER NOT NULL,               -- ms since 1970
	received INTEGER NOT NULL DEFAULT 0,    -- events ever stored
	persistent INTEGER NOT NULL DEFAULT 0   -- has an MQTT session that outlives its connection
) WITHOUT ROWID;
CREATE TABLE subscriptions (
	device TEXT NOT NULL REFERENCES devices(id) ON DELETE CASCADE,
	filter TEXT NOT NULL,
	qos INTEGER NOT NULL,
	PRIMARY KEY (device, filter)
) WITHOUT ROWID;
CREATE TABLE twins (
	device TEXT PRIMARY KEY REFERENCES devices(id) ON DELETE CASCADE,
	version INTEGER NOT NULL,
	desired TEXT NOT NULL, desired_metadata TEXT NOT NULL, desired_version INTEGER NOT NULL,
	reported TEXT NOT NULL, reported_metadata TEXT NOT NULL, reported_version INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE bound (
	seq INTEGER PRIMARY KEY AUTOINCREMENT,
	device TEXT NOT NULL REFERENCES devices(id) ON DELETE CASCADE,
	bag TEXT NOT NULL,
	expiry INTEGER NOT NULL,                -- ms since 1970
	body BLOB NOT NULL
);
CREATE INDEX bound_device ON bound (device, seq);
CREATE TABLE events (
	seq INTEGER PRIMARY KEY AUTOINCREMENT,  -- never given twice
	device TEXT NOT NULL,
	mid TEXT NOT NULL,
	time INTEGER NOT NULL,                  -- ms since 1970, when it arrived
	size INTEGER NOT NULL,
	module TEXT NOT NULL,
	output TEXT NOT NULL,
	system TEXT NOT NULL,                   -- JSON objects
	properties TEXT NOT NULL,
	body BLOB NOT NULL
);
PRAGMA user_version = 1;
`

// DefaultState is where the hub of this user keeps its state: $TUXHUB_STATE,
// or /var/lib/tuxhub for root, or tuxhub below $XDG_STATE_HOME (~/.local/state).
func DefaultState() string {
	if dir := os.Getenv("TUXHUB_STATE"); dir != "" {
		return dir
	}
	if os.Geteuid() == 0 {
		return "/var/lib/tuxhub"
	}
	if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "tuxhub")
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "tuxhub"
	}
	return filepath.Join(home, ".local", "state", "tuxhub")
}

// OpenState opens the folder dir, and makes it where it is missing. It fails
// with ErrStateInUse when another process, a running hub above all, has it open:
// reach that through a [Client]. A nil now is time.Now.
func OpenState(dir string, now func() time.Time) (*State, error) {
	s, err := openState(dir, now, lockPatience)
	if err != nil {
		return nil, fmt.Errorf("open the hub's state in %s: %w", dir, err)
	}
	return s, nil
}

func openState(dir string, now func() time.Time, patience time.Duration) (_ *State, err error) {
	if dir == "" {
		return nil, errors.New("no folder given")
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, err
	}
	if now == nil {
		now = time.Now
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	// Keys are in there: whoever made the folder, it is for its owner only.
	if err := os.Chmod(dir, 0o700); err != nil {
		return nil, err
	}
	s := &State{dir: dir, now: now}
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	if s.lock, err = lockFolder(dir, patience); err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "hub.db")
	// SQLite gives its other files the mode of this one.
	f, err := os.OpenFile(file, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(f.Chmod(0o600), f.Close(), syncFolder(dir)); err != nil {
		return nil, err
	}

	query := url.Values{
		"_journal_mode": {"WAL"},
		"_synchronous":  {"FULL"}, // an acknowledged event survives a power cut
		"_foreign_keys": {"1"},
		"_busy_timeout": {"10000"},
	}
	dsn := "file:" + (&url.URL{Path: file}).EscapedPath() + "?" + query.Encode()
	if s.write, err = sql.Open("sqlite3", dsn+"&_txlock=immediate"); err != nil {
		return nil, err
	}
	s.write.SetMaxOpenConns(1)
	if s.read, err = sql.Open("sqlite3", dsn+"&_query_only=1"); err != nil {
		return nil, err
	}
	s.read.SetMaxOpenConns(8)
	if err := s.migrate(); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return s, nil
}

// lockFolder takes the folder for this process. The kernel lets go of it when
// the process ends, however it ends.
func lockFolder(dir string, patience time.Duration) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "hub.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) || time.Now().After(deadline) {
			break
		}
	}
	f.Close()
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, fmt.Errorf("%w: another tuxhub has it open; end that one, or give another folder with --state", ErrStateInUse)
	}
	return nil, fmt.Errorf("lock the folder: %w", err)
}

func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	// Some file systems cannot synchronise a folder; they have nothing to add.
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOTSUP) {
		err = nil
	}
	return errors.Join(err, d.Close())
}

func (s *State) migrate() error {
	var version int
	if err := s.write.QueryRow(`PRAGMA user_version`).Scan(&version); err != nil {
		if msg := err.Error(); strings.Contains(msg, "not a database") || strings.Contains(msg, "malformed") {
			return fmt.Errorf("the database is damaged (%w): put back a copy, or move the file away to begin anew with an empty device registry", err)
		}
		return err
	}
	switch version {
	case 0:
		err := inTx(context.Background(), s.write, func(tx *sql.Tx) error {
			if _, err := tx.Exec(schema); err != nil {
				return err
			}
			_, err := tx.Exec(`INSERT INTO hub (id) VALUES (lower(hex(randomblob(8))))`)
			return err
		})
		if err != nil {
			return fmt.Errorf("make the tables: %w", err)
		}
	case 1:
	default:
		return fmt.Errorf("the database has version %d; this tuxhub knows version 1: use the newer tuxhub that made it", version)
	}
	return s.read.QueryRow(`SELECT id FROM hub`).Scan(&s.id)
}

// inTx runs f in a transaction that is committed when f succeeds.
func inTx(ctx context.Context, db *sql.DB, f func(*sql.Tx) error) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if err := f(tx); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}

// Dir is the folder, as an absolute path.
func (s *State) Dir() string { return s.dir }

// Close lets go of the folder.
func (s *State) Close() error {
	var errs []error
	for _, db := range []*sql.DB{s.read, s.write} {
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	if s.lock != nil {
		errs = append(errs, s.lock.Close())
		s.lock = nil
	}
	return errors.Join(errs...)
}
