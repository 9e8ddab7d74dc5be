package vision_test

import (
	"bytes"
	"image"
	"image/png"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"tuxwatch/firmware/vision"
)

// TestReleasedModelLooksAtThePenguin puts each sample with a penguin into one
// corner of a picture whose other corners are samples without one.
func TestReleasedModelLooksAtThePenguin(t *testing.T) {
	const models, corner = "../../models", 240
	classifier, err := vision.OpenClassifier(runtime(t), filepath.Join(models, "penguin"), 2, vision.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	defer classifier.Close()
	files, err := filepath.Glob(filepath.Join(models, "samples", "*.jpg"))
	if err != nil {
		t.Fatal(err)
	}
	var penguins, others []*image.RGBA
	for _, file := range files {
		img, err := vision.Upright(read(t, file), corner, vision.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(filepath.Base(file), "penguin") {
			penguins = append(penguins, img)
		} else {
			others = append(others, img)
		}
	}
	if testing.Short() {
		penguins = penguins[:2]
	}
	looked, right, mean := 0, 0, 0.0
	for i, penguin := range penguins {
		img := image.NewRGBA(image.Rect(0, 0, 2*corner, 2*corner))
		for quarter := range 4 {
			from := others[(i+quarter)%len(others)]
			if quarter == i%4 {
				from = penguin
			}
			place(img, from, image.Rect(0, 0, corner, corner).Add(image.Pt(quarter%2*corner, quarter/2*corner)))
		}
		var file bytes.Buffer
		if err := png.Encode(&file, img); err != nil {
			t.Fatal(err)
		}
		e, err := classifier.Explain(t.Context(), file.Bytes(), "penguin")
		if err != nil {
			t.Fatal(err)
		}
		if e.Peak < vision.Telling {
			t.Logf("picture %d: the model does not see the penguin (peak %v)", i, e.Peak)
			continue
		}
		looked++
		var quarters [4]float64
		all := 0.0
		for y, row := range e.Grid {
			for x, v := range row {
				quarters[2*(y*2/len(e.Grid))+x*2/len(row)] += v
				all += v
			}
		}
		inside := quarters[i%4] / all
		t.Logf("picture %d: %.0f %% of the map is on the quarter with the penguin", i, 100*inside)
		if quarters[i%4] == slices.Max(quarters[:]) {
			right++
		}
		mean += inside
	}
	mean /= float64(looked)
	if right < looked-1 {
		t.Errorf("in %d of %d pictures the penguin's quarter has most of the map", right, looked)
	}
	if mean < 0.5 { // by chance a quarter
		t.Errorf("on average %.0f %% of the map is on the penguin's quarter", 100*mean)
	}
	if looked < len(penguins)-1 {
		t.Errorf("the model saw the penguin in %d of %d pictures", looked, len(penguins))
	}
}

// place stretches a picture over a part of another, without a filter.
func place(onto, from *image.RGBA, part image.Rectangle) {
	for y := range part.Dy() {
		for x := range part.Dx() {
			onto.SetRGBA(part.Min.X+x, part.Min.Y+y, from.RGBAAt(x*from.Rect.Dx()/part.Dx(), y*from.Rect.Dy()/part.Dy()))
		}
	}
}
