package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	testModel    = "../../vision/testdata/models/float3"
	testPictures = "../../vision/testdata/pictures"
)

// runClassify gives the output, the errors' output and the exit status.
func runClassify(t *testing.T, stdin []byte, args ...string) (string, string, int) {
	t.Helper()
	cmd := newClassifyCommand()
	var out, errOut bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetErr(&errOut)
	cmd.SetIn(bytes.NewReader(stdin))
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetArgs(args)
	err := cmd.ExecuteContext(t.Context())
	if err == nil {
		return out.String(), errOut.String(), 0
	}
	var status exitError
	if !errors.As(err, &status) {
		t.Fatalf("an error without exit status: %v", err)
	}
	return out.String(), errOut.String() + err.Error(), status.code
}

func TestClassifyText(t *testing.T) {
	good := filepath.Join(testPictures, "png-rgb.png")
	bad := filepath.Join(t.TempDir(), "text.jpg")
	if err := os.WriteFile(bad, []byte("not a picture"), 0o600); err != nil {
		t.Fatal(err)
	}
	out, errOut, code := runClassify(t, nil, "--model", testModel, bad, "nowhere.jpg", good)
	if code != 1 {
		t.Errorf("exit status %d", code)
	}
	// The probabilities are those of golden.json.
	if want := good + ": dog 89.7 % (cat 7.3 %, penguin 3.0 %)\n"; out != want {
		t.Errorf("printed %q, want %q", out, want)
	}
	if lines := strings.Split(strings.TrimSpace(errOut), "\n"); len(lines) != 2 ||
		!strings.Contains(lines[0], bad+": not a JPEG or PNG picture") ||
		!strings.Contains(lines[1], "nowhere.jpg: open: no such file") {
		t.Errorf("errors %q", errOut)
	}
}

func TestClassifyJSON(t *testing.T) {
	picture, err := os.ReadFile(filepath.Join(testPictures, "png-rgb.png"))
	if err != nil {
		t.Fatal(err)
	}
	out, _, code := runClassify(t, picture, "--json", "--threads", "1", "--model", testModel, "-", "nowhere.jpg")
	if code != 1 {
		t.Errorf("exit status %d", code)
	}
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if len(lines) != 2 {
		t.Fatalf("printed %q", out)
	}
	var answer struct {
		File, ID, Project, Iteration, Created string
		Predictions                           []struct {
			Probability float64
			TagID       string
			TagName     string
			BoundingBox any
		}
	}
	if err := json.Unmarshal([]byte(lines[0]), &answer); err != nil {
		t.Fatal(err)
	}
	if answer.File != "-" || answer.ID == "" || answer.Project == "" || answer.Iteration == "" || answer.Created == "" ||
		len(answer.Predictions) != 3 || answer.Predictions[0].TagName != "dog" || answer.Predictions[0].Probability < 0.89 {
		t.Errorf("%s", lines[0])
	}
	var failure struct {
		File  string
		Error struct{ Code, Message string }
	}
	if err := json.Unmarshal([]byte(lines[1]), &failure); err != nil {
		t.Fatal(err)
	}
	if failure.File != "nowhere.jpg" || failure.Error.Code != "NotFound" || failure.Error.Message == "" {
		t.Errorf("%s", lines[1])
	}
}

func TestClassifyAllGood(t *testing.T) {
	out, errOut, code := runClassify(t, nil, "--model", testModel,
		filepath.Join(testPictures, "jpeg-420.jpg"), filepath.Join(testPictures, "jpeg-gray.jpg"))
	if code != 0 || strings.Count(out, "\n") != 2 || errOut != "" {
		t.Errorf("exit status %d, printed %q, errors %q", code, out, errOut)
	}
}

func TestClassifyWrongUse(t *testing.T) {
	for name, c := range map[string]struct {
		args []string
		code int
		says string
	}{
		"no file":      {nil, 2, "at least one"},
		"unknown flag": {[]string{"--jsno", "x"}, 2, "--jsno"},
		"threads":      {[]string{"--threads", "-1", "x"}, 2, "--threads -1"},
		"no model":     {[]string{"--model", "nowhere", "x"}, 1, "nowhere"},
	} {
		if _, errOut, code := runClassify(t, nil, c.args...); code != c.code || !strings.Contains(errOut, c.says) {
			t.Errorf("%s: exit status %d, %q", name, code, errOut)
		}
	}
}

// A folder is told from a picture, and does not stop the others.
func TestClassifyFolder(t *testing.T) {
	folder := t.TempDir()
	good := filepath.Join(testPictures, "png-rgb.png")
	out, errOut, code := runClassify(t, nil, "--model", testModel, folder, good)
	if code != 1 || !strings.HasPrefix(out, good+": dog") {
		t.Errorf("exit status %d, printed %q", code, out)
	}
	if want := "tuxwatch: " + folder + ": it is a folder; name the pictures in it"; !strings.HasPrefix(errOut, want) {
		t.Errorf("errors %q, want %q", errOut, want)
	}
}

// A pipe gives its picture when there is one, and Ctrl-C ends the waiting.
func TestClassifyPipe(t *testing.T) {
	picture, err := os.ReadFile(filepath.Join(testPictures, "png-rgb.png"))
	if err != nil {
		t.Fatal(err)
	}
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	written := make(chan error, 1)
	go func() { written <- os.WriteFile(pipe, picture, 0o600) }() // waits for the reader
	out, errOut, code := runClassify(t, nil, "--model", testModel, pipe)
	if err := <-written; err != nil || code != 0 || !strings.HasPrefix(out, pipe+": dog") {
		t.Errorf("exit status %d, printed %q, %q; writing: %v", code, out, errOut, err)
	}

	// Reading begins, and nothing comes.
	interrupted := func(file string, stdin io.Reader, ctx context.Context) {
		t.Helper()
		cmd := newClassifyCommand()
		cmd.SetIn(stdin)
		cmd.SilenceErrors, cmd.SilenceUsage = true, true
		cmd.SetArgs([]string{"--model", testModel, file})
		if err := cmd.ExecuteContext(ctx); err == nil || !strings.Contains(err.Error(), "stopped at "+file) {
			t.Errorf("%s: %v, want that it was stopped", file, err)
		}
	}
	ctx, interrupt := context.WithCancel(t.Context())
	terminal, end := io.Pipe()
	go func() {
		_, err := end.Write([]byte("x")) // until somebody reads
		if err != nil {
			t.Error(err)
		}
		interrupt()
	}()
	interrupted("-", terminal, ctx)
	end.Close()

	ctx, interrupt = context.WithCancel(t.Context())
	go func() {
		for {
			w, err := os.OpenFile(pipe, os.O_WRONLY|syscall.O_NONBLOCK, 0) // fails until somebody reads
			if err == nil {
				interrupt()
				<-t.Context().Done() // the test has ended
				w.Close()
				return
			}
			time.Sleep(time.Millisecond)
		}
	}()
	interrupted(pipe, terminal, ctx)
}
