package lm75_test

import (
	"errors"
	"fmt"
	"testing"

	"periph.io/x/conn/v3/physic"
	"pgregory.net/rapid"

	"tuxwatch/drivers/lm75"
	"tuxwatch/drivers/lm75/lm75test"
)

// variant is a model in one of its resolutions, with the shortest waiting time.
type variant struct {
	opts   lm75.Opts
	step   physic.Temperature // of readings
	limit  physic.Temperature // of limits
	lo, hi int64              // sixteenths of a degree Celsius
}

var variants = []variant{
	{lm75.Opts{Model: lm75.LM75}, physic.Kelvin / 2, physic.Kelvin / 2, -55 * 16, 125 * 16},
	{lm75.Opts{Model: lm75.LM75A, Resolution: 10}, physic.Kelvin / 4, physic.Kelvin / 2, -55 * 16, 125 * 16},
	{lm75.Opts{Model: lm75.LM75B}, physic.Kelvin / 8, physic.Kelvin / 2, -55 * 16, 125 * 16},
	{lm75.Opts{Model: lm75.TMP105, Resolution: 9}, physic.Kelvin / 2, physic.Kelvin / 16, -55 * 16, 128*16 - 1},
	{lm75.Opts{Model: lm75.TMP105, Resolution: 10}, physic.Kelvin / 4, physic.Kelvin / 16, -55 * 16, 128*16 - 1},
	{lm75.Opts{Model: lm75.TMP105, Resolution: 11}, physic.Kelvin / 8, physic.Kelvin / 16, -55 * 16, 128*16 - 1},
	{lm75.Opts{Model: lm75.TMP105, Resolution: 12}, physic.Kelvin / 16, physic.Kelvin / 16, -55 * 16, 128*16 - 1},
	{lm75.Opts{Model: lm75.TMP102}, physic.Kelvin / 16, physic.Kelvin / 16, -55 * 16, 128*16 - 1},
	{lm75.Opts{Model: lm75.TMP102, Extended: true}, physic.Kelvin / 16, physic.Kelvin / 16, -55 * 16, 150 * 16},
}

func (v variant) String() string {
	return fmt.Sprintf("%v %d bits extended %v", v.opts.Model, v.opts.Resolution, v.opts.Extended)
}

const zero = physic.ZeroCelsius

// TestReadingsAreTheTemperatureInTheChipsStep: whatever the chip is exposed to,
// the reading is that temperature, rounded down to the resolution.
func TestReadingsAreTheTemperatureInTheChipsStep(t *testing.T) {
	for _, v := range variants {
		t.Run(v.String(), func(t *testing.T) {
			t.Parallel()
			chip := lm75test.New(v.opts.Model, 0x49)
			dev, err := lm75.New(chip, 0x49, &v.opts)
			if err != nil {
				t.Fatal(err)
			}
			rapid.Check(t, func(t *rapid.T) {
				is := zero + physic.Temperature(rapid.Int64Range(v.lo, v.hi).Draw(t, "sixteenths"))*physic.Kelvin/16
				chip.SetTemperature(is)
				var e physic.Env
				if err := dev.Sense(&e); err != nil {
					t.Fatal(err)
				}
				if d := is - e.Temperature; d < 0 || d >= v.step || (e.Temperature-zero)%v.step != 0 {
					t.Fatalf("%v was read as %v with a step of %d nK", is, e.Temperature, v.step)
				}
			})
		})
	}
}

// TestLimitsComeBack: limits are kept to within half a step, and a limit that
// is a multiple of the step exactly.
func TestLimitsComeBack(t *testing.T) {
	for _, v := range variants {
		t.Run(v.String(), func(t *testing.T) {
			dev, err := lm75.New(lm75test.New(v.opts.Model, 0x49), 0x49, &v.opts)
			if err != nil {
				t.Fatal(err)
			}
			rapid.Check(t, func(t *rapid.T) {
				draw := rapid.Int64Range(int64(physic.Kelvin/16)*v.lo, int64(physic.Kelvin/16)*v.hi)
				a, b := draw.Draw(t, "low"), draw.Draw(t, "high")
				want := lm75.Alert{Low: zero + physic.Temperature(min(a, b)), High: zero + physic.Temperature(max(a, b)), FaultQueue: 1}
				if err := dev.SetAlert(want); err != nil {
					t.Fatal(err)
				}
				got, err := dev.Alert()
				if err != nil {
					t.Fatal(err)
				}
				for _, pair := range [][2]physic.Temperature{{want.Low, got.Low}, {want.High, got.High}} {
					if d := pair[0] - pair[1]; d > v.limit/2 || d < -v.limit/2 {
						t.Fatalf("limit %v came back as %v", pair[0], pair[1])
					}
				}
				if err := dev.SetAlert(got); err != nil {
					t.Fatal(err)
				}
				if again, err := dev.Alert(); err != nil || again != got {
					t.Fatalf("%+v came back as %+v, %v", got, again, err)
				}
			})
		})
	}
}

// TestAlertPin drives the pin with the driver's settings through the simulated
// chip.
func TestAlertPin(t *testing.T) {
	at := func(c *lm75test.Chip, degrees int64) {
		c.SetTemperature(zero + physic.Temperature(degrees)*physic.Kelvin)
	}
	for _, model := range []lm75.Model{lm75.LM75, lm75.TMP105, lm75.TMP102} {
		t.Run(model.String(), func(t *testing.T) {
			chip := lm75test.New(model, 0x48)
			alert := lm75.Alert{High: zero + 30*physic.Kelvin, Low: zero + 28*physic.Kelvin}
			dev, err := lm75.New(chip, 0x48, &lm75.Opts{Model: model, Alert: alert})
			if err != nil {
				t.Fatal(err)
			}
			for _, step := range []struct {
				degrees int64
				want    bool
			}{{29, false}, {30, true}, {29, true}, {28, true}, {27, false}, {29, false}} {
				at(chip, step.degrees)
				if got := chip.AlertPin(); got != step.want {
					t.Errorf("comparator at %d: %v", step.degrees, got)
				}
				if model == lm75.TMP102 {
					if got, err := dev.Alerting(); err != nil || got != step.want {
						t.Errorf("Alerting at %d: %v, %v", step.degrees, got, err)
					}
				}
			}
			alert.Mode = lm75.Interrupt
			if err := dev.SetAlert(alert); err != nil {
				t.Fatal(err)
			}
			for _, degrees := range []int64{31, 27} {
				at(chip, degrees)
				if !chip.AlertPin() {
					t.Errorf("interrupt at %d: pin is not active", degrees)
				}
				if err := dev.Verify(); err != nil {
					t.Fatal(err)
				}
				if chip.AlertPin() {
					t.Errorf("interrupt at %d: a read did not clear the pin", degrees)
				}
			}
		})
	}
}

func TestPowerCycleIsNoticedAndNewHeals(t *testing.T) {
	for _, opts := range []lm75.Opts{
		{Model: lm75.TMP105},
		{Model: lm75.LM75, Alert: lm75.Alert{High: zero + 40*physic.Kelvin, Low: zero + 35*physic.Kelvin}},
		{Model: lm75.TMP102, Extended: true},
	} {
		t.Run(opts.Model.String(), func(t *testing.T) {
			chip := lm75test.New(opts.Model, 0x48)
			dev, err := lm75.New(chip, 0x48, &opts)
			if err != nil {
				t.Fatal(err)
			}
			if err := dev.Verify(); err != nil {
				t.Fatal(err)
			}
			chip.PowerCycle()
			if err := dev.Verify(); !errors.Is(err, lm75.ErrLost) {
				t.Fatalf("after a power cycle: %v", err)
			}
			if dev, err = lm75.New(chip, 0x48, &opts); err != nil {
				t.Fatal(err)
			}
			if err := dev.Verify(); err != nil {
				t.Error(err)
			}
			chip.Unplug()
			if err := dev.Sense(&physic.Env{}); !errors.Is(err, lm75test.ErrNACK) {
				t.Errorf("unplugged: %v", err)
			}
			chip.Plug()
			if _, err = lm75.New(chip, 0x48, &opts); err != nil {
				t.Error(err)
			}
		})
	}
}
