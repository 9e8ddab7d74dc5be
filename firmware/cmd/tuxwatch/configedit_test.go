package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"go.uber.org/goleak"

	"tuxwatch/firmware/config"
	"tuxwatch/firmware/control"
	"tuxwatch/firmware/modules"
)

// reader is a daemon that reads its configuration when it is asked, and refuses
// one that says so.
type reader struct {
	file string

	mu     sync.Mutex
	seen   string
	status control.ConfigStatus
}

func (r *reader) Status() control.Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	data, err := os.ReadFile(r.file)
	if text := string(data); err == nil && text != r.seen {
		r.seen = text
		_, err := config.Parse(r.file, data, modules.Kinds(nil))
		var invalid *config.Error
		switch {
		case strings.Contains(text, "no daemon likes this"):
			r.status.RefusedAt, r.status.Problems = time.Now(), []config.Problem{{File: r.file, Line: 1, Column: 1, Message: "I do not like it"}}
		case errors.As(err, &invalid):
			r.status.RefusedAt, r.status.Problems = time.Now(), invalid.Problems
		default:
			r.status.LoadedAt = time.Now()
		}
	}
	r.status.File = r.file
	return control.Status{Config: r.status}
}

func (r *reader) Configuration() control.Configuration { return control.Configuration{File: r.file} }

func (r *reader) Frame(context.Context, string, json.RawMessage) (int, json.RawMessage) {
	return http.StatusNotFound, nil
}

// The scripts in testdata/edit are people at an editor: the programs in their
// bin are what they type. A daemon with the configuration $WORK/tuxwatch.yaml
// answers at $SOCKET.
func TestConfigEdit(t *testing.T) {
	defer goleak.VerifyNone(t)
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/edit",
		UpdateScripts:       *update,
		RequireExplicitExec: true,
		Cmds:                map[string]func(*testscript.TestScript, bool, []string){"status": expectStatus},
		Setup: func(env *testscript.Env) error {
			socket := filepath.Join(env.WorkDir, control.SocketName)
			l, err := control.Listen(socket)
			if err != nil {
				return err
			}
			ctx, cancel := context.WithCancel(context.Background())
			done := make(chan error, 1)
			daemon := &reader{file: filepath.Join(env.WorkDir, "tuxwatch.yaml")}
			go func() { done <- control.Serve(ctx, l, daemon, slog.New(slog.DiscardHandler)) }()
			env.Defer(func() {
				cancel()
				if err := <-done; err != nil {
					t.Error(err)
				}
			})
			tmp := filepath.Join(env.WorkDir, "tmp")
			env.Setenv("TMPDIR", tmp)
			env.Setenv("SOCKET", socket)
			env.Setenv("TUXWATCH_SOCKET", socket)
			env.Setenv("VISUAL", "")
			env.Setenv("EDITOR", "")
			return os.Mkdir(tmp, 0o755)
		},
	})
}

// What the editor is called with, and who it belongs to, is kept.
func TestSaveKeepsModeAndOwner(t *testing.T) {
	file := filepath.Join(t.TempDir(), "tuxwatch.yaml")
	if err := os.WriteFile(file, []byte("log: {level: info}\n"), 0o640); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		if err := os.Chown(file, 12, 34); err != nil {
			t.Fatal(err)
		}
	}
	owner := func() string {
		info, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		return ownerOf(info)
	}
	before := owner()
	e := &editing{file: file}
	if err := e.read(); err != nil {
		t.Fatal(err)
	}
	if err := e.save([]byte("log: {level: debug}\n")); err != nil {
		t.Fatal(err)
	}
	if after := owner(); after != before {
		t.Errorf("the file is %s after, %s before", after, before)
	}
	// Somebody else was quicker.
	if err := e.save([]byte("log: {level: warn}\n")); err == nil || !strings.Contains(err.Error(), "somebody else") {
		t.Errorf("saving over another's change: %v", err)
	}
	if text, _ := os.ReadFile(file); string(text) != "log: {level: debug}\n" {
		t.Errorf("the file is %q", text)
	}
	if left, _ := os.ReadDir(filepath.Dir(file)); len(left) != 1 {
		t.Errorf("left behind: %v", left)
	}
}

func ownerOf(info os.FileInfo) string {
	s := info.Sys().(*syscall.Stat_t)
	return fmt.Sprintf("%v of %d:%d", info.Mode(), s.Uid, s.Gid)
}
