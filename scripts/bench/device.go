package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"tuxwatch/firmware/cloud"
	"tuxwatch/firmware/control"
	"tuxwatch/firmware/edge"
	"tuxwatch/firmware/hub"
)

const (
	deviceID = "bench"
	// sendInterval is the shortest that a sensor takes, in seconds. One sensor
	// gives 20 messages a second, so there have to be many.
	sendInterval = 0.05
)

// device is the real daemon with a real hub, as make run has them: MQTT over
// TLS, in the form of Azure IoT Hub.
type device struct {
	hub, daemon *process
	registry    *hub.Client
	control     control.Client
	mqtt, http  int // ports for pictures
}

// startDevice runs hub and daemon with the given modules and routes (YAML) on
// empty state.
func (b *bench) startDevice(ctx context.Context, config string) (d *device, err error) {
	dir, err := b.fresh("device")
	if err != nil {
		return nil, err
	}
	ports, err := freePorts(3)
	if err != nil {
		return nil, err
	}
	bin := filepath.Join(b.root, "build", "bin")
	state := filepath.Join(dir, "hub")
	d = &device{
		registry: hub.NewClient(state),
		control:  control.Client{Socket: filepath.Join(dir, "tuxwatch", control.SocketName)},
		mqtt:     ports[1], http: ports[2],
	}
	defer func() {
		if err != nil {
			d.stop()
		}
	}()
	d.hub, err = b.start("tuxhub", nil, filepath.Join(bin, "tuxhub"), "--state", state, "serve",
		"--tls-listen", fmt.Sprintf("127.0.0.1:%d", ports[0]), "--log-level", "warn")
	if err != nil {
		return d, err
	}
	err = d.hub.until(ctx, "it answers", func() error {
		_, err := d.registry.Status(ctx)
		return err
	})
	if err != nil {
		return d, err
	}
	registered, err := d.registry.AddDevice(deviceID)
	if err != nil {
		return d, err
	}
	credentials, file := filepath.Join(dir, "connection-string"), filepath.Join(dir, "tuxwatch.yaml")
	config = fmt.Sprintf(`device: {name: %s}
hub:
  dialect: azure
  connection_string_file: %q
  address: ":%d"
  ca_file: %q
  max_rate: 0 # the default, 100/s, protects a hub's quota
log: {level: warn}
%s`, deviceID, credentials, ports[0], filepath.Join(state, "ca.pem"),
		strings.NewReplacer("MQTT_PORT", fmt.Sprint(d.mqtt), "HTTP_PORT", fmt.Sprint(d.http), "MODEL", b.model()).Replace(config))
	err = errors.Join(
		os.WriteFile(credentials, []byte(registered.ConnectionString("localhost")), 0o600),
		os.WriteFile(file, []byte(config), 0o600))
	if err != nil {
		return d, err
	}
	d.daemon, err = b.start("tuxwatchd", nil, filepath.Join(bin, "tuxwatchd"), "--config", file, "--state", filepath.Join(dir, "tuxwatch"))
	if err != nil {
		return d, err
	}
	return d, d.daemon.until(ctx, "its modules run and it is connected to the hub", func() error {
		status, err := d.control.Status(ctx)
		if err != nil {
			return err
		}
		for _, m := range status.Edge.Modules {
			if m.State != edge.Running || !m.Healthy {
				return fmt.Errorf("module %s is %s (%s)", m.ID, m.State, m.Cause)
			}
		}
		if status.Hub.Status != cloud.Connected {
			return fmt.Errorf("the connection to the hub is %s (%s)", status.Hub.Status, status.Hub.Error)
		}
		return nil
	})
}

func (d *device) stop() {
	d.daemon.stop()
	d.hub.stop()
}

// send turns the sensors' messages on and off, through the device's twin, and
// waits until the device has taken the change.
func (d *device) send(ctx context.Context, sensors []string, on bool) error {
	patch := map[string]any{}
	for _, s := range sensors {
		patch[s] = map[string]any{"SendData": on}
	}
	data, err := json.Marshal(patch)
	if err != nil {
		return err
	}
	version, err := d.registry.SetDesired(ctx, deviceID, data)
	if err != nil {
		return err
	}
	return d.daemon.until(ctx, "it has taken the change of the twin", func() error {
		status, err := d.control.Status(ctx)
		if err == nil && status.Edge.DesiredVersion < version {
			err = fmt.Errorf("it has version %d, the change is version %d", status.Edge.DesiredVersion, version)
		}
		return err
	})
}

// sent counts the messages that the daemon has put into its outbox, which all
// have to arrive, and those that are still on their way to the outbox or in it.
func (d *device) sent(ctx context.Context) (puts, underWay int64, err error) {
	status, err := d.control.Status(ctx)
	if err != nil {
		return 0, 0, err
	}
	for reason, n := range status.Outbox.Dropped {
		if n > 0 {
			return 0, 0, fmt.Errorf("the outbox dropped %d messages (%s)", n, reason)
		}
	}
	underWay = int64(status.Outbox.Depth)
	for _, r := range status.Edge.Routes {
		if r.Failed+r.Expired > 0 {
			return 0, 0, fmt.Errorf("route %s lost %d messages", r.Name, r.Failed+r.Expired)
		}
		underWay += r.Matched - r.Delivered
	}
	return status.Outbox.Puts, underWay, nil
}

// drained waits until the sensors, which are silent, have nothing under way and
// the hub has everything, and gives the number of messages that went into the
// outbox so far.
func (d *device) drained(ctx context.Context) (int64, error) {
	last := int64(-1)
	err := d.daemon.until(ctx, "the hub has everything", func() error {
		puts, underWay, err := d.sent(ctx)
		if err != nil {
			return err
		}
		before := last
		last = puts
		if underWay > 0 || puts != before {
			return fmt.Errorf("%d messages are under way", underWay)
		}
		return nil
	})
	return last, err
}

// cursor is after the last of the hub's events.
func (d *device) cursor(ctx context.Context) (hub.Cursor, error) {
	var last hub.Cursor
	for e, err := range d.registry.Events(ctx, nil, hub.Filter{}, false) {
		if err != nil {
			return last, err
		}
		last = e.Cursor
	}
	return last, nil
}

// arrivals is what arrived at the hub.
type arrivals struct {
	distinct    int64
	duplicates  int64
	first, last time.Time
	pictures    int // penguins among them
}

// rate is messages per second, from the first arrival to the last.
func (a arrivals) rate() float64 { return float64(a.distinct-1) / a.last.Sub(a.first).Seconds() }

// arrived counts the events after the cursor one by one.
func (d *device) arrived(ctx context.Context, from hub.Cursor) (arrivals, error) {
	var a arrivals
	seen := map[string]bool{}
	for s, err := range d.registry.Events(ctx, &from, hub.Filter{}, false) {
		if err != nil {
			return a, err
		}
		e := s.Event
		if e == nil { // the beginning of the stream
			continue
		}
		if seen[e.ID()] {
			a.duplicates++
			continue
		}
		seen[e.ID()] = true
		a.distinct++
		switch {
		case e.Module == "imageReceiveProcessModule":
			a.pictures++
		case e.Properties["MessageType"] != "Alert":
			return a, fmt.Errorf("event %d at the hub lacks MessageType=Alert: %s", e.Seq, s.Line)
		}
		if a.first.IsZero() {
			a.first = e.Time
		}
		a.last = e.Time
	}
	return a, nil
}

// flowConfig configures modules and routes: for each group, so many sensors
// that send to so many filters in turn.
func flowConfig(groups []group) string {
	var modules, routes []string
	for _, g := range groups {
		for i, s := range g.names() {
			f := g.filter(i)
			modules = append(modules, fmt.Sprintf("  %s: {kind: sensor, desired: {SendData: false, SendInterval: %g}}", s, sendInterval))
			routes = append(routes, fmt.Sprintf("  %sToFilter: %s", s, quote(fmt.Sprintf(
				`FROM /messages/modules/%s/outputs/temperatureOutput INTO BrokeredEndpoint("/modules/%s/inputs/input1")`, s, f))))
			if i < g.filters {
				modules = append(modules, fmt.Sprintf("  %s: {kind: filter, desired: {TemperatureThreshold: -100}}", f))
				routes = append(routes, fmt.Sprintf("  %sToHub: FROM /messages/modules/%s/outputs/* INTO $upstream", f, f))
			}
		}
	}
	slices.Sort(routes)
	return fmt.Sprintf(`modules:
  tempSensor: null
  filterModule: null
  imageReceiveProcessModule: {settings: {listen: "127.0.0.1:MQTT_PORT"}}
  recognizer: {settings: {listen: "127.0.0.1:HTTP_PORT", model: "MODEL"}}
%s
routes:
  sensorToFilter: null
  filterToHub: null
%s
`, strings.Join(modules, "\n"), strings.Join(routes, "\n"))
}

// quote writes a text for YAML.
func quote(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }

// group is a number of sensors with the filters that they send to.
type group struct {
	name             string
	sensors, filters int
}

func (g group) names() []string {
	var names []string
	for i := range g.sensors {
		names = append(names, fmt.Sprintf("%sSensor%d", g.name, i))
	}
	return names
}

// filter is the one of sensor i.
func (g group) filter(i int) string { return fmt.Sprintf("%sFilter%d", g.name, i%g.filters) }

// offered is the most that the sensors send, in messages per second.
func (g group) offered() float64 { return float64(g.sensors) / sendInterval }
