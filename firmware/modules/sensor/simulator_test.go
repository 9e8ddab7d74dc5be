package sensor

import (
	"math"
	"testing"

	"pgregory.net/rapid"
)

// tiny is more than the rounding of a sum of two temperatures.
const tiny = 1e-9

// TestSimulator holds a run of values against the workshop's description, for
// any seed.
func TestSimulator(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := newSimulator(rapid.Uint64Min(1).Draw(t, "seed"))
		before, pressure := s.machine()
		if before != 21 || pressure != 1 {
			t.Fatalf("starts with %v °C, %v bar", before, pressure)
		}
		const n = 400
		var warmedUp bool
		for i := range n {
			temperature, pressure := s.machine()
			step := temperature - before
			if before < 100 && (step < -0.25-tiny || step > 1.25+tiny) {
				t.Fatalf("warming up, %v followed %v", temperature, before)
			}
			if before >= 100 && math.Abs(step) > 0.5+tiny {
				t.Fatalf("warm, %v followed %v", temperature, before)
			}
			if want := 1 + 9*(temperature-21)/79; math.Abs(pressure-want) > tiny {
				t.Fatalf("%v bar at %v °C, want %v", pressure, temperature, want)
			}
			if warmedUp = warmedUp || temperature >= 100; warmedUp && temperature < 95 {
				t.Fatalf("cooled down to %v after warming up", temperature)
			}
			before = temperature

			air, humidity := s.ambient()
			if math.Abs(air-21) > 0.5 {
				t.Fatalf("value %d: air of %v °C", i, air)
			}
			if humidity != 24 && humidity != 25 && humidity != 26 {
				t.Fatalf("value %d: humidity of %v", i, humidity)
			}
		}
		if !warmedUp { // 79 °C at 0.5 on average take 158 values
			t.Fatalf("still at %v °C after %d values", before, n)
		}
		s.reset()
		if temperature, pressure := s.machine(); temperature != 21 || pressure != 1 {
			t.Fatalf("after a reset: %v °C, %v bar", temperature, pressure)
		}
		if temperature, _ := s.machine(); temperature < 20.75 || temperature > 22.25 {
			t.Fatalf("second value after a reset: %v °C", temperature)
		}
	})
}

// TestSimulatorsSpread: over many values each range is used to its ends.
func TestSimulatorsSpread(t *testing.T) {
	s := newSimulator(1)
	type bounds struct{ lowest, highest float64 }
	see := func(b *bounds, v float64) { b.lowest, b.highest = min(b.lowest, v), max(b.highest, v) }
	inf := math.Inf(1)
	warmingUp, warm, air := bounds{inf, -inf}, bounds{inf, -inf}, bounds{inf, -inf}
	humidities := map[float64]int{}
	const n = 20000
	before, _ := s.machine()
	for range n {
		temperature, _ := s.machine()
		if before < 100 {
			see(&warmingUp, temperature-before)
		} else {
			see(&warm, temperature-before)
		}
		before = temperature
		a, h := s.ambient()
		see(&air, a)
		humidities[h]++
	}
	for _, c := range []struct {
		name            string
		got             bounds
		lowest, highest float64
	}{
		{"warming up", warmingUp, -0.25, 1.25}, {"warm", warm, -0.5, 0.5}, {"air", air, 20.5, 21.5},
	} {
		if math.Abs(c.got.lowest-c.lowest) > 0.01 || math.Abs(c.got.highest-c.highest) > 0.01 {
			t.Errorf("%s: %v to %v, want %v to %v", c.name, c.got.lowest, c.got.highest, c.lowest, c.highest)
		}
	}
	for h := 24.0; h <= 26; h++ {
		if share := float64(humidities[h]) / n; math.Abs(share-1.0/3) > 0.02 {
			t.Errorf("humidity %v in %v of the values", h, share)
		}
	}
}

func TestSeed(t *testing.T) {
	values := func(seed uint64) (v [20]float64) {
		s := newSimulator(seed)
		for i := range v {
			v[i], _ = s.machine()
		}
		return v
	}
	if values(7) != values(7) {
		t.Error("the same seed gave different values")
	}
	if values(7) == values(8) {
		t.Error("different seeds gave the same values")
	}
	if values(0) == values(0) {
		t.Error("without a seed the values repeat")
	}
}
