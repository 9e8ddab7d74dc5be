package main

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// runRoute runs "tuxwatch route" with arguments and returns what it printed and
// the status that it would end with.
func runRoute(t *testing.T, stdin string, args ...string) (stdout string, code int, err error) {
	t.Helper()
	var out, diagnostics strings.Builder
	cmd := newRouteCommand()
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetIn(strings.NewReader(stdin))
	cmd.SetOut(&out)
	cmd.SetErr(&diagnostics)
	cmd.SetArgs(args)
	err = cmd.Execute()
	var exit exitError
	switch {
	case errors.As(err, &exit):
		code = exit.code
	case err != nil:
		t.Fatalf("%q: error %v carries no exit status", args, err)
	}
	return out.String(), code, err
}

func TestRouteCheck(t *testing.T) {
	const good = "FROM /messages/modules/filterModule/outputs/* INTO $upstream"
	out, code, err := runRoute(t, "", "check", good)
	if want := "ok     " + good + "\n"; out != want || code != 0 {
		t.Errorf("a valid route: got %q, status %d, %v", out, code, err)
	}

	out, code, err = runRoute(t, "", "check", good, "FROM /messages/*\n\tWHERE größe > 5 INTO $upstream")
	want := "ok     " + good + `
error  line 2, column 14: > compares values of one type but has string (the property größe) and number (properties are strings: use as_number(größe))
       	WHERE größe > 5 INTO $upstream
       	            ^
`
	if out != want || code != 1 {
		t.Errorf("got status %d, %v and\n%s\nwant\n%s", code, err, out, want)
	}
	if err == nil || err.Error() != "1 of 2 routes not valid" {
		t.Errorf("error is %v", err)
	}
}

func TestRouteCheckPutsTheCaretBehindTheEnd(t *testing.T) {
	out, code, _ := runRoute(t, "", "check", "FROM /messages/*")
	if lines := strings.Split(out, "\n"); code != 1 || lines[2] != strings.Repeat(" ", 7+16)+"^" {
		t.Errorf("status %d and\n%s", code, out)
	}
}

func TestRouteCheckJSON(t *testing.T) {
	out, code, _ := runRoute(t, "", "check", "--json", "FROM /* WHERE a <> 'x' INTO $upstream", "FROM /x INTO $y")
	want := `{"route":"FROM /* WHERE a <> 'x' INTO $upstream","valid":true,"source":"/*","condition":"a <> 'x'","endpoint":"$upstream"}`
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if code != 1 || len(lines) != 2 || lines[0] != want {
		t.Fatalf("status %d and\n%s", code, out)
	}
	var second struct {
		Route  string
		Valid  *bool
		Errors []struct {
			Message      string
			Line, Column int
		}
	}
	if err := json.Unmarshal([]byte(lines[1]), &second); err != nil {
		t.Fatal(err)
	}
	if second.Route != "FROM /x INTO $y" || second.Valid == nil || *second.Valid || len(second.Errors) != 2 ||
		second.Errors[0].Line != 1 || second.Errors[0].Column != 6 || second.Errors[1].Column != 14 || second.Errors[1].Message == "" {
		t.Errorf("got %s", lines[1])
	}
}

const sampleMessage = `{
  "body": {"machine": {"temperature": 31.5}, "name": "größe"},
  "properties": {"MessageType": "Alert", "nothing": null}
}`

func TestRouteEval(t *testing.T) {
	file := filepath.Join(t.TempDir(), "message.json")
	if err := os.WriteFile(file, []byte(sampleMessage), 0o600); err != nil {
		t.Fatal(err)
	}
	conditions := []string{
		"$body.machine.temperature > 25", "MessageType = 'None'", "gone = 'x'", "is_null(nothing) AND is_defined(nothing)",
		"$contentType = 'application/json' AND $contentEncoding = 'utf-8'", "true AND\n3 + 'a' = 4", "-1 < 0", "",
	}
	want := `{"condition":"$body.machine.temperature > 25","result":true}
{"condition":"MessageType = 'None'","result":false}
{"condition":"gone = 'x'","result":"undefined"}
{"condition":"is_null(nothing) AND is_defined(nothing)","result":true}
{"condition":"$contentType = 'application/json' AND $contentEncoding = 'utf-8'","result":true}
{"condition":"true AND\n3 + 'a' = 4","error":{"message":"+ needs two numbers but has number and string","line":2,"column":3}}
{"condition":"-1 < 0","result":true}
{"condition":"","result":"undefined"}
`
	for _, from := range []string{file, "-"} {
		out, code, err := runRoute(t, sampleMessage, append([]string{"eval", "--message", from, "--"}, conditions...)...)
		if out != want || code != 1 {
			t.Errorf("from %s: status %d, %v and\n%s\nwant\n%s", from, code, err, out, want)
		}
	}
	if out, code, err := runRoute(t, sampleMessage, "eval", "--message", "-", "--", "gone = 'x'"); code != 0 || err != nil {
		t.Errorf("undefined is a result, but got status %d, %v and %s", code, err, out)
	}
}

func TestRouteEvalMessages(t *testing.T) {
	for name, c := range map[string]struct{ message, condition, want string }{
		"empty message":           {`{}`, "$contentType = 'application/json'", "true"},
		"no body":                 {`{}`, "is_defined($body.a)", "false"},
		"null system properties":  {`{"systemProperties": null, "body": {"a": 1}}`, "$body.a = 1", "true"},
		"own system properties":   {`{"systemProperties": {"x": "1"}, "body": {"a": 1}}`, "is_defined($contentType) OR is_defined($body.a)", "false"},
		"null system property":    {`{"systemProperties": {"x": null}}`, "is_null($x)", "true"},
		"utf-16":                  {`{"systemProperties": {"contentType": "application/json", "CONTENTENCODING": "UTF-16"}, "body": {"a": "ö😀"}}`, "$body.a = 'ö😀'", "true"},
		"utf-32":                  {`{"systemProperties": {"contentType": "application/json", "contentEncoding": "utf-32"}, "body": {"a": "ö😀"}}`, "$body.a = 'ö😀'", "true"},
		"text":                    {`{"systemProperties": {"contentType": "text/plain", "contentEncoding": "utf-8"}, "body": {"a": 1}}`, "is_defined($body.a)", "false"},
		"number beyond a float64": {`{"body": {"a": 1e999}}`, "is_defined($body.a) AND NOT is_number($body.a)", "true"},
		"array":                   {`{"body": [1]}`, "is_defined($body.a)", "false"},
	} {
		out, code, err := runRoute(t, c.message, "eval", "--message", "-", "--", c.condition)
		var line struct{ Result any }
		if jsonErr := json.Unmarshal([]byte(out), &line); jsonErr != nil || code != 0 {
			t.Errorf("%s: status %d, %v, %s", name, code, err, out)
			continue
		}
		if got, _ := json.Marshal(line.Result); string(got) != c.want {
			t.Errorf("%s: got %s, want %s", name, got, c.want)
		}
	}
}

func TestRouteEvalRefusesBadMessages(t *testing.T) {
	for name, c := range map[string]struct{ message, words string }{
		"empty":           {"", "standard input is not of the form"},
		"not JSON":        {"{\n\"body\":\n oops}", "line 3"},
		"null":            {"null", "it is null"},
		"array":           {"[]", "line 1"},
		"two messages":    {"{} {}", "follows"},
		"unknown field":   {`{"boody": 1}`, `unknown field "boody"`},
		"number property": {`{"properties": {"a": 1}}`, "properties"},
		"huge":            {`{"body": "` + strings.Repeat("x", maxMessageFile) + `"}`, "more than"},
	} {
		out, code, err := runRoute(t, c.message, "eval", "--message", "-", "--", "true")
		if code != 1 || out != "" || !strings.Contains(err.Error(), c.words) {
			t.Errorf("%s: status %d, output %q, error %v; want %q in it", name, code, out, err, c.words)
		}
	}
	missing := filepath.Join(t.TempDir(), "missing.json")
	if _, code, err := runRoute(t, "", "eval", "--message", missing, "--", "true"); code != 1 || !strings.Contains(err.Error(), missing) {
		t.Errorf("a file that is not there: status %d, %v", code, err)
	}
	if _, code, err := runRoute(t, "", "eval", "--message", t.TempDir(), "--", "true"); code != 1 {
		t.Errorf("a folder: status %d, %v", code, err)
	}
}

func TestRouteWrongUse(t *testing.T) {
	for _, args := range [][]string{
		{}, {"chek"}, {"check"}, {"check", "--jsn", "x"}, {"eval"}, {"eval", "--message", "-"}, {"eval", "--", "true"}, {"eval", "--message"},
		{"eval", "--mesage", "-", "--", "true"}, {"--nope"},
	} {
		if out, code, err := runRoute(t, "", args...); code != 2 || out != "" || err.Error() == "" {
			t.Errorf("%q: status %d, output %q, error %v", args, code, out, err)
		}
	}
}
