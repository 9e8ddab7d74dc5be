package sensor

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"periph.io/x/conn/v3/i2c"
	"periph.io/x/conn/v3/i2c/i2creg"
	"periph.io/x/conn/v3/i2c/i2ctest"
	"periph.io/x/conn/v3/physic"

	"tuxwatch/drivers/lm75"
	"tuxwatch/drivers/lm75/lm75test"
	"tuxwatch/firmware/edge"
	"tuxwatch/firmware/edge/edgetest"
)

const zero = physic.ZeroCelsius

func degrees(d float64) physic.Temperature { return zero + physic.Temperature(d*1e9) }

// board is an I²C bus with chips on it that periph's registry knows by name, as
// it knows the kernel's.
type board struct {
	name string

	mu      sync.Mutex
	chips   map[uint16]i2c.Bus
	missing error         // opening fails with it
	fault   error         // transactions fail with it
	hang    chan struct{} // transactions wait for it
	under   int           // transactions under way
	most    int           // the most there were at once
	count   int
	open    int
	opened  int
}

// boards numbers the buses. No name comes twice, since the buses of package
// sensor outlive a test, and what belongs to a bubble must not.
var boards int

// newBoard registers a board.
func newBoard(t *testing.T, chips map[uint16]i2c.Bus) *board {
	t.Helper()
	boards++
	b := &board{name: fmt.Sprintf("board-%d", boards), chips: chips}
	if err := i2creg.Register(b.name, nil, -1, b.opener); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := i2creg.Unregister(b.name); err != nil {
			t.Error(err)
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.open != 0 || b.most > 1 {
			t.Errorf("the bus is open %d times at the end; %d transactions at once", b.open, b.most)
		}
	})
	return b
}

func (b *board) opener() (i2c.BusCloser, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.missing != nil {
		return nil, b.missing
	}
	b.open++
	b.opened++
	return b, nil
}

func (b *board) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.open--
	return nil
}

func (b *board) Tx(addr uint16, w, r []byte) error {
	b.mu.Lock()
	b.under++
	b.most = max(b.most, b.under)
	b.count++
	hang := b.hang
	b.mu.Unlock()
	if hang != nil {
		<-hang
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.under--
	if b.fault != nil {
		return b.fault
	}
	if chip := b.chips[addr]; chip != nil {
		return chip.Tx(addr, w, r)
	}
	return lm75test.ErrNACK
}

func (b *board) SetSpeed(physic.Frequency) error { return nil }
func (b *board) String() string                  { return b.name }

// set changes the board under its lock.
func (b *board) set(f func(*board)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f(b)
}

func (b *board) transactions() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.count
}

func healthy(s edge.ModuleStatus) bool   { return s.Healthy }
func unhealthy(s edge.ModuleStatus) bool { return !s.Healthy }

func cause(parts ...string) func(edge.ModuleStatus) bool {
	return func(s edge.ModuleStatus) bool {
		for _, p := range parts {
			if !strings.Contains(s.Cause, p) {
				return false
			}
		}
		return !s.Healthy
	}
}

// Bytes read from real chips: a BME280 and a BMP280 at 23.72 °C and 1009.43 hPa.
var (
	bmxCalibration = []byte{0x10, 0x6e, 0x6c, 0x66, 0x32, 0x0, 0x5d, 0x95, 0xb8, 0xd5, 0xd0, 0xb, 0x77, 0x1e, 0x9d, 0xff, 0xf9, 0xff, 0xac, 0x26, 0xa, 0xd8, 0xbd, 0x10, 0x0, 0x4b}
	bmeCalibration = []byte{0x6e, 0x1, 0x0, 0x13, 0x5, 0x0, 0x1e}
	bmxMeasurement = []byte{0x4a, 0x52, 0xc0, 0x80, 0x96, 0xc0}
	bmeHumidity    = []byte{0x7a, 0x76}
)

// exchange is what New or a reading does with a chip, as a table of bytes.
type exchange []i2ctest.IO

func on(addr uint16) func(w []byte, r ...byte) i2ctest.IO {
	return func(w []byte, r ...byte) i2ctest.IO { return i2ctest.IO{Addr: addr, W: w, R: r} }
}

// TestChipsByTheByte plays back what each kind of chip exchanges with its
// driver, from setting up to the message.
func TestChipsByTheByte(t *testing.T) {
	b := func(b ...byte) []byte { return b }
	at := on(0x48)
	// The check before each reading of a chip of the LM75 family: its
	// configuration and limits.
	narrow := func(config byte) exchange {
		return exchange{at(b(1), config), at(b(2), 0x4b, 0), at(b(3), 0x50, 0)}
	}
	wide := func(first, second byte, low, high byte) exchange {
		return exchange{at(b(1), first, second), at(b(2), low, 0), at(b(3), high, 0)}
	}
	join := func(parts ...exchange) (all exchange) {
		for _, p := range parts {
			all = append(all, p...)
		}
		return all
	}
	start := func(config byte) exchange {
		return join(exchange{at(b(1, config|1)), at(b(2, 0x4b, 0)), at(b(3, 0x50, 0)), at(b(1, config))}, narrow(config))
	}
	bmx := on(0x76)
	bmeSense := exchange{bmx(b(0xf2), 3), bmx(b(0xf4, 0x6d)), bmx(b(0xf3), 8), bmx(b(0xf3), 0), bmx(b(0xf7), append(bmxMeasurement, bmeHumidity...)...)}
	mcp := on(0x18)
	mcpSense := exchange{mcp(b(1), 0, 0), mcp(b(8), 1), mcp(b(5), 0xde, 0x6c)}
	for _, c := range []struct {
		name    string
		source  Source
		start   exchange
		reading exchange
		want    string // the message's machine
		ambient string
		wait    time.Duration // for the first conversion; 0 if it does not matter
	}{
		{"TMP105, 12 bits", Source{Driver: "tmp105"}, start(0x60), append(narrow(0x60), at(b(0), 0x1f, 0x80)),
			`{"temperature":31.5}`, `{"temperature":31.5}`, 600 * time.Millisecond},
		{"TMP105, 9 bits, negative", Source{Driver: "tmp105", Resolution: 9}, start(0x00), append(narrow(0), at(b(0), 0xff, 0x80)),
			`{"temperature":-0.5}`, `{"temperature":-0.5}`, 0},
		{"TMP105, 10 bits, negative", Source{Driver: "tmp105", Resolution: 10}, start(0x20), append(narrow(0x20), at(b(0), 0xe6, 0xc0)),
			`{"temperature":-25.25}`, `{"temperature":-25.25}`, 0},
		{"TMP105, 11 bits, negative", Source{Driver: "tmp105", Resolution: 11}, start(0x40), append(narrow(0x40), at(b(0), 0xff, 0xe0)),
			`{"temperature":-0.125}`, `{"temperature":-0.125}`, 0},
		{"TMP105, one-shot", Source{Driver: "tmp105", OneShot: true},
			join(exchange{at(b(1, 0x61)), at(b(2, 0x4b, 0)), at(b(3, 0x50, 0))}, narrow(0x61)),
			append(narrow(0x61), at(b(1, 0xe1)), at(b(0), 0x19, 0x00)), `{"temperature":25}`, `{"temperature":25}`, 0},
		{"LM75", Source{Driver: "lm75"}, start(0), append(narrow(0), at(b(0), 0xc9, 0x7f)), `{"temperature":-55}`, `{"temperature":-55}`, 0},
		{"LM75A", Source{Driver: "lm75a"}, start(0), append(narrow(0), at(b(0), 0x7d, 0x20)), `{"temperature":125}`, `{"temperature":125}`, 0},
		{"LM75B", Source{Driver: "lm75b"}, start(0), append(narrow(0), at(b(0), 0xff, 0xe0)), `{"temperature":-0.125}`, `{"temperature":-0.125}`, 0},
		{"TMP102", Source{Driver: "tmp102"},
			join(exchange{at(b(1, 0x61, 0x80)), at(b(2, 0x4b, 0)), at(b(3, 0x50, 0)), at(b(1, 0x60, 0x80))}, wide(0xe0, 0xa0, 0x4b, 0x50)),
			append(wide(0xe0, 0xa0, 0x4b, 0x50), at(b(0), 0xff, 0xf0)), `{"temperature":-0.0625}`, `{"temperature":-0.0625}`, 0},
		{"TMP102, extended", Source{Driver: "tmp102", Extended: true},
			join(exchange{at(b(1, 0x61, 0x90)), at(b(2, 0x25, 0x80)), at(b(3, 0x28, 0)), at(b(1, 0x60, 0x90))},
				exchange{at(b(1), 0x60, 0xb0), at(b(2), 0x25, 0x80), at(b(3), 0x28, 0)}),
			exchange{at(b(1), 0x60, 0xb0), at(b(2), 0x25, 0x80), at(b(3), 0x28, 0), at(b(0), 0x4b, 0x01)}, `{"temperature":150}`, `{"temperature":150}`, 0},
		{"BME280", Source{Driver: "bme280"},
			exchange{bmx(b(0xd0), 0x60), bmx(b(0x88), bmxCalibration...), bmx(b(0xe1), bmeCalibration...), bmx(b(0xf4, 0x6c, 0xf2, 3, 0xf5, 0xa0, 0xf4, 0x6c))},
			bmeSense, `{"temperature":23.72,"pressure":1.009427}`, `{"temperature":23.72,"humidity":65.31}`, 0},
		{"BMP280 has no humidity, whatever the settings call it", Source{Driver: "bme280"},
			exchange{bmx(b(0xd0), 0x58), bmx(b(0x88), bmxCalibration...), bmx(b(0xf4, 0x6c, 0xf5, 0xa0, 0xf4, 0x6c))},
			exchange{bmx(b(0xf4, 0x6d)), bmx(b(0xf3), 0), bmx(b(0xf7), bmxMeasurement...)},
			`{"temperature":23.72,"pressure":1.009427}`, `{"temperature":23.72}`, 0},
		{"MCP9808, 10 bits, negative", Source{Driver: "mcp9808", Resolution: 10},
			exchange{mcp(b(6), 0, 0x54), mcp(b(8, 1)), mcp(b(1, 0, 0))},
			mcpSense, `{"temperature":-25.25}`, `{"temperature":-25.25}`, 65 * time.Millisecond},
	} {
		for _, role := range []string{"machine", "ambient"} {
			t.Run(c.name+", "+role, func(t *testing.T) {
				bubble(t, func(t *testing.T) {
					// Once when the module starts, and once for the message.
					playback := &i2ctest.Playback{Ops: join(c.start, c.reading, c.reading), DontPanic: true}
					c.source.Bus = newBoard(t, map[uint16]i2c.Bus{0x48: playback, 0x76: playback, 0x18: playback}).name
					settings, start := &Settings{Machine: c.source}, time.Now()
					if role == "ambient" {
						settings = &Settings{Machine: Source{Driver: simulated}, Ambient: &c.source}
					}
					h := edgetest.Start(t, Kind(), settings, "")
					m := h.Next(output)
					body := string(m.Body)
					if waited := climate(t, m).TimeCreated.Sub(start); c.wait != 0 && role == "machine" && waited != c.wait {
						t.Errorf("waited %v for the first conversion, want %v", waited, c.wait)
					}
					h.Stop()
					if err := playback.Close(); err != nil {
						t.Error(err)
					}
					want := `{"machine":` + c.want + `,"timeCreated":`
					if role == "ambient" {
						want = `{"machine":{"temperature":21,"pressure":1},"ambient":` + c.ambient + `,"timeCreated":`
					}
					if !strings.HasPrefix(body, want) {
						t.Errorf("sent %s\nwant %s…", body, want)
					}
				})
			})
		}
	}
}

// TestUnplugged: a chip that is not there, comes, goes and comes back.
func TestUnplugged(t *testing.T) {
	for _, driver := range []string{"tmp102", "tmp105", "lm75b"} {
		t.Run(driver, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				chip := lm75test.New(map[string]lm75.Model{"tmp102": lm75.TMP102, "tmp105": lm75.TMP105, "lm75b": lm75.LM75B}[driver], 0x48)
				chip.Unplug()
				b := newBoard(t, map[uint16]i2c.Bus{0x48: chip})
				h := edgetest.Start(t, Kind(), &Settings{Machine: Source{Driver: driver, Bus: b.name}}, `{"SendInterval":1}`)
				h.Eventually(cause("machine: no answer from "+driver+" at 0x48 on I2C bus "+b.name, "remote I/O error", "check its wiring"))
				time.Sleep(time.Hour)
				h.None(output)
				s := h.Status()
				if n := s.Counters["readings_failed"]; n < 3600/13 || n > 3600/7+10 {
					t.Errorf("tried %d times in an hour; pauses should be 7 to 13 s", n)
				}
				if s.State != edge.Running || s.Restarts != 0 || len(h.Stuck()) != 0 {
					t.Errorf("%+v, stuck %v", s, h.Stuck())
				}

				chip.SetTemperature(degrees(-7.5))
				chip.Plug()
				plugged := time.Now()
				m := climate(t, h.Next(output))
				if *m.Machine.Temperature != -7.5 || m.Machine.Pressure != nil || m.Ambient != nil {
					t.Errorf("%+v", m)
				}
				if waited := m.TimeCreated.Sub(plugged); waited > 14*time.Second {
					t.Errorf("noticed after %v", waited)
				}
				h.Eventually(healthy)

				h.Next(output)
				chip.Unplug()
				h.Eventually(unhealthy)
				chip.Plug()
				chip.SetTemperature(degrees(80))
				plugged = time.Now()
				h.Eventually(healthy)
				if waited := time.Since(plugged); waited > 1500*time.Millisecond {
					t.Errorf("noticed after %v, although the chip was away for a moment only", waited)
				}
				for range 2 {
					h.Next(output) // one may be from before
				}
				if m := climate(t, h.Next(output)); *m.Machine.Temperature != 80 {
					t.Errorf("%v °C after it came back", *m.Machine.Temperature)
				}
				if n := h.Status().Counters["sensor_recoveries"]; n != 2 {
					t.Errorf("%d recoveries", n)
				}
			})
		})
	}
}

// TestPowerCut: a chip that was without power for a moment answers all the
// time, with the settings it powered up with.
func TestPowerCut(t *testing.T) {
	bubble(t, func(t *testing.T) {
		chip := lm75test.New(lm75.TMP105, 0x48)
		chip.SetTemperature(degrees(20.0625))
		b := newBoard(t, map[uint16]i2c.Bus{0x48: chip})
		high, low := 30.0, 28.0
		source := Source{Driver: "tmp105", Bus: b.name, Alert: &AlertPin{High: &high, Low: &low}}
		h := edgetest.Start(t, Kind(), &Settings{Machine: source}, "")
		for range 3 {
			if m := climate(t, h.Next(output)); *m.Machine.Temperature != 20.0625 {
				t.Errorf("%v °C: the resolution is lost", *m.Machine.Temperature)
			}
			chip.PowerCycle()
		}
		synctest.Wait()
		time.Sleep(4 * time.Second)
		if s := h.Status(); s.Counters["sensor_resets"] != 2 || s.Counters["readings_failed"] != 0 || !s.Healthy {
			t.Errorf("%+v", s)
		}
		h.Next(output)
		chip.SetTemperature(degrees(31))
		if !chip.AlertPin() {
			t.Error("the alert's limits are lost")
		}
	})
}

// TestHang: a transaction that does not end is the only one on its bus, for
// both chips, however often they are tried.
func TestHang(t *testing.T) {
	bubble(t, func(t *testing.T) {
		machine, ambient := lm75test.New(lm75.TMP105, 0x48), lm75test.New(lm75.LM75, 0x49)
		b := newBoard(t, map[uint16]i2c.Bus{0x48: machine, 0x49: ambient})
		h := edgetest.Start(t, Kind(), &Settings{
			Machine: Source{Driver: "tmp105", Bus: b.name},
			Ambient: &Source{Driver: "lm75", Bus: b.name, Address: 0x49},
		}, "")
		if m := climate(t, h.Next(output)); *m.Machine.Temperature != 25 || *m.Ambient.Temperature != 25 || m.Ambient.Humidity != nil {
			t.Errorf("%+v", m)
		}

		release := make(chan struct{})
		b.set(func(b *board) { b.hang = release })
		before := b.transactions()
		h.Eventually(cause("machine: I2C bus "+b.name+" hangs", "tmp105, 0x48", "SDA or SCL"))
		time.Sleep(10 * time.Minute)
		if n := b.transactions() - before; n != 1 {
			t.Errorf("%d transactions were begun while one hung", n)
		}
		if s := h.Status(); s.Counters["readings_failed"] < 10 || s.Restarts != 0 || len(h.Stuck()) != 0 {
			t.Errorf("%+v, stuck %v", s, h.Stuck())
		}
		h.None(output)

		b.set(func(b *board) { b.hang = nil })
		machine.SetTemperature(degrees(40))
		close(release)
		if m := climate(t, h.Next(output)); *m.Machine.Temperature != 40 {
			t.Errorf("%+v", m)
		}
		h.Eventually(healthy)
	})
}

// TestHangAtTheEnd: a module that ends, or starts again, while a transaction
// hangs does not wait for it, nor does it begin another one.
func TestHangAtTheEnd(t *testing.T) {
	bubble(t, func(t *testing.T) {
		chip := lm75test.New(lm75.TMP102, 0x48)
		b := newBoard(t, map[uint16]i2c.Bus{0x48: chip})
		release := make(chan struct{})
		b.set(func(b *board) { b.hang = release })
		settings := &Settings{Machine: Source{Driver: "tmp102", Bus: b.name}}
		first := edgetest.Start(t, Kind(), settings, "")
		first.Eventually(cause("hangs"))
		stopped := time.Now()
		first.Stop()
		if d := time.Since(stopped); d > 1500*time.Millisecond {
			t.Errorf("took %v to end", d)
		}

		second := edgetest.Start(t, Kind(), settings, "")
		second.Eventually(cause("hangs"))
		if n := b.transactions(); n != 1 {
			t.Errorf("%d transactions", n)
		}
		b.set(func(b *board) { b.hang = nil })
		close(release)
		second.Next(output)
		second.Eventually(healthy)
	})
}

// TestTwoHangsAtTheEnd: two buses that hang are waited for at the same time.
func TestTwoHangsAtTheEnd(t *testing.T) {
	bubble(t, func(t *testing.T) {
		release := make(chan struct{})
		a, b := newBoard(t, nil), newBoard(t, nil)
		for _, b := range []*board{a, b} {
			b.set(func(b *board) { b.hang = release })
		}
		h := edgetest.Start(t, Kind(), &Settings{
			Machine: Source{Driver: "tmp102", Bus: a.name}, Ambient: &Source{Driver: "tmp102", Bus: b.name},
		}, "")
		h.Eventually(cause("machine: I2C bus "+a.name+" hangs", "; ambient: I2C bus "+b.name+" hangs"))
		stopped := time.Now()
		h.Stop()
		if d := time.Since(stopped); d > 1500*time.Millisecond {
			t.Errorf("took %v to end", d)
		}
		close(release)
		synctest.Wait()
	})
}

// TestHangThatNobodyWaitsFor: the transaction closes the bus when it comes back
// after its module ended.
func TestHangThatNobodyWaitsFor(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newBoard(t, map[uint16]i2c.Bus{0x48: lm75test.New(lm75.TMP102, 0x48)})
		release := make(chan struct{})
		b.set(func(b *board) { b.hang = release })
		h := edgetest.Start(t, Kind(), &Settings{Machine: Source{Driver: "tmp102", Bus: b.name}}, "")
		h.Eventually(cause("hangs"))
		h.Stop()
		close(release)
		synctest.Wait()
		b.set(func(b *board) {
			if b.open != 0 {
				t.Error("the bus was left open")
			}
		})
	})
}

// TestBusyChip: a BME280 whose measurement never ends does not hold the module
// in its driver's loop.
func TestBusyChip(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newBoard(t, map[uint16]i2c.Bus{0x76: busyBME{}})
		h := edgetest.Start(t, Kind(), &Settings{Machine: Source{Driver: "bme280", Bus: b.name}}, "")
		h.Eventually(cause("bme280 at 0x76 on I2C bus " + b.name + " did not finish in 2s"))
	})
}

type busyBME struct{}

func (busyBME) Tx(_ uint16, w, r []byte) error {
	time.Sleep(time.Millisecond)
	switch {
	case len(r) == 0:
	case w[0] == 0xd0:
		r[0] = 0x60
	case w[0] == 0xf2:
		r[0] = 3
	case w[0] == 0xf3:
		r[0] = 8
	}
	return nil
}

func (busyBME) SetSpeed(physic.Frequency) error { return nil }
func (busyBME) String() string                  { return "busy BME280" }

// TestAmbientAloneFails: messages go on without the air.
func TestAmbientAloneFails(t *testing.T) {
	bubble(t, func(t *testing.T) {
		machine, ambient := lm75test.New(lm75.TMP102, 0x48), lm75test.New(lm75.TMP102, 0x49)
		b := newBoard(t, map[uint16]i2c.Bus{0x48: machine, 0x49: ambient})
		h := edgetest.Start(t, Kind(), &Settings{
			Machine: Source{Driver: "tmp102", Bus: b.name},
			Ambient: &Source{Driver: "tmp102", Bus: b.name, Address: 0x49},
		}, `{"SendInterval":1}`)
		has := func(want bool) {
			t.Helper()
			m := climate(t, h.Next(output))
			if *m.Machine.Temperature != 25 || (m.Ambient != nil) != want {
				t.Errorf("ambient is %+v", m.Ambient)
			}
		}
		has(true)
		ambient.Unplug()
		has(false)
		time.Sleep(10 * time.Minute)
		if n := h.Status().Counters["readings_failed"]; n > 600/7+10 {
			t.Errorf("tried %d times in ten minutes: with every message, not with pauses", n)
		}
		for range 600 {
			has(false)
		}
		h.Eventually(cause("ambient: no answer from tmp102 at 0x49"))
		if c := h.Status().Cause; strings.Contains(c, "machine") {
			t.Errorf("the machine is blamed: %s", c)
		}
		has(false)
		ambient.Plug()
		h.Eventually(healthy)
		for climate(t, h.Next(output)).Ambient == nil {
			continue // from before
		}
	})
}

// TestImplausible: a value that the chip cannot have measured is not sent.
func TestImplausible(t *testing.T) {
	set := func(r []byte, v ...byte) { copy(r, v) }
	measurement := append([]byte(nil), bmxMeasurement...)
	bme := func(pressureAndTemperature ...byte) i2c.Bus {
		return registers(func(reg byte, r []byte) {
			switch reg {
			case 0xd0:
				set(r, 0x58)
			case 0x88:
				set(r, bmxCalibration...)
			case 0xf7:
				set(r, pressureAndTemperature...)
			}
		})
	}
	hot := append(append([]byte(nil), measurement[:3]...), 0xff, 0xff, 0xf0)
	thin := append([]byte{0xc0, 0x00, 0x00}, measurement[3:]...)
	for _, c := range []struct {
		name   string
		driver string
		addr   uint16
		chip   i2c.Bus
		want   string
	}{
		{"BMP280 too hot", "bmp280", 0x76, bme(hot...), "implausible value: a temperature of"},
		{"BMP280 in thin air", "bmp280", 0x76, bme(thin...), "implausible value: a pressure of"},
		{"MCP9808 too hot", "mcp9808", 0x18, registers(func(reg byte, r []byte) {
			switch reg {
			case 6:
				set(r, 0, 0x54)
			case 8:
				set(r, 3)
			case 5:
				set(r, 0x0f, 0xff)
			}
		}), "implausible value: a temperature of 255.9"},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				b := newBoard(t, map[uint16]i2c.Bus{c.addr: c.chip})
				h := edgetest.Start(t, Kind(), &Settings{Machine: Source{Driver: c.driver, Bus: b.name}}, "")
				h.Eventually(cause(c.want, c.driver))
				time.Sleep(time.Minute)
				h.None(output)
				if s := h.Status(); s.Counters["readings_rejected"] < 3 || s.Counters["readings_failed"] != 0 {
					t.Errorf("%+v", s.Counters)
				}
			})
		})
	}
}

// registers is a chip whose reads are filled in by a function.
type registers func(reg byte, r []byte)

func (f registers) Tx(_ uint16, w, r []byte) error {
	if len(r) > 0 {
		f(w[0], r)
	}
	return nil
}
func (registers) SetSpeed(physic.Frequency) error { return nil }
func (registers) String() string                  { return "registers" }

// TestLostSettings: BME280 and MCP9808 that lost theirs are set up again before
// they are believed.
func TestLostSettings(t *testing.T) {
	t.Run("BME280", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			chip := &bme280{}
			b := newBoard(t, map[uint16]i2c.Bus{0x76: chip})
			h := edgetest.Start(t, Kind(), &Settings{Machine: Source{Driver: simulated}, Ambient: &Source{Driver: "bme280", Bus: b.name}}, "")
			for range 3 {
				m := climate(t, h.Next(output))
				if m.Ambient == nil || *m.Ambient.Humidity != 65.31 {
					t.Errorf("ambient %+v", m.Ambient)
				}
				chip.powerCycle()
			}
			if n := h.Status().Counters["sensor_resets"]; n < 2 {
				t.Errorf("%d resets were noticed", n)
			}
		})
	})
	t.Run("MCP9808", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			var mu sync.Mutex
			resolution := byte(3)
			chip := &mcp9808Fake{mu: &mu, resolution: &resolution}
			b := newBoard(t, map[uint16]i2c.Bus{0x18: chip})
			h := edgetest.Start(t, Kind(), &Settings{Machine: Source{Driver: "mcp9808", Resolution: 9, Bus: b.name}}, "")
			h.Next(output)
			mu.Lock()
			resolution = 3
			mu.Unlock()
			h.Next(output)
			if n := h.Status().Counters["sensor_resets"]; n != 1 {
				t.Errorf("%d resets were noticed", n)
			}
			mu.Lock()
			defer mu.Unlock()
			if resolution != 0 {
				t.Error("the resolution was not set again")
			}
		})
	})
}

// bme280 is a BME280 as far as its humidity control goes: without it, it
// measures none and says 0x8000.
type bme280 struct {
	mu       sync.Mutex
	humidity byte
}

func (c *bme280) powerCycle() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.humidity = 0
}

func (c *bme280) Tx(_ uint16, w, r []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(r) == 0 { // pairs of register and value
		for i := 0; i+1 < len(w); i += 2 {
			if w[i] == 0xf2 {
				c.humidity = w[i+1]
			}
		}
		return nil
	}
	switch w[0] {
	case 0xd0:
		r[0] = 0x60
	case 0x88:
		copy(r, bmxCalibration)
	case 0xe1:
		copy(r, bmeCalibration)
	case 0xf2:
		r[0] = c.humidity
	case 0xf7:
		copy(r, bmxMeasurement)
		if c.humidity != 0 {
			copy(r[6:], bmeHumidity)
		} else {
			copy(r[6:], []byte{0x80, 0})
		}
	}
	return nil
}
func (*bme280) SetSpeed(physic.Frequency) error { return nil }
func (*bme280) String() string                  { return "BME280" }

// mcp9808Fake keeps its resolution register.
type mcp9808Fake struct {
	mu         *sync.Mutex
	resolution *byte
}

func (c *mcp9808Fake) Tx(_ uint16, w, r []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case w[0] == 8 && len(w) > 1:
		*c.resolution = w[1]
	case len(r) == 0:
	case w[0] == 8:
		r[0] = *c.resolution
	case w[0] == 6:
		copy(r, []byte{0, 0x54})
	case w[0] == 5:
		copy(r, []byte{0x01, 0x90})
	}
	return nil
}
func (*mcp9808Fake) SetSpeed(physic.Frequency) error { return nil }
func (*mcp9808Fake) String() string                  { return "MCP9808" }

// TestOtherChip: something else answers at the address.
func TestOtherChip(t *testing.T) {
	for _, c := range []struct {
		driver string
		addr   uint16
		want   string
	}{
		{"tmp102", 0x48, "does not behave like one"},
		{"mcp9808", 0x18, "manufacturer number is 0x0000"},
		{"bme280", 0x76, "unexpected chip id 0"},
	} {
		t.Run(c.driver, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				b := newBoard(t, map[uint16]i2c.Bus{c.addr: registers(func(byte, []byte) {})})
				h := edgetest.Start(t, Kind(), &Settings{Machine: Source{Driver: c.driver, Bus: b.name}}, "")
				h.Eventually(cause(c.want))
			})
		})
	}
}

// TestBusThatCannotBeOpened: each cause has its own advice, and the bus is
// found when it comes.
func TestBusThatCannotBeOpened(t *testing.T) {
	t.Run("unknown name", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			boards++
			name := fmt.Sprint("nothing-", boards)
			h := edgetest.Start(t, Kind(), &Settings{Machine: Source{Driver: "tmp102", Bus: name}}, "")
			h.Eventually(cause("opening I2C bus "+name, "check the name"))
		})
	})
	t.Run("comes later", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			b := newBoard(t, map[uint16]i2c.Bus{0x48: lm75test.New(lm75.TMP102, 0x48)})
			b.set(func(b *board) { b.missing = errors.New("the adapter is unplugged") })
			h := edgetest.Start(t, Kind(), &Settings{Machine: Source{Driver: "tmp102", Bus: b.name}}, "")
			h.Eventually(cause("opening", "the adapter is unplugged"))
			b.set(func(b *board) { b.missing = nil })
			h.Next(output)
			h.Eventually(healthy)
			b.set(func(b *board) { b.fault = syscall.ENODEV })
			h.Eventually(cause("no such device"))
			b.set(func(b *board) { b.fault, b.opened = nil, 0 })
			h.Eventually(healthy)
			b.set(func(b *board) {
				if b.opened != 1 {
					t.Errorf("after the failure the bus was opened %d times", b.opened)
				}
			})
		})
	})
	t.Run("not enabled", func(t *testing.T) {
		boards++
		number := 1000 + boards
		if _, err := os.Stat(devicePath(number)); err == nil {
			t.Skipf("%s exists here", devicePath(number))
		}
		bubble(t, func(t *testing.T) {
			h := edgetest.Start(t, Kind(), &Settings{Machine: Source{Driver: "tmp102", Bus: fmt.Sprint(number)}}, "")
			h.Eventually(cause(devicePath(number)+" is not there", "dtparam=i2c_arm=on", "i2c-dev"))
		})
	})
}

func TestAdvice(t *testing.T) {
	i := &instrument{source: Source{Driver: "tmp105", Bus: "1", Address: 0x48}, port: &port{bus: &bus{name: "1"}}}
	for _, c := range []struct {
		cause error
		want  string
	}{
		{&openError{&os.PathError{Op: "open", Path: "/dev/i2c-1", Err: syscall.EACCES}}, "no permission to use /dev/i2c-1 (open /dev/i2c-1: permission denied): put the service's user into the group i2c, and allow char-i2c in its unit if it restricts devices"},
		{&openError{errors.New("broken")}, "opening I2C bus 1: broken"},
		{lm75test.ErrNACK, "no answer from tmp105 at 0x48 on I2C bus 1 (remote I/O error): check its wiring, its power and its address; `i2cdetect -y 1` lists the addresses that answer"},
	} {
		i.port.err = c.cause
		if got := i.explain(errors.New("a driver that hides it")).Error(); got != c.want {
			t.Errorf("got  %s\nwant %s", got, c.want)
		}
	}
}

// TestRealChipHasNoWarmUp: reset says so and does nothing.
func TestRealChipHasNoWarmUp(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newBoard(t, map[uint16]i2c.Bus{0x48: lm75test.New(lm75.TMP105, 0x48)})
		h := edgetest.Start(t, Kind(), &Settings{Machine: Source{Driver: "tmp105", Bus: b.name}}, "")
		status, response := h.Invoke(reset, "{}")
		if status != 200 || !strings.Contains(string(response), "not simulated") {
			t.Errorf("%d %s", status, response)
		}
		if n := h.Status().Counters["resets"]; n != 0 {
			t.Errorf("%d resets", n)
		}
		if r := h.Status().Reported; r["MachineSensor"] != "tmp105 at 0x48 on I2C bus "+b.name || r["AmbientSensor"] != nil {
			t.Errorf("reported %v", r)
		}
	})
}

// TestPanickingBus: a panic in a bus driver is a fault like any other.
func TestPanickingBus(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newBoard(t, map[uint16]i2c.Bus{0x48: registers(func(byte, []byte) { panic("ouch") })})
		h := edgetest.Start(t, Kind(), &Settings{Machine: Source{Driver: "tmp102", Bus: b.name}}, "")
		h.Eventually(cause("panic in the driver of the bus: ouch"))
		b.set(func(b *board) { b.chips[0x48] = lm75test.New(lm75.TMP102, 0x48); b.under = 0 })
		h.Eventually(healthy)
	})
}
