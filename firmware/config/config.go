// Package config reads tuxwatch.yaml: which modules run, how messages are
// routed between them, and how the device reaches its hub.
//
// A file gives only what differs from the built-in configuration (default.yaml
// in this folder): mappings merge key by key, everything else replaces what was
// there, and a module or a route that is null is taken away. A file is valid as
// a whole or not at all, and everything that is wrong with it is reported at
// once, each with its line and column.
//
// The package reads and checks; it starts nothing, and it knows a module only
// by its [edge.Kind]. What the device's twin sets is laid over the result by
// package edge. Start with [Load] and [Config].
package config

import (
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"tuxwatch/firmware/cloud"
	"tuxwatch/firmware/edge"
)

// DefaultPath is where the daemon looks for its configuration.
const DefaultPath = "/etc/tuxwatch/tuxwatch.yaml"

// builtin is the file name that positions in the built-in configuration have.
const builtin = "(built-in)"

//go:embed default.yaml
var builtinSource []byte

// sections of the document, in the order they are written.
var sections = []string{"device", "modules", "routes", "outbox", "hub", "log"}

// Config is a valid configuration.
type Config struct {
	// File it was read from; empty for the built-in configuration.
	File string
	// Source is the file's text.
	Source []byte

	Device Device
	// Modules that run.
	Modules []edge.Instance
	// Disabled names the modules that are configured and do not run.
	Disabled []string
	Routes   []edge.Route
	Outbox   Outbox
	Hub      cloud.Config
	Log      Log

	// Warnings are doubtful, not wrong: the configuration is used.
	Warnings []Problem

	tree        *node
	modules     []module
	routes      []routeEntry
	credentials []string // paths whose value is from a systemd credential
}

// Device is the section device.
type Device struct {
	// Name that logs and the hub's dialect mqtt know the device by; the host's
	// name unless the file gives one.
	Name string `yaml:"name"`
}

// Validate reports a name that would not fit into topics and host names.
func (d Device) Validate() error {
	if !deviceName.MatchString(d.Name) {
		return fmt.Errorf("name: must be up to 128 letters, digits, '-', '_' and '.', starting and ending with a letter or digit; this is %q", clip(d.Name))
	}
	return nil
}

// Outbox is the section outbox: the bounds of the store that keeps messages
// until the hub has them. What is over a bound is dropped, the oldest of the
// lowest priority first.
type Outbox struct {
	// MaxBytes on disk.
	MaxBytes Size `yaml:"max_bytes"`
	// MaxAge of a message; 0 is without limit.
	MaxAge time.Duration `yaml:"max_age"`
}

// Bounds that keep the outbox useful: below the first, a few pictures fill it.
const (
	minOutboxBytes = 1 << 20
	minOutboxAge   = time.Minute
)

// Validate reports bounds that would lose every message.
func (o Outbox) Validate() error {
	var errs []error
	if o.MaxBytes < minOutboxBytes {
		errs = append(errs, fmt.Errorf("max_bytes: must be at least 1MiB; this is %v", o.MaxBytes))
	}
	if o.MaxAge != 0 && o.MaxAge < minOutboxAge {
		errs = append(errs, fmt.Errorf("max_age: must be at least 1m, or 0 for no limit; this is %v", formatDuration(o.MaxAge)))
	}
	return errors.Join(errs...)
}

// Log is the section log.
type Log struct {
	// Level below which nothing is logged: debug, info, warn or error.
	Level string `yaml:"level"`
}

// LogLevels are the values of log.level.
var LogLevels = []string{"debug", "info", "warn", "error"}

// Validate reports a level that is none.
func (l Log) Validate() error {
	if !slices.Contains(LogLevels, l.Level) {
		return fmt.Errorf("level: must be one of %s; this is %q%s", strings.Join(LogLevels, ", "), clip(l.Level), meant(l.Level, LogLevels))
	}
	return nil
}

// meant asks whether a near name was meant, or says nothing.
func meant(name string, known []string) string {
	if near := nearest(name, known); near != "" {
		return fmt.Sprintf("; did you mean %q?", near)
	}
	return ""
}

// module is an entry of the section modules.
type module struct {
	id         string
	kind       edge.Kind
	enabled    bool
	settings   any
	properties any // with the file's desired properties laid over the defaults
	desired    json.RawMessage
}

// Load reads the file and checks it against the kinds of modules there are. An
// invalid file gives an *[Error]; one that cannot be read an error of the
// operating system.
func Load(path string, kinds []edge.Kind) (*Config, error) {
	data, err := Read(path)
	if err != nil {
		return nil, err
	}
	return Parse(path, data, kinds)
}

// Read gives the file's bytes, at most one more than a configuration may have.
// What is no regular file is refused: a pipe would block, a device never end.
func Read(path string) (data []byte, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("reading the configuration: %w", err)
		}
	}()
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, &fs.PathError{Op: "read", Path: path, Err: errors.New("not a regular file")}
	}
	return io.ReadAll(io.LimitReader(f, MaxBytes+1))
}

// Default gives the configuration that is in effect without a file.
func Default(kinds []edge.Kind) (*Config, error) {
	c, err := Parse(builtin, nil, kinds)
	if err != nil {
		return nil, err
	}
	c.File = ""
	return c, nil
}

// DefaultSource is the text of the built-in configuration.
func DefaultSource() []byte { return slices.Clone(builtinSource) }

// Parse is Load for text that is already there; name is what messages call it.
func Parse(name string, data []byte, kinds []edge.Kind) (*Config, error) {
	probs := &problems{}
	base := parse(builtin, builtinSource, probs)
	if base == nil {
		return nil, probs.err()
	}
	names := slices.Clone(base.get("modules").keys)
	dropUnknownKinds(base, kinds)
	file := parse(name, data, probs)
	if file == nil {
		return nil, probs.err()
	}
	c := &Config{File: name, Source: slices.Clone(data)}
	b := &builder{Config: c, kinds: kinds, base: base, builtins: names, file: file, probs: probs}
	b.build()
	if err := probs.err(); err != nil {
		return nil, err
	}
	return c, nil
}

// dropUnknownKinds takes modules out of the built-in configuration whose kind
// this program was built without; routes to them go with them.
func dropUnknownKinds(base *node, kinds []edge.Kind) {
	mods := base.get("modules")
	for _, id := range slices.Clone(mods.keys) {
		name := mods.get(id, "kind").text
		if !slices.ContainsFunc(kinds, func(k edge.Kind) bool { return k.Name == name }) {
			mods.remove(id)
		}
	}
}

// builder makes a Config from the two documents.
type builder struct {
	*Config
	kinds      []edge.Kind
	base, file *node
	builtins   []string // the built-in modules, also those whose kind this build lacks
	probs      *problems
	warnings   problems
}

func (b *builder) build() {
	for _, key := range b.file.keys {
		if !slices.Contains(sections, key) {
			b.probs.add(b.file.fields[key].key, "", "unknown section %q%s", clip(key), suggest(key, sections))
		}
	}
	b.tree = newMapping(b.file.at)
	for _, s := range sections {
		base, over := b.base.get(s), b.file.get(s)
		if over == nil || over.isNull() {
			over = newMapping(b.file.at)
		}
		if !over.mapping {
			b.probs.add(over.at, s, "must be a mapping; this is %s", over.what())
			continue
		}
		switch s {
		case "modules":
			b.tree.set(s, b.mergeModules(base, over))
		case "routes":
			b.tree.set(s, b.mergeRoutes(base, over))
		default:
			b.tree.set(s, merge(base, over))
		}
	}
	b.buildSections()
	b.buildModules()
	b.buildRoutes()
	b.Warnings = b.warnings.sorted()
}

var deviceName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]{0,126}[A-Za-z0-9])?$`)

func (b *builder) buildSections() {
	b.Device = Device{Name: hostName()}
	if n := b.tree.get("device"); n != nil {
		b.section(n, &b.Device, "yaml", "device")
	}
	b.Outbox = Outbox{MaxBytes: 256e6, MaxAge: 7 * 24 * time.Hour}
	b.Log = Log{Level: "info"}
	b.Hub = cloud.DefaultConfig()
	b.Hub.MQTT.DeviceID = b.Device.Name
	b.useCredentials()
	for name, into := range map[string]any{"outbox": &b.Outbox, "hub": &b.Hub, "log": &b.Log} {
		if n := b.tree.get(name); n != nil { // otherwise reported above
			b.section(n, into, "yaml", name)
		}
	}
}

// Names of the systemd credentials that are used where the file names no file
// for the purpose (systemd.exec(5), LoadCredential=).
const (
	// CredentialConnectionString holds the device's connection string.
	CredentialConnectionString = "hub-connection-string"
	// CredentialPassword holds the password for the dialect mqtt.
	CredentialPassword = "hub-password"
)

// useCredentials makes what systemd hands over the default. A connection string
// alone is enough to connect: it says which hub.
func (b *builder) useCredentials() {
	dir := os.Getenv("CREDENTIALS_DIRECTORY")
	if dir == "" {
		return
	}
	use := func(name, path string, into *string) bool {
		file := filepath.Join(dir, name)
		if _, err := os.Stat(file); err != nil {
			return false
		}
		*into = file
		b.credentials = append(b.credentials, path)
		return true
	}
	if use(CredentialConnectionString, "hub.connection_string_file", &b.Hub.ConnectionStringFile) {
		b.Hub.Dialect = cloud.DialectAzure
		b.credentials = append(b.credentials, "hub.dialect")
	}
	if user := b.tree.get("hub", "mqtt", "user"); user != nil && !user.isNull() {
		use(CredentialPassword, "hub.mqtt.password_file", &b.Hub.MQTT.PasswordFile)
	}
}

// section decodes and, if that went well, validates a struct.
func (b *builder) section(n *node, into any, tag, path string) {
	d := &decoder{tag: tag, probs: b.probs}
	before := len(b.probs.list)
	d.decode(n, reflect.ValueOf(into).Elem(), path)
	if len(b.probs.list) == before {
		d.validate(into, n, n.key, path)
	}
}

func hostName() string {
	name, err := os.Hostname()
	if err != nil || !deviceName.MatchString(name) {
		return "tuxwatch"
	}
	return name
}

// moduleID is what IoT Edge allows in a module's name, without what would need
// escaping in routes and topics.
var moduleID = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`)

// mergeModules lays the file's modules over the built-in ones.
func (b *builder) mergeModules(base, over *node) *node {
	m := newMapping(over.at)
	for _, id := range base.keys {
		m.set(id, base.fields[id])
	}
	for _, id := range over.keys {
		entry, old := over.fields[id], m.fields[id]
		switch {
		case entry.isNull():
			if !slices.Contains(b.builtins, id) {
				b.probs.add(entry.key, join("modules", id), "null takes a built-in module away, and there is none of this name%s", suggest(id, b.builtins))
				continue
			}
			m.remove(id)
			continue
		case old == nil || !entry.mapping:
			m.set(id, entry)
			continue
		}
		if kind := entry.get("kind"); kind != nil && kind.text != old.get("kind").text {
			old = nil // settings of another kind mean nothing
		} else if s := entry.get("settings"); s != nil && !s.isNull() && entry.get("enabled") == nil {
			// Who gives a module settings wants it to run.
			old = old.without("enabled")
		}
		m.set(id, merge(old, entry))
	}
	return m
}

// remove takes a field out of a mapping that is being made.
func (n *node) remove(key string) {
	delete(n.fields, key)
	n.keys = slices.DeleteFunc(n.keys, func(k string) bool { return k == key })
}

// without gives a copy of the mapping that lacks the key.
func (n *node) without(key string) *node {
	m := newMapping(n.at)
	m.key = n.key
	for _, k := range n.keys {
		if k != key {
			m.set(k, n.fields[k])
		}
	}
	return m
}

var moduleKeys = []string{"kind", "enabled", "settings", "desired"}

func (b *builder) buildModules() {
	mods := b.tree.get("modules")
	if mods == nil {
		return
	}
	for _, id := range mods.keys {
		entry, path := mods.fields[id], join("modules", id)
		if !moduleID.MatchString(id) {
			b.probs.add(entry.key, path, "a module's name is up to 128 letters, digits, '-', '_' and '.', starting with a letter or digit")
			continue
		}
		if !entry.mapping {
			b.probs.add(entry.at, path, "must be a mapping with the keys %s, or null to take a built-in module away; this is %s", strings.Join(moduleKeys, ", "), entry.what())
			continue
		}
		if i := slices.IndexFunc(b.modules, func(m module) bool { return strings.EqualFold(m.id, id) }); i >= 0 {
			b.probs.add(entry.key, path, "differs only in case from the module %q: if that is meant, write it so; if not, choose another name", b.modules[i].id)
			continue
		}
		if m, ok := b.module(id, entry, path); ok {
			b.modules = append(b.modules, m)
		}
	}
	for _, m := range b.modules {
		if !m.enabled {
			b.Disabled = append(b.Disabled, m.id)
			continue
		}
		b.Modules = append(b.Modules, edge.Instance{ID: m.id, Kind: m.kind, Settings: m.settings, Desired: m.desired})
	}
}

// module reads one entry. ok is false when it is wrong in a way that leaves
// nothing to go on with.
func (b *builder) module(id string, entry *node, path string) (m module, ok bool) {
	m = module{id: id, enabled: true}
	for _, key := range entry.keys {
		if !slices.Contains(moduleKeys, key) {
			b.probs.add(entry.fields[key].key, join(path, key), "unknown key %q%s", clip(key), suggest(key, moduleKeys))
		}
	}
	d := &decoder{tag: "yaml", probs: b.probs}
	if n := entry.get("enabled"); n != nil {
		d.decode(n, reflect.ValueOf(&m.enabled).Elem(), join(path, "enabled"))
	}

	kindNames := make([]string, len(b.kinds))
	for i, k := range b.kinds {
		kindNames[i] = k.Name
	}
	kind := entry.get("kind")
	if kind == nil || kind.isNull() {
		b.probs.add(entry.key, path, "a new module needs a kind (one of %s)%s",
			strings.Join(kindNames, ", "), meant(id, b.base.get("modules").keys))
		return m, false
	}
	i := slices.Index(kindNames, kind.text)
	if i < 0 || kind.mapping || kind.sequence {
		if kind.mapping || kind.sequence {
			d.wrong(kind, join(path, "kind"), "one of "+strings.Join(kindNames, ", "))
		} else {
			b.probs.add(kind.at, join(path, "kind"), "unknown kind %q%s", clip(kind.text), suggest(kind.text, kindNames))
		}
		return m, false
	}
	m.kind = b.kinds[i]

	none := newMapping(entry.at)
	none.key = entry.key
	if m.kind.Settings != nil {
		m.settings = m.kind.Settings()
		n := entry.get("settings")
		if n == nil || n.isNull() {
			n = none
		}
		// A module that does not run may be half configured.
		if m.enabled {
			b.section(n, m.settings, "yaml", join(path, "settings"))
		} else {
			d.decode(n, reflect.ValueOf(m.settings).Elem(), join(path, "settings"))
		}
	} else if n := entry.get("settings"); n != nil && !n.isNull() {
		b.probs.add(n.key, join(path, "settings"), "a module of kind %s has no settings", m.kind.Name)
	}

	n := entry.get("desired")
	if m.kind.Properties == nil {
		if n != nil && !n.isNull() {
			b.probs.add(n.key, join(path, "desired"), "a module of kind %s has no desired properties", m.kind.Name)
		}
		return m, true
	}
	m.properties = m.kind.Properties()
	if n == nil || n.isNull() {
		return m, true
	}
	before := len(b.probs.list)
	b.section(n, m.properties, "json", join(path, "desired"))
	if len(b.probs.list) > before {
		return m, true
	}
	desired, err := json.Marshal(n.plain())
	if err != nil {
		b.probs.add(n.key, join(path, "desired"), "cannot be written as JSON: %v", err)
		return m, true
	}
	m.desired = desired
	return m, true
}
