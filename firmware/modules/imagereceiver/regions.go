package imagereceiver

import (
	"errors"
	"fmt"
	"strings"
)

// Point is a place in a picture that stands upright: x from 0 at its left edge
// to 1 at its right, y from 0 at the top to 1 at the bottom.
type Point = [2]float64

// Region is a part of the picture that the recognizer looks at. Exactly one of
// Rectangle and Polygon is set.
type Region struct {
	// Name goes into the alert.
	Name string `yaml:"name"`
	// Camera is the MQTT topic or client, or the module, whose pictures this is
	// about; empty for all.
	Camera string `yaml:"camera"`
	// Rectangle is left, top, right, bottom.
	Rectangle []float64 `yaml:"rectangle"`
	// Polygon is a list of corners. What is outside becomes grey.
	Polygon []Point `yaml:"polygon"`
}

// Mask is a part of the picture that nobody sees. Exactly one of Rectangle and
// Polygon is set.
type Mask struct {
	// Camera is whose pictures the mask is for; empty for every camera's.
	Camera string `yaml:"camera"`
	// Rectangle is left, top, right and bottom, from 0 to 1.
	Rectangle []float64 `yaml:"rectangle"`
	// Polygon is the corners, each x and y from 0 to 1.
	Polygon []Point `yaml:"polygon"`
}

// The bounds of regions and masks. Each region costs a look at the picture.
const (
	maxRegions = 16
	maxMasks   = 32
	maxCorners = 64
	maxName    = 64
	// leastSide is the width and height of the smallest region.
	leastSide = 0.02
)

func validateRegions(regions []Region) error {
	var errs []error
	if len(regions) > maxRegions {
		errs = append(errs, fmt.Errorf("regions: there are %d, more than %d", len(regions), maxRegions))
	}
	names := make(map[string]bool)
	for i, r := range regions {
		wrong := func(format string, args ...any) {
			errs = append(errs, fmt.Errorf("regions: number %d: %w", i+1, fmt.Errorf(format, args...)))
		}
		switch {
		case strings.TrimSpace(r.Name) == "" || len(r.Name) > maxName:
			wrong("the name must have 1 to %d characters; alerts are going to say it", maxName)
		case names[r.Camera+"\n"+r.Name]:
			wrong("there is another region %q", r.Name)
		}
		names[r.Camera+"\n"+r.Name] = true
		outline, err := outlineOf(r.Rectangle, r.Polygon)
		if err != nil {
			wrong("%w", err)
			continue
		}
		if left, top, right, bottom := box(outline); right-left < leastSide || bottom-top < leastSide {
			wrong("it is %.3g wide and %.3g high, the least is %v", right-left, bottom-top, leastSide)
		}
	}
	return errors.Join(errs...)
}

func validateMasks(masks []Mask) error {
	var errs []error
	if len(masks) > maxMasks {
		errs = append(errs, fmt.Errorf("masks: there are %d, more than %d", len(masks), maxMasks))
	}
	for i, m := range masks {
		if _, err := outlineOf(m.Rectangle, m.Polygon); err != nil {
			errs = append(errs, fmt.Errorf("masks: number %d: %w", i+1, err))
		}
	}
	return errors.Join(errs...)
}

// outlineOf returns the corners of a rectangle or polygon.
func outlineOf(rectangle []float64, polygon []Point) ([]Point, error) {
	var outline []Point
	switch {
	case (rectangle == nil) == (polygon == nil):
		return nil, errors.New("write either rectangle: [left, top, right, bottom] or polygon: [[x, y], [x, y], [x, y]]")
	case rectangle != nil:
		if len(rectangle) != 4 || !(rectangle[0] < rectangle[2] && rectangle[1] < rectangle[3]) {
			return nil, fmt.Errorf("rectangle: %v is not left, top, right, bottom with left < right and top < bottom", rectangle)
		}
		left, top, right, bottom := rectangle[0], rectangle[1], rectangle[2], rectangle[3]
		outline = []Point{{left, top}, {right, top}, {right, bottom}, {left, bottom}}
	case len(polygon) < 3 || len(polygon) > maxCorners:
		return nil, fmt.Errorf("polygon: it has %d corners, not 3 to %d", len(polygon), maxCorners)
	default:
		outline = polygon
	}
	for _, p := range outline {
		for _, v := range p {
			if !(v >= 0 && v <= 1) {
				return nil, fmt.Errorf("%v is outside of the picture, which goes from 0 to 1 in both directions", v)
			}
		}
	}
	return outline, nil
}

// box is the smallest rectangle around an outline.
func box(outline []Point) (left, top, right, bottom float64) {
	left, top = outline[0][0], outline[0][1]
	right, bottom = left, top
	for _, p := range outline[1:] {
		left, right = min(left, p[0]), max(right, p[0])
		top, bottom = min(top, p[1]), max(bottom, p[1])
	}
	return left, top, right, bottom
}

// scene is what the settings say about the pictures of one camera.
type scene struct {
	regions []area
	masks   []area
}

// area is a region or mask in a form to draw with.
type area struct {
	name    string
	outline []Point
	whole   bool // of its box: a rectangle
}

// sceneOf collects the regions and masks of a camera. The settings are valid.
func (s *Settings) sceneOf(from origin) scene {
	mine := func(camera string) bool {
		return camera == "" || camera == from.camera || camera == from.topic
	}
	var sc scene
	for _, r := range s.Regions {
		if outline, err := outlineOf(r.Rectangle, r.Polygon); err == nil && mine(r.Camera) {
			sc.regions = append(sc.regions, area{r.Name, outline, r.Rectangle != nil})
		}
	}
	for _, m := range s.Masks {
		if outline, err := outlineOf(m.Rectangle, m.Polygon); err == nil && mine(m.Camera) {
			sc.masks = append(sc.masks, area{"", outline, m.Rectangle != nil})
		}
	}
	return sc
}

// plain says that the picture is looked at as it is.
func (s scene) plain() bool { return len(s.regions) == 0 && len(s.masks) == 0 }
