package sensor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strconv"
	"time"

	"github.com/cenkalti/backoff/v5"

	"tuxwatch/drivers/lm75"
)

// instrument is a chip that comes and goes. It is set up when it is first read,
// and again after every failure, because a chip that was unplugged has lost its
// settings.
type instrument struct {
	role   string // "machine" or "ambient", for people
	source Source
	driver driver
	port   *port
	chip   chip // nil until it has been set up
	known  bool // the chip as it is set up now has been logged

	fault   error     // why the last reading failed; nil if it did not
	retryAt time.Time // when to read again after a fault
	pause   *backoff.ExponentialBackOff

	count func(counter string, n int) // the module's counters
	log   *slog.Logger
}

// read measures. On a failure it notes the fault, with what to do about it, and
// when to try again.
func (i *instrument) read(ctx context.Context) (reading, error) {
	wasSetUp := i.chip != nil
	r, err := i.try(ctx)
	if wasSetUp && (errors.Is(err, lm75.ErrLost) || errors.Is(err, errReset)) {
		// Without power for a moment, and back: that needs no pause.
		i.count("sensor_resets", 1)
		r, err = i.try(ctx)
	}
	if err == nil {
		if i.fault != nil {
			i.count("sensor_recoveries", 1)
		}
		if !i.known {
			i.known = true
			i.log.Info("chip is set up", "sensor", i.role, "chip", i.chip.name(), "source", i.source)
		}
		i.fault = nil
		i.pause.Reset()
		return r, nil
	}
	if ctx.Err() != nil {
		return reading{}, context.Cause(ctx)
	}
	if errors.Is(err, errImplausible) {
		i.count("readings_rejected", 1)
	} else {
		i.count("readings_failed", 1)
	}
	i.fault = fmt.Errorf("%s: %w", i.role, i.explain(err))
	i.retryAt = time.Now().Add(i.pause.NextBackOff())
	return reading{}, i.fault
}

func (i *instrument) try(ctx context.Context) (r reading, err error) {
	i.port.begin(ctx, time.Now().Add(readingLimit))
	if i.chip == nil {
		if i.chip, err = i.driver.open(i.port, i.source); err != nil {
			i.chip = nil
			return reading{}, err
		}
	}
	if r, err = i.chip.measure(); err != nil {
		i.chip, i.known = nil, false
	}
	return r, err
}

// explain says what is wrong and what to do about it. It says the same each
// time as long as the cause is the same.
func (i *instrument) explain(err error) error {
	bus := i.port.bus.name
	var open *openError
	cause := i.port.err // some drivers hide it
	switch {
	case errors.As(cause, &open):
		number, notKernel := strconv.Atoi(bus)
		switch {
		case errors.Is(open, fs.ErrNotExist):
			return fmt.Errorf("%s is not there (%w): enable I2C (on a Raspberry Pi dtparam=i2c_arm=on in config.txt, then a restart of the Pi) and load the kernel module i2c-dev", devicePath(number), open)
		case errors.Is(open, fs.ErrPermission):
			return fmt.Errorf("no permission to use %s (%w): put the service's user into the group i2c, and allow char-i2c in its unit if it restricts devices", devicePath(number), open)
		case notKernel != nil:
			return fmt.Errorf("opening %s: %w: check the name; `i2cdetect -l` lists the buses", busLabel(bus), open)
		default:
			return fmt.Errorf("opening %s: %w", busLabel(bus), open)
		}
	case errors.Is(cause, errHung):
		return fmt.Errorf("%s hangs (%w), noticed at %s, %#02x: a chip may be holding SDA or SCL low; check the wiring and switch the chips off and on", busLabel(bus), errHung, i.source.Driver, i.source.Address)
	case errors.Is(cause, errUnfinished):
		return fmt.Errorf("%s did not finish in %v (%w): switch it off and on", i.source, readingLimit, errUnfinished)
	case cause != nil:
		return fmt.Errorf("no answer from %s (%w): check its wiring, its power and its address; %s", i.source, cause, i.detect(bus))
	case errors.Is(err, lm75.ErrLost), errors.Is(err, errOtherChip):
		return fmt.Errorf("what answers as %s does not behave like one (%w): check the driver and the address in the configuration", i.source, err)
	default:
		return fmt.Errorf("reading %s: %w", i.source, err)
	}
}

func (i *instrument) detect(bus string) string {
	if _, err := strconv.Atoi(bus); err != nil {
		return "`i2cdetect -l` lists the buses"
	}
	return "`i2cdetect -y " + bus + "` lists the addresses that answer"
}
