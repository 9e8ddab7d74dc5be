package lm75

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"periph.io/x/conn/v3/physic"
)

// AlertMode is how the ALERT pin behaves (bit TM).
type AlertMode uint8

const (
	// Comparator: the pin is active from when the temperature reaches High
	// until it falls below Low.
	Comparator AlertMode = iota
	// Interrupt: the pin becomes active when the temperature reaches High, and
	// then when it falls below Low, and each time stays so until any register
	// is read (or, with the TMP chips, until AlertResponse).
	Interrupt
)

// Polarity is the level of the ALERT pin while it is active (bit POL). The pin
// is an open drain: it needs a pull-up.
type Polarity uint8

// The levels of an active ALERT pin.
const (
	ActiveLow Polarity = iota
	ActiveHigh
)

// Alert configures the ALERT pin.
type Alert struct {
	// High and Low are the limits (T_HIGH and T_LOW; T_OS and T_HYST on the
	// LM75). They are rounded to the limit registers' step: 0.5 °C on the LM75,
	// 0.0625 °C on the TMP chips. Zero, which is no temperature that can be
	// met, stands for the values after power-up: 80 °C and 75 °C.
	High, Low physic.Temperature
	Mode      AlertMode
	Polarity  Polarity
	// FaultQueue is how many conversions in a row must be beyond a limit: 1, 2,
	// 4 or 6. 0 stands for 1.
	FaultQueue int
}

// Opts holds the configuration of a chip.
type Opts struct {
	Model Model
	// Resolution is the number of bits, sign included: 9 is 0.5 °C, 10 0.25 °C,
	// 11 0.125 °C, 12 0.0625 °C. 0 stands for the model's default. In a TMP102
	// it is always 12 (13 in extended mode).
	Resolution int
	// Extended turns on the 13-bit mode of the TMP102, for temperatures above
	// 128 °C.
	Extended bool
	// Rate is how often a TMP102 measures: 250 mHz, 1 Hz, 4 Hz or 8 Hz. 0
	// stands for 4 Hz. The other models have one fixed rate.
	Rate physic.Frequency
	// OneShot keeps the chip shut down between readings; each Sense then makes
	// one conversion and waits for it. TMP102 and TMP105 only. A chip that is
	// shut down does not watch its limits.
	OneShot bool
	Alert   Alert
}

// DefaultOpts is the recommended default: a TMP105 at 12 bits, measuring
// continuously, limits and ALERT pin as after power-up.
var DefaultOpts = Opts{Model: TMP105}

// Bits of the configuration register's first byte, the same in all models
// (TMP102 datasheet, table 7).
const (
	bitShutdown  = 1 << 0
	bitInterrupt = 1 << 1
	bitPolarity  = 1 << 2
	posFaults    = 3
	posR         = 5
	bitOneShot   = 1 << 7
)

// Bits of the TMP102's second byte.
const (
	bitExtended = 1 << 4
	bitAlert    = 1 << 5
	posRate     = 6
)

var faultQueues = []int{1, 2, 4, 6}

var rates = []physic.Frequency{250 * physic.MilliHertz, physic.Hertz, 4 * physic.Hertz, 8 * physic.Hertz}

// layout is what Opts means in the chip's registers.
type layout struct {
	model      Model
	wide       bool // the configuration register has two bytes
	config     uint16
	configMask uint16 // bits that read back as written
	fixedMask  uint16 // bits of the temperature register with one value …
	fixed      uint16 // … which is this
	bits       int
	unit       physic.Temperature // of the temperature register's lowest bit
	limitBits  int
	min, max   physic.Temperature
	conversion time.Duration // of one measurement, at most
	period     time.Duration // between two measurements
	low, high  uint16        // limit registers
	oneShot    bool
}

// layout checks o and translates it.
func (o *Opts) layout() (layout, error) {
	s, ok := specs[o.Model]
	if !ok {
		return layout{}, fmt.Errorf("%v is not a model of this family", o.Model)
	}
	l := layout{
		model: o.Model, wide: o.Model == TMP102,
		bits: o.Resolution, limitBits: s.limitBits, unit: degree / 256,
		fixedMask: s.unused, min: s.min, max: s.max,
	}
	if l.bits == 0 {
		l.bits = s.best
		if o.Extended && o.Model == TMP102 {
			l.bits = 13
		}
	}
	if o.Extended {
		if o.Model != TMP102 {
			return layout{}, fmt.Errorf("%v has no extended mode", o.Model)
		}
		if l.bits != 13 {
			return layout{}, fmt.Errorf("extended mode has 13 bits, not %d", l.bits)
		}
		// Bit 0 of the temperature register says that the mode is on.
		l.limitBits, l.unit, l.fixedMask, l.fixed, l.max = 13, degree/128, 0x0007, 0x0001, extMax
		l.conversion = s.conversion[12]
	} else if l.conversion, ok = s.conversion[l.bits]; !ok {
		return layout{}, fmt.Errorf("%v has no resolution of %d bits; it has %v", o.Model, l.bits, slices.Sorted(maps.Keys(s.conversion)))
	}
	l.period = l.conversion

	first := uint16(0)
	if s.setsResolution {
		first |= uint16(l.bits-9) << posR
	}
	if o.OneShot {
		if !s.oneShot {
			return layout{}, fmt.Errorf("%v has no one-shot mode", o.Model)
		}
		l.oneShot = true
		first |= bitShutdown
	}
	alert, err := o.Alert.bits()
	if err != nil {
		return layout{}, err
	}
	first |= alert
	l.config, l.configMask = first, 0x7f
	if l.wide {
		rate := o.Rate
		if rate == 0 {
			rate = 4 * physic.Hertz
		}
		i := slices.Index(rates, rate)
		if i < 0 {
			return layout{}, fmt.Errorf("%v cannot measure at %v; it can at %v", o.Model, o.Rate, rates)
		}
		l.period = rate.Period()
		// R1 and R0 cannot be written and read 1, OS says that a conversion is
		// over, AL shows the alert.
		l.config = (first|3<<posR)<<8 | uint16(i)<<posRate
		if o.Extended {
			l.config |= bitExtended
		}
		l.configMask = 0x7f<<8 | 0xff&^bitAlert
	} else if o.Rate != 0 {
		return layout{}, fmt.Errorf("%v has no choice of conversion rates", o.Model)
	}
	l.low, l.high, err = l.limits(o.Alert)
	return l, err
}

// bits returns the alert's part of the configuration register.
func (a Alert) bits() (uint16, error) {
	var v uint16
	switch a.Mode {
	case Comparator:
	case Interrupt:
		v |= bitInterrupt
	default:
		return 0, fmt.Errorf("unknown alert mode %d", a.Mode)
	}
	switch a.Polarity {
	case ActiveLow:
	case ActiveHigh:
		v |= bitPolarity
	default:
		return 0, fmt.Errorf("unknown alert polarity %d", a.Polarity)
	}
	n := a.FaultQueue
	if n == 0 {
		n = 1
	}
	i := slices.Index(faultQueues, n)
	if i < 0 {
		return 0, fmt.Errorf("a fault queue of %d is not possible; %v are", a.FaultQueue, faultQueues)
	}
	return v | uint16(i)<<posFaults, nil
}

// limits returns the limit registers' values.
func (l *layout) limits(a Alert) (low, high uint16, err error) {
	if a.High == 0 {
		a.High = zero + 80*degree
	}
	if a.Low == 0 {
		a.Low = zero + 75*degree
	}
	if a.Low > a.High {
		return 0, 0, fmt.Errorf("the alert's lower limit %v is above its upper limit %v", a.Low, a.High)
	}
	if low, err = l.encodeLimit(a.Low); err != nil {
		return 0, 0, fmt.Errorf("the alert's lower limit: %w", err)
	}
	if high, err = l.encodeLimit(a.High); err != nil {
		return 0, 0, fmt.Errorf("the alert's upper limit: %w", err)
	}
	return low, high, nil
}

// encodeLimit returns t as a limit register holds it, rounded to the nearest
// step: two's complement, left-justified (TMP102 datasheet, tables 10 and 11).
func (l *layout) encodeLimit(t physic.Temperature) (uint16, error) {
	if t < l.min || t > l.max {
		return 0, fmt.Errorf("%v is out of the range of %v, %v to %v", t, l.model, l.min, l.max)
	}
	shift := 16 - l.limitBits
	step := l.unit << shift
	// The range check keeps the sum positive: dividing rounds it down.
	n := (t-l.min+step/2)/step + (l.min-zero)/step
	return uint16(n) << shift, nil
}

// decode returns the temperature that a temperature or limit register holds in
// its upper bits.
func (l *layout) decode(raw uint16, bits int) physic.Temperature {
	unused := uint16(1)<<(16-bits) - 1
	return zero + physic.Temperature(int16(raw&^unused))*l.unit
}

var errFloating = errors.New("bits that are always 0 read 1; nothing may be driving the bus")

// decodeReading returns the temperature that a read of the temperature register
// gave, or an error if the chip cannot have sent it.
func (l *layout) decodeReading(raw uint16) (physic.Temperature, error) {
	if raw&l.fixedMask != l.fixed {
		return 0, fmt.Errorf("temperature register %#04x: %w", raw, errFloating)
	}
	return l.decode(raw, l.bits), nil
}

// Validate returns the error that New would return for o before it asks the
// bus.
func (o *Opts) Validate() error {
	_, err := o.layout()
	return err
}
