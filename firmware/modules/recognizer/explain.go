package recognizer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image/png"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/google/uuid"

	"tuxwatch/firmware/vision"
)

// explainedAnswer is the answer to POST /image?explain=1: the usual fields, and
// the explanation.
type explainedAnswer struct {
	vision.Answer
	Explanation explanation `json:"explanation"`
}

// explanation is a vision.Explanation as JSON.
type explanation struct {
	Label       string        `json:"label"`       // that is explained
	Peak        float64       `json:"peak"`        // below 0.5 no part of the picture decides alone
	Region      vision.Region `json:"region"`      // shares of the upright picture
	Grid        [][]float64   `json:"grid"`        // rows of equal parts of it, 0 … 1
	ContentType string        `json:"contentType"` // of the image
	Image       []byte        `json:"image"`       // in base64: the picture with the map drawn over it
}

// wantsExplanation reads the query's explain, which is a boolean as in Go.
func wantsExplanation(query url.Values) (bool, error) {
	given := query.Get("explain")
	if given == "" {
		return false, nil
	}
	wants, err := strconv.ParseBool(given)
	if err != nil {
		return false, fmt.Errorf("%w: explain=%s is neither 1 nor 0", errQuery, given)
	}
	return wants, nil
}

// explain answers a picture with its explanation.
func (h *handler) explain(w http.ResponseWriter, r *http.Request, picture []byte) {
	// The server's own deadline began when the request came.
	deadline := time.Now().Add(explainPatience + patience)
	if err := http.NewResponseController(w).SetWriteDeadline(deadline); err != nil && !errors.Is(err, http.ErrNotSupported) {
		h.failed(w, r, fmt.Errorf("allowing time to explain: %w", err))
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), explainPatience)
	defer cancel()
	explained, err := h.service.Explain(ctx, picture, r.URL.Query().Get("label"))
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("the picture was not explained within %v, this machine is too slow or too busy: %w", explainPatience, err)
	}
	if err != nil {
		h.failed(w, r, err)
		return
	}
	var drawn bytes.Buffer
	if err := (&png.Encoder{CompressionLevel: png.BestSpeed}).Encode(&drawn, explained.Picture); err != nil {
		h.failed(w, r, fmt.Errorf("encoding the explanation: %w", err))
		return
	}
	h.count("pictures", 1)
	h.count("explained_pictures", 1)
	answer(w, http.StatusOK, explainedAnswer{
		Answer: explained.Result.Answer(uuid.New(), time.Now()),
		Explanation: explanation{
			Label: explained.Label, Peak: explained.Peak, Region: explained.Region, Grid: explained.Grid,
			ContentType: "image/png", Image: drawn.Bytes(),
		},
	})
}
