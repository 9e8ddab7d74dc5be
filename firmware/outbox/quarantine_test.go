package outbox

import (
	"errors"
	"slices"
	"testing"
	"time"

	"tuxwatch/firmware/message"
)

func TestAMessageIsCountedSetAsideAndPutBack(t *testing.T) {
	clock := newFakeTime()
	options := clock.options()
	dir := tempDir(t)
	o := open(t, dir, options)
	put(t, o, text("first"), 2)
	if err := o.Put(t.Context(), text("poison"), 2, time.Hour); err != nil {
		t.Fatal(err)
	}
	put(t, o, text("last"), 2)
	poison := all(t, o)[1].ID
	for try := 1; try <= 3; try++ {
		if n, err := o.Attempt(t.Context(), poison); err != nil || n != try {
			t.Fatalf("attempt %d: %d, %v", try, n, err)
		}
		if try == 2 { // attempts outlive the process
			o.Close()
			o = open(t, dir, options)
			if got := all(t, o)[1].Attempts; got != 2 {
				t.Errorf("after reopening: %d attempts", got)
			}
		}
	}
	if err := o.SetAside(t.Context(), poison, "the hub closed the connection"); err != nil {
		t.Fatal(err)
	}
	if got, want := names(all(t, o)), []string{"first", "last"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if _, err := o.Attempt(t.Context(), poison); !errors.Is(err, ErrNotFound) {
		t.Errorf("an attempt of what is gone: %v", err)
	}
	o.Close()
	o = open(t, dir, options)
	list, err := o.ListSetAside(t.Context())
	if err != nil || len(list) != 1 {
		t.Fatalf("set aside: %+v, %v", list, err)
	}
	if e := list[0]; e.Record.Message.ID != "poison" || e.Cause != "the hub closed the connection" || e.Record.Attempts != 3 ||
		!e.Moment.Equal(clock.now()) || e.Damage != "" {
		t.Errorf("%+v", e)
	}
	if o.Stats().SetAside != 1 {
		t.Errorf("%+v", o.Stats())
	}
	clock.pass(2 * time.Hour)
	if err := o.Requeue(t.Context(), list[0].Number); err != nil {
		t.Fatal(err)
	}
	records := all(t, o)
	if got, want := names(records), []string{"first", "last", "poison"}; !slices.Equal(got, want) {
		t.Fatalf("put back: got %v, want %v", got, want)
	}
	if r := records[2]; r.Attempts != 0 || !r.Expires.Equal(clock.now().Add(time.Hour)) {
		t.Errorf("put back: %+v", r)
	}
	if err := o.Requeue(t.Context(), list[0].Number); !errors.Is(err, ErrNotFound) {
		t.Errorf("putting back twice: %v", err)
	}
	if s := o.Stats(); s.SetAside != 0 || s.Depth != 3 {
		t.Errorf("%+v", s)
	}
}

func TestWhatIsSetAsideIsBounded(t *testing.T) {
	o := open(t, tempDir(t), Options{MaxBytes: 1 << 20, MaxSetAside: 5})
	setAside := func(id string, size int) {
		t.Helper()
		put(t, o, message.Message{ID: id, Body: make([]byte, size)}, 5)
		if err := o.SetAside(t.Context(), all(t, o)[0].ID, "test"); err != nil {
			t.Fatal(err)
		}
	}
	listed := func() (ids []string, numbers []int64) {
		t.Helper()
		list, err := o.ListSetAside(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range list {
			ids, numbers = append(ids, e.Record.Message.ID), append(numbers, e.Number)
		}
		return ids, numbers
	}
	for i := range 8 {
		setAside(numbered(i), 100)
	}
	ids, numbers := listed()
	if want := []string{"m000003", "m000004", "m000005", "m000006", "m000007"}; !slices.Equal(ids, want) {
		t.Errorf("got %v, want %v", ids, want)
	}
	if err := o.Discard(t.Context(), numbers[1], numbers[2]); err != nil {
		t.Fatal(err)
	}
	if ids, _ = listed(); !slices.Equal(ids, []string{"m000003", "m000006", "m000007"}) || o.Stats().SetAside != 3 {
		t.Errorf("after discarding: %v, %+v", ids, o.Stats())
	}
	// Bytes bound them as well: an eighth of the database is about 98 kB.
	for i := range 4 {
		setAside("large"+numbered(i), 30_000)
	}
	if ids, _ = listed(); !slices.Equal(ids, []string{"largem000001", "largem000002", "largem000003"}) {
		t.Errorf("after large ones: %v", ids)
	}
}
