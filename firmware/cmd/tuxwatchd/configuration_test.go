package main

import (
	"bytes"
	"fmt"
	"os"
	"regexp"
	"testing"

	"tuxwatch/firmware/config"
	"tuxwatch/firmware/modules"
)

// The configuration that is installed changes nothing as it stands, and its
// examples are valid when the # in front of them is taken away.
func TestInstalledConfiguration(t *testing.T) {
	const file = "../../../rootfs/etc/tuxwatch/tuxwatch.yaml"
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	kinds := modules.Kinds(nil)
	installed, err := config.Parse("tuxwatch.yaml", data, kinds)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range installed.Effective(nil, nil) {
		if v.Origin != config.OriginDefault {
			t.Errorf("%s is set to %s", v.Path, v.Text())
		}
	}
	// Explanations have a blank after the #, examples have none or several.
	examples := regexp.MustCompile(`(?m)^#(\S|  )`).ReplaceAll(data, []byte("$1"))
	if bytes.Count(examples, []byte("\n#")) == bytes.Count(data, []byte("\n#")) {
		t.Fatal("there are no examples")
	}
	c, err := config.Parse("tuxwatch.yaml", examples, kinds)
	if err != nil {
		t.Fatalf("the examples are invalid:\n%v\n%s", err, examples)
	}
	if len(c.Warnings) > 0 {
		t.Errorf("the examples warn: %v", c.Warnings)
	}
	// Alternatives to the examples stand there as explanations.
	camera := regexp.MustCompile(`(?m)^# (settings: .*)$`).FindSubmatch(data)
	hub := regexp.MustCompile(`(?m)^# (dialect: .*)\n# (mqtt: .*)$`).FindSubmatch(data)
	if camera == nil || hub == nil {
		t.Fatal("the alternatives are missing")
	}
	alternative := fmt.Sprintf("modules:\n  camera:\n    %s\nhub:\n  %s\n  %s\n", camera[1], hub[1], hub[2])
	if _, err := config.Parse("tuxwatch.yaml", []byte(alternative), kinds); err != nil {
		t.Errorf("the alternatives are invalid:\n%v\n%s", err, alternative)
	}
}
