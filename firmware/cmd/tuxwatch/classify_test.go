package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
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
