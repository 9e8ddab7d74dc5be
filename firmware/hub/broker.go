package hub

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// maxKeepAlive is Azure's: a device that asks for more, or for none, gets this.
const maxKeepAlive = 1177 // seconds

// Why the hub ended a connection, beyond the reasons in sas.go and topic.go.
var (
	errQoS2          = errors.New("publish with QoS 2, which the hub does not take")
	errTooLarge      = fmt.Errorf("message of more than %d bytes", MaxEventSize)
	errTakenOver     = errors.New("the device signed in on another connection")
	errRefused       = errors.New("connection refused")
	errSubscriptions = errors.New("subscription to a topic that is not the device's")
	errSlow          = errors.New("the device does not read what it is sent")
	errOrder         = errors.New("ended by the operator")
)

// hook is where the broker asks the hub. The broker keeps the MQTT connection:
// framing, validation, keep-alive, PING. Everything else is the hub's: who may
// sign in, what a publish does, when it is acknowledged, and who is sent what.
// No publish reaches the broker's own routing.
type hook struct {
	mqtt.HookBase
	hub    *Hub
	server *mqtt.Server
	log    *slog.Logger

	refused atomic.Int64 // connections refused for their credentials
}

func (h *hook) ID() string { return "iothub" }

func (h *hook) Provides(b byte) bool {
	switch b {
	case mqtt.OnConnect, mqtt.OnConnectAuthenticate, mqtt.OnACLCheck, mqtt.OnSessionEstablish, mqtt.OnSessionEstablished,
		mqtt.OnPacketRead, mqtt.OnPacketEncode, mqtt.OnPublish, mqtt.OnSubscribe, mqtt.OnSubscribed, mqtt.OnUnsubscribed:
		return true
	}
	return false
}

// OnConnect refuses a CONNECT that cannot be a device's (MQTT 3.1.1, 3.2.2.3).
func (h *hook) OnConnect(cl *mqtt.Client, pk packets.Packet) error {
	refuse := func(code packets.Code, err error) error {
		h.refused.Add(1)
		h.log.Warn("connection refused", "remote", cl.Net.Remote, "device", loggable(pk.Connect.ClientIdentifier), "error", err)
		_ = h.server.SendConnack(cl, code, false, nil)
		return errRefused
	}
	if pk.ProtocolVersion != 4 {
		return refuse(packets.ErrUnsupportedProtocolVersion, errors.New("only MQTT 3.1.1 is spoken here"))
	}
	user, err := parseUserName(string(pk.Connect.Username))
	if err != nil {
		return refuse(packets.ErrMalformedUsername, err)
	}
	if user.device != pk.Connect.ClientIdentifier {
		return refuse(packets.ErrClientIdentifierNotValid, fmt.Errorf("the user name is of device %q, the client id is not", user.device))
	}
	if len(pk.Connect.Password) == 0 {
		return refuse(packets.ErrBadUsernameOrPassword, errors.New("no SAS token in the password"))
	}
	if pk.Connect.Keepalive == 0 || pk.Connect.Keepalive > maxKeepAlive {
		cl.State.Keepalive = maxKeepAlive
	}
	return nil
}

// OnConnectAuthenticate judges the SAS token.
func (h *hook) OnConnectAuthenticate(cl *mqtt.Client, pk packets.Packet) bool {
	s, err := h.authenticate(cl, pk)
	if err != nil {
		h.refused.Add(1)
		h.log.Warn("connection refused", "remote", cl.Net.Remote, "device", loggable(pk.Connect.ClientIdentifier), "error", err)
		return false
	}
	cl.Net.Conn.(*conn).session = s
	// The hub sends wills and keeps sessions itself; for the broker there are none.
	atomic.StoreUint32(&cl.Properties.Will.Flag, 0)
	cl.Properties.Clean = true
	return true
}

func (h *hook) authenticate(cl *mqtt.Client, pk packets.Packet) (*session, error) {
	user, err := parseUserName(string(pk.Connect.Username))
	if err != nil {
		return nil, err
	}
	device, err := h.hub.Device(user.device)
	if err != nil {
		return nil, err
	}
	if !device.Enabled {
		return nil, fmt.Errorf("device %q is disabled", device.ID)
	}
	token, err := parseSAS(string(pk.Connect.Password))
	if err != nil {
		return nil, err
	}
	expiry, err := token.verify(user.host, device.ID, h.hub.now(), device.PrimaryKey, device.SecondaryKey)
	if err != nil {
		return nil, err
	}
	s := newSession(h.hub, cl, device.ID, expiry)
	s.key = device.PrimaryKey
	if pk.Connect.WillFlag {
		will := cl.Properties.Will
		s.will = &will
	}
	if err := s.load(pk.Connect.Clean); err != nil {
		return nil, err
	}
	return s, nil
}

// OnPacketEncode says in CONNACK whether a session was there already.
func (h *hook) OnPacketEncode(cl *mqtt.Client, pk packets.Packet) packets.Packet {
	if pk.FixedHeader.Type == packets.Connack && pk.ReasonCode == packets.CodeSuccess.Code {
		if s := sessionOf(cl); s != nil {
			pk.SessionPresent = s.resumed // [MQTT-3.2.2-2]
		}
	}
	return pk
}

// OnSessionEstablish comes before CONNACK, and before the broker finds the
// device's old connection: that is ended first, since the broker would send it a
// DISCONNECT, which a server must not do in MQTT 3.1.1.
func (h *hook) OnSessionEstablish(cl *mqtt.Client, _ packets.Packet) {
	if s := sessionOf(cl); s != nil {
		h.hub.enter(s)
	}
}

// OnSessionEstablished comes after CONNACK, before anything else is read.
func (h *hook) OnSessionEstablished(cl *mqtt.Client, _ packets.Packet) {
	if s := sessionOf(cl); s != nil {
		h.hub.begin(s)
	}
}

// disconnected comes from the listener when a connection has ended. err is what
// the broker says about it, nil for a clean DISCONNECT.
func (h *hook) disconnected(c *conn, err error) {
	s := c.session
	if s == nil {
		// Refusals are logged where they happen; the rest are strangers and
		// clients that do not trust the certificate.
		if err != nil && !errors.Is(err, errRefused) && !errors.Is(err, packets.ErrBadUsernameOrPassword) {
			h.log.Info("connection ended before it signed in", "remote", c.RemoteAddr(), "error", err)
		}
		return
	}
	if cause := s.cause(); cause != nil {
		err = cause
	}
	h.hub.leave(s, err)
}

// OnACLCheck lets everything through: OnPacketRead has the last word, since the
// broker itself would answer a wrong topic with silence.
func (h *hook) OnACLCheck(*mqtt.Client, string, bool) bool { return true }

// OnPacketRead ends the connection of a device that does what IoT Hub does not
// allow. To the broker, a rejected packet here is a failed read.
func (h *hook) OnPacketRead(cl *mqtt.Client, pk packets.Packet) (packets.Packet, error) {
	s := sessionOf(cl)
	if s == nil {
		return pk, nil
	}
	var err error
	switch pk.FixedHeader.Type {
	case packets.Publish:
		err = s.check(pk)
	case packets.Subscribe:
		for _, f := range pk.Filters {
			if !mayReceive(s.device, f.Filter) {
				err = fmt.Errorf("%w: %s", errSubscriptions, loggable(f.Filter))
			}
		}
	case packets.Puback:
		s.acknowledged(pk.PacketID)
	}
	if err != nil {
		s.stop(err)
		return pk, packets.ErrRejectPacket
	}
	return pk, nil
}

// OnPublish takes every publish away from the broker: ErrRejectPacket makes it
// forget the packet, and the session acknowledges it when its time has come.
func (h *hook) OnPublish(cl *mqtt.Client, pk packets.Packet) (packets.Packet, error) {
	if s := sessionOf(cl); s != nil {
		s.received(pk)
	}
	return pk, packets.ErrRejectPacket
}

// OnSubscribe grants QoS 1 at most, as IoT Hub does.
func (h *hook) OnSubscribe(_ *mqtt.Client, pk packets.Packet) packets.Packet {
	for i := range pk.Filters {
		pk.Filters[i].Qos = min(pk.Filters[i].Qos, 1)
	}
	return pk
}

func (h *hook) OnSubscribed(cl *mqtt.Client, pk packets.Packet, codes []byte) {
	s := sessionOf(cl)
	if s == nil {
		return
	}
	for i, f := range pk.Filters {
		if codes[i] <= 1 {
			if err := s.subscribe(f.Filter, f.Qos); err != nil {
				s.stop(err)
				return
			}
		}
	}
}

func (h *hook) OnUnsubscribed(cl *mqtt.Client, pk packets.Packet) {
	s := sessionOf(cl)
	// The broker unsubscribes for a connection that is over, too: that does not
	// end a session that outlives it.
	if s == nil || cl.Closed() {
		return
	}
	for _, f := range pk.Filters {
		if err := s.unsubscribe(f.Filter); err != nil {
			s.stop(err)
			return
		}
	}
}

func sessionOf(cl *mqtt.Client) *session {
	if c, ok := cl.Net.Conn.(*conn); ok {
		return c.session
	}
	return nil
}

// newBroker sets the broker up for hook.
func newBroker(h *hook) (*mqtt.Server, error) {
	caps := mqtt.NewDefaultServerCapabilities()
	caps.MaximumClients = maxConnections
	// A larger packet than any allowed one is not even read.
	caps.MaximumPacketSize = MaxEventSize + 64<<10
	// The hub keeps its own queues, so the broker's need not be long.
	caps.MaximumClientWritesPending = 8
	caps.MinimumProtocolVersion = 3 // OnConnect refuses it, and counts that
	server := mqtt.New(&mqtt.Options{
		Capabilities: caps,
		// Its log lines hold whole packets, bodies and passwords included.
		Logger:                 slog.New(slog.DiscardHandler),
		SysTopicResendInterval: int64(24 * time.Hour / time.Second),
	})
	h.server = server
	return server, server.AddHook(h, nil)
}

// loggable cuts what a stranger sent down to what a log can take.
func loggable(s string) string {
	s = strings.ToValidUTF8(s, "?")
	if len(s) > 128 {
		return strings.ToValidUTF8(s[:128], "") + "…"
	}
	return s
}
