package outbox

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"tuxwatch/firmware/message"
)

// childVariable makes the test binary one of the programs that the tests kill
// or run on a small file system.
const childVariable = "TUXWATCH_OUTBOX_TEST_CHILD"

func TestMain(m *testing.M) {
	switch os.Getenv(childVariable) {
	case "crash":
		crashChild(os.Args[1])
	case "":
		goleak.VerifyTestMain(m)
	default:
		// A test that re-executes itself elsewhere: see smallfs_test.go.
		os.Exit(m.Run())
	}
}

// fakeTime is a wall clock and an uptime that tests move.
type fakeTime struct {
	mu   sync.Mutex
	wall time.Time
	up   time.Duration
}

func newFakeTime() *fakeTime {
	return &fakeTime{wall: time.Date(2026, 11, 22, 11, 0, 0, 0, time.UTC), up: time.Hour}
}

func (f *fakeTime) now() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.wall
}

func (f *fakeTime) uptime() time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.up
}

func (f *fakeTime) pass(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.wall, f.up = f.wall.Add(d), f.up+d
}

func (f *fakeTime) set(wall time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.wall = wall
}

func (f *fakeTime) options() Options { return Options{Clock: f.now, Uptime: f.uptime} }

// tempDir is a directory in memory, if there is one: what is tested is not the
// disk, and an fsync on one that others use takes as long as it likes.
func tempDir(t testing.TB) string {
	t.Helper()
	parent := "/dev/shm"
	if info, err := os.Stat(parent); err != nil || !info.IsDir() {
		return t.TempDir()
	}
	dir, err := os.MkdirTemp(parent, "outbox")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func open(t testing.TB, dir string, options Options) *Outbox {
	t.Helper()
	if options.Logger == nil {
		options.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	o, err := Open(dir, options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := o.Close(); err != nil {
			t.Errorf("closing: %v", err)
		}
	})
	return o
}

func text(id string) message.Message {
	return message.Message{ID: id, Body: []byte("body of " + id)}
}

func put(t testing.TB, o *Outbox, m message.Message, priority int) {
	t.Helper()
	if err := o.Put(t.Context(), m, priority, 0); err != nil {
		t.Fatal(err)
	}
}

// all reads everything there is with a new reader.
func all(t testing.TB, o *Outbox) []Record {
	t.Helper()
	reader := o.NewReader()
	var list []Record
	for {
		records, err := reader.TryNext(context.Background(), 100)
		if err != nil {
			t.Fatal(err)
		}
		if len(records) == 0 {
			return list
		}
		list = append(list, records...)
	}
}

func names(records []Record) []string {
	list := []string{}
	for _, r := range records {
		list = append(list, r.Message.ID)
	}
	return list
}

func numbered(i int) string { return fmt.Sprintf("m%06d", i) }
