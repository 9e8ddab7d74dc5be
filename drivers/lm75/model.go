package lm75

import (
	"fmt"
	"time"

	"periph.io/x/conn/v3/physic"
)

// Model is a chip of the family.
type Model uint8

// The chips that the package knows.
const (
	// LM75 measures in steps of 0.5 °C (9 bits).
	LM75 Model = iota
	// LM75A is made with 9 bits (National, TI) and with 11 bits (NXP). The
	// default is 9, which is right for both; ask for 11 with NXP's.
	LM75A
	// LM75B measures in steps of 0.125 °C (11 bits).
	LM75B
	// TMP105 measures with 9 to 12 bits; each bit more doubles the time a
	// conversion takes.
	TMP105
	// TMP102 measures with 12 bits, or with 13 in extended mode, which reaches
	// 150 °C.
	TMP102
)

// String returns the name that is printed on the chip.
func (m Model) String() string {
	if s, ok := specs[m]; ok {
		return s.name
	}
	return fmt.Sprintf("Model(%d)", uint8(m))
}

// spec is what tells one model from another.
type spec struct {
	name string
	// bits lists the resolutions that can be chosen and how long a conversion
	// takes at most with each; best is the default.
	conversion map[int]time.Duration
	best       int
	// limitBits is the resolution of the limit registers.
	limitBits int
	// unused masks the bits of the temperature register that always read 0, by
	// which a reading of a floating bus (all ones) is recognised. 0 where the
	// datasheet leaves them undefined.
	unused uint16
	// setsResolution is true where the resolution is chosen in the chip (R1,
	// R0); elsewhere the bits that were not asked for are masked here.
	setsResolution bool
	oneShot        bool
	min, max       physic.Temperature
}

const (
	ms      = time.Millisecond
	degree  = physic.Kelvin
	zero    = physic.ZeroCelsius
	tmpMax  = zero + 128*degree - degree/16 // 7FFh of 12 bits
	extMax  = zero + 150*degree
	coldest = zero - 55*degree
)

var specs = map[Model]spec{
	LM75: {
		name: "LM75", conversion: map[int]time.Duration{9: 300 * ms}, best: 9,
		limitBits: 9, min: coldest, max: zero + 125*degree,
	},
	LM75A: {
		name: "LM75A", conversion: map[int]time.Duration{9: 300 * ms, 10: 300 * ms, 11: 300 * ms}, best: 9,
		limitBits: 9, min: coldest, max: zero + 125*degree,
	},
	LM75B: {
		// A conversion takes 10 ms, but the chip starts one only every 100 ms.
		name: "LM75B", conversion: map[int]time.Duration{9: 110 * ms, 10: 110 * ms, 11: 110 * ms}, best: 11,
		limitBits: 9, min: coldest, max: zero + 125*degree,
	},
	TMP105: {
		name: "TMP105", conversion: map[int]time.Duration{9: 38 * ms, 10: 75 * ms, 11: 150 * ms, 12: 300 * ms}, best: 12,
		limitBits: 12, unused: 0x000f, setsResolution: true, oneShot: true, min: coldest, max: tmpMax,
	},
	TMP102: {
		name: "TMP102", conversion: map[int]time.Duration{12: 35 * ms}, best: 12,
		limitBits: 12, unused: 0x000f, oneShot: true, min: coldest, max: tmpMax,
	},
}
