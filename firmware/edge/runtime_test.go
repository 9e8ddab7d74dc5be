package edge_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"tuxwatch/firmware/edge"
	"tuxwatch/firmware/edge/route"
	"tuxwatch/firmware/message"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 20 * time.Second

// scripted is a module whose Run is a function of the test.
type scripted func(ctx context.Context, c *edge.Client) error

func (s scripted) Run(ctx context.Context, c *edge.Client) error { return s(ctx, c) }

// levels are the desired properties of the tests' modules.
type levels struct {
	Threshold float64
	Name      string
}

func (l *levels) Validate() error {
	if l.Threshold > 100 {
		return fmt.Errorf("Threshold must be at most 100, not %v", l.Threshold)
	}
	return nil
}

type knobs struct{ Value int }

func kindOf(run scripted) edge.Kind {
	return edge.Kind{
		Name:       "scripted",
		Settings:   func() any { return &knobs{} },
		Properties: func() any { return &levels{Threshold: 25, Name: "default"} },
		New:        func(any) (edge.Module, error) { return run, nil },
	}
}

func module(id string, run scripted) edge.Instance { return edge.Instance{ID: id, Kind: kindOf(run)} }

// idle is a module that only is there.
func idle(ctx context.Context, c *edge.Client) error {
	c.Ready()
	<-ctx.Done()
	return nil
}

func routed(t *testing.T, name, text string) edge.Route {
	t.Helper()
	r, err := route.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return edge.Route{Name: name, Route: r, Priority: edge.LowestPriority}
}

// upstream records what reaches $upstream.
type upstream struct {
	mu  sync.Mutex
	got []put
	err error
}

type put struct {
	message.Message
	priority int
	ttl      time.Duration
}

func (u *upstream) Put(_ context.Context, m message.Message, priority int, ttl time.Duration) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.err != nil {
		return u.err
	}
	u.got = append(u.got, put{m, priority, ttl})
	return nil
}

func (u *upstream) bodies() []string {
	u.mu.Lock()
	defer u.mu.Unlock()
	var all []string
	for _, p := range u.got {
		all = append(all, string(p.Body))
	}
	return all
}

// device is a runtime under test.
type device struct {
	*edge.Runtime
	up   *upstream
	stop func()
}

func start(t *testing.T, opts edge.Options) *device {
	t.Helper()
	d := &device{up: &upstream{}}
	if opts.Upstream == nil {
		opts.Upstream = d.up
	}
	opts.RestartMin, opts.RestartMax = time.Millisecond, 10*time.Millisecond
	opts.Log = slog.New(slog.NewTextHandler(testLog{t}, nil))
	d.Runtime = edge.New(opts)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := d.Run(ctx); err != nil {
			t.Error(err)
		}
	}()
	d.stop = sync.OnceFunc(func() { cancel(); <-done })
	t.Cleanup(d.stop)
	settle, done2 := context.WithTimeout(ctx, patience)
	defer done2()
	if err := d.Settled(settle); err != nil {
		t.Fatal(err)
	}
	return d
}

type testLog struct{ t *testing.T }

func (l testLog) Write(line []byte) (int, error) { l.t.Logf("%s", line); return len(line), nil }

func (d *device) module(id string) edge.ModuleStatus {
	for _, s := range d.Status().Modules {
		if s.ID == id {
			return s
		}
	}
	return edge.ModuleStatus{}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: did not come about", what)
		}
	}
}

// source gives the test a module's client to send with.
func source() (scripted, func() *edge.Client) {
	clients := make(chan *edge.Client, 1)
	run := func(ctx context.Context, c *edge.Client) error {
		c.Ready()
		select {
		case <-clients:
		default:
		}
		clients <- c
		<-ctx.Done()
		return nil
	}
	return run, func() *edge.Client {
		c := <-clients
		clients <- c
		return c
	}
}

func TestAMessageTravelsFromModuleToModuleToUpstream(t *testing.T) {
	run, client := source()
	shout := func(ctx context.Context, c *edge.Client) error {
		c.HandleInput("in", func(ctx context.Context, m message.Message) error {
			m.Body = []byte(strings.ToUpper(string(m.Body)))
			return c.Send(ctx, "out", m.With("loud", "yes"))
		})
		c.Ready()
		<-ctx.Done()
		return nil
	}
	urgent := routed(t, "b", "FROM /messages/modules/shout/outputs/out INTO $upstream")
	urgent.Priority, urgent.TimeToLiveSecs = 2, 60
	d := start(t, edge.Options{
		Modules: []edge.Instance{module("source", run), module("shout", shout)},
		Routes: []edge.Route{
			routed(t, "a", `FROM /messages/modules/source/outputs/out WHERE kind = 'word' INTO BrokeredEndpoint("/modules/shout/inputs/in")`),
			urgent,
		},
	})
	m := message.Message{Body: []byte("tux"), Properties: map[string]string{"kind": "word"}}
	if err := client().Send(context.Background(), "out", m); err != nil {
		t.Fatal(err)
	}
	// Send has returned: the message is upstream, not on its way.
	if len(d.up.got) != 1 {
		t.Fatalf("%d messages upstream", len(d.up.got))
	}
	got := d.up.got[0]
	if string(got.Body) != "TUX" || got.priority != 2 || got.ttl != time.Minute || got.ID == "" || got.Created.IsZero() {
		t.Errorf("arrived as %+v", got)
	}
	if diff := cmp.Diff(map[string]string{"kind": "word", "loud": "yes"}, got.Properties); diff != "" {
		t.Error(diff)
	}
	if want := (message.Source{Module: "shout", Output: "out"}); got.Source != want {
		t.Errorf("source %v, want %v", got.Source, want)
	}
	if m.Properties["loud"] != "" {
		t.Error("the sender's own properties were changed")
	}

	// What no route wants is counted, and no error.
	if err := client().Send(context.Background(), "out", message.Message{}); err != nil {
		t.Fatal(err)
	}
	if s := d.Status(); s.Unrouted != 1 || s.Messages != 3 || s.Routes[0].Name != "b" || s.Routes[0].Delivered != 1 || s.Routes[1].Matched != 1 {
		t.Errorf("status %+v", s)
	}
}

func TestOncePerMatchingRoute(t *testing.T) {
	run, client := source()
	d := start(t, edge.Options{
		Modules: []edge.Instance{module("source", run)},
		Routes: []edge.Route{
			routed(t, "1", "FROM /messages/* INTO $upstream"),
			routed(t, "2", "FROM /messages/modules/* INTO $upstream"),
			routed(t, "3", "FROM /messages/modules/source/* INTO $upstream"),
			routed(t, "4", "FROM /messages/modules/source/outputs/* INTO $upstream"),
			routed(t, "5", "FROM /messages/modules/source/outputs/o INTO $upstream"),
			routed(t, "6", "FROM /messages/modules/other/* INTO $upstream"),
			routed(t, "7", "FROM /messages/modules/source/outputs/x INTO $upstream"),
			routed(t, "8", "FROM /twinChangeNotifications INTO $upstream"),
		},
	})
	if err := client().Send(context.Background(), "o", message.Message{}); err != nil {
		t.Fatal(err)
	}
	if n := len(d.up.got); n != 5 {
		t.Errorf("the message arrived %d times, want once for each of 5 routes", n)
	}
}

func TestSendReportsWhatDidNotArrive(t *testing.T) {
	run, client := source()
	d := start(t, edge.Options{
		Modules: []edge.Instance{module("source", run)},
		Routes: []edge.Route{
			routed(t, "lost", `FROM /messages/* INTO BrokeredEndpoint("/modules/nobody/inputs/in")`),
			routed(t, "up", "FROM /messages/* INTO $upstream"),
		},
	})
	err := client().Send(context.Background(), "o", message.Message{Body: []byte("x")})
	if err == nil || !strings.Contains(err.Error(), "nobody") || !strings.Contains(err.Error(), "lost") {
		t.Errorf("error %v does not name the route and the module", err)
	}
	if diff := cmp.Diff([]string{"x"}, d.up.bodies()); diff != "" {
		t.Errorf("one endpoint's failure kept the message from another: %s", diff)
	}
}

func TestAFailingModuleIsRestartedAndTheOthersGoOn(t *testing.T) {
	for name, fail := range map[string]func(ctx context.Context, c *edge.Client) error{
		"error":       func(context.Context, *edge.Client) error { return errors.New("broken wire") },
		"panic":       func(context.Context, *edge.Client) error { panic("broken wire") },
		"ends":        func(context.Context, *edge.Client) error { return nil },
		"nil pointer": func(context.Context, *edge.Client) error { var k *knobs; k.Value = 1; return nil },
		"in goroutine": func(ctx context.Context, c *edge.Client) error {
			c.Go(func(context.Context) error { panic("x") })
			<-ctx.Done()
			return ctx.Err()
		},
		"goroutine error": func(ctx context.Context, c *edge.Client) error {
			c.Go(func(context.Context) error { return errors.New("x") })
			<-ctx.Done()
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			var starts atomic.Int32
			run, client := source()
			flaky := func(ctx context.Context, c *edge.Client) error {
				if starts.Add(1) <= 3 {
					return fail(ctx, c)
				}
				return idle(ctx, c)
			}
			d := start(t, edge.Options{
				Modules: []edge.Instance{module("flaky", flaky), module("source", run)},
				Routes:  []edge.Route{routed(t, "up", "FROM /messages/* INTO $upstream")},
			})
			eventually(t, "the fourth start", func() bool { return d.module("flaky").State == edge.Running })
			if s := d.module("flaky"); s.Restarts != 3 || !s.Healthy {
				t.Errorf("status %+v", s)
			}
			if s := d.module("source"); s.Restarts != 0 {
				t.Errorf("another module was restarted: %+v", s)
			}
			if err := client().Send(context.Background(), "o", message.Message{}); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestAPanicInAHandlerRestartsTheReceiverNotTheSender(t *testing.T) {
	run, client := source()
	var starts atomic.Int32
	bomb := func(ctx context.Context, c *edge.Client) error {
		starts.Add(1)
		c.HandleInput("in", func(_ context.Context, m message.Message) error {
			if string(m.Body) == "bomb" {
				panic("boom")
			}
			return nil
		})
		return idle(ctx, c)
	}
	d := start(t, edge.Options{
		Modules: []edge.Instance{module("source", run), module("bomb", bomb)},
		Routes:  []edge.Route{routed(t, "r", `FROM /messages/modules/source/* INTO BrokeredEndpoint("/modules/bomb/inputs/in")`)},
	})
	err := client().Send(context.Background(), "o", message.Message{Body: []byte("bomb")})
	if err == nil || !strings.Contains(err.Error(), "boom") {
		t.Errorf("the sender was told %v", err)
	}
	// This one waits until the module is there again.
	if err := client().Send(context.Background(), "o", message.Message{Body: []byte("peace")}); err != nil {
		t.Error(err)
	}
	if s := d.module("bomb"); s.Restarts != 1 || starts.Load() != 2 {
		t.Errorf("bomb: %+v, started %d times", s, starts.Load())
	}
	if s := d.module("source"); s.Restarts != 0 {
		t.Errorf("the sender was restarted: %+v", s)
	}
}

func TestWaitingMessagesGoInByPriorityThenByArrival(t *testing.T) {
	run, client := source()
	gate := make(chan struct{})
	var order []string
	gated := func(ctx context.Context, c *edge.Client) error {
		c.HandleInput("in", func(_ context.Context, m message.Message) error {
			order = append(order, string(m.Body))
			<-gate
			return nil
		})
		return idle(ctx, c)
	}
	into := `INTO BrokeredEndpoint("/modules/gated/inputs/in")`
	first := routed(t, "first", "FROM /messages/modules/source/outputs/urgent "+into)
	first.Priority = 0
	d := start(t, edge.Options{
		Modules: []edge.Instance{module("source", run), module("gated", gated)},
		Routes:  []edge.Route{routed(t, "last", "FROM /messages/modules/source/outputs/normal "+into), first},
	})
	var wg sync.WaitGroup
	matched := func() (n int64) {
		for _, r := range d.Status().Routes {
			n += r.Matched
		}
		return n
	}
	for i, body := range []string{"normal 1", "normal 2", "normal 3", "urgent 1", "urgent 2"} {
		wg.Go(func() {
			if err := client().Send(context.Background(), strings.Fields(body)[0], message.Message{Body: []byte(body)}); err != nil {
				t.Error(err)
			}
		})
		eventually(t, body, func() bool { return matched() == int64(i+1) })
		time.Sleep(10 * time.Millisecond) // from matched to waiting in line there is nothing to observe
	}
	close(gate)
	wg.Wait()
	if diff := cmp.Diff([]string{"normal 1", "urgent 1", "urgent 2", "normal 2", "normal 3"}, order); diff != "" {
		t.Error(diff)
	}
}

func TestTimeToLiveEndsTheWaitForAnInput(t *testing.T) {
	run, client := source()
	short := routed(t, "r", `FROM /messages/* INTO BrokeredEndpoint("/modules/deaf/inputs/in")`)
	short.TimeToLiveSecs = 1
	d := start(t, edge.Options{
		Modules: []edge.Instance{module("source", run), module("deaf", idle)},
		Routes:  []edge.Route{short},
	})
	if err := client().Send(context.Background(), "o", message.Message{}); err != nil {
		t.Errorf("an expired message is dealt with, not an error: %v", err)
	}
	if s := d.Status().Routes[0]; s.Expired != 1 || s.Delivered != 0 {
		t.Errorf("route status %+v", s)
	}
}

func TestAnInputThatIsNeverFreeIsAnError(t *testing.T) {
	run, client := source()
	start(t, edge.Options{
		Modules:         []edge.Instance{module("source", run), module("deaf", idle)},
		Routes:          []edge.Route{routed(t, "r", `FROM /messages/* INTO BrokeredEndpoint("/modules/deaf/inputs/in")`)},
		DeliveryTimeout: 10 * time.Millisecond,
	})
	if err := client().Send(context.Background(), "o", message.Message{}); err == nil {
		t.Error("the message vanished")
	}
}

func TestRoutesInACircleAreRefused(t *testing.T) {
	run, client := source()
	echo := func(ctx context.Context, c *edge.Client) error {
		c.HandleInput("in", func(ctx context.Context, m message.Message) error { return c.Send(ctx, "out", m) })
		return idle(ctx, c)
	}
	start(t, edge.Options{
		Modules: []edge.Instance{module("source", run), module("a", echo), module("b", echo)},
		Routes: []edge.Route{
			routed(t, "in", `FROM /messages/modules/source/* INTO BrokeredEndpoint("/modules/a/inputs/in")`),
			routed(t, "ab", `FROM /messages/modules/a/* INTO BrokeredEndpoint("/modules/b/inputs/in")`),
			routed(t, "ba", `FROM /messages/modules/b/* INTO BrokeredEndpoint("/modules/a/inputs/in")`),
		},
	})
	err := client().Send(context.Background(), "o", message.Message{})
	if err == nil || !strings.Contains(err.Error(), "a/in → b/in → a/in") {
		t.Errorf("error %v", err)
	}
}

// obedient records the desired properties it was given, and refuses a
// threshold of 13.
func obedient(taken chan<- levels) scripted {
	return func(ctx context.Context, c *edge.Client) error {
		c.HandleDesired(func(_ context.Context, properties any) error {
			p := *properties.(*levels)
			if p.Threshold == 13 {
				return errors.New("13 brings bad luck")
			}
			taken <- p
			return nil
		})
		return idle(ctx, c)
	}
}

func TestDesiredProperties(t *testing.T) {
	taken := make(chan levels, 100)
	inst := module("m", obedient(taken))
	inst.Desired = json.RawMessage(`{"Name":"file"}`)
	file := filepath.Join(t.TempDir(), "twin.json")
	opts := edge.Options{Modules: []edge.Instance{inst, module("other", idle)}, TwinFile: file}
	d := start(t, opts)
	ctx := context.Background()

	expect := func(want levels) {
		t.Helper()
		if got := <-taken; got != want {
			t.Errorf("in effect: %+v, want %+v", got, want)
		}
	}
	expect(levels{25, "file"})

	if err := d.ApplyDesired(ctx, json.RawMessage(`{"m":{"Threshold":30}}`), 2, true); err != nil {
		t.Fatal(err)
	}
	expect(levels{30, "file"})
	if err := d.ApplyDesired(ctx, json.RawMessage(`{"m":{"Name":"twin"}}`), 3, false); err != nil {
		t.Fatal(err)
	}
	expect(levels{30, "twin"})

	for patch, complaint := range map[string]string{
		`{"m":{"Threshold":"hot"}}`:  "Threshold must be a float64, not a string",
		`{"m":{"Threshhold":31}}`:    "Threshhold",
		`{"m":{"Threshold":101}}`:    "at most 100",
		`{"m":{"Threshold":13}}`:     "bad luck",
		`{"m":"hot"}`:                "",
		`[1]`:                        "JSON object",
		`{"nobody":{"Threshold":1}}`: "there are: m, other",
		`{"other":{"Color":1}}`:      "Color",
	} {
		err := d.ApplyDesired(ctx, json.RawMessage(patch), 4, false)
		if err == nil || !strings.Contains(err.Error(), complaint) {
			t.Errorf("%s: error %v, want one that says %q", patch, err, complaint)
		}
		// Back to what was there: each of these starts from the same twin.
		if err := d.ApplyDesired(ctx, json.RawMessage(`{"m":{"Threshold":30,"Name":"twin"}}`), 5, true); err != nil {
			t.Fatal(err)
		}
		select {
		case p := <-taken:
			if p != (levels{30, "twin"}) {
				t.Errorf("%s: took effect as %+v", patch, p)
			}
		default:
		}
	}
	for len(taken) > 0 {
		<-taken
	}

	// A refused change is shown, and does not come back with a restart.
	if err := d.ApplyDesired(ctx, json.RawMessage(`{"m":{"Threshold":13}}`), 6, false); err == nil {
		t.Fatal("13 was taken")
	}
	if s := d.module("m"); !strings.Contains(s.DesiredError, "bad luck") || s.Counters["desired_refused"] == 0 || s.Desired.(*levels).Threshold != 30 {
		t.Errorf("status %+v", s)
	}
	if !strings.Contains(string(d.Reported()), "bad luck") {
		t.Errorf("the hub is not told: %s", d.Reported())
	}
	d.stop()
	for len(taken) > 0 {
		<-taken
	}
	d = start(t, opts)
	expect(levels{30, "twin"})
	if _, version := d.Desired(); version != 6 {
		t.Errorf("version %d after the restart, want 6", version)
	}

	// Taking the property out of the twin gives the configuration's again.
	if err := d.ApplyDesired(ctx, json.RawMessage(`{"m":null}`), 7, false); err != nil {
		t.Fatal(err)
	}
	expect(levels{25, "file"})
}

func TestADamagedTwinFileIsSetAside(t *testing.T) {
	file := filepath.Join(t.TempDir(), "twin.json")
	if err := os.WriteFile(file, []byte(`{"desired":`), 0o600); err != nil {
		t.Fatal(err)
	}
	d := start(t, edge.Options{Modules: []edge.Instance{module("m", idle)}, TwinFile: file})
	if _, err := os.Stat(file + ".damaged"); err != nil {
		t.Error(err)
	}
	if err := d.ApplyDesired(context.Background(), json.RawMessage(`{"m":{"Threshold":1}}`), 1, true); err != nil {
		t.Error(err)
	}
}

func TestTwinChangesTravelOnRoutes(t *testing.T) {
	d := start(t, edge.Options{
		Modules: []edge.Instance{module("m", idle)},
		Routes:  []edge.Route{routed(t, "r", "FROM /twinChangeNotifications INTO $upstream")},
	})
	if err := d.ApplyDesired(context.Background(), json.RawMessage(`{"m":{"Threshold":1}}`), 3, false); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{`{"m":{"Threshold":1}}`}, d.up.bodies()); diff != "" {
		t.Error(diff)
	}
}

func TestMethods(t *testing.T) {
	with := func(methods ...string) scripted {
		return func(ctx context.Context, c *edge.Client) error {
			for _, name := range methods {
				c.HandleMethod(name, func(_ context.Context, payload json.RawMessage) (int, any) {
					if string(payload) == `"bomb"` {
						panic("boom")
					}
					return 201, map[string]any{"by": c.ID(), "got": payload}
				})
			}
			c.HandleInput("in", func(_ context.Context, m message.Message) error {
				if string(m.Body) != `[1]` {
					return errors.New("not for me")
				}
				return nil
			})
			return idle(ctx, c)
		}
	}
	a := module("a", with("reset", "both"))
	a.Kind.Inputs = []string{"in"}
	d := start(t, edge.Options{Modules: []edge.Instance{a, module("b", with("both"))}})
	for _, c := range []struct {
		method, payload string
		status          int
		response        string
	}{
		{"reset", `1`, 201, `{"by":"a","got":1}`},
		{"a.reset", `null`, 201, `{"by":"a","got":null}`},
		{"b.both", `{}`, 201, `{"by":"b","got":{}}`},
		{"both", `{}`, 409, "say which"},
		{"b.reset", `{}`, 404, "a.reset"},
		{"nothing", `{}`, 404, "ping, status, send, a.both"},
		{"ping", `{}`, 200, "time"},
		{"status", `{}`, 200, `"id":"a"`},
		{"send", `{"module":"a","input":"in","body":[1]}`, 200, "messageId"},
		{"send", `{"module":"a","input":"in","body":[2]}`, 500, "not for me"},
		{"send", `{"module":"a","input":"out","body":[1]}`, 404, "no input out"},
		{"send", `{"module":"c","input":"in","body":[1]}`, 404, "module c"},
		{"send", `{"module":"a","input":"in"}`, 400, "body"},
		{"send", `hello`, 400, "body"},
		{"a.reset", `"bomb"`, 500, "boom"},
	} {
		status, response := d.Invoke(context.Background(), c.method, json.RawMessage(c.payload))
		if status != c.status || !strings.Contains(string(response), c.response) {
			t.Errorf("%s(%s): %d %s, want %d %s", c.method, c.payload, status, response, c.status, c.response)
		}
	}
	eventually(t, "the restart after the panic", func() bool { return d.module("a").Restarts == 1 })
}

func TestReconfigure(t *testing.T) {
	var starts sync.Map
	counting := func(id string) edge.Instance {
		return module(id, func(ctx context.Context, c *edge.Client) error {
			n, _ := starts.LoadOrStore(id, new(atomic.Int32))
			n.(*atomic.Int32).Add(1)
			return idle(ctx, c)
		})
	}
	started := func(id string) int32 {
		n, _ := starts.LoadOrStore(id, new(atomic.Int32))
		return n.(*atomic.Int32).Load()
	}
	taken := make(chan levels, 10)
	run, client := source()
	d := start(t, edge.Options{
		Modules: []edge.Instance{counting("same"), counting("changed"), counting("gone"), module("told", obedient(taken)), module("source", run)},
		Routes:  []edge.Route{routed(t, "kept", "FROM /messages/* INTO $upstream")},
	})
	<-taken
	if err := client().Send(context.Background(), "o", message.Message{}); err != nil {
		t.Fatal(err)
	}

	changed, told := counting("changed"), module("told", obedient(taken))
	changed.Settings = &knobs{Value: 7}
	told.Desired = json.RawMessage(`{"Threshold":40}`)
	d.Reconfigure(
		[]edge.Instance{counting("same"), changed, counting("new"), told, module("source", run)},
		[]edge.Route{
			routed(t, "kept", "FROM /messages/* INTO $upstream"),
			routed(t, "second", "FROM /messages/modules/source/* INTO $upstream"),
		})
	if p := <-taken; p.Threshold != 40 {
		t.Errorf("told of %+v", p)
	}
	eventually(t, "the new module's start", func() bool { return started("new") == 1 && started("changed") == 2 })
	if started("same") != 1 || started("gone") != 1 {
		t.Errorf("same started %d times, gone %d times", started("same"), started("gone"))
	}
	if s := d.module("gone"); s.ID != "" {
		t.Errorf("gone is still there: %+v", s)
	}
	if err := client().Send(context.Background(), "o", message.Message{}); err != nil {
		t.Fatal(err)
	}
	if n := len(d.up.got); n != 3 {
		t.Errorf("%d messages upstream, want 1 + 2", n)
	}
	if s := d.Status().Routes[0]; s.Name != "kept" || s.Delivered != 2 {
		t.Errorf("the unchanged route lost its counters: %+v", s)
	}
}

func TestStuckNamesWhatMakesNoProgress(t *testing.T) {
	var clock atomic.Int64
	now := func() time.Time { return time.Unix(clock.Load(), 0) }
	run, client := source()
	entered, leave := make(chan struct{}), make(chan struct{})
	hanging := func(ctx context.Context, c *edge.Client) error {
		c.HandleInput("in", func(context.Context, message.Message) error { close(entered); <-leave; return nil })
		return idle(ctx, c)
	}
	promising := make(chan *edge.Client, 1)
	loop := func(ctx context.Context, c *edge.Client) error {
		c.Alive(10 * time.Second)
		promising <- c
		return idle(ctx, c)
	}
	d := start(t, edge.Options{
		Modules: []edge.Instance{module("loop", loop), module("hanging", hanging), module("source", run)},
		Routes:  []edge.Route{routed(t, "r", `FROM /messages/* INTO BrokeredEndpoint("/modules/hanging/inputs/in")`)},
		Now:     now,
	})
	expect := func(want ...string) {
		t.Helper()
		if diff := cmp.Diff(want, d.Stuck()); diff != "" {
			t.Error(diff)
		}
	}
	c := <-promising
	expect()
	clock.Add(11)
	expect("loop: its loop")
	c.Alive(time.Hour)
	expect()

	sent := make(chan error, 1)
	go func() { sent <- client().Send(context.Background(), "o", message.Message{}) }()
	<-entered
	clock.Add(119)
	expect()
	clock.Add(2)
	expect("hanging: input in")
	close(leave)
	if err := <-sent; err != nil {
		t.Error(err)
	}
	expect()
	c.Alive(0)
	clock.Add(100000)
	expect()
}

func TestHealthIsReported(t *testing.T) {
	clients := make(chan *edge.Client, 1)
	d := start(t, edge.Options{Modules: []edge.Instance{module("m", func(ctx context.Context, c *edge.Client) error {
		c.Unhealthy(errors.New("no answer from the sensor"))
		clients <- c
		return idle(ctx, c)
	})}})
	c := <-clients
	if s := d.module("m"); s.Healthy || s.Cause != "no answer from the sensor" || s.State != edge.Running {
		t.Errorf("status %+v", s)
	}
	if got := string(d.Reported()); !strings.Contains(got, `"health":"no answer from the sensor"`) {
		t.Error(got)
	}
	for len(d.ReportedChanged()) > 0 {
		<-d.ReportedChanged()
	}
	c.Healthy()
	c.Report(map[string]any{"level": 3})
	<-d.ReportedChanged()
	if got := string(d.Reported()); got != `{"m":{"desiredError":null,"health":"ok","level":3}}` {
		t.Error(got)
	}
}

// logHook calls what it is for every line that is logged.
type logHook func(text string)

func (logHook) Enabled(context.Context, slog.Level) bool { return true }
func (h logHook) Handle(_ context.Context, r slog.Record) error {
	h(r.Message)
	return nil
}
func (h logHook) WithAttrs([]slog.Attr) slog.Handler { return h }
func (h logHook) WithGroup(string) slog.Handler      { return h }

// Who waits for a module to run must not take one for well that has just said
// that it is not.
func TestAModuleThatIsUnwellIsNotWellForAMoment(t *testing.T) {
	var rt *edge.Runtime
	seen := make(chan edge.ModuleStatus, 1)
	rt = edge.New(edge.Options{Upstream: &upstream{}, Modules: []edge.Instance{module("m", func(ctx context.Context, c *edge.Client) error {
		c.Unhealthy(errors.New("no model"))
		<-ctx.Done()
		return nil
	})}, Log: slog.New(logHook(func(text string) {
		if text == "module is running" {
			seen <- rt.Status().Modules[0]
		}
	}))})
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- rt.Run(ctx) }()
	if s := <-seen; s.State != edge.Running || s.Healthy || s.Cause != "no model" {
		t.Errorf("as soon as it runs: %+v", s)
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
