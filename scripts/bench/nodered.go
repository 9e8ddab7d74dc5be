package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// nodeRED is Node-RED with the flow in flow.json, Mosquitto, and a subscriber
// that counts.
type nodeRED struct {
	broker, node *process
	client       mqtt.Client
	http         int // Node-RED's port

	count atomic.Int64
	last  atomic.Int64 // when the latest message came, in Unix nanoseconds
	first atomic.Int64
}

// mosquittoConfig is Mosquitto as it comes, on loopback, with persistence, and
// without the bounds beyond which it drops messages.
const mosquittoConfig = `listener %d 127.0.0.1
allow_anonymous true
persistence true
persistence_location %s/
max_queued_messages 0
max_inflight_messages 0
`

func (b *bench) startNodeRED(ctx context.Context) (n *nodeRED, err error) {
	dir, err := b.fresh("node-red")
	if err != nil {
		return nil, err
	}
	ports, err := freePorts(2)
	if err != nil {
		return nil, err
	}
	n = &nodeRED{http: ports[1]}
	defer func() {
		if err != nil {
			n.stop()
		}
	}()
	if err := n.startBroker(ctx, b, dir, ports[0]); err != nil {
		return n, err
	}
	for _, name := range []string{"flow.json", "settings.js"} {
		data, err := os.ReadFile(filepath.Join(b.root, "scripts", "bench", name))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), data, 0o600)
		}
		if err != nil {
			return n, err
		}
	}
	modules := filepath.Join(b.dir, "node", "node_modules")
	n.node, err = b.start("node-red",
		[]string{fmt.Sprintf("BENCH_MQTT_PORT=%d", ports[0]), "BENCH_STORE=" + filepath.Join(dir, "store"), "NODE_ENV=production"},
		filepath.Join(modules, ".bin", "node-for-bench"), filepath.Join(modules, "node-red", "red.js"),
		"--userDir", dir, "-p", fmt.Sprint(n.http))
	if err != nil {
		return n, err
	}
	// A flow of one message shows that everything is connected.
	err = n.node.until(ctx, "a message reaches the broker", func() error {
		n.count.Store(0)
		if err := n.trigger(ctx, "/memory", 1); err != nil {
			return err
		}
		time.Sleep(100 * time.Millisecond)
		if n.count.Load() == 0 {
			return errors.New("it has not yet come")
		}
		return nil
	})
	return n, err
}

func (n *nodeRED) startBroker(ctx context.Context, b *bench, dir string, port int) error {
	program, err := exec.LookPath("mosquitto")
	if err != nil {
		program = "/usr/sbin/mosquitto" // where Debian has it, which is not in everybody's path
	}
	config, data := filepath.Join(dir, "mosquitto.conf"), filepath.Join(dir, "mosquitto")
	err = errors.Join(os.MkdirAll(data, 0o700), os.WriteFile(config, fmt.Appendf(nil, mosquittoConfig, port, data), 0o600))
	if err != nil {
		return err
	}
	if os.Geteuid() == 0 { // it changes to the user mosquitto otherwise, who may not enter here
		f, err := os.OpenFile(config, os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		_, err = f.WriteString("user root\n")
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	if n.broker, err = b.start("mosquitto", nil, program, "-c", config); err != nil {
		return err
	}
	if err := n.broker.until(ctx, "it listens", func() error { return dial(port) }); err != nil {
		return err
	}
	options := mqtt.NewClientOptions().AddBroker(fmt.Sprintf("tcp://127.0.0.1:%d", port)).SetClientID("counter")
	options.SetAutoReconnect(false).SetConnectTimeout(10 * time.Second)
	n.client = mqtt.NewClient(options)
	if err := wait(n.client.Connect()); err != nil {
		return fmt.Errorf("connecting to Mosquitto: %w", err)
	}
	return wait(n.client.Subscribe("devices/bench/messages/events/#", 1, n.took))
}

// took counts a message. Paho calls it for one after the other.
func (n *nodeRED) took(mqtt.Client, mqtt.Message) {
	now := time.Now().UnixNano()
	n.first.CompareAndSwap(0, now)
	n.last.Store(now)
	n.count.Add(1)
}

func wait(t mqtt.Token) error {
	if !t.WaitTimeout(10 * time.Second) {
		return errors.New("no answer within 10 s")
	}
	return t.Error()
}

// trigger makes the flow's sensor send so many messages.
func (n *nodeRED) trigger(ctx context.Context, path string, count int) error {
	url := fmt.Sprintf("http://127.0.0.1:%d%s?count=%d", n.http, path, count)
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusAccepted {
		return fmt.Errorf("%s answered %s", url, response.Status)
	}
	return nil
}

// round lets the flow send so many messages, waits until all have come, and
// gives the messages per second from the first arrival to the last.
func (n *nodeRED) round(ctx context.Context, path string, count int) (float64, error) {
	n.count.Store(0)
	n.first.Store(0)
	if err := n.trigger(ctx, path, count); err != nil {
		return 0, err
	}
	err := n.node.until(ctx, fmt.Sprintf("%d messages have come", count), func() error {
		if got := n.count.Load(); got < int64(count) {
			return fmt.Errorf("%d have come", got)
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	if got := n.count.Load(); got != int64(count) {
		return 0, fmt.Errorf("%d messages were sent and %d came", count, got)
	}
	return float64(count-1) / time.Duration(n.last.Load()-n.first.Load()).Seconds(), nil
}

func (n *nodeRED) stop() {
	if n.client != nil {
		n.client.Disconnect(100)
	}
	n.node.stop()
	n.broker.stop()
}
