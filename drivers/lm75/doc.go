// Package lm75 controls the thermometers of the LM75 family over I²C: LM75,
// LM75A, LM75B, TMP105 and TMP102.
//
// They share their four registers (temperature, configuration, and two limits
// between which the ALERT pin, called OS on the LM75, changes) and differ in
// resolution, conversion time and a few bits. Opts.Model says which one is
// there; the chips carry no identification that could be read.
//
// The package is not for reading the ALERT pin, which is a matter of GPIO, nor
// for waiting for a chip that is absent: New and Sense return the bus's error,
// and New may be called again.
//
// Start with New, which returns a *Dev; Dev is a physic.SenseEnv.
//
// # Datasheets
//
// LM75: National Semiconductor DS012658, April 2001.
//
// LM75A, LM75B: NXP, LM75A rev. 04 (July 2007), LM75B rev. 6.1 (February 2015).
//
// TMP105: Texas Instruments SLLS648D (September 2011).
//
// TMP102: Texas Instruments SBOS397C (October 2012).
package lm75
