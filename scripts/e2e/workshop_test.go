package e2e

import (
	"encoding/base64"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// samples returns the sample pictures whose names begin with the prefix.
func samples(t testing.TB, prefix string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, "models", "samples", prefix+"*.jpg"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no sample picture %s*.jpg in models/samples (%v)", prefix, err)
	}
	return files
}

// mosquittoPub publishes a file as a camera does, with a client that is not
// ours.
func (s *site) mosquittoPub(file, topic string, more ...string) {
	s.t.Helper()
	client, err := exec.LookPath("mosquitto_pub")
	if err != nil {
		s.t.Fatal("mosquitto_pub is missing: scripts/setup check installs it (Debian package mosquitto-clients)")
	}
	run(s.t, client, append([]string{"-h", "127.0.0.1", "-p", fmt.Sprint(s.ports.mqtt), "-t", topic, "-f", file}, more...)...)
}

func (s *site) base64File(picture string) string {
	s.t.Helper()
	content, err := os.ReadFile(picture)
	if err != nil {
		s.t.Fatal(err)
	}
	name := filepath.Base(picture) + ".b64"
	s.write(name, base64.StdEncoding.EncodeToString(content))
	return s.path(name)
}

// TestWorkshop is the workshop's scenario from end to end.
func TestWorkshop(t *testing.T) {
	s := newSite(t, `
modules:
  tempSensor: {desired: {SendInterval: 0.05}}
  imageReceiveProcessModule: {settings: {listen: "127.0.0.1:MQTT_PORT"}}
  recognizer: {settings: {listen: "127.0.0.1:HTTP_PORT"}}
`)
	events := s.monitor()
	s.startDevice()
	alert := func(e event) bool { return e.Module == "filterModule" }

	// The simulated machine warms up from 21 °C; only what is above 25 °C comes.
	for range 20 {
		e := s.next(events, "an alert", alert)
		if v := e.temperature(t); v <= 25 {
			t.Errorf("an alert for %v °C", v)
		}
		if e.Properties["MessageType"] != "Alert" || e.Output != "output1" || e.Device != deviceID {
			t.Errorf("the alert arrived as %+v", e)
		}
	}

	// A new threshold counts from the next message on.
	s.tuxhub("twin", "set", deviceID, "filterModule.TemperatureThreshold=60")
	s.eventually("the device's word that the threshold is 60", func() bool {
		return strings.Contains(s.tuxhub("twin", "get", deviceID, "--json"), `"TemperatureThreshold":60`) ||
			strings.Contains(s.tuxhub("twin", "get", deviceID, "--json"), `"TemperatureThreshold": 60`)
	})
	changed := time.Now()
	settled := s.next(events, "an alert above 60 °C", func(e event) bool { return alert(e) && e.temperature(t) > 60 })
	for range 10 {
		e := s.next(events, "an alert", alert)
		if v := e.temperature(t); v <= 60 && e.Time.After(changed) && e.Time.After(settled.Time) {
			t.Errorf("an alert for %v °C with a threshold of 60", v)
		}
	}

	// reset, by direct method and by a message on the input control: the machine
	// is cold again.
	s.tuxhub("twin", "set", deviceID, "filterModule.TemperatureThreshold=20")
	for _, call := range [][]string{
		{"tempSensor.reset"},
		{"send", `{"module":"tempSensor","input":"control","body":[{"command":0}]}`},
	} {
		s.next(events, "a warm machine", func(e event) bool { return alert(e) && e.temperature(t) > 26 })
		s.tuxhub(append([]string{"invoke", deviceID}, call...)...)
		s.next(events, "a cold machine after "+call[0], func(e event) bool { return alert(e) && e.temperature(t) < 23 })
	}

	// Pictures, with Debian's MQTT client: base64, QoS 2, retained.
	for i, picture := range samples(t, "penguin") {
		topic := fmt.Sprintf("cameras/penguin/%d", i)
		s.mosquittoPub(s.base64File(picture), topic, "-q", "2", "-r")
		e := s.next(events, "a penguin", func(e event) bool { return e.Module == "imageReceiveProcessModule" })
		if e.Output != "output2" || !strings.HasPrefix(string(e.Body), `{"IsPenguin":true,`) || !strings.Contains(string(e.Body), topic) {
			t.Errorf("%s arrived as %+v: %s", picture, e, e.Body)
		}
	}
	for i, picture := range samples(t, "desk") {
		s.mosquittoPub(s.base64File(picture), fmt.Sprintf("cameras/desk/%d", i), "-q", "2", "-r")
	}
	// A penguin behind them: had one of them been taken for a penguin, it would
	// be here first. Raw bytes and QoS 0 are as good.
	s.mosquittoPub(samples(t, "penguin")[0], "cameras/last", "-q", "0")
	e := s.next(events, "the last penguin", func(e event) bool { return e.Module == "imageReceiveProcessModule" })
	if !strings.Contains(string(e.Body), "cameras/last") {
		t.Errorf("a desk was taken for a penguin: %s", e.Body)
	}
}
