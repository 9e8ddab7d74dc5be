package cloud

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	broker "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/auth"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/mochi-mqtt/server/v2/packets"

	"tuxwatch/firmware/message"
)

// testBroker is a real broker with an observer that hears everything.
type testBroker struct {
	*broker.Server
	address string

	mu    sync.Mutex
	heard map[string][]string // payloads by topic
}

// startBroker lets pi in with a password, everyone else without; with tls,
// clients must show a certificate of clientCAs if that is set.
func startBroker(t *testing.T, config *tls.Config) *testBroker {
	t.Helper()
	b := &testBroker{
		Server: broker.New(&broker.Options{InlineClient: true, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))}),
		heard:  map[string][]string{},
	}
	ledger := &auth.Ledger{Auth: auth.AuthRules{
		{Username: "pi", Password: "right", Allow: true},
		{Username: "pi", Allow: false},
		{Allow: true},
	}}
	if err := b.AddHook(new(auth.Hook), &auth.Options{Ledger: ledger}); err != nil {
		t.Fatal(err)
	}
	listener := listeners.NewTCP(listeners.Config{ID: "test", Address: "127.0.0.1:0", TLSConfig: config})
	if err := b.AddListener(listener); err != nil {
		t.Fatal(err)
	}
	if err := b.Serve(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	b.address = listener.Address()
	err := b.Subscribe("#", 1, func(_ *broker.Client, _ packets.Subscription, p packets.Packet) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.heard[p.TopicName] = append(b.heard[p.TopicName], string(p.Payload))
	})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *testBroker) on(topic string) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.heard[topic])
}

func (b *testBroker) last(topic string) string {
	all := b.on(topic)
	if len(all) == 0 {
		return ""
	}
	return all[len(all)-1]
}

func mqttConfig(b *testBroker) Config {
	config := quick()
	config.Dialect = DialectMQTT
	config.MQTT.URL = "mqtt://" + b.address
	config.MQTT.DeviceID = "pi"
	return config
}

func TestAPlainBrokerGetsMessagesInEnvelopes(t *testing.T) {
	b := startBroker(t, nil)
	o := openOutbox(t)
	m := text("first")
	m.Properties = map[string]string{"MessageType": "Alert"}
	m.Created = time.Date(2026, 11, 22, 11, 2, 3, 0, time.UTC)
	if err := o.Put(t.Context(), m, 5, 0); err != nil {
		t.Fatal(err)
	}
	picture := message.Message{ID: "second", Body: []byte{0xff, 0xd8}, ContentType: "image/jpeg", Source: message.Source{Module: "a/b+c"}}
	if err := o.Put(t.Context(), picture, 5, 0); err != nil {
		t.Fatal(err)
	}
	run(t, mqttConfig(b), o, nil)
	eventually(t, "the outbox is empty", func() bool { return o.Stats().Depth == 0 })
	for topic, want := range map[string]string{
		"tuxwatch/pi/messages/filterModule/output1": `{"id":"first","device":"pi","module":"filterModule","output":"output1",` +
			`"time":"2026-11-22T11:02:03.000Z","properties":{"MessageType":"Alert"},"contentType":"application/json","body":{"n":"first"}}`,
		"tuxwatch/pi/messages/a_b_c/-": `{"id":"second","device":"pi","module":"a/b+c","output":"","contentType":"image/jpeg","encoding":"base64","body":"/9g="}`,
	} {
		eventually(t, "it is on "+topic, func() bool { return len(b.on(topic)) > 0 })
		if got := b.on(topic); len(got) != 1 || !sameJSON(t, got[0], want) {
			t.Errorf("%s:\ngot  %s\nwant %s", topic, got, want)
		}
	}
}

func sameJSON(t *testing.T, a, b string) bool {
	t.Helper()
	compact := func(text string) string {
		var v any
		if err := json.Unmarshal([]byte(text), &v); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		data, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	return compact(a) == compact(b)
}

func TestAPlainBrokerGetsBodiesWithoutEnvelope(t *testing.T) {
	b := startBroker(t, nil)
	o := openOutbox(t)
	put(t, o, 5, "a")
	config := mqttConfig(b)
	config.MQTT.Envelope = EnvelopeBody
	config.MQTT.TopicPrefix = "site/7"
	run(t, config, o, nil)
	eventually(t, "the outbox is empty", func() bool { return o.Stats().Depth == 0 })
	eventually(t, "the body is there", func() bool { return b.last("site/7/pi/messages/filterModule/output1") == `{"n":"a"}` })
}

func TestAvailability(t *testing.T) {
	b := startBroker(t, nil)
	c, stop := run(t, mqttConfig(b), openOutbox(t), nil)
	const status = "tuxwatch/pi/status"
	eventually(t, "online", func() bool { return b.last(status) == "online" })
	// The connection is cut: the will is published, and online again after.
	client, ok := b.Clients.Get("pi")
	if !ok {
		t.Fatal("the client is not there")
	}
	client.Net.Conn.Close()
	eventually(t, "online again", func() bool { return slices.Equal(b.on(status), []string{"online", "offline", "online"}) })
	eventually(t, "connected", func() bool { return c.State().Status == Connected })
	stop()
	eventually(t, "offline", func() bool { return b.last(status) == "offline" })
	if got := b.on(status); len(got) != 4 {
		t.Errorf("said %v; the will was published although the device said goodbye", got)
	}
	if retained, ok := b.Topics.Retained.Get(status); !ok || string(retained.Payload) != "offline" {
		t.Errorf("retained: %s", retained.Payload)
	}
}

func TestTwinAndMethodsOverAPlainBroker(t *testing.T) {
	b := startBroker(t, nil)
	const prefix = "tuxwatch/pi/"
	publish := func(topic, payload string, retain bool) {
		t.Helper()
		if err := b.Publish(prefix+topic, []byte(payload), retain, 1); err != nil {
			t.Fatal(err)
		}
	}
	publish("twin/desired", `{"filterModule":{"TemperatureThreshold":30}}`, true)
	publish("methods/echo", `{"id":1,"payload":"stale"}`, true)
	device := newFakeDevice(`{"a":1}`)
	c, _ := run(t, mqttConfig(b), openOutbox(t), device)
	eventually(t, "the retained desired properties came", func() bool {
		return device.last() == `1 full {"filterModule":{"TemperatureThreshold":30}}`
	})
	eventually(t, "reported", func() bool { return b.last(prefix+"twin/reported") == `{"a":1}` })
	device.report(`{"a":2}`)
	eventually(t, "reported again", func() bool { return b.last(prefix+"twin/reported") == `{"a":2}` })
	publish("twin/desired", `{"x":1}`, true)
	eventually(t, "new desired properties came", func() bool { return device.last() == `2 full {"x":1}` })
	publish("twin/desired", `not json`, false)
	publish("methods/echo", `{"id":"42","payload":{"b":true}}`, false)
	eventually(t, "the method answered", func() bool { return len(b.on(prefix+"methods/echo/response")) > 0 })
	if got := b.last(prefix + "methods/echo/response"); !sameJSON(t, got, `{"id":"42","status":200,"payload":{"b":true}}`) {
		t.Errorf("got %s", got)
	}
	publish("methods/nothing", ``, false)
	eventually(t, "an unknown method answered", func() bool { return len(b.on(prefix+"methods/nothing/response")) > 0 })
	if got := b.last(prefix + "methods/nothing/response"); !sameJSON(t, got, `{"id":null,"status":404,"payload":null}`) {
		t.Errorf("got %s", got)
	}
	device.mu.Lock()
	defer device.mu.Unlock()
	if slices.ContainsFunc(device.invoked, func(s string) bool { return strings.Contains(s, "stale") }) {
		t.Error("a retained method call was carried out")
	}
	if s := c.State(); s.DesiredVersion != 2 || s.Failures != 0 {
		t.Errorf("%+v", s)
	}
}

func TestUserAndPassword(t *testing.T) {
	b := startBroker(t, nil)
	config := mqttConfig(b)
	config.MQTT.User = "pi"
	config.MQTT.PasswordFile = filepath.Join(t.TempDir(), "password")
	writeFile(t, config.MQTT.PasswordFile, "wrong-secret")
	o := openOutbox(t)
	put(t, o, 5, "kept")
	c, _ := run(t, config, o, nil, func(c *Connection) { c.lookEvery = 10 * time.Millisecond })
	eventually(t, "refused", func() bool { return c.State().Status == Refused })
	if s := c.State(); !strings.Contains(s.Remedy, config.MQTT.PasswordFile) || strings.Contains(s.Error+s.Remedy, "wrong-secret") {
		t.Errorf("%+v", s)
	}
	writeFile(t, config.MQTT.PasswordFile, "right\n")
	eventually(t, "the outbox is empty", func() bool { return o.Stats().Depth == 0 })
}

// authority issues certificates.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	pem         []byte
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	key, der := sign(t, template, template, nil)
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{certificate, key, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}
}

func sign(t *testing.T, template, parent *x509.Certificate, signer *ecdsa.PrivateKey) (*ecdsa.PrivateKey, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if signer == nil {
		signer = key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	return key, der
}

// issue returns a certificate and key in PEM.
func (a *authority) issue(t *testing.T, name string) (certificate, key []byte) {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	private, der := sign(t, template, a.certificate, a.key)
	data, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: data})
}

func TestClientCertificates(t *testing.T) {
	ca := newAuthority(t)
	certificate, key := ca.issue(t, "broker")
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca.certificate)
	b := startBroker(t, &tls.Config{Certificates: []tls.Certificate{pair}, ClientCAs: roots, ClientAuth: tls.RequireAndVerifyClientCert})
	dir := t.TempDir()
	config := mqttConfig(b)
	config.MQTT.URL = "mqtts://" + b.address
	config.CAFile, config.CertFile, config.KeyFile = dir+"/ca.pem", dir+"/device.pem", dir+"/device.key"
	certificate, key = ca.issue(t, "pi")
	writeFile(t, config.CAFile, string(ca.pem))
	writeFile(t, config.CertFile, string(certificate))
	writeFile(t, config.KeyFile, string(key))
	o := openOutbox(t)
	put(t, o, 5, "a")
	_, stop := run(t, config, o, nil)
	eventually(t, "the outbox is empty", func() bool { return o.Stats().Depth == 0 })
	stop()

	config.CertFile, config.KeyFile = "", ""
	put(t, o, 5, "b")
	c, _ := run(t, config, o, nil)
	eventually(t, "it failed without a certificate", func() bool { return c.State().Failures > 0 })
	if c.State().Connections != 0 || o.Stats().Depth != 1 {
		t.Errorf("%+v", c.State())
	}
}

// An independent client sees what the documentation says.
func TestAnotherClientSeesTheTopics(t *testing.T) {
	b := startBroker(t, nil)
	options := mqtt.NewClientOptions().AddBroker("tcp://" + b.address).SetClientID("observer").SetAutoReconnect(false)
	observer := mqtt.NewClient(options)
	if token := observer.Connect(); token.Wait() && token.Error() != nil {
		t.Fatal(token.Error())
	}
	defer observer.Disconnect(100)
	topics := make(chan string, 10)
	token := observer.Subscribe("tuxwatch/+/messages/#", 1, func(_ mqtt.Client, m mqtt.Message) { topics <- m.Topic() })
	if token.Wait() && token.Error() != nil {
		t.Fatal(token.Error())
	}
	o := openOutbox(t)
	put(t, o, 5, "a")
	run(t, mqttConfig(b), o, nil)
	select {
	case got := <-topics:
		if got != "tuxwatch/pi/messages/filterModule/output1" {
			t.Errorf("got %s", got)
		}
	case <-time.After(patience):
		t.Error("nothing came")
	}
}
