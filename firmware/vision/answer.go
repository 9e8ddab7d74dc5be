package vision

import (
	"math"
	"time"

	"github.com/google/uuid"
)

// Answer is what the recognizer answers over HTTP: the JSON of Azure Custom
// Vision's prediction API 3.0, which the container that Custom Vision exports
// answers as well.
type Answer struct {
	ID          string             `json:"id"`        // of this answer
	Project     string             `json:"project"`   // stands for the model
	Iteration   string             `json:"iteration"` // stands for the model and its version
	Created     string             `json:"created"`   // RFC 3339, UTC
	Predictions []AnswerPrediction `json:"predictions"`
}

// AnswerPrediction is one entry of an Answer.
type AnswerPrediction struct {
	Probability float64   `json:"probability"` // eight places after the point
	TagID       string    `json:"tagId"`       // stands for the model and the label
	TagName     string    `json:"tagName"`     // the label
	BoundingBox *struct{} `json:"boundingBox"` // always null: the whole picture is classified
}

// Answer puts a result into the form of Custom Vision's prediction API. The
// API's clients read the identifiers as UUIDs, so they are: id is the caller's,
// the others are made of the names (RFC 9562, version 5) and are the same on
// every device.
func (r Result) Answer(id uuid.UUID, created time.Time) Answer {
	project := uuid.NewSHA1(uuid.NameSpaceOID, []byte("tuxwatch/"+r.Model.Name))
	answer := Answer{
		ID:          id.String(),
		Project:     project.String(),
		Iteration:   uuid.NewSHA1(project, []byte("version/"+r.Model.Version)).String(),
		Created:     created.UTC().Format(time.RFC3339Nano),
		Predictions: []AnswerPrediction{},
	}
	for _, p := range r.Predictions {
		answer.Predictions = append(answer.Predictions, AnswerPrediction{
			Probability: math.Round(p.Probability*1e8) / 1e8,
			TagID:       uuid.NewSHA1(project, []byte("label/"+p.Label)).String(),
			TagName:     p.Label,
		})
	}
	return answer
}
