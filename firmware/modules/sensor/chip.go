package sensor

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"periph.io/x/conn/v3/i2c"
	"periph.io/x/conn/v3/mmr"
	"periph.io/x/conn/v3/physic"
	"periph.io/x/devices/v3/bmxx80"
	"periph.io/x/devices/v3/mcp9808"

	"tuxwatch/drivers/lm75"
)

// reading is what a chip measured. What it does not measure is nil.
type reading struct {
	temperature float64  // °C
	pressure    *float64 // bar
	humidity    *float64 // %
}

// chip is a chip that has been set up.
type chip interface {
	// measure checks that the chip is still set up (errReset, lm75.ErrLost if
	// not) and measures.
	measure() (reading, error)
	// name is what the chip really is.
	name() string
}

// driver is a kind of chip that the settings can name.
type driver struct {
	lowest, highest uint16 // addresses; the lowest is the default
	// check tells whether the settings make sense for the chip.
	check func(Source) error
	// open sets the chip up.
	open func(i2c.Bus, Source) (chip, error)
}

var drivers = map[string]driver{
	"lm75":    lm75Driver(lm75.LM75),
	"lm75a":   lm75Driver(lm75.LM75A),
	"lm75b":   lm75Driver(lm75.LM75B),
	"tmp102":  lm75Driver(lm75.TMP102),
	"tmp105":  lm75Driver(lm75.TMP105),
	"bme280":  {lowest: 0x76, highest: 0x77, check: checkPlain, open: openBMx80},
	"bmp280":  {lowest: 0x76, highest: 0x77, check: checkPlain, open: openBMx80},
	"mcp9808": {lowest: 0x18, highest: 0x1f, check: checkMCP9808, open: openMCP9808},
}

var (
	// errReset is a chip that was without power for a moment.
	errReset = errors.New("the chip lost its settings")
	// errImplausible is a value that the chip cannot have measured.
	errImplausible = errors.New("implausible value")
	// errOtherChip is a chip that is not the one of the settings.
	errOtherChip = errors.New("another chip answers")
)

// The LM75 family.

type lm75Chip struct{ dev *lm75.Dev }

func lm75Driver(model lm75.Model) driver {
	return driver{
		lowest: 0x48, highest: 0x4f,
		check: func(s Source) error {
			_, err := s.lm75Opts(model)
			return err
		},
		open: func(bus i2c.Bus, s Source) (chip, error) {
			opts, err := s.lm75Opts(model)
			if err != nil {
				return nil, err
			}
			dev, err := lm75.New(bus, s.Address, opts)
			if err != nil {
				return nil, err
			}
			return lm75Chip{dev}, nil
		},
	}
}

func (c lm75Chip) measure() (reading, error) {
	if err := c.dev.Verify(); err != nil {
		return reading{}, err
	}
	var e physic.Env
	if err := c.dev.Sense(&e); err != nil {
		return reading{}, err
	}
	lowest, highest := c.dev.Range()
	return newReading(e, lowest, highest)
}

func (c lm75Chip) name() string {
	name, _, _ := strings.Cut(c.dev.String(), "{")
	return name
}

// BME280, BMP280 and, since periph's driver finds out which is there, BMP180.

type bmx80 struct {
	dev      *bmxx80.Dev
	port     mmr.Dev8
	humidity bool
}

// Registers of the BME280 (datasheet BST-BME280-DS002, section 5.4).
const (
	regBMEControlHumidity = 0xf2
	bmeOversampling       = bmxx80.O4x
)

// Ranges of the BME280 and BMP280 (datasheets, table 1 and 2).
const (
	bmxColdest, bmxHottest                = physic.ZeroCelsius - 40*physic.Kelvin, physic.ZeroCelsius + 85*physic.Kelvin
	bmxLowestPressure, bmxHighestPressure = 0.3, 1.1 // bar
)

func checkPlain(s Source) error {
	if s.Resolution != 0 {
		return fmt.Errorf("a %s has no choice of resolution", s.Driver)
	}
	return checkNoLM75(s)
}

func checkNoLM75(s Source) error {
	if s.Extended || s.OneShot || s.Rate != 0 || s.Alert != nil {
		return fmt.Errorf("extended, one_shot, rate and alert are not for a %s", s.Driver)
	}
	return nil
}

func openBMx80(bus i2c.Bus, s Source) (chip, error) {
	dev, err := bmxx80.NewI2C(bus, s.Address, &bmxx80.Opts{
		Temperature: bmeOversampling, Pressure: bmeOversampling, Humidity: bmeOversampling,
	})
	if err != nil {
		return nil, err
	}
	c := &bmx80{dev: dev, port: mmr.Dev8{Conn: &i2c.Dev{Bus: bus, Addr: s.Address}, Order: binary.BigEndian}}
	c.humidity = c.name() == "BME280"
	return c, nil
}

func (c *bmx80) measure() (reading, error) {
	if c.humidity {
		// Every measurement sets the other registers again. With this one lost
		// the chip would go on, and send a humidity that it did not measure.
		v, err := c.port.ReadUint8(regBMEControlHumidity)
		if err != nil {
			return reading{}, err
		}
		if v&7 != byte(bmeOversampling) {
			return reading{}, errReset
		}
	}
	var e physic.Env
	if err := c.dev.Sense(&e); err != nil {
		return reading{}, err
	}
	r, err := newReading(e, bmxColdest, bmxHottest)
	if err != nil {
		return reading{}, err
	}
	bar := math.Round(float64(e.Pressure)/float64(physic.Pascal)*10) / 1e6
	if bar < bmxLowestPressure || bar > bmxHighestPressure {
		return reading{}, fmt.Errorf("%w: a pressure of %v", errImplausible, e.Pressure)
	}
	r.pressure = &bar
	if c.humidity {
		percent := math.Round(float64(e.Humidity)/float64(physic.PercentRH)*100) / 100
		r.humidity = &percent
	}
	return r, nil
}

func (c *bmx80) name() string {
	name, _, _ := strings.Cut(c.dev.String(), "{")
	return name
}

// MCP9808.

type mcp9808Chip struct {
	dev        *mcp9808.Dev
	port       mmr.Dev8
	resolution byte
	ready      time.Time
}

// Registers of the MCP9808 (datasheet DS25095A, section 5.1).
const (
	regMCPConfig       = 0x01
	regMCPManufacturer = 0x06
	regMCPResolution   = 0x08
	mcpManufacturer    = 0x0054
)

const mcpColdest, mcpHottest = physic.ZeroCelsius - 40*physic.Kelvin, physic.ZeroCelsius + 125*physic.Kelvin

// mcpBits are the resolutions in the order of the resolution register's values.
var mcpBits = []int{9, 10, 11, 12}

func checkMCP9808(s Source) error {
	if s.Resolution != 0 && !slices.Contains(mcpBits, s.Resolution) {
		return fmt.Errorf("a mcp9808 has no resolution of %d bits; it has %v", s.Resolution, mcpBits)
	}
	return checkNoLM75(s)
}

func openMCP9808(bus i2c.Bus, s Source) (chip, error) {
	opts := mcp9808.Opts{Addr: int(s.Address)}
	conversion := 250 * time.Millisecond // datasheet, table 5-2
	switch s.Resolution {
	case 9:
		opts.Res, conversion = mcp9808.Low, 30*time.Millisecond
	case 10:
		opts.Res, conversion = mcp9808.Medium, 65*time.Millisecond
	case 11:
		opts.Res, conversion = mcp9808.High, 130*time.Millisecond
	default:
		opts.Res = mcp9808.Maximum
		s.Resolution = 12
	}
	c := &mcp9808Chip{
		port:       mmr.Dev8{Conn: &i2c.Dev{Bus: bus, Addr: s.Address}, Order: binary.BigEndian},
		resolution: byte(slices.Index(mcpBits, s.Resolution)),
	}
	id, err := c.port.ReadUint16(regMCPManufacturer)
	if err != nil {
		return nil, err
	}
	if id != mcpManufacturer {
		return nil, fmt.Errorf("%w: its manufacturer number is %#04x, a MCP9808 has %#04x", errOtherChip, id, mcpManufacturer)
	}
	if c.dev, err = mcp9808.New(bus, &opts); err != nil {
		return nil, err
	}
	// Until the first conversion after power-up is over it reads 0 °C.
	c.ready = time.Now().Add(conversion)
	return c, nil
}

func (c *mcp9808Chip) measure() (reading, error) {
	config, err := c.port.ReadUint16(regMCPConfig)
	if err != nil {
		return reading{}, err
	}
	resolution, err := c.port.ReadUint8(regMCPResolution)
	if err != nil {
		return reading{}, err
	}
	if config != 0 || resolution&3 != c.resolution {
		return reading{}, errReset
	}
	time.Sleep(time.Until(c.ready))
	var e physic.Env
	if err := c.dev.Sense(&e); err != nil {
		return reading{}, err
	}
	return newReading(e, mcpColdest, mcpHottest)
}

func (c *mcp9808Chip) name() string { return "MCP9808" }

// newReading takes the temperature from e if it is one that the chip can
// measure.
func newReading(e physic.Env, lowest, highest physic.Temperature) (reading, error) {
	if e.Temperature < lowest || e.Temperature > highest {
		return reading{}, fmt.Errorf("%w: a temperature of %v", errImplausible, e.Temperature)
	}
	// In whole nanokelvins up to the one division: exact, as far as JSON goes.
	return reading{temperature: float64(e.Temperature-physic.ZeroCelsius) / float64(physic.Kelvin)}, nil
}
