package outbox

import "time"

// Reason says why a message left the outbox without having been sent.
type Reason string

// The reasons for dropping a message.
const (
	// Expired: its own time-to-live ended.
	Expired Reason = "expired"
	// FullBytes: the outbox reached its bound in bytes and this was the oldest
	// of the lowest priority.
	FullBytes Reason = "full_bytes"
	// Age: it was older than the outbox keeps any message.
	Age Reason = "age"
	// DiskFull: the file system had no room left and this was the oldest of the
	// lowest priority.
	DiskFull Reason = "disk_full"
	// SetAside: the hub kept refusing it, or it could not be decoded. It is
	// kept apart and can be put back with [Outbox.Requeue].
	SetAside Reason = "set_aside"
)

// Reasons lists every reason, for metrics that show zeros as well.
var Reasons = []Reason{Expired, FullBytes, Age, DiskFull, SetAside}

// Stats says how the outbox is doing. Counters count from [Open] on.
type Stats struct {
	// Depth is the number of messages waiting, Bytes their size with envelope.
	Depth int   `json:"depth"`
	Bytes int64 `json:"bytes"`
	// MaxBytes is the bound on the files, DiskBytes what they take now.
	MaxBytes  int64 `json:"max_bytes"`
	DiskBytes int64 `json:"disk_bytes"`
	// ByPriority is the number of messages waiting in each priority.
	ByPriority [priorities]int `json:"by_priority"`
	// Oldest is when the message that waits longest was put; zero when none.
	Oldest time.Time `json:"oldest,omitzero"`

	// Puts is the number of messages taken, Rejected that of those refused
	// with an error, Deleted that of those sent and acknowledged.
	Puts     int64 `json:"puts"`
	Rejected int64 `json:"rejected"`
	Deleted  int64 `json:"deleted"`
	// Dropped counts what left without being sent. A dropped message that was
	// in flight at that moment may have reached the hub all the same.
	Dropped map[Reason]int64 `json:"dropped"`
	// SetAside is the number of messages that are kept apart now.
	SetAside int `json:"set_aside"`

	// DiskFull says that the file system had no room at the last write.
	DiskFull bool `json:"disk_full"`
	// Fault is why the store cannot be written now; empty when it can.
	Fault string `json:"fault,omitempty"`
	// Damaged counts databases found damaged and replaced, Salvaged the
	// messages carried over from them, and Damage is what was found last.
	Damaged  int    `json:"damaged"`
	Salvaged int64  `json:"salvaged"`
	Damage   string `json:"damage,omitempty"`
}
