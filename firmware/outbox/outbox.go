package outbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"time"

	"tuxwatch/firmware/message"
)

// Errors of [Outbox.Put] and of the calls that wait for the store. In every
// case the message was not stored.
var (
	// ErrFull: the outbox is at its bound in bytes, and everything in it has a
	// higher priority than the message.
	ErrFull = errors.New("the outbox is full of messages of higher priority")
	// ErrTooLarge: the message is larger than 1/32 of MaxBytes or 1 MiB.
	ErrTooLarge = errors.New("the message is too large for the outbox")
	// ErrDiskFull: the file system has no room, and dropping older messages
	// did not make any.
	ErrDiskFull = errors.New("the file system has no room left")
	// ErrLocked: another process has the outbox open.
	ErrLocked = errors.New("another process has the outbox open")
	// ErrClosed: [Outbox.Close] was called.
	ErrClosed = errors.New("the outbox is closed")
	// ErrNotFound: no such record, or no longer.
	ErrNotFound = errors.New("no such record in the outbox")
)

// Options are the bounds and the surroundings of an outbox. The zero value of
// a field stands for its default.
type Options struct {
	// MaxBytes bounds what the files take on disk (64 MiB; at least 256 KiB).
	MaxBytes int64
	// MaxAge is how long a message is kept at most (0: without limit).
	MaxAge time.Duration
	// MaxSetAside bounds the number of messages kept apart (100); together
	// they take at most an eighth of MaxBytes. The oldest go first.
	MaxSetAside int
	// KeepDamaged is how many databases that were found damaged are kept (1;
	// negative: none). Each takes up to MaxBytes.
	KeepDamaged int
	// DeleteDelay is how long deletions may wait for a put to be written
	// together with (200 ms). A crash within that time sends the acknowledged
	// messages of that time again.
	DeleteDelay time.Duration
	// Clock is the wall clock (time.Now), Uptime a clock that never jumps
	// (the time since Open). Their difference shows when the wall clock was
	// set, which must not make messages look old.
	Clock  func() time.Time
	Uptime func() time.Duration
	// Logger takes what an operator should know (slog.Default()).
	Logger *slog.Logger
}

const (
	minimumMaxBytes    = 256 << 10
	defaultMaxBytes    = 64 << 20
	maintenanceEvery   = 10 * time.Second
	maxBatch           = 256
	maxPendingDeletes  = 256
	maxReadBytes       = 1 << 20
	clockStepThreshold = 5 * time.Second
)

func (o Options) withDefaults() (Options, error) {
	if o.MaxBytes == 0 {
		o.MaxBytes = defaultMaxBytes
	}
	if o.MaxBytes < minimumMaxBytes {
		return o, fmt.Errorf("MaxBytes is %d; the least that works is %d", o.MaxBytes, minimumMaxBytes)
	}
	if o.MaxAge < 0 {
		return o, fmt.Errorf("MaxAge is %v; it must be positive, or 0 for no limit", o.MaxAge)
	}
	if o.MaxSetAside <= 0 {
		o.MaxSetAside = 100
	}
	if o.KeepDamaged == 0 {
		o.KeepDamaged = 1
	}
	if o.DeleteDelay <= 0 {
		o.DeleteDelay = 200 * time.Millisecond
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Uptime == nil {
		start := time.Now()
		o.Uptime = func() time.Duration { return time.Since(start) }
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return o, nil
}

// Outbox is an open store-and-forward queue. Its methods may be called from
// any goroutine. One goroutine of its own does all reading and writing, which
// makes one transaction of whatever was asked for at the same time.
type Outbox struct {
	dir     string
	options Options
	log     *slog.Logger
	budget  budget

	requests chan *request
	deleted  chan struct{} // there is something in pending
	closing  chan struct{}
	finished chan struct{}
	close    sync.Once

	// The writer goroutine's own.
	store       *store
	retryAt     time.Duration // uptime before which a failed store is not opened again
	openError   error
	closeError  error
	sequence    int64
	runSequence int64 // first of this run
	wallThen    time.Time
	uptimeThen  time.Duration
	warned      map[string]time.Duration
	fullPages   int64 // bound on the database while the disk is full

	mu      sync.Mutex
	pending map[ID]struct{} // acknowledged, deletion not yet written
	changed chan struct{}   // closed when there may be more to read
	stats   Stats

	// onDrop is told of every drop once it is on disk; tests use it.
	onDrop func(ID, Reason)
}

// budget divides MaxBytes among the files.
type budget struct {
	pages    int64 // of the database in use
	walPages int64 // after which the WAL is moved into the database
	reserve  int64 // bytes
	batch    int64 // bytes of messages after which a transaction takes no more
	message  int64 // bytes of the largest message
}

func newBudget(bytes int64) budget {
	// The WAL reaches walPages plus one transaction: up to batch and message
	// bytes of new messages, and the pages of lists and indexes that those and the
	// messages dropped for them touch, for which the margin is. The reserve is
	// as large as that without it, so that once it is released, the WAL can always
	// be moved into a database that has to grow for it.
	wal := min(max(bytes/8, 64<<10), 4<<20)
	margin := min(wal/4, 64<<10)
	return budget{
		pages:    (bytes - 2*wal - margin) / pageSize,
		walPages: wal / 4 / pageSize,
		reserve:  wal,
		batch:    wal / 8,
		message:  wal / 4,
	}
}

// request is something for the writer goroutine: a row to put, or a function
// to run between transactions.
type request struct {
	put  *row
	run  func() error
	done chan error
}

// Open opens the outbox in dir, making the directory and the files as needed.
// It carries over what it can from a database that it finds damaged, and it
// opens on a full disk as well, then reporting a fault in [Stats] until the
// store can be written. It fails with [ErrLocked] when another process has the
// outbox open, and when dir cannot be made.
func Open(dir string, options Options) (*Outbox, error) {
	options, err := options.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("outbox: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("outbox: making the directory: %w; make sure that the daemon's user may write there", err)
	}
	o := &Outbox{
		dir:      dir,
		options:  options,
		log:      options.Logger.With("outbox", dir),
		budget:   newBudget(min(options.MaxBytes, max(fileSystemSize(dir), minimumMaxBytes))),
		requests: make(chan *request),
		deleted:  make(chan struct{}, 1),
		closing:  make(chan struct{}),
		finished: make(chan struct{}),
		pending:  map[ID]struct{}{},
		changed:  make(chan struct{}),
		warned:   map[string]time.Duration{},
	}
	o.stats.Dropped = map[Reason]int64{}
	o.stats.MaxBytes = options.MaxBytes
	o.wallThen, o.uptimeThen = options.Clock(), options.Uptime()
	o.sequence, o.runSequence = 1, 1

	err = o.withStore(0, func(s *store) error { return nil })
	if errors.Is(err, ErrLocked) {
		return nil, err
	}
	if err != nil {
		o.log.Error("The outbox cannot be written; messages are refused until it can", "error", err)
	}
	go o.work()
	return o, nil
}

// Put stores m and returns nil once it is on stable storage. priority is 0
// (highest) to 9; ttl is how long the message is worth sending, 0 for as long
// as the outbox keeps messages. When ctx ends first, Put returns its error and
// the message may or may not be stored.
func (o *Outbox) Put(ctx context.Context, m message.Message, priority int, ttl time.Duration) error {
	if priority < HighestPriority || priority > LowestPriority {
		return fmt.Errorf("outbox: priority %d of message %q is not within %d…%d", priority, m.ID, HighestPriority, LowestPriority)
	}
	r, err := encode(m, o.options.Clock(), ttl)
	if err != nil {
		return err
	}
	if r.size() > o.budget.message {
		o.count(func(s *Stats) { s.Rejected++ })
		return fmt.Errorf("outbox: message %q from %s has %d bytes, at most %d fit: %w; raise max_bytes",
			m.ID, m.Source.Module, r.size(), o.budget.message, ErrTooLarge)
	}
	r.key = int64(newID(priority, 0)) // the writer adds the sequence
	if err := o.ask(ctx, &request{put: r, done: make(chan error, 1)}); err != nil {
		return fmt.Errorf("outbox: storing message %q: %w", m.ID, err)
	}
	return nil
}

// Delete removes records that the hub has acknowledged. It does not wait: the
// records are not read again from now on, and the deletion is written with the
// next put, or after [Options.DeleteDelay].
func (o *Outbox) Delete(ids ...ID) {
	o.mu.Lock()
	for _, id := range ids {
		o.pending[id] = struct{}{}
	}
	o.mu.Unlock()
	select {
	case o.deleted <- struct{}{}:
	default:
	}
}

// Sync waits until every deletion asked for so far is on stable storage.
func (o *Outbox) Sync(ctx context.Context) error {
	return o.do(ctx, o.flush)
}

// Maintain does what the outbox otherwise does every ten seconds: it drops what
// is too old, gives unused space back and leaves the disk-full state when
// there is room.
func (o *Outbox) Maintain(ctx context.Context) error {
	return o.do(ctx, o.maintain)
}

// Stats returns the present figures.
func (o *Outbox) Stats() Stats {
	o.mu.Lock()
	s := o.stats
	s.Dropped = maps.Clone(o.stats.Dropped)
	o.mu.Unlock()
	for _, name := range []string{databaseName, databaseName + "-wal", reserveName} {
		if info, err := os.Stat(filepath.Join(o.dir, name)); err == nil {
			s.DiskBytes += info.Size()
		}
	}
	return s
}

// Close writes what is pending and closes the files. Calls that wait get
// [ErrClosed].
func (o *Outbox) Close() error {
	o.close.Do(func() { close(o.closing) })
	<-o.finished
	return o.closeError
}

// do runs f in the writer goroutine.
func (o *Outbox) do(ctx context.Context, f func() error) error {
	return o.ask(ctx, &request{run: f, done: make(chan error, 1)})
}

func (o *Outbox) ask(ctx context.Context, r *request) error {
	select {
	case o.requests <- r:
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-o.closing:
		return ErrClosed
	}
	select {
	case err := <-r.done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (o *Outbox) count(change func(*Stats)) {
	o.mu.Lock()
	change(&o.stats)
	o.mu.Unlock()
}

// announce wakes the readers that wait for records.
func (o *Outbox) announce() {
	o.mu.Lock()
	close(o.changed)
	o.changed = make(chan struct{})
	o.mu.Unlock()
}
