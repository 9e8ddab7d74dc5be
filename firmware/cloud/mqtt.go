package cloud

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"golang.org/x/sync/errgroup"

	"tuxwatch/firmware/message"
	"tuxwatch/firmware/outbox"
)

// plainMQTT speaks to any MQTT 3.1.1 broker. Topics, where tuxwatch is
// Config.MQTT.TopicPrefix and all payloads are JSON unless said otherwise:
//
//	tuxwatch/{device}/messages/{module}/{output}        messages, QoS 1, see envelope
//	tuxwatch/{device}/status                            online or offline (text), retained; offline is the last will
//	tuxwatch/{device}/twin/desired                      to the device, retained: all desired properties
//	tuxwatch/{device}/twin/reported                     retained: all reported properties
//	tuxwatch/{device}/methods/{name}                    to the device: {"id":…,"payload":…}
//	tuxwatch/{device}/methods/{name}/response           {"id":…,"status":…,"payload":…}
type plainMQTT struct {
	config *Config
	device Device
	log    *slog.Logger
	now    func() time.Time

	versions int64 // of desired properties, which have none of their own here
}

func (p *plainMQTT) topic(levels ...string) string {
	return p.config.MQTT.TopicPrefix + "/" + p.config.MQTT.DeviceID + "/" + strings.Join(levels, "/")
}

func (p *plainMQTT) login(time.Time) (login, error) {
	settings := p.config.MQTT
	l := login{
		hub:         settings.URL,
		device:      settings.DeviceID,
		clientID:    settings.DeviceID,
		user:        settings.User,
		clean:       true,
		willTopic:   p.topic("status"),
		willPayload: "offline",
	}
	hostPort, plain, err := parseBrokerURL(settings.URL)
	if err != nil {
		return l, fmt.Errorf("mqtt.url: %w", err)
	}
	l.address = hostPort
	var check []string
	if settings.PasswordFile != "" {
		if l.password, err = readSecret(settings.PasswordFile, p.log); err != nil {
			return l, fmt.Errorf("reading mqtt.password_file: %w", err)
		}
		check = append(check, fmt.Sprintf("the user %q has the password in %s", settings.User, settings.PasswordFile))
	}
	if !plain {
		host := hostPort[:strings.LastIndexByte(hostPort, ':')]
		if l.tls, err = p.config.tlsConfig(strings.Trim(host, "[]"), p.now, p.log); err != nil {
			return l, err
		}
		if p.config.CertFile != "" {
			check = append(check, "the certificate in "+p.config.CertFile+" is accepted")
		}
	}
	if len(check) == 0 {
		check = append(check, "it takes clients without a password (else set mqtt.user and mqtt.password_file)")
	}
	l.credential = strings.Join(check, ", and that ")
	return l, nil
}

// envelope is a message with envelope json: what tuxhub monitor shows, and the
// message's id. A body that is not JSON is base64, and encoding says so.
type envelope struct {
	ID         string            `json:"id"`
	Device     string            `json:"device"`
	Module     string            `json:"module"`
	Output     string            `json:"output"`
	Time       *message.Time     `json:"time,omitempty"`
	Properties map[string]string `json:"properties,omitempty"`
	Type       string            `json:"contentType,omitempty"`
	Encoding   string            `json:"encoding,omitempty"`
	Body       any               `json:"body"`
}

func (p *plainMQTT) encode(r outbox.Record) (string, []byte, error) {
	m := r.Message
	topic := p.topic("messages", level(m.Source.Module), level(m.Source.Output))
	if len(topic) > maxTopic {
		return "", nil, fmt.Errorf("its topic has %d bytes; MQTT takes %d", len(topic), maxTopic)
	}
	if p.config.MQTT.Envelope == EnvelopeBody {
		return topic, m.Body, nil
	}
	e := envelope{
		ID: m.ID, Device: p.config.MQTT.DeviceID, Module: m.Source.Module, Output: m.Source.Output,
		Properties: m.Properties, Type: m.ContentType,
	}
	if !m.Created.IsZero() {
		e.Time = &message.Time{Time: m.Created}
	}
	if m.ContentType == message.ContentTypeJSON && json.Valid(m.Body) {
		e.Body = json.RawMessage(m.Body)
	} else {
		e.Body, e.Encoding = m.Body, "base64"
	}
	payload, err := json.Marshal(e)
	return topic, payload, err
}

// level makes one level of a topic of a module's or an output's name.
func level(name string) string {
	if name == "" {
		return "-"
	}
	return strings.NewReplacer("/", "_", "+", "_", "#", "_", "\x00", "_").Replace(name)
}

func (p *plainMQTT) goodbye(s *session) {
	// After a DISCONNECT the broker does not publish the will.
	if err := s.publish(p.topic("status"), 1, true, []byte("offline")); err != nil {
		p.log.Warn("The broker was not told that the device goes offline", "error", err)
	}
}

func (p *plainMQTT) serve(ctx context.Context, s *session, started func()) error {
	filters := map[string]byte{}
	if p.device != nil {
		filters[p.topic("twin", "desired")] = 1
		filters[p.topic("methods", "+")] = 1
		if err := s.subscribe(ctx, filters); err != nil {
			return err
		}
	}
	if err := s.publish(p.topic("status"), 1, true, []byte("online")); err != nil {
		return fmt.Errorf("telling the broker that the device is online: %w", err)
	}
	started()
	if p.device == nil {
		<-ctx.Done()
		return nil
	}
	group, ctx := errgroup.WithContext(ctx)
	methods := newMethodCalls(p.device, p.log, func(call methodCall, status int, response []byte) error {
		id := json.RawMessage(call.id)
		if len(id) == 0 {
			id = json.RawMessage("null")
		}
		payload, err := json.Marshal(map[string]any{"id": id, "status": status, "payload": json.RawMessage(response)})
		if err != nil {
			return err
		}
		return s.publish(p.topic("methods", call.name, "response"), 1, false, payload)
	})
	group.Go(func() error { return p.report(ctx, s) })
	group.Go(func() error {
		defer methods.wait()
		for {
			select {
			case m := <-s.inbox:
				if err := p.dispatch(ctx, s, m, methods); err != nil {
					p.log.Warn("A message from the broker cannot be understood", "topic", m.Topic(), "error", err)
				}
				if s.overflowed() {
					return errors.New("messages from the broker came too fast to be taken; connecting anew to get the retained ones")
				}
			case <-ctx.Done():
				return nil
			}
		}
	})
	return group.Wait()
}

// report publishes the reported properties now and at every change.
func (p *plainMQTT) report(ctx context.Context, s *session) error {
	last := ""
	for {
		changed := p.device.ReportedChanged()
		reported := p.device.Reported()
		if len(reported) == 0 {
			reported = json.RawMessage("{}")
		}
		if string(reported) != last {
			if err := s.publish(p.topic("twin", "reported"), 1, true, reported); err != nil {
				return fmt.Errorf("publishing the reported properties: %w", err)
			}
			last = string(reported)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}

func (p *plainMQTT) dispatch(ctx context.Context, s *session, m mqtt.Message, methods *methodCalls) error {
	topic, payload := m.Topic(), m.Payload()
	if topic == p.topic("twin", "desired") {
		if len(payload) == 0 {
			payload = []byte("{}") // the retained message was removed
		}
		if _, err := parseObject(payload); err != nil {
			return fmt.Errorf("desired properties: %w", err)
		}
		p.versions++
		version := p.versions
		if err := p.device.ApplyDesired(ctx, payload, version, true); err != nil {
			p.log.Warn("The device rejects desired properties and keeps the last good ones", "error", err)
		}
		s.connection.update(func(st *State) { st.DesiredVersion = version })
		return nil
	}
	name, ok := strings.CutPrefix(topic, p.topic("methods")+"/")
	if !ok {
		return errors.New("a topic that was not subscribed to")
	}
	var request struct {
		ID      json.RawMessage `json:"id"`
		Payload json.RawMessage `json:"payload"`
	}
	if len(payload) > 0 {
		if err := json.Unmarshal(payload, &request); err != nil {
			return fmt.Errorf(`a method call must be {"id":…,"payload":…}: %w`, err)
		}
	}
	if m.Retained() {
		return errors.New("a retained method call is not carried out: it would be at every connection")
	}
	methods.start(ctx, methodCall{name: name, id: string(request.ID), payload: request.Payload})
	return nil
}
