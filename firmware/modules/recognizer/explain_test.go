package recognizer

import (
	"bytes"
	"encoding/json"
	"image"
	"image/png"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	"tuxwatch/firmware/vision"
)

func TestImageExplained(t *testing.T) {
	h, address := start(t, settings(nil))
	plain, _ := do(t, "POST", address+"/image?explain=0", "", bytes.NewReader(picture(t, "jpeg-420.jpg")))
	response, body := do(t, "POST", address+"/image?explain=1", "", bytes.NewReader(picture(t, "jpeg-420.jpg")))
	if plain.StatusCode != http.StatusOK || response.StatusCode != http.StatusOK {
		t.Fatalf("%s, %s: %.200s", plain.Status, response.Status, body)
	}
	var answer struct {
		vision.Answer
		Explanation *explanation
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		t.Fatal(err)
	}
	if answer.ID == "" || len(answer.Predictions) == 0 {
		t.Errorf("the usual fields are missing: %.300s", body)
	}
	e := answer.Explanation
	if e == nil || e.Label != answer.Predictions[0].TagName || e.ContentType != "image/png" || len(e.Grid) != vision.ExplanationGrid {
		t.Fatalf("%.300s", body)
	}
	img, err := png.Decode(bytes.NewReader(e.Image))
	if err != nil {
		t.Fatal(err)
	}
	original, _, err := image.DecodeConfig(bytes.NewReader(picture(t, "jpeg-420.jpg")))
	if err != nil {
		t.Fatal(err)
	}
	if size := img.Bounds().Size(); size != image.Pt(original.Width, original.Height) {
		t.Errorf("drawn on %v", size)
	}
	if r := e.Region; r.Width <= 0 || r.Height <= 0 || r.Left+r.Width > 1 || r.Top+r.Height > 1 {
		t.Errorf("region %+v", r)
	}
	if n := h.Status().Counters["explained_pictures"]; n != 1 {
		t.Errorf("%d pictures explained", n)
	}

	other := answer.Predictions[len(answer.Predictions)-1].TagName
	_, body = do(t, "POST", address+"/image?explain=true&label="+other, "", bytes.NewReader(picture(t, "png-gray.png")))
	if err := json.Unmarshal(body, &answer); err != nil || answer.Explanation.Label != other {
		t.Errorf("%v: %.300s", err, body)
	}
}

func TestExplainRefuses(t *testing.T) {
	_, address := start(t, settings(nil))
	for query, code := range map[string]string{
		"explain=please":      "BadRequestInvalid",
		"explain=1&label=gnu": "BadRequestInvalid",
	} {
		response, body := do(t, "POST", address+"/image?"+query, "", bytes.NewReader(picture(t, "jpeg-420.jpg")))
		var f failure
		if err := json.Unmarshal(body, &f); err != nil || response.StatusCode != http.StatusBadRequest || f.Code != code || f.Message == "" {
			t.Errorf("%s: %s, %s", query, response.Status, body)
		}
	}
	if response, body := do(t, "POST", address+"/image?explain=1", "", bytes.NewReader([]byte("text"))); response.StatusCode != http.StatusBadRequest {
		t.Errorf("text: %s, %s", response.Status, body)
	}
}

// heldRuntime's models tell when they run and wait until they may go on.
type heldRuntime struct {
	vision.Runtime
	started, let chan struct{}
}

type heldModel struct {
	vision.Model
	r *heldRuntime
}

func (r *heldRuntime) Open(file string, threads int) (vision.Model, error) {
	model, err := r.Runtime.Open(file, threads)
	return &heldModel{model, r}, err
}

func (m *heldModel) Invoke(inputs, outputs [][]byte) error {
	select {
	case m.r.started <- struct{}{}:
	default:
	}
	<-m.r.let
	return m.Model.Invoke(inputs, outputs)
}

// TestExplainOneAtATime: a second picture to explain is refused at once, one to
// classify is not.
func TestExplainOneAtATime(t *testing.T) {
	held := &heldRuntime{Runtime: newRuntime(t), started: make(chan struct{}, 1), let: make(chan struct{})}
	service := vision.NewService(held)
	defer service.Close()
	s := settings(nil)
	if err := service.Load(t.Context(), s.Model, vision.LoadOptions{}); err != nil {
		t.Fatal(err)
	}
	handler := newHandler(service, *s, func(string, int) {}, slog.New(slog.DiscardHandler))
	post := func(path string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequest("POST", path, bytes.NewReader(picture(t, "jpeg-420.jpg"))))
		return w
	}
	first, plain := make(chan int, 1), make(chan int, 1)
	go func() { first <- post("/image?explain=1").Code }()
	<-held.started
	second := post("/image?explain=1")
	if second.Code != http.StatusServiceUnavailable || second.Header().Get("Retry-After") == "" {
		t.Errorf("a second one: %d, %s", second.Code, second.Body)
	}
	go func() { plain <- post("/image").Code }()
	close(held.let)
	if code := <-plain; code != http.StatusOK {
		t.Errorf("to classify: %d", code)
	}
	if code := <-first; code != http.StatusOK {
		t.Errorf("the first one: %d", code)
	}
}
