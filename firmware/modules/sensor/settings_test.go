package sensor

import (
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
	"periph.io/x/conn/v3/physic"

	"tuxwatch/drivers/lm75"
)

func parse(t *testing.T, text string) *Settings {
	t.Helper()
	s := Kind().Settings().(*Settings)
	if err := yaml.UnmarshalWithOptions([]byte(text), s, yaml.Strict()); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSettingsInYAML(t *testing.T) {
	high, low := 30.5, -10.0
	for _, c := range []struct {
		name, text string
		want       Settings
	}{
		{"nothing", `{}`, Settings{Machine: Source{Driver: simulated}}},
		{"hexadecimal address, bus as a number", "machine: {driver: tmp105, address: 0x49, bus: 1}",
			Settings{Machine: Source{Driver: "tmp105", Address: 0x49, Bus: "1"}}},
		{"decimal address, bus as a path", "machine: {driver: lm75b, address: 72, bus: /dev/i2c-10}",
			Settings{Machine: Source{Driver: "lm75b", Address: 0x48, Bus: "/dev/i2c-10"}}},
		{"two chips", "machine: {driver: tmp102, extended: true, rate: 0.25}\nambient: {driver: bme280}\nseed: 7",
			Settings{Machine: Source{Driver: "tmp102", Extended: true, Rate: 0.25}, Ambient: &Source{Driver: "bme280"}, Seed: 7}},
		{"alert", "machine: {driver: tmp105, resolution: 10, alert: {high: 30.5, low: -10, mode: interrupt, active: high, faults: 4}}",
			Settings{Machine: Source{Driver: "tmp105", Resolution: 10, Alert: &AlertPin{High: &high, Low: &low, Mode: "interrupt", Active: "high", Faults: 4}}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := parse(t, c.text)
			if diff := cmp.Diff(c.want, *s); diff != "" {
				t.Error(diff)
			}
			if err := s.Validate(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestSettingsAreRefused(t *testing.T) {
	for text, want := range map[string]string{
		`machine: {driver: dht22}`:                                             "it can be simulated, bme280, bmp280, lm75, lm75a, lm75b, mcp9808, tmp102, tmp105",
		`machine: {driver: ""}`:                                                "not known",
		`machine: {driver: simulated, address: 0x48}`:                          "no other settings",
		`machine: {driver: tmp105, address: 0x18}`:                             "0x48 to 0x4f",
		`machine: {driver: bme280, address: 0x48}`:                             "0x76 to 0x77",
		`machine: {driver: mcp9808, address: 0x48}`:                            "0x18 to 0x1f",
		`machine: {driver: tmp105, resolution: 13}`:                            "no resolution of 13",
		`machine: {driver: mcp9808, resolution: 13}`:                           "no resolution of 13",
		`machine: {driver: bmp280, resolution: 12}`:                            "no choice of resolution",
		`machine: {driver: lm75, one_shot: true}`:                              "no one-shot",
		`machine: {driver: bme280, one_shot: true}`:                            "not for a bme280",
		`machine: {driver: mcp9808, alert: {high: 30}}`:                        "not for a mcp9808",
		`machine: {driver: tmp102, rate: 2}`:                                   "cannot measure at 2Hz",
		`machine: {driver: tmp105, alert: {mode: loud}}`:                       "comparator or interrupt",
		`machine: {driver: tmp105, alert: {active: yes please}}`:               "low or high",
		`machine: {driver: tmp105, alert: {faults: 3}}`:                        "[1 2 4 6]",
		`machine: {driver: tmp105, alert: {high: 10, low: 20}}`:                "above its upper",
		`machine: {driver: tmp105, alert: {high: 1e12}}`:                       "out of any chip's range",
		`machine: {driver: tmp105, alert: {low: .nan}}`:                        "out of any chip's range",
		`{machine: {driver: tmp105}, ambient: {driver: lm75, bus: I2C1}}`:      "another address",
		`{machine: {driver: tmp105}, ambient: {driver: nothing}}`:              "ambient: driver",
		`{machine: {driver: tmp105, bus: x}, ambient: {driver: lm75, bus: x}}`: "both at address 0x48 on I2C bus x",
	} {
		if err := parse(t, text).Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want it to say %q", text, err, want)
		}
		if _, err := Kind().New(parse(t, text)); err == nil {
			t.Errorf("%s: a module was made", text)
		}
	}
}

func TestAlertPinReachesTheDriver(t *testing.T) {
	s := parse(t, "machine: {driver: tmp102, one_shot: true, rate: 0.25, alert: {high: 30.5, low: -10, mode: interrupt, active: high, faults: 4}}")
	got, err := s.Machine.lm75Opts(lm75.TMP102)
	if err != nil {
		t.Fatal(err)
	}
	want := &lm75.Opts{
		Model: lm75.TMP102, OneShot: true, Rate: 250 * physic.MilliHertz,
		Alert: lm75.Alert{
			High: physic.ZeroCelsius + 30500*physic.MilliKelvin, Low: physic.ZeroCelsius - 10*physic.Kelvin,
			Mode: lm75.Interrupt, Polarity: lm75.ActiveHigh, FaultQueue: 4,
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestBusName(t *testing.T) {
	for name, want := range map[string]string{
		"": "1", "1": "1", "10": "10", "/dev/i2c-0": "0", "I2C3": "3", "FT232H": "FT232H", "/dev/i2c-": "/dev/i2c-", "i2c-1": "i2c-1",
	} {
		if got := busName(name); got != want {
			t.Errorf("%q is %q, want %q", name, got, want)
		}
	}
}

func TestPropertiesAreChecked(t *testing.T) {
	for interval, valid := range map[float64]bool{0.05: true, 5: true, 0.5: true, 86400: true, 0: false, -1: false, 0.049: false, 86401: false} {
		if err := (&Properties{SendInterval: interval}).Validate(); (err == nil) != valid {
			t.Errorf("SendInterval %v: %v", interval, err)
		}
	}
}
