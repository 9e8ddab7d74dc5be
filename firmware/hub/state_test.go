package hub

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func openForTest(t *testing.T, dir string, now func() time.Time) *State {
	t.Helper()
	s, err := OpenState(dir, now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestStateIsPrivate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "state")
	h, err := New(Options{State: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	if _, err := h.AddDevice("pi"); err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(dir); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("%s: %v, %v", dir, st.Mode(), err)
	}
	files := 0
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		files++
		st, err := d.Info()
		if err != nil {
			return err
		}
		want := fs.FileMode(0o600)
		if name := d.Name(); name == "ca.pem" || name == "server.pem" {
			want = 0o644
		}
		if st.Mode().Perm() != want {
			t.Errorf("%s: %v, want %v", d.Name(), st.Mode().Perm(), want)
		}
		return nil
	})
	if err != nil || files < 7 {
		t.Errorf("%d files, %v", files, err)
	}
}

func TestStateHasOneUser(t *testing.T) {
	dir := t.TempDir()
	s := openForTest(t, dir, nil)
	if _, err := openState(dir, nil, 0); !errors.Is(err, ErrStateInUse) || !strings.Contains(err.Error(), "--state") {
		t.Errorf("second user: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	openForTest(t, dir, nil)
}

func TestDamagedStateIsNamed(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "hub.db"), bytes.Repeat([]byte("not a database "), 1000), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenState(dir, nil); err == nil || !strings.Contains(err.Error(), "damaged") || !strings.Contains(err.Error(), dir) {
		t.Errorf("error %v", err)
	}
	if _, err := OpenState("", nil); err == nil {
		t.Error("no folder, no error")
	}
}

func TestNewerStateIsRefused(t *testing.T) {
	dir := t.TempDir()
	s := openForTest(t, dir, nil)
	if _, err := s.write.Exec(`PRAGMA user_version = 99`); err != nil {
		t.Fatal(err)
	}
	s.Close()
	if _, err := OpenState(dir, nil); err == nil || !strings.Contains(err.Error(), "version 99") {
		t.Errorf("error %v", err)
	}
}

func TestDefaultState(t *testing.T) {
	t.Setenv("TUXHUB_STATE", "/somewhere")
	if got := DefaultState(); got != "/somewhere" {
		t.Errorf("from the environment %s", got)
	}
	t.Setenv("TUXHUB_STATE", "")
	t.Setenv("XDG_STATE_HOME", "/xdg")
	want := "/xdg/tuxhub"
	if os.Geteuid() == 0 {
		want = "/var/lib/tuxhub"
	}
	if got := DefaultState(); got != want {
		t.Errorf("default %s, want %s", got, want)
	}
}

func TestSynchronous(t *testing.T) {
	s := openForTest(t, t.TempDir(), nil)
	var mode string
	var level, keys int
	if err := s.write.QueryRow(`PRAGMA journal_mode`).Scan(&mode); err != nil || mode != "wal" {
		t.Errorf("journal_mode %s, %v", mode, err)
	}
	if err := s.write.QueryRow(`PRAGMA synchronous`).Scan(&level); err != nil || level != 2 {
		t.Errorf("synchronous %d, %v", level, err)
	}
	if err := s.write.QueryRow(`PRAGMA foreign_keys`).Scan(&keys); err != nil || keys != 1 {
		t.Errorf("foreign_keys %d, %v", keys, err)
	}
}

func TestRegistry(t *testing.T) {
	s := openForTest(t, t.TempDir(), nil)
	for _, id := range []string{"", "a b", "a/b", "a+", "#", strings.Repeat("x", 129), "ü"} {
		if _, err := s.AddDevice(id); !errors.Is(err, ErrDeviceID) {
			t.Errorf("%q: %v", id, err)
		}
	}
	if _, err := s.AddDevice("b"); err != nil {
		t.Fatal(err)
	}
	a, err := s.AddDevice("a")
	if err != nil {
		t.Fatal(err)
	}
	if len(a.PrimaryKey) != 44 || a.PrimaryKey == a.SecondaryKey || !a.Enabled {
		t.Errorf("device %+v", a)
	}
	if _, err := s.AddDevice("a"); !errors.Is(err, ErrDeviceExists) {
		t.Errorf("twice: %v", err)
	}
	if got, err := s.Device("a"); err != nil || got != a {
		t.Errorf("%+v, %v, want %+v", got, err, a)
	}
	all, err := s.Devices()
	if err != nil || len(all) != 2 || all[0] != a || all[1].ID != "b" {
		t.Errorf("devices %+v, %v", all, err)
	}
	if _, err := s.SetDesired(context.Background(), "a", []byte(`{"x":1}`)); err != nil {
		t.Error(err)
	}
	for _, err := range []error{s.RemoveDevice("nobody"), s.SetEnabled("nobody", true)} {
		if !errors.Is(err, ErrDeviceNotFound) {
			t.Errorf("nobody: %v", err)
		}
	}
	if _, err := s.RegenerateKeys("nobody"); !errors.Is(err, ErrDeviceNotFound) {
		t.Errorf("nobody: %v", err)
	}
	// A device of the same name begins without the twin of the first.
	if err := s.RemoveDevice("a"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.AddDevice("a"); err != nil {
		t.Fatal(err)
	}
	if tw, err := s.Twin(context.Background(), "a"); err != nil || tw.Desired.Version != 1 || len(tw.Desired.Values) != 0 {
		t.Errorf("twin %+v, %v", tw, err)
	}
}

// put stores events of a size and gives what is kept.
func kept(t *testing.T, r Retention, now func() time.Time, steps ...func(c *committer)) []string {
	t.Helper()
	s := openForTest(t, t.TempDir(), now)
	c, err := newCommitter(s, r, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range steps {
		step(c)
	}
	var bodies []string
	total := int64(0)
	for e, err := range s.StoredEvents(context.Background(), 0, Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		bodies = append(bodies, string(e.Body))
		total += int64(e.size())
	}
	if c.kept != int64(len(bodies)) || c.bytes != total {
		t.Errorf("the committer believes in %d events and %d bytes, there are %d and %d", c.kept, c.bytes, len(bodies), total)
	}
	return bodies
}

func TestRetention(t *testing.T) {
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	now := func() time.Time { return at }
	store := func(bodies ...string) func(*committer) {
		return func(c *committer) {
			var all []*pendingEvent
			for _, b := range bodies {
				all = append(all, &pendingEvent{event: Event{Device: "pi", Time: now(), Body: []byte(b)}, done: make(chan struct{})})
			}
			for _, p := range all {
				if !c.put(context.Background(), p) {
					t.Fatal("not taken")
				}
			}
			c.commit(<-c.queue)
			for _, p := range all {
				<-p.done
				if p.err != nil {
					t.Error(p.err)
				}
			}
		}
	}
	later := func(d time.Duration) func(*committer) { return func(*committer) { at = at.Add(d) } }
	trim := func(c *committer) {
		if err := c.trim(); err != nil {
			t.Error(err)
		}
	}
	many := make([]string, 300)
	for i := range many {
		many[i] = fmt.Sprintf("%03d", i)
	}
	for _, tt := range []struct {
		name  string
		r     Retention
		steps []func(*committer)
		want  []string
	}{
		{"by number", Retention{Events: 2}, []func(*committer){store("a"), store("b", "c"), store("d")}, []string{"c", "d"}},
		{"by number, in one batch", Retention{Events: 3}, []func(*committer){store(many...)}, many[297:]},
		{"by bytes", Retention{Bytes: 10}, []func(*committer){store("aaaa", "bbbb"), store("cccc")}, []string{"bbbb", "cccc"}},
		{"by bytes, none fits", Retention{Bytes: 3}, []func(*committer){store("aaaa")}, nil},
		{"by age", Retention{Age: time.Hour}, []func(*committer){store("a"), later(time.Minute), store("b"), later(time.Hour - time.Second), trim}, []string{"b"}},
		{"by age, all", Retention{Age: time.Hour}, []func(*committer){store(many...), later(2 * time.Hour), trim}, nil},
		{"no bound", Retention{}, []func(*committer){store(many...), later(1e6 * time.Hour), trim}, many},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := kept(t, tt.r, now, tt.steps...); fmt.Sprint(got) != fmt.Sprint(tt.want) {
				t.Errorf("kept %v, want %v", got, tt.want)
			}
		})
	}
}

// A smaller retention holds for what is there already, and numbers go on.
func TestRetentionAtStart(t *testing.T) {
	dir := t.TempDir()
	s := openForTest(t, dir, nil)
	c, err := newCommitter(s, Retention{}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	store := func() *pendingEvent {
		p := &pendingEvent{event: Event{Device: "pi", Time: time.Now()}, done: make(chan struct{})}
		c.put(context.Background(), p)
		c.commit(<-c.queue)
		return p
	}
	for range 5 {
		store()
	}
	s.Close()
	s = openForTest(t, dir, nil)
	if c, err = newCommitter(s, Retention{Events: 1}, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	p := store()
	if p.event.Seq != 6 || c.kept != 1 {
		t.Errorf("number %d, %d kept", p.event.Seq, c.kept)
	}
	if last, err := s.LastSeq(); err != nil || last != 6 {
		t.Errorf("last %d, %v", last, err)
	}
}

// Events that wait for the database are bounded in bytes, and let go of when stored.
func TestCommitterMemoryIsBounded(t *testing.T) {
	s := openForTest(t, t.TempDir(), nil)
	c, err := newCommitter(s, Retention{}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	full, cancel := context.WithCancel(context.Background())
	cancel()
	body := make([]byte, MaxEventSize)
	p := func() *pendingEvent {
		return &pendingEvent{event: Event{Device: "pi", Body: body}, done: make(chan struct{})}
	}
	for i := range commitQueueBytes / MaxEventSize {
		if !c.put(context.Background(), p()) {
			t.Fatalf("event %d is not taken", i)
		}
	}
	if c.put(full, p()) {
		t.Error("one more than there is room for is taken")
	}
	for len(c.queue) > 0 {
		c.commit(<-c.queue)
	}
	if !c.room.TryAcquire(commitQueueBytes) {
		t.Error("room has not been given back")
	}
}

func TestCertificates(t *testing.T) {
	dir := t.TempDir()
	at := time.Now()
	now := func() time.Time { return at }
	load := func(hosts ...string) (*certificates, *x509.Certificate) {
		t.Helper()
		c, err := loadCertificates(dir, hosts, now)
		if err != nil {
			t.Fatal(err)
		}
		pair, err := c.config().GetCertificate(&tls.ClientHelloInfo{})
		if err != nil {
			t.Fatal(err)
		}
		return c, pair.Leaf
	}
	check := func(leaf *x509.Certificate, names ...string) {
		t.Helper()
		ca, err := os.ReadFile(CAFile(dir))
		if err != nil {
			t.Fatal(err)
		}
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(ca)
		for _, name := range names {
			if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: name, CurrentTime: at}); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	c, first := load()
	check(first, "localhost", "127.0.0.1", "::1")
	ca := c.authority
	_, again := load()
	if !again.Equal(first) {
		t.Error("a good certificate was replaced")
	}
	_, named := load("hub.example.org", "10.0.2.2")
	check(named, "localhost", "hub.example.org", "10.0.2.2")

	// A hub that keeps running renews it as well.
	c, leaf := load()
	at = leaf.NotAfter.Add(-serverCertRenew + time.Minute)
	renewed, err := c.certificate(nil)
	if err != nil || renewed.Leaf.Equal(leaf) {
		t.Fatalf("not renewed: %v", err)
	}
	check(renewed.Leaf, "localhost")
	// A clock that was far behind, when it is right again: the authority stays.
	at = time.Date(1970, 1, 1, 0, 5, 0, 0, time.UTC)
	c, _ = load()
	at = time.Now()
	leafNow, err := c.certificate(nil)
	if err != nil {
		t.Fatal(err)
	}
	check(leafNow.Leaf, "localhost")
	if !c.authority.Equal(ca) {
		t.Error("the authority has changed")
	}
	// A damaged server certificate is made anew; the authority is not, without being told.
	if err := os.WriteFile(filepath.Join(dir, "server.pem"), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	_, leaf = load()
	check(leaf, "localhost")
	if err := os.Remove(filepath.Join(dir, "ca-key.pem")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(CAFile(dir), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "ca-key.pem"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := loadCertificates(dir, nil, now); err == nil || !strings.Contains(err.Error(), "ca.pem") {
		t.Errorf("damaged authority: %v", err)
	}
}

func TestAddressInUse(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	taken := l.Addr().String()
	for flag, opts := range map[string]Options{"--tls-listen": {TLSListen: taken}, "--listen": {Listen: taken}, "--http": {HTTPListen: taken}} {
		opts.State = t.TempDir()
		_, err := New(opts)
		if !errors.Is(err, ErrListen) || !strings.Contains(err.Error(), flag) || !strings.Contains(err.Error(), taken) {
			t.Errorf("%s: %v", flag, err)
		}
		// The folder is free again.
		openForTest(t, opts.State, nil)
	}
	if _, err := New(Options{State: t.TempDir(), Hosts: []string{"a b"}}); err == nil {
		t.Error("bad host name accepted")
	}
}

// The socket must work in folders whose path is longer than a socket's may be,
// and after a hub that was killed has left one behind.
func TestSocketInADeepFolder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("x", 100), strings.Repeat("y", 100))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := NewClient(dir).Status(context.Background()); !errors.Is(err, ErrNotRunning) {
		t.Errorf("without a hub: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, socketName), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	h, err := New(Options{State: dir})
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- h.Serve(context.Background()) }()
	if st, err := NewClient(dir).Status(context.Background()); err != nil || st.CAFile != CAFile(dir) {
		t.Errorf("status %+v, %v", st, err)
	}
	if err := h.Serve(context.Background()); err == nil {
		t.Error("served twice")
	}
	if err := errors.Join(h.Close(), <-served, h.Close()); err != nil {
		t.Error(err)
	}
	if err := h.Serve(context.Background()); err != nil {
		t.Errorf("serve after close: %v", err)
	}
	if _, err := NewClient(dir).Status(context.Background()); !errors.Is(err, ErrNotRunning) {
		t.Errorf("after it ended: %v", err)
	}
}

// The API over TCP: what it serves, and whom.
func TestHTTPGuards(t *testing.T) {
	h, err := New(Options{State: t.TempDir(), HTTPListen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	if _, err := h.AddDevice("pi"); err != nil {
		t.Fatal(err)
	}
	do := func(method, path string, change func(*http.Request)) int {
		r := httptest.NewRequest(method, "http://localhost:8080"+path, strings.NewReader(`{"a":1}`))
		if change != nil {
			change(r)
		}
		w := httptest.NewRecorder()
		h.tcpHandler().ServeHTTP(w, r)
		return w.Code
	}
	local := []struct {
		name, method, path string
		change             func(*http.Request)
		want               int
	}{
		{"status", "GET", "/v1/status", nil, 200},
		{"stats", "GET", "/v1/stats", nil, 200},
		{"twin", "GET", "/v1/devices/pi/twin", nil, 200},
		{"by number", "GET", "/v1/status", func(r *http.Request) { r.Host = "[::1]:8080" }, 200},
		{"change of a twin", "PATCH", "/v1/devices/pi/twin/desired", nil, 200},
		{"twin of nobody", "GET", "/v1/devices/nobody/twin", nil, 404},
		{"offline device", "POST", "/v1/devices/pi/methods/reset", nil, 404},
		{"bad timeout", "POST", "/v1/devices/pi/methods/reset?timeout=x", nil, 400},
		{"message", "POST", "/v1/devices/pi/messages", nil, 200},
		{"bad property", "POST", "/v1/devices/pi/messages", func(r *http.Request) { r.Header.Set(propertyHeader, "=x") }, 400},
		{"events", "GET", "/v1/events?after=0", nil, 200},
		{"bad number", "GET", "/v1/events?after=x", nil, 400},
		{"bad time", "GET", "/v1/events?since=x", nil, 400},
		{"no registry", "GET", "/v1/devices", nil, 404},
		{"no keys", "GET", "/v1/devices/pi", nil, 404},
		{"no new keys", "POST", "/v1/devices/pi/keys", nil, 404},
		{"a name made to point here", "GET", "/v1/status", func(r *http.Request) { r.Host = "evil.example:8080" }, 421},
		{"another page in a browser", "PATCH", "/v1/devices/pi/twin/desired", func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") }, 403},
		{"too large", "POST", "/v1/devices/pi/messages", func(r *http.Request) {
			r.Body = http.NoBody
			big := httptest.NewRequest("POST", "/", bytes.NewReader(make([]byte, maxRequestBody+1)))
			r.Body, r.ContentLength = big.Body, big.ContentLength
		}, 413},
	}
	for _, tt := range local {
		if got := do(tt.method, tt.path, tt.change); got != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, got, tt.want)
		}
	}
	// As beyond loopback: only with the token, which is kept.
	if h.httpToken, err = loadToken(h.Dir()); err != nil || len(h.httpToken) < 32 {
		t.Fatalf("token %q, %v", h.httpToken, err)
	}
	if again, err := loadToken(h.Dir()); err != nil || again != h.httpToken {
		t.Errorf("token %q, %v", again, err)
	}
	bearer := func(token string) func(*http.Request) {
		return func(r *http.Request) { r.Host = "hub.example.org"; r.Header.Set("Authorization", token) }
	}
	for token, want := range map[string]int{"": 401, "Bearer": 401, "Bearer x": 401, "Bearer " + h.httpToken: 200} {
		if got := do("GET", "/v1/status", bearer(token)); got != want {
			t.Errorf("%q: %d, want %d", token, got, want)
		}
	}
	if err := os.WriteFile(filepath.Join(h.Dir(), tokenName), []byte("short\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := loadToken(h.Dir()); err == nil {
		t.Error("a short token is accepted")
	}
}
