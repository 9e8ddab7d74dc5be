package cloud

import (
	"context"
	"io"
	"log/slog"
	"testing"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// hubMessage is a message as the client hands it over.
type hubMessage struct {
	mqtt.Message
	topic   string
	payload []byte
}

func (m hubMessage) Topic() string   { return m.topic }
func (m hubMessage) Payload() []byte { return m.payload }
func (m hubMessage) Retained() bool  { return false }

// FuzzDispatch feeds both dialects what a hub may send.
func FuzzDispatch(f *testing.F) {
	for _, seed := range [][2]string{
		{"$iothub/twin/res/200/?$rid=1", `{"desired":{"$version":1},"reported":{}}`},
		{"$iothub/twin/res/x", ``},
		{"$iothub/twin/PATCH/properties/desired/?$version=2", `{"a":null}`},
		{"$iothub/methods/POST/reset/?$rid=1", `null`},
		{"$iothub/methods/POST/%zz/?$rid=1", `{`},
		{"tuxwatch/pi/twin/desired", `{"a":1}`},
		{"tuxwatch/pi/methods/echo", `{"id":1,"payload":{}}`},
	} {
		f.Add(seed[0], []byte(seed[1]))
	}
	quiet := slog.New(slog.NewTextHandler(io.Discard, nil))
	f.Fuzz(func(t *testing.T, topic string, payload []byte) {
		ctx, cancel := context.WithCancel(context.Background())
		cancel() // nobody takes what is passed on
		device := newFakeDevice(`{}`)
		var answered int
		methods := newMethodCalls(device, quiet, func(methodCall, int, []byte) error { answered++; return nil })
		s := &session{connection: &Connection{}}
		m := hubMessage{topic: topic, payload: payload}
		a := &azure{device: device, log: quiet}
		azureErr := a.dispatch(ctx, m, newTwin(s, device, quiet, nil, nil), methods)
		config := DefaultConfig()
		config.MQTT.DeviceID = "pi"
		p := &plainMQTT{config: &config, device: device, log: quiet}
		plainErr := p.dispatch(ctx, s, m, methods)
		methods.wait()
		if azureErr == nil && plainErr == nil {
			t.Errorf("%q was taken by both dialects", topic)
		}
		if len(device.invoked) > answered {
			t.Errorf("%d methods ran, %d answered", len(device.invoked), answered)
		}
	})
}
