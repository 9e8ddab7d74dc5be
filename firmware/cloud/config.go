package cloud

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"
)

// The dialects of [Config.Dialect].
const (
	DialectNone  = "none"  // no hub: messages are only queued
	DialectAzure = "azure" // Azure IoT Hub's MQTT interface
	DialectMQTT  = "mqtt"  // any MQTT 3.1.1 broker
)

// Config says which hub to connect to and how. Secrets are not in it but in
// the files it names, which are read again for every connection.
type Config struct {
	// Dialect is none, azure or mqtt.
	Dialect string `yaml:"dialect"`

	// ConnectionStringFile (azure) holds the device's connection string:
	// HostName=…;DeviceId=…;SharedAccessKey=…, or with x509=true in place of the
	// key.
	ConnectionStringFile string `yaml:"connection_string_file"`
	// Address (azure) is where to connect instead of the host name's port 8883:
	// host:port, host or :port. With tcp:// in front TLS is off, which is
	// allowed to this machine only.
	Address string `yaml:"address"`
	// TokenLifetime (azure) is how long a SAS token is valid; the connection is
	// renewed before that.
	TokenLifetime time.Duration `yaml:"token_lifetime"`

	// MQTT is for the dialect mqtt.
	MQTT MQTTConfig `yaml:"mqtt"`

	// CAFile holds the certificates, in PEM, that the hub's certificate must
	// descend from; without it those of the system.
	CAFile string `yaml:"ca_file"`
	// CertFile and KeyFile hold the device's own certificate and its key, in
	// PEM, where the hub wants one.
	CertFile string `yaml:"cert_file"`
	KeyFile  string `yaml:"key_file"`

	// Window is how many messages may be on their way without acknowledgement.
	Window int `yaml:"window"`
	// MaxRate bounds the messages sent per second, so that a backlog does not
	// run over the hub's quota; 0 is without bound.
	MaxRate float64 `yaml:"max_rate"`
	// MaxAttempts is how often the hub may drop the connection over one message
	// before it is set aside.
	MaxAttempts int `yaml:"max_attempts"`
	// ConnectTimeout bounds the time from the first packet to CONNACK,
	// AckTimeout that from a publish to its PUBACK.
	ConnectTimeout time.Duration `yaml:"connect_timeout"`
	AckTimeout     time.Duration `yaml:"ack_timeout"`
	// KeepAlive is MQTT's, at most 1177 s with Azure.
	KeepAlive time.Duration `yaml:"keep_alive"`
	// Backoff is how long to wait between attempts to connect.
	Backoff BackoffConfig `yaml:"backoff"`
}

// BackoffConfig bounds the pauses between attempts to connect, which double
// from Min to Max, each with up to half of it added or taken off at random.
type BackoffConfig struct {
	Min time.Duration `yaml:"min"`
	Max time.Duration `yaml:"max"`
	// Refused is the pause after the hub refused the credentials. It ends
	// early when a file with credentials changes.
	Refused time.Duration `yaml:"refused"`
	// StableAfter is how long a connection must last for the pauses to start
	// from Min again.
	StableAfter time.Duration `yaml:"stable_after"`
}

// MQTTConfig is for the dialect mqtt.
type MQTTConfig struct {
	// URL is the broker: mqtt://host:1883, or mqtts://host:8883 with TLS.
	URL string `yaml:"url"`
	// DeviceID names the device in topics and as client id.
	DeviceID string `yaml:"device_id"`
	// User and the content of PasswordFile are the credentials, if the broker
	// wants any.
	User         string `yaml:"user"`
	PasswordFile string `yaml:"password_file"`
	// TopicPrefix begins every topic.
	TopicPrefix string `yaml:"topic_prefix"`
	// Envelope is json (the body within an object with its id, source, time and
	// properties) or body (nothing but the body).
	Envelope string `yaml:"envelope"`
}

// The values of [MQTTConfig.Envelope].
const (
	EnvelopeJSON = "json"
	EnvelopeBody = "body"
)

// DefaultConfig returns the configuration of a device without a hub.
func DefaultConfig() Config {
	return Config{
		Dialect:        DialectNone,
		TokenLifetime:  time.Hour,
		Window:         64,
		MaxRate:        100,
		MaxAttempts:    5,
		ConnectTimeout: 30 * time.Second,
		AckTimeout:     time.Minute,
		KeepAlive:      time.Minute,
		Backoff: BackoffConfig{
			Min:         time.Second,
			Max:         5 * time.Minute,
			Refused:     time.Minute,
			StableAfter: 30 * time.Second,
		},
		MQTT: MQTTConfig{TopicPrefix: "tuxwatch", Envelope: EnvelopeJSON},
	}
}

// maxKeepAlive is the longest that Azure IoT Hub allows ("Communicate with IoT
// Hub using the MQTT protocol", default keep-alive timeout).
const maxKeepAlive = 1177 * time.Second

// Validate names every setting that cannot work.
func (c *Config) Validate() error {
	var problems []error
	problem := func(format string, arguments ...any) {
		problems = append(problems, fmt.Errorf(format, arguments...))
	}
	switch c.Dialect {
	case DialectNone:
	case DialectAzure:
		if c.ConnectionStringFile == "" {
			problem("connection_string_file is missing: the file with the device's connection string, from the hub's page of the device or from 'tuxhub device add'")
		}
		if _, err := parseAddress(c.Address, "localhost"); err != nil {
			problem("address: %w", err)
		}
		if c.TokenLifetime < time.Minute {
			problem("token_lifetime is %v; it must be at least 1m", c.TokenLifetime)
		}
	case DialectMQTT:
		problems = append(problems, c.MQTT.validate()...)
	default:
		problem("dialect is %q; it must be %s, %s or %s", c.Dialect, DialectNone, DialectAzure, DialectMQTT)
	}
	if (c.CertFile == "") != (c.KeyFile == "") {
		problem("cert_file and key_file belong together; one of them is missing")
	}
	if c.Window < 1 || c.Window > 1000 {
		problem("window is %d; it must be 1 to 1000 messages", c.Window)
	}
	if c.MaxRate < 0 {
		problem("max_rate is %v; it must be messages per second, or 0 for no bound", c.MaxRate)
	}
	if c.MaxAttempts < 1 {
		problem("max_attempts is %d; it must be at least 1", c.MaxAttempts)
	}
	for _, d := range []struct {
		name  string
		value time.Duration
	}{
		{"connect_timeout", c.ConnectTimeout}, {"ack_timeout", c.AckTimeout},
		{"backoff.min", c.Backoff.Min}, {"backoff.max", c.Backoff.Max},
		{"backoff.refused", c.Backoff.Refused}, {"backoff.stable_after", c.Backoff.StableAfter},
	} {
		if d.value <= 0 {
			problem("%s is %v; it must be longer than 0", d.name, d.value)
		}
	}
	if c.KeepAlive < time.Second || c.KeepAlive > maxKeepAlive {
		problem("keep_alive is %v; it must be 1s to %v", c.KeepAlive, maxKeepAlive)
	}
	if c.Backoff.Min > c.Backoff.Max {
		problem("backoff.min (%v) is longer than backoff.max (%v)", c.Backoff.Min, c.Backoff.Max)
	}
	return errors.Join(problems...)
}

func (c *MQTTConfig) validate() (problems []error) {
	problem := func(format string, arguments ...any) {
		problems = append(problems, fmt.Errorf(format, arguments...))
	}
	if c.URL == "" {
		problem("mqtt.url is missing: the broker, as mqtts://broker.example:8883")
	} else if _, _, err := parseBrokerURL(c.URL); err != nil {
		problem("mqtt.url: %w", err)
	}
	if c.DeviceID == "" {
		problem("mqtt.device_id is missing: the device's name in topics")
	} else if strings.ContainsAny(c.DeviceID, "/+#\x00") {
		problem("mqtt.device_id is %q; it must be one level of a topic, without / + #", c.DeviceID)
	}
	if c.TopicPrefix == "" || strings.ContainsAny(c.TopicPrefix, "+#\x00") || strings.HasPrefix(c.TopicPrefix, "$") {
		problem("mqtt.topic_prefix is %q; it must be the beginning of a topic, without + # and not starting with $", c.TopicPrefix)
	}
	if c.Envelope != EnvelopeJSON && c.Envelope != EnvelopeBody {
		problem("mqtt.envelope is %q; it must be %s or %s", c.Envelope, EnvelopeJSON, EnvelopeBody)
	}
	if c.PasswordFile != "" && c.User == "" {
		problem("mqtt.password_file needs mqtt.user")
	}
	return problems
}

// address is where to connect.
type address struct {
	hostPort string
	host     string
	plain    bool // without TLS
}

// parseAddress reads Config.Address; what it leaves out is host, port 8883 and
// TLS.
func parseAddress(text, host string) (address, error) {
	rest, plain := strings.CutPrefix(text, "tcp://")
	rest = strings.TrimPrefix(rest, "tls://")
	port := "8883"
	if h, p, err := net.SplitHostPort(rest); err == nil {
		if h != "" {
			host = h
		}
		port = p
	} else if strings.Contains(rest, "/") {
		return address{}, fmt.Errorf("%q is not host:port", text)
	} else if rest != "" {
		host = rest
	}
	if _, err := net.LookupPort("tcp", port); err != nil {
		return address{}, fmt.Errorf("%q: %q is not a port", text, port)
	}
	if plain && !isLoopback(host) {
		return address{}, fmt.Errorf("%q: without TLS only this machine (127.0.0.1, ::1, localhost) is allowed", text)
	}
	return address{hostPort: net.JoinHostPort(host, port), host: host, plain: plain}, nil
}

func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

func parseBrokerURL(text string) (hostPort string, plain bool, err error) {
	u, err := url.Parse(text)
	if err != nil {
		return "", false, err
	}
	port := u.Port()
	switch u.Scheme {
	case "mqtt", "tcp":
		plain = true
		if port == "" {
			port = "1883"
		}
	case "mqtts", "ssl", "tls":
		if port == "" {
			port = "8883"
		}
	default:
		return "", false, fmt.Errorf("%q must begin with mqtt:// or mqtts://", text)
	}
	switch {
	case u.Hostname() == "":
		return "", false, fmt.Errorf("%q names no host", text)
	case u.User != nil:
		return "", false, errors.New("it must not hold credentials; they belong in mqtt.user and mqtt.password_file")
	case strings.Trim(u.Path, "/") != "" || u.RawQuery != "":
		return "", false, fmt.Errorf("%q has more than a host and a port", text)
	}
	return net.JoinHostPort(u.Hostname(), port), plain, nil
}
