package outbox

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"tuxwatch/firmware/message"
)

// shutDown stops an ext4 at once, as the power being cut would: what was not
// synced never reaches the device (fs/ext4/ioctl.c, EXT4_IOC_SHUTDOWN with
// EXT4_GOING_FLAGS_NOLOGFLUSH).
func shutDown(t *testing.T, dir string) {
	t.Helper()
	const (
		ioctlShutdown = 0x8004587d
		noLogFlush    = 2
	)
	d, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := unix.IoctlSetPointerInt(int(d.Fd()), ioctlShutdown, noLogFlush); err != nil {
		t.Skipf("NOT TESTED: shutting the file system down: %v", err)
	}
}

// A kill leaves what was written in the kernel's hands, so it shows nothing
// about fsync. This does: the file system is gone in the middle of puts, and
// what comes back after mounting it again is what had been synced.
func TestWhatWasAcknowledgedSurvivesTheLossOfEverythingNotSynced(t *testing.T) {
	onExt4(t, 8<<20, func(t *testing.T, dir, image string) {
		const writers = 4
		for round := range 5 {
			o, err := Open(filepath.Join(dir, "outbox"), Options{MaxBytes: 4 << 20, Logger: slog.New(slog.DiscardHandler)})
			if err != nil {
				t.Fatal(err)
			}
			var group sync.WaitGroup
			acknowledged := make([]int, writers)
			enough := make(chan struct{})
			once := sync.OnceFunc(func() { close(enough) })
			for w := range writers {
				group.Go(func() {
					for i := 1; ; i++ {
						m := message.Message{ID: strconv.Itoa(i), Source: message.Source{Module: strconv.Itoa(w)}, Body: make([]byte, 500)}
						if o.Put(context.Background(), m, w, 0) != nil {
							return // the power is off
						}
						acknowledged[w] = i
						if i == 20+37*round {
							once()
						}
					}
				})
			}
			<-enough
			shutDown(t, dir)
			group.Wait()
			o.Close() // fails, like everything now
			if err := unix.Unmount(dir, 0); err != nil {
				t.Fatal(err)
			}
			mount(t, "-o", "loop", image, dir)

			o = open(t, filepath.Join(dir, "outbox"), Options{MaxBytes: 4 << 20})
			if s := o.Stats(); s.Damaged != 0 {
				t.Errorf("round %d: damaged: %s", round, s.Damage)
			}
			found := make([]int, writers)
			for _, r := range all(t, o) {
				w, _ := strconv.Atoi(r.Message.Source.Module)
				if want := strconv.Itoa(found[w] + 1); r.Message.ID != want {
					t.Fatalf("round %d: writer %d: found %s, want %s", round, w, r.Message.ID, want)
				}
				found[w]++
				o.Delete(r.ID)
			}
			for w := range writers {
				if found[w] < acknowledged[w] {
					t.Errorf("round %d: writer %d: %d acknowledged, %d found", round, w, acknowledged[w], found[w])
				}
			}
			if err := o.Close(); err != nil {
				t.Fatal(err)
			}
			t.Logf("round %d: acknowledged %v, found %v", round, acknowledged, found)
		}
	})
}
