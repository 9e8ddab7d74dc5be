package cloud

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"golang.org/x/sync/errgroup"

	"tuxwatch/firmware/outbox"
)

// azure speaks Azure IoT Hub's MQTT interface as described in "Communicate
// with IoT Hub using the MQTT protocol".
type azure struct {
	config *Config
	device Device
	log    *slog.Logger
	now    func() time.Time
	id     string // of the device; set by login
}

const (
	azureAPIVersion = "2021-04-12"
	// azureMaxMessage bounds a message with its properties ("IoT Hub quotas and
	// throttling", device-to-cloud message size).
	azureMaxMessage = 256 << 10
	// maxTopic is MQTT's own bound on the length of a topic.
	maxTopic = 65535
)

// Topics of IoT Hub.
const (
	azureTwinResponse = "$iothub/twin/res/"
	azureTwinDesired  = "$iothub/twin/PATCH/properties/desired/"
	azureMethods      = "$iothub/methods/POST/"
)

func (a *azure) login(now time.Time) (login, error) {
	l := login{hub: "the hub"}
	text, err := readSecret(a.config.ConnectionStringFile, a.log)
	if err != nil {
		return l, fmt.Errorf("reading the connection string: %w", err)
	}
	credentials, err := parseConnectionString(text)
	if err != nil {
		return l, fmt.Errorf("the connection string in %s: %w", a.config.ConnectionStringFile, err)
	}
	l.hub, l.device = credentials.host, credentials.device
	a.id = credentials.device
	host := credentials.host
	if credentials.gateway != "" {
		host = credentials.gateway
	}
	where, err := parseAddress(a.config.Address, host)
	if err != nil {
		return l, fmt.Errorf("address: %w", err)
	}
	l.address = where.hostPort
	if !where.plain {
		if l.tls, err = a.config.tlsConfig(host, a.now, a.log); err != nil {
			return l, err
		}
	}
	l.clientID = credentials.device
	l.user = credentials.host + "/" + credentials.device + "/?api-version=" + azureAPIVersion
	l.clean = true
	if credentials.key == nil {
		if a.config.CertFile == "" {
			return l, errors.New("the connection string says x509=true, but cert_file and key_file are not set")
		}
		l.credential = "the certificate in " + a.config.CertFile + " is the one registered for it"
		return l, nil
	}
	l.credential = "the key in " + a.config.ConnectionStringFile + " is the device's primary or secondary one"
	lifetime := a.config.TokenLifetime
	// A token ends with a whole second; no sooner than the lifetime.
	l.expires = now.Add(lifetime + time.Second - 1).Truncate(time.Second)
	// Early enough for a slow network, and not so late that a clock that is
	// somewhat off makes the hub end it first.
	l.renew = now.Add(lifetime - min(lifetime/5, 10*time.Minute))
	l.password = sasToken(credentials.host, credentials.device, credentials.key, l.expires)
	return l, nil
}

// encode puts the properties behind the topic, as IoT Hub wants them: system
// properties with their short names, then the application's, sorted. Module
// and output go as the application properties edge-module and edge-output,
// since the system properties for them are IoT Edge's alone.
func (a *azure) encode(r outbox.Record) (string, []byte, error) {
	m := r.Message
	var bag []string
	size := len(m.Body)
	add := func(name, value string) {
		bag = append(bag, name+"="+encodeProperty(value))
		size += len(name) + len(value)
	}
	if m.ID != "" {
		add("$.mid", m.ID)
	}
	if !m.Created.IsZero() {
		add("$.ctime", m.Created.UTC().Format("2006-01-02T15:04:05.000Z"))
	}
	if m.ContentType != "" {
		add("$.ct", m.ContentType)
	}
	if m.ContentEncoding != "" {
		add("$.ce", m.ContentEncoding)
	}
	properties := maps.Clone(m.Properties)
	if properties == nil {
		properties = map[string]string{}
	}
	if m.Source.Module != "" {
		properties["edge-module"] = m.Source.Module
	}
	if m.Source.Output != "" {
		properties["edge-output"] = m.Source.Output
	}
	for _, name := range slices.Sorted(maps.Keys(properties)) {
		add(encodeProperty(name), properties[name])
	}
	topic := "devices/" + a.id + "/messages/events/" + strings.Join(bag, "&")
	if size > azureMaxMessage {
		return "", nil, fmt.Errorf("it has %d bytes with its properties; IoT Hub takes %d", size, azureMaxMessage)
	}
	if len(topic) > maxTopic {
		return "", nil, fmt.Errorf("its properties make a topic of %d bytes; MQTT takes %d", len(topic), maxTopic)
	}
	return topic, m.Body, nil
}

// encodeProperty writes a space as %20: in a topic "+" is a wildcard, and a
// property bag does not take it for a space.
func encodeProperty(text string) string {
	return strings.ReplaceAll(url.QueryEscape(text), "+", "%20")
}

func (a *azure) goodbye(*session) {}

// serve subscribes to the twin's topics and the methods', three of the five
// subscriptions that the hub allows.
func (a *azure) serve(ctx context.Context, s *session, started func()) error {
	if a.device == nil {
		started()
		<-ctx.Done()
		return nil
	}
	if err := s.subscribe(ctx, map[string]byte{azureTwinResponse + "#": 0, azureTwinDesired + "#": 0, azureMethods + "#": 0}); err != nil {
		return err
	}
	started()
	group, ctx := errgroup.WithContext(ctx)
	methods := newMethodCalls(a.device, a.log, func(call methodCall, status int, response []byte) error {
		return s.publish("$iothub/methods/res/"+strconv.Itoa(status)+"/?$rid="+call.id, 0, false, response)
	})
	twin := newTwin(s, a.device, a.log, func(rid string) error {
		return s.publish("$iothub/twin/GET/?$rid="+rid, 0, false, []byte{})
	}, func(rid string, patch []byte) error {
		return s.publish("$iothub/twin/PATCH/properties/reported/?$rid="+rid, 0, false, patch)
	})
	group.Go(func() error { return twin.run(ctx) })
	group.Go(func() error {
		defer methods.wait()
		for {
			select {
			case m := <-s.inbox:
				if err := a.dispatch(ctx, m, twin, methods); err != nil {
					a.log.Warn("A message from the hub cannot be understood", "topic", m.Topic(), "error", err)
				}
				if s.overflowed() {
					a.log.Warn("Messages from the hub came too fast; getting the whole twin again")
					twin.resync()
				}
			case <-ctx.Done():
				return nil
			}
		}
	})
	return group.Wait()
}

func (a *azure) dispatch(ctx context.Context, m mqtt.Message, twin *twin, methods *methodCalls) error {
	topic, payload := m.Topic(), m.Payload()
	if rest, ok := strings.CutPrefix(topic, azureTwinResponse); ok {
		// {status}/?$rid={request id}[&$version={version}]
		status, query, err := statusAndQuery(rest)
		if err != nil {
			return err
		}
		twin.answer(ctx, twinAnswer{query.Get("$rid"), status, payload})
		return nil
	}
	if rest, ok := strings.CutPrefix(topic, azureTwinDesired); ok {
		query, err := url.ParseQuery(strings.TrimPrefix(rest, "?"))
		if err != nil {
			return err
		}
		version, err := strconv.ParseInt(query.Get("$version"), 10, 64)
		if err != nil {
			return fmt.Errorf("its version: %w", err)
		}
		twin.desired(ctx, desiredPatch{version, payload})
		return nil
	}
	if rest, ok := strings.CutPrefix(topic, azureMethods); ok {
		// {method name}/?$rid={request id}
		name, rest, _ := strings.Cut(rest, "/")
		query, err := url.ParseQuery(strings.TrimPrefix(rest, "?"))
		if err != nil {
			return err
		}
		if query.Get("$rid") == "" {
			return errors.New("a method call without $rid")
		}
		if name, err = url.PathUnescape(name); err != nil {
			return err
		}
		methods.start(ctx, methodCall{name: name, id: query.Get("$rid"), payload: payload})
		return nil
	}
	return errors.New("a topic that was not subscribed to")
}

func statusAndQuery(rest string) (int, url.Values, error) {
	number, rest, _ := strings.Cut(rest, "/")
	status, err := strconv.Atoi(number)
	if err != nil {
		return 0, nil, fmt.Errorf("its status: %w", err)
	}
	query, err := url.ParseQuery(strings.TrimPrefix(rest, "?"))
	return status, query, err
}

// azureTwinDocument is what GET answers.
type azureTwinDocument struct {
	Desired  map[string]json.RawMessage `json:"desired"`
	Reported map[string]json.RawMessage `json:"reported"`
}
