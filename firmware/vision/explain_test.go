package vision

import (
	"bytes"
	"context"
	"errors"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"math"
	"slices"
	"sync/atomic"
	"testing"
	"time"
)

// redness is a model that says "red" the surer, the more of its input of 32 × 32
// is red, whatever else is in it. each is called before each invocation, with
// its number.
func redness(each func(n int)) *fakeRuntime {
	runtime := &fakeRuntime{inputs: []Tensor{floatTensor(1, 32, 32, 3)}, outputs: []Tensor{floatTensor(1, 3)}}
	n := 0
	runtime.invoke = func(inputs, outputs [][]byte) error {
		n++
		if each != nil {
			each(n)
		}
		samples := getFloats(inputs[0]) // −1 … 1
		red := 0.0
		for i := 0; i < len(samples); i += 3 {
			red += max(0, float64(samples[i])-float64(samples[i+1])-0.5)
		}
		p := float32(1 / (1 + math.Exp(3-red/15)))
		putFloats(outputs[0], p, (1-p)/3, (1-p)*2/3)
		return nil
	}
	return runtime
}

func rednessClassifier(t *testing.T, each func(n int), policy Policy) *Classifier {
	t.Helper()
	c, err := classOf(t, redness(each), map[string]string{"labels.txt": "red\ngreen\nblue", ManifestFile: "input: {resize: " + string(policy) + "}"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// withRed is a gray picture with a red part.
func withRed(t *testing.T, size image.Point, red image.Rectangle) []byte {
	t.Helper()
	img := image.NewRGBA(image.Rectangle{Max: size})
	draw.Draw(img, img.Rect, image.NewUniform(color.RGBA{120, 130, 140, 255}), image.Point{}, draw.Src)
	draw.Draw(img, red, image.NewUniform(color.RGBA{250, 10, 10, 255}), image.Point{}, draw.Src)
	var file bytes.Buffer
	if err := png.Encode(&file, img); err != nil {
		t.Fatal(err)
	}
	return file.Bytes()
}

// massIn is the share of a grid's sum that is in a part of the picture.
func massIn(grid [][]float64, left, top, right, bottom float64) float64 {
	inside, all := 0.0, 0.0
	for y, row := range grid {
		for x, v := range row {
			all += v
			across, down := (float64(x)+0.5)/float64(len(row)), (float64(y)+0.5)/float64(len(grid))
			if across > left && across < right && down > top && down < bottom {
				inside += v
			}
		}
	}
	return inside / all
}

// TestExplainFindsWhatTheModelLooksAt knows what the model looks at.
func TestExplainFindsWhatTheModelLooksAt(t *testing.T) {
	size := image.Pt(160, 80)
	for name, c := range map[string]struct {
		policy Policy
		red    image.Rectangle
	}{
		"left of it, stretched":  {Stretch, image.Rect(20, 20, 50, 50)},
		"right corner":           {Stretch, image.Rect(130, 50, 160, 80)},
		"cropped":                {Crop, image.Rect(50, 10, 75, 35)},
		"letterboxed":            {Letterbox, image.Rect(10, 5, 50, 45)},
		"letterboxed, lower":     {Letterbox, image.Rect(110, 40, 155, 75)},
		"cropped, in the middle": {Crop, image.Rect(90, 30, 115, 60)},
	} {
		t.Run(name, func(t *testing.T) {
			invoked := 0
			classifier := rednessClassifier(t, func(n int) { invoked = n }, c.policy)
			e, err := classifier.Explain(t.Context(), withRed(t, size, c.red), "red")
			if err != nil {
				t.Fatal(err)
			}
			if invoked != Invocations || invoked > 200 {
				t.Errorf("the model ran %d times, not %d", invoked, Invocations)
			}
			if e.Label != "red" || e.Size != size || e.Picture.Rect.Size() != size || e.Peak < 0.9 {
				t.Errorf("label %s, size %v, picture %v, peak %v", e.Label, e.Size, e.Picture.Rect, e.Peak)
			}
			if overlap := e.Region.In(size).Intersect(c.red); overlap.Dx()*overlap.Dy() < c.red.Dx()*c.red.Dy()*3/4 {
				t.Errorf("looked at %v, red is %v", e.Region.In(size), c.red)
			}
			if part := e.Region.In(size); part.Dx()*part.Dy() > size.X*size.Y/2 {
				t.Errorf("looked at %v, which is no statement", part)
			}
			if len(e.Grid) != ExplanationGrid || len(e.Grid[0]) != ExplanationGrid {
				t.Errorf("%d × %d parts", len(e.Grid), len(e.Grid[0]))
			}
			// Most of the weight is no farther from the red than windows are wide.
			margin := 0.15
			x, y := float64(size.X), float64(size.Y)
			if mass := massIn(e.Grid, float64(c.red.Min.X)/x-margin, float64(c.red.Min.Y)/y-margin*1.5,
				float64(c.red.Max.X)/x+margin, float64(c.red.Max.Y)/y+margin*1.5); mass < 0.7 {
				t.Errorf("%.0f %% of the map is on the red: %v", 100*mass, e.Grid)
			}
			// It is coloured there, and gray where nothing is.
			middle := c.red.Min.Add(c.red.Max).Div(2)
			if p := e.Picture.RGBAAt(middle.X, middle.Y); p.R < 150 || p.G < 60 {
				t.Errorf("the red is drawn as %v", p)
			}
			far := image.Pt(size.X-1-middle.X, size.Y-1-middle.Y)
			if p := e.Picture.RGBAAt(far.X, far.Y); int(p.R)-int(p.B) > 5 || int(p.B)-int(p.R) > 15 {
				t.Errorf("at %v, where nothing is, it is drawn as %v", far, p)
			}
		})
	}
}

func TestExplainDarkensWhatIsCroppedOff(t *testing.T) {
	size := image.Pt(160, 80)
	e, err := rednessClassifier(t, nil, Crop).Explain(t.Context(), withRed(t, size, image.Rect(60, 20, 90, 50)), "")
	if err != nil {
		t.Fatal(err)
	}
	if off, seen := e.Picture.RGBAAt(20, 70), e.Picture.RGBAAt(110, 75); off.G > 60 || seen.G < 100 {
		t.Errorf("cropped off %v, seen %v", off, seen)
	}
	for _, row := range e.Grid {
		if row[0] != 0 || row[ExplanationGrid-1] != 0 {
			t.Fatalf("the model saw what is cropped off: %v", row)
		}
	}
}

// TestExplainIsUpright: the map is that of the picture as people see it.
func TestExplainIsUpright(t *testing.T) {
	classifier := rednessClassifier(t, nil, Stretch)
	var grids [][][]float64
	for _, name := range []string{"exif-1.jpg", "exif-6.jpg"} {
		e, err := classifier.Explain(t.Context(), readFile(t, "testdata/pictures", name), "red")
		if err != nil {
			t.Fatal(err)
		}
		if e.Picture.Rect.Size() != e.Size {
			t.Errorf("%s: %v became %v", name, e.Size, e.Picture.Rect.Size())
		}
		if e.Peak < 0.1 {
			t.Errorf("%s: nothing to compare, the peak is %v", name, e.Peak)
		}
		grids = append(grids, e.Grid)
	}
	for y := range grids[0] {
		for x := range grids[0][y] {
			if math.Abs(grids[0][y][x]-grids[1][y][x]) > 0.15 {
				t.Fatalf("row %d, column %d: %v upright, %v turned", y, x, grids[0][y][x], grids[1][y][x])
			}
		}
	}
}

func TestExplainOfNothingSaysLittle(t *testing.T) {
	classifier := rednessClassifier(t, nil, Stretch)
	e, err := classifier.Explain(t.Context(), withRed(t, image.Pt(100, 100), image.Rectangle{}), "red")
	if err != nil {
		t.Fatal(err)
	}
	if e.Peak != 0 || e.Region != (Region{Width: 1, Height: 1}) {
		t.Errorf("peak %v in %+v", e.Peak, e.Region)
	}
}

// TestExplainAgainstALabel: what speaks for one label does not for another.
func TestExplainAgainstALabel(t *testing.T) {
	classifier := rednessClassifier(t, nil, Stretch)
	file := withRed(t, image.Pt(100, 100), image.Rect(60, 60, 90, 90))
	e, err := classifier.Explain(t.Context(), file, "blue")
	if err != nil {
		t.Fatal(err)
	}
	if mass := massIn(e.Grid, 0.6, 0.6, 0.9, 0.9); e.Label != "blue" || mass > 0.02 {
		t.Errorf("%.0f %% of the map for %s is on the red", 100*mass, e.Label)
	}
	if _, err := classifier.Explain(t.Context(), file, "penguin"); !errors.Is(err, ErrNoLabel) {
		t.Error(err)
	}
	if _, err := classifier.Explain(t.Context(), []byte("text"), ""); !errors.Is(err, ErrNotPicture) {
		t.Error(err)
	}
}

func TestExplainIsTheSameEachTime(t *testing.T) {
	file := readFile(t, "testdata/pictures/jpeg-420.jpg")
	first, err := rednessClassifier(t, nil, Crop).Explain(t.Context(), file, "")
	if err != nil {
		t.Fatal(err)
	}
	second, err := rednessClassifier(t, nil, Crop).Explain(t.Context(), file, "")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first.Picture.Pix, second.Picture.Pix) || first.Region != second.Region || first.Peak != second.Peak {
		t.Error("two explanations of the same picture differ")
	}
}

func TestExplainEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	invoked := 0
	classifier := rednessClassifier(t, func(n int) {
		if invoked = n; n == 20 {
			cancel()
		}
	}, Stretch)
	_, err := classifier.Explain(ctx, readFile(t, "testdata/pictures/jpeg-420.jpg"), "")
	if !errors.Is(err, context.Canceled) || invoked != 20 {
		t.Errorf("%v after %d of the model's runs", err, invoked)
	}
}

// TestServiceExplainsBetweenOtherPictures: one place is enough for others to be
// answered while a picture is explained, and they do not wait for its end.
func TestServiceExplainsBetweenOtherPictures(t *testing.T) {
	var s *Service
	asked := make(chan error, 1)
	var answered, invoked atomic.Int64
	s = NewService(redness(func(n int) {
		invoked.Store(int64(n))
		if n == 10 {
			go func() {
				err := ask(t.Context(), s)
				answered.Store(invoked.Load())
				asked <- err
			}()
		}
		if n >= 10 {
			time.Sleep(time.Millisecond) // so that the other one has a chance
		}
	}))
	defer s.Close()
	s.SetMaxWaiting(0)
	if err := s.Load(t.Context(), folder(t, map[string]string{"labels.txt": "red\ngreen\nblue"}), LoadOptions{}); err != nil {
		t.Fatal(err)
	}
	e, err := s.Explain(t.Context(), readFile(t, "testdata/pictures/jpeg-420.jpg"), "")
	if err != nil || e.Picture == nil {
		t.Fatal(err)
	}
	if err := <-asked; err != nil {
		t.Error("another picture:", err)
	}
	if invoked.Load() != Invocations+1 || answered.Load() > Invocations*3/4 {
		t.Errorf("the other picture was answered after %d of %d runs of the model", answered.Load(), invoked.Load())
	}
}

func TestServiceExplainsOneAtATime(t *testing.T) {
	runtime := redness(nil)
	started, let := make(chan struct{}, 3*Invocations), make(chan struct{})
	invoke := runtime.invoke
	runtime.invoke = func(inputs, outputs [][]byte) error {
		started <- struct{}{}
		<-let
		return invoke(inputs, outputs)
	}
	s := NewService(runtime)
	file := readFile(t, "testdata/pictures/jpeg-420.jpg")
	if _, err := s.Explain(t.Context(), file, ""); !errors.Is(err, ErrNotReady) {
		t.Error("without a model:", err)
	}
	if err := s.Load(t.Context(), folder(t, map[string]string{"labels.txt": "red\ngreen\nblue"}), LoadOptions{}); err != nil {
		t.Fatal(err)
	}
	first := make(chan error, 1)
	go func() {
		_, err := s.Explain(t.Context(), file, "")
		first <- err
	}()
	<-started
	if _, err := s.Explain(t.Context(), file, ""); !errors.Is(err, ErrExplaining) || !errors.Is(err, ErrBusy) {
		t.Error("a second one:", err)
	}
	close(let)
	if err := <-first; err != nil {
		t.Error(err)
	}
	if _, err := s.Explain(t.Context(), file, ""); err != nil {
		t.Error("after the first:", err)
	}
	s.Close()
	if _, err := s.Explain(t.Context(), file, ""); !errors.Is(err, ErrClosed) {
		t.Error("after Close:", err)
	}
}

// TestServiceExplainsWithOneModel: answers of two models do not make one map.
func TestServiceExplainsWithOneModel(t *testing.T) {
	files := map[string]string{"labels.txt": "red\ngreen\nblue"}
	next := folder(t, files)
	var s *Service
	loaded := make(chan error, 1)
	s = NewService(redness(func(n int) {
		if n == 10 {
			go func() { loaded <- s.Load(t.Context(), next, LoadOptions{}) }()
		}
		if n >= 10 {
			time.Sleep(time.Millisecond)
		}
	}))
	defer s.Close()
	if err := s.Load(t.Context(), folder(t, files), LoadOptions{}); err != nil {
		t.Fatal(err)
	}
	_, err := s.Explain(t.Context(), readFile(t, "testdata/pictures/jpeg-420.jpg"), "")
	if !errors.Is(err, ErrModelChanged) {
		t.Error(err)
	}
	if err := <-loaded; err != nil {
		t.Error(err)
	}
}

// TestWindows: the windows of every scale cover the visible part evenly, and
// nothing else.
func TestWindows(t *testing.T) {
	input, visible := image.Pt(96, 64), image.Rect(0, 8, 96, 56)
	all := windows(input, visible)
	if len(all) != Invocations-2 {
		t.Fatalf("%d windows", len(all))
	}
	for s := range scales {
		across := make([]int, input.X)
		down := make([]int, input.Y)
		n := 0
		for _, w := range all {
			if w.scale != s {
				continue
			}
			n++
			for x, v := range w.across {
				across[x] += int(v)
			}
			for y, v := range w.down {
				down[y] += int(v)
			}
		}
		if n != scales[s].along*scales[s].along {
			t.Errorf("scale %d has %d windows", s, n)
		}
		if slices.Min(across) == 0 || slices.Min(down[8:56]) == 0 {
			t.Errorf("scale %d does not cover the picture: %v, %v", s, across, down)
		}
		if slices.Max(down[:8]) != 0 || slices.Max(down[56:]) != 0 {
			t.Errorf("scale %d covers more than the picture: %v", s, down)
		}
	}
}
