package outbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tuxwatch/firmware/message"
)

func TestAMessageComesBackAsItWasAfterReopening(t *testing.T) {
	dir := tempDir(t)
	want := []message.Message{
		{
			ID: "a", Body: []byte(`{"machine":{"temperature":31.5}}`),
			Properties:  map[string]string{"MessageType": "Alert", "größe": "a&b=c"},
			ContentType: "application/json", ContentEncoding: "utf-8",
			Source:  message.Source{Module: "filterModule", Output: "output1"},
			Created: time.Date(2026, 11, 22, 11, 2, 3, 123456000, time.UTC),
		},
		{ID: "b", Body: []byte{}},
		{ID: "c", Body: bytes.Repeat([]byte{0, 0xff, 'x'}, 5_000)},
	}
	o := open(t, dir, Options{})
	for _, m := range want {
		put(t, o, m, 4)
	}
	if err := o.Close(); err != nil {
		t.Fatal(err)
	}
	o = open(t, dir, Options{})
	var got []message.Message
	for _, r := range all(t, o) {
		if r.ID.Priority() != 4 || r.Stored.IsZero() || !r.Expires.IsZero() || r.Size < len(r.Message.Body) {
			t.Errorf("record %+v", r)
		}
		got = append(got, r.Message)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestOrderIsPriorityThenPutting(t *testing.T) {
	o := open(t, tempDir(t), Options{})
	for i, priority := range []int{9, 0, 5, 9, 0, 5} {
		put(t, o, text(fmt.Sprintf("%d-%d", priority, i)), priority)
	}
	want := []string{"0-1", "0-4", "5-2", "5-5", "9-0", "9-3"}
	if got := names(all(t, o)); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	for _, priority := range []int{-1, 10} {
		if err := o.Put(t.Context(), text("x"), priority, 0); err == nil {
			t.Errorf("priority %d was taken", priority)
		}
	}
}

func TestAReaderHandsOutEachRecordOnceAndANewOneTheUndeletedAgain(t *testing.T) {
	o := open(t, tempDir(t), Options{})
	for i := range 10 {
		put(t, o, text(numbered(i)), 5)
	}
	reader := o.NewReader()
	first, err := reader.Next(t.Context(), 4)
	if err != nil {
		t.Fatal(err)
	}
	put(t, o, text("urgent"), 0)
	second, err := reader.Next(t.Context(), 4)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := names(append(first, second...)), []string{"m000000", "m000001", "m000002", "m000003", "urgent", "m000004", "m000005", "m000006"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	// Acknowledged out of order.
	o.Delete(first[1].ID, second[0].ID)
	want := []string{"m000000", "m000002", "m000003", "m000004", "m000005", "m000006", "m000007", "m000008", "m000009"}
	if got := names(all(t, o)); !slices.Equal(got, want) {
		t.Errorf("before the deletion is written: got %v, want %v", got, want)
	}
	if err := o.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := names(all(t, o)); !slices.Equal(got, want) {
		t.Errorf("after the deletion is written: got %v, want %v", got, want)
	}
	if s := o.Stats(); s.Depth != 9 || s.Deleted != 2 || s.Puts != 11 || s.ByPriority[5] != 9 {
		t.Errorf("stats %+v", s)
	}
}

func TestNextWaitsForAPut(t *testing.T) {
	o := open(t, tempDir(t), Options{})
	reader := o.NewReader()
	got := make(chan []Record)
	go func() {
		records, _ := reader.Next(context.Background(), 5)
		got <- records
	}()
	put(t, o, text("late"), 3)
	if records := <-got; len(records) != 1 || records[0].Message.ID != "late" {
		t.Errorf("got %v", records)
	}
	ctx, cancel := context.WithCancel(t.Context())
	failed := make(chan error)
	go func() {
		_, err := reader.Next(ctx, 5)
		failed <- err
	}()
	cancel()
	if err := <-failed; !errors.Is(err, context.Canceled) {
		t.Errorf("after cancelling: %v", err)
	}
	go func() {
		_, err := reader.Next(context.Background(), 5)
		failed <- err
	}()
	o.Close()
	if err := <-failed; !errors.Is(err, ErrClosed) {
		t.Errorf("after closing: %v", err)
	}
	if err := o.Put(t.Context(), text("x"), 0, 0); !errors.Is(err, ErrClosed) {
		t.Errorf("putting after closing: %v", err)
	}
}

func TestConcurrentPutsShareTransactionsAndKeepEachGoroutinesOrder(t *testing.T) {
	o := open(t, tempDir(t), Options{})
	const goroutines, each = 16, 50
	var wg sync.WaitGroup
	for g := range goroutines {
		wg.Go(func() {
			for i := range each {
				if err := o.Put(context.Background(), message.Message{ID: fmt.Sprint(i), Source: message.Source{Module: fmt.Sprint(g)}}, 7, 0); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	next := map[string]int{}
	for _, r := range all(t, o) {
		if want := fmt.Sprint(next[r.Message.Source.Module]); r.Message.ID != want {
			t.Fatalf("goroutine %s: got %s, want %s", r.Message.Source.Module, r.Message.ID, want)
		}
		next[r.Message.Source.Module]++
	}
	if s := o.Stats(); s.Depth != goroutines*each || s.Puts != goroutines*each {
		t.Errorf("stats %+v", s)
	}
}

func TestTheOldestOfTheLowestPriorityGoesFirst(t *testing.T) {
	dir := tempDir(t)
	o := open(t, dir, Options{MaxBytes: minimumMaxBytes})
	body := bytes.Repeat([]byte("x"), 3000)
	const each = 16 // of high and of low ones, which fit
	for i := range each {
		put(t, o, message.Message{ID: fmt.Sprintf("high%d", i), Body: body}, 1)
		put(t, o, message.Message{ID: fmt.Sprintf("low%d", i), Body: body}, 8)
	}
	for i := each; o.Stats().Dropped[FullBytes] < 10; i++ {
		put(t, o, message.Message{ID: fmt.Sprintf("high%d", i), Body: body}, 1)
	}
	records := all(t, o)
	var low []string
	high := 0
	for _, r := range records {
		if r.ID.Priority() == 8 {
			low = append(low, r.Message.ID)
		} else if want := fmt.Sprintf("high%d", high); r.Message.ID != want {
			t.Fatalf("got %s, want %s", r.Message.ID, want)
		} else {
			high++
		}
	}
	s := o.Stats()
	dropped := int(s.Dropped[FullBytes])
	if want := fmt.Sprintf("low%d", dropped); low[0] != want || len(low) != each-dropped {
		t.Errorf("dropped %d; of the low ones %v are left", dropped, low)
	}
	if s.Depth != len(records) || s.ByPriority[8] != len(low) {
		t.Errorf("stats %+v do not fit %d records", s, len(records))
	}
	// Once only high ones are left, a low one is refused, and says so.
	fillWithHigh := func() {
		for o.Stats().ByPriority[8] > 0 {
			put(t, o, message.Message{ID: fmt.Sprintf("high%d", high), Body: body}, 1)
			high++
		}
	}
	fillWithHigh()
	for i := 0; ; i++ {
		err := o.Put(t.Context(), message.Message{ID: "late", Body: body}, 8, 0)
		if errors.Is(err, ErrFull) {
			break
		}
		if err != nil || i > 20 {
			t.Fatalf("a low one into an outbox full of high ones: %v", err)
		}
		fillWithHigh() // there was a gap of just its size
	}
	if o.Stats().Rejected != 1 {
		t.Errorf("stats %+v", o.Stats())
	}
	if err := o.Put(t.Context(), message.Message{ID: "huge", Body: make([]byte, 20_000)}, 0, 0); !errors.Is(err, ErrTooLarge) {
		t.Errorf("a message larger than fits: %v", err)
	}
}

func TestFilesStayWithinMaxBytesAndShrinkAgain(t *testing.T) {
	dir := tempDir(t)
	const maxBytes = 1 << 20
	o := open(t, dir, Options{MaxBytes: maxBytes})
	sizes := []int{100, 5000, 900, 12_000, 32_000, 2000}
	var most int64
	var files []string
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 250 {
				err := o.Put(context.Background(), message.Message{Body: make([]byte, sizes[(i*7+g)%len(sizes)])}, (g*3+i)%10, 0)
				if err != nil && !errors.Is(err, ErrFull) {
					t.Error(err)
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	for running := true; running; {
		select {
		case <-done:
			running = false
		case <-time.After(time.Millisecond):
		}
		if now := o.Stats().DiskBytes; now > most {
			most = now
			files = nil
			entries, _ := os.ReadDir(dir)
			for _, e := range entries {
				if info, err := e.Info(); err == nil {
					files = append(files, fmt.Sprintf("%s %d", e.Name(), info.Size()))
				}
			}
		}
	}
	if most > maxBytes {
		t.Errorf("the files took %d bytes (%v), the bound is %d", most, files, maxBytes)
	}
	if o.Stats().Dropped[FullBytes] == 0 {
		t.Error("the bound was never reached; the test shows nothing")
	}
	for _, r := range all(t, o) {
		o.Delete(r.ID)
	}
	for range 3 {
		if err := o.Maintain(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if s := o.Stats(); s.Depth != 0 || s.Bytes != 0 || s.DiskBytes > maxBytes/4 {
		t.Errorf("emptied, the outbox still has %+v", s)
	}
}

func TestTimeToLiveAndAge(t *testing.T) {
	clock := newFakeTime()
	options := clock.options()
	options.MaxAge = 24 * time.Hour
	o := open(t, tempDir(t), options)
	put(t, o, text("keeps"), 5)
	if err := o.Put(t.Context(), text("short"), 5, time.Minute); err != nil {
		t.Fatal(err)
	}
	if err := o.Put(t.Context(), text("long"), 5, time.Hour); err != nil {
		t.Fatal(err)
	}
	clock.pass(time.Minute)
	if got, want := names(all(t, o)), []string{"keeps", "long"}; !slices.Equal(got, want) {
		t.Errorf("after a minute: %v, want %v", got, want)
	}
	clock.pass(23*time.Hour + 58*time.Minute)
	put(t, o, text("young"), 5)
	if err := o.Maintain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, want := names(all(t, o)), []string{"keeps", "young"}; !slices.Equal(got, want) {
		t.Errorf("just before a day: %v, want %v", got, want)
	}
	clock.pass(2 * time.Minute)
	if err := o.Maintain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, want := names(all(t, o)), []string{"young"}; !slices.Equal(got, want) {
		t.Errorf("after a day: %v, want %v", got, want)
	}
	s := o.Stats()
	if s.Dropped[Expired] != 2 || s.Dropped[Age] != 1 || !s.Oldest.Equal(clock.now().Add(-2*time.Minute)) {
		t.Errorf("stats %+v", s)
	}
}

func TestSettingTheClockDoesNotMakeMessagesOld(t *testing.T) {
	dir := tempDir(t)
	clock := newFakeTime()
	clock.set(time.Date(1970, 1, 1, 0, 0, 30, 0, time.UTC)) // no battery-backed clock
	options := clock.options()
	options.MaxAge = 48 * time.Hour
	o := open(t, dir, options)
	if err := o.Put(t.Context(), text("earlier run"), 5, time.Hour); err != nil {
		t.Fatal(err)
	}
	o.Close()

	o = open(t, dir, options)
	if err := o.Put(t.Context(), text("this run"), 5, time.Hour); err != nil {
		t.Fatal(err)
	}
	clock.pass(10 * time.Minute)
	clock.set(time.Date(2026, 11, 22, 11, 0, 0, 0, time.UTC)) // the network came
	if err := o.Maintain(t.Context()); err != nil {
		t.Fatal(err)
	}
	records := all(t, o)
	if got, want := names(records), []string{"earlier run", "this run"}; !slices.Equal(got, want) {
		t.Fatalf("after the clock was set: %v, want %v", got, want)
	}
	if got, want := records[1].Stored, clock.now().Add(-10*time.Minute); !got.Equal(want) {
		t.Errorf("stored %v, want %v", got, want)
	}
	clock.pass(51 * time.Minute)
	if got, want := names(all(t, o)), []string{"earlier run"}; !slices.Equal(got, want) {
		t.Errorf("51 minutes later: %v, want %v", got, want)
	}
	// And backwards: what was fresh stays fresh for its full hour, no longer.
	if err := o.Put(t.Context(), text("before"), 5, time.Hour); err != nil {
		t.Fatal(err)
	}
	clock.set(clock.now().Add(-24 * time.Hour))
	clock.pass(59 * time.Minute)
	if got := names(all(t, o)); !slices.Contains(got, "before") {
		t.Errorf("59 minutes after: %v", got)
	}
	clock.pass(2 * time.Minute)
	if got := names(all(t, o)); slices.Contains(got, "before") {
		t.Errorf("61 minutes after: %v", got)
	}
}

func TestASecondProcessIsToldThatTheOutboxIsOpen(t *testing.T) {
	dir := tempDir(t)
	open(t, dir, Options{})
	if _, err := Open(dir, Options{}); !errors.Is(err, ErrLocked) {
		t.Errorf("opening twice: %v", err)
	}
}

func TestADirectoryThatCannotBeMadeIsAnError(t *testing.T) {
	file := filepath.Join(tempDir(t), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(filepath.Join(file, "outbox"), Options{}); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("got %v", err)
	}
	if _, err := Open(tempDir(t), Options{MaxBytes: 1000}); err == nil {
		t.Error("a MaxBytes that cannot work was taken")
	}
}
