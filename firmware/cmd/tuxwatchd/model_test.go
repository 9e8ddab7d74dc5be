package main

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tuxwatch/firmware/control"
)

const pictureFile = "../../vision/testdata/pictures/jpeg-420.jpg"

// The camera's newest picture comes over the control socket, for those who teach
// and collect on the device.
func TestFrameOfTheCamera(t *testing.T) {
	dir := t.TempDir()
	picture, err := os.ReadFile(pictureFile)
	if err != nil {
		t.Fatal(err)
	}
	pictures := filepath.Join(dir, "pictures")
	if err := errors.Join(os.Mkdir(pictures, 0o755), os.WriteFile(filepath.Join(pictures, "a.jpg"), picture, 0o644)); err != nil {
		t.Fatal(err)
	}
	p := start(t, dir, fmt.Sprintf(`modules:
  camera:
    enabled: true
    settings: {source: directory, path: %q}
    desired: {FramesPerSecond: 20}
  imageReceiveProcessModule: null
  recognizer: null
routes: {}
`, pictures))
	ask := control.Client{Socket: filepath.Join(p.state, control.SocketName)}
	newer := func(than time.Time) *control.Frame {
		t.Helper()
		for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
			f, err := ask.Frame(t.Context(), "camera", than)
			if err != nil && !errors.Is(err, control.ErrNoPicture) {
				t.Fatal(err)
			}
			if f != nil {
				return f
			}
		}
		t.Fatal("no picture came")
		return nil
	}
	first := newer(time.Time{})
	if first.Source != "a.jpg" || first.ContentType != "image/jpeg" || !bytes.Equal(first.Picture, picture) {
		t.Errorf("%s %s, %d bytes", first.Source, first.ContentType, len(first.Picture))
	}
	if second := newer(first.CaptureTime); !second.CaptureTime.After(first.CaptureTime) || second.Sequence <= first.Sequence {
		t.Errorf("%v after %v", second.CaptureTime, first.CaptureTime)
	}
	if _, err := ask.Frame(t.Context(), "tempSensor", time.Time{}); !errors.Is(err, control.ErrNoCamera) {
		t.Errorf("a module that is no camera: %v", err)
	}
}

// Another model in the file is at work soon; one that does not load is told of,
// and the one before goes on answering.
func TestModelChangesLive(t *testing.T) {
	dir := t.TempDir()
	models, err := filepath.Abs("../../vision/testdata/models")
	if err != nil {
		t.Fatal(err)
	}
	with := func(model string) string {
		return fmt.Sprintf(`modules:
  imageReceiveProcessModule: null
  recognizer:
    settings: {model: %q, listen: "127.0.0.1:0"}
routes: {}
`, model)
	}
	p := start(t, dir, with(filepath.Join(models, "uint8")))
	answering := func(labels int) bool {
		s, err := p.status()
		if err != nil {
			return false
		}
		address, _ := module(s, "recognizer").Reported["address"].(string)
		picture, err := os.ReadFile(pictureFile)
		if err != nil {
			t.Fatal(err)
		}
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
		answer, err := client.Post("http://"+address+"/image", "application/octet-stream", bytes.NewReader(picture))
		if err != nil {
			return false // it is changing over
		}
		defer answer.Body.Close()
		var body bytes.Buffer
		body.ReadFrom(answer.Body)
		return answer.StatusCode == 200 && strings.Count(body.String(), "tagName") == labels
	}
	p.eventually("the first model answers", func(*control.Status) bool { return answering(2) })
	p.write(with(filepath.Join(models, "float3")))
	p.eventually("the second model answers", func(*control.Status) bool { return answering(3) })
	nowhere := filepath.Join(dir, "nowhere")
	p.write(with(nowhere))
	p.eventually("the recognizer says what is wrong", func(s *control.Status) bool {
		m := module(s, "recognizer")
		return !m.Healthy && strings.Contains(m.Cause, nowhere) && strings.Contains(m.Cause, "the model float3 of "+filepath.Join(models, "float3")+" stays in use")
	})
	p.eventually("the second model still answers", func(*control.Status) bool { return answering(3) })
}
