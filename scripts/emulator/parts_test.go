package emulator

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/color"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/ssh"
)

func TestConsoleWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		read, write := io.Pipe()
		var copied bytes.Buffer
		console := newConsole(io.Discard)
		go console.collect(read, &copied)
		go func() {
			for _, part := range []string{"U-Boot 20", "25.01\nslot: ", "a\nlog", "in: "} {
				time.Sleep(time.Second)
				io.WriteString(write, part)
			}
		}()
		ctx := context.Background()
		match, err := console.Wait(ctx, 0, regexp.MustCompile(`slot: (\w)`))
		if err != nil || match[1] != "a" {
			t.Errorf("%q, %v", match, err)
		}
		if _, err := console.Wait(ctx, 0, regexp.MustCompile(`login:`)); err != nil {
			t.Error(err)
		}
		if text := console.Text(); text != "U-Boot 2025.01\nslot: a\nlogin: " || copied.String() != text || console.Len() != len(text) {
			t.Errorf("%q, copied as %q", text, copied.String())
		}
		// What was there before the offset does not count.
		short, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		if _, err := console.Wait(short, console.Len(), regexp.MustCompile(`U-Boot`)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("waiting for what does not come: %v", err)
		}
		go func() {
			time.Sleep(time.Second)
			write.Close()
		}()
		if _, err := console.Wait(ctx, 0, regexp.MustCompile(`never`)); err == nil || !strings.Contains(err.Error(), "the device is off") || !strings.Contains(err.Error(), "login:") {
			t.Errorf("waiting for a device that is off: %v", err)
		}
	})
}

// A fake QEMU: it greets, and answers with what the test has laid ready.
func TestMonitor(t *testing.T) {
	ours, theirs := net.Pipe()
	defer ours.Close()
	asked := make(chan string, 10)
	go func() {
		defer theirs.Close()
		fmt.Fprintln(theirs, `{"QMP": {"version": {}, "capabilities": []}}`)
		read := json.NewDecoder(theirs)
		for _, answers := range [][]string{
			{`{"return": {}}`},
			{`{"event": "RESET", "data": {}}`, `{"return": {}}`},
			{`{"error": {"class": "GenericError", "desc": "no such thing"}}`},
			{`{"return": "text"}`},
		} {
			var request json.RawMessage
			if read.Decode(&request) != nil {
				return
			}
			asked <- string(request)
			for _, line := range answers {
				fmt.Fprintln(theirs, line)
			}
		}
	}()
	m, err := newMonitor(ours)
	if err != nil {
		t.Fatal(err)
	}
	if got := <-asked; got != `{"execute":"qmp_capabilities"}` {
		t.Errorf("it began with %s", got)
	}
	if err := m.set("/machine", "temperature", 31500); err != nil {
		t.Error(err)
	}
	if got := <-asked; got != `{"arguments":{"path":"/machine","property":"temperature","value":31500},"execute":"qom-set"}` {
		t.Errorf("it asked %s", got)
	}
	if err := m.do("stop", nil, nil); err == nil || !strings.Contains(err.Error(), "no such thing") {
		t.Errorf("a refused command: %v", err)
	}
	var text string
	if err := m.do("human-monitor-command", nil, &text); err != nil || text != "text" {
		t.Errorf("%q, %v", text, err)
	}
	if err := m.do("stop", nil, nil); err == nil {
		t.Error("QEMU is gone, and a command succeeded")
	}
}

func TestPictureAsACameraSendsIt(t *testing.T) {
	// Twice as wide as high: grey above and below, the left half red, the right
	// half white.
	picture := image.NewRGBA(image.Rect(0, 0, 200, 100))
	for y := range 100 {
		for x := range 200 {
			c := color.RGBA{255, 0, 0, 255}
			if x >= 100 {
				c = color.RGBA{255, 255, 255, 255}
			}
			picture.SetRGBA(x, y, c)
		}
	}
	raw := yuyv(picture)
	if len(raw) != 640*480*2 {
		t.Fatalf("%d bytes", len(raw))
	}
	at := func(x, y int) [4]byte { return [4]byte(raw[(y*640+x)*2:]) }
	near := func(a, b [4]byte) bool {
		for i := range a {
			if d := int(a[i]) - int(b[i]); d > 2 || d < -2 {
				return false
			}
		}
		return true
	}
	for _, c := range []struct {
		x, y int
		want [4]byte // Y, Cb, Y, Cr of BT.601 in limited range
	}{
		{0, 0, [4]byte{126, 128, 126, 128}},
		{638, 479, [4]byte{126, 128, 126, 128}},
		{100, 240, [4]byte{81, 90, 81, 240}},
		{500, 240, [4]byte{235, 128, 235, 128}},
	} {
		if got := at(c.x, c.y); !near(got, c.want) {
			t.Errorf("at %d, %d: %v, want %v", c.x, c.y, got, c.want)
		}
	}
}

func TestKeyIsKept(t *testing.T) {
	file := filepath.Join(t.TempDir(), "key")
	first, err := Key(file)
	if err != nil {
		t.Fatal(err)
	}
	second, err := Key(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first.PublicKey().Marshal(), second.PublicKey().Marshal()) {
		t.Error("another key the second time")
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key's file: %v, %v", info.Mode(), err)
	}
	if public, _, _, _, err := ssh.ParseAuthorizedKey(AuthorizedKey(first)); err != nil || !bytes.Equal(public.Marshal(), first.PublicKey().Marshal()) {
		t.Errorf("its line for authorized_keys: %v", err)
	}
	if err := os.WriteFile(file, []byte("no key"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Key(file); err == nil {
		t.Error("a file that is no key was taken for one")
	}
}

func TestFindImage(t *testing.T) {
	dir := t.TempDir()
	if _, err := FindImage(dir); err == nil || !strings.Contains(err.Error(), "make image") {
		t.Errorf("no image: %v", err)
	}
	for i, name := range []string{"tuxwatch-2-arm64.img", "tuxwatch-1-arm64.img", "other.img", "tuxwatch-1-arm64.img.xz"} {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		when := time.Unix(int64(1000*i), 0)
		if err := os.Chtimes(file, when, when); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := FindImage(dir); err != nil || filepath.Base(got) != "tuxwatch-1-arm64.img" {
		t.Errorf("%s, %v", got, err)
	}
}
