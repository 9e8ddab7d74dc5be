package imagereceiver

import (
	"crypto/subtle"
	"errors"
	"hash/maphash"
	"strings"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
	"golang.org/x/time/rate"
)

// hook is where the broker asks what to do.
type hook struct {
	mqtt.HookBase
	b *broker
}

// client is a connected camera.
type client struct {
	connection *mqtt.Client
	limiter    *rate.Limiter
}

func (h *hook) ID() string { return "pictures" }

func (h *hook) Provides(event byte) bool {
	switch event {
	case mqtt.OnConnect, mqtt.OnConnectAuthenticate, mqtt.OnACLCheck, mqtt.OnSessionEstablish, mqtt.OnDisconnect,
		mqtt.OnPublish, mqtt.OnPacketEncode, mqtt.OnQosComplete, mqtt.OnClientExpired:
		return true
	}
	return false
}

// OnConnectAuthenticate checks user and password.
func (h *hook) OnConnectAuthenticate(cl *mqtt.Client, pk packets.Packet) bool {
	if h.allowed(pk) {
		return true
	}
	h.b.m.c.Count("logins_refused", 1)
	h.b.m.complaints.say("login", "a camera gave the wrong user or password",
		"camera", clip(cl.ID), "remote", cl.Net.Remote, "user", clip(string(pk.Connect.Username)))
	return false
}

func (h *hook) allowed(pk packets.Packet) bool {
	s := &h.b.m.settings
	if s.User == "" {
		return true // Validate has seen to it that this is wanted
	}
	user := subtle.ConstantTimeCompare(pk.Connect.Username, []byte(s.User))
	password := subtle.ConstantTimeCompare(pk.Connect.Password, []byte(h.b.password))
	return user&password == 1
}

// OnACLCheck lets clients publish and do nothing else.
func (h *hook) OnACLCheck(_ *mqtt.Client, _ string, write bool) bool { return write }

// The keep-alive, in seconds.
const (
	// longestKeepAlive is what a client may ask for where the broker can say so
	// (MQTT 5, 3.2.2.3.14). A 3.1.1 client may switch it off; TCP's own
	// keep-alive probes then find out whether it is still there.
	longestKeepAlive = 300
	// The broker adds a half in 16 bits.
	greatestKeepAlive = 43690
)

// OnConnect admits a client.
func (h *hook) OnConnect(cl *mqtt.Client, pk packets.Packet) error {
	if !h.allowed(pk) {
		return nil // OnConnectAuthenticate refuses it, with the right code
	}
	if !h.b.room(cl.ID) {
		h.b.m.c.Count("connections_refused", 1)
		h.b.m.complaints.say("connections", "too many connections; a camera was turned away",
			"camera", clip(cl.ID), "remote", cl.Net.Remote, "max_connections", h.b.m.settings.MaxConnections)
		h.b.server.SendConnack(cl, packets.ErrServerUnavailable, false, nil)
		return packets.ErrServerUnavailable
	}
	h.b.forgetOldest()
	// A will has nobody to go to, and a retained one would be kept.
	cl.Properties.Will = mqtt.Will{}
	if cl.Properties.ProtocolVersion >= 5 && (cl.State.Keepalive == 0 || cl.State.Keepalive > longestKeepAlive) {
		cl.State.Keepalive, cl.State.ServerKeepalive = longestKeepAlive, true
	}
	cl.State.Keepalive = min(cl.State.Keepalive, greatestKeepAlive)
	return nil
}

// OnSessionEstablish is called before an older connection of the same client is
// closed.
func (h *hook) OnSessionEstablish(cl *mqtt.Client, _ packets.Packet) {
	h.b.mu.Lock()
	defer h.b.mu.Unlock()
	perSecond := h.b.m.settings.MaxPicturesPerSecond
	next := &client{connection: cl, limiter: rate.NewLimiter(rate.Limit(perSecond), max(1, int(perSecond)))}
	if before := h.b.clients[cl.ID]; before != nil {
		next.limiter = before.limiter // no fresh start by connecting anew
	}
	h.b.clients[cl.ID] = next
	h.b.m.c.Log().Debug("a camera has connected", "camera", clip(cl.ID), "remote", cl.Net.Remote)
}

// OnDisconnect notes that a connection has ended.
func (h *hook) OnDisconnect(cl *mqtt.Client, err error, _ bool) {
	h.b.mu.Lock()
	if current := h.b.clients[cl.ID]; current != nil && current.connection == cl {
		delete(h.b.clients, cl.ID)
	}
	h.b.mu.Unlock()
	if errors.Is(err, packets.ErrPacketTooLarge) {
		limit := int(h.b.server.Options.Capabilities.MaximumPacketSize)
		h.b.m.c.Count("pictures_received", 1)
		h.b.m.refuse(origin{camera: clip(cl.ID)}, limit, &badPicture{reasonTooLarge,
			"the packet is larger than the bytes given, which max_picture_bytes allows for; the connection was closed"})
	}
}

// OnClientExpired notes that a session has ended.
func (h *hook) OnClientExpired(cl *mqtt.Client) { h.b.deliveries.forget(cl.ID) }

var seed = maphash.MakeSeed()

// contents is a hash of what a publish says.
func contents(pk packets.Packet) uint64 {
	var hash maphash.Hash
	hash.SetSeed(seed)
	hash.WriteString(pk.TopicName)
	hash.WriteByte(0)
	hash.Write(pk.Payload)
	return hash.Sum64()
}

// OnPublish decides about a picture. The broker acknowledges a publish when it
// returns CodeSuccessIgnore, and then neither passes it on nor keeps it; with
// ErrRejectPacket it does not acknowledge.
func (h *hook) OnPublish(cl *mqtt.Client, pk packets.Packet) (packets.Packet, error) {
	if pk.FixedHeader.Retain && len(pk.Payload) == 0 {
		// How a client deletes a retained message (MQTT 3.1.1, 3.3.1.3). There
		// is none.
		return pk, packets.CodeSuccessIgnore
	}
	if err := h.delay(cl); err != nil {
		return pk, h.refuse(cl, err)
	}
	if pk.FixedHeader.Qos == 0 {
		if err := h.take(cl, pk, 0); err != nil && h.b.ctx.Err() == nil {
			h.b.m.complaints.say("lost", "an alert is lost, for its picture came with QoS 0", "camera", clip(cl.ID), "error", err)
		}
		return pk, packets.CodeSuccessIgnore
	}
	key, hash := deliveryKey{cl.ID, pk.PacketID}, contents(pk)
	for {
		one, mine := h.b.deliveries.begin(key, hash, pk.FixedHeader.Dup)
		if mine {
			err := h.take(cl, pk, hash)
			h.b.deliveries.finish(key, one, err == nil)
			if err != nil {
				return pk, h.refuse(cl, err)
			}
			return pk, packets.CodeSuccessIgnore
		}
		select {
		case <-one.done:
		case <-h.b.ctx.Done():
			return pk, h.refuse(cl, h.b.ctx.Err())
		}
		if one.taken {
			h.b.m.c.Count("pictures_repeated", 1)
			return pk, packets.CodeSuccessIgnore
		}
	}
}

// delay holds a client to its rate.
func (h *hook) delay(cl *mqtt.Client) error {
	h.b.mu.Lock()
	c := h.b.clients[cl.ID]
	h.b.mu.Unlock()
	if c == nil || c.limiter.Allow() {
		return nil
	}
	h.b.m.c.Count("pictures_delayed", 1)
	return c.limiter.Wait(h.b.ctx)
}

// take decides about a picture; key is its contents' hash, or 0 where it cannot
// come again.
func (h *hook) take(cl *mqtt.Client, pk packets.Packet, key uint64) error {
	return h.b.m.take(h.b.ctx, pk.Payload, origin{
		camera: clip(cl.ID), topic: clip(pk.TopicName), received: time.Now(), key: key, again: pk.FixedHeader.Dup,
	})
}

// refuse closes the connection of a client whose publish cannot be acknowledged
// now: it will connect and deliver again.
func (h *hook) refuse(cl *mqtt.Client, err error) error {
	if h.b.ctx.Err() == nil {
		h.b.m.complaints.say("refused", "a picture could not be dealt with; its camera has to deliver it again", "camera", clip(cl.ID), "error", err)
	}
	cl.Stop(err)
	return packets.ErrRejectPacket
}

// OnPacketEncode puts right how the broker answers a QoS 2 publish that comes
// again: "packet identifier in use" makes an MQTT 5 client give it up, and would
// leave the identifier in use for ever. A receiver has to answer as it did
// before (MQTT 5, 4.3.3).
func (h *hook) OnPacketEncode(_ *mqtt.Client, pk packets.Packet) packets.Packet {
	if pk.FixedHeader.Type == packets.Pubrec && pk.ReasonCode == packets.ErrPacketIdentifierInUse.Code {
		pk.ReasonCode = packets.CodeSuccess.Code
		pk.Properties.ReasonString = ""
	}
	return pk
}

// OnQosComplete notes that a handshake is over.
func (h *hook) OnQosComplete(cl *mqtt.Client, pk packets.Packet) {
	h.b.deliveries.complete(deliveryKey{cl.ID, pk.PacketID})
}

// clip bounds what clients choose themselves, for logs and alerts.
func clip(s string) string {
	const most = 128
	if len(s) > most {
		s = s[:most] + "…"
	}
	return strings.ToValidUTF8(s, "�")
}
