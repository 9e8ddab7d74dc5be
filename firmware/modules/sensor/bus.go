package sensor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"time"

	"periph.io/x/conn/v3/driver/driverreg"
	"periph.io/x/conn/v3/i2c"
	"periph.io/x/conn/v3/i2c/i2creg"
	"periph.io/x/conn/v3/physic"

	// Registers the kernel's I²C buses. The whole of periph's host package would
	// map the GPIO registers too, which nothing here needs.
	"periph.io/x/host/v3/sysfs"
)

var (
	// errHung is what users of a bus get while a transaction on it does not end.
	errHung = errors.New("a transaction on the bus does not end")
	// errUnfinished is what a driver gets that waits for its chip too long.
	errUnfinished = errors.New("the chip is not done")
)

// openError is a bus that cannot be opened.
type openError struct{ err error }

func (e *openError) Error() string { return e.err.Error() }
func (e *openError) Unwrap() error { return e.err }

// i2cBuses are the I²C buses of this computer. They belong to the process and
// not to a module, because a transaction that hangs outlives the module that
// began it, and no other may be begun on its bus meanwhile.
var i2cBuses = buses{all: make(map[string]*bus)}

type buses struct {
	mu  sync.Mutex
	all map[string]*bus
}

// use returns the bus of that name for one more user; release gives it back.
func (b *buses) use(name string) *bus {
	name = busName(name)
	b.mu.Lock()
	shared := b.all[name]
	if shared == nil {
		shared = &bus{name: name, free: make(chan struct{}, 1)}
		shared.free <- struct{}{}
		b.all[name] = shared
	}
	b.mu.Unlock()
	shared.mu.Lock()
	shared.users++
	shared.mu.Unlock()
	return shared
}

// bus is an I²C bus on which at most one transaction is under way, however many
// chips, modules and deadlines there are. A system call that hangs cannot be
// cancelled; it is left behind with its goroutine, its users get errHung, and
// the bus is free again when the call comes back.
type bus struct {
	name string
	free chan struct{} // has a token while no transaction is under way
	raw  i2c.BusCloser // belongs to who has the token; nil while closed

	mu      sync.Mutex
	users   int
	current *transaction
	hung    bool // nobody waits for current any more
}

type transaction struct {
	addr   uint16
	w, r   []byte
	result chan error
}

// tx does one transaction. It waits for it until ctx ends, and at most for
// limit; the bus counts as hung after that.
func (b *bus) tx(ctx context.Context, limit time.Duration, addr uint16, w, r []byte) error {
	if b.isHung() {
		return errHung
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-b.free:
	case <-timer.C: // someone else's transaction
		return errHung
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	// The transaction has its own buffers: if it is left behind, the caller's
	// may be used for something else by the time it ends.
	t := &transaction{addr: addr, w: slices.Clone(w), r: make([]byte, len(r)), result: make(chan error, 1)}
	b.mu.Lock()
	b.current = t
	b.mu.Unlock()
	go b.run(t)
	select {
	case err := <-t.result:
		copy(r, t.r)
		return err
	case <-timer.C:
		b.mu.Lock()
		b.hung = b.current == t
		b.mu.Unlock()
		return errHung
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (b *bus) isHung() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.hung
}

// run is the goroutine of one transaction.
func (b *bus) run(t *transaction) {
	err := b.transact(t)
	b.mu.Lock()
	b.current, b.hung = nil, false
	if b.users == 0 || err != nil {
		// Opened anew, a bus on an adapter that was replugged works again.
		b.closeRaw()
	}
	b.mu.Unlock()
	t.result <- err
	b.free <- struct{}{}
}

func (b *bus) transact(t *transaction) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic in the driver of the bus: %v", r)
		}
	}()
	if b.raw == nil {
		if b.raw, err = openBus(b.name); err != nil {
			b.raw = nil
			return &openError{err}
		}
	}
	return b.raw.Tx(t.addr, t.w, t.r)
}

func (b *bus) closeRaw() {
	if b.raw != nil {
		_ = b.raw.Close() // nothing was written that closing could lose
		b.raw = nil
	}
}

// release gives the bus back. The last user closes it, and waits up to grace
// for a transaction that is still under way; one that hangs longer closes the
// bus itself when it ends.
func (b *bus) release(grace time.Duration) {
	b.mu.Lock()
	b.users--
	last := b.users == 0
	b.mu.Unlock()
	if !last {
		return
	}
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-b.free:
	case <-timer.C:
		return
	}
	b.mu.Lock()
	if b.users == 0 {
		b.closeRaw()
	}
	b.mu.Unlock()
	b.free <- struct{}{}
}

// port is one chip's access to its bus. It is an i2c.Bus for drivers, which
// know nothing of deadlines: begin sets them for what follows.
type port struct {
	bus   *bus
	limit time.Duration // of one transaction

	ctx   context.Context
	until time.Time // no transaction is begun after it
	err   error     // of the first transaction that failed
}

func (p *port) begin(ctx context.Context, until time.Time) {
	p.ctx, p.until, p.err = ctx, until, nil
}

// Tx implements i2c.Bus.
func (p *port) Tx(addr uint16, w, r []byte) error {
	err := errUnfinished
	if time.Now().Before(p.until) {
		err = p.bus.tx(p.ctx, p.limit, addr, w, r)
	}
	if err != nil && p.err == nil {
		p.err = err
	}
	return err
}

// SetSpeed implements i2c.Bus. Buses are shared, so their speed is the system's
// to set.
func (p *port) SetSpeed(physic.Frequency) error {
	return errors.New("the speed of the bus is set by the system")
}

func (p *port) String() string { return busLabel(p.bus.name) }

var kernelBus = regexp.MustCompile(`^(?:/dev/i2c-|I2C)?([0-9]{1,4})$`)

// busName returns the shortest of a bus's names: "1" for /dev/i2c-1 and I2C1.
func busName(name string) string {
	if name == "" {
		return "1"
	}
	if m := kernelBus.FindStringSubmatch(name); m != nil {
		return m[1]
	}
	return name
}

// busLabel names a bus for people.
func busLabel(name string) string { return "I2C bus " + name }

var initHost = sync.OnceFunc(func() { _, _ = driverreg.Init() }) // a bus it missed is looked for by openBus

// openBus opens a bus that periph knows, or one of the kernel's that came after
// periph looked for them.
func openBus(name string) (i2c.BusCloser, error) {
	initHost()
	b, err := i2creg.Open(name)
	if err == nil {
		return b, nil
	}
	number, e := strconv.Atoi(name)
	if e != nil {
		return nil, err
	}
	// Periph's errors do not tell the causes apart.
	f, e := os.OpenFile(devicePath(number), os.O_RDWR, 0)
	if e != nil {
		return nil, e
	}
	_ = f.Close()
	return sysfs.NewI2C(number)
}

func devicePath(number int) string { return fmt.Sprintf("/dev/i2c-%d", number) }

var _ i2c.Bus = &port{}
