package lm75_test

import (
	"fmt"
	"log"

	"periph.io/x/conn/v3/physic"

	"tuxwatch/drivers/lm75"
	"tuxwatch/drivers/lm75/lm75test"
)

func Example() {
	// On a device: bus, err := i2creg.Open("1")
	bus := lm75test.New(lm75.TMP102, 0x48)
	bus.SetTemperature(physic.ZeroCelsius - 31500*physic.MilliKelvin)

	dev, err := lm75.New(bus, 0x48, &lm75.Opts{Model: lm75.TMP102})
	if err != nil {
		log.Fatal(err)
	}
	var env physic.Env
	if err := dev.Sense(&env); err != nil {
		log.Fatal(err)
	}
	fmt.Println(env.Temperature)
	// Output: -31.500°C
}
