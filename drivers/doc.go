// Package drivers is the parent of tuxwatch's drivers for chips and cameras,
// one package each, in periph's style: for a chip, New(bus, address, *Opts)
// returns a *Dev that measures in the units of periph.io/x/conn/v3/physic and
// has String and Halt.
//
// A driver knows its hardware and nothing else: it starts no retries, writes no
// logs and imports nothing from tuxwatch's firmware, so that any program built
// on periph can use it. A caller that must survive a chip that is unplugged
// calls New again; that is enough to bring a chip back that lost its registers.
//
// There is no code here. Start with package lm75.
package drivers
