package imagereceiver

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"tuxwatch/firmware/edge"
	"tuxwatch/firmware/edge/edgetest"
	"tuxwatch/firmware/message"
	"tuxwatch/firmware/vision"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// colours stands in for the recognizer: a light picture is a penguin, a dark one
// is not, one in between is hardly one. What it was asked is counted, and a test
// can get in between.
type colours struct {
	mu     sync.Mutex
	asked  int
	images int               // of these, with decoded pictures
	before func(n int) error // called with the count, before the answer
}

func (c *colours) Classify(ctx context.Context, picture []byte) (vision.Result, error) {
	c.mu.Lock()
	c.asked++
	n, before := c.asked, c.before
	c.mu.Unlock()
	if before != nil {
		if err := before(n); err != nil {
			return vision.Result{}, err
		}
	}
	if err := ctx.Err(); err != nil {
		return vision.Result{}, err
	}
	img, err := jpeg.Decode(bytes.NewReader(picture))
	if err != nil {
		return vision.Result{}, fmt.Errorf("%w: %w", vision.ErrNotPicture, err)
	}
	return answer(float64(color.GrayModel.Convert(img.At(0, 0)).(color.Gray).Y) / 255), nil
}

// ClassifyImage answers by the average brightness.
func (c *colours) ClassifyImage(_ context.Context, img image.Image) (vision.Result, error) {
	c.mu.Lock()
	c.asked++
	c.images++
	n, before := c.asked, c.before
	c.mu.Unlock()
	if before != nil {
		if err := before(n); err != nil {
			return vision.Result{}, err
		}
	}
	sum, bounds := 0.0, img.Bounds()
	for y := bounds.Min.Y; y < bounds.Max.Y; y++ {
		for x := bounds.Min.X; x < bounds.Max.X; x++ {
			sum += float64(color.GrayModel.Convert(img.At(x, y)).(color.Gray).Y) / 255
		}
	}
	return answer(sum / float64(bounds.Dx()*bounds.Dy())), nil
}

func answer(light float64) vision.Result {
	result := vision.Result{Model: vision.ModelInfo{Name: "colours", Version: "1"}}
	result.Predictions = []vision.Prediction{{Label: "penguin", Probability: light}, {Label: "other", Probability: 1 - light}}
	if light < 0.5 {
		result.Predictions[0], result.Predictions[1] = result.Predictions[1], result.Predictions[0]
	}
	return result
}

// hook gets in between; see before.
func (c *colours) hook(before func(n int) error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.before = before
}

func (c *colours) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.asked
}

// shade returns a JPEG of one brightness, 0 to 255.
func shade(t testing.TB, brightness byte) []byte {
	t.Helper()
	img := sample()
	grey := img.(interface{ Set(x, y int, c color.Color) })
	for y := range 30 {
		for x := range 40 {
			grey.Set(x, y, color.Gray{brightness})
		}
	}
	var b bytes.Buffer
	if err := jpeg.Encode(&b, img, nil); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func penguin(t testing.TB) []byte { return shade(t, 230) }
func other(t testing.TB) []byte   { return shade(t, 10) }

func base64Of(picture []byte) []byte {
	return []byte(wrapped(base64.StdEncoding.EncodeToString(picture), "\n"))
}

// receiver is a module under test.
type receiver struct {
	*edgetest.Harness
	colours *colours
}

func quick() environment {
	return environment{
		retryMin: time.Millisecond, retryMax: 20 * time.Millisecond, pause: time.Millisecond,
		connectTimeout: 10 * time.Second, packetTimeout: 10 * time.Second, writeTimeout: 10 * time.Second,
		tick: time.Millisecond,
	}
}

func start(t *testing.T, env environment, change func(*Settings)) *receiver {
	t.Helper()
	return startWith(t, env, change, "")
}

// startWith starts the module with desired properties.
func startWith(t *testing.T, env environment, change func(*Settings), desired string) *receiver {
	t.Helper()
	c := &colours{}
	k := kind(c, env)
	s := k.Settings().(*Settings)
	s.Listen = "127.0.0.1:0"
	s.MaxPicturesPerSecond = 1000
	if change != nil {
		change(s)
	}
	return &receiver{edgetest.Start(t, k, s, desired), c}
}

// address is where the broker listens.
func (r *receiver) address() string {
	var address string
	r.Eventually(func(s edge.ModuleStatus) bool {
		address, _ = s.Reported["listen"].(string)
		return address != ""
	})
	return address
}

// alert returns the next alert.
func (r *receiver) alert(t *testing.T) message.Penguin {
	t.Helper()
	m := r.Next(Output)
	if m.ContentType != "application/json" || m.ContentEncoding != "utf-8" {
		t.Errorf("content type %q, encoding %q", m.ContentType, m.ContentEncoding)
	}
	var p message.Penguin
	if err := json.Unmarshal(m.Body, &p); err != nil {
		t.Fatal(err)
	}
	if !p.IsPenguin || !strings.HasPrefix(string(m.Body), `{"IsPenguin":true`) {
		t.Errorf("the alert is %s", m.Body)
	}
	return p
}

// counter waits for a counter to reach a value, and checks that it is no more.
func (r *receiver) counter(t *testing.T, name string, want int64) {
	t.Helper()
	r.Eventually(func(s edge.ModuleStatus) bool { return s.Counters[name] >= want })
	if got := r.Status().Counters[name]; got != want {
		t.Errorf("%s is %d, want %d", name, got, want)
	}
}

func TestFramesFromAModule(t *testing.T) {
	r := start(t, quick(), nil)
	before := time.Now().Add(-time.Second)
	for _, picture := range [][]byte{other(t), penguin(t), base64Of(penguin(t)), other(t)} {
		if err := r.Send(Input, message.Message{Body: picture, ContentType: "image/jpeg"}); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		p := r.alert(t)
		if p.Label != "penguin" || p.Probability < 0.85 || p.Model != "colours" || p.ModelVersion != "1" || p.Camera != "from_frames" || p.Topic != "" {
			t.Errorf("%+v", p)
		}
		if p.TimeCreated.Before(before) || p.TimeCreated.After(time.Now().Add(time.Second)) {
			t.Errorf("received at %v", p.TimeCreated)
		}
	}
	r.None(Output)
	// A frame that cannot be used is dealt with: its sender need not repeat it.
	if err := r.Send(Input, message.Message{Body: []byte("noise!")}); err != nil {
		t.Error(err)
	}
	r.counter(t, "bad_pictures", 1)
	r.counter(t, "bad_pictures_not_picture", 1)
	r.counter(t, "pictures_received", 5)
	r.counter(t, "pictures_classified", 4)
	r.counter(t, "alerts_sent", 2)
}

func TestLabelAndThreshold(t *testing.T) {
	r := start(t, quick(), nil)
	send := func(brightness byte, alert bool) {
		t.Helper()
		if err := r.Send(Input, message.Message{Body: shade(t, brightness)}); err != nil {
			t.Fatal(err)
		}
		if alert {
			r.alert(t)
		}
		r.None(Output)
	}
	send(140, true)
	send(110, false)
	if err := r.SetDesired(`{"Threshold":0.6}`); err != nil {
		t.Fatal(err)
	}
	send(140, false)
	if err := r.Send(Input, message.Message{Body: penguin(t)}); err != nil {
		t.Fatal(err)
	}
	// The probability has to be above the threshold, not at it.
	if err := r.SetDesired(fmt.Sprintf(`{"Threshold":%v}`, r.alert(t).Probability)); err != nil {
		t.Fatal(err)
	}
	send(230, false)
	send(235, true)
	if err := r.SetDesired(`{"Label":"Other"}`); err != nil {
		t.Fatal(err)
	}
	send(230, false)
	send(110, true)
	for _, bad := range []string{`{"Threshold":1}`, `{"Threshold":-0.1}`, `{"Label":" "}`} {
		if err := r.SetDesired(bad); err == nil {
			t.Errorf("%s was taken", bad)
		}
	}
}

func TestBusyRecognizerIsAskedAgain(t *testing.T) {
	r := start(t, quick(), nil)
	r.colours.hook(func(n int) error {
		switch {
		case n < 4:
			return fmt.Errorf("%w: 4 wait", vision.ErrBusy)
		case n < 8:
			return vision.ErrNotReady
		}
		return nil
	})
	if err := r.Send(Input, message.Message{Body: penguin(t)}); err != nil {
		t.Fatal(err)
	}
	r.alert(t)
	if n := r.colours.count(); n != 8 {
		t.Errorf("asked %d times, want 8", n)
	}
}

func TestPictureIsDroppedWhenThereIsNoRecognizer(t *testing.T) {
	for name, failure := range map[string]error{"busy": vision.ErrBusy, "not ready": vision.ErrNotReady, "broken": errors.New("out of memory")} {
		t.Run(name, func(t *testing.T) {
			r := start(t, quick(), func(s *Settings) { s.BusyTimeout = 10 * time.Millisecond })
			r.colours.hook(func(int) error { return failure })
			if err := r.Send(Input, message.Message{Body: penguin(t)}); err != nil {
				t.Errorf("a dropped picture was given back: %v", err)
			}
			r.counter(t, "pictures_dropped", 1)
			r.colours.hook(nil)
			if err := r.Send(Input, message.Message{Body: penguin(t)}); err != nil {
				t.Fatal(err)
			}
			r.alert(t)
		})
	}
}

func TestRecognizersVerdictOnBadPictures(t *testing.T) {
	r := start(t, quick(), nil)
	r.colours.hook(func(n int) error {
		if n == 1 {
			return fmt.Errorf("%w: 100 megapixels", vision.ErrTooLarge)
		}
		return nil
	})
	for _, picture := range [][]byte{penguin(t), penguin(t)[:100]} {
		if err := r.Send(Input, message.Message{Body: picture}); err != nil {
			t.Error(err)
		}
	}
	r.counter(t, "bad_pictures_too_large", 1)
	r.counter(t, "bad_pictures_not_picture", 1)
	r.counter(t, "bad_pictures", 2)
}

func TestPanicIsContained(t *testing.T) {
	r := start(t, quick(), nil)
	r.colours.hook(func(n int) error {
		if n == 1 {
			panic("a picture from hell")
		}
		return nil
	})
	for range 2 {
		if err := r.Send(Input, message.Message{Body: penguin(t)}); err != nil {
			t.Error(err)
		}
	}
	r.alert(t)
	r.counter(t, "bad_pictures_panic", 1)
	if s := r.Status(); s.Restarts != 0 {
		t.Errorf("%+v", s)
	}
}

func TestAlertIsRepeatedUntilItIsStored(t *testing.T) {
	r := start(t, quick(), nil)
	ids := make(map[string]int)
	r.Refuse(func(_ string, m message.Message) error {
		ids[m.ID]++
		if ids[m.ID] < 3 {
			return errors.New("disk full")
		}
		return nil
	})
	if err := r.Send(Input, message.Message{Body: penguin(t)}); err != nil {
		t.Fatal(err)
	}
	r.alert(t)
	r.None(Output)
	if len(ids) != 1 {
		t.Errorf("the repetitions are not one message: %v", ids)
	}

	r2 := start(t, quick(), func(s *Settings) { s.BusyTimeout = 5 * time.Millisecond })
	r2.Refuse(func(string, message.Message) error { return errors.New("disk full") })
	if err := r2.Send(Input, message.Message{Body: penguin(t)}); err == nil || !strings.Contains(err.Error(), "disk full") {
		t.Errorf("an alert that is not stored: %v", err)
	}
	r2.counter(t, "alerts_failed", 1)
}

func TestPortTaken(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	r := start(t, quick(), func(s *Settings) { s.Listen = taken.Addr().String() })
	r.Eventually(func(s edge.ModuleStatus) bool {
		return s.State == edge.Running && !s.Healthy && strings.Contains(s.Cause, "address already in use") && strings.Contains(s.Cause, "the setting listen")
	})
	// The way over the input works all the same.
	if err := r.Send(Input, message.Message{Body: penguin(t)}); err != nil {
		t.Fatal(err)
	}
	r.alert(t)
	taken.Close()
	r.Eventually(func(s edge.ModuleStatus) bool { return s.Healthy && s.Restarts == 0 })
}

func TestPasswordFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "password")
	r := start(t, quick(), func(s *Settings) { s.User, s.PasswordFile = "camera", file })
	unhealthy := func(cause string) {
		t.Helper()
		r.Eventually(func(s edge.ModuleStatus) bool { return !s.Healthy && strings.Contains(s.Cause, cause) })
	}
	unhealthy("the setting password_file")
	if err := os.WriteFile(file, []byte("\nsecond line"), 0o600); err != nil {
		t.Fatal(err)
	}
	unhealthy("the first line")
	if err := os.WriteFile(file, []byte("secret\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r.Eventually(func(s edge.ModuleStatus) bool { return s.Healthy })
}

func TestSettings(t *testing.T) {
	valid := func(change func(*Settings)) error {
		s := Kind(nil).Settings().(*Settings)
		if change != nil {
			change(s)
		}
		return s.Validate()
	}
	for _, change := range []func(*Settings){
		nil,
		func(s *Settings) { s.Listen = "localhost:1888" },
		func(s *Settings) { s.Listen = "[::1]:0" },
		func(s *Settings) { s.Listen, s.Anonymous = ":1888", true },
		func(s *Settings) { s.Listen, s.User, s.PasswordFile = "0.0.0.0:1888", "camera", "/etc/password" },
	} {
		if err := valid(change); err != nil {
			t.Error(err)
		}
	}
	for want, change := range map[string]func(*Settings){
		"set user and password_file, or anonymous: true": func(s *Settings) { s.Listen = "0.0.0.0:1888" },
		":1888 can be reached":                           func(s *Settings) { s.Listen = ":1888" },
		"camera.local:1888 can be reached":               func(s *Settings) { s.Listen = "camera.local:1888" },
		"192.168.1.5:1888 can be reached":                func(s *Settings) { s.Listen = "192.168.1.5:1888" },
		"write address:port":                             func(s *Settings) { s.Listen = "127.0.0.1" },
		"one is of no use without the other":             func(s *Settings) { s.User = "camera" },
		"max_picture_bytes: 0":                           func(s *Settings) { s.MaxPictureBytes = 0 },
		"max_connections: 0":                             func(s *Settings) { s.MaxConnections = 0 },
		"max_pictures_per_second: 0":                     func(s *Settings) { s.MaxPicturesPerSecond = 0 },
		"busy_timeout: -1s":                              func(s *Settings) { s.BusyTimeout = -time.Second },
	} {
		if err := valid(change); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	if err := Kind(nil).Properties().(*Properties).Validate(); err != nil {
		t.Error(err)
	}
}
