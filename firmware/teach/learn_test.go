package teach

import (
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/jpeg"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"tuxwatch/firmware/vision"
	"tuxwatch/firmware/vision/litert"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const baseModel = "../../models/penguin"

func openBase(t testing.TB, dir string) (*vision.Classifier, *litert.Runtime) {
	t.Helper()
	runtime, err := litert.Load("")
	if err != nil {
		t.Fatal(err)
	}
	base, err := vision.OpenClassifier(runtime, dir, 1, vision.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { base.Close() })
	return base, runtime
}

// scene draws a desk with clutter and, if it is to be positive, a red ring on it.
func scene(seed uint64, positive bool, size image.Point) *image.RGBA {
	r := rand.New(rand.NewPCG(seed, 7))
	img := image.NewRGBA(image.Rectangle{Max: size})
	wall, desk := 90+r.IntN(120), 60+r.IntN(120)
	horizon := size.Y * (30 + r.IntN(30)) / 100
	for y := range size.Y {
		level := wall
		if y > horizon {
			level = desk
		}
		row := img.Pix[y*img.Stride:]
		for x := range size.X {
			v := level + (x*7+y*13)%9
			row[4*x], row[4*x+1], row[4*x+2], row[4*x+3] = uint8(v), uint8(v*9/10), uint8(v*8/10), 255
		}
	}
	for range 4 {
		at := image.Pt(r.IntN(size.X), r.IntN(size.Y))
		box := image.Rectangle{at, at.Add(image.Pt(size.X*(5+r.IntN(15))/100, size.Y*(5+r.IntN(15))/100))}
		c := color.RGBA{uint8(r.IntN(120)), uint8(r.IntN(200)), uint8(r.IntN(255)), 255}
		draw.Draw(img, box, image.NewUniform(c), image.Point{}, draw.Src)
	}
	if positive {
		center := image.Pt(size.X*(30+r.IntN(40))/100, size.Y*(35+r.IntN(30))/100)
		radius := size.Y * (18 + r.IntN(12)) / 100
		draw.DrawMask(img, img.Rect, image.NewUniform(color.RGBA{220, 30, 20, 255}), image.Point{},
			ring{center, radius}, image.Point{}, draw.Over)
	}
	return img
}

// ring is a mask.
type ring struct {
	center image.Point
	radius int
}

func (ring) ColorModel() color.Model { return color.AlphaModel }
func (r ring) Bounds() image.Rectangle {
	return image.Rectangle{r.center, r.center}.Inset(-r.radius)
}
func (r ring) At(x, y int) color.Color {
	if d := math.Hypot(float64(x-r.center.X), float64(y-r.center.Y)) / float64(r.radius); d < 1 && d > 0.55 {
		return color.Alpha{255}
	}
	return color.Alpha{}
}

func writeJPEG(t testing.TB, path string, img image.Image) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := jpeg.Encode(f, img, nil); err != nil {
		t.Fatal(err)
	}
}

// folders makes two folders of scenes.
func folders(t testing.TB, positive, negative int, size image.Point) (string, string) {
	t.Helper()
	dir := t.TempDir()
	for kind, n := range map[string]int{"ring": positive, "noRing": negative} {
		if err := os.Mkdir(filepath.Join(dir, kind), 0o755); err != nil {
			t.Fatal(err)
		}
		for i := range n {
			seed := uint64(i)
			if kind == "noRing" {
				seed += 1000
			}
			writeJPEG(t, filepath.Join(dir, kind, fmt.Sprintf("%03d.jpg", i)), scene(seed, kind == "ring", size))
		}
	}
	return filepath.Join(dir, "ring"), filepath.Join(dir, "noRing")
}

var small = image.Pt(160, 90)

// options have one changed copy of each picture, since most tests are about
// something else.
func options(positive, negative string) Options {
	return Options{Positive: positive, Negative: negative, Labels: [2]string{"ring", "noRing"}, Seed: 1, Copies: 1}
}

func TestLearnsFromFiveAndFive(t *testing.T) {
	base, runtime := openBase(t, baseModel)
	positive, negative := folders(t, 5, 5, small)
	done := 0
	o := options(positive, negative)
	o.Copies = 0
	o.Progress = func(d, all int) {
		if done++; d != done || all != 10 {
			t.Errorf("progress %d of %d, want %d of 10", d, all, done)
		}
	}
	model, err := Learn(t.Context(), base, o)
	if err != nil {
		t.Fatal(err)
	}
	if done != 10 {
		t.Errorf("told of %d pictures", done)
	}
	r := model.Report
	if r.Pictures.Positive != 5 || r.Pictures.Negative != 5 || r.Folds != 5 || len(r.CrossValidation.Samples) != 10 {
		t.Errorf("%+v", r)
	}
	if right := r.CrossValidation.Accuracy.Share; right < 0.8 {
		t.Errorf("right on %v of pictures it had not seen", right)
	}
	few := slices.ContainsFunc(r.Advice, func(a Advice) bool { return strings.Contains(a.Message, "only 5 of noRing") })
	if !few {
		t.Errorf("does not advise to take more: %+v", r.Advice)
	}

	// What was written works as any model folder, on new pictures.
	dir := filepath.Join(t.TempDir(), "my model")
	page, err := model.Page("my model")
	if err != nil {
		t.Fatal(err)
	}
	if err := model.Write(dir, Folder{Name: "my model", Base: base, Page: page, Runtime: runtime}); err != nil {
		t.Fatal(err)
	}
	taught, _ := openBase(t, dir)
	if info := taught.Info(); info.Name != "my model" || info.Version != r.Version || info.Licence != "Apache-2.0" || !slices.Equal(info.Labels, []string{"ring", "noRing"}) {
		t.Errorf("%+v", info)
	}
	wrong := 0
	for i := range 10 {
		for _, shows := range []bool{true, false} {
			result, err := taught.ClassifyImage(scene(uint64(5000+i), shows, small))
			if err != nil {
				t.Fatal(err)
			}
			if (result.Best().Label == "ring") != shows {
				wrong++
			}
		}
	}
	if wrong > 4 {
		t.Errorf("wrong on %d of 20 new pictures", wrong)
	}
}

// The same pictures and seed give the same folder, byte for byte; another seed
// another model. The files' names do not matter.
func TestIsReproducible(t *testing.T) {
	base, runtime := openBase(t, baseModel)
	positive, negative := folders(t, 5, 5, small)
	write := func(seed uint64) map[string]string {
		t.Helper()
		o := options(positive, negative)
		o.Seed = seed
		model, err := Learn(t.Context(), base, o)
		if err != nil {
			t.Fatal(err)
		}
		dir := filepath.Join(t.TempDir(), "m")
		if err := model.Write(dir, Folder{Name: "m", Base: base, Runtime: runtime}); err != nil {
			t.Fatal(err)
		}
		files := map[string]string{}
		for _, name := range []string{modelFile, labelsFile, headFile, sumsFile, ReportJSON, vision.ManifestFile} {
			content, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				t.Fatal(err)
			}
			files[name] = string(content)
		}
		return files
	}
	first, second := write(1), write(1)
	if diff := cmp.Diff(first, second); diff != "" {
		t.Errorf("the second time:\n%s", diff)
	}
	if write(2)[headFile] == first[headFile] {
		t.Error("another seed gives the same head")
	}
	for i := range 5 { // other names, another order
		if err := os.Rename(filepath.Join(positive, fmt.Sprintf("%03d.jpg", i)), filepath.Join(positive, fmt.Sprintf("%d.jpg", 9-i))); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(first[headFile], write(1)[headFile]); diff != "" {
		t.Errorf("with other names:\n%s", diff)
	}
}

func TestTooFewPictures(t *testing.T) {
	base, _ := openBase(t, baseModel)
	for _, c := range []struct {
		positive, negative int
		says               string
	}{
		{0, 0, "no pictures in either folder"},
		{0, 7, "no pictures of ring"},
		{7, 0, "no pictures of noRing"},
		{4, 4, "4 of ring and 4 of noRing; add at least 1 more of ring and 1 more of noRing"},
		{2, 12, "add at least 1 more of ring (5"},
		{5, 4, "add at least 1 more of noRing (5"},
		{1, 1, "add at least 4 more of ring and 4 more of noRing"},
		{7, 1, "add at least 2 more of noRing"},
	} {
		positive, negative := folders(t, c.positive, c.negative, image.Pt(32, 24))
		_, err := Learn(t.Context(), base, options(positive, negative))
		var few *TooFewError
		if !errors.As(err, &few) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%d and %d: %v, want %q", c.positive, c.negative, err, c.says)
		}
	}
	// Ten and three do.
	positive, negative := folders(t, 10, 3, small)
	if model, err := Learn(t.Context(), base, options(positive, negative)); err != nil || model.Report.Folds != 3 {
		t.Errorf("ten and three: %v", err)
	}
	if _, err := Learn(t.Context(), base, options(filepath.Join(t.TempDir(), "nowhere"), negative)); err == nil || !strings.Contains(err.Error(), "nowhere: stat: no such file") {
		t.Errorf("no folder: %v", err)
	}
}

func copyFile(t testing.TB, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, data, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestTheSamePictureTwice(t *testing.T) {
	base, _ := openBase(t, baseModel)
	positive, negative := folders(t, 6, 6, small)
	copyFile(t, filepath.Join(positive, "000.jpg"), filepath.Join(positive, "again.jpg"))
	var remarks []Remark
	o := options(positive, negative)
	o.Remark = func(r Remark) { remarks = append(remarks, r) }
	model, err := Learn(t.Context(), base, o)
	if err != nil {
		t.Fatal(err)
	}
	if model.Report.Pictures.Positive != 6 || len(remarks) != 1 || remarks[0].File != filepath.Join(positive, "again.jpg") ||
		!strings.Contains(remarks[0].Message, "same picture as "+filepath.Join(positive, "000.jpg")) {
		t.Errorf("%d pictures, %+v", model.Report.Pictures.Positive, remarks)
	}

	copyFile(t, filepath.Join(positive, "003.jpg"), filepath.Join(negative, "wrong place.jpg"))
	_, err = Learn(t.Context(), base, options(positive, negative))
	var both *BothError
	if !errors.As(err, &both) || len(both.Pairs) != 1 || !strings.Contains(err.Error(), "003.jpg = ") || !strings.Contains(err.Error(), "wrong place.jpg") {
		t.Errorf("in both folders: %v", err)
	}
}

// A picture that was saved once more is not the same file, but looks it.
func TestAlmostTheSamePictureInBothFolders(t *testing.T) {
	base, _ := openBase(t, baseModel)
	positive, negative := folders(t, 6, 6, small)
	const photograph = "../../models/samples/living-room.jpg"
	copyFile(t, photograph, filepath.Join(positive, "living-room.jpg"))
	f, err := os.Open(photograph)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	img, err := jpeg.Decode(f)
	if err != nil {
		t.Fatal(err)
	}
	writeJPEG(t, filepath.Join(negative, "saved-again.jpg"), img)
	model, err := Learn(t.Context(), base, options(positive, negative))
	if err != nil {
		t.Fatal(err)
	}
	s := model.Report.Similar
	if len(s) == 0 || filepath.Base(s[0].Positive) != "living-room.jpg" || filepath.Base(s[0].Negative) != "saved-again.jpg" {
		t.Fatalf("similar: %+v", s)
	}
	// It is among the pictures that the advice names.
	named := slices.ContainsFunc(model.Report.Advice, func(a Advice) bool {
		return slices.Contains(a.Files, filepath.Join(negative, "saved-again.jpg"))
	})
	if !named {
		t.Errorf("advice: %+v", model.Report.Advice)
	}
}

func TestBaseWithoutEmbedding(t *testing.T) {
	base, _ := openBase(t, "../vision/testdata/models/uint8")
	positive, negative := folders(t, 5, 5, image.Pt(32, 24))
	_, err := Learn(t.Context(), base, options(positive, negative))
	if err == nil || !strings.Contains(err.Error(), "uint8 has no embedding") {
		t.Errorf("got %v", err)
	}
}

// A taught model can be taught on again: it is the same network.
func TestTeachingOnATaughtModel(t *testing.T) {
	base, runtime := openBase(t, baseModel)
	positive, negative := folders(t, 5, 5, small)
	first, err := Learn(t.Context(), base, options(positive, negative))
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "m")
	if err := first.Write(dir, Folder{Name: "m", Base: base, Runtime: runtime}); err != nil {
		t.Fatal(err)
	}
	taught, _ := openBase(t, dir)
	second, err := Learn(t.Context(), taught, options(positive, negative))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(first.Head, second.Head); diff != "" {
		t.Errorf("the head differs:\n%s", diff)
	}
	// And it may replace the very folder that it was read from.
	if err := second.Write(dir, Folder{Name: "m", Base: taught, Runtime: runtime}); err != nil {
		t.Error(err)
	}
}

func TestLabels(t *testing.T) {
	for _, bad := range [][2]string{{"", "a"}, {"a", "A"}, {"a\nb", "c"}, {" a", "b"}, {"0 a", "b"}, {"a", "\xff"}} {
		if CheckLabels(bad) == nil {
			t.Errorf("%q is taken", bad)
		}
	}
	if err := CheckLabels([2]string{"gauge above 5", "gauge below 5"}); err != nil {
		t.Error(err)
	}
}
