package main

import (
	"context"
	"errors"
	"flag"
	"log/slog"
	"os/exec"
	"strconv"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"go.uber.org/goleak"

	"tuxwatch/firmware/control"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"tuxwatch": main})
}

// Every script in testdata/script uses the command as a person would; a daemon
// with a made-up status answers at $SOCKET.
func TestScripts(t *testing.T) {
	defer goleak.VerifyNone(t)
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		UpdateScripts:       *update,
		RequireExplicitExec: true,
		Cmds:                map[string]func(*testscript.TestScript, bool, []string){"status": expectStatus},
		Setup: func(env *testscript.Env) error {
			socket := env.WorkDir + "/" + control.SocketName
			l, err := control.Listen(socket)
			if err != nil {
				return err
			}
			ctx, cancel := context.WithCancel(context.Background())
			done := make(chan error, 1)
			go func() { done <- control.Serve(ctx, l, madeUp{}, slog.New(slog.DiscardHandler)) }()
			env.Defer(func() {
				cancel()
				if err := <-done; err != nil {
					t.Error(err)
				}
			})
			env.Setenv("SOCKET", socket)
			return nil
		},
	})
}

// expectStatus is "status N COMMAND ARGS…": the command must end with N.
func expectStatus(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: status N COMMAND [ARGS…]")
	}
	err := ts.Exec(args[1], args[2:]...)
	if got := exitCode(err); got != args[0] {
		ts.Fatalf("ended with %s, want %s", got, args[0])
	}
}

func exitCode(err error) string {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return "0"
	case errors.As(err, &exit):
		return strconv.Itoa(exit.ExitCode())
	}
	return err.Error()
}
