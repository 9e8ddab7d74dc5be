package recognizer

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tuxwatch/firmware/edge"
	"tuxwatch/firmware/edge/edgetest"
	"tuxwatch/firmware/vision"
	"tuxwatch/firmware/vision/savedmodel"
)

const exported = "../../../build/model/saved_model"

// TestRuntimeSavedModel: a program with TensorFlow uses it, one without says so
// before anything runs.
func TestRuntimeSavedModel(t *testing.T) {
	s := settings(func(s *Settings) { s.Runtime, s.Model = SavedModel, exported })
	err := s.Validate()
	if !savedmodel.Available {
		if !errors.Is(err, savedmodel.ErrNotBuilt) || !strings.Contains(err.Error(), "make build-tensorflow") {
			t.Error(err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	service := newService(t)
	h := edgetest.Start(t, Kind(service), s, "")
	h.Eventually(func(status edge.ModuleStatus) bool { return status.Healthy && status.Reported["address"] != nil })
	info, _ := service.Model()
	if !strings.HasPrefix(info.Runtime, "TensorFlow ") || info.Input.Type != vision.Float32 {
		t.Errorf("%+v", info)
	}
	result, err := service.Classify(t.Context(), picture(t, "jpeg-420.jpg"))
	if err != nil || len(result.Predictions) != 2 || len(result.Embedding) == 0 {
		t.Errorf("%+v, %v", result.Predictions, err)
	}
}

// TestLitertSaysWhatASavedModelNeeds: LiteRT is given what only TensorFlow runs.
func TestLitertSaysWhatASavedModelNeeds(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{"saved_model.pb": "graph", "labels.txt": "a\nb\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	h := edgetest.Start(t, Kind(newService(t)), settings(func(s *Settings) { s.Model, s.Listen = dir, "" }), "")
	h.Eventually(func(status edge.ModuleStatus) bool {
		return !status.Healthy && strings.Contains(status.Cause, "choose the runtime savedmodel")
	})
}
