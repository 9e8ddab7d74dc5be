package recognizer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"io"
	"log/slog"
	"mime"
	"mime/multipart"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"tuxwatch/firmware/vision"
)

const (
	// patience is how long a request waits for its turn at the model.
	patience = 20 * time.Second
	// explainPatience is how long explaining a picture may take.
	explainPatience = 45 * time.Second
	// formOverhead is what a multipart form may have beside the picture.
	formOverhead = 64 << 10
	// parallelUploads is how many pictures are received at a time, beyond
	// those that may wait at the model: it bounds the memory.
	parallelUploads = 4
	imageField      = "imageData"
)

// handler is the HTTP interface: POST /image as Custom Vision's container has
// it, GET / and GET /healthz.
type handler struct {
	service  *vision.Service
	settings Settings
	count    func(counter string, n int)
	log      *slog.Logger
	uploads  chan struct{} // one token each
}

func newHandler(service *vision.Service, settings Settings, count func(string, int), log *slog.Logger) http.Handler {
	h := &handler{
		service: service, settings: settings, count: count, log: log,
		uploads: make(chan struct{}, settings.MaxWaiting+parallelUploads),
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/image", only(http.MethodPost, h.image))
	mux.HandleFunc("/healthz", only(http.MethodGet, h.healthz))
	mux.HandleFunc("/{$}", only(http.MethodGet, h.about))
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		refuse(w, http.StatusNotFound, "NotFound", "there is nothing at "+r.URL.Path+"; POST a picture to /image")
	})
	return mux
}

// only lets one method through (GET means HEAD as well).
func only(method string, next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Method == method || method == http.MethodGet && r.Method == http.MethodHead {
			next(w, r)
			return
		}
		allow := method
		if method == http.MethodGet {
			allow = "GET, HEAD"
		}
		w.Header().Set("Allow", allow)
		refuse(w, http.StatusMethodNotAllowed, "MethodNotAllowed", fmt.Sprintf("%s takes %s, not %s", r.URL.Path, allow, r.Method))
	}
}

// failure is the body of every answer that is not a success, in the form of
// Custom Vision's errors.
type failure struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

func refuse(w http.ResponseWriter, status int, code, message string) {
	answer(w, status, failure{code, message})
}

func answer(w http.ResponseWriter, status int, body any) {
	data, err := json.Marshal(body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	w.Write(append(data, '\n')) // a client that has gone away is no news
}

func (h *handler) image(w http.ResponseWriter, r *http.Request) {
	select {
	case h.uploads <- struct{}{}:
		defer func() { <-h.uploads }()
	default:
		h.count("busy", 1)
		w.Header().Set("Retry-After", "1")
		refuse(w, http.StatusServiceUnavailable, "Busy", "too many pictures are being received; try again")
		return
	}
	explain, err := wantsExplanation(r.URL.Query())
	if err != nil {
		h.failed(w, r, err)
		return
	}
	picture, err := h.receive(w, r)
	if err != nil {
		h.failed(w, r, err)
		return
	}
	if explain {
		h.explain(w, r, picture)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	result, err := h.service.Classify(ctx, picture)
	if err != nil {
		h.failed(w, r, err)
		return
	}
	h.count("pictures", 1)
	answer(w, http.StatusOK, result.Answer(uuid.New(), time.Now()))
}

var (
	errMediaType = errors.New("not a type of content that is taken here")
	errForm      = errors.New("the form cannot be read")
	errNoPicture = errors.New("there is no picture in the request")
	errQuery     = errors.New("the query cannot be understood")
)

// receive reads the picture of a request, within the limit.
func (h *handler) receive(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	if encoding := r.Header.Get("Content-Encoding"); encoding != "" && encoding != "identity" {
		return nil, fmt.Errorf("%w: Content-Encoding %s", errMediaType, encoding)
	}
	limit := int64(h.settings.MaxPictureBytes)
	kind, parameters := "application/octet-stream", map[string]string(nil)
	if given := r.Header.Get("Content-Type"); given != "" {
		var err error
		if kind, parameters, err = mime.ParseMediaType(given); err != nil {
			return nil, fmt.Errorf("%w: Content-Type %q", errMediaType, given)
		}
	}
	switch kind {
	case "application/octet-stream", "image/jpeg", "image/png":
		if r.ContentLength > limit {
			return nil, tooLarge(limit)
		}
		return notEmpty(readLimited(http.MaxBytesReader(w, r.Body, limit+1), limit))
	case "multipart/form-data":
		if r.ContentLength > limit+formOverhead {
			return nil, tooLarge(limit)
		}
		body := http.MaxBytesReader(w, r.Body, limit+formOverhead)
		return notEmpty(formPicture(multipart.NewReader(body, parameters["boundary"]), limit))
	default:
		return nil, fmt.Errorf("%w: %s", errMediaType, kind)
	}
}

func tooLarge(limit int64) error {
	return fmt.Errorf("%w: the limit is %d bytes", vision.ErrTooLarge, limit)
}

func notEmpty(picture []byte, err error) ([]byte, error) {
	if err == nil && len(picture) == 0 {
		return nil, errNoPicture
	}
	return picture, err
}

// formPicture finds the field imageData in a form.
func formPicture(form *multipart.Reader, limit int64) ([]byte, error) {
	for {
		part, err := form.NextPart()
		if errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("%w: the form has no field %s", errNoPicture, imageField)
		}
		if err != nil {
			return nil, ofForm(err, limit)
		}
		if part.FormName() != imageField {
			continue
		}
		picture, err := readLimited(part, limit)
		if err != nil && !errors.Is(err, vision.ErrTooLarge) {
			return nil, ofForm(err, limit)
		}
		return picture, err
	}
}

func ofForm(err error, limit int64) error {
	var over *http.MaxBytesError
	if errors.As(err, &over) {
		return tooLarge(limit)
	}
	return fmt.Errorf("%w: %w", errForm, err)
}

func readLimited(body io.Reader, limit int64) ([]byte, error) {
	picture, err := io.ReadAll(io.LimitReader(body, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(picture)) > limit {
		return nil, tooLarge(limit)
	}
	return picture, nil
}

// failed answers a request that cannot be served.
func (h *handler) failed(w http.ResponseWriter, r *http.Request, err error) {
	unavailable := func(code string, seconds int) {
		h.count("busy", 1)
		w.Header().Set("Retry-After", strconv.Itoa(seconds))
		refuse(w, http.StatusServiceUnavailable, code, err.Error())
	}
	reject := func(status int, code string) {
		h.count("rejected_pictures", 1)
		refuse(w, status, code, err.Error())
	}
	switch {
	case errors.Is(err, vision.ErrBusy):
		unavailable("Busy", 1)
	case errors.Is(err, vision.ErrNotReady), errors.Is(err, vision.ErrClosed):
		unavailable("NotReady", 5)
	case errors.Is(err, vision.ErrTooLarge):
		// What is left of the picture is not wanted.
		w.Header().Set("Connection", "close")
		reject(http.StatusRequestEntityTooLarge, "BadRequestImageSizeBytes")
	case errors.Is(err, vision.ErrNotPicture):
		reject(http.StatusBadRequest, "BadRequestImageFormat")
	case errors.Is(err, errMediaType):
		reject(http.StatusUnsupportedMediaType, "UnsupportedMediaType")
	case errors.Is(err, errQuery), errors.Is(err, vision.ErrNoLabel), errors.Is(err, errForm), errors.Is(err, errNoPicture), errors.Is(err, io.ErrUnexpectedEOF):
		reject(http.StatusBadRequest, "BadRequestInvalid")
	case errors.Is(err, os.ErrDeadlineExceeded):
		reject(http.StatusRequestTimeout, "RequestTimeout")
	case r.Context().Err() != nil: // the client has gone, or the module ends
		unavailable("Cancelled", 1)
	case errors.Is(err, context.DeadlineExceeded):
		unavailable("Busy", 1)
	default:
		h.count("failed_pictures", 1)
		h.log.Error("picture not classified", "error", err)
		refuse(w, http.StatusInternalServerError, "InternalError", err.Error())
	}
}

func (h *handler) healthz(w http.ResponseWriter, _ *http.Request) {
	info, ready := h.service.Model()
	if !ready {
		w.Header().Set("Retry-After", "5")
		refuse(w, http.StatusServiceUnavailable, "NotReady", vision.ErrNotReady.Error())
		return
	}
	answer(w, http.StatusOK, map[string]string{"status": "ok", "model": info.Name, "version": info.Version})
}

// about says what this is, as a page to a browser and as JSON to a program.
func (h *handler) about(w http.ResponseWriter, r *http.Request) {
	info, ready := h.service.Model()
	about := struct {
		Name    string   `json:"name"`
		Purpose string   `json:"purpose"`
		Usage   string   `json:"usage"`
		Ready   bool     `json:"ready"`
		Model   string   `json:"model,omitempty"`
		Version string   `json:"version,omitempty"`
		Licence string   `json:"licence,omitempty"`
		Labels  []string `json:"labels,omitempty"`
		Runtime string   `json:"runtime,omitempty"`
	}{
		Name:    "tuxwatch recognizer",
		Purpose: "tells what a picture shows",
		Usage:   fmt.Sprintf("curl --data-binary @picture.jpg -H 'Content-Type: application/octet-stream' http://%s/image", r.Host),
		Ready:   ready, Model: info.Name, Version: info.Version, Licence: info.Licence, Labels: info.Labels, Runtime: info.Runtime,
	}
	if !strings.Contains(r.Header.Get("Accept"), "text/html") {
		answer(w, http.StatusOK, about)
		return
	}
	var page bytes.Buffer
	if err := aboutPage.Execute(&page, about); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Write(page.Bytes())
}

var aboutPage = template.Must(template.New("about").Parse(`<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>{{.Name}}</title>
<style>body{font:16px/1.5 sans-serif;max-width:44rem;margin:2rem auto;padding:0 1rem}pre{overflow:auto;background:#eee;padding:.5rem}</style>
<h1>{{.Name}}</h1>
<p>It {{.Purpose}}.
{{if .Ready}}Its model is <b>{{.Model}}</b>{{with .Version}}, version {{.}}{{end}}{{with .Licence}} ({{.}}){{end}}, run by {{.Runtime}};
it knows {{range $i, $l := .Labels}}{{if $i}}, {{end}}{{$l}}{{end}}.
{{else}}It has no model at the moment.{{end}}</p>
<form method="post" action="/image" enctype="multipart/form-data">
<input type="file" name="` + imageField + `" accept="image/jpeg,image/png" required> <button>What is it?</button>
</form>
<p>From a program:</p>
<pre>{{.Usage}}</pre>
<p>The answer is that of a container exported from Azure Custom Vision. With <code>/image?explain=1</code> it
has a picture too, of where the model looked (<code>&amp;label=</code> asks about another label than the most likely). <a href="/healthz">/healthz</a> tells whether it works.</p>
</html>
`))
