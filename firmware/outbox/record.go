package outbox

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"time"

	"tuxwatch/firmware/message"
)

// Priorities run from [HighestPriority] to [LowestPriority], as those of
// routes in IoT Edge do.
const (
	HighestPriority = 0
	LowestPriority  = 9

	priorities = LowestPriority + 1
)

// ID names a record for as long as it is in the outbox. IDs order as records
// are sent: by priority, then by the order in which they were put.
type ID int64

// sequenceBits is how much of an ID counts; the bits above are the priority.
// One number for both makes the table's B-tree itself the sending order: no
// second index has to be written with every put.
const sequenceBits = 56

func newID(priority int, sequence int64) ID {
	return ID(int64(priority)<<sequenceBits | sequence)
}

// Priority returns the priority that the record was put with.
func (id ID) Priority() int { return int(id >> sequenceBits) }

func (id ID) sequence() int64 { return int64(id) & (1<<sequenceBits - 1) }

// String returns "priority/sequence".
func (id ID) String() string { return fmt.Sprintf("%d/%d", id.Priority(), id.sequence()) }

// Record is a message in the outbox.
type Record struct {
	ID      ID
	Message message.Message
	// Stored is when the message was put.
	Stored time.Time
	// Expires is when the message's time-to-live ends; zero when it has none.
	Expires time.Time
	// Attempts is how often [Outbox.Attempt] was called for it.
	Attempts int
	// Size is what the message counts for in [Stats.Bytes].
	Size int
}

// row is a record as the table has it.
type row struct {
	key                          int64
	stored, expires              int64 // Unix milliseconds; expires is 0 for never
	attempts                     int
	id, module, output           string
	contentType, contentEncoding string
	created                      int64 // Unix microseconds
	properties                   string
	body                         []byte
	crc                          int64
	damage                       error // why the row could not be read
}

// rowOverhead is what a row takes beside its texts and body: integers, the
// record header, the cell pointer.
const rowOverhead = 64

func (r *row) size() int64 {
	return int64(rowOverhead + len(r.id) + len(r.module) + len(r.output) + len(r.contentType) +
		len(r.contentEncoding) + len(r.properties) + len(r.body))
}

func encode(m message.Message, stored time.Time, ttl time.Duration) (*row, error) {
	properties := []byte("{}")
	if len(m.Properties) > 0 {
		var err error
		if properties, err = json.Marshal(m.Properties); err != nil {
			return nil, fmt.Errorf("outbox: encoding the properties of message %q: %w", m.ID, err)
		}
	}
	r := &row{
		stored:          stored.UnixMilli(),
		id:              m.ID,
		module:          m.Source.Module,
		output:          m.Source.Output,
		contentType:     m.ContentType,
		contentEncoding: m.ContentEncoding,
		created:         m.Created.UnixMicro(),
		properties:      string(properties),
		body:            m.Body,
	}
	if r.body == nil {
		r.body = []byte{}
	}
	if ttl > 0 {
		r.expires = stored.Add(ttl).UnixMilli()
	}
	r.crc = r.checksum()
	return r, nil
}

// decode returns the record, or an error when the row is not what was written:
// SQLite has no checksums of its own, and SD cards do return wrong bytes.
func (r *row) decode() (Record, error) {
	if r.damage != nil {
		return Record{}, fmt.Errorf("reading the row: %w", r.damage)
	}
	if got := r.checksum(); got != r.crc {
		return Record{}, fmt.Errorf("the checksum does not match (stored %08x, computed %08x)", r.crc, got)
	}
	var properties map[string]string
	if err := json.Unmarshal([]byte(r.properties), &properties); err != nil {
		return Record{}, fmt.Errorf("reading the properties: %w", err)
	}
	if len(properties) == 0 {
		properties = nil
	}
	rec := Record{
		ID: ID(r.key),
		Message: message.Message{
			ID:              r.id,
			Body:            r.body,
			Properties:      properties,
			ContentType:     r.contentType,
			ContentEncoding: r.contentEncoding,
			Source:          message.Source{Module: r.module, Output: r.output},
			Created:         time.UnixMicro(r.created).UTC(),
		},
		Stored:   time.UnixMilli(r.stored),
		Attempts: r.attempts,
		Size:     int(r.size()),
	}
	if r.expires != 0 {
		rec.Expires = time.UnixMilli(r.expires)
	}
	return rec, nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checksum covers what makes up the message. Times of storing and attempts
// change while the record is in the outbox and are left out.
func (r *row) checksum() int64 {
	sum := crc32.New(castagnoli)
	var length [8]byte
	write := func(b []byte) {
		binary.LittleEndian.PutUint64(length[:], uint64(len(b)))
		sum.Write(length[:])
		sum.Write(b)
	}
	for _, text := range []string{r.id, r.module, r.output, r.contentType, r.contentEncoding, r.properties} {
		write([]byte(text))
	}
	binary.LittleEndian.PutUint64(length[:], uint64(r.created))
	sum.Write(length[:])
	write(r.body)
	return int64(sum.Sum32())
}
