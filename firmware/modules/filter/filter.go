// Package filter is the module kind "filter", by default the module
// filterModule: it forwards from its input input1 to its output output1 the
// messages whose machine.temperature is above a threshold, and marks them with
// the application property MessageType=Alert.
//
// The threshold, a hysteresis and whether every message or only the change is
// worth an alert are desired properties ([Properties]). The body, the other
// properties and the content type stay as they came.
//
// # When a message is an alert
//
// The filter is either armed or alerting. It starts armed, also after a
// restart. A temperature above the threshold makes it alerting; one at or below
// the threshold minus the hysteresis arms it again; in between it stays as it
// is.
//
// With AlertOn "every", each message above the threshold is an alert, whatever
// the state. With "change", only the one that makes the filter alerting is. A
// message that is not above the threshold is never an alert.
//
// With SendNormal, the message that arms the filter again is forwarded too,
// with MessageType=Normal.
//
// The filter does not look at anything but machine.temperature; other
// conditions belong into a route's WHERE. Start with Kind.
package filter

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"

	"tuxwatch/firmware/edge"
	"tuxwatch/firmware/message"
)

// Names of the module's ports.
const (
	input  = "input1"
	output = "output1"
)

// The application property that says what a message is, and its values.
const (
	MessageType = "MessageType"
	Alert       = "Alert"
	Normal      = "Normal"
)

// The values of Properties.AlertOn.
const (
	Every  = "every"
	Change = "change"
)

// Properties are the module's desired properties.
type Properties struct {
	// TemperatureThreshold in degrees Celsius; a temperature must be above it.
	TemperatureThreshold float64 `json:"TemperatureThreshold"`
	// Hysteresis is how many degrees below the threshold the temperature must
	// fall before the alert is over.
	Hysteresis float64 `json:"Hysteresis"`
	// AlertOn is "every" for each message above the threshold, or "change" for
	// the first one only, until the alert is over.
	AlertOn string `json:"AlertOn"`
	// SendNormal also forwards the message that ends an alert.
	SendNormal bool `json:"SendNormal"`
}

// Validate checks the values.
func (p *Properties) Validate() error {
	if math.IsNaN(p.TemperatureThreshold) || math.IsInf(p.TemperatureThreshold, 0) {
		return fmt.Errorf("desired property TemperatureThreshold is %v; it must be a number of degrees Celsius", p.TemperatureThreshold)
	}
	if !(p.Hysteresis >= 0) || math.IsInf(p.Hysteresis, 0) {
		return fmt.Errorf("desired property Hysteresis is %v; it must be a number of degrees, 0 or more", p.Hysteresis)
	}
	if p.AlertOn != Every && p.AlertOn != Change {
		return fmt.Errorf("desired property AlertOn is %q; it can be %q or %q", p.AlertOn, Every, Change)
	}
	return nil
}

// Kind is the module kind for the list of modules.
func Kind() edge.Kind {
	return edge.Kind{
		Name:    "filter",
		Summary: "forwards messages whose machine.temperature is above a threshold, as alerts",
		Properties: func() any {
			return &Properties{TemperatureThreshold: 25, AlertOn: Every}
		},
		Inputs:  []string{input},
		Outputs: []string{output},
		New:     func(any) (edge.Module, error) { return &filter{}, nil },
	}
}

// filter is one run of the module.
type filter struct {
	client *edge.Client

	mu         sync.Mutex // the twin and the input come on their own
	properties Properties

	// What follows belongs to the input, which takes one message at a time.
	alerting bool
	bad      int // messages in a row that could not be read
}

// Run filters until ctx ends. It makes no promise with Client.Alive: it has no
// loop, and the runtime watches its handler.
func (f *filter) Run(ctx context.Context, c *edge.Client) error {
	f.client = c
	c.HandleDesired(func(_ context.Context, properties any) error {
		p := *properties.(*Properties)
		f.mu.Lock()
		f.properties = p
		f.mu.Unlock()
		c.Report(map[string]any{
			"TemperatureThreshold": p.TemperatureThreshold, "Hysteresis": p.Hysteresis,
			"AlertOn": p.AlertOn, "SendNormal": p.SendNormal,
		})
		return nil
	})
	c.HandleInput(input, f.handle)
	c.Ready()
	c.Healthy()
	<-ctx.Done()
	return ctx.Err()
}

// handle takes one message. The error is that of sending it on; the state stays
// as it was then, so that the same message, sent again, is an alert again.
func (f *filter) handle(ctx context.Context, m message.Message) error {
	temperature, err := temperatureOf(m.Body)
	if err != nil {
		f.reject(m, err)
		return nil // sent again it would be no better
	}
	f.accept()

	f.mu.Lock()
	p := f.properties
	f.mu.Unlock()
	alerting, messageType := judge(p, f.alerting, temperature)
	if messageType != "" {
		if err := f.client.Send(ctx, output, mark(m, messageType)); err != nil {
			f.client.Count("send_failures", 1)
			return fmt.Errorf("sending on to %s: %w", output, err)
		}
	}
	f.alerting = alerting
	switch messageType {
	case Alert:
		f.client.Count("alerts_sent", 1)
	case Normal:
		f.client.Count("normals_sent", 1)
	default:
		f.client.Count("messages_filtered", 1)
	}
	return nil
}

// judge returns the state after a temperature, and what the message with it is:
// Alert, Normal, or "" if it is not to be forwarded.
func judge(p Properties, alerting bool, temperature float64) (after bool, messageType string) {
	switch {
	case temperature > p.TemperatureThreshold:
		if alerting && p.AlertOn == Change {
			return true, ""
		}
		return true, Alert
	case alerting && temperature <= p.TemperatureThreshold-p.Hysteresis:
		if p.SendNormal {
			return false, Normal
		}
		return false, ""
	default:
		return alerting, ""
	}
}

// mark returns m with its MessageType set. Names of properties are
// case-insensitive in conditions, so one that differs in case is replaced.
func mark(m message.Message, messageType string) message.Message {
	m = m.Clone()
	for name := range m.Properties {
		if strings.EqualFold(name, MessageType) {
			delete(m.Properties, name)
		}
	}
	return m.With(MessageType, messageType)
}

// temperatureOf returns machine.temperature of a message's body.
func temperatureOf(body []byte) (float64, error) {
	var climate struct {
		Machine *struct {
			Temperature *float64 `json:"temperature"`
		} `json:"machine"`
	}
	if err := json.Unmarshal(body, &climate); err != nil {
		return 0, fmt.Errorf("not JSON with a number as machine.temperature: %w", err)
	}
	if climate.Machine == nil || climate.Machine.Temperature == nil {
		return 0, errors.New("no machine.temperature in it")
	}
	return *climate.Machine.Temperature, nil
}

// reject counts and drops a message that cannot be read. The log has the first
// of a run of them, and how many there were at its end.
func (f *filter) reject(m message.Message, err error) {
	f.client.Count("messages_rejected", 1)
	f.bad++
	if f.bad == 1 {
		f.client.Log().Warn("message dropped: its body cannot be read; further ones are only counted",
			"message", m.ID, "module", m.Source.Module, "output", m.Source.Output, "contentType", m.ContentType, "bytes", len(m.Body), "error", err)
	}
}

func (f *filter) accept() {
	if f.bad > 1 {
		f.client.Log().Info("messages can be read again", "dropped", f.bad)
	}
	f.bad = 0
}
