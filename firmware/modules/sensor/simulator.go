package sensor

import (
	"math/rand/v2"
	"sync"
)

// The simulated machine and air, with the numbers of IoT Edge's simulated
// temperature sensor.
const (
	machineColdest     = 21.0  // °C, where the warm-up starts
	machineHottest     = 100.0 // °C, where it ends
	pressureAtColdest  = 1.0   // bar
	pressureAtHottest  = 10.0  // bar
	ambientMean        = 21.0  // °C
	humidityLowest     = 24    // %
	humidityHighest    = 26    // %
	warmUpLeast        = -0.25 // °C a message
	warmUpMost         = 1.25  // °C a message
	fluctuation        = 0.5   // °C either way, of the warm machine and of the air
	pressurePerDegree  = (pressureAtHottest - pressureAtColdest) / (machineHottest - machineColdest)
	warmUpSpread       = warmUpMost - warmUpLeast
	fluctuationSpread  = 2 * fluctuation
	humidityDifference = humidityHighest - humidityLowest
)

// simulator is a machine that warms up from 21 °C and then stays near 100 °C,
// in a room of 21 °C.
type simulator struct {
	mu          sync.Mutex
	random      *rand.Rand
	temperature float64
	cold        bool // the next value is the first of a warm-up
}

// newSimulator returns a cold machine. The same seed gives the same values; 0
// gives others every time.
func newSimulator(seed uint64) *simulator {
	if seed == 0 {
		seed = rand.Uint64()
	}
	return &simulator{random: rand.New(rand.NewPCG(seed, 0)), cold: true}
}

// reset makes the next value the first of a new warm-up.
func (s *simulator) reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cold = true
}

// machine returns the machine's next temperature in °C and pressure in bar. The
// first of a warm-up is 21 °C and 1 bar.
//
// As in the workshop's simulator, a warm machine that falls below 100 °C warms
// up again, which keeps it near 100 °C for good.
func (s *simulator) machine() (temperature, pressure float64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.cold:
		s.cold = false
		s.temperature = machineColdest
	case s.temperature < machineHottest:
		s.temperature += warmUpLeast + warmUpSpread*s.random.Float64()
	default:
		s.temperature += -fluctuation + fluctuationSpread*s.random.Float64()
	}
	return s.temperature, pressureAtColdest + (s.temperature-machineColdest)*pressurePerDegree
}

// ambient returns the air's next temperature in °C and relative humidity in
// whole percent.
func (s *simulator) ambient() (temperature, humidity float64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	temperature = ambientMean - fluctuation + fluctuationSpread*s.random.Float64()
	return temperature, float64(humidityLowest + s.random.IntN(humidityDifference+1))
}
