package modules

import (
	"testing"

	"tuxwatch/firmware/config"
)

// The built-in configuration is made of these kinds: every module, input and
// output that it names exists, and every setting's default is valid.
func TestBuiltInConfiguration(t *testing.T) {
	c, err := config.Default(Kinds(nil))
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Modules)+len(c.Disabled) != 5 || len(c.Routes) != 3 {
		t.Errorf("%d modules, %d switched off, %d routes", len(c.Modules), len(c.Disabled), len(c.Routes))
	}
	withCamera, err := config.Parse("f", []byte("modules: {camera: {settings: {source: directory, path: /pictures}}}"), Kinds(nil))
	if err != nil {
		t.Fatal(err)
	}
	if len(withCamera.Modules) != 5 || len(withCamera.Routes) != 4 {
		t.Errorf("with a camera: %d modules, %d routes", len(withCamera.Modules), len(withCamera.Routes))
	}
	for _, k := range Kinds(nil) {
		if k.Name == "" || k.Summary == "" || k.New == nil {
			t.Errorf("kind %q lacks a name, a summary or New", k.Name)
		}
	}
}
