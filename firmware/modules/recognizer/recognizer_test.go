package recognizer

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"mime/multipart"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.uber.org/goleak"

	"tuxwatch/firmware/edge"
	"tuxwatch/firmware/edge/edgetest"
	"tuxwatch/firmware/vision"
	"tuxwatch/firmware/vision/litert"
)

const testdata = "../../vision/testdata"

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newRuntime(t testing.TB) vision.Runtime {
	t.Helper()
	runtime, err := litert.Load("")
	if err != nil {
		t.Fatal(err)
	}
	return runtime
}

func newService(t testing.TB) *vision.Service {
	t.Helper()
	service := vision.NewService(newRuntime(t))
	t.Cleanup(func() { service.Close() })
	return service
}

func picture(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(testdata, "pictures", name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func settings(change func(*Settings)) *Settings {
	s := defaults()
	s.Model = filepath.Join(testdata, "models", "uint8")
	s.Listen = "127.0.0.1:0"
	if change != nil {
		change(s)
	}
	return s
}

// start runs the module and gives the address of its HTTP interface.
func start(t *testing.T, s *Settings) (*edgetest.Harness, string) {
	t.Helper()
	h := edgetest.Start(t, Kind(newService(t)), s, "")
	h.Eventually(func(status edge.ModuleStatus) bool { return status.Reported["address"] != nil })
	return h, "http://" + h.Status().Reported["address"].(string)
}

// client keeps no connections, which would outlive the test.
var client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 20 * time.Second}

func do(t *testing.T, method, url, contentType string, body io.Reader) (*http.Response, []byte) {
	t.Helper()
	request, err := http.NewRequest(method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	if contentType != "" {
		request.Header.Set("Content-Type", contentType)
	}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response, data
}

func form(t testing.TB, field string, data []byte) (contentType string, body *bytes.Buffer) {
	t.Helper()
	body = new(bytes.Buffer)
	writer := multipart.NewWriter(body)
	writer.WriteField("before", "something else")
	part, err := writer.CreateFormFile(field, "picture.jpg")
	if err != nil {
		t.Fatal(err)
	}
	part.Write(data)
	writer.Close()
	return writer.FormDataContentType(), body
}

func TestImageAsCustomVisionAnswersIt(t *testing.T) {
	h, url := start(t, settings(nil))
	jpg := picture(t, "jpeg-420.jpg")
	formType, formBody := form(t, "imageData", jpg)
	for name, c := range map[string]struct {
		contentType string
		body        io.Reader
	}{
		"octet-stream": {"application/octet-stream", bytes.NewReader(jpg)},
		"no type":      {"", bytes.NewReader(jpg)},
		"image/jpeg":   {"image/jpeg", bytes.NewReader(jpg)},
		"form":         {formType, formBody},
	} {
		t.Run(name, func(t *testing.T) {
			response, data := do(t, "POST", url+"/image", c.contentType, c.body)
			if response.StatusCode != 200 || !strings.HasPrefix(response.Header.Get("Content-Type"), "application/json") {
				t.Fatalf("%s: %s", response.Status, data)
			}
			var answer map[string]any
			if err := json.Unmarshal(data, &answer); err != nil {
				t.Fatal(err)
			}
			for _, field := range []string{"id", "project", "iteration"} {
				if _, err := uuid.Parse(answer[field].(string)); err != nil {
					t.Errorf("%s: %v", field, err)
				}
			}
			created, err := time.Parse(time.RFC3339, answer["created"].(string))
			if err != nil || created.Location() != time.UTC {
				t.Errorf("created %v: %v", answer["created"], err)
			}
			predictions := answer["predictions"].([]any)
			if len(predictions) != 2 {
				t.Fatalf("predictions %v", predictions)
			}
			sum, last := 0.0, 1.0
			var names []string
			for _, p := range predictions {
				p := p.(map[string]any)
				probability := p["probability"].(float64)
				if probability > last {
					t.Error("not best first")
				}
				sum, last = sum+probability, probability
				names = append(names, p["tagName"].(string))
				if _, err := uuid.Parse(p["tagId"].(string)); err != nil {
					t.Error("tagId:", err)
				}
				if box, there := p["boundingBox"]; !there || box != nil {
					t.Errorf("boundingBox %v", box)
				}
			}
			slices.Sort(names)
			if !slices.Equal(names, []string{"noPenguin", "penguin"}) || sum < 0.98 || sum > 1.02 {
				t.Errorf("predictions %v", predictions)
			}
		})
	}
	h.Eventually(func(s edge.ModuleStatus) bool { return s.Counters["pictures"] == 4 && s.Healthy })
}

func TestRefusals(t *testing.T) {
	h, url := start(t, settings(func(s *Settings) { s.MaxPictureBytes = 20_000; s.MaxPicturePixels = 160 * 100 }))
	jpg := picture(t, "jpeg-420.jpg")
	big := append(slices.Clone(jpg), make([]byte, 20_000)...)
	formType, noField := form(t, "other", jpg)
	bigType, bigForm := form(t, "imageData", big)
	textType, textForm := form(t, "imageData", []byte("no picture"))
	cutType, whole := form(t, "imageData", jpg)
	cut := bytes.NewReader(whole.Bytes()[:whole.Len()/2])
	for name, c := range map[string]struct {
		method, path, contentType string
		body                      io.Reader
		status                    int
		code                      string
	}{
		"text":               {"POST", "/image", "", strings.NewReader("hello"), 400, "BadRequestImageFormat"},
		"nothing":            {"POST", "/image", "", nil, 400, "BadRequestInvalid"},
		"half a picture":     {"POST", "/image", "", bytes.NewReader(jpg[:len(jpg)/2]), 400, "BadRequestImageFormat"},
		"text in a form":     {"POST", "/image", textType, textForm, 400, "BadRequestImageFormat"},
		"form, no such part": {"POST", "/image", formType, noField, 400, "BadRequestInvalid"},
		"form, cut off":      {"POST", "/image", cutType, cut, 400, "BadRequestInvalid"},
		"form, no boundary":  {"POST", "/image", "multipart/form-data", strings.NewReader("x"), 400, "BadRequestInvalid"},
		"too large":          {"POST", "/image", "", bytes.NewReader(big), 413, "BadRequestImageSizeBytes"},
		"too large, chunked": {"POST", "/image", "", io.MultiReader(bytes.NewReader(big)), 413, "BadRequestImageSizeBytes"},
		"too large form":     {"POST", "/image", bigType, bigForm, 413, "BadRequestImageSizeBytes"},
		"JSON":               {"POST", "/image", "application/json", strings.NewReader(`{"Url":"x"}`), 415, "UnsupportedMediaType"},
		"no type at all":     {"POST", "/image", ";;;", bytes.NewReader(jpg), 415, "UnsupportedMediaType"},
		"GET":                {"GET", "/image", "", nil, 405, "MethodNotAllowed"},
		"PUT":                {"PUT", "/image", "", bytes.NewReader(jpg), 405, "MethodNotAllowed"},
		"POST to the page":   {"POST", "/", "", bytes.NewReader(jpg), 405, "MethodNotAllowed"},
		"another path":       {"POST", "/url", "", bytes.NewReader(jpg), 404, "NotFound"},
	} {
		t.Run(name, func(t *testing.T) {
			response, data := do(t, c.method, url+c.path, c.contentType, c.body)
			var f failure
			if err := json.Unmarshal(data, &f); err != nil {
				t.Fatalf("%s: %s: %v", response.Status, data, err)
			}
			if response.StatusCode != c.status || f.Code != c.code || f.Message == "" {
				t.Errorf("%s %+v, want %d %s", response.Status, f, c.status, c.code)
			}
		})
	}
	if h.Status().Counters["rejected_pictures"] < 10 || h.Status().Counters["pictures"] != 0 {
		t.Errorf("counters %v", h.Status().Counters)
	}
	// And it still works.
	if response, data := do(t, "POST", url+"/image", "", bytes.NewReader(jpg)); response.StatusCode != 200 {
		t.Errorf("afterwards: %s %s", response.Status, data)
	}
}

func TestPixelsBeyondTheLimit(t *testing.T) {
	_, url := start(t, settings(func(s *Settings) { s.MaxPicturePixels = 160*100 - 1 }))
	response, data := do(t, "POST", url+"/image", "", bytes.NewReader(picture(t, "jpeg-420.jpg")))
	if response.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("%s %s", response.Status, data)
	}
}

func TestAbout(t *testing.T) {
	_, url := start(t, settings(nil))
	response, data := do(t, "GET", url+"/", "", nil)
	var about map[string]any
	if err := json.Unmarshal(data, &about); err != nil || about["model"] != "uint8" || about["ready"] != true {
		t.Errorf("%s %s", response.Status, data)
	}
	request, _ := http.NewRequest("GET", url+"/", nil)
	request.Header.Set("Accept", "text/html,*/*")
	page, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer page.Body.Close()
	html, _ := io.ReadAll(page.Body)
	if !bytes.Contains(html, []byte("uint8")) || !bytes.Contains(html, []byte("curl")) || !strings.HasPrefix(page.Header.Get("Content-Type"), "text/html") {
		t.Errorf("page: %s", html)
	}
	if response, data := do(t, "GET", url+"/healthz", "", nil); response.StatusCode != 200 {
		t.Errorf("healthz: %s %s", response.Status, data)
	}
}

// TestModelThatComesLater starts without a model: the module says what is
// missing, refuses pictures for the time being, and recovers by itself.
func TestModelThatComesLater(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "later")
	h, url := start(t, settings(func(s *Settings) { s.Model = dir }))
	h.Eventually(func(s edge.ModuleStatus) bool { return !s.Healthy && strings.Contains(s.Cause, dir) })
	response, data := do(t, "POST", url+"/image", "", bytes.NewReader(picture(t, "jpeg-420.jpg")))
	if response.StatusCode != 503 || response.Header.Get("Retry-After") == "" {
		t.Errorf("%s %s", response.Status, data)
	}
	if response, _ := do(t, "GET", url+"/healthz", "", nil); response.StatusCode != 503 {
		t.Errorf("healthz: %s", response.Status)
	}
	if status, answer := h.Invoke("reload", "null"); status != 500 || !strings.Contains(string(answer), dir) {
		t.Errorf("reload: %d %s", status, answer)
	}
	if err := os.CopyFS(dir, os.DirFS(filepath.Join(testdata, "models", "uint8"))); err != nil {
		t.Fatal(err)
	}
	h.Eventually(func(s edge.ModuleStatus) bool { return s.Healthy && s.Reported["model"] == "later" })
	if response, data := do(t, "POST", url+"/image", "", bytes.NewReader(picture(t, "jpeg-420.jpg"))); response.StatusCode != 200 {
		t.Errorf("%s %s", response.Status, data)
	}
}

func TestReload(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "model")
	if err := os.CopyFS(dir, os.DirFS(filepath.Join(testdata, "models", "uint8"))); err != nil {
		t.Fatal(err)
	}
	h, url := start(t, settings(func(s *Settings) { s.Model = dir }))
	manifest := filepath.Join(dir, vision.ManifestFile)
	if err := os.WriteFile(manifest, []byte("name: second\nversion: \"2\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if status, answer := h.Invoke("reload", "null"); status != 200 || string(answer) != `{"model":"second","version":"2"}` {
		t.Errorf("reload: %d %s", status, answer)
	}
	// A model that does not load leaves the old one at work.
	if err := os.WriteFile(filepath.Join(dir, "labels.txt"), []byte("one\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if status, answer := h.Invoke("reload", "null"); status != 500 || !strings.Contains(string(answer), "1 labels") {
		t.Errorf("reload: %d %s", status, answer)
	}
	if response, data := do(t, "POST", url+"/image", "", bytes.NewReader(picture(t, "png-rgb.png"))); response.StatusCode != 200 {
		t.Errorf("%s %s", response.Status, data)
	}
	if !h.Status().Healthy {
		t.Error("unhealthy, though the old model works")
	}
}

func TestPortTaken(t *testing.T) {
	other, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := other.Addr().String()
	h := edgetest.Start(t, Kind(newService(t)), settings(func(s *Settings) { s.Listen = address }), "")
	h.Eventually(func(s edge.ModuleStatus) bool {
		return !s.Healthy && strings.Contains(s.Cause, address) && strings.Contains(s.Cause, "setting listen")
	})
	other.Close()
	h.Eventually(func(s edge.ModuleStatus) bool { return s.Healthy && s.Reported["address"] == address })
}

func TestNoListener(t *testing.T) {
	service := newService(t)
	h := edgetest.Start(t, Kind(service), settings(func(s *Settings) { s.Listen = "" }), "")
	h.Eventually(func(s edge.ModuleStatus) bool { return s.Healthy && s.Reported["model"] != nil })
	if h.Status().Reported["address"] != nil {
		t.Error("it listens")
	}
	if _, err := service.Classify(t.Context(), picture(t, "jpeg-gray.jpg")); err != nil {
		t.Error("in-process:", err)
	}
}

func TestBusy(t *testing.T) {
	service := newService(t)
	s := settings(func(s *Settings) { s.MaxWaiting = 0 })
	if err := service.Load(t.Context(), s.Model, vision.LoadOptions{}); err != nil {
		t.Fatal(err)
	}
	var busy atomic.Int64
	count := func(name string, n int) {
		if name == "busy" {
			busy.Add(int64(n))
		}
	}
	handler := newHandler(service, *s, count, slog.New(slog.DiscardHandler))

	// Uploads that stay under way take all places for receiving.
	var writers []*io.PipeWriter
	done := make(chan int, parallelUploads)
	for range parallelUploads {
		body, writer := io.Pipe()
		writers = append(writers, writer)
		request := httptest.NewRequest("POST", "/image", body)
		go func() {
			recorder := httptest.NewRecorder()
			handler.ServeHTTP(recorder, request)
			done <- recorder.Code
		}()
		if _, err := writer.Write([]byte("x")); err != nil { // it is being received
			t.Fatal(err)
		}
	}
	recorder := httptest.NewRecorder()
	handler.ServeHTTP(recorder, httptest.NewRequest("POST", "/image", bytes.NewReader(picture(t, "jpeg-420.jpg"))))
	if recorder.Code != 503 || recorder.Header().Get("Retry-After") == "" || busy.Load() != 1 {
		t.Errorf("%d %s, counted %d", recorder.Code, recorder.Body, busy.Load())
	}
	for _, writer := range writers {
		writer.Close()
		if code := <-done; code != 400 {
			t.Errorf("an upload of one byte: %d", code)
		}
	}
}

func TestSettings(t *testing.T) {
	if s := defaults(); s.Listen != "127.0.0.1:8085" || s.Validate() != nil {
		t.Errorf("defaults: %+v", s)
	}
	for name, s := range map[string]*Settings{
		"runtime":                 settings(func(s *Settings) { s.Runtime = "onnx" }),
		"no model for TensorFlow": settings(func(s *Settings) { s.Runtime, s.Model = SavedModel, "" }),
		"threads":                 settings(func(s *Settings) { s.Threads = -1 }),
		"listen":                  settings(func(s *Settings) { s.Listen = "8085" }),
		"port":                    settings(func(s *Settings) { s.Listen = "127.0.0.1:99999" }),
		"bytes":                   settings(func(s *Settings) { s.MaxPictureBytes = 0 }),
		"pixels":                  settings(func(s *Settings) { s.MaxPicturePixels = -1 }),
		"waiting":                 settings(func(s *Settings) { s.MaxWaiting = -1 }),
	} {
		if s.Validate() == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if err := settings(func(s *Settings) { s.Listen = "" }).Validate(); err != nil {
		t.Error("no listener:", err)
	}
}

func FuzzImageHandler(f *testing.F) {
	service := newService(f)
	s := settings(func(s *Settings) { s.MaxPictureBytes = 1 << 16; s.MaxPicturePixels = 1 << 18 })
	if err := service.Load(f.Context(), s.Model, vision.LoadOptions{Threads: 1}); err != nil {
		f.Fatal(err)
	}
	handler := newHandler(service, *s, func(string, int) {}, slog.New(slog.DiscardHandler))
	for _, name := range []string{"jpeg-420.jpg", "png-palette.png", "exif-6.jpg"} {
		data := picture(f, name)
		f.Add("application/octet-stream", data)
		contentType, body := form(f, "imageData", data)
		f.Add(contentType, body.Bytes())
		f.Add(contentType, body.Bytes()[:body.Len()/2])
	}
	f.Add("multipart/form-data; boundary=x", []byte("--x\r\nContent-Disposition: form-data; name=\"imageData\"\r\n\r\nhello\r\n--x--\r\n"))
	f.Add("application/json", []byte(`{"Url":"file:///etc/passwd"}`))
	f.Fuzz(func(t *testing.T, contentType string, body []byte) {
		request := httptest.NewRequest("POST", "/image", bytes.NewReader(body))
		request.Header.Set("Content-Type", contentType)
		recorder := httptest.NewRecorder()
		handler.ServeHTTP(recorder, request)
		if !slices.Contains([]int{200, 400, 413, 415}, recorder.Code) {
			t.Fatalf("%d %s", recorder.Code, recorder.Body)
		}
		if !json.Valid(recorder.Body.Bytes()) {
			t.Fatalf("not JSON: %s", recorder.Body)
		}
	})
}
