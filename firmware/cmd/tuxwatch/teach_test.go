package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"tuxwatch/firmware/control"
	"tuxwatch/firmware/pictures"
	"tuxwatch/firmware/pictures/picturestest"
	"tuxwatch/firmware/vision"
)

const releasedModel = "../../../models/penguin"

// scene draws a desk, with a red square on it or without.
func scene(seed int, red bool, size image.Point) []byte {
	r := rand.New(rand.NewPCG(uint64(seed), 9))
	img := image.NewRGBA(image.Rectangle{Max: size})
	level := 70 + r.IntN(110)
	for y := range size.Y {
		row := img.Pix[y*img.Stride:]
		for x := range size.X {
			v := uint8(level + (x*5+y*3)%17)
			row[4*x], row[4*x+1], row[4*x+2], row[4*x+3] = v, v, uint8(int(v)*9/10), 255
		}
	}
	box := func(c color.RGBA, side int) {
		at := image.Pt(r.IntN(size.X-side), r.IntN(size.Y-side))
		for y := at.Y; y < at.Y+side; y++ {
			for x := at.X; x < at.X+side; x++ {
				img.SetRGBA(x, y, c)
			}
		}
	}
	for range 3 {
		box(color.RGBA{uint8(r.IntN(90)), uint8(80 + r.IntN(170)), uint8(80 + r.IntN(170)), 255}, size.Y/8)
	}
	if red {
		box(color.RGBA{225, 25, 20, 255}, size.Y/2)
	}
	var b bytes.Buffer
	if err := jpeg.Encode(&b, img, nil); err != nil {
		panic(err)
	}
	return b.Bytes()
}

// twoFolders makes folders called red and plain.
func twoFolders(t testing.TB, red, plain int, size image.Point) (string, string) {
	t.Helper()
	dir := t.TempDir()
	for i, n := range []int{red, plain} {
		folder := filepath.Join(dir, []string{"red", "plain"}[i])
		if err := os.Mkdir(folder, 0o755); err != nil {
			t.Fatal(err)
		}
		for j := range n {
			if err := os.WriteFile(filepath.Join(folder, fmt.Sprintf("%02d.jpg", j)), scene(100*i+j, i == 0, size), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	return filepath.Join(dir, "red"), filepath.Join(dir, "plain")
}

var smallScene = image.Pt(160, 90)

// tuxwatch runs the whole program.
func tuxwatch(t testing.TB, args ...string) (out, errOut string, code int) {
	t.Helper()
	return tuxwatchUntil(t, t.Context(), args...)
}

func tuxwatchUntil(t testing.TB, ctx context.Context, args ...string) (out, errOut string, code int) {
	t.Helper()
	var o, e bytes.Buffer
	code = run(ctx, args, strings.NewReader(""), &o, &e)
	return o.String(), e.String(), code
}

// Taught, tried, measured: as a person would.
func TestTeachClassifyEvaluate(t *testing.T) {
	red, plain := twoFolders(t, 6, 6, smallScene)
	dir := filepath.Join(t.TempDir(), "my model")
	out, errOut, code := tuxwatch(t, "teach", "--positive", red, "--negative", plain, "--out", dir, "--base", releasedModel, "--threads", "1", "--copies", "2")
	if code != 0 {
		t.Fatalf("ended with %d: %s", code, errOut)
	}
	for _, want := range []string{
		"Learnt red from 6 pictures and plain from 6 pictures.", "(5-fold cross-validation) it was right on 1", "there are only 6 of plain",
		"tuxwatch classify --model '" + dir + "' PICTURE…", "modules.recognizer.settings.model", "Label of imageReceiveProcessModule to red",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in:\n%s", want, out)
		}
	}
	if !strings.Contains(errOut, "looking at the pictures: 12 of 12\n") {
		t.Errorf("progress: %q", errOut)
	}

	fresh := filepath.Join(t.TempDir(), "fresh.jpg")
	if err := os.WriteFile(fresh, scene(900, true, smallScene), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, _, code := tuxwatch(t, "classify", "--model", dir, fresh); code != 0 || !strings.HasPrefix(out, fresh+": red ") {
		t.Errorf("classify: %d %s", code, out)
	}

	newRed, newPlain := twoFolders(t, 4, 4, image.Pt(200, 112))
	page := filepath.Join(t.TempDir(), "page.html")
	out, _, code = tuxwatch(t, "evaluate", "--model", dir, "--positive", newRed, "--negative", newPlain, "--json", "--html", page)
	var result struct {
		Model     struct{ Name, Version string }
		Labels    []string
		Accuracy  struct{ Share float64 }
		Confusion map[string]int
		Samples   []any
	}
	if err := json.Unmarshal([]byte(out), &result); err != nil || code != 0 {
		t.Fatalf("%d %v: %s", code, err, out)
	}
	if result.Model.Name != "my model" || !strings.HasPrefix(result.Model.Version, "taught-") || !slices.Equal(result.Labels, []string{"red", "plain"}) ||
		result.Accuracy.Share < 0.8 || len(result.Samples) != 8 {
		t.Errorf("%+v", result)
	}
	if html, err := os.ReadFile(page); err != nil || !bytes.Contains(html, []byte("Confusion matrix")) || bytes.Count(html, []byte("data:image/jpeg")) != 8 {
		t.Errorf("page: %d bytes, %v", len(html), err)
	}
	// A threshold that nothing is above.
	out, _, code = tuxwatch(t, "evaluate", "--model", dir, "--positive", newRed, "--negative", newPlain, "--threshold", "1")
	if code != 0 || !strings.Contains(out, "right                 4 of 8: 50.0 %") || !strings.Contains(out, "is red    0              4") {
		t.Errorf("threshold 1: %d\n%s", code, out)
	}

	// Again into the same folder, in JSON.
	out, errOut, code = tuxwatch(t, "teach", "--positive", red, "--negative", plain, "--out", dir, "--base", releasedModel, "--json", "--copies", "1", "--name", "second", "--labels", "square,nothing")
	var report struct {
		Folder, Name string
		Labels       []string
		Seconds      float64
		Pictures     map[string]int
	}
	if err := json.Unmarshal([]byte(out), &report); err != nil || code != 0 {
		t.Fatalf("%d %v: %s %s", code, err, out, errOut)
	}
	if report.Folder != dir || report.Name != "second" || !slices.Equal(report.Labels, []string{"square", "nothing"}) || report.Seconds <= 0 || report.Pictures["positive"] != 6 {
		t.Errorf("%+v", report)
	}
}

// A name with a line break in it stays on one line.
func TestClassifyOddNames(t *testing.T) {
	good, bad := filepath.Join(t.TempDir(), "a\nb.jpg"), filepath.Join(t.TempDir(), "c\nd.jpg")
	if err := errors.Join(os.WriteFile(good, scene(1, true, smallScene), 0o644), os.WriteFile(bad, nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	out, errOut, code := tuxwatch(t, "classify", "--model", releasedModel, good, bad)
	if code != 1 || strings.Count(out, "\n") != 1 || strings.Count(errOut, "\n") != 1 || !strings.Contains(out, `a\nb.jpg": `) {
		t.Errorf("ended with %d: %q, %q", code, out, errOut)
	}
}

// A folder of everything that is not a picture gives one line each, in all
// commands that read folders.
func TestBadFolders(t *testing.T) {
	red, plain := twoFolders(t, 6, 6, smallScene)
	odd := picturestest.Bad(t, plain)
	left := 0
	for _, o := range odd {
		if !o.Used {
			left++
		}
	}
	for name, args := range map[string][]string{
		"teach":    {"teach", "--positive", red, "--negative", plain, "--out", filepath.Join(t.TempDir(), "m"), "--base", releasedModel, "--copies", "1"},
		"evaluate": {"evaluate", "--positive", red, "--negative", plain, "--model", releasedModel},
		"collect":  {"collect", "--from", plain, "--out", filepath.Join(t.TempDir(), "kept"), "--model", releasedModel, "--uncertainty", "0"},
	} {
		t.Run(name, func(t *testing.T) {
			out, errOut, code := tuxwatch(t, args...)
			if code != 0 {
				t.Fatalf("ended with %d: %s", code, errOut)
			}
			lines := strings.Split(strings.TrimSuffix(errOut, "\n"), "\n")
			for _, o := range odd {
				if o.Used && (o.Says == "" || name == "collect") {
					continue
				}
				what := "left out: "
				if o.Used {
					what = "note: "
				}
				n := 0
				for _, line := range lines {
					if rest, ok := strings.CutPrefix(line, what+pictures.Name(filepath.Join(plain, o.Name))+": "); ok && strings.Contains(rest, o.Says) {
						n++
					}
				}
				if n != 1 {
					t.Errorf("%d lines about %q in:\n%s", n, o.Name, errOut)
				}
			}
			for _, line := range lines {
				if !strings.HasPrefix(line, "left out: ") && !strings.HasPrefix(line, "note: ") && !strings.HasPrefix(line, "looking at") {
					t.Errorf("a line about nothing: %q", line)
				}
			}
			if name == "evaluate" && !strings.Contains(out, fmt.Sprintf("%d of %d files were left out", left, 12+len(odd))) {
				t.Errorf("does not count:\n%s", out)
			}
			if name == "collect" && !strings.Contains(out, fmt.Sprintf("%d could not be used", left)) {
				t.Errorf("does not count:\n%s", out)
			}
		})
	}
}

func TestHiddenFromDaemon(t *testing.T) {
	for dir, hidden := range map[string]bool{
		"/home/pi/mug": true, "/root/mug": true, "/tmp/mug": true, "/var/lib/tuxwatch/mug": false, "/opt/home/mug": false, "/homestead/mug": false,
	} {
		if hiddenFromDaemon(dir) != hidden {
			t.Errorf("%s: %v", dir, !hidden)
		}
	}
}

func TestTeachRefusals(t *testing.T) {
	red, plain := twoFolders(t, 6, 6, smallScene)
	few, none := twoFolders(t, 2, 0, smallScene)
	photos := t.TempDir()
	if err := os.WriteFile(filepath.Join(photos, "holiday.jpg"), scene(1, true, smallScene), 0o644); err != nil {
		t.Fatal(err)
	}
	same := filepath.Join(t.TempDir(), "red")
	if err := os.Mkdir(same, 0o755); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "m")
	base := []string{"--base", releasedModel}
	for name, c := range map[string]struct {
		args []string
		code int
		says string
	}{
		"no folders":        {[]string{"teach"}, 2, "--positive is missing"},
		"no out":            {[]string{"teach", "--positive", red, "--negative", plain}, 2, "--out is missing"},
		"same names":        {[]string{"teach", "--positive", red, "--negative", same, "--out", out}, 2, "both folders are called \"red\""},
		"one label":         {[]string{"teach", "--positive", red, "--negative", plain, "--out", out, "--labels", "a"}, 2, "two labels"},
		"same labels":       {[]string{"teach", "--positive", red, "--negative", plain, "--out", out, "--labels", "a,a"}, 2, "both labels"},
		"camera's flag":     {[]string{"teach", "--positive", red, "--negative", plain, "--out", out, "--countdown", "1s"}, 2, "add --from-camera"},
		"too few":           {append([]string{"teach", "--positive", few, "--negative", plain, "--out", out}, base...), 1, "add at least 2 more of red"},
		"an empty one":      {append([]string{"teach", "--positive", red, "--negative", none, "--out", out}, base...), 1, "no pictures of plain"},
		"both the same":     {append([]string{"teach", "--positive", red, "--negative", red, "--out", out, "--labels", "a,b"}, base...), 1, "6 pictures are in both folders"},
		"out has photos":    {append([]string{"teach", "--positive", red, "--negative", plain, "--out", photos}, base...), 1, "\"holiday.jpg\" in it; name another folder"},
		"base without":      {[]string{"teach", "--positive", red, "--negative", plain, "--out", out, "--base", testModel}, 1, "has no embedding"},
		"no daemon":         {append([]string{"teach", "--from-camera", "--positive", red, "--negative", plain, "--out", out, "--socket", out + ".sock"}, base...), 1, "start it with sudo systemctl start tuxwatchd"},
		"evaluate nothing":  {[]string{"evaluate", "--model", releasedModel, "--positive", none, "--negative", none}, 1, "nothing could be measured"},
		"evaluate nowhere":  {[]string{"evaluate", "--model", releasedModel, "--positive", out, "--negative", plain}, 1, "no such file"},
		"evaluate no label": {[]string{"evaluate", "--model", releasedModel, "--positive", red, "--negative", plain, "--label", "mug"}, 2, "no label \"mug\"; it has"},
		"collect no out":    {[]string{"collect", "--out", ""}, 2, "--out needs"},
		"collect bounds":    {[]string{"collect", "--out", out, "--max-bytes", "100"}, 2, "has no unit"},
		"collect no daemon": {[]string{"collect", "--out", filepath.Join(t.TempDir(), "k"), "--model", releasedModel, "--socket", out + ".sock"}, 1, "start it with sudo systemctl start tuxwatchd"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, errOut, code := tuxwatch(t, c.args...); code != c.code || !strings.Contains(errOut, c.says) {
				t.Errorf("ended with %d, want %d %q: %s", code, c.code, c.says, errOut)
			}
			if _, err := os.Stat(out); !errors.Is(err, os.ErrNotExist) {
				t.Error("there is a folder all the same")
			}
		})
	}
}

// Stopped in the middle, nothing is written.
func TestTeachIsStopped(t *testing.T) {
	red, plain := twoFolders(t, 6, 6, smallScene)
	out := filepath.Join(t.TempDir(), "m")
	ctx, stop := context.WithCancel(t.Context())
	stop()
	_, errOut, code := tuxwatchUntil(t, ctx, "teach", "--positive", red, "--negative", plain, "--out", out, "--base", releasedModel)
	if code != 1 || !strings.Contains(errOut, "stopped; no model was written") {
		t.Errorf("ended with %d: %s", code, errOut)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(out), "*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// The program as it is built takes less than ten seconds of one thread for forty
// photographs from a camera.
func TestTeachIsQuick(t *testing.T) {
	program := filepath.Join(t.TempDir(), "tuxwatch")
	// The tests are built with the race detector, which makes it many times slower.
	if output, err := exec.Command("go", "build", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	// Five scenes of each kind, four times: what follows a JPEG's end makes other
	// files of them, and drawing all would take longer than teaching.
	red, plain := twoFolders(t, 5, 5, image.Pt(1280, 720))
	for _, dir := range []string{red, plain} {
		for i := range 15 {
			data, err := os.ReadFile(filepath.Join(dir, fmt.Sprintf("%02d.jpg", i%5)))
			if err == nil {
				err = os.WriteFile(filepath.Join(dir, fmt.Sprintf("%02d.jpg", i+5)), append(data, byte(i)), 0o644)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	base, err := filepath.Abs(releasedModel)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "teach", "--positive", red, "--negative", plain, "--base", base, "--threads", "1", "--out", filepath.Join(t.TempDir(), "m"))
	if output, err := cmd.CombinedOutput(); err != nil || !bytes.Contains(output, []byte("20 pictures")) {
		t.Fatalf("%v: %s", err, output)
	}
	// The processor's time, since others may use the machine as well.
	took := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	t.Logf("40 pictures of 1280×720: %v", took)
	if took > 10*time.Second {
		t.Errorf("it took %v", took)
	}
}

// cameraDaemon is a daemon with a camera: each picture is taken when it is asked
// for.
type cameraDaemon struct {
	madeUp
	mu    sync.Mutex
	taken int
	shows func(n int) []byte
}

func (d *cameraDaemon) Frame(_ context.Context, camera string, request json.RawMessage) (int, json.RawMessage) {
	if camera != "camera" {
		return 404, json.RawMessage(`{"error":"there is no method ` + camera + `.snapshot"}`)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.taken++
	if d.taken == 1 {
		return 503, json.RawMessage(`{"error":"the camera has taken no picture yet"}`)
	}
	answer, err := json.Marshal(control.Frame{Sequence: d.taken, Source: "test", CaptureTime: time.Now(), ContentType: "image/jpeg", Picture: d.shows(d.taken)})
	if err != nil {
		return 500, nil
	}
	return 200, answer
}

func serveCamera(t *testing.T, d *cameraDaemon) (socket string) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), control.SocketName)
	l, err := control.Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- control.Serve(ctx, l, d, slog.New(slog.DiscardHandler)) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return socket
}

func TestTeachFromCamera(t *testing.T) {
	red, plain := filepath.Join(t.TempDir(), "red"), filepath.Join(t.TempDir(), "plain")
	d := &cameraDaemon{shows: func(n int) []byte {
		// As whoever stands before it does: red until the first folder is full.
		have, _ := filepath.Glob(filepath.Join(red, "*.jpg"))
		return scene(n, len(have) < 5, smallScene)
	}}
	socket := serveCamera(t, d)
	dir := filepath.Join(t.TempDir(), "m")
	out, errOut, code := tuxwatch(t, "teach", "--from-camera", "--positive", red, "--negative", plain, "--out", dir, "--base", releasedModel,
		"--copies", "1", "--pictures", "5", "--countdown", "30ms", "--interval", "1ms", "--socket", socket)
	if code != 0 || !strings.Contains(out, "Learnt red from 5 pictures and plain from 5 pictures.") {
		t.Fatalf("ended with %d: %s%s", code, out, errOut)
	}
	for _, want := range []string{"Put what is to be recognized (red) before the camera", "Now take it away (plain)", "1 … ", "5 of 5: " + plain} {
		if !strings.Contains(errOut, want) {
			t.Errorf("%q is missing in:\n%s", want, errOut)
		}
	}
	_, errOut, code = tuxwatch(t, "teach", "--from-camera", "--positive", red, "--negative", plain, "--out", dir, "--base", releasedModel,
		"--socket", socket, "--camera", "door")
	if code != 1 || !strings.Contains(errOut, "name its module with --camera") {
		t.Errorf("another camera: %d %s", code, errOut)
	}
}

// Between the model's certain pictures there are some that it is unsure of: those
// are kept, and no more of them than the bounds allow.
func TestCollect(t *testing.T) {
	classifier, err := openForWork(releasedModel, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer classifier.Close()
	from := t.TempDir()
	type told struct {
		name   string
		unsure float64
	}
	var all []told
	for i := range 24 {
		data := scene(i, i%2 == 0, smallScene)
		result, err := classifier.Classify(data)
		if err != nil {
			t.Fatal(err)
		}
		name := fmt.Sprintf("%02d.jpg", i)
		if err := os.WriteFile(filepath.Join(from, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
		all = append(all, told{name, uncertainty(result)})
	}
	out := t.TempDir()
	precious := filepath.Join(out, "my own.jpg")
	if err := os.WriteFile(precious, []byte("precious"), 0o644); err != nil {
		t.Fatal(err)
	}
	stdout, errOut, code := tuxwatch(t, "collect", "--from", from, "--out", out, "--model", releasedModel, "--max-pictures", "4", "--uncertainty", "0", "--json")
	if code != 0 {
		t.Fatalf("ended with %d: %s", code, errOut)
	}
	kept := map[string]float64{} // source: uncertainty
	by := map[string]string{}
	lines := strings.Split(strings.TrimSpace(stdout), "\n")
	for _, line := range lines[:len(lines)-1] {
		var l struct {
			Kept, Source string
			Uncertainty  float64
			Removed      []string
		}
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatal(err)
		}
		kept[filepath.Base(l.Source)] = l.Uncertainty
		by[l.Kept] = filepath.Base(l.Source)
		for _, r := range l.Removed {
			if kept[by[r]] > l.Uncertainty {
				t.Errorf("removed %s (%v) for %s (%v)", by[r], kept[by[r]], l.Source, l.Uncertainty)
			}
			delete(kept, by[r])
		}
	}
	if len(kept) != 4 {
		t.Fatalf("kept %v", kept)
	}
	files, _ := filepath.Glob(filepath.Join(out, "unsure-*.jpg"))
	if len(files) != 4 {
		t.Errorf("%v", files)
	}
	if data, _ := os.ReadFile(precious); string(data) != "precious" {
		t.Error("a file of someone else was changed")
	}
	// Nothing that was left is less certain, but what looks like one that is kept.
	least := 1.0
	var embeddings [][]float32
	for name, unsure := range kept {
		least = min(least, unsure)
		embeddings = append(embeddings, embedding(t, classifier, filepath.Join(from, name)))
	}
	for _, p := range all {
		if _, there := kept[p.name]; there || p.unsure <= least+0.001 {
			continue
		}
		e := embedding(t, classifier, filepath.Join(from, p.name))
		if !slices.ContainsFunc(embeddings, func(other []float32) bool { return cosine(e, other) >= alikeEnough }) {
			t.Errorf("%s (%v) was not kept, though less certain than %v", p.name, p.unsure, least)
		}
	}
	var sum struct{ Seen, Pictures int }
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &sum); err != nil || sum.Seen != 24 || sum.Pictures != 4 {
		t.Errorf("%s", lines[len(lines)-1])
	}
	// Once more: the same scenes are not kept twice.
	stdout, _, _ = tuxwatch(t, "collect", "--from", from, "--out", out, "--model", releasedModel, "--max-pictures", "100", "--uncertainty", fmt.Sprint(least))
	if files, _ := filepath.Glob(filepath.Join(out, "unsure-*.jpg")); len(files) > 24 || !strings.Contains(stdout, "almost the same as one that is kept") {
		t.Errorf("%d files\n%s", len(files), stdout)
	}
	// Tighter bounds hold from the beginning.
	if _, errOut, code := tuxwatch(t, "collect", "--from", t.TempDir(), "--out", out, "--model", releasedModel, "--max-pictures", "2"); code != 0 {
		t.Error(errOut)
	}
	if files, _ := filepath.Glob(filepath.Join(out, "unsure-*.jpg")); len(files) != 2 {
		t.Errorf("%v", files)
	}
}

func embedding(t *testing.T, classifier *vision.Classifier, file string) []float32 {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	result, err := classifier.Classify(data)
	if err != nil {
		t.Fatal(err)
	}
	return result.Embedding
}

// From the camera until it is stopped, which is a success.
func TestCollectFromCamera(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	d := &cameraDaemon{shows: func(n int) []byte {
		if n > 6 {
			stop() // as Ctrl-C does
		}
		return scene(n, n%2 == 0, smallScene)
	}}
	socket := serveCamera(t, d)
	out := filepath.Join(t.TempDir(), "kept")
	stdout, errOut, code := tuxwatchUntil(t, ctx, "collect", "--out", out, "--model", releasedModel, "--uncertainty", "0", "--interval", "1ms", "--socket", socket)
	if code != 0 || !strings.Contains(stdout, "Looked at ") || !strings.Contains(stdout, "teach again") {
		t.Errorf("ended with %d: %s%s", code, stdout, errOut)
	}
	if files, _ := filepath.Glob(filepath.Join(out, "unsure-*.jpg")); len(files) == 0 || strings.Count(stdout, "kept unsure-") < len(files) {
		t.Errorf("%v\n%s", files, stdout)
	}
}

// The bounds of a collection, whatever is offered.
func TestCollectionStaysInBounds(t *testing.T) {
	dir := t.TempDir()
	c, err := openCollection(dir, 5, 1000)
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 1))
	when := time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)
	most := 0.0
	for i := range 200 {
		unsure := r.Float64()
		size := r.IntN(400)
		like, _, name, err := c.offer(make([]byte, size), unsure, nil, when.Add(time.Duration(i)*time.Second))
		if err != nil || like != "" {
			t.Fatal(like, err)
		}
		if unsure > most && size > 0 {
			most = unsure
			if name == "" {
				t.Errorf("the least certain so far (%v, %d bytes) was not kept", unsure, size)
			}
		}
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		sum := int64(0)
		for _, e := range entries {
			info, err := e.Info()
			if err != nil {
				t.Fatal(err)
			}
			sum += info.Size()
		}
		if n, bytes := c.size(); len(entries) > 5 || sum > 1000 || n != len(entries) || bytes != sum {
			t.Fatalf("%d files, %d bytes; it counts %d, %d", len(entries), sum, n, bytes)
		}
	}
	if _, _, name, err := c.offer(make([]byte, 1001), 1, nil, when); name != "" || err != nil {
		t.Errorf("a picture beyond the bound: %q, %v", name, err)
	}
	// What its owner moves away is no longer counted.
	for _, p := range c.kept {
		os.Remove(filepath.Join(dir, p.name))
	}
	if _, _, name, err := c.offer([]byte{1}, 0.01, nil, when); name == "" || err != nil {
		t.Errorf("with room again: %q, %v", name, err)
	}
}
