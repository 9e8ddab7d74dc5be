package message

import (
	"encoding/json"
	"fmt"
	"time"
)

// Climate is what tempSensor sends: the temperature of a machine and of the
// room it stands in, in the form of IoT Edge's simulated temperature sensor.
// What the hardware does not measure is nil and left out of the JSON.
type Climate struct {
	Machine     Machine  `json:"machine"`
	Ambient     *Ambient `json:"ambient,omitempty"`
	TimeCreated Time     `json:"timeCreated"`
}

// Machine is the watched machine's state.
type Machine struct {
	// Temperature in degrees Celsius.
	Temperature *float64 `json:"temperature,omitempty"`
	// Pressure in bar.
	Pressure *float64 `json:"pressure,omitempty"`
}

// Ambient is the state of the air around the machine.
type Ambient struct {
	// Temperature in degrees Celsius.
	Temperature *float64 `json:"temperature,omitempty"`
	// Humidity is the relative humidity in percent.
	Humidity *float64 `json:"humidity,omitempty"`
}

// Penguin is what imageReceiveProcessModule sends when the recognizer saw a
// penguin.
type Penguin struct {
	IsPenguin bool `json:"IsPenguin"`
	// Probability of the label, 0 to 1.
	Probability float64 `json:"probability"`
	// Label is the recognizer's name for what it saw.
	Label string `json:"label"`
	// Model and ModelVersion name the model that decided.
	Model        string `json:"model,omitempty"`
	ModelVersion string `json:"modelVersion,omitempty"`
	// Camera says which camera the picture came from: the MQTT client and topic
	// it was published with, or the module that captured it.
	Camera string `json:"camera,omitempty"`
	Topic  string `json:"topic,omitempty"`
	// TimeCreated is when the picture was received.
	TimeCreated Time `json:"timeCreated"`
}

// What a [Sighting] is about, and why it ended.
const (
	SightingStart  = "start"
	SightingUpdate = "update"
	SightingEnd    = "end"
	SightingReset  = "reset" // of a SightingsReset
)

// Sighting is what imageReceiveProcessModule sends where it alerts by event: when a
// camera begins to show the label (start), perhaps now and then while it stays
// (update), and when it is gone (end). All of one sighting have the same ID,
// and each says all that is known by then, so that any one of them can be used
// without those before.
type Sighting struct {
	// IsPenguin is true while the sighting goes on: at the start and in updates.
	IsPenguin bool `json:"IsPenguin"`
	// Event is start, update or end.
	Event string `json:"event"`
	// ID is a UUID.
	ID string `json:"id"`
	// Reason says why it ended: gone (the scores fell), timeout (no frames
	// came), stopped (the module ended), switchedOff (alerts are by frame again)
	// or labelChanged (another label is looked for).
	Reason string `json:"reason,omitempty"`
	// Label is what was looked for.
	Label string `json:"label"`
	// Probability is the median of the last frames', and BestProbability that of
	// the best frame, at BestTime; 0 to 1.
	Probability     float64 `json:"probability"`
	BestProbability float64 `json:"bestProbability"`
	BestTime        Time    `json:"bestTime"`
	// Region names the region of interest that the best frame's probability is
	// of; empty for the whole picture.
	Region string `json:"region,omitempty"`
	// Frames is how many there were from Started on.
	Frames int `json:"frames"`
	// Started is when the first frame that shows the label was received, and
	// Ended, at the end, when the last one was that the decision is from.
	Started Time `json:"started"`
	Ended   Time `json:"ended,omitzero"`
	// Model and ModelVersion name the model that saw the best frame.
	Model        string `json:"model,omitempty"`
	ModelVersion string `json:"modelVersion,omitempty"`
	// Camera and Topic say where the best frame came from, as in Penguin.
	Camera string `json:"camera,omitempty"`
	Topic  string `json:"topic,omitempty"`
	// TimeCreated is when this was decided.
	TimeCreated Time `json:"timeCreated"`
	// Thumbnail is the best frame, small, as a JPEG in base64; there is one if
	// it is wanted, at the start, at the end, and in updates with a new best.
	Thumbnail []byte `json:"thumbnail,omitempty"`
}

// SightingsReset is the first message of an imageReceiveProcessModule that
// alerts by event, each time it starts: {"IsPenguin":false,"event":"reset",…}.
// Sightings of this module that started earlier and have not ended are over;
// the end could not be sent, because the device lost its power, for example.
type SightingsReset struct {
	IsPenguin bool   `json:"IsPenguin"`
	Event     string `json:"event"`
	// TimeCreated is when the module started.
	TimeCreated Time `json:"timeCreated"`
}

// Commands that tempSensor's control input understands, as numbered by IoT
// Edge's simulated temperature sensor.
const (
	CommandReset       = 0 // start the warm-up again
	CommandNoOperation = 1
)

// ControlCommand is one element of the list that tempSensor takes on its
// control input: [{"command":0}].
type ControlCommand struct {
	Command *int `json:"command"`
}

// timeLayout is RFC 3339 in UTC with exactly three digits of seconds.
const timeLayout = "2006-01-02T15:04:05.000Z"

// Time is a moment as bodies carry it: RFC 3339, UTC, milliseconds.
type Time struct{ time.Time }

// MarshalJSON writes the moment in UTC with milliseconds.
func (t Time) MarshalJSON() ([]byte, error) {
	return json.Marshal(t.UTC().Format(timeLayout))
}

// UnmarshalJSON takes any RFC 3339 time.
func (t *Time) UnmarshalJSON(data []byte) error {
	var text string
	if err := json.Unmarshal(data, &text); err != nil {
		return fmt.Errorf("a time must be a string in RFC 3339: %w", err)
	}
	parsed, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return fmt.Errorf("a time must be in RFC 3339 (2006-01-02T15:04:05.000Z): %w", err)
	}
	t.Time = parsed
	return nil
}
