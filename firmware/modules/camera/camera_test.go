package camera

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/jpeg"
	"image/png"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"tuxwatch/drivers/v4l2/uapi"
	"tuxwatch/firmware/edge"
	"tuxwatch/firmware/edge/edgetest"
	"tuxwatch/firmware/message"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// quick is the module with pauses fit for tests.
func quick(cameras uapi.System) edge.Kind {
	return kind(environment{cameras: cameras, retryMin: time.Millisecond, retryMax: 20 * time.Millisecond, grace: 200 * time.Millisecond})
}

// settings are the defaults with changes.
func settings(change func(*Settings)) *Settings {
	s := Kind().Settings().(*Settings)
	change(s)
	return s
}

const fast = `{"FramesPerSecond":30}`

// photo returns a JPEG that differs for each n.
func photo(t testing.TB, n int) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := jpeg.Encode(&b, sample(n), nil); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func sample(n int) image.Image {
	img := image.NewGray(image.Rect(0, 0, 32, 24))
	for i := range img.Pix {
		img.Pix[i] = byte(i*7 + n*31)
	}
	return img
}

func write(t testing.TB, dir, name string, content []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// sequence returns the number of a picture.
func sequence(t testing.TB, m message.Message) int {
	t.Helper()
	n, err := strconv.Atoi(m.Properties[PropertySequence])
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestDirectoryInTurn(t *testing.T) {
	dir := t.TempDir()
	var b bytes.Buffer
	if err := png.Encode(&b, sample(9)); err != nil {
		t.Fatal(err)
	}
	write(t, dir, "c.png", b.Bytes())
	write(t, dir, "a.JPG", photo(t, 1))
	write(t, dir, "b.jpeg", photo(t, 2))
	write(t, dir, ".hidden.jpg", photo(t, 3))
	write(t, dir, "notes.txt", []byte("no picture"))
	if err := os.Mkdir(filepath.Join(dir, "folder.jpg"), 0o700); err != nil {
		t.Fatal(err)
	}
	before := time.Now()
	h := edgetest.Start(t, quick(nil), settings(func(s *Settings) { s.Path = dir }), fast)
	want := []struct {
		name, contentType string
		body              []byte
	}{{"a.JPG", "image/jpeg", photo(t, 1)}, {"b.jpeg", "image/jpeg", photo(t, 2)}, {"c.png", "image/png", b.Bytes()}}
	last := -1
	for range 7 {
		m := h.Next(Output)
		n := sequence(t, m) // on a busy machine one may be dropped
		w := want[n%3]
		if m.Properties[PropertySource] != w.name || m.ContentType != w.contentType || !bytes.Equal(m.Body, w.body) {
			t.Errorf("picture %d: %v, %s, %d bytes; want %s", n, m.Properties, m.ContentType, len(m.Body), w.name)
		}
		if n <= last {
			t.Errorf("picture %d after %d", n, last)
		}
		last = n
		captured, err := time.Parse(time.RFC3339Nano, m.Properties[PropertyTime])
		if err != nil || captured.Before(before.Add(-time.Second)) || captured.After(time.Now().Add(time.Second)) {
			t.Errorf("captured at %v, %v", captured, err)
		}
	}
	h.Eventually(func(s edge.ModuleStatus) bool { return s.Healthy && s.Counters["frames_sent"] >= 7 })
}

func TestDirectoryChangesAreSeen(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "later")
	h := edgetest.Start(t, quick(nil), settings(func(s *Settings) { s.Path = dir }), fast)
	unhealthy := func(cause string) {
		t.Helper()
		h.Eventually(func(s edge.ModuleStatus) bool {
			return s.State == edge.Running && !s.Healthy && strings.Contains(s.Cause, cause)
		})
	}
	unhealthy("there is no folder " + dir)
	write(t, filepath.Dir(dir), "later", nil)
	unhealthy("is not a folder")
	os.Remove(dir)
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	unhealthy("holds no pictures: put .jpg")
	write(t, dir, "one.jpg", photo(t, 1))
	h.Eventually(func(s edge.ModuleStatus) bool { return s.Healthy })
	if m := h.Next(Output); m.Properties[PropertySource] != "one.jpg" {
		t.Error(m.Properties)
	}
	write(t, dir, "two.jpg", photo(t, 2))
	for h.Next(Output).Properties[PropertySource] != "two.jpg" {
	}
	os.Remove(filepath.Join(dir, "one.jpg"))
	// At most the pictures that were on their way are still the old one.
	for same := 0; same < 3; same++ {
		if h.Next(Output).Properties[PropertySource] == "one.jpg" {
			same = -1
		}
	}
	os.RemoveAll(dir)
	unhealthy("there is no folder")
	if s := h.Status(); s.Restarts != 0 {
		t.Errorf("the module was restarted: %+v", s)
	}
}

// A new picture has its turn where its name puts it, in this round.
func TestDirectorySeesANewPictureInThisRound(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "a.jpg", photo(t, 1))
	write(t, dir, "c.jpg", photo(t, 3))
	d, err := openDirectory(dir, 1<<20, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"a.jpg", "b.jpg", "c.jpg", "a.jpg"} {
		p, err := d.next(t.Context())
		if err != nil || p.source != want {
			t.Fatalf("picture %d is %s, %v; want %s", i, p.source, err, want)
		}
		if i == 0 {
			write(t, dir, "b.jpg", photo(t, 2))
			// The file system's clock may not have ticked.
			later := time.Now().Add(time.Minute)
			if err := os.Chtimes(dir, later, later); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestDirectorySkipsWhatCannotBeUsed(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "a.jpg", []byte("not a picture"))
	write(t, dir, "b.jpg", append(photo(t, 1), make([]byte, 5000)...))
	write(t, dir, "c.jpg", nil)
	if err := os.Symlink("nowhere", filepath.Join(dir, "d.jpg")); err != nil {
		t.Fatal(err)
	}
	if err := mkfifo(filepath.Join(dir, "e.jpg")); err != nil {
		t.Fatal(err)
	}
	h := edgetest.Start(t, quick(nil), settings(func(s *Settings) { s.Path = dir; s.MaxPictureBytes = 5000 }), fast)
	h.Eventually(func(s edge.ModuleStatus) bool {
		return !s.Healthy && strings.Contains(s.Cause, "no file in the folder") && strings.Contains(s.Cause, "a.jpg is neither a JPEG nor a PNG") && s.Counters["files_skipped"] >= 4
	})
	write(t, dir, "z.jpg", photo(t, 2))
	for range 3 {
		if m := h.Next(Output); m.Properties[PropertySource] != "z.jpg" {
			t.Errorf("sent %s", m.Properties[PropertySource])
		}
	}
	h.Eventually(func(s edge.ModuleStatus) bool { return s.Healthy })
}

// A receiver that takes its time gets the newest picture next, and the number
// of those it missed is counted.
func TestSlowReceiverDropsPictures(t *testing.T) {
	dir := t.TempDir()
	for n := range 10 {
		write(t, dir, fmt.Sprintf("%d.jpg", n), photo(t, n))
	}
	entered, leave := make(chan int), make(chan struct{})
	h := edgetest.Start(t, quick(nil), settings(func(s *Settings) { s.Path = dir }), `{"FramesPerSecond":0}`)
	h.Refuse(func(_ string, m message.Message) error {
		entered <- sequence(t, m)
		<-leave
		return nil
	})
	if err := h.SetDesired(fast); err != nil {
		t.Fatal(err)
	}
	first := <-entered
	h.Eventually(func(s edge.ModuleStatus) bool { return s.Counters["frames_dropped"] >= 5 })
	dropped := int(h.Status().Counters["frames_dropped"])
	leave <- struct{}{}
	second := <-entered
	if second <= first+dropped {
		t.Errorf("after picture %d came %d, though %d were dropped in between", first, second, dropped)
	}
	h.Refuse(nil)
	leave <- struct{}{}
	h.Eventually(func(s edge.ModuleStatus) bool { return s.Counters["frames_sent"] >= 3 })
}

func TestRefusedPictureIsNotRepeated(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "a.jpg", photo(t, 1))
	h := edgetest.Start(t, quick(nil), settings(func(s *Settings) { s.Path = dir }), `{"FramesPerSecond":0}`)
	refused := make(chan int, 1)
	h.Refuse(func(_ string, m message.Message) error {
		select {
		case refused <- sequence(t, m):
			return errors.New("not now")
		default:
			return nil
		}
	})
	if err := h.SetDesired(fast); err != nil {
		t.Fatal(err)
	}
	if m := h.Next(Output); sequence(t, m) <= <-refused {
		t.Errorf("the refused picture was sent again")
	}
	h.Eventually(func(s edge.ModuleStatus) bool { return s.Counters["frames_refused"] == 1 && s.Healthy })
}

func TestFramesPerSecondIsChecked(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "a.jpg", photo(t, 1))
	h := edgetest.Start(t, quick(nil), settings(func(s *Settings) { s.Path = dir }), fast)
	h.Next(Output)
	for _, bad := range []string{`{"FramesPerSecond":-1}`, `{"FramesPerSecond":31}`, `{"FramesPerSecond":"fast"}`} {
		if err := h.SetDesired(bad); err == nil {
			t.Errorf("%s was taken", bad)
		}
	}
	h.Next(Output)
	if err := h.SetDesired(`{"FramesPerSecond":0}`); err != nil {
		t.Fatal(err)
	}
	// What was on its way still comes; then nothing more is captured.
	sent := int64(-1)
	h.Eventually(func(s edge.ModuleStatus) bool {
		still := sent == s.Counters["frames_captured"]
		sent = s.Counters["frames_captured"]
		return still
	})
}

func TestPace(t *testing.T) {
	clock := time.Unix(1000, 0)
	p := newPace(func() time.Time { return clock })
	if _, running := p.left(); running {
		t.Error("a pace that was not set runs")
	}
	p.set(2)
	steps := []struct {
		advance, left time.Duration
	}{
		{0, 0}, // the first is due at once
		{0, 500 * time.Millisecond},
		{400 * time.Millisecond, 100 * time.Millisecond},
		{150 * time.Millisecond, 0}, // 50 ms late …
		{0, 450 * time.Millisecond}, // … is made up for
		{10 * time.Second, 0},       // what was missed …
		{0, 500 * time.Millisecond}, // … is left out
		{500 * time.Millisecond, 0},
	}
	for i, s := range steps {
		clock = clock.Add(s.advance)
		if left, running := p.left(); left != s.left || !running {
			t.Errorf("step %d: %v left (%v), want %v", i, left, running, s.left)
		}
	}
	p.set(0.5)
	if left, _ := p.left(); left != 2*time.Second {
		t.Errorf("after a change: %v left", left)
	}
	p.set(0)
	if _, running := p.left(); running {
		t.Error("0 does not pause")
	}
	p.set(1e-300)
	if left, running := p.left(); !running || left > 24*time.Hour {
		t.Errorf("hardly ever: %v, %v", left, running)
	}
}

// However puts and takes fall together, every picture is taken once or replaced,
// and none twice.
func TestSlot(t *testing.T) {
	const pictures = 20000
	s := slot{ready: make(chan struct{}, 1)}
	ctx, cancel := context.WithCancel(t.Context())
	taken := make(chan int)
	go func() {
		defer close(taken)
		n, last := 0, -1
		for {
			p, err := s.take(ctx)
			if err != nil {
				taken <- n
				return
			}
			if p.sequence <= last {
				t.Errorf("picture %d after %d", p.sequence, last)
			}
			last = p.sequence
			n++
			if last == pictures-1 {
				cancel()
			}
		}
	}()
	replaced := 0
	for n := range pictures {
		if s.put(picture{sequence: n}) {
			replaced++
		}
	}
	if n := <-taken; n+replaced != pictures {
		t.Errorf("%d pictures were taken and %d replaced, of %d", n, replaced, pictures)
	}
}

// A picture that is put between the token and the taking leaves a token behind.
func TestSlotWithATokenTooMany(t *testing.T) {
	for range 30 { // a select chooses at random
		s := slot{ready: make(chan struct{}, 1)}
		s.put(picture{sequence: 1})
		<-s.ready
		s.put(picture{sequence: 2})
		if p, ok := s.grab(); !ok || p.sequence != 2 {
			t.Fatalf("took %d, %v", p.sequence, ok)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if p, err := s.take(ctx); err == nil {
			t.Fatalf("took %d out of nothing", p.sequence)
		}
	}
}

func TestSettings(t *testing.T) {
	if err := Kind().Settings().(*Settings).Validate(); err != nil {
		t.Errorf("the defaults: %v", err)
	}
	if err := Kind().Properties().(*Properties).Validate(); err != nil {
		t.Errorf("the default properties: %v", err)
	}
	for want, change := range map[string]func(*Settings){
		`source: "usb" is not one of`:       func(s *Settings) { s.Source = "usb" },
		"path: name the folder":             func(s *Settings) { s.Path = "" },
		"command: name a program":           func(s *Settings) { s.Source = SourceCommand },
		`format: "h264" is not one of auto`: func(s *Settings) { s.Source, s.Format = SourceV4L2, "h264" },
		"width, height: 0x480":              func(s *Settings) { s.Source, s.Width = SourceV4L2, 0 },
		"quality: 101":                      func(s *Settings) { s.Source, s.Quality = SourceV4L2, 101 },
		"max_picture_bytes: 5":              func(s *Settings) { s.MaxPictureBytes = 5 },
		"stall_timeout: 0s":                 func(s *Settings) { s.StallTimeout = 0 },
	} {
		if err := settings(change).Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
