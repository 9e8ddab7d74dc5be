package lm75

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"periph.io/x/conn/v3"
	"periph.io/x/conn/v3/i2c"
	"periph.io/x/conn/v3/physic"
)

// Registers of the family.
const (
	regTemperature = 0
	regConfig      = 1
	regLow         = 2
	regHigh        = 3
)

var (
	// ErrLost is returned by New and Verify when the chip's registers do not
	// hold what was written to them: it was without power in between, or it is
	// another chip than Opts.Model says.
	ErrLost = errors.New("the chip does not hold its configuration")

	// ErrUnsupported is returned for what the model cannot do.
	ErrUnsupported = errors.New("not supported by this model")
)

// clock is what a Dev needs of time.
type clock struct {
	now   func() time.Time
	sleep func(time.Duration)
}

// Dev is a handle to a chip. It is safe for concurrent use.
type Dev struct {
	c     i2c.Dev
	clock clock

	mu     sync.Mutex
	layout layout
	opts   Opts
	ready  time.Time // when the first conversion is over
	awake  bool

	stop chan struct{} // not nil while sensing continuously
	done chan struct{}
	err  error // what ended the sensing
}

// New configures the chip at the address addr, 0x48 to 0x4f, and checks that it
// holds the configuration. A nil opts stands for DefaultOpts.
//
// It returns the bus's error if the chip does not answer, and ErrLost if
// something answers that does not behave like opts.Model.
func New(bus i2c.Bus, addr uint16, opts *Opts) (*Dev, error) {
	return newDev(bus, addr, opts, clock{time.Now, time.Sleep})
}

func newDev(bus i2c.Bus, addr uint16, opts *Opts, c clock) (*Dev, error) {
	if opts == nil {
		opts = &DefaultOpts
	}
	if addr < 0x48 || addr > 0x4f {
		return nil, fmt.Errorf("lm75: %#02x is no address of this family; 0x48 to 0x4f are", addr)
	}
	l, err := opts.layout()
	if err != nil {
		return nil, fmt.Errorf("lm75: %w", err)
	}
	d := &Dev{c: i2c.Dev{Bus: bus, Addr: addr}, clock: c, layout: l, opts: *opts}
	if err := d.start(); err != nil {
		return nil, d.wrap("configuring", err)
	}
	if err := d.verify(); err != nil {
		return nil, d.wrap("checking the configuration of", err)
	}
	return d, nil
}

// start writes all registers. The chip is shut down meanwhile, so that a
// conversion starts at the end: otherwise a TMP102 at 250 mHz would show the
// old one for another four seconds.
func (d *Dev) start() error {
	if err := d.writeConfig(d.layout.config | d.shutdownBit()); err != nil {
		return err
	}
	if err := d.writeLimits(); err != nil {
		return err
	}
	return d.wake()
}

// wake ends the shutdown, unless the mode is one-shot.
func (d *Dev) wake() error {
	if !d.layout.oneShot {
		if err := d.writeConfig(d.layout.config); err != nil {
			return err
		}
	}
	d.awake = true
	// The register reads 0 °C until the first conversion is over. One that was
	// under way may have to end first.
	d.ready = d.clock.now().Add(2 * d.layout.conversion)
	return nil
}

// Sense measures the temperature. It waits for the first conversion after New,
// at most 0.6 s, and in one-shot mode for its own, at most 0.3 s. After Halt it
// starts the chip again.
//
// It returns the bus's error, or one that says that what was read cannot have
// come from the chip.
func (d *Dev) Sense(e *physic.Env) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	t, err := d.measure()
	if err != nil {
		return d.wrap("reading the temperature of", err)
	}
	e.Temperature = t
	return nil
}

func (d *Dev) measure() (physic.Temperature, error) {
	if !d.awake {
		if err := d.wake(); err != nil {
			return 0, err
		}
	}
	if d.layout.oneShot {
		if err := d.convert(); err != nil {
			return 0, err
		}
	} else if wait := d.ready.Sub(d.clock.now()); wait > 0 {
		d.clock.sleep(wait)
	}
	raw, err := d.readWord(regTemperature)
	if err != nil {
		return 0, err
	}
	return d.layout.decodeReading(raw)
}

// convert makes one conversion and waits for its end.
func (d *Dev) convert() error {
	if err := d.writeConfig(d.layout.config | d.bit(bitOneShot)); err != nil {
		return err
	}
	d.clock.sleep(d.layout.conversion)
	if d.layout.model != TMP102 {
		return nil // OS always reads 0
	}
	// OS reads 1 when the conversion is over (datasheet, page 9).
	const polls = 10
	for range polls {
		v, err := d.readConfig()
		if err != nil {
			return err
		}
		if v&d.bit(bitOneShot) != 0 {
			return nil
		}
		d.clock.sleep(d.layout.conversion / polls)
	}
	return errors.New("the conversion does not end")
}

// SenseContinuous measures every interval and sends the result on the returned
// channel. A reading that fails ends it: the channel is closed, and Halt
// returns the error. Call Halt when done, also then.
//
// The interval must not be shorter than a conversion; a reader that is slow
// makes it longer.
func (d *Dev) SenseContinuous(interval time.Duration) (<-chan physic.Env, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.stop != nil {
		return nil, d.wrap("sensing with", errors.New("already sensing continuously; call Halt first"))
	}
	if interval < d.layout.conversion {
		return nil, d.wrap("sensing with", fmt.Errorf("an interval of %v is shorter than a conversion, %v", interval, d.layout.conversion))
	}
	d.stop, d.done, d.err = make(chan struct{}), make(chan struct{}), nil
	envs := make(chan physic.Env)
	go d.senseContinuous(interval, envs, d.stop, d.done)
	return envs, nil
}

func (d *Dev) senseContinuous(interval time.Duration, envs chan<- physic.Env, stop <-chan struct{}, done chan<- struct{}) {
	defer close(done)
	defer close(envs)
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-stop:
			return
		case <-ticker.C:
		}
		var e physic.Env
		if err := d.Sense(&e); err != nil {
			d.mu.Lock()
			d.err = err
			d.mu.Unlock()
			return
		}
		select {
		case <-stop:
			return
		case envs <- e:
		}
	}
}

// Halt ends SenseContinuous, if it runs, and shuts the chip down; the ALERT pin
// is dead until the next Sense. It returns the error that ended the continuous
// sensing, if one did.
func (d *Dev) Halt() error {
	d.mu.Lock()
	stop, done := d.stop, d.done
	d.stop = nil
	d.mu.Unlock()
	if stop != nil {
		close(stop)
		<-done
	}

	d.mu.Lock()
	defer d.mu.Unlock()
	err := d.err
	d.err = nil
	d.awake = false
	if e := d.writeConfig(d.layout.config | d.shutdownBit()); e != nil {
		return errors.Join(err, d.wrap("shutting down", e))
	}
	return err
}

// Precision returns the step between two temperatures that the chip can tell
// apart. It is not the accuracy, which is ±0.5 °C at best.
func (d *Dev) Precision(e *physic.Env) {
	e.Temperature = d.layout.unit << (16 - d.layout.bits)
	e.Pressure = 0
	e.Humidity = 0
}

// Range returns the lowest and the highest temperature that the chip measures.
func (d *Dev) Range() (lowest, highest physic.Temperature) {
	return d.layout.min, d.layout.max
}

// Verify reads the configuration and the limits back. It returns ErrLost if
// they are not what was written, which is how a chip that was without power for
// a moment is noticed: it goes on measuring, with the settings of power-up.
// Call New again then.
//
// Like any read, it clears an alert in Interrupt mode.
func (d *Dev) Verify() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.verify(); err != nil {
		return d.wrap("checking the configuration of", err)
	}
	return nil
}

func (d *Dev) verify() error {
	want := d.layout.config
	if !d.awake {
		want |= d.shutdownBit()
	}
	got, err := d.readConfig()
	if err != nil {
		return err
	}
	if got&d.layout.configMask != want&d.layout.configMask {
		return fmt.Errorf("%w: configuration register %#02x instead of %#02x", ErrLost, got&d.layout.configMask, want&d.layout.configMask)
	}
	low, high, err := d.readLimits()
	if err != nil {
		return err
	}
	if low != d.layout.low || high != d.layout.high {
		return fmt.Errorf("%w: limits %#04x and %#04x instead of %#04x and %#04x", ErrLost, low, high, d.layout.low, d.layout.high)
	}
	return nil
}

// SetAlert changes the limits and the behaviour of the ALERT pin.
func (d *Dev) SetAlert(a Alert) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	opts := d.opts
	opts.Alert = a
	l, err := opts.layout()
	if err != nil {
		return d.wrap("setting the alert of", err)
	}
	d.opts, d.layout = opts, l
	if err := d.writeLimits(); err != nil {
		return d.wrap("setting the alert of", err)
	}
	config := l.config
	if !d.awake {
		config |= d.shutdownBit()
	}
	if err := d.writeConfig(config); err != nil {
		return d.wrap("setting the alert of", err)
	}
	return nil
}

// Alert reads the limits and the behaviour of the ALERT pin from the chip.
func (d *Dev) Alert() (Alert, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	config, err := d.readConfig()
	if err != nil {
		return Alert{}, d.wrap("reading the alert of", err)
	}
	low, high, err := d.readLimits()
	if err != nil {
		return Alert{}, d.wrap("reading the alert of", err)
	}
	if d.layout.wide {
		config >>= 8
	}
	a := Alert{
		High:       d.layout.decode(high, d.layout.limitBits),
		Low:        d.layout.decode(low, d.layout.limitBits),
		FaultQueue: faultQueues[config>>posFaults&3],
	}
	if config&bitInterrupt != 0 {
		a.Mode = Interrupt
	}
	if config&bitPolarity != 0 {
		a.Polarity = ActiveHigh
	}
	return a, nil
}

// Alerting tells whether a TMP102's temperature has reached the upper limit and
// not fallen below the lower one since, in either mode (bit AL). The other
// models show it on their ALERT pin alone: ErrUnsupported.
func (d *Dev) Alerting() (bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.layout.model != TMP102 {
		return false, d.wrap("reading the alert bit of", ErrUnsupported)
	}
	config, err := d.readConfig()
	if err != nil {
		return false, d.wrap("reading the alert bit of", err)
	}
	// AL is the level of the pin, so it has the pin's polarity.
	level := config&bitAlert != 0
	activeHigh := config&d.bit(bitPolarity) != 0
	return level == activeHigh, nil
}

// alertResponseAddr is the SMBus alert response address (SMBus 3.1, appendix A).
const alertResponseAddr = 0x0c

// AlertResponse asks, by the SMBus alert response, which TMP102 or TMP105 on
// the bus pulls the ALERT line in Interrupt mode, and makes that chip release
// it. Of several, the one with the lowest address answers. When none does, the
// bus's error is returned. The LM75 does not take part.
//
// The chip also sends whether it was the upper or the lower limit; revisions of
// the datasheets contradict each other on which value means which, so that is
// left out: compare a reading with the limits.
func AlertResponse(bus i2c.Bus) (addr uint16, err error) {
	var r [1]byte
	if err := bus.Tx(alertResponseAddr, nil, r[:]); err != nil {
		return 0, fmt.Errorf("lm75: no chip answers the SMBus alert response: %w", err)
	}
	return uint16(r[0] >> 1), nil
}

// String names the chip and where it is.
func (d *Dev) String() string {
	return fmt.Sprintf("%v{%v}", d.layout.model, &d.c)
}

func (d *Dev) wrap(doing string, err error) error {
	return fmt.Errorf("lm75: %s %v: %w", doing, d, err)
}

// bit returns where a bit of the configuration register's first byte is in the
// whole register.
func (d *Dev) bit(b uint16) uint16 {
	if d.layout.wide {
		return b << 8
	}
	return b
}

func (d *Dev) shutdownBit() uint16 { return d.bit(bitShutdown) }

func (d *Dev) writeConfig(v uint16) error {
	if d.layout.wide {
		return d.writeWord(regConfig, v)
	}
	return d.c.Tx([]byte{regConfig, byte(v)}, nil)
}

func (d *Dev) readConfig() (uint16, error) {
	if d.layout.wide {
		return d.readWord(regConfig)
	}
	var r [1]byte
	err := d.c.Tx([]byte{regConfig}, r[:])
	return uint16(r[0]), err
}

func (d *Dev) writeLimits() error {
	if err := d.writeWord(regLow, d.layout.low); err != nil {
		return err
	}
	return d.writeWord(regHigh, d.layout.high)
}

// readLimits returns the limit registers without the bits that limits do not
// use, which some chips leave undefined.
func (d *Dev) readLimits() (low, high uint16, err error) {
	if low, err = d.readWord(regLow); err != nil {
		return 0, 0, err
	}
	if high, err = d.readWord(regHigh); err != nil {
		return 0, 0, err
	}
	mask := ^(uint16(1)<<(16-d.layout.limitBits) - 1)
	return low & mask, high & mask, nil
}

func (d *Dev) writeWord(reg byte, v uint16) error {
	return d.c.Tx([]byte{reg, byte(v >> 8), byte(v)}, nil)
}

func (d *Dev) readWord(reg byte) (uint16, error) {
	var r [2]byte
	err := d.c.Tx([]byte{reg}, r[:])
	return uint16(r[0])<<8 | uint16(r[1]), err
}

var (
	_ conn.Resource   = &Dev{}
	_ physic.SenseEnv = &Dev{}
)
