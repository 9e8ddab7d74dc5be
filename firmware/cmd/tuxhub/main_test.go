package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/rogpeppe/go-internal/testscript"

	"tuxwatch/firmware/hub"
)

const patience = 30 * time.Second

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"tuxhub": main,
		"device": device,
		"await":  await,

		"await-methods": awaitMethods,
	})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(env *testscript.Env) error {
			env.Setenv("TUXHUB_STATE", filepath.Join(env.WorkDir, "state"))
			env.Setenv("HOME", env.WorkDir)
			// The race detector lets every process sleep for a second at its end.
			env.Setenv("GORACE", "atexit_sleep_ms=1")
			return nil
		},
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
	})
}

// await waits until the hub runs, or, with an argument, until it does not.
func await() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	want := len(os.Args) < 2
	for ; ctx.Err() == nil; time.Sleep(10 * time.Millisecond) {
		if _, err := hub.NewClient(hub.DefaultState()).Status(ctx); (err == nil) == want {
			return
		}
	}
	fatal("the hub did not start, or end, in time")
}

// awaitMethods waits until the device pi takes direct methods.
func awaitMethods() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for ; ctx.Err() == nil; time.Sleep(10 * time.Millisecond) {
		if _, err := hub.NewClient(hub.DefaultState()).Invoke(ctx, "pi", "ping", nil, patience); err == nil {
			return
		}
	}
	fatal("the device took no methods in time")
}

func fatal(a ...any) {
	fmt.Fprintln(os.Stderr, append([]any{"device:"}, a...)...)
	os.Exit(1)
}

func check(token paho.Token) {
	if !token.WaitTimeout(patience) {
		fatal("no answer from the hub")
	}
	if token.Error() != nil {
		fatal(token.Error())
	}
}

// device plays a device: device ID [publish BAG BODY]…, or device ID answer,
// which answers direct methods with what they were given until it is killed.
func device() {
	client := hub.NewClient(hub.DefaultState())
	status, err := client.Status(context.Background())
	if err != nil {
		fatal(err)
	}
	id := os.Args[1]
	d, err := client.Device(id)
	if err != nil {
		fatal(err)
	}
	token, err := hub.NewSAS("localhost", id, d.PrimaryKey, time.Now().Add(time.Hour))
	if err != nil {
		fatal(err)
	}
	pem, err := os.ReadFile(status.CAFile)
	if err != nil {
		fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	c := paho.NewClient(paho.NewClientOptions().
		AddBroker("ssl://" + status.TLSListen).
		SetTLSConfig(&tls.Config{RootCAs: roots, ServerName: "localhost"}).
		SetProtocolVersion(4).
		SetClientID(id).
		SetUsername("localhost/" + id + "/?api-version=2021-04-12").
		SetPassword(token))
	check(c.Connect())
	defer c.Disconnect(100)
	if os.Args[2] != "answer" {
		for args := os.Args[2:]; len(args) >= 3; args = args[3:] {
			check(c.Publish("devices/"+id+"/messages/events/"+args[1], 1, false, args[2]))
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	check(c.Subscribe("$iothub/methods/POST/#", 0, func(c paho.Client, m paho.Message) {
		name, rid, _ := strings.Cut(strings.TrimPrefix(m.Topic(), "$iothub/methods/POST/"), "/?$rid=")
		status := "200"
		if name == "fail" {
			status = "422"
		}
		c.Publish("$iothub/methods/res/"+status+"/?$rid="+rid, 0, false, m.Payload())
	}))
	<-ctx.Done()
}

// systemd is told when the hub is ready, and when it ends.
func TestServeNotifies(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "notify")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	t.Setenv("NOTIFY_SOCKET", socket)
	state := filepath.Join(t.TempDir(), "state")
	ctx, cancel := context.WithCancel(context.Background())
	code := make(chan int, 1)
	go func() {
		root := newRoot()
		root.SetOut(io.Discard)
		root.SetErr(io.Discard)
		code <- run(ctx, root, []string{"serve", "--state", state, "--tls-listen", "127.0.0.1:0"})
	}()
	expect := func(want string) {
		t.Helper()
		b := make([]byte, 100)
		if err := l.SetReadDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		n, err := l.Read(b)
		if err != nil || string(b[:n]) != want {
			t.Errorf("notified %q, %v, want %q", b[:n], err, want)
		}
	}
	expect("READY=1")
	if _, err := hub.NewClient(state).Status(context.Background()); err != nil {
		t.Error(err)
	}
	cancel()
	expect("STOPPING=1")
	if c := <-code; c != 0 {
		t.Errorf("exit code %d", c)
	}
}

func TestParseChange(t *testing.T) {
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{`{"a":{"b":1}}`}, `{"a":{"b":1}}`},
		{[]string{` {"a":null}`}, ` {"a":null}`},
		{[]string{"filterModule.TemperatureThreshold=30"}, `{"filterModule":{"TemperatureThreshold":30}}`},
		{[]string{"a.b=1", "a.c=two", "d=null", "e=true", `f="30"`, "g=[1,2]", "h={}", "i=", "j=a=b"},
			`{"a":{"b":1,"c":"two"},"d":null,"e":true,"f":"30","g":[1,2],"h":{},"i":"","j":"a=b"}`},
	} {
		if got, err := parseChange(tt.args); err != nil || string(got) != tt.want {
			t.Errorf("%q: %s, %v, want %s", tt.args, got, err, tt.want)
		}
	}
	for _, args := range [][]string{{"a"}, {"{"}, {`{}`, "a=1"}, {"=1"}, {"a..b=1"}, {"a.=1"}, {".a=1"}, {"a=1", "a=2"}, {"a=1", "a.b=2"}, {"a.b=1", "a=2"}} {
		if got, err := parseChange(args); err == nil {
			t.Errorf("%q: %s", args, got)
		}
	}
}

func TestParseSince(t *testing.T) {
	now := time.Date(2026, 11, 22, 11, 0, 0, 0, time.UTC)
	for in, want := range map[string]time.Time{"10m": now.Add(-10 * time.Minute), "2026-11-22T10:00:00+01:00": now.Add(-2 * time.Hour)} {
		if got, err := parseSince(in, now); err != nil || !got.Equal(want) {
			t.Errorf("%s: %v, %v", in, got, err)
		}
	}
	for _, in := range []string{"yesterday", "-5m", "10"} {
		if got, err := parseSince(in, now); err == nil {
			t.Errorf("%s: %v", in, got)
		}
	}
}

func TestPrintable(t *testing.T) {
	if got := printable("a\x1b[31mb\u009bc\tü"); got != "a·[31mb·c\tü" {
		t.Errorf("%q", got)
	}
}

func TestLoopbackByDefault(t *testing.T) {
	for in, want := range map[string]string{"": "", ":8080": "127.0.0.1:8080", "0.0.0.0:8080": "0.0.0.0:8080", "localhost:1": "localhost:1", "nonsense": "nonsense"} {
		if got := loopbackByDefault(in); got != want {
			t.Errorf("%q: %q", in, got)
		}
	}
}
