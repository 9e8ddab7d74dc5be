package outbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"tuxwatch/firmware/message"
)

type modelRecord struct {
	name    string
	id      ID // known once read
	stored  time.Time
	expires time.Time
}

// TestAgainstAModel does random things to an outbox and to lists in memory.
func TestAgainstAModel(t *testing.T) {
	parent := tempDir(t)
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp(parent, "")
		if err != nil {
			t.Fatal(err)
		}
		clock := newFakeTime()
		options := clock.options()
		options.MaxBytes = minimumMaxBytes
		options.MaxAge = 10 * time.Hour
		options.MaxSetAside = 1000
		options.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
		var waiting [priorities][]modelRecord
		dropped := map[Reason]int64{}
		setAside := 0

		// Every drop must be one that the policy allows at that moment.
		onDrop := func(id ID, reason Reason) {
			dropped[reason]++
			list := waiting[id.Priority()]
			i := slices.IndexFunc(list, func(r modelRecord) bool { return r.id == id })
			switch {
			case i < 0:
				t.Fatalf("%v was dropped (%s) and is not there", id, reason)
			case reason == Expired && (list[i].expires.IsZero() || clock.now().Before(list[i].expires)):
				t.Fatalf("%s was dropped as expired before its time", list[i].name)
			case reason == Age && clock.now().Sub(list[i].stored) < options.MaxAge:
				t.Fatalf("%s was dropped for its age too early", list[i].name)
			case reason == FullBytes && i != 0:
				t.Fatalf("%s was dropped before %s, which is older", list[i].name, list[0].name)
			}
			if reason == FullBytes {
				for lower := id.Priority() + 1; lower < priorities; lower++ {
					if len(waiting[lower]) > 0 {
						t.Fatalf("%s was dropped before %s, which has a lower priority", list[i].name, waiting[lower][0].name)
					}
				}
			}
			waiting[id.Priority()] = slices.Delete(list, i, i+1)
		}
		var o *Outbox
		openAgain := func() {
			var err error
			if o, err = Open(dir, options); err != nil {
				t.Fatal(err)
			}
			o.onDrop = onDrop
		}
		openAgain()
		defer func() { o.Close() }()

		read := func() []Record {
			var list []Record
			reader := o.NewReader()
			for {
				records, err := reader.TryNext(context.Background(), 7)
				if err != nil {
					t.Fatal(err)
				}
				if len(records) == 0 {
					return list
				}
				list = append(list, records...)
			}
		}
		any := func(list []Record) Record {
			if len(list) == 0 {
				t.Skip("nothing there")
			}
			return list[rapid.IntRange(0, len(list)-1).Draw(t, "which")]
		}
		remove := func(r Record) {
			waiting[r.ID.Priority()] = slices.DeleteFunc(waiting[r.ID.Priority()], func(m modelRecord) bool { return m.id == r.ID })
		}
		number := 0
		t.Repeat(map[string]func(*rapid.T){
			"put": func(t *rapid.T) {
				priority := rapid.IntRange(HighestPriority, LowestPriority).Draw(t, "priority")
				size := rapid.IntRange(0, 15_000).Draw(t, "size")
				ttl := time.Duration(rapid.SampledFrom([]int{0, 0, 1, 60}).Draw(t, "ttl")) * time.Minute
				number++
				r := modelRecord{name: fmt.Sprint("m", number), stored: clock.now(), id: newID(priority, o.sequence)}
				if ttl > 0 {
					r.expires = clock.now().Add(ttl)
				}
				higher := 0
				for _, list := range waiting[:priority] {
					higher += len(list)
				}
				err := o.Put(context.Background(), message.Message{ID: r.name, Body: make([]byte, size)}, priority, ttl)
				switch {
				case err == nil:
					waiting[priority] = append(waiting[priority], r)
				case !errors.Is(err, ErrFull) || higher == 0 && setAside == 0:
					t.Fatalf("putting with %d of higher priority: %v", higher, err)
				}
			},
			"delete": func(t *rapid.T) {
				r := any(read())
				o.Delete(r.ID)
				remove(r)
			},
			"set aside": func(t *rapid.T) {
				r := any(read())
				if err := o.SetAside(context.Background(), r.ID, "test"); err != nil {
					t.Fatal(err)
				}
				setAside++
			},
			"time passes": func(t *rapid.T) {
				clock.pass(time.Duration(rapid.IntRange(1, 120).Draw(t, "minutes")) * time.Minute)
				if err := o.Maintain(context.Background()); err != nil {
					t.Fatal(err)
				}
			},
			"reopen": func(t *rapid.T) {
				if err := o.Close(); err != nil {
					t.Fatal(err)
				}
				openAgain()
				dropped = map[Reason]int64{}
			},
			"": func(t *rapid.T) {
				got := read()
				var want []string
				for _, list := range waiting {
					for _, r := range list {
						want = append(want, r.name)
					}
				}
				if !slices.Equal(names(got), append([]string{}, want...)) {
					t.Fatalf("got  %v\nwant %v", names(got), want)
				}
				if err := o.Sync(context.Background()); err != nil {
					t.Fatal(err)
				}
				s := o.Stats()
				for reason, n := range dropped {
					if s.Dropped[reason] != n {
						t.Fatalf("%d dropped because of %s, counted %d", n, reason, s.Dropped[reason])
					}
				}
				if s.Depth != len(want) || s.DiskBytes > s.MaxBytes || (s.Bytes == 0) != (len(want) == 0) {
					t.Fatalf("with %d messages: %+v", len(want), s)
				}
			},
		})
	})
}
