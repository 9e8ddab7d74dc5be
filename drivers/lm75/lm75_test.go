package lm75

import (
	"errors"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"periph.io/x/conn/v3/i2c/i2ctest"
	"periph.io/x/conn/v3/physic"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const addr = 0x48

// sixteenths makes a temperature of sixteenths of a degree Celsius.
func sixteenths(n int64) physic.Temperature { return zero + physic.Temperature(n)*degree/16 }

func celsius(n int64) physic.Temperature { return sixteenths(16 * n) }

// frozen is a clock that stands still except for its own sleeps, which it adds
// up.
type frozen struct {
	t     time.Time
	slept time.Duration
}

func (f *frozen) clock() clock {
	f.t = time.Unix(1, 0)
	return clock{
		now:   func() time.Time { return f.t },
		sleep: func(d time.Duration) { f.t = f.t.Add(d); f.slept += d },
	}
}

// open plays back the exchange of New and then ops.
func open(t *testing.T, opts *Opts, start []i2ctest.IO, ops ...i2ctest.IO) (*Dev, *frozen) {
	t.Helper()
	bus := &i2ctest.Playback{Ops: append(start, ops...), DontPanic: true}
	t.Cleanup(func() {
		if err := bus.Close(); err != nil {
			t.Error(err)
		}
	})
	f := &frozen{}
	d, err := newDev(bus, addr, opts, f.clock())
	if err != nil {
		t.Fatal(err)
	}
	return d, f
}

func w(b ...byte) i2ctest.IO { return i2ctest.IO{Addr: addr, W: b} }

func wr(reg byte, r ...byte) i2ctest.IO { return i2ctest.IO{Addr: addr, W: []byte{reg}, R: r} }

// startNarrow is New's exchange with a chip whose configuration is one byte and
// whose limits are as after power-up.
func startNarrow(config byte) []i2ctest.IO {
	ops := []i2ctest.IO{w(1, config|1), w(2, 0x4b, 0), w(3, 0x50, 0)}
	if config&1 == 0 {
		ops = append(ops, w(1, config))
	}
	return append(ops, wr(1, config), wr(2, 0x4b, 0), wr(3, 0x50, 0))
}

// startTMP102 is New's exchange with a TMP102; low and high are the limits.
func startTMP102(first, second byte, low, high []byte) []i2ctest.IO {
	ops := []i2ctest.IO{w(1, first|1, second), w(append([]byte{2}, low...)...), w(append([]byte{3}, high...)...)}
	if first&1 == 0 {
		ops = append(ops, w(1, first, second))
	}
	// OS and AL read 1 and must not matter.
	return append(ops, wr(1, first|0x80, second|0x20), wr(2, low...), wr(3, high...))
}

var (
	standardLow, standardHigh = []byte{0x4b, 0x00}, []byte{0x50, 0x00}
	extendedLow, extendedHigh = []byte{0x25, 0x80}, []byte{0x28, 0x00}
)

// TestSense has every resolution of every model, with the temperatures of the
// datasheets' tables of formats.
func TestSense(t *testing.T) {
	tmp105 := func(bits int) (*Opts, []i2ctest.IO) {
		return &Opts{Model: TMP105, Resolution: bits}, startNarrow(byte(bits-9) << 5)
	}
	type reading struct {
		b0, b1 byte
		want   physic.Temperature
	}
	nine := []reading{
		{0x7d, 0x00, celsius(125)}, {0x19, 0x00, celsius(25)}, {0x00, 0x80, sixteenths(8)}, {0, 0, zero},
		{0xff, 0x80, sixteenths(-8)}, {0xe7, 0x00, celsius(-25)}, {0xc9, 0x00, celsius(-55)},
	}
	eleven := append([]reading{ // LM75B, table 10
		{0x7e, 0xe0, sixteenths(126*16 + 14)}, {0x7d, 0xe0, sixteenths(125*16 + 14)}, {0x00, 0x20, sixteenths(2)},
		{0xff, 0xe0, sixteenths(-2)}, {0xe7, 0x20, sixteenths(-25*16 + 2)}, {0xc9, 0x20, sixteenths(-55*16 + 2)},
	}, nine...)
	twelve := append([]reading{ // TMP105, table 5; TMP102, table 5
		{0x7f, 0xf0, sixteenths(128*16 - 1)}, {0x64, 0x00, celsius(100)}, {0x50, 0x00, celsius(80)}, {0x4b, 0x00, celsius(75)},
		{0x32, 0x00, celsius(50)}, {0x1f, 0x80, sixteenths(31*16 + 8)}, {0x00, 0x40, sixteenths(4)}, {0x00, 0x10, sixteenths(1)},
		{0xff, 0xf0, sixteenths(-1)}, {0xff, 0xc0, sixteenths(-4)}, {0xe7, 0x00, celsius(-25)}, {0xc9, 0x00, celsius(-55)},
	}, nine...)
	thirteen := []reading{ // TMP102, table 6; bit 0 is 1 in extended mode
		{0x4b, 0x01, celsius(150)}, {0x40, 0x01, celsius(128)}, {0x3f, 0xf9, sixteenths(128*16 - 1)}, {0x32, 0x01, celsius(100)},
		{0x28, 0x01, celsius(80)}, {0x25, 0x81, celsius(75)}, {0x19, 0x01, celsius(50)}, {0x0c, 0x81, celsius(25)},
		{0x00, 0x21, sixteenths(4)}, {0x00, 0x01, zero}, {0xff, 0xf9, sixteenths(-1)}, {0xff, 0xe1, sixteenths(-4)},
		{0xf3, 0x81, celsius(-25)}, {0xe4, 0x81, celsius(-55)},
	}
	ten := append([]reading{{0x00, 0x40, sixteenths(4)}, {0xff, 0xc0, sixteenths(-4)}}, nine...)
	for _, c := range []struct {
		name     string
		make     func() (*Opts, []i2ctest.IO)
		wait     time.Duration
		step     physic.Temperature
		readings []reading
	}{
		{"LM75", func() (*Opts, []i2ctest.IO) { return &Opts{}, startNarrow(0) }, 600 * ms, degree / 2, append([]reading{
			{0x19, 0x7f, celsius(25)}, {0xe6, 0xff, sixteenths(-25*16 - 8)}, // undefined bits set
			{0xff, 0xff, sixteenths(-8)}}, nine...)},
		{"LM75A", func() (*Opts, []i2ctest.IO) { return &Opts{Model: LM75A}, startNarrow(0) }, 600 * ms, degree / 2, append([]reading{
			{0x19, 0x60, celsius(25)}}, nine...)},
		{"LM75A 11 bits", func() (*Opts, []i2ctest.IO) { return &Opts{Model: LM75A, Resolution: 11}, startNarrow(0) }, 600 * ms, degree / 8, eleven},
		{"LM75B", func() (*Opts, []i2ctest.IO) { return &Opts{Model: LM75B}, startNarrow(0) }, 220 * ms, degree / 8, eleven},
		{"TMP105 default", func() (*Opts, []i2ctest.IO) { return nil, startNarrow(0x60) }, 600 * ms, degree / 16, twelve},
		{"TMP105 9 bits", func() (*Opts, []i2ctest.IO) { return tmp105(9) }, 76 * ms, degree / 2, nine},
		{"TMP105 10 bits", func() (*Opts, []i2ctest.IO) { return tmp105(10) }, 150 * ms, degree / 4, ten},
		{"TMP105 11 bits", func() (*Opts, []i2ctest.IO) { return tmp105(11) }, 300 * ms, degree / 8, eleven},
		{"TMP105 12 bits", func() (*Opts, []i2ctest.IO) { return tmp105(12) }, 600 * ms, degree / 16, twelve},
		{"TMP102", func() (*Opts, []i2ctest.IO) {
			return &Opts{Model: TMP102}, startTMP102(0x60, 0x80, standardLow, standardHigh)
		}, 70 * ms, degree / 16, twelve},
		{"TMP102 extended", func() (*Opts, []i2ctest.IO) {
			return &Opts{Model: TMP102, Extended: true}, startTMP102(0x60, 0x90, extendedLow, extendedHigh)
		}, 70 * ms, degree / 16, thirteen},
	} {
		t.Run(c.name, func(t *testing.T) {
			opts, start := c.make()
			var ops []i2ctest.IO
			for _, r := range c.readings {
				ops = append(ops, wr(0, r.b0, r.b1))
			}
			d, clock := open(t, opts, start, ops...)
			for _, r := range c.readings {
				e := physic.Env{Pressure: 1, Humidity: 2}
				if err := d.Sense(&e); err != nil {
					t.Fatal(err)
				}
				if e.Temperature != r.want {
					t.Errorf("% x: got %v, want %v", []byte{r.b0, r.b1}, e.Temperature, r.want)
				}
				if e.Pressure != 1 || e.Humidity != 2 {
					t.Errorf("pressure or humidity were touched: %+v", e)
				}
			}
			if clock.slept != c.wait {
				t.Errorf("waited %v for the first conversion, want %v", clock.slept, c.wait)
			}
			e := physic.Env{Pressure: 1, Humidity: 1}
			d.Precision(&e)
			if e.Temperature != c.step || e.Pressure != 0 || e.Humidity != 0 {
				t.Errorf("precision %+v, want a step of %v", e, c.step)
			}
		})
	}
}

func TestSenseRefusesWhatTheChipCannotSend(t *testing.T) {
	for _, c := range []struct {
		name  string
		opts  *Opts
		start []i2ctest.IO
		read  []byte
	}{
		{"floating bus", &Opts{Model: TMP105}, startNarrow(0x60), []byte{0xff, 0xff}},
		{"TMP102 in extended mode that says it is not", &Opts{Model: TMP102, Extended: true}, startTMP102(0x60, 0x90, extendedLow, extendedHigh), []byte{0x19, 0x00}},
		{"TMP102 in normal mode that says it is not", &Opts{Model: TMP102}, startTMP102(0x60, 0x80, standardLow, standardHigh), []byte{0x0c, 0x81}},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, _ := open(t, c.opts, c.start, wr(0, c.read...))
			e := physic.Env{Temperature: 7}
			if err := d.Sense(&e); !errors.Is(err, errFloating) {
				t.Errorf("got %v, %v", e.Temperature, err)
			}
			if e.Temperature != 7 {
				t.Errorf("the temperature was set to %v", e.Temperature)
			}
		})
	}
}

// TestConfiguration has the bytes that New writes for every option.
func TestConfiguration(t *testing.T) {
	alert := Alert{High: celsius(30), Low: celsius(-10), Mode: Interrupt, Polarity: ActiveHigh, FaultQueue: 6}
	for _, c := range []struct {
		name          string
		opts          Opts
		config        []byte // as written at the end
		low, high     []byte
		staysShutDown bool
	}{
		{"LM75 power-up", Opts{}, []byte{0x00}, standardLow, standardHigh, false},
		{"LM75 alert", Opts{Alert: alert}, []byte{0x1e}, []byte{0xf6, 0}, []byte{0x1e, 0}, false},
		{"LM75 rounds its limits to 0.5", Opts{Alert: Alert{High: sixteenths(30*16 + 5), Low: sixteenths(-10*16 - 5)}}, []byte{0}, []byte{0xf5, 0x80}, []byte{0x1e, 0x80}, false},
		{"LM75 fault queue 2", Opts{Alert: Alert{FaultQueue: 2}}, []byte{0x08}, standardLow, standardHigh, false},
		{"LM75 fault queue 4", Opts{Alert: Alert{FaultQueue: 4}}, []byte{0x10}, standardLow, standardHigh, false},
		{"LM75B keeps limits of 0.5", Opts{Model: LM75B, Alert: Alert{High: sixteenths(30*16 + 3), Low: celsius(20)}}, []byte{0}, []byte{0x14, 0}, []byte{0x1e, 0}, false},
		{"TMP105 9 bits", Opts{Model: TMP105, Resolution: 9}, []byte{0x00}, standardLow, standardHigh, false},
		{"TMP105 10 bits", Opts{Model: TMP105, Resolution: 10}, []byte{0x20}, standardLow, standardHigh, false},
		{"TMP105 11 bits", Opts{Model: TMP105, Resolution: 11}, []byte{0x40}, standardLow, standardHigh, false},
		{"TMP105 alert in 0.0625", Opts{Model: TMP105, Alert: Alert{High: sixteenths(30*16 + 1), Low: sixteenths(-1), Mode: Interrupt}}, []byte{0x62}, []byte{0xff, 0xf0}, []byte{0x1e, 0x10}, false},
		{"TMP105 one-shot", Opts{Model: TMP105, OneShot: true}, []byte{0x61}, standardLow, standardHigh, true},
		{"TMP102 power-up", Opts{Model: TMP102}, []byte{0x60, 0x80}, standardLow, standardHigh, false},
		{"TMP102 0.25 Hz", Opts{Model: TMP102, Rate: 250 * physic.MilliHertz}, []byte{0x60, 0x00}, standardLow, standardHigh, false},
		{"TMP102 1 Hz", Opts{Model: TMP102, Rate: physic.Hertz}, []byte{0x60, 0x40}, standardLow, standardHigh, false},
		{"TMP102 4 Hz", Opts{Model: TMP102, Rate: 4 * physic.Hertz}, []byte{0x60, 0x80}, standardLow, standardHigh, false},
		{"TMP102 8 Hz", Opts{Model: TMP102, Rate: 8 * physic.Hertz}, []byte{0x60, 0xc0}, standardLow, standardHigh, false},
		{"TMP102 alert", Opts{Model: TMP102, Alert: alert}, []byte{0x7e, 0x80}, []byte{0xf6, 0}, []byte{0x1e, 0}, false},
		{"TMP102 extended", Opts{Model: TMP102, Extended: true, Alert: Alert{High: celsius(150), Low: celsius(-55)}}, []byte{0x60, 0x90}, []byte{0xe4, 0x80}, []byte{0x4b, 0x00}, false},
		{"TMP102 one-shot, active high", Opts{Model: TMP102, OneShot: true, Alert: Alert{Polarity: ActiveHigh}}, []byte{0x65, 0x80}, standardLow, standardHigh, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			down := append([]byte{1}, c.config...)
			down[1] |= 1
			start := []i2ctest.IO{w(down...), w(append([]byte{2}, c.low...)...), w(append([]byte{3}, c.high...)...)}
			if !c.staysShutDown {
				start = append(start, w(append([]byte{1}, c.config...)...))
			}
			start = append(start, wr(1, c.config...), wr(2, c.low...), wr(3, c.high...))
			open(t, &c.opts, start)
		})
	}
}

func TestNewRefuses(t *testing.T) {
	for _, c := range []struct {
		name string
		addr uint16
		opts Opts
		want string
	}{
		{"an address of others", 0x18, Opts{}, "0x48 to 0x4f"},
		{"an address of others above", 0x50, Opts{}, "0x48 to 0x4f"},
		{"a model of others", addr, Opts{Model: 99}, "Model(99)"},
		{"a resolution the model lacks", addr, Opts{Resolution: 12}, "it has [9]"},
		{"too fine a resolution", addr, Opts{Model: TMP105, Resolution: 13}, "it has [9 10 11 12]"},
		{"13 bits without extended mode", addr, Opts{Model: TMP102, Resolution: 13}, "no resolution of 13"},
		{"12 bits in extended mode", addr, Opts{Model: TMP102, Resolution: 12, Extended: true}, "13 bits"},
		{"extended mode elsewhere", addr, Opts{Model: TMP105, Extended: true}, "no extended mode"},
		{"one-shot on an LM75", addr, Opts{Model: LM75B, OneShot: true}, "no one-shot"},
		{"a rate on a TMP105", addr, Opts{Model: TMP105, Rate: physic.Hertz}, "no choice"},
		{"a rate that is not there", addr, Opts{Model: TMP102, Rate: 2 * physic.Hertz}, "cannot measure at 2Hz"},
		{"a fault queue that is not there", addr, Opts{Alert: Alert{FaultQueue: 3}}, "[1 2 4 6]"},
		{"a mode that is not there", addr, Opts{Alert: Alert{Mode: 2}}, "alert mode"},
		{"a polarity that is not there", addr, Opts{Alert: Alert{Polarity: 2}}, "polarity"},
		{"a limit below the range", addr, Opts{Alert: Alert{Low: celsius(-56)}}, "lower limit"},
		{"a limit above the range", addr, Opts{Alert: Alert{High: celsius(126)}}, "upper limit"},
		{"limits that are swapped", addr, Opts{Alert: Alert{High: celsius(20), Low: celsius(30)}}, "above its upper"},
		{"128 °C without extended mode", addr, Opts{Model: TMP102, Alert: Alert{High: celsius(128)}}, "upper limit"},
	} {
		t.Run(c.name, func(t *testing.T) {
			// No operation is allowed: all this must be found before.
			_, err := New(&i2ctest.Playback{DontPanic: true}, c.addr, &c.opts)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want it to say %q", err, c.want)
			}
		})
	}
}

func TestNewNoticesAnotherChip(t *testing.T) {
	// A TMP102 is asked for and a chip with a configuration of one byte, which
	// takes the second byte for nothing and sends ones after the first, is there.
	bus := &i2ctest.Playback{DontPanic: true, Ops: []i2ctest.IO{
		w(1, 0x61, 0x80), w(2, 0x4b, 0), w(3, 0x50, 0), w(1, 0x60, 0x80), wr(1, 0x60, 0xff),
	}}
	if _, err := New(bus, addr, &Opts{Model: TMP102}); !errors.Is(err, ErrLost) {
		t.Errorf("got %v", err)
	}
	if err := bus.Close(); err != nil {
		t.Error(err)
	}
}

func TestOneShot(t *testing.T) {
	t.Run("TMP105", func(t *testing.T) {
		d, clock := open(t, &Opts{Model: TMP105, OneShot: true, Resolution: 10}, startNarrow(0x21),
			w(1, 0xa1), wr(0, 0xe7, 0x40), w(1, 0xa1), wr(0, 0x19, 0x00))
		for i, want := range []physic.Temperature{sixteenths(-25*16 + 4), celsius(25)} {
			var e physic.Env
			if err := d.Sense(&e); err != nil || e.Temperature != want {
				t.Errorf("got %v, %v, want %v", e.Temperature, err, want)
			}
			if want := time.Duration(i+1) * 75 * ms; clock.slept != want {
				t.Errorf("waited %v, want %v", clock.slept, want)
			}
		}
	})
	t.Run("TMP102 waits until OS reads 1", func(t *testing.T) {
		d, _ := open(t, &Opts{Model: TMP102, OneShot: true}, startTMP102(0x61, 0x80, standardLow, standardHigh),
			w(1, 0xe1, 0x80), wr(1, 0x61, 0xa0), wr(1, 0x61, 0xa0), wr(1, 0xe1, 0xa0), wr(0, 0xff, 0xf0))
		var e physic.Env
		if err := d.Sense(&e); err != nil || e.Temperature != sixteenths(-1) {
			t.Errorf("got %v, %v", e.Temperature, err)
		}
	})
	t.Run("TMP102 that never ends", func(t *testing.T) {
		ops := []i2ctest.IO{w(1, 0xe1, 0x80)}
		for range 10 {
			ops = append(ops, wr(1, 0x61, 0xa0))
		}
		d, _ := open(t, &Opts{Model: TMP102, OneShot: true}, startTMP102(0x61, 0x80, standardLow, standardHigh), ops...)
		if err := d.Sense(&physic.Env{}); err == nil || !strings.Contains(err.Error(), "does not end") {
			t.Errorf("got %v", err)
		}
	})
}

func TestAlert(t *testing.T) {
	t.Run("set and read back", func(t *testing.T) {
		a := Alert{High: sixteenths(30*16 + 1), Low: sixteenths(-10*16 - 1), Mode: Interrupt, Polarity: ActiveHigh, FaultQueue: 4}
		d, _ := open(t, &Opts{Model: TMP105}, startNarrow(0x60),
			w(2, 0xf5, 0xf0), w(3, 0x1e, 0x10), w(1, 0x76),
			wr(1, 0x76), wr(2, 0xf5, 0xf0), wr(3, 0x1e, 0x10))
		if err := d.SetAlert(a); err != nil {
			t.Fatal(err)
		}
		if got, err := d.Alert(); err != nil || got != a {
			t.Errorf("got %+v, %v, want %+v", got, err, a)
		}
	})
	t.Run("of a wide chip", func(t *testing.T) {
		d, _ := open(t, &Opts{Model: TMP102, Extended: true}, startTMP102(0x60, 0x90, extendedLow, extendedHigh),
			wr(1, 0x6a, 0xb0), wr(2, 0xe4, 0x80), wr(3, 0x4b, 0x00))
		want := Alert{High: celsius(150), Low: celsius(-55), Mode: Interrupt, FaultQueue: 2}
		if got, err := d.Alert(); err != nil || got != want {
			t.Errorf("got %+v, %v, want %+v", got, err, want)
		}
	})
	t.Run("a bad one changes nothing", func(t *testing.T) {
		d, _ := open(t, &Opts{Model: TMP105}, startNarrow(0x60), wr(1, 0x60), wr(2, 0x4b, 0), wr(3, 0x50, 0))
		if err := d.SetAlert(Alert{FaultQueue: 5}); err == nil {
			t.Error("no error")
		}
		if err := d.Verify(); err != nil {
			t.Error(err)
		}
	})
	t.Run("of a chip that is halted", func(t *testing.T) {
		d, _ := open(t, &Opts{Model: TMP105}, startNarrow(0x60),
			w(1, 0x61), w(2, 0x4b, 0), w(3, 0x50, 0), w(1, 0x63))
		if err := d.Halt(); err != nil {
			t.Fatal(err)
		}
		if err := d.SetAlert(Alert{Mode: Interrupt}); err != nil {
			t.Error(err)
		}
	})
	t.Run("bit AL", func(t *testing.T) {
		for _, c := range []struct {
			polarity Polarity
			second   byte
			want     bool
		}{
			{ActiveLow, 0xa0, false}, {ActiveLow, 0x80, true}, {ActiveHigh, 0x80, false}, {ActiveHigh, 0xa0, true},
		} {
			first := 0x60 | byte(c.polarity)<<2
			d, _ := open(t, &Opts{Model: TMP102, Alert: Alert{Polarity: c.polarity}},
				startTMP102(first, 0x80, standardLow, standardHigh), wr(1, first, c.second))
			if got, err := d.Alerting(); err != nil || got != c.want {
				t.Errorf("POL %d, AL in %#02x: got %v, %v", c.polarity, c.second, got, err)
			}
		}
	})
	t.Run("bit AL of a chip that has none", func(t *testing.T) {
		d, _ := open(t, &Opts{Model: TMP105}, startNarrow(0x60))
		if _, err := d.Alerting(); !errors.Is(err, ErrUnsupported) {
			t.Errorf("got %v", err)
		}
	})
}

func TestAlertResponse(t *testing.T) {
	bus := &i2ctest.Playback{DontPanic: true, Ops: []i2ctest.IO{{Addr: 0x0c, R: []byte{0x93}}}}
	if got, err := AlertResponse(bus); err != nil || got != 0x49 {
		t.Errorf("got %#x, %v", got, err)
	}
	if _, err := AlertResponse(bus); err == nil {
		t.Error("no error without an answer")
	}
}

func TestVerifyNoticesPowerUp(t *testing.T) {
	for _, c := range []struct {
		name string
		ops  []i2ctest.IO
	}{
		{"configuration", []i2ctest.IO{wr(1, 0x00)}},
		{"lower limit", []i2ctest.IO{wr(1, 0x60), wr(2, 0x4a, 0), wr(3, 0x50, 0)}},
		{"upper limit", []i2ctest.IO{wr(1, 0x60), wr(2, 0x4b, 0), wr(3, 0x51, 0)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, _ := open(t, nil, startNarrow(0x60), c.ops...)
			if err := d.Verify(); !errors.Is(err, ErrLost) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestHaltAndWake(t *testing.T) {
	d, clock := open(t, nil, startNarrow(0x60), wr(0, 0x19, 0), w(1, 0x61), wr(1, 0x61), wr(2, 0x4b, 0), wr(3, 0x50, 0), w(1, 0x60), wr(0, 0x1a, 0))
	var e physic.Env
	if err := d.Sense(&e); err != nil {
		t.Fatal(err)
	}
	if err := d.Halt(); err != nil {
		t.Fatal(err)
	}
	if err := d.Verify(); err != nil {
		t.Errorf("halted: %v", err)
	}
	before := clock.slept
	if err := d.Sense(&e); err != nil || e.Temperature != celsius(26) {
		t.Errorf("got %v, %v", e.Temperature, err)
	}
	if waited := clock.slept - before; waited != 600*ms {
		t.Errorf("waited %v after waking up", waited)
	}
}

func TestSenseContinuous(t *testing.T) {
	t.Run("until Halt", func(t *testing.T) {
		start := startNarrow(0x00)
		d, _ := open(t, &Opts{Model: TMP105, Resolution: 9}, start, wr(0, 0x19, 0), wr(0, 0x1a, 0), wr(0, 0x1b, 0), w(1, 0x01))
		if _, err := d.SenseContinuous(37 * ms); err == nil {
			t.Error("an interval shorter than a conversion was taken")
		}
		envs, err := d.SenseContinuous(38 * ms)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := d.SenseContinuous(38 * ms); err == nil {
			t.Error("sensing twice at once was allowed")
		}
		for want := int64(25); want < 28; want++ {
			if e := <-envs; e.Temperature != celsius(want) {
				t.Errorf("got %v, want %d °C", e.Temperature, want)
			}
		}
		if err := d.Halt(); err != nil {
			t.Error(err)
		}
		if _, more := <-envs; more {
			t.Error("the channel was not closed")
		}
	})
	t.Run("until an error", func(t *testing.T) {
		d, _ := open(t, &Opts{Model: TMP105, Resolution: 9}, startNarrow(0x00), wr(0, 0x19, 0), wr(0, 0xff, 0xff), w(1, 0x01))
		envs, err := d.SenseContinuous(38 * ms)
		if err != nil {
			t.Fatal(err)
		}
		var n int
		for range envs {
			n++
		}
		if n != 1 {
			t.Errorf("%d readings before the error, want 1", n)
		}
		if err := d.Halt(); !errors.Is(err, errFloating) {
			t.Errorf("Halt returned %v", err)
		}
	})
}

func TestErrorsNameTheChip(t *testing.T) {
	d, _ := open(t, nil, startNarrow(0x60))
	err := d.Sense(&physic.Env{}) // the playback is at its end
	if err == nil || !strings.Contains(err.Error(), "TMP105") || !strings.Contains(err.Error(), "72") {
		t.Errorf("got %v", err)
	}
	if got := d.String(); got != "TMP105{playback(72)}" {
		t.Errorf("String is %q", got)
	}
	if lo, hi := d.Range(); lo != celsius(-55) || hi != sixteenths(128*16-1) {
		t.Errorf("range %v to %v", lo, hi)
	}
}
