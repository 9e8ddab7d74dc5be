package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tuxwatch/firmware/edge"
	"tuxwatch/firmware/edge/edgetest"
	"tuxwatch/firmware/message"
	"tuxwatch/firmware/modules/imagereceiver"
	"tuxwatch/firmware/vision"
)

// everything is a penguin to this recognizer.
type everything struct{}

func (everything) Classify(context.Context, []byte) (vision.Result, error) {
	return vision.Result{Predictions: []vision.Prediction{{Label: "penguin", Probability: 0.9}}}, nil
}

// receiver runs the module that pictures are sent to, and returns its address.
func receiver(t *testing.T, change func(*imagereceiver.Settings)) (*edgetest.Harness, string) {
	t.Helper()
	kind := imagereceiver.Kind(everything{})
	settings := kind.Settings().(*imagereceiver.Settings)
	settings.Listen = "127.0.0.1:0"
	settings.MaxPicturesPerSecond = 1000
	if change != nil {
		change(settings)
	}
	h := edgetest.Start(t, kind, settings, "")
	var address string
	h.Eventually(func(s edge.ModuleStatus) bool {
		address, _ = s.Reported["listen"].(string)
		return address != ""
	})
	return h, address
}

// runSendImage gives the output, the errors' output and the exit status.
func runSendImage(t *testing.T, ctx context.Context, stdin []byte, args ...string) (string, string, int) {
	t.Helper()
	cmd := newSendImageCommand()
	var out, errOut bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetErr(&errOut)
	cmd.SetIn(bytes.NewReader(stdin))
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetArgs(args)
	err := cmd.ExecuteContext(ctx)
	if err == nil {
		return out.String(), errOut.String(), 0
	}
	var status exitError
	if !errors.As(err, &status) {
		t.Fatalf("an error without exit status: %v", err)
	}
	return out.String(), errOut.String() + err.Error(), status.code
}

func samplePicture(t *testing.T) (string, []byte) {
	t.Helper()
	file := filepath.Join(testPictures, "png-rgb.png")
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return file, content
}

func TestSendImage(t *testing.T) {
	file, content := samplePicture(t)
	for _, qos := range []string{"0", "1", "2"} {
		for _, form := range []string{"--raw=false", "--raw"} {
			h, address := receiver(t, nil)
			out, errOut, code := runSendImage(t, t.Context(), nil, "--broker", "tcp://"+address, "--qos", qos, form, "--retain", "--topic", "cameras/door", file)
			if code != 0 || errOut != "" {
				t.Fatalf("QoS %s: exit status %d, %s", qos, code, errOut)
			}
			how := "acknowledged after"
			if qos == "0" {
				how = "sent; QoS 0 is not acknowledged"
			}
			if !strings.HasPrefix(out, file+": "+how) || !strings.Contains(out, fmt.Sprintf("(%d bytes to cameras/door)", len(content))) {
				t.Errorf("printed %q", out)
			}
			var alert struct {
				IsPenguin     bool
				Topic, Camera string
			}
			if err := json.Unmarshal(h.Next(imagereceiver.Output).Body, &alert); err != nil {
				t.Fatal(err)
			}
			if !alert.IsPenguin || alert.Topic != "cameras/door" || !strings.HasPrefix(alert.Camera, "send-image-") {
				t.Errorf("%+v", alert)
			}
		}
	}
}

func TestSendImageJSON(t *testing.T) {
	file, content := samplePicture(t)
	text := filepath.Join(t.TempDir(), "text.jpg")
	if err := os.WriteFile(text, []byte("no picture"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, address := receiver(t, nil)
	out, errOut, code := runSendImage(t, t.Context(), content, "--json", "--broker", address, file, "nowhere.jpg", text, "-")
	if code != 1 || errOut != "" {
		t.Errorf("exit status %d, %q", code, errOut)
	}
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if len(lines) != 4 {
		t.Fatalf("printed %q", out)
	}
	for i, want := range []struct {
		file, code, warning string
		bytes               int
	}{
		{file, "", "", len(content)},
		{"nowhere.jpg", "NotFound", "", 0},
		{text, "", "neither a JPEG nor a PNG (it looks like text/plain", len("no picture")},
		{"-", "", "", len(content)},
	} {
		var got struct {
			File         string
			Topic        string
			QoS          *int
			Bytes        int
			Acknowledged bool
			Milliseconds *int
			Warning      string
			Error        *struct{ Code, Message string }
		}
		if err := json.Unmarshal([]byte(lines[i]), &got); err != nil {
			t.Fatal(err)
		}
		if got.File != want.file || got.Bytes != want.bytes || !strings.Contains(got.Warning, want.warning) || want.warning == "" && got.Warning != "" {
			t.Errorf("line %d: %s", i, lines[i])
		}
		if want.code != "" {
			if got.Error == nil || got.Error.Code != want.code || got.Error.Message != "open: no such file or directory" || got.Acknowledged {
				t.Errorf("line %d: %s", i, lines[i])
			}
		} else if got.Error != nil || !got.Acknowledged || got.QoS == nil || *got.QoS != 1 || got.Milliseconds == nil || got.Topic != "cameras/send-image" {
			t.Errorf("line %d: %s", i, lines[i])
		}
	}
}

func TestSendImageWarns(t *testing.T) {
	dir := t.TempDir()
	gif, empty, large := filepath.Join(dir, "a.gif"), filepath.Join(dir, "empty.jpg"), filepath.Join(dir, "large.jpg")
	for file, content := range map[string][]byte{gif: []byte("GIF89a...."), empty: nil, large: make([]byte, vision.DefaultMaxBytes+1)} {
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	h, address := receiver(t, nil)
	out, errOut, code := runSendImage(t, t.Context(), nil, "--broker", address, gif, empty, large)
	if code != 1 || !strings.HasPrefix(out, gif+": acknowledged") {
		t.Errorf("exit status %d, printed %q", code, out)
	}
	for _, want := range []string{
		gif + ": it is neither a JPEG nor a PNG (it looks like image/gif)",
		empty + ": not sent: the file is empty",
		large + ": not sent: picture too large",
	} {
		if !strings.Contains(errOut, want) {
			t.Errorf("errors %q, want %q", errOut, want)
		}
	}
	h.Eventually(func(s edge.ModuleStatus) bool { return s.Counters["bad_pictures_not_picture"] == 1 })
}

func TestSendImageRepeats(t *testing.T) {
	file, content := samplePicture(t)
	h, address := receiver(t, nil)
	out, _, code := runSendImage(t, t.Context(), content, "--broker", address, "--repeat", "3", "--interval", "1ms", file, "-")
	if code != 0 || strings.Count(out, file+":") != 3 || strings.Count(out, "-:") != 3 {
		t.Errorf("exit status %d, printed %q", code, out)
	}
	for range 6 {
		h.Next(imagereceiver.Output)
	}
	h.None(imagereceiver.Output)

	// Without end, until interrupted.
	ctx, interrupt := context.WithCancel(t.Context())
	go func() {
		for range 5 {
			h.Next(imagereceiver.Output)
		}
		interrupt()
	}()
	out, errOut, code := runSendImage(t, ctx, nil, "--broker", address, "--repeat", "0", "--interval", "1ms", file)
	if code != 0 || strings.Count(out, "acknowledged") < 4 {
		t.Errorf("exit status %d, printed %q, %q", code, out, errOut)
	}
}

func TestSendImageInterrupted(t *testing.T) {
	file, _ := samplePicture(t)
	h, address := receiver(t, nil)
	ctx, interrupt := context.WithCancel(t.Context())
	go func() {
		h.Next(imagereceiver.Output)
		interrupt()
	}()
	_, errOut, code := runSendImage(t, ctx, nil, "--broker", address, "--repeat", "100", "--interval", "1h", file)
	if code != 1 || !strings.Contains(errOut, "interrupted after") {
		t.Errorf("exit status %d, %q", code, errOut)
	}
}

func TestSendImageCannotConnect(t *testing.T) {
	file, _ := samplePicture(t)
	nobody, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody.Close()
	other, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	go func() {
		for {
			c, err := other.Accept()
			if err != nil {
				return
			}
			c.Write([]byte("SSH-2.0-x\r\n"))
			c.Close()
		}
	}()
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	guess := filepath.Join(t.TempDir(), "guess")
	if err := os.WriteFile(guess, []byte("guess\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	h, address := receiver(t, func(s *imagereceiver.Settings) { s.User, s.PasswordFile = "camera", password })
	for _, c := range []struct {
		name string
		args []string
		want []string
	}{
		{"nobody listens", []string{"--broker", nobody.Addr().String()}, []string{"connecting to tcp://" + nobody.Addr().String(), "connection refused", "is tuxwatchd running there (tuxwatch status)"}},
		{"something else listens", []string{"--broker", other.Addr().String()}, []string{"imageReceiveProcessModule"}},
		{"no user", []string{"--broker", address}, []string{"--user and --password-file"}},
		{"wrong password", []string{"--broker", address, "--user", "camera", "--password-file", guess}, []string{"--user and --password-file"}},
		{"no password file", []string{"--broker", address, "--user", "camera", "--password-file", guess + "x"}, []string{"reading the password", "no such file"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			out, errOut, code := runSendImage(t, t.Context(), nil, append(c.args, "--timeout", "5s", file)...)
			if code != 1 || out != "" {
				t.Errorf("exit status %d, printed %q", code, out)
			}
			for _, want := range c.want {
				if !strings.Contains(errOut, want) {
					t.Errorf("error %q, want %q", errOut, want)
				}
			}
			if strings.Contains(errOut, "%!") {
				t.Errorf("error %q", errOut)
			}
		})
	}
	h.None(imagereceiver.Output)
	if out, errOut, code := runSendImage(t, t.Context(), nil, "--broker", address, "--user", "camera", "--password-file", password, file); code != 0 {
		t.Errorf("with the right password: exit status %d, %q, %q", code, out, errOut)
	}
}

// A picture is not called acknowledged when it was not.
func TestSendImageNotAcknowledged(t *testing.T) {
	file, _ := samplePicture(t)
	h, address := receiver(t, func(s *imagereceiver.Settings) { s.BusyTimeout = 0 })
	failing := true
	h.Refuse(func(string, message.Message) error {
		if failing {
			failing = false
			return errors.New("disk full")
		}
		return nil
	})
	out, errOut, code := runSendImage(t, t.Context(), nil, "--broker", address, file, file)
	if code != 1 || strings.Count(out, "acknowledged") != 1 || !strings.Contains(errOut, file+": not sent: connection lost") {
		t.Errorf("a lost connection: exit status %d, printed %q, %q", code, out, errOut)
	}

	release := make(chan bool)
	h.Refuse(func(string, message.Message) error { <-release; return nil })
	time.AfterFunc(time.Second, func() { close(release) })
	_, errOut, code = runSendImage(t, t.Context(), nil, "--broker", address, "--timeout", "200ms", file)
	if code != 1 || !strings.Contains(errOut, "no acknowledgement within 200ms") {
		t.Errorf("a busy device: exit status %d, %q", code, errOut)
	}
}

func TestSendImageWrongUse(t *testing.T) {
	for want, args := range map[string][]string{
		"at least one picture":            {},
		"is not one of 0, 1, 2":           {"--qos", "3", "x"},
		"none of + and #":                 {"--topic", "a/#", "x"},
		"the broker's own":                {"--topic", "$SYS/x", "x"},
		"names no host":                   {"--broker", "tcp://", "x"},
		"speaks plain MQTT":               {"--broker", "https://device", "x"},
		"where others cannot read them":   {"--broker", "tcp://camera:secret@device", "x"},
		"--password-file needs --user":    {"--password-file", "x", "x"},
		"--repeat -1 is negative":         {"--repeat", "-1", "x"},
		"--interval -1s is negative":      {"--interval", "-1s", "x"},
		"--timeout 0s has to be positive": {"--timeout", "0s", "x"},
	} {
		if _, errOut, code := runSendImage(t, t.Context(), nil, args...); code != 2 || !strings.Contains(errOut, want) {
			t.Errorf("%q: exit status %d, %q; want 2, %q", args, code, errOut, want)
		}
	}
	o := imageSending{broker: "tuxwatch.local", topic: "t", timeout: 1}
	if err := o.check(); err != nil || o.broker != "tcp://tuxwatch.local:1888" {
		t.Errorf("a host alone: %q, %v", o.broker, err)
	}
	o.broker = "mqtt://[::1]"
	if err := o.check(); err != nil || o.broker != "mqtt://[::1]:1888" {
		t.Errorf("an IPv6 address alone: %q, %v", o.broker, err)
	}
}
