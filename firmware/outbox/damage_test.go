package outbox

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"tuxwatch/firmware/message"
)

// filled makes an outbox with n messages of 1000 bytes and closes it.
func filled(t *testing.T, dir string, n int) {
	t.Helper()
	o := open(t, dir, Options{})
	for i := range n {
		put(t, o, message.Message{ID: numbered(i), Body: bytes.Repeat([]byte(numbered(i)), 150)}, 5)
	}
	if err := o.Close(); err != nil {
		t.Fatal(err)
	}
}

func damagedFiles(t *testing.T, dir string) []string {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(dir, damagedPrefix+"*Z"))
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// overwrite writes garbage over pages [from, to) of the database.
func overwrite(t *testing.T, dir string, from, to int64) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(dir, databaseName), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(bytes.Repeat([]byte("garbage!"), int(to-from)*pageSize/8), from*pageSize); err != nil {
		t.Fatal(err)
	}
}

func TestADatabaseThatIsNoneIsSetAside(t *testing.T) {
	dir := tempDir(t)
	filled(t, dir, 100)
	overwrite(t, dir, 0, 1)
	o := open(t, dir, Options{})
	s := o.Stats()
	if s.Damaged != 1 || s.Depth != 0 || s.Damage == "" {
		t.Errorf("%+v", s)
	}
	if len(damagedFiles(t, dir)) != 1 {
		t.Errorf("kept: %v", damagedFiles(t, dir))
	}
	put(t, o, text("new"), 5)
	if got := names(all(t, o)); !slices.Equal(got, []string{"new"}) {
		t.Errorf("got %v", got)
	}
}

func TestWhatADamagedPageDoesNotHoldIsCarriedOver(t *testing.T) {
	for _, damage := range [][][2]int64{
		{{20, 22}},
		{{10, 11}, {30, 31}, {60, 64}},
		{{5, 8}, {90, 95}},
	} {
		dir := tempDir(t)
		filled(t, dir, 400)
		pages := int64(0)
		for _, d := range damage {
			overwrite(t, dir, d[0], d[1])
			pages += d[1] - d[0]
		}
		o := open(t, dir, Options{})
		// A clean shutdown came before, so nothing was checked at the start; the
		// damage is found when it is read, or by the first count.
		records := all(t, o)
		s := o.Stats()
		if s.Damaged != 1 || int(s.Salvaged) != len(records) || s.Depth != len(records) {
			t.Errorf("%v: %+v with %d records", damage, s, len(records))
		}
		// Four rows share a page.
		if lost := 400 - len(records); lost < 1 || lost > int(pages)*4 {
			t.Errorf("%v: %d messages were lost with %d pages", damage, lost, pages)
		}
		if got := names(records); !slices.IsSorted(got) || len(slices.Compact(got)) != len(records) {
			t.Errorf("%v: the order is lost: %v", damage, got)
		}
		put(t, o, text("new"), 5)
		if got := names(all(t, o)); got[len(got)-1] != "new" {
			t.Errorf("%v: a new message is not the last: %v", damage, got)
		}
		o.Close()
	}
}

func TestDamageWhileRunningIsLivedWith(t *testing.T) {
	dir := tempDir(t)
	o := open(t, dir, Options{MaxBytes: minimumMaxBytes * 16})
	for i := range 1500 { // more than the page cache holds
		put(t, o, message.Message{ID: numbered(i), Body: make([]byte, 1000)}, 5)
	}
	if err := o.do(t.Context(), func() error { return o.store.checkpoint(true) }); err != nil {
		t.Fatal(err)
	}
	overwrite(t, dir, 30, 33)
	got := names(all(t, o))
	if len(got) < 1480 || len(got) >= 1500 || !slices.IsSorted(got) {
		t.Errorf("%d messages are left", len(got))
	}
	put(t, o, text("new"), 5)
	if s := o.Stats(); s.Damaged != 1 || s.Depth != len(got)+1 {
		t.Errorf("%+v", s)
	}
}

func TestARowThatCannotBeDecodedDoesNotBlock(t *testing.T) {
	dir := tempDir(t)
	o := open(t, dir, Options{})
	for i := range 6 {
		put(t, o, text(numbered(i)), 5)
	}
	err := o.do(t.Context(), func() error {
		for _, statement := range []string{
			`UPDATE messages SET body = 'flipped' WHERE id = 'm000000'`,
			`UPDATE messages SET properties = '{' WHERE id = 'm000002'`,
			`UPDATE messages SET created = 'not a number' WHERE id = 'm000004'`,
		} {
			if _, err := o.store.conn.ExecContext(background, statement); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := names(all(t, o)), []string{"m000001", "m000003", "m000005"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	list, err := o.ListSetAside(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(list) != 3 {
		t.Fatalf("set aside: %+v", list)
	}
	for _, entry := range list {
		if entry.Damage == "" || !strings.Contains(entry.Cause, "cannot be decoded") {
			t.Errorf("%+v", entry)
		}
		if err := o.Requeue(t.Context(), entry.Number); err == nil {
			t.Error("what cannot be decoded was put back")
		}
	}
	if s := o.Stats(); s.Dropped[SetAside] != 3 || s.SetAside != 3 || s.Depth != 3 || s.Damaged != 0 {
		t.Errorf("%+v", s)
	}
}

func TestDamagedDatabasesAreKeptInBoundedNumber(t *testing.T) {
	dir := tempDir(t)
	clock := newFakeTime()
	for range 4 {
		clock.pass(time.Minute)
		if err := os.WriteFile(filepath.Join(dir, databaseName), []byte("this is not a database, it is a text"), 0o600); err != nil {
			t.Fatal(err)
		}
		options := clock.options()
		options.KeepDamaged = 2
		open(t, dir, options).Close()
	}
	if got := damagedFiles(t, dir); len(got) != 2 || !strings.Contains(got[1], "20261122T110400") {
		t.Errorf("kept: %v", got)
	}
}

// A power cut may come between any two steps of replacing a database. The
// states that it can leave are made here one by one.
func TestReplacingSurvivesBeingInterrupted(t *testing.T) {
	prepare := func(t *testing.T) (dir string) {
		dir = tempDir(t)
		filled(t, dir, 3)
		// The successor, complete, with what was salvaged.
		other := tempDir(t)
		filled(t, other, 2)
		data, err := os.ReadFile(filepath.Join(other, databaseName))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, salvagedName), data, 0o600); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	check := func(t *testing.T, dir string, want int) {
		o := open(t, dir, Options{})
		if got := names(all(t, o)); len(got) != want {
			t.Errorf("got %v, want %d messages", got, want)
		}
		for _, name := range []string{salvagedName, salvagingName} {
			if _, err := os.Stat(filepath.Join(dir, name)); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s is left: %v", name, err)
			}
		}
	}
	t.Run("before the WAL is moved", func(t *testing.T) {
		dir := prepare(t)
		// A WAL of the old database, which the new one must not meet.
		if err := os.WriteFile(filepath.Join(dir, databaseName+"-wal"), walOf(t), 0o600); err != nil {
			t.Fatal(err)
		}
		check(t, dir, 2)
	})
	t.Run("before the database is moved", func(t *testing.T) { check(t, prepare(t), 2) })
	t.Run("before the successor is moved", func(t *testing.T) {
		dir := prepare(t)
		if err := os.Rename(filepath.Join(dir, databaseName), filepath.Join(dir, damagedPrefix+"20260101T000000.000Z")); err != nil {
			t.Fatal(err)
		}
		check(t, dir, 2)
	})
	t.Run("before the successor is complete", func(t *testing.T) {
		dir := prepare(t)
		if err := os.Rename(filepath.Join(dir, salvagedName), filepath.Join(dir, salvagingName)); err != nil {
			t.Fatal(err)
		}
		check(t, dir, 3)
	})
}

// walOf returns the WAL of an outbox that was not closed.
func walOf(t *testing.T) []byte {
	t.Helper()
	dir := tempDir(t)
	o := open(t, dir, Options{})
	for i := range 20 {
		put(t, o, text(numbered(i)), 5)
	}
	wal, err := os.ReadFile(filepath.Join(dir, databaseName+"-wal"))
	if err != nil || len(wal) == 0 {
		t.Fatalf("%d bytes of WAL: %v", len(wal), err)
	}
	return wal
}

func TestATornWALLosesNothingThatWasAcknowledgedBefore(t *testing.T) {
	dir, copied := tempDir(t), tempDir(t)
	o := open(t, dir, Options{})
	for i := range 50 {
		put(t, o, text(numbered(i)), 5)
	}
	database, err1 := os.ReadFile(filepath.Join(dir, databaseName))
	wal, err2 := os.ReadFile(filepath.Join(dir, databaseName+"-wal"))
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	// The next transaction was under way: half a frame of nothing.
	torn := append(slices.Clone(wal), make([]byte, 3000)...)
	if err := errors.Join(
		os.WriteFile(filepath.Join(copied, databaseName), database, 0o600),
		os.WriteFile(filepath.Join(copied, databaseName+"-wal"), torn, 0o600)); err != nil {
		t.Fatal(err)
	}
	after := open(t, copied, Options{})
	if s := after.Stats(); s.Depth != 50 || s.Damaged != 0 {
		t.Errorf("%+v", s)
	}
}
