package sensor

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"periph.io/x/conn/v3/physic"

	"tuxwatch/drivers/lm75"
)

// Settings are the module's settings in the configuration file.
type Settings struct {
	// Machine is where the machine's values come from.
	Machine Source `yaml:"machine"`
	// Ambient is where the values of the air around come from. Without it they
	// are simulated if the machine is, and left out otherwise.
	Ambient *Source `yaml:"ambient,omitempty"`
	// Seed makes the simulator's values the same at every start; 0 makes them
	// different ones.
	Seed uint64 `yaml:"seed,omitempty"`
}

// Source is a chip on an I²C bus, or the simulator.
type Source struct {
	// Driver is simulated, tmp102, tmp105, lm75, lm75a, lm75b, bme280, bmp280 or
	// mcp9808.
	Driver string `yaml:"driver"`
	// Bus is the number or the name of the I²C bus; "1" is /dev/i2c-1.
	Bus string `yaml:"bus,omitempty"`
	// Address on the bus; 0 stands for the one that the chip has by default.
	Address uint16 `yaml:"address,omitempty"`
	// Resolution in bits; 0 stands for the chip's best.
	Resolution int `yaml:"resolution,omitempty"`
	// Extended turns on the mode of the tmp102 that reaches 150 °C.
	Extended bool `yaml:"extended,omitempty"`
	// Rate is how often a tmp102 measures, in Hz: 0.25, 1, 4 or 8.
	Rate float64 `yaml:"rate,omitempty"`
	// OneShot keeps a tmp102 or tmp105 shut down between readings, which saves
	// power and self-heating. Its ALERT pin does not work then.
	OneShot bool `yaml:"one_shot,omitempty"`
	// Alert sets what the ALERT pin of a tmp102, tmp105 or lm75 does, which works
	// without tuxwatch: for a lamp, a buzzer or a relay.
	Alert *AlertPin `yaml:"alert,omitempty"`
}

// AlertPin says when a chip's ALERT pin is active.
type AlertPin struct {
	// High and Low in degrees Celsius: from when it reaches High until it falls
	// below Low. They default to 80 and 75.
	High *float64 `yaml:"high,omitempty"`
	Low  *float64 `yaml:"low,omitempty"`
	// Mode is comparator (the default) or interrupt.
	Mode string `yaml:"mode,omitempty"`
	// Active is the pin's level while it is active: low (the default) or high.
	Active string `yaml:"active,omitempty"`
	// Faults is how many measurements in a row must be beyond a limit: 1 (the
	// default), 2, 4 or 6.
	Faults int `yaml:"faults,omitempty"`
}

const simulated = "simulated"

// Validate checks everything that can be known without the hardware.
func (s *Settings) Validate() error {
	if err := s.Machine.validate(); err != nil {
		return fmt.Errorf("machine: %w", err)
	}
	if s.Ambient == nil {
		return nil
	}
	if err := s.Ambient.validate(); err != nil {
		return fmt.Errorf("ambient: %w", err)
	}
	a, b := s.Machine.withDefaults(), s.Ambient.withDefaults()
	if a.Driver != simulated && b.Driver != simulated && a.Bus == b.Bus && a.Address == b.Address {
		return fmt.Errorf("machine and ambient are both at address %#02x on %s; give one of them another address", a.Address, busLabel(a.Bus))
	}
	return nil
}

func (s Source) validate() error {
	if s.Driver == simulated {
		if extra := s; extra != (Source{Driver: simulated, Bus: s.Bus}) {
			return fmt.Errorf("driver %s has no other settings", simulated)
		}
		return nil
	}
	d, ok := drivers[s.Driver]
	if !ok {
		names := append([]string{simulated}, slices.Sorted(maps.Keys(drivers))...)
		return fmt.Errorf("driver %q is not known; it can be %s", s.Driver, strings.Join(names, ", "))
	}
	s = s.withDefaults()
	if s.Address < d.lowest || s.Address > d.highest {
		return fmt.Errorf("address %#02x: a %s can be at %#02x to %#02x", s.Address, s.Driver, d.lowest, d.highest)
	}
	return d.check(s)
}

// withDefaults returns s with the bus in its shortest name and the address
// filled in.
func (s Source) withDefaults() Source {
	s.Bus = busName(s.Bus)
	if s.Address == 0 {
		s.Address = drivers[s.Driver].lowest
	}
	return s
}

// String names the source for people: "tmp105 at 0x48 on I2C bus 1".
func (s Source) String() string {
	if s.Driver == simulated {
		return simulated
	}
	s = s.withDefaults()
	return fmt.Sprintf("%s at %#02x on %s", s.Driver, s.Address, busLabel(s.Bus))
}

// lm75Opts translates the settings for the chips of the LM75 family.
func (s Source) lm75Opts(model lm75.Model) (*lm75.Opts, error) {
	opts := &lm75.Opts{
		Model:      model,
		Resolution: s.Resolution,
		Extended:   s.Extended,
		OneShot:    s.OneShot,
		Rate:       physic.Frequency(math.Round(s.Rate*1e6)) * physic.MicroHertz,
	}
	if a := s.Alert; a != nil {
		var err error
		if opts.Alert.High, err = celsius(a.High); err != nil {
			return nil, fmt.Errorf("alert: high: %w", err)
		}
		if opts.Alert.Low, err = celsius(a.Low); err != nil {
			return nil, fmt.Errorf("alert: low: %w", err)
		}
		opts.Alert.FaultQueue = a.Faults
		switch a.Mode {
		case "", "comparator":
		case "interrupt":
			opts.Alert.Mode = lm75.Interrupt
		default:
			return nil, fmt.Errorf("alert: mode %q is not known; it can be comparator or interrupt", a.Mode)
		}
		switch a.Active {
		case "", "low":
		case "high":
			opts.Alert.Polarity = lm75.ActiveHigh
		default:
			return nil, fmt.Errorf("alert: active %q is not known; it can be low or high", a.Active)
		}
	}
	return opts, opts.Validate()
}

// celsius returns degrees as a temperature; nil stands for the chip's default.
func celsius(degrees *float64) (physic.Temperature, error) {
	if degrees == nil {
		return 0, nil
	}
	if !(math.Abs(*degrees) < 1000) { // NaN too
		return 0, fmt.Errorf("%v °C is out of any chip's range", *degrees)
	}
	return physic.ZeroCelsius + physic.Temperature(math.Round(*degrees*1e9))*physic.NanoKelvin, nil
}

// The bounds of SendInterval, in seconds.
const (
	shortestInterval = 0.05
	longestInterval  = 86400
)

// Properties are the module's desired properties.
type Properties struct {
	// SendData turns the messages on and off.
	SendData bool `json:"SendData"`
	// SendInterval is the time from one message to the next in seconds, 0.05 to
	// 86400; fractions are allowed.
	SendInterval float64 `json:"SendInterval"`
}

// Validate checks the bounds.
func (p *Properties) Validate() error {
	if !(p.SendInterval >= shortestInterval && p.SendInterval <= longestInterval) {
		return fmt.Errorf("desired property SendInterval is %v; it must be %v to %v seconds", p.SendInterval, shortestInterval, longestInterval)
	}
	return nil
}
