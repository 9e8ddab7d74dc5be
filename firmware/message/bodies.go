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
