package hub

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// Azure's limits and default for cloud-to-device messages.
const (
	maxBound     = 50 // that wait for one device
	maxBoundSize = 64 << 10
	boundLife    = time.Hour
)

// Errors of sending to a device.
var (
	ErrQueueFull  = fmt.Errorf("%d messages wait for the device already", maxBound)
	ErrBoundLarge = fmt.Errorf("larger than %d bytes", maxBoundSize)
)

// Bound is a cloud-to-device message.
type Bound struct {
	ID              string // the message's id; made when empty
	Properties      map[string]string
	ContentType     string
	ContentEncoding string
	Body            []byte
	Life            time.Duration // how long it waits for the device; 0: one hour
}

// Send queues a message for a device, which gets it when it is connected and
// subscribed to its devicebound topic. It gives the message's id.
func (h *Hub) Send(ctx context.Context, device string, m Bound) (string, error) {
	fail := func(err error) (string, error) { return "", fmt.Errorf("send to device %q: %w", device, err) }
	if len(m.Body) > maxBoundSize {
		return fail(ErrBoundLarge)
	}
	if m.ID == "" {
		m.ID = newID()
	}
	if m.Life <= 0 {
		m.Life = boundLife
	}
	system := map[string]string{"messageId": m.ID, "to": "/devices/" + device + "/messages/devicebound"}
	if m.ContentType != "" {
		system["contentType"] = m.ContentType
	}
	if m.ContentEncoding != "" {
		system["contentEncoding"] = m.ContentEncoding
	}
	bag := formatBag(system, m.Properties)
	// A topic is at most 65,535 bytes long.
	if len(topicBound(device))+len(bag) > 65535 {
		return fail(errors.New("the properties do not fit in a topic"))
	}
	now := h.now()
	err := inTx(ctx, h.write, func(tx *sql.Tx) error {
		var n int
		if err := tx.QueryRow(`SELECT count(*) FROM devices WHERE id = ?`, device).Scan(&n); err != nil {
			return err
		} else if n == 0 {
			return ErrDeviceNotFound
		}
		if _, err := tx.Exec(`DELETE FROM bound WHERE expiry <= ?`, now.UnixMilli()); err != nil {
			return err
		}
		if err := tx.QueryRow(`SELECT count(*) FROM bound WHERE device = ?`, device).Scan(&n); err != nil {
			return err
		} else if n >= maxBound {
			return ErrQueueFull
		}
		body := m.Body
		if body == nil {
			body = []byte{}
		}
		_, err := tx.Exec(`INSERT INTO bound (device, bag, expiry, body) VALUES (?, ?, ?, ?)`, device, bag, now.Add(m.Life).UnixMilli(), body)
		return err
	})
	if err != nil {
		return fail(err)
	}
	// It is queued, so it will arrive: what goes wrong now is the connection's affair.
	if s := h.session(device); s != nil {
		if err := s.deliver(); err != nil {
			s.stop(err)
		}
	}
	return m.ID, nil
}

// deliver sends what waits for the device and is not under way already.
func (s *session) deliver() error {
	qos, ok := s.subscribed(topicBound(s.device))
	if !ok {
		return nil
	}
	rows, err := s.hub.read.QueryContext(s.ctx, `SELECT seq, bag, body FROM bound WHERE device = ? AND expiry > ? ORDER BY seq`,
		s.device, s.hub.now().UnixMilli())
	if err != nil {
		return fmt.Errorf("read messages for device %q: %w", s.device, err)
	}
	defer rows.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	var sent []int64
	for rows.Next() {
		var seq int64
		var bag string
		var body []byte
		if err := rows.Scan(&seq, &bag, &body); err != nil {
			return fmt.Errorf("read messages for device %q: %w", s.device, err)
		}
		if s.bound[seq] {
			continue
		}
		pk := publish(topicBound(s.device)+bag, body)
		if qos > 0 {
			pk.FixedHeader.Qos = 1
			pk.PacketID = s.nextPacketID()
			s.unacked[pk.PacketID] = seq
		} else {
			sent = append(sent, seq)
		}
		s.bound[seq] = true
		if !s.push(pk) {
			return nil
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("read messages for device %q: %w", s.device, err)
	}
	rows.Close()
	for _, seq := range sent { // with QoS 0 nobody will say that it arrived
		if err := s.delivered(seq); err != nil {
			return err
		}
	}
	return nil
}

// nextPacketID finds a free one; there are more of them than messages that may wait.
func (s *session) nextPacketID() uint16 {
	for {
		s.packetID++
		if _, used := s.unacked[s.packetID]; s.packetID != 0 && !used {
			return s.packetID
		}
	}
}

// acknowledged takes a PUBACK of the device.
func (s *session) acknowledged(packetID uint16) {
	s.mu.Lock()
	seq, ok := s.unacked[packetID]
	delete(s.unacked, packetID)
	s.mu.Unlock()
	if ok {
		if err := s.delivered(seq); err != nil {
			s.stop(err)
		}
	}
}

// delivered forgets a message. It stays in s.bound, so that deliver, which may
// have read it just before, does not send it again.
func (s *session) delivered(seq int64) error {
	if _, err := s.hub.write.Exec(`DELETE FROM bound WHERE seq = ?`, seq); err != nil {
		return fmt.Errorf("finish a message for device %q: %w", s.device, err)
	}
	return nil
}
