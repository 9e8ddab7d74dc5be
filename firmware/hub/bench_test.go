package hub_test

import (
	"context"
	"fmt"
	"testing"

	paho "github.com/eclipse/paho.mqtt.golang"

	"tuxwatch/firmware/hub"
)

// BenchmarkEvents measures acknowledged events a second through TLS and into
// the database, one at a time and with 100 of them under way.
func BenchmarkEvents(b *testing.B) {
	for _, window := range []int{1, 100} {
		b.Run(fmt.Sprintf("window=%d", window), func(b *testing.B) {
			h, err := hub.New(hub.Options{State: b.TempDir(), TLSListen: "127.0.0.1:0"})
			if err != nil {
				b.Fatal(err)
			}
			served := make(chan error, 1)
			go func() { served <- h.Serve(context.Background()) }()
			defer func() {
				h.Close()
				<-served
			}()
			d, err := h.AddDevice("pi")
			if err != nil {
				b.Fatal(err)
			}
			c := paho.NewClient(options(b, h, d))
			if t := c.Connect(); !t.WaitTimeout(patience) || t.Error() != nil {
				b.Fatal(t.Error())
			}
			defer c.Disconnect(0)
			body := []byte(`{"machine":{"temperature":21.3,"pressure":1.0},"ambient":{"temperature":20.8,"humidity":25}}`)
			under := make(chan paho.Token, window)
			b.ResetTimer()
			for i := range b.N {
				if len(under) == window {
					if t := <-under; !t.WaitTimeout(patience) || t.Error() != nil {
						b.Fatal(t.Error())
					}
				}
				under <- c.Publish(fmt.Sprintf("devices/pi/messages/events/%%24.mid=%d", i), 1, false, body)
			}
			for len(under) > 0 {
				if t := <-under; !t.WaitTimeout(patience) || t.Error() != nil {
					b.Fatal(t.Error())
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
		})
	}
}
