package check

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"reflect"
	"slices"
	"strings"
	"time"

	"tuxwatch/firmware/edge"
	"tuxwatch/firmware/message"
	"tuxwatch/firmware/modules/camera"
	"tuxwatch/firmware/modules/recognizer"
	"tuxwatch/firmware/modules/sensor"
)

// checkOf names the check that a module of the kind belongs to.
func checkOf(kind string) string {
	switch kind {
	case "sensor", "camera":
		return kind
	case "recognizer":
		return "model"
	}
	return "module"
}

// modules reports how every module is: of the daemon, or where none runs, of a
// trial.
func (c *checker) modules(ctx context.Context) {
	if c.Daemon != nil {
		c.statuses = c.Daemon.Edge.Modules
	} else {
		c.statuses = c.trial(ctx)
	}
	if ctx.Err() != nil {
		return
	}
	for _, m := range c.statuses {
		instance := c.instance(m.ID)
		switch cause := firstLine(m.Cause); {
		case m.State == edge.Running && m.Healthy:
			c.ok(checkOf(m.Kind), m.ID, working(instance))
		case m.State == edge.Starting:
			c.warn(checkOf(m.Kind), m.ID, "still starting", "check again in a moment")
		case cause == "":
			c.fail(checkOf(m.Kind), m.ID, string(m.State), "see journalctl -u tuxwatchd")
		default:
			c.fail(checkOf(m.Kind), m.ID, cause, c.remedy(instance, cause))
		}
	}
	for _, id := range c.Config.Disabled {
		if id == "camera" {
			c.ok("camera", id, "switched off; it runs as soon as the configuration gives it settings")
		}
	}
}

func (c *checker) instance(id string) edge.Instance {
	for _, m := range c.Config.Modules {
		if m.ID == id {
			return m
		}
	}
	return edge.Instance{ID: id}
}

// working says what a module that is well works with.
func working(m edge.Instance) string {
	switch s := m.Settings.(type) {
	case *sensor.Settings:
		if s.Machine.Driver == "simulated" {
			return "works, with simulated values"
		}
		return "works: " + s.Machine.String()
	case *camera.Settings:
		return "works: " + strings.Join(strings.Fields(s.Source+" "+s.Device), " ")
	case *recognizer.Settings:
		if s.Model == "" {
			return "works: the model that came with tuxwatch"
		}
		return "works: " + s.Model
	}
	return "works"
}

// remedy says what to do about a module that does not work, beyond what the
// cause says itself.
func (c *checker) remedy(m edge.Instance, cause string) string {
	if strings.Contains(cause, ";") { // the modules' own remedies come after one
		return ""
	}
	switch s := m.Settings.(type) {
	case *sensor.Settings:
		bus := strings.TrimPrefix(strings.TrimPrefix(s.Machine.Bus, "/dev/i2c-"), "I2C")
		if bus == "" {
			bus = "1"
		}
		if _, err := os.Stat(c.path("/dev/i2c-" + bus)); errors.Is(err, os.ErrNotExist) {
			return "the bus is not there: put dtparam=i2c_arm=on into the firmware's config.txt and start again; or choose another with the setting bus"
		}
		return "check the wiring and the address; sudo i2cdetect -y " + bus + " shows which chips answer"
	case *camera.Settings:
		switch s.Source {
		case camera.SourceDirectory:
			return "put pictures into " + s.Path + ", or choose another source"
		case camera.SourceCommand:
			return "try the command by hand: " + strings.Join(s.Command, " ")
		}
		return "plug the camera in; ls -l /dev/video* shows which there are"
	case *recognizer.Settings:
		return "install the package tuxwatch again, or correct the setting model"
	}
	return ""
}

// trial runs what is on the device itself, sensors, cameras and the model, as
// the daemon would, until each works or has said why not. What others send to
// the device is left alone: it would be taken from them and go nowhere.
func (c *checker) trial(ctx context.Context) []edge.ModuleStatus {
	var tried []edge.Instance
	for _, m := range c.Config.Modules {
		switch s := m.Settings.(type) {
		case *sensor.Settings, *camera.Settings:
		case *recognizer.Settings:
			deaf := *s
			deaf.Listen = ""
			m.Settings = &deaf
		default:
			continue
		}
		tried = append(tried, m)
	}
	rt := edge.New(edge.Options{Modules: tried, Upstream: nowhere{}, Log: c.Log})
	running, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		rt.Run(running)
	}()
	defer func() {
		stop()
		<-done
	}()
	waiting, cancel := context.WithTimeout(ctx, c.Patience)
	defer cancel()
	_ = rt.Settled(waiting) // who has not settled shows as starting
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for {
		statuses := rt.Status().Modules
		if !slices.ContainsFunc(statuses, blank) {
			return statuses
		}
		select {
		case <-look.C:
		case <-waiting.Done():
			for i, m := range statuses {
				if blank(m) {
					statuses[i].Healthy, statuses[i].Cause = false, fmt.Sprintf("no picture within %v", c.Patience)
				}
			}
			return statuses
		}
	}
}

// blank is a camera that runs and has neither taken a picture nor failed.
func blank(m edge.ModuleStatus) bool {
	return m.Kind == "camera" && m.State == edge.Running && m.Cause == "" && m.Counters["frames_captured"] == 0
}

// nowhere takes messages, of which a trial without routes has none.
type nowhere struct{}

func (nowhere) Put(context.Context, message.Message, int, time.Duration) error { return nil }

// listeners asks at every port that the configuration wants open, or where no
// daemon runs, whether it can be had.
func (c *checker) listeners(ctx context.Context) {
	for _, m := range c.Config.Modules {
		address := listen(m.Settings)
		if address == "" {
			continue
		}
		const taken = "another program may have the port: sudo ss -ltnp shows which; end it, or change the module's setting listen"
		if c.Daemon == nil {
			l, err := net.Listen("tcp", address)
			if err != nil {
				c.fail("listener", m.ID, fmt.Sprintf("%s cannot be opened: %v", address, err), taken)
				continue
			}
			l.Close()
			c.ok("listener", m.ID, address+" is free for tuxwatchd")
			continue
		}
		dialer := net.Dialer{Timeout: c.Patience}
		conn, err := dialer.DialContext(ctx, "tcp", reachable(address))
		if err != nil {
			c.fail("listener", m.ID, fmt.Sprintf("nobody answers at %s: %v", address, err), taken)
			continue
		}
		conn.Close()
		text := "answers at " + address
		if host, _, _ := net.SplitHostPort(address); !loopback(host) {
			text += ", open to the network"
		}
		c.ok("listener", m.ID, text)
	}
}

// listen gives a module's setting of that name, whatever its kind.
func listen(settings any) string {
	v := reflect.ValueOf(settings)
	for v.Kind() == reflect.Pointer && !v.IsNil() {
		v = v.Elem()
	}
	if v.Kind() != reflect.Struct {
		return ""
	}
	if f := v.FieldByName("Listen"); f.IsValid() && f.Kind() == reflect.String {
		return f.String()
	}
	return ""
}

// reachable is where to connect to reach who listens at address.
func reachable(address string) string {
	host, port, err := net.SplitHostPort(address)
	if ip := net.ParseIP(host); err == nil && (host == "" || ip != nil && ip.IsUnspecified()) {
		host = "127.0.0.1"
		if ip != nil && ip.To4() == nil {
			host = "::1"
		}
		return net.JoinHostPort(host, port)
	}
	return address
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}
