// Package lm75test has a simulated chip of the LM75 family on a simulated I²C
// bus, for testing programs that use package lm75 without hardware.
//
// It keeps registers as the datasheets describe them: what is written is there,
// what is read is in the chip's format, a chip that is without power forgets.
// It has no sense of time: conversions are over at once. Start with Chip.
package lm75test

import (
	"errors"
	"fmt"
	"math"
	"sync"

	"periph.io/x/conn/v3/i2c"
	"periph.io/x/conn/v3/physic"

	"tuxwatch/drivers/lm75"
)

// ErrNACK is what a transaction to an address where no chip is returns; the
// Linux driver of the Raspberry Pi has the same words.
var ErrNACK = errors.New("remote I/O error")

// Chip is an I²C bus with one chip on it. The zero value is not ready; use New.
type Chip struct {
	model lm75.Model
	addr  uint16

	mu          sync.Mutex
	absent      bool
	temperature physic.Temperature
	pointer     byte
	config      uint16
	low, high   uint16
	alert       bool // T_HIGH was reached and T_LOW not undercut since
	pin         bool // in interrupt mode: not read since
}

// New returns a bus with a chip at addr, as after power-up, at 25 °C.
func New(model lm75.Model, addr uint16) *Chip {
	c := &Chip{model: model, addr: addr, temperature: physic.ZeroCelsius + 25*physic.Kelvin}
	c.PowerCycle()
	return c
}

// SetTemperature sets what the chip is exposed to.
func (c *Chip) SetTemperature(t physic.Temperature) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.temperature = t
	if !c.shutdown() {
		c.compare()
	}
}

// PowerCycle interrupts the supply for a moment: all registers are as after
// power-up.
func (c *Chip) PowerCycle() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pointer, c.config, c.low, c.high, c.alert, c.pin = 0, 0, 0x4b00, 0x5000, false, false
	if c.model == lm75.TMP102 {
		c.config = 0x6080
	}
}

// Unplug takes the chip off the bus: it does not acknowledge any more.
func (c *Chip) Unplug() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.absent = true
}

// Plug puts the chip back, as after power-up.
func (c *Chip) Plug() {
	c.PowerCycle()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.absent = false
}

// AlertPin returns whether the ALERT pin is active.
func (c *Chip) AlertPin() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.first()&2 != 0 {
		return c.pin
	}
	return c.alert
}

// Tx implements i2c.Bus.
func (c *Chip) Tx(addr uint16, w, r []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if addr != c.addr || c.absent {
		return ErrNACK
	}
	if len(w) > 0 {
		c.pointer = w[0] & 3
	}
	if len(w) > 1 {
		c.write(w[1:])
	}
	if len(r) > 0 {
		c.pin = false
		c.read(r)
	}
	return nil
}

// SetSpeed implements i2c.Bus.
func (c *Chip) SetSpeed(physic.Frequency) error { return nil }

// Close implements i2c.BusCloser.
func (c *Chip) Close() error { return nil }

func (c *Chip) String() string { return fmt.Sprintf("simulated %v at %#02x", c.model, c.addr) }

func (c *Chip) wide() bool { return c.model == lm75.TMP102 }

// first returns the configuration register's first byte.
func (c *Chip) first() byte {
	if c.wide() {
		return byte(c.config >> 8)
	}
	return byte(c.config)
}

func (c *Chip) shutdown() bool { return c.first()&1 != 0 }

func (c *Chip) extended() bool { return c.wide() && c.config&0x10 != 0 }

func (c *Chip) write(data []byte) {
	var v uint16
	switch {
	case c.pointer == 1 && !c.wide():
		c.config = uint16(data[0])
		if c.model != lm75.TMP105 {
			c.config &= 0x1f
		}
	case len(data) < 2:
		return
	default:
		v = uint16(data[0])<<8 | uint16(data[1])
	}
	switch c.pointer {
	case 1:
		if c.wide() {
			c.config = v&^0x0f | 0x6000
		}
		if !c.shutdown() || c.first()&0x80 != 0 {
			c.compare()
		}
		if !c.wide() {
			c.config &^= 0x80
		}
	case 2:
		c.low = v & c.limitMask()
	case 3:
		c.high = v & c.limitMask()
	}
}

func (c *Chip) limitMask() uint16 {
	switch {
	case c.extended():
		return 0xfff8
	case c.model == lm75.TMP102 || c.model == lm75.TMP105:
		return 0xfff0
	default:
		return 0xff80
	}
}

func (c *Chip) read(r []byte) {
	var v uint16
	switch c.pointer {
	case 0:
		v = c.reading()
	case 1:
		v = c.config
		if c.wide() {
			// AL has the level of the pin in comparator mode.
			if c.alert == (c.first()&4 != 0) {
				v |= 0x20
			} else {
				v &^= 0x20
			}
		} else {
			v <<= 8
		}
	case 2:
		v = c.low
	case 3:
		v = c.high
	}
	for i := range r {
		switch i {
		case 0:
			r[i] = byte(v >> 8)
		case 1:
			r[i] = byte(v)
		default:
			r[i] = 0xff
		}
	}
}

// reading returns the temperature register.
func (c *Chip) reading() uint16 {
	bits, perDegree, flag := 9, 256.0, uint16(0)
	switch c.model {
	case lm75.LM75A, lm75.LM75B:
		bits = 11
	case lm75.TMP105:
		bits = 9 + int(c.config>>5&3)
	case lm75.TMP102:
		bits = 12
		if c.extended() {
			bits, perDegree, flag = 13, 128, 1
		}
	}
	degrees := float64(c.temperature-physic.ZeroCelsius) / float64(physic.Kelvin)
	v := math.Floor(degrees * perDegree)
	v = min(max(v, math.MinInt16), math.MaxInt16)
	mask := ^(uint16(1)<<(16-bits) - 1)
	return uint16(int16(v))&mask | flag
}

// compare is what happens at the end of a conversion.
func (c *Chip) compare() {
	now := int16(c.reading() & c.limitMask())
	switch {
	case !c.alert && now >= int16(c.high):
		c.alert, c.pin = true, true
	case c.alert && now < int16(c.low):
		c.alert, c.pin = false, true
	}
}

var _ i2c.BusCloser = &Chip{}
