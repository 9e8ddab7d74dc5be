package imagereceiver

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"hash/crc32"
	"image"
	"image/color"
	"image/draw"
	"image/jpeg"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tuxwatch/firmware/message"
	"tuxwatch/firmware/vision"
)

const samples = "../../../models/samples"

// sampleFiles are the model's sample pictures.
func sampleFiles(t testing.TB) []string {
	t.Helper()
	files, err := filepath.Glob(samples + "/*.jpg")
	if err != nil || len(files) < 5 {
		t.Fatalf("%d sample pictures in %s, %v", len(files), samples, err)
	}
	return files
}

func load(t testing.TB, file string) []byte {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func encode(t testing.TB, img image.Image) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := jpeg.Encode(&b, img, &jpeg.Options{Quality: 90}); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// patchwork is a JPEG of one color with rectangles of others.
func patchwork(t testing.TB, ground color.Color, patches map[image.Rectangle]color.Color) []byte {
	t.Helper()
	img := image.NewRGBA(image.Rect(0, 0, 160, 120))
	draw.Draw(img, img.Rect, image.NewUniform(ground), image.Point{}, draw.Src)
	for where, c := range patches {
		draw.Draw(img, where, image.NewUniform(c), image.Point{}, draw.Src)
	}
	return encode(t, img)
}

var (
	black = color.Gray{0}
	white = color.Gray{255}
	right = image.Rect(80, 0, 160, 120)
)

func TestRegions(t *testing.T) {
	regions := func(s *Settings) {
		s.Regions = []Region{
			{Name: "left", Rectangle: []float64{0, 0, 0.5, 1}},
			{Name: "right", Rectangle: []float64{0.5, 0, 1, 1}},
			{Name: "corner", Camera: "another", Polygon: []Point{{0, 0}, {1, 0}, {0, 1}}},
		}
	}
	picture := patchwork(t, color.Gray{120}, map[image.Rectangle]color.Color{right: white}) // 0.73 as a whole
	t.Run("frame", func(t *testing.T) {
		r := startWith(t, quick(), regions, `{"Threshold":0.8}`)
		if err := r.Send(Input, message.Message{Body: picture}); err != nil {
			t.Fatal(err)
		}
		if p := r.alert(t); p.Probability < 0.98 {
			t.Errorf("%+v", p)
		}
		if r.colours.images != 2 {
			t.Errorf("looked at %d parts, want 2", r.colours.images)
		}
	})
	t.Run("event", func(t *testing.T) {
		r := startEvents(t, regions, byEventDesired)
		for range 3 {
			if err := r.Send(Input, message.Message{Body: picture}); err != nil {
				t.Fatal(err)
			}
		}
		if s := r.sighting(t, message.SightingStart); s.Region != "right" || s.BestProbability < 0.98 {
			t.Errorf("%+v", s)
		}
	})
	t.Run("of another camera", func(t *testing.T) {
		r := startWith(t, quick(), func(s *Settings) {
			regions(s)
			s.Regions = s.Regions[2:]
		}, "")
		if err := done(dial(t, r, nil).Publish("mine", 1, false, patchwork(t, white, nil))); err != nil {
			t.Fatal(err)
		}
		r.alert(t)
		if r.colours.images != 0 {
			t.Error("it was decoded although nothing is configured for its camera")
		}
		// Half of it is white, the rest of its box is grey.
		if err := done(dial(t, r, nil).Publish("another", 1, false, patchwork(t, white, nil))); err != nil {
			t.Fatal(err)
		}
		if p := r.alert(t); p.Probability < 0.74 || p.Probability > 0.76 {
			t.Errorf("%+v", p)
		}
	})
}

func TestMasks(t *testing.T) {
	r := startWith(t, quick(), func(s *Settings) {
		s.Masks = []Mask{
			{Rectangle: []float64{0.5, 0, 1, 1}},
			{Camera: "another", Rectangle: []float64{0, 0, 1, 1}},
		}
	}, "")
	see := func(picture []byte) {
		t.Helper()
		if err := r.Send(Input, message.Message{Body: picture}); err != nil {
			t.Fatal(err)
		}
	}
	see(patchwork(t, color.Gray{60}, map[image.Rectangle]color.Color{right: white})) // 0.61, and masked 0.37
	r.None(Output)
	see(patchwork(t, white, map[image.Rectangle]color.Color{right: black})) // 0.5, and masked 0.75
	if p := r.alert(t); p.Probability < 0.73 || p.Probability > 0.77 {
		t.Errorf("%+v", p)
	}
	r.None(Output)
}

func TestMaskedPixels(t *testing.T) {
	img := image.NewRGBA(image.Rect(0, 0, 200, 100))
	draw.Draw(img, img.Rect, image.NewUniform(white), image.Point{}, draw.Src)
	s := Settings{Masks: []Mask{{Polygon: []Point{{0, 0}, {0.5, 0}, {0, 1}}}, {Rectangle: []float64{0.75, 0.5, 1, 1}}}}
	hidden := s.sceneOf(origin{}).mask(img)
	for _, c := range []struct {
		x, y   int
		hidden bool
	}{
		{2, 2, true}, {90, 2, true}, {2, 90, true}, {60, 50, false}, {102, 2, false}, {199, 99, true}, {151, 51, true}, {148, 75, false}, {175, 48, false},
	} {
		want := color.RGBA{255, 255, 255, 255}
		if c.hidden {
			want = color.RGBA{128, 128, 128, 255}
		}
		if got := img.RGBAAt(c.x, c.y); got != want || (hidden.AlphaAt(c.x, c.y).A == 255) != c.hidden {
			t.Errorf("%d, %d is %v, want %v", c.x, c.y, got, want)
		}
	}
}

// Small regions are looked at with as many pixels as the picture has, and no
// more than there is memory for.
func TestLongest(t *testing.T) {
	for want, s := range map[int]Settings{
		640:  {Masks: []Mask{{Rectangle: []float64{0, 0, 0.1, 0.1}}}},
		1280: {Regions: []Region{{Rectangle: []float64{0, 0, 1, 1}}, {Rectangle: []float64{0, 0, 0.5, 1}}}},
		2048: {Regions: []Region{{Polygon: []Point{{0, 0}, {0.1, 0.1}, {0, 0.1}}}}},
	} {
		if got := s.sceneOf(origin{}).longest(); got != want {
			t.Errorf("%d, want %d", got, want)
		}
	}
}

func TestNightFrames(t *testing.T) {
	dark := patchwork(t, color.Gray{12}, nil)
	grey := patchwork(t, color.Gray{230}, nil)
	tinted := patchwork(t, color.RGBA{230, 200, 235, 255}, map[image.Rectangle]color.Color{right: color.RGBA{200, 170, 205, 255}})
	day := patchwork(t, color.RGBA{250, 230, 210, 255}, map[image.Rectangle]color.Color{right: color.RGBA{60, 90, 250, 255}})
	for _, c := range []struct {
		name, desired string
		picture       []byte
		night, alert  bool
		skipped       bool
	}{
		{"off", `{"Label":"other"}`, dark, false, true, false},
		{"counted", `{"Label":"other","NightFrames":"classify"}`, dark, true, true, false},
		{"skipped", `{"Label":"other","NightFrames":"skip"}`, dark, true, false, true},
		{"believed less", `{"Label":"other","NightFrames":"discount","NightConfidence":0.5}`, dark, true, false, false},
		{"believed a little less", `{"Label":"other","NightFrames":"discount","NightConfidence":0.6}`, dark, true, true, false},
		{"not as dark as that", `{"Label":"other","NightFrames":"skip","NightLuminance":0.04}`, dark, false, true, false},
		{"infrared", `{"NightFrames":"skip","NightGrey":true}`, grey, true, false, true},
		{"infrared with a tint", `{"NightFrames":"skip","NightGrey":true}`, tinted, true, false, true},
		{"infrared is welcome", `{"NightFrames":"skip"}`, grey, false, true, false},
		{"day", `{"NightFrames":"skip","NightGrey":true}`, day, false, true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := startWith(t, quick(), nil, c.desired)
			if err := r.Send(Input, message.Message{Body: c.picture}); err != nil {
				t.Fatal(err)
			}
			if c.alert {
				r.alert(t)
			}
			r.None(Output)
			s := r.Status()
			if (s.Counters["frames_night"] == 1) != c.night || (s.Counters["frames_night_skipped"] == 1) != c.skipped {
				t.Errorf("%v", s.Counters)
			}
			if (r.colours.count() == 0) != c.skipped || r.colours.images != 0 {
				t.Errorf("the recognizer was asked %d times", r.colours.count())
			}
		})
	}
}

// Frames that are skipped do not keep an event alive.
func TestEventEndsAtNight(t *testing.T) {
	r := startEvents(t, nil, `{"AlertOn":"event","Window":3,"Timeout":0.2,"NightFrames":"skip"}`)
	for r.Status().Counters["events_started"] == 0 {
		r.frames(t, hi)
	}
	r.sighting(t, message.SightingStart)
	for r.Status().Counters["events_ended"] == 0 {
		r.frames(t, lo)
	}
	if end := r.sighting(t, message.SightingEnd); end.Reason != "timeout" {
		t.Errorf("%+v", end)
	}
}

func TestMeasure(t *testing.T) {
	for _, file := range sampleFiles(t) {
		img, err := vision.Upright(load(t, file), 96, vision.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		day := measure(img, nil)
		if day.luminance < 0.12 || day.color < 1.5*colorless {
			t.Errorf("%s passes for night: %+v", file, day)
		}
		plain := image.NewGray(img.Rect)
		draw.Draw(plain, img.Rect, img, image.Point{}, draw.Src)
		infrared, err := vision.Upright(encode(t, plain), 96, vision.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		if l := measure(infrared, nil); l.color > colorless/2 || l.luminance < day.luminance-0.02 || l.luminance > day.luminance+0.02 {
			t.Errorf("%s without color: %+v, with: %+v", file, l, day)
		}
	}
	// A lamp behind a mask does not make it day.
	img := image.NewRGBA(image.Rect(0, 0, 100, 100))
	draw.Draw(img, image.Rect(50, 0, 100, 100), image.NewUniform(white), image.Point{}, draw.Src)
	s := Settings{Masks: []Mask{{Rectangle: []float64{0.5, 0, 1, 1}}}}
	if l := measure(img, s.sceneOf(origin{}).mask(img)); l.luminance > 0.01 {
		t.Errorf("%+v", l)
	}
	s = Settings{Masks: []Mask{{Rectangle: []float64{0, 0, 1, 1}}}}
	if l := measure(img, s.sceneOf(origin{}).mask(img)); (&Properties{NightLuminance: 1, NightGrey: true}).night(l) {
		t.Errorf("%+v", l)
	}
}

func TestThumbnails(t *testing.T) {
	r := startEvents(t, func(s *Settings) {
		s.Masks = []Mask{{Camera: "masked", Rectangle: []float64{0.5, 0, 1, 1}}}
	}, `{"AlertOn":"event","Window":3,"CoolDown":0,"ThumbnailBytes":4000,"UpdateInterval":0.001}`)
	c := dial(t, r, nil)
	see := func(topic string, picture []byte) {
		t.Helper()
		if err := done(c.Publish(topic, 1, false, picture)); err != nil {
			t.Fatal(err)
		}
	}
	thumbnail := func(s message.Sighting) *image.RGBA {
		t.Helper()
		if len(s.Thumbnail) > 4000 {
			t.Errorf("%d bytes", len(s.Thumbnail))
		}
		img, err := vision.Upright(s.Thumbnail, 640, vision.Limits{})
		if err != nil {
			t.Fatalf("%s: %v", s.Event, err)
		}
		return img
	}
	level := func(img *image.RGBA, x, y int, want int) {
		t.Helper()
		if got := int(img.RGBAAt(x, y).G); got < want-6 || got > want+6 {
			t.Errorf("the thumbnail's pixel at %d, %d is %d, want %d", x, y, got, want)
		}
	}
	see("plain", patchwork(t, color.Gray{200}, nil))
	see("plain", patchwork(t, color.Gray{240}, map[image.Rectangle]color.Color{right: black}))
	see("plain", patchwork(t, color.Gray{220}, nil))
	start := r.sighting(t, message.SightingStart)
	img := thumbnail(start)
	if img.Rect.Size() != image.Pt(160, 120) {
		t.Errorf("it is %v", img.Rect.Size())
	}
	level(img, 40, 60, 240) // the best frame, not the last
	level(img, 120, 60, 0)

	news := func() message.Sighting {
		t.Helper()
		time.Sleep(2 * time.Millisecond) // UpdateInterval
		see("plain", patchwork(t, color.Gray{230}, nil))
		return r.sighting(t, message.SightingUpdate)
	}
	if update := news(); update.Thumbnail != nil {
		t.Error("the same thumbnail once more")
	}
	time.Sleep(2 * time.Millisecond)
	see("plain", patchwork(t, color.Gray{250}, nil))
	level(thumbnail(r.sighting(t, message.SightingUpdate)), 120, 60, 250)
	if err := r.SetDesired(`{"AlertOn":"event","Window":3,"CoolDown":0,"ThumbnailBytes":4000,"UpdateInterval":0}`); err != nil {
		t.Fatal(err)
	}
	see("plain", other(t))
	see("plain", other(t))
	level(thumbnail(r.sighting(t, message.SightingEnd)), 120, 60, 250)

	for range 3 {
		see("masked", patchwork(t, white, map[image.Rectangle]color.Color{right: black}))
	}
	img = thumbnail(r.sighting(t, message.SightingStart))
	level(img, 40, 60, 255)
	level(img, 120, 60, 128)
}

// Whatever the picture is, a thumbnail fits, and the message fits the hub.
func TestThumbnailFits(t *testing.T) {
	noise := image.NewRGBA(image.Rect(0, 0, 320, 240))
	random := rand.New(rand.NewPCG(1, 2))
	for i := range noise.Pix {
		noise.Pix[i] = byte(random.Uint32())
		if i%4 == 3 {
			noise.Pix[i] = 255
		}
	}
	wide := noise.SubImage(image.Rect(0, 0, 320, 2))
	photograph, err := vision.Upright(load(t, filepath.Join(samples, "living-room.jpg")), 800, vision.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	for _, most := range []int{minThumbnail, 10_000, maxThumbnail} {
		for name, img := range map[string]image.Image{"noise": noise, "wide": wide, "photograph": photograph} {
			data, err := encodeThumbnail(img, most)
			if err != nil {
				t.Fatal(err)
			}
			if len(data) > most {
				t.Errorf("%s: %d bytes instead of %d", name, len(data), most)
			}
			// It makes use of what it may take.
			if name == "noise" && len(data) < most/3 && most < maxThumbnail {
				t.Errorf("%s: %d bytes of %d", name, len(data), most)
			}
			if _, err := jpeg.Decode(bytes.NewReader(data)); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			body, err := json.Marshal(message.Sighting{Thumbnail: data, Camera: strings.Repeat("c", 140), Topic: strings.Repeat("t", 140), Region: strings.Repeat("r", maxName)})
			if err != nil || len(body) > 200<<10 {
				t.Errorf("%s: the message has %d bytes, %v", name, len(body), err)
			}
		}
	}
}

// bomb is a PNG of a few bytes whose header says that it is huge.
func bomb() []byte {
	b := []byte("\x89PNG\r\n\x1a\n")
	chunk := func(kind string, data []byte) {
		b = binary.BigEndian.AppendUint32(b, uint32(len(data)))
		body := append([]byte(kind), data...)
		b = append(b, body...)
		b = binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(body))
	}
	chunk("IHDR", append(binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, 30000), 30000), 8, 6, 0, 0, 0))
	chunk("IDAT", nil)
	chunk("IEND", nil)
	return b
}

// What the recognizer refuses cannot come in by way of a region either.
func TestBombsAreNotDecoded(t *testing.T) {
	masked := func(s *Settings) { s.Masks = []Mask{{Rectangle: []float64{0, 0, 0.1, 0.1}}} }
	for name, r := range map[string]*receiver{
		"masks": startWith(t, quick(), masked, ""),
		"night": startWith(t, quick(), nil, `{"NightFrames":"classify"}`),
	} {
		for _, picture := range [][]byte{bomb(), penguin(t)[:100]} {
			if err := r.Send(Input, message.Message{Body: picture}); err != nil {
				t.Errorf("%s: it is to come again: %v", name, err)
			}
		}
		r.counter(t, "bad_pictures_too_large", 1)
		r.counter(t, "bad_pictures_not_picture", 1)
		if n := r.colours.count(); n != 0 {
			t.Errorf("%s: the recognizer was asked %d times", name, n)
		}
		// The way is free for the next one.
		if err := r.Send(Input, message.Message{Body: penguin(t)}); err != nil {
			t.Fatal(err)
		}
		r.alert(t)
	}
}

// Whatever goes wrong with a picture, the next one has its turn.
func TestDeskIsLeft(t *testing.T) {
	for name, failure := range map[string]func() error{
		"panic":  func() error { panic("a picture from hell") },
		"error":  func() error { return errors.New("out of memory") },
		"busy":   func() error { return vision.ErrBusy },
		"answer": func() error { return nil },
	} {
		r := startWith(t, quick(), func(s *Settings) {
			s.BusyTimeout = 20 * time.Millisecond
			s.Masks = []Mask{{Rectangle: []float64{0, 0, 0.1, 0.1}}}
		}, "")
		r.colours.hook(func(int) error { return failure() })
		if err := r.Send(Input, message.Message{Body: other(t)}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		r.colours.hook(nil)
		if err := r.Send(Input, message.Message{Body: penguin(t)}); err != nil {
			t.Fatal(err)
		}
		r.alert(t)
	}
}

// Pictures are held decoded one at a time.
func TestDesk(t *testing.T) {
	m := &module{settings: Settings{BusyTimeout: time.Millisecond}, desk: make(chan struct{}, 1)}
	leave, err := m.atDesk(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.atDesk(t.Context()); !errors.Is(err, vision.ErrBusy) {
		t.Errorf("two at the desk: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	m.settings.BusyTimeout = time.Hour
	if _, err := m.atDesk(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	leave()
	leave()
	m.settings.BusyTimeout = 0
	for range 100 {
		leave, err := m.atDesk(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		leave()
	}
}

// A recognizer that cannot take parts of pictures is found out at the start.
func TestRegionsNeedAnAbleRecognizer(t *testing.T) {
	settings := *kind(nil, quick()).Settings().(*Settings)
	type plain struct{ Classifier }
	if _, err := newModule(settings, plain{}, quick()); err != nil {
		t.Error(err)
	}
	settings.Masks = []Mask{{Rectangle: []float64{0, 0, 0.1, 0.1}}}
	if _, err := newModule(settings, plain{}, quick()); err == nil || !strings.Contains(err.Error(), "decoded pictures") {
		t.Errorf("%v", err)
	}
	var _ imageClassifier = (*vision.Service)(nil)
}

func TestRegionAndMaskSettings(t *testing.T) {
	valid := func(change func(*Settings)) error {
		s := Kind(nil).Settings().(*Settings)
		change(s)
		return s.Validate()
	}
	rectangle := []float64{0, 0, 0.5, 1}
	triangle := []Point{{0, 0}, {1, 0}, {0.5, 1}}
	if err := valid(func(s *Settings) {
		s.Regions = []Region{{Name: "a", Rectangle: rectangle}, {Name: "b", Polygon: triangle}, {Name: "a", Camera: "door", Polygon: triangle}}
		s.Masks = []Mask{{Rectangle: rectangle}, {Camera: "door", Polygon: triangle}}
	}); err != nil {
		t.Error(err)
	}
	region := func(r Region) func(*Settings) { return func(s *Settings) { s.Regions = []Region{r} } }
	mask := func(m Mask) func(*Settings) { return func(s *Settings) { s.Masks = []Mask{m} } }
	for want, change := range map[string]func(*Settings){
		"regions: number 1: the name must have 1 to 64":                 region(Region{Rectangle: rectangle}),
		"regions: number 1: write either rectangle: [left, top":         region(Region{Name: "a"}),
		"masks: number 1: write either rectangle":                       mask(Mask{Rectangle: rectangle, Polygon: triangle}),
		"rectangle: [0 0 0.5] is not left, top, right, bottom":          mask(Mask{Rectangle: rectangle[:3]}),
		"rectangle: [0.5 0 0.5 1] is not":                               mask(Mask{Rectangle: []float64{0.5, 0, 0.5, 1}}),
		"100 is outside of the picture, which goes from 0 to 1 in both": mask(Mask{Rectangle: []float64{0, 0, 100, 200}}),
		"polygon: it has 2 corners, not 3 to 64":                        mask(Mask{Polygon: triangle[:2]}),
		"polygon: it has 65 corners":                                    mask(Mask{Polygon: make([]Point, 65)}),
		"it is 0.01 wide and 1 high, the least is 0.02":                 region(Region{Name: "a", Rectangle: []float64{0, 0, 0.01, 1}}),
		"regions: number 2: there is another region \"a\"": func(s *Settings) {
			s.Regions = []Region{{Name: "a", Rectangle: rectangle}, {Name: "a", Rectangle: rectangle}}
		},
		"regions: there are 17, more than 16": func(s *Settings) { s.Regions = make([]Region, 17) },
		"masks: there are 33, more than 32":   func(s *Settings) { s.Masks = make([]Mask, 33) },
		"cameras_by: \"ip\" can be topic":     func(s *Settings) { s.CamerasBy = "ip" },
		"max_cameras: 0 is not":               func(s *Settings) { s.MaxCameras = 0 },
	} {
		if err := valid(change); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func TestEventProperties(t *testing.T) {
	k := Kind(nil)
	for _, desired := range []string{
		`{"AlertOn":"event"}`,
		`{"AlertOn":"event","Threshold":0.9,"EndThreshold":0.9,"Window":31,"MinFrames":10,"MinDuration":2.5,"CoolDown":0,"Timeout":3600,"UpdateInterval":60,"ThumbnailBytes":131072}`,
		`{"Threshold":0.1}`, // by frame, EndThreshold does not matter
		`{"NightFrames":"discount","NightLuminance":0.2,"NightGrey":true,"NightConfidence":0}`,
	} {
		if _, err := k.DesiredProperties(json.RawMessage(desired)); err != nil {
			t.Errorf("%s: %v", desired, err)
		}
	}
	for desired, want := range map[string]string{
		`{"AlertOn":"change"}`:                    `AlertOn "change" can be frame or event`,
		`{"AlertOn":"event","Threshold":0.3}`:     "EndThreshold 0.35 is above Threshold 0.3: an event would end before it begins; set EndThreshold lower",
		`{"EndThreshold":-0.1}`:                   "EndThreshold -0.1 is not a probability",
		`{"Window":2}`:                            "Window 2 is not a number of frames from 3 to 31",
		`{"Window":32}`:                           "Window 32 is not",
		`{"MinFrames":0}`:                         "MinFrames 0 is not",
		`{"MinDuration":-1}`:                      "MinDuration -1 is not a number of seconds",
		`{"CoolDown":86401}`:                      "CoolDown 86401 is not a number of seconds",
		`{"UpdateInterval":-1}`:                   "UpdateInterval -1 is not a number of seconds",
		`{"Timeout":0}`:                           "Timeout 0 is not a number of seconds above 0",
		`{"ThumbnailBytes":100}`:                  "ThumbnailBytes 100 is neither 0, for none, nor from 2048 to 131072",
		`{"ThumbnailBytes":200000}`:               "ThumbnailBytes 200000 is neither",
		`{"NightFrames":"sleep"}`:                 `NightFrames "sleep" can be off, classify, skip or discount`,
		`{"NightLuminance":2}`:                    "NightLuminance 2 is not between 0 (black) and 1 (white)",
		`{"NightConfidence":1.1}`:                 "NightConfidence 1.1 is not",
		`{"Label":"","Window":1}`:                 "Window 1",
		`{"Window":"five"}`:                       "Window must be a int",
		`{"Windows":5}`:                           `unknown field "Windows"`,
		`{"AlertOn":"event","EndThreshold":1e-9}`: "",
	} {
		_, err := k.DesiredProperties(json.RawMessage(desired))
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", desired, err, want)
		}
	}
}
