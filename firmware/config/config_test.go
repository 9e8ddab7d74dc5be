package config

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tuxwatch/firmware/cloud"
	"tuxwatch/firmware/edge"
)

var update = flag.Bool("update", false, "write the golden files anew")

// The kinds of these tests have settings of every sort; the real ones are
// tested with their packages.

type sensorSettings struct {
	Source  string        `yaml:"source"`
	Bus     string        `yaml:"bus"`
	Address uint16        `yaml:"address"`
	Ambient *chip         `yaml:"ambient"`
	Retry   time.Duration `yaml:"retry"`
	Offset  float64       `yaml:"offset"`
	Chips   []chip        `yaml:"chips"`
}

type chip struct {
	Model   string `yaml:"model"`
	Address uint8  `yaml:"address"`
}

func (s *sensorSettings) Validate() error {
	var errs []error
	if s.Source != "simulated" && s.Source != "i2c" {
		errs = append(errs, fmt.Errorf("source: must be simulated or i2c; this is %q", s.Source))
	}
	if s.Retry < time.Second {
		errs = append(errs, fmt.Errorf("retry must be at least 1s"))
	}
	if s.Ambient != nil && s.Ambient.Model == "" {
		errs = append(errs, errors.New("ambient.model: is missing"))
	}
	return errors.Join(errs...)
}

type sensorProperties struct {
	SendInterval float64 `json:"SendInterval"`
	SendData     bool    `json:"SendData"`
}

func (p *sensorProperties) Validate() error {
	if p.SendInterval <= 0 {
		return fmt.Errorf("SendInterval must be a positive number of seconds; this is %v", p.SendInterval)
	}
	return nil
}

type filterProperties struct {
	TemperatureThreshold float64 `json:"TemperatureThreshold"`
	Labels               []string
}

type cameraSettings struct {
	Source string `yaml:"source"`
	Device string `yaml:"device"`
}

func (s *cameraSettings) Validate() error {
	if s.Source == "" {
		return errors.New("source: is missing; it must be v4l2, command or directory")
	}
	return nil
}

type brokerSettings struct {
	Listen          string            `yaml:"listen"`
	Port            uint16            `yaml:"port"`
	Users           map[string]string `yaml:"users"`
	Password        string            `yaml:"password"`
	PasswordFile    string            `yaml:"password_file"`
	MaxPayloadBytes int               `yaml:"max_payload_bytes"`
}

func testKinds() []edge.Kind {
	return []edge.Kind{
		{
			Name:       "sensor",
			Settings:   func() any { return &sensorSettings{Source: "simulated", Retry: 5 * time.Second} },
			Properties: func() any { return &sensorProperties{SendInterval: 5, SendData: true} },
			Inputs:     []string{"control"}, Outputs: []string{"temperatureOutput"},
		},
		{
			Name:       "filter",
			Properties: func() any { return &filterProperties{TemperatureThreshold: 25} },
			Inputs:     []string{"input1"}, Outputs: []string{"output1"},
		},
		{Name: "camera", Settings: func() any { return &cameraSettings{} }, Outputs: []string{"frames"}},
		{
			Name:     "imagereceiver",
			Settings: func() any { return &brokerSettings{Listen: "127.0.0.1", Port: 1888} },
			Inputs:   []string{"frames"}, Outputs: []string{"output2"},
		},
		{Name: "recognizer"},
	}
}

func parseString(t *testing.T, yaml string) *Config {
	t.Helper()
	c, err := Parse("tuxwatch.yaml", []byte(yaml), testKinds())
	if err != nil {
		t.Fatalf("valid configuration refused:\n%v", err)
	}
	return c
}

func routeNames(c *Config) []string {
	var list []string
	for _, r := range c.Routes {
		list = append(list, r.Name)
	}
	return list
}

func moduleNames(c *Config) []string {
	var list []string
	for _, m := range c.Modules {
		list = append(list, m.ID)
	}
	return list
}

func (c *Config) instance(t *testing.T, id string) edge.Instance {
	t.Helper()
	i := slices.IndexFunc(c.Modules, func(m edge.Instance) bool { return m.ID == id })
	if i < 0 {
		t.Fatalf("there is no module %s, only %v", id, moduleNames(c))
	}
	return c.Modules[i]
}

func TestDefault(t *testing.T) {
	c, err := Default(testKinds())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"tempSensor", "filterModule", "imageReceiveProcessModule", "recognizer"}, moduleNames(c)); diff != "" {
		t.Errorf("modules (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"camera"}, c.Disabled); diff != "" {
		t.Errorf("switched off (-want +got):\n%s", diff)
	}
	// The camera's route waits for the camera, silently.
	if diff := cmp.Diff([]string{"sensorToFilter", "filterToHub", "penguinsToHub"}, routeNames(c)); diff != "" {
		t.Errorf("routes (-want +got):\n%s", diff)
	}
	if len(c.Warnings) > 0 {
		t.Errorf("warnings: %v", c.Warnings)
	}
	if got := string(c.instance(t, "filterModule").Desired); got != `{"TemperatureThreshold":25}` {
		t.Errorf("desired properties of the filter: %s", got)
	}
	if c.File != "" || c.Device.Name == "" || c.Outbox.MaxBytes < 1e6 || c.Log.Level != "info" {
		t.Errorf("file %q, device %q, outbox %v, log level %q", c.File, c.Device.Name, c.Outbox.MaxBytes, c.Log.Level)
	}
}

// An empty file, and one of comments, is the built-in configuration.
func TestEmptyFiles(t *testing.T) {
	for _, text := range []string{"", "\n", "# nothing\n", "---\n", "\ufeff", "null", "modules:\nroutes:\nhub:\n"} {
		c := parseString(t, text)
		if len(c.Modules) != 4 || len(c.Routes) != 3 {
			t.Errorf("%q gives the modules %v and the routes %v", text, moduleNames(c), routeNames(c))
		}
	}
}

func TestMerge(t *testing.T) {
	c := parseString(t, `
device: {name: garden-1}
modules:
  tempSensor:
    settings:
      source: i2c
      address: 0x48
      retry: 1m30s
      ambient: {model: bme280, address: 0x76}
      chips:
        - {model: tmp102}
        - model: lm75
          address: 73
    desired: {SendInterval: 0.5}
  filterModule: {desired: {TemperatureThreshold: -3.5, Labels: [a, b]}}
  camera: {settings: {source: v4l2}}
  imageReceiveProcessModule: null
  second: {kind: filter}
outbox: {max_bytes: 1.5GB, max_age: 2d12h}
routes:
  filterToHub: {priority: 2}
  penguinsToHub:
  extra:
    route: FROM /messages/modules/second/outputs/* INTO $upstream
    timeToLiveSecs: 60
log: {level: debug}
`)
	s := c.instance(t, "tempSensor")
	want := &sensorSettings{
		Source: "i2c", Address: 0x48, Retry: 90 * time.Second, Ambient: &chip{"bme280", 0x76},
		Chips: []chip{{"tmp102", 0}, {"lm75", 73}},
	}
	if diff := cmp.Diff(want, s.Settings); diff != "" {
		t.Errorf("settings (-want +got):\n%s", diff)
	}
	var desired sensorProperties
	if err := json.Unmarshal(s.Desired, &desired); err != nil || desired != (sensorProperties{0.5, true}) {
		t.Errorf("desired properties %s: %+v, %v; SendData must come from the built-in configuration", s.Desired, desired, err)
	}
	if diff := cmp.Diff([]string{"tempSensor", "filterModule", "camera", "recognizer", "second"}, moduleNames(c)); diff != "" {
		t.Errorf("modules (-want +got): a camera with settings runs\n%s", diff)
	}
	if diff := cmp.Diff([]string{"sensorToFilter", "filterToHub", "extra"}, routeNames(c)); diff != "" {
		t.Errorf("routes (-want +got): those of the module that was taken away go with it\n%s", diff)
	}
	if r := c.Routes[1]; r.Priority != 2 || !r.Endpoint.Upstream {
		t.Errorf("filterToHub: priority %d, upstream %v", r.Priority, r.Endpoint.Upstream)
	}
	if r := c.Routes[2]; r.Priority != edge.LowestPriority || r.TimeToLiveSecs != 60 {
		t.Errorf("extra: priority %d, time to live %d", r.Priority, r.TimeToLiveSecs)
	}
	if c.Outbox.MaxBytes != 1.5e9 || c.Outbox.MaxAge != 60*time.Hour || c.Device.Name != "garden-1" || c.Log.Level != "debug" {
		t.Errorf("outbox %+v, device %q, log level %q", c.Outbox, c.Device.Name, c.Log.Level)
	}
}

func TestMergeRules(t *testing.T) {
	for _, c := range []struct {
		name, yaml string
		check      func(*Config) bool
	}{
		{"settings switch a module on, but not against its will", "modules: {camera: {enabled: false, settings: {source: v4l2}}}",
			func(c *Config) bool { return slices.Contains(c.Disabled, "camera") }},
		{"desired properties alone do not", "modules: {camera: {settings: null}}",
			func(c *Config) bool { return slices.Contains(c.Disabled, "camera") }},
		{"another kind starts from its own defaults", "modules: {tempSensor: {kind: filter}}\nroutes: {sensorToFilter: null}",
			func(c *Config) bool { return string(c.Modules[0].Desired) == "" && c.Modules[0].Kind.Name == "filter" }},
		{"and built-in routes that do not fit it are left out", "modules:\n  camera: {kind: filter}",
			func(c *Config) bool {
				return len(c.Warnings) == 1 && c.Warnings[0].Line == 2 && c.Warnings[0].Column == 18 && c.Warnings[0].Path == "modules.camera.kind" &&
					strings.Contains(c.Warnings[0].Message, `a filter has no output "frames", so the built-in routes.cameraToRecognition is left out`) &&
					!slices.Contains(routeNames(c), "cameraToRecognition")
			}},
		{"a module that is off may be half configured", "modules: {tempSensor: {enabled: false, settings: {source: nothing}}}",
			func(c *Config) bool { return slices.Contains(c.Disabled, "tempSensor") }},
		{"null is the default", "modules: {tempSensor: {settings: {source: , retry: null}}}",
			func(c *Config) bool {
				s := c.Modules[0].Settings.(*sensorSettings)
				return s.Source == "simulated" && s.Retry == 5*time.Second
			}},
		{"the file's route to a module that is off warns", "routes: {r: 'FROM /messages/modules/camera/outputs/frames INTO $upstream'}",
			func(c *Config) bool {
				return len(c.Warnings) == 1 && c.Warnings[0].Column == 29 && len(c.Routes) == 3
			}},
		{"routes can be off", "routes: {filterToHub: {enabled: false}}",
			func(c *Config) bool { return !slices.Contains(routeNames(c), "filterToHub") }},
		{"anchors, aliases and merge keys", "modules:\n  a: &a {kind: sensor, settings: &s {address: 7}}\n  b: {<<: *a, desired: {SendInterval: 2}}\n  c: {kind: sensor, settings: *s}\n",
			func(c *Config) bool {
				return c.Modules[5].Settings.(*sensorSettings).Address == 7 && string(c.Modules[5].Desired) != "" &&
					c.Modules[6].Settings.(*sensorSettings).Address == 7
			}},
		{"Windows line ends", "log:\r\n  level: warn\r\n", func(c *Config) bool { return c.Log.Level == "warn" }},
		{"sizes where the key says bytes", "modules: {imageReceiveProcessModule: {settings: {max_payload_bytes: 4MB}}}",
			func(c *Config) bool { return c.Modules[2].Settings.(*brokerSettings).MaxPayloadBytes == 4e6 }},
		{"numbers can be text", "device: {name: 17}", func(c *Config) bool { return c.Device.Name == "17" }},
		{"folded routes", "routes:\n  r: >-\n    FROM /messages/*\n    INTO $upstream\n",
			func(c *Config) bool { return c.Routes[3].Text == "FROM /messages/* INTO $upstream" }},
	} {
		t.Run(c.name, func(t *testing.T) {
			if cfg := parseString(t, c.yaml); !c.check(cfg) {
				t.Errorf("%s gives the modules %+v, off %v, routes %v, warnings %v", c.yaml, cfg.Modules, cfg.Disabled, routeNames(cfg), cfg.Warnings)
			}
		})
	}
}

// Every file in testdata/invalid is refused with exactly the messages in the
// .golden file beside it.
func TestInvalid(t *testing.T) {
	files, err := filepath.Glob("testdata/invalid/*.yaml")
	if err != nil || len(files) < 10 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			_, err := Load(file, testKinds())
			var invalid *Error
			if !errors.As(err, &invalid) {
				t.Fatalf("got %v, want a *config.Error", err)
			}
			got := strings.ReplaceAll(err.Error(), "testdata/invalid/", "") + "\n"
			golden := strings.TrimSuffix(file, ".yaml") + ".golden"
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// What package cloud finds wrong is reported where it stands.
func TestInvalidHub(t *testing.T) {
	_, err := Parse("f", []byte("hub:\n  dialect: azur\n  mqtt: {url: 1, envelop: body}\n"), testKinds())
	if err == nil || !strings.HasPrefix(err.Error(), "f:3:18: hub.mqtt.envelop: unknown key \"envelop\"; did you mean \"envelope\"?") {
		t.Errorf("an unknown key: %v", err)
	}
	_, err = Parse("f", []byte("hub:\n  dialect: azur\n  backoff: {min: 0}\n"), testKinds())
	if err == nil || !strings.Contains(err.Error(), "f:2:12: hub.dialect: ") || !strings.Contains(err.Error(), "f:3:18: hub.backoff.min: ") {
		t.Errorf("wrong values: %v", err)
	}
}

// A secret that stands where the name of its file belongs is not repeated in the
// message.
func TestSecretInPlaceOfFile(t *testing.T) {
	_, err := Parse("f", []byte("hub: {dialect: azure, connection_string_file: 'HostName=h;DeviceId=d;SharedAccessKey=c2VjcmV0'}"), testKinds())
	if err == nil || !strings.Contains(err.Error(), "f:1:47: hub.connection_string_file: must be the name of a file") || strings.Contains(err.Error(), "c2VjcmV0") {
		t.Errorf("got %v", err)
	}
}

// A mistake in a route is reported where it stands in the file, however the
// route is written there.
func TestPlacesInRoutes(t *testing.T) {
	const file = "testdata/route-places.yaml"
	_, err := Load(file, testKinds())
	var invalid *Error
	if !errors.As(err, &invalid) {
		t.Fatalf("got %v, want a *config.Error", err)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(data), "\n")
	found := 0
	for _, p := range invalid.Problems {
		line := []rune(lines[p.Line-1])
		if !strings.HasPrefix(string(line[p.Column-1:]), "&&") {
			t.Errorf("%v: there stands %q", p, string(line[p.Column-1:]))
		}
		found++
	}
	if want := strings.Count(string(data), "&&"); found != want {
		t.Errorf("%d problems, want %d:\n%v", found, want, err)
	}
}

func TestBounds(t *testing.T) {
	bomb := "a: &a [1,2,3,4,5,6,7,8,9]\n"
	for c := 'b'; c <= 'p'; c++ {
		p := string(c - 1)
		bomb += fmt.Sprintf("%c: &%c [*%s,*%s,*%s,*%s,*%s,*%s,*%s,*%s,*%s]\n", c, c, p, p, p, p, p, p, p, p, p)
	}
	for name, c := range map[string]struct{ text, want string }{
		"large":              {strings.Repeat("# x\n", MaxBytes), "larger than 256 KiB"},
		"alias bomb":         {bomb, "more than 20000 values"},
		"deep brackets":      {strings.Repeat("[", 60000), "nested deeper"},
		"deep braces":        {strings.Repeat("{a: ", 40000), "nested deeper"},
		"deep dashes":        {strings.Repeat("- ", 60000), "nested deeper"},
		"deep anchors":       {"a: " + strings.Repeat("&a ", 60000), "nested deeper"},
		"deep indentation":   {indented(400), "nested deeper"},
		"alias of itself":    {"a: &a {b: *a}", "names no anchor above it"},
		"many problems":      {strings.Repeat("x", 3) + ": {}\n" + many(200), "more problems are not shown"},
		"not text":           {"log: {level: \xff}", "1:14: the file is not UTF-8"},
		"many values":        {"modules: {a: {kind: sensor, settings: {chips: [" + strings.Repeat("{},", 30000) + "]}}}", "more than 20000 values"},
		"a second document":  {"log: {level: info}\n---\nlog: {level: warn}\n", "3:4: a second document"},
		"a list":             {"- a\n", "must be a mapping with the sections"},
		"a long unknown key": {strings.Repeat("k", 5000) + ": 1\n", "unknown section"},
	} {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			_, err := Parse("f", []byte(c.text), testKinds())
			var invalid *Error
			if !errors.As(err, &invalid) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %.300v, want …%s…", err, c.want)
			}
			// A generous bound: the slowest takes some milliseconds.
			if d := time.Since(start); d > 5*time.Second {
				t.Errorf("took %v", d)
			}
		})
	}
}

func indented(depth int) string {
	var b strings.Builder
	for i := range depth {
		b.WriteString(strings.Repeat(" ", i) + "a:\n")
	}
	return b.String()
}

func many(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "wrong%d: 1\n", i)
	}
	return b.String()
}

func TestLoadNeedsAFile(t *testing.T) {
	dir := t.TempDir()
	if _, err := Load(filepath.Join(dir, "none.yaml"), testKinds()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
	if _, err := Load(dir, testKinds()); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("a directory: %v", err)
	}
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(pipe, testKinds()); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("a pipe: %v", err)
	}
}

// What a build lacks, its built-in configuration does without; a file that
// asks for it is told so.
func TestBuildWithoutKind(t *testing.T) {
	kinds := slices.DeleteFunc(testKinds(), func(k edge.Kind) bool { return k.Name == "imagereceiver" })
	c, err := Default(kinds)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"sensorToFilter", "filterToHub"}, routeNames(c)); diff != "" {
		t.Errorf("routes (-want +got):\n%s", diff)
	}
	if _, err := Parse("f", []byte("modules: {imageReceiveProcessModule: null}"), kinds); err != nil {
		t.Errorf("taking it away is refused: %v", err)
	}
	_, err = Parse("f", []byte("modules: {m: {kind: imagereceiver}}"), kinds)
	if err == nil || !strings.Contains(err.Error(), `unknown kind "imagereceiver"; known are camera, filter, recognizer, sensor`) {
		t.Errorf("got %v", err)
	}
}

func TestEffective(t *testing.T) {
	c := parseString(t, `
modules:
  tempSensor:
    settings: {address: 0x48}
    desired: {SendInterval: 2}
  imageReceiveProcessModule:
    settings: {password: topsecret, password_file: /etc/pw}
outbox: {max_age: 36h}
`)
	origin := func(values []Value, path string) string {
		for _, v := range values {
			if v.Path == path {
				return v.Text() + " " + v.Origin
			}
		}
		return "absent"
	}
	check := func(values []Value, want map[string]string) {
		t.Helper()
		for path, w := range want {
			if got := origin(values, path); got != w {
				t.Errorf("%s: %s, want %s", path, got, w)
			}
		}
	}
	file := c.Effective(nil, nil)
	check(file, map[string]string{
		"modules.tempSensor.kind":                                      "sensor default",
		"modules.tempSensor.enabled":                                   "true default",
		"modules.tempSensor.settings.address":                          "72 tuxwatch.yaml:4",
		"modules.tempSensor.settings.source":                           "simulated default",
		"modules.tempSensor.settings.retry":                            "5s default",
		"modules.tempSensor.desired.SendInterval":                      "2 tuxwatch.yaml:5",
		"modules.tempSensor.desired.SendData":                          "true default",
		"modules.imageReceiveProcessModule.settings.password":          "(hidden) tuxwatch.yaml:7",
		"modules.imageReceiveProcessModule.settings.password_file":     "/etc/pw tuxwatch.yaml:7",
		"modules.camera.enabled":                                       "false default",
		"routes.filterToHub.route":                                     `"FROM /messages/modules/filterModule/outputs/* INTO $upstream" default`,
		"outbox.max_age":                                               "36h tuxwatch.yaml:8",
		"outbox.max_bytes":                                             "256MB default",
		"log.level":                                                    "info default",
		"modules.filterModule.desired.TemperatureThreshold":            "25 default",
		"modules.tempSensor.settings.ambient":                          "absent",
		"modules.imageReceiveProcessModule.settings.max_payload_bytes": "0 default",
	})
	twin := json.RawMessage(`{"tempSensor":{"SendInterval":7},"filterModule":{"TemperatureThreshold":"hot"}}`)
	inEffect := map[string]any{
		"tempSensor":   map[string]any{"SendInterval": 7.0, "SendData": true},
		"filterModule": map[string]any{"TemperatureThreshold": 25.0, "Labels": nil},
	}
	check(c.Effective(twin, inEffect), map[string]string{
		"modules.tempSensor.desired.SendInterval": "7 twin",
		"modules.tempSensor.desired.SendData":     "true default",
		// The module refused the twin's value.
		"modules.filterModule.desired.TemperatureThreshold": "25 default",
	})
	// The order is the document's, with or without a twin.
	paths := func(values []Value) (list []string) {
		for _, v := range values {
			list = append(list, v.Path)
		}
		return list
	}
	if diff := cmp.Diff(paths(file), paths(c.Effective(twin, inEffect))); diff != "" {
		t.Errorf("the twin changes the list (-without +with):\n%s", diff)
	}
	data, err := json.Marshal(c.Effective(nil, nil))
	if err != nil || strings.Contains(string(data), "topsecret") {
		t.Errorf("the list shows the password, or cannot be written: %v", err)
	}
}

// A connection string in a systemd credential is all that a device needs to
// reach its hub; the file wins over it.
func TestCredentials(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("CREDENTIALS_DIRECTORY", dir)
	if c := parseString(t, ""); c.Hub.Dialect != cloud.DialectNone {
		t.Errorf("without credentials: dialect %s", c.Hub.Dialect)
	}
	for _, name := range []string{CredentialConnectionString, CredentialPassword} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o400); err != nil {
			t.Fatal(err)
		}
	}
	c := parseString(t, "")
	if want := filepath.Join(dir, CredentialConnectionString); c.Hub.Dialect != cloud.DialectAzure || c.Hub.ConnectionStringFile != want {
		t.Errorf("dialect %s, connection string in %s, want azure and %s", c.Hub.Dialect, c.Hub.ConnectionStringFile, want)
	}
	if i := slices.IndexFunc(c.Effective(nil, nil), func(v Value) bool { return v.Path == "hub.dialect" && v.Origin == OriginCredential }); i < 0 {
		t.Error("the dialect's origin is not the credential")
	}
	c = parseString(t, "device: {name: pi-7}\nhub: {dialect: mqtt, mqtt: {url: 'mqtts://broker.example', user: me}}")
	if want := filepath.Join(dir, CredentialPassword); c.Hub.Dialect != cloud.DialectMQTT || c.Hub.MQTT.PasswordFile != want || c.Hub.MQTT.DeviceID != "pi-7" {
		t.Errorf("dialect %s, password in %s, device %s", c.Hub.Dialect, c.Hub.MQTT.PasswordFile, c.Hub.MQTT.DeviceID)
	}
}

func FuzzLoad(f *testing.F) {
	f.Add(builtinSource)
	files, _ := filepath.Glob("testdata/*/*.yaml")
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte("a: &a [*a]\n<<: *a\n"))
	f.Add([]byte("routes: {r: \"FROM \\x41\\u00e4 '' INTO\\\n $upstream\"}"))
	kinds := testKinds()
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Parse("f", data, kinds)
		if err != nil {
			var invalid *Error
			if !errors.As(err, &invalid) || len(invalid.Problems) == 0 {
				t.Fatalf("refused without a problem: %v", err)
			}
			// A lone CR breaks a line as well (YAML 1.2.2, 5.4); the end of the file
			// counts as a line.
			breaks := strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(string(data))
			lines := 2 + strings.Count(breaks, "\n")
			for _, p := range invalid.Problems {
				if p.Message == "" || p.Line < 0 || p.Line > lines {
					t.Fatalf("problem outside the file of %d lines: %+v", lines, p)
				}
				if p.File == builtin {
					t.Fatalf("blames the built-in configuration: %v", p)
				}
			}
			return
		}
		for _, v := range c.Effective(nil, nil) {
			if v.Origin == "" || v.Text() == "" {
				t.Fatalf("value without origin or text: %+v", v)
			}
		}
		// What was accepted is accepted again, with the same result.
		again, err := Parse("f", c.Source, kinds)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c.Effective(nil, nil), again.Effective(nil, nil)); diff != "" {
			t.Fatal(diff)
		}
	})
}
