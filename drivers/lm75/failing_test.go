package lm75_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"periph.io/x/conn/v3/i2c"
	"periph.io/x/conn/v3/physic"

	"tuxwatch/drivers/lm75"
	"tuxwatch/drivers/lm75/lm75test"
)

// failing is a bus on which only the first transactions work.
type failing struct {
	i2c.Bus
	works int
}

var errFails = errors.New("the bus fails")

func (f *failing) Tx(addr uint16, w, r []byte) error {
	if f.works--; f.works < 0 {
		return errFails
	}
	return f.Bus.Tx(addr, w, r)
}

// TestEveryTransactionMayFail lets each transaction of each operation fail in
// turn: the bus's error comes out, and the operation works when it is repeated
// on a bus that works.
func TestEveryTransactionMayFail(t *testing.T) {
	for _, opts := range []lm75.Opts{
		{Model: lm75.TMP105, Resolution: 9},
		{Model: lm75.TMP105, Resolution: 9, OneShot: true},
		{Model: lm75.TMP102},
		{Model: lm75.TMP102, OneShot: true},
	} {
		halted := func(d *lm75.Dev, f func() error) func() error {
			return func() error { return errors.Join(d.Halt(), f()) }
		}
		sense := func(d *lm75.Dev) func() error {
			return func() error { return d.Sense(&physic.Env{}) }
		}
		for name, operation := range map[string]func(*lm75.Dev) func() error{
			"Sense":            sense,
			"Sense after Halt": func(d *lm75.Dev) func() error { return halted(d, sense(d)) },
			"Verify":           func(d *lm75.Dev) func() error { return d.Verify },
			"Halt":             func(d *lm75.Dev) func() error { return d.Halt },
			"SetAlert":         func(d *lm75.Dev) func() error { return func() error { return d.SetAlert(lm75.Alert{FaultQueue: 4}) } },
			"Alert":            func(d *lm75.Dev) func() error { return func() error { _, err := d.Alert(); return err } },
			"Alerting": func(d *lm75.Dev) func() error {
				return func() error {
					if _, err := d.Alerting(); !errors.Is(err, lm75.ErrUnsupported) {
						return err
					}
					return nil
				}
			},
		} {
			t.Run(fmt.Sprintf("%v one-shot %v %s", opts.Model, opts.OneShot, name), func(t *testing.T) {
				t.Parallel()
				bus := &failing{Bus: lm75test.New(opts.Model, 0x48), works: 1000}
				dev, err := lm75.New(bus, 0x48, &opts)
				if err != nil {
					t.Fatal(err)
				}
				do := operation(dev)
				const most = 20
				for works := range most {
					bus.works = works
					err := do()
					if err == nil {
						break
					}
					if !errors.Is(err, errFails) {
						t.Fatalf("with %d transactions that work: %v", works, err)
					}
					if works == most-1 {
						t.Fatal("never works")
					}
				}
				bus.works = 1000
				if err := do(); err != nil {
					t.Errorf("on a bus that works again: %v", err)
				}
			})
		}
	}
	t.Run("New", func(t *testing.T) {
		for works := range 7 {
			bus := &failing{Bus: lm75test.New(lm75.TMP102, 0x48), works: works}
			if _, err := lm75.New(bus, 0x48, &lm75.Opts{Model: lm75.TMP102}); !errors.Is(err, errFails) {
				t.Errorf("with %d transactions that work: %v", works, err)
			}
		}
	})
	t.Run("SenseContinuous", func(t *testing.T) {
		bus := &failing{Bus: lm75test.New(lm75.TMP102, 0x48), works: 8}
		dev, err := lm75.New(bus, 0x48, &lm75.Opts{Model: lm75.TMP102})
		if err != nil {
			t.Fatal(err)
		}
		envs, err := dev.SenseContinuous(40 * time.Millisecond)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for range envs {
			n++
		}
		if err := dev.Halt(); n != 1 || !errors.Is(err, errFails) {
			t.Errorf("%d readings, then %v", n, err)
		}
	})
}
