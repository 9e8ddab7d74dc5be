package imagereceiver

import (
	"context"
	"errors"
	"fmt"
	"image"
	"strings"
	"sync"
	"time"

	"tuxwatch/firmware/vision"
)

// imageClassifier is a Classifier that also takes decoded pictures, as regions
// and masks need it. A *vision.Service is one.
type imageClassifier interface {
	ClassifyImage(ctx context.Context, img image.Image) (vision.Result, error)
}

// sight is what looking at a picture has shown.
type sight struct {
	best        vision.Prediction
	model       vision.ModelInfo
	probability float64 // of the label that is looked for
	region      string
	// picture is the decoded one, masked, if there was need of it. It keeps
	// others from decoding theirs until the sight is closed.
	picture *image.RGBA
	close   func()
}

// errNight is returned for a frame that is skipped because it is dark.
var errNight = errors.New("it is a night frame")

// look asks what a picture shows. Without regions, masks and an eye on the night
// the picture goes to the recognizer as it came. The caller closes the sight.
func (m *module) look(ctx context.Context, picture []byte, from origin, p *Properties) (s sight, err error) {
	s.close = func() {}
	whole := false
	defer func() { // after a panic, too
		if !whole {
			s.close()
		}
	}()
	sc := m.settings.sceneOf(from)
	confidence, views := 1.0, []view{{}}
	if !sc.plain() || p.NightFrames != nightOff {
		if s.close, err = m.atDesk(ctx); err != nil {
			return s, err
		}
		img, light, err := m.develop(picture, sc, p)
		if err != nil {
			return s, err
		}
		if p.NightFrames != nightOff && p.night(light) {
			m.c.Count("frames_night", 1)
			switch p.NightFrames {
			case nightSkip:
				m.c.Count("frames_night_skipped", 1)
				return s, errNight
			case nightDiscount:
				confidence = p.NightConfidence
			}
		}
		if sc.plain() {
			s.close()
		} else {
			s.picture, views = img, sc.views(img)
		}
	}
	for i, v := range views {
		result, err := m.classify(ctx, func(ctx context.Context) (vision.Result, error) {
			if v.img == nil {
				return m.classifier.Classify(ctx, picture)
			}
			return m.classifier.(imageClassifier).ClassifyImage(ctx, v.img)
		})
		if err != nil {
			return s, err
		}
		if len(result.Predictions) == 0 {
			continue
		}
		probability := probabilityOf(result, p.Label) * confidence
		if i == 0 || probability > s.probability {
			s.best, s.model, s.probability, s.region = result.Predictions[0], result.Model, probability, v.region
			s.best.Probability *= confidence
		}
	}
	whole = true
	return s, nil
}

// view is one thing to show to the recognizer; without img, the file.
type view struct {
	img    image.Image
	region string
}

// views cuts the regions out of a picture.
func (s scene) views(img *image.RGBA) []view {
	if len(s.regions) == 0 {
		return []view{{img: img}}
	}
	var views []view
	for _, r := range s.regions {
		views = append(views, view{r.cut(img), r.name})
	}
	return views
}

// develop decodes a picture, masks it and measures its light. Where only the
// light is wanted, the picture is small.
func (m *module) develop(picture []byte, sc scene, p *Properties) (*image.RGBA, light, error) {
	longest := sc.longest()
	if sc.plain() {
		const forLight = 96
		longest = forLight
	}
	img, err := vision.Upright(picture, longest, m.limits())
	if err != nil {
		return nil, light{}, err
	}
	hidden := sc.mask(img)
	if p.NightFrames == nightOff {
		return img, light{}, nil
	}
	return img, measure(img, hidden), nil
}

// limits keep pictures from costing more here than they do at the recognizer.
func (m *module) limits() vision.Limits {
	return vision.Limits{Bytes: m.settings.MaxPictureBytes}
}

// atDesk waits until no other picture is held decoded: each may take a lot of
// memory, and there may be many cameras. The caller calls leave, once or more often.
func (m *module) atDesk(ctx context.Context) (leave func(), err error) {
	leave = sync.OnceFunc(func() { <-m.desk })
	select {
	case m.desk <- struct{}{}:
		return leave, nil
	default:
	}
	timeout := time.NewTimer(m.settings.BusyTimeout)
	defer timeout.Stop()
	select {
	case m.desk <- struct{}{}:
		return leave, nil
	case <-timeout.C:
		return func() {}, fmt.Errorf("%w: other pictures are being decoded", vision.ErrBusy)
	case <-ctx.Done():
		return func() {}, ctx.Err()
	}
}

// thumbnail makes the picture of a sight small; nil if that is not possible.
func (m *module) thumbnail(ctx context.Context, s sight, picture []byte, most int) []byte {
	img := s.picture
	if img == nil {
		leave, err := m.atDesk(ctx)
		if err != nil {
			return nil
		}
		defer leave()
		if img, err = vision.Upright(picture, thumbnailSide, m.limits()); err != nil {
			m.complaints.say("thumbnail", "a thumbnail could not be made", "error", err)
			return nil
		}
	}
	small, err := encodeThumbnail(img, most)
	if err != nil {
		m.complaints.say("thumbnail", "a thumbnail could not be made", "error", err)
		return nil
	}
	return small
}

// probabilityOf is that of a label, whatever its case; 0 if the model does not
// know it.
func probabilityOf(r vision.Result, label string) float64 {
	for _, p := range r.Predictions {
		if strings.EqualFold(p.Label, label) {
			return p.Probability
		}
	}
	return 0
}
