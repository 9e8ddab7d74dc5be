// Package led shows on the board's own light (ACT on a Raspberry Pi) how the
// device is doing, for people who stand before it without a computer.
//
// The kernel does the blinking: a [Pattern] is a trigger of its LED subsystem
// with settings (Documentation/leds/leds-class.rst), so that a busy system keeps
// the rhythm and a program that died does not freeze it unseen. [Show] follows
// the daemon and is where to start; [Find] finds the light.
//
// It is not for lights of one's own on the header's pins.
package led
