package led

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// names of the light, in the order they are looked for: the mainline kernel's
// device trees of the Raspberry Pi, Raspberry Pi OS before 2022, and the naming
// scheme of newer ones (Documentation/leds/leds-class.rst, "LED Device Naming").
var names = []string{"ACT", "led0", "green:activity", "green:act"}

// ErrNoLight is that the board has no light of a name that is known.
var ErrNoLight = errors.New("there is no light named " + strings.Join(names, ", "))

// Light is one light of the kernel's LED subsystem.
type Light struct {
	// Dir is its folder in sysfs.
	Dir string
}

// Find finds the board's light below class, which is /sys/class/leds on a device.
// The error is [ErrNoLight] where there is none.
func Find(class string) (*Light, error) {
	for _, name := range names {
		dir := filepath.Join(class, name)
		switch _, err := os.Stat(filepath.Join(dir, "trigger")); {
		case err == nil:
			return &Light{Dir: dir}, nil
		case !errors.Is(err, fs.ErrNotExist):
			return nil, fmt.Errorf("looking for the light: %w", err)
		}
	}
	return nil, fmt.Errorf("%w in %s", ErrNoLight, class)
}

// String gives the light's name.
func (l *Light) String() string { return filepath.Base(l.Dir) }

// triggers lists what can drive the light, and which one does.
func (l *Light) triggers() (all []string, now string, err error) {
	data, err := os.ReadFile(filepath.Join(l.Dir, "trigger"))
	if err != nil {
		return nil, "", fmt.Errorf("reading the light's trigger: %w", err)
	}
	for _, t := range strings.Fields(string(data)) {
		if inner, ok := strings.CutPrefix(t, "["); ok {
			t = strings.TrimSuffix(inner, "]")
			now = t
		}
		all = append(all, t)
	}
	return all, now, nil
}

// State is how a light was found, to be put back.
type State struct{ trigger, brightness string }

// State reads how the light is now.
func (l *Light) State() (s State, err error) {
	if _, s.trigger, err = l.triggers(); err != nil {
		return s, err
	}
	data, err := os.ReadFile(filepath.Join(l.Dir, "brightness"))
	if err != nil {
		return s, fmt.Errorf("reading the light's brightness: %w", err)
	}
	s.brightness = strings.TrimSpace(string(data))
	return s, nil
}

// Restore makes the light as it was.
func (l *Light) Restore(s State) error {
	if s.trigger != "" && s.trigger != "none" {
		return l.write("trigger", s.trigger)
	}
	return errors.Join(l.write("trigger", "none"), l.write("brightness", s.brightness))
}

// Set makes the light show p. It fails with fs.ErrPermission or fs.ErrNotExist
// for a moment after the trigger was changed, since the files that set it are
// made, and given to the group, only then: try again.
func (l *Light) Set(p Pattern) error {
	all, now, err := l.triggers()
	if err != nil {
		return err
	}
	trigger := p.Trigger
	if !slices.Contains(all, trigger) {
		return fmt.Errorf("the kernel has no trigger %q for the light %s: load the module ledtrig-%s", trigger, l, trigger)
	}
	if now != trigger {
		if err := l.write("trigger", trigger); err != nil {
			return err
		}
	}
	switch trigger {
	case "timer":
		return errors.Join(
			l.write("delay_on", strconv.FormatInt(p.On.Milliseconds(), 10)),
			l.write("delay_off", strconv.FormatInt(p.Off.Milliseconds(), 10)))
	case "none":
		// The kernel takes what is too much for the most there is.
		return l.write("brightness", "255")
	}
	return nil
}

// write writes to a file of sysfs, which is never made.
func (l *Light) write(name, value string) error {
	f, err := os.OpenFile(filepath.Join(l.Dir, name), os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return fmt.Errorf("setting the light %s: %w", l, err)
	}
	_, err = f.WriteString(value)
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("setting the light %s: %w", l, err)
	}
	return nil
}
