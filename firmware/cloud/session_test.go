package cloud

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"tuxwatch/firmware/hub"
	"tuxwatch/firmware/outbox"
)

func TestAMessageOfHigherPriorityDoesNotWaitForTheBacklog(t *testing.T) {
	var mu sync.Mutex
	var received []string
	step := make(chan struct{})
	h := startFakeHub(t, func(c *connectionToHub) {
		for p := c.next(); p != nil; p = c.next() {
			mu.Lock()
			received = append(received, messageID(p))
			mu.Unlock()
			<-step
			c.puback(p.MessageID)
		}
	})
	config := h.config(t)
	config.Window = 2
	o := openOutbox(t)
	for i := range 20 {
		put(t, o, 9, numbered(i))
	}
	run(t, config, o, nil)
	seen := func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(received)
	}
	eventually(t, "the first came", func() bool { return len(seen()) == 1 })
	put(t, o, 0, "urgent")
	close(step)
	eventually(t, "the outbox is empty", func() bool { return o.Stats().Depth == 0 })
	if i := slices.Index(seen(), "urgent"); i < 0 || i > 5 {
		t.Errorf("it came as number %d: %v", i, seen())
	}
}

func TestStoppingWaitsForWhatIsInFlight(t *testing.T) {
	got := make(chan struct{})
	proceed := make(chan struct{})
	h := startFakeHub(t, func(c *connectionToHub) {
		p := c.next()
		close(got)
		<-proceed
		c.puback(p.MessageID)
		c.next()
	})
	o := openOutbox(t)
	put(t, o, 5, "a")
	c, stop := run(t, h.config(t), o, nil)
	<-got
	stopped := make(chan struct{})
	go func() { stop(); close(stopped) }()
	close(proceed)
	<-stopped
	if s := c.State(); s.Acked != 1 || s.Status != Stopped {
		t.Errorf("%+v", s)
	}
}

// A suspect is held back only for something else to be sent. When that turns
// out not to be there, the suspect must not wait for ever.
func TestASuspectIsNotHeldBackForNothing(t *testing.T) {
	o, err := outbox.Open(t.TempDir(), outbox.Options{Logger: logger(t), DeleteDelay: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	put(t, o, 5, "a", "b")
	records, err := o.NewReader().Next(t.Context(), 2)
	if err != nil {
		t.Fatal(err)
	}
	h := startFakeHub(t, func(c *connectionToHub) {
		for p := c.next(); p != nil; p = c.next() {
			switch {
			case c.number == 1 && messageID(p) == "b":
				return
			case c.number == 2:
				// From here on only the count knows of b.
				o.Delete(records[1].ID)
				return
			case c.number > 2:
				c.puback(p.MessageID)
			}
		}
	})
	config := h.config(t)
	config.MaxAttempts = 1
	c, stop := run(t, config, o, nil)
	eventually(t, "a is acknowledged", func() bool { return c.State().Acked == 1 })
	if s := c.State(); s.SetAside != 0 || s.Connections != 3 {
		t.Errorf("%+v", s)
	}
	stop()
}

func TestStoppingIsQuickWhileConnecting(t *testing.T) {
	// A hub that takes the connection and never answers CONNECT.
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	accepted := make(chan net.Conn, 1)
	go func() {
		if conn, err := listener.Accept(); err == nil {
			accepted <- conn
		}
	}()
	config := (&fakeHub{listener: listener}).config(t)
	_, stop := run(t, config, openOutbox(t), nil)
	conn := <-accepted
	start := time.Now()
	stop()
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("stopping took %v", took)
	}
	conn.Close()
	listener.Close()
}

func TestWithoutAHubMessagesAreQueued(t *testing.T) {
	o := openOutbox(t)
	put(t, o, 5, "a")
	c, stop := run(t, DefaultConfig(), o, nil)
	if s := c.State(); s.Status != NotConfigured {
		t.Errorf("%+v", s)
	}
	stop()
	if o.Stats().Depth != 1 {
		t.Errorf("%+v", o.Stats())
	}
}

// BenchmarkDrain is the way from the outbox to the hub's disk and back, with
// the window of the default configuration.
func BenchmarkDrain(b *testing.B) {
	quiet := slog.New(slog.NewTextHandler(io.Discard, nil))
	h, _ := startHub(b, hub.Options{})
	config := azureConfig(b, h)
	o, err := outbox.Open(filepath.Join(b.TempDir(), "outbox"), outbox.Options{Logger: quiet})
	if err != nil {
		b.Fatal(err)
	}
	defer o.Close()
	var group sync.WaitGroup
	const writers = 8
	for w := range writers {
		group.Go(func() {
			for i := w; i < b.N; i += writers {
				if err := o.Put(context.Background(), text(fmt.Sprint(i)), 5, 0); err != nil {
					b.Error(err)
				}
			}
		})
	}
	group.Wait()
	c, err := New(config, o, nil, quiet)
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	b.ResetTimer()
	group.Go(func() { c.Run(ctx) })
	for c.State().Acked < int64(b.N) {
		time.Sleep(time.Millisecond)
	}
	b.StopTimer()
	cancel()
	group.Wait()
}
