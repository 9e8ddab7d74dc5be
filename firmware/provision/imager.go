package provision

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"
)

// imagerFile is custom.toml, version 1, as init_config of Raspberry Pi OS 12
// (package raspberrypi-sys-mods) reads it. Other programs that write cards make
// it; Raspberry Pi Imager itself writes what cloudinit.go and firstrun.go read.
type imagerFile struct {
	Version int `toml:"config_version"`
	System  struct {
		Hostname string `toml:"hostname"`
	} `toml:"system"`
	User struct {
		Name              string `toml:"name"`
		Password          string `toml:"password"`
		PasswordEncrypted bool   `toml:"password_encrypted"`
	} `toml:"user"`
	SSH struct {
		Enabled                *bool    `toml:"enabled"`
		PasswordAuthentication bool     `toml:"password_authentication"`
		AuthorizedKeys         []string `toml:"authorized_keys"`
		ImportID               string   `toml:"ssh_import_id"`
	} `toml:"ssh"`
	WLAN struct {
		SSID              string `toml:"ssid"`
		Password          string `toml:"password"`
		PasswordEncrypted bool   `toml:"password_encrypted"`
		Hidden            bool   `toml:"hidden"`
		Country           string `toml:"country"`
	} `toml:"wlan"`
	Locale struct {
		Keymap   string `toml:"keymap"`
		Timezone string `toml:"timezone"`
	} `toml:"locale"`
}

// imagerPlan is what is to be done about a file of Imager's.
type imagerPlan struct {
	hostname string
	keys     []string
	wifi     *wifi
	secret   bool
	notes    []string
	problems []Problem
}

// note adds one to the report.
func (p *imagerPlan) note(format string, args ...any) {
	p.notes = append(p.notes, fmt.Sprintf(format, args...))
}

// key takes an ssh key over; where says which one it is.
func (p *imagerPlan) key(where, key string) {
	key = strings.TrimSpace(key)
	if key == "" {
		return
	}
	problem := ""
	if strings.ContainsAny(key, "\r\n") {
		problem = fmt.Sprintf("%s has a line break in it", where)
	} else if _, err := checkKey(key); err != nil {
		problem = fmt.Sprintf("%s: %v", where, err)
	}
	switch {
	case problem != "":
		p.problems = append(p.problems, Problem{Message: problem})
	case !slices.Contains(p.keys, key):
		p.keys = append(p.keys, key)
	}
}

// parseImager reads custom.toml. The messages of the TOML library are not
// passed on, since they quote what is there, which may be a password.
func parseImager(text string) (p imagerPlan) {
	var f imagerFile
	meta, err := toml.Decode(text, &f)
	if err != nil {
		const invalid = `this is not valid TOML: names and values are written name = "value", each once, below a [section]`
		problem := Problem{Message: invalid + "; a value has the wrong type"}
		var at toml.ParseError
		if errors.As(err, &at) {
			problem = Problem{Message: invalid}
			if at.Position.Line > 0 { // not so for a string without an end
				problem.Line, problem.Column = at.Position.Line, max(at.Position.Col, 1)
			}
		}
		// Whether there is a password in it cannot be told.
		return imagerPlan{problems: []Problem{problem}, secret: strings.Contains(strings.ToLower(text), "password")}
	}
	p.secret = f.User.Password != "" || f.WLAN.Password != ""
	wrong := func(format string, args ...any) {
		p.problems = append(p.problems, Problem{Message: fmt.Sprintf(format, args...)})
	}
	if f.Version != 1 {
		wrong("config_version is %d; version 1 is known here", f.Version)
		return p
	}
	if meta.IsDefined("system", "hostname") {
		name, _, err := checkHostname(f.System.Hostname)
		if err != nil {
			wrong("system.hostname: %v", err)
		}
		p.hostname = name
	}
	for i, key := range f.SSH.AuthorizedKeys {
		p.key(fmt.Sprintf("ssh.authorized_keys: key %d", i+1), key)
	}
	if meta.IsDefined("wlan") {
		if f.WLAN.PasswordEncrypted && !isPSK(f.WLAN.Password) {
			wrong("wlan.password is not the 64 hexadecimal digits that password_encrypted = true announces")
		} else {
			w, _, err := simpleWifi{ssid: f.WLAN.SSID, psk: f.WLAN.Password, country: f.WLAN.Country, hidden: f.WLAN.Hidden, open: f.WLAN.Password == ""}.network()
			if err != nil {
				wrong("wlan: %v", err)
			} else {
				p.wifi = &w
			}
		}
	}
	if meta.IsDefined("user") {
		p.note("Not applied: the user. This device has the user %s, who logs in over ssh with a key.", LoginUser)
	}
	if f.SSH.Enabled != nil && !*f.SSH.Enabled {
		p.note("Not applied: ssh.enabled = false. ssh is on if there is a key, and off without one.")
	}
	if f.SSH.PasswordAuthentication {
		p.note("Not applied: ssh.password_authentication. Logging in takes a key.")
	}
	if f.SSH.ImportID != "" {
		p.note("Not applied: ssh.ssh_import_id. Put the key itself into tuxwatch/authorized_keys.")
	}
	if meta.IsDefined("locale") {
		p.note("Not applied: the locale. The device has English messages and keeps UTC.")
	}
	for _, key := range meta.Undecoded() {
		p.note("Not applied: %.60q, which is not known here.", key.String())
	}
	return p
}
