package cloud

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
)

func TestConfigurationInYAML(t *testing.T) {
	config := DefaultConfig()
	err := yaml.UnmarshalWithOptions([]byte(`
dialect: azure
connection_string_file: /etc/tuxwatch/hub
address: :18883
token_lifetime: 30m
max_rate: 12.5
backoff: {min: 2s, max: 1m}
mqtt: {envelope: body}
`), &config, yaml.Strict())
	if err != nil {
		t.Fatal(err)
	}
	if err := config.Validate(); err != nil {
		t.Error(err)
	}
	if config.TokenLifetime != 30*time.Minute || config.MaxRate != 12.5 || config.Backoff.Min != 2*time.Second ||
		config.Backoff.Refused != time.Minute || config.Window != 64 || config.MQTT.Envelope != EnvelopeBody || config.MQTT.TopicPrefix != "tuxwatch" {
		t.Errorf("%+v", config)
	}
}

func TestWhatCannotWorkIsNamed(t *testing.T) {
	azure := func(change func(*Config)) Config {
		c := DefaultConfig()
		c.Dialect, c.ConnectionStringFile = DialectAzure, "/f"
		change(&c)
		return c
	}
	plain := func(change func(*Config)) Config {
		c := DefaultConfig()
		c.Dialect, c.MQTT.URL, c.MQTT.DeviceID = DialectMQTT, "mqtt://b", "pi"
		change(&c)
		return c
	}
	good := []Config{DefaultConfig(), azure(func(*Config) {}), plain(func(*Config) {}),
		azure(func(c *Config) { c.Address = "tcp://127.0.0.1:1883" }), plain(func(c *Config) { c.MQTT.URL = "mqtts://[::1]" })}
	for _, c := range good {
		if err := c.Validate(); err != nil {
			t.Errorf("%+v: %v", c, err)
		}
	}
	for name, c := range map[string]Config{
		"dialect":                azure(func(c *Config) { c.Dialect = "aws" }),
		"connection_string_file": azure(func(c *Config) { c.ConnectionStringFile = "" }),
		"address":                azure(func(c *Config) { c.Address = "tcp://hub.example:1883" }),
		"not a port":             azure(func(c *Config) { c.Address = "hub:99999" }),
		"token_lifetime":         azure(func(c *Config) { c.TokenLifetime = time.Second }),
		"window":                 azure(func(c *Config) { c.Window = 0 }),
		"max_rate":               azure(func(c *Config) { c.MaxRate = -1 }),
		"max_attempts":           azure(func(c *Config) { c.MaxAttempts = 0 }),
		"keep_alive":             azure(func(c *Config) { c.KeepAlive = time.Hour }),
		"connect_timeout":        azure(func(c *Config) { c.ConnectTimeout = 0 }),
		"backoff.min":            azure(func(c *Config) { c.Backoff.Min = time.Hour }),
		"cert_file and key_file": azure(func(c *Config) { c.CertFile = "x" }),
		"mqtt.url":               plain(func(c *Config) { c.MQTT.URL = "http://b" }),
		"credentials":            plain(func(c *Config) { c.MQTT.URL = "mqtt://u:p@b" }),
		"mqtt.device_id":         plain(func(c *Config) { c.MQTT.DeviceID = "a/b" }),
		"mqtt.topic_prefix":      plain(func(c *Config) { c.MQTT.TopicPrefix = "#" }),
		"mqtt.envelope":          plain(func(c *Config) { c.MQTT.Envelope = "xml" }),
		"mqtt.user":              plain(func(c *Config) { c.MQTT.PasswordFile = "x" }),
	} {
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestConnectionStrings(t *testing.T) {
	c, err := parseConnectionString(" HostName=h.example;DeviceId=pi-1;SharedAccessKey=a2V5PQ==;GatewayHostName=gw \n")
	if err != nil || c.host != "h.example" || c.device != "pi-1" || string(c.key) != "key=" || c.gateway != "gw" {
		t.Errorf("%+v, %v", c, err)
	}
	if c, err := parseConnectionString("HostName=h;DeviceId=d;x509=true"); err != nil || !c.x509 || c.key != nil {
		t.Errorf("%+v, %v", c, err)
	}
	const secret = "c2VjcmV0c2VjcmV0"
	for text, want := range map[string]string{
		"":                                     "form",
		"nonsense":                             "form",
		"DeviceId=d;SharedAccessKey=" + secret: "HostName",
		"HostName=h;SharedAccessKey=" + secret: "DeviceId",
		"HostName=h;DeviceId=d":                "SharedAccessKey is missing",
		"HostName=h;DeviceId=d;SharedAccessKey=" + secret + "!":                "base64",
		"HostName=h;DeviceId=a/b;SharedAccessKey=" + secret:                    "DeviceId",
		"HostName=h;DeviceId=d;ModuleId=m;SharedAccessKey=" + secret:           "module",
		"HostName=h;SharedAccessKeyName=iothubowner;SharedAccessKey=" + secret: "service",
		"HostName=h;HostName=i;DeviceId=d;SharedAccessKey=" + secret:           "HostName is given twice",
		"HostName=h;deviceid=d;DEVICEID=d;SharedAccessKey=" + secret:           "DeviceId is given twice",
		"HostName=h;" + secret + "\x01=a;" + secret + "\x01=b":                 "DeviceId is missing",
	} {
		_, err := parseConnectionString(text)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), secret) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// Computed with Python: base64(hmac_sha256(b64decode(key), sr + "\n" + se)).
func TestSASTokenAgainstAnIndependentComputation(t *testing.T) {
	got := sasToken("myhub.azure-devices.net", "pi 1", []byte("0123456789abcdef"), time.Unix(1795000000, 0))
	want := "SharedAccessSignature sr=myhub.azure-devices.net%2Fdevices%2Fpi%201&sig=xVlH%2B4fyv%2BIjf3RidaX%2BCQv4mRWrIWbwjcZeah5dIhI%3D&se=1795000000"
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestASecretThatOthersMayReadIsWarnedAbout(t *testing.T) {
	var log bytes.Buffer
	path := filepath.Join(t.TempDir(), "secret")
	for mode, warned := range map[os.FileMode]bool{0o600: false, 0o400: false, 0o640: true, 0o604: true} {
		log.Reset()
		writeFile(t, path, " s3cret\n")
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		got, err := readSecret(path, slog.New(slog.NewTextHandler(&log, nil)))
		if err != nil || got != "s3cret" {
			t.Errorf("%v: %q, %v", mode, got, err)
		}
		if (log.Len() > 0) != warned || strings.Contains(log.String(), "s3cret") {
			t.Errorf("%v: log %q", mode, log.String())
		}
		os.Remove(path)
	}
}
