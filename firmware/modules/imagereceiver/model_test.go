package imagereceiver

import (
	"context"
	"path/filepath"
	"testing"

	"tuxwatch/firmware/edge/edgetest"
	"tuxwatch/firmware/message"
	"tuxwatch/firmware/vision"
	"tuxwatch/firmware/vision/litert"
)

// The released model looks at a desk where a penguin comes, stays and goes. Now
// and then a frame is of something else.
func TestEventWithTheReleasedModel(t *testing.T) {
	runtime, err := litert.Load("")
	if err != nil {
		t.Fatal(err)
	}
	service := vision.NewService(runtime)
	defer service.Close()
	if err := service.Load(context.Background(), "../../../models/penguin", vision.LoadOptions{Threads: 1}); err != nil {
		t.Fatal(err)
	}
	pictures := make(map[byte][]byte)
	for name, file := range map[byte]string{'p': "penguin-toy-desk.jpg", 'q': "penguin-plush-desk.jpg", '.': "desk-empty.jpg", ':': "desk-telephone.jpg", ',': "desk-gull.jpg"} {
		pictures[name] = load(t, filepath.Join(samples, file))
	}
	for _, c := range []struct {
		name    string
		change  func(*Settings)
		region  string
		desired string
	}{
		{"whole pictures", func(*Settings) {}, "", `{"AlertOn":"event","ThumbnailBytes":20000}`},
		{"region and mask", func(s *Settings) {
			s.Regions = []Region{{Name: "desk", Rectangle: []float64{0.02, 0.02, 0.98, 1}}, {Name: "corner", Rectangle: []float64{0, 0, 0.1, 0.1}}}
			s.Masks = []Mask{{Polygon: []Point{{0, 0}, {0.05, 0}, {0, 0.05}}}}
		}, "desk", `{"AlertOn":"event","ThumbnailBytes":20000,"NightFrames":"skip","NightLuminance":0.05}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := kind(service, quick())
			settings := k.Settings().(*Settings)
			settings.Listen = "127.0.0.1:0"
			c.change(settings)
			r := &receiver{Harness: edgetest.Start(t, k, settings, c.desired)}
			r.reset(t)
			see := func(scene string) {
				t.Helper()
				for _, name := range []byte(scene) {
					if err := r.Send(Input, message.Message{Body: pictures[name]}); err != nil {
						t.Fatal(err)
					}
				}
			}
			see(".:p.,q....") // flickers
			r.None(Output)
			see("ppp")
			start := r.sighting(t, message.SightingStart)
			see("q.pq:p")
			r.None(Output)
			see("...")
			end := r.sighting(t, message.SightingEnd)
			see(".,")
			r.None(Output)
			thumbnail := end.Thumbnail
			start.Thumbnail, end.Thumbnail = nil, nil // not for reading
			if start.ID != end.ID || start.Probability <= 0.5 || end.Probability > 0.35 || end.BestProbability < start.BestProbability || end.Frames != 11 {
				t.Errorf("%+v\n%+v", start, end)
			}
			if start.Model != "penguin" || start.ModelVersion == "" || start.Region != c.region {
				t.Errorf("%+v", start)
			}
			// The thumbnail shows what the alert is about.
			result, err := service.Classify(context.Background(), thumbnail)
			if err != nil || result.Best().Label != "penguin" || len(thumbnail) > 20000 {
				t.Errorf("the thumbnail of %d bytes: %+v, %v", len(thumbnail), result.Predictions, err)
			}
		})
	}
}
