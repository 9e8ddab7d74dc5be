package provision

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/token"
)

// Raspberry Pi Imager 2 writes the files of cloud-init's NoCloud source for an
// image whose entry in the list of images has init_format cloudinit or
// cloudinit-rpi: user-data (cloud-config), network-config (netplan, version 2)
// and meta-data. There is no cloud-init here: what has a meaning on this device
// is taken from them, nothing is run, and the rest is named in the report.

// maxNesting is how deep values may be within values on one line, beyond what
// anybody writes and before the parser's recursion costs anything.
const maxNesting = 32

// parseUserData reads user-data.
func parseUserData(text string) (p imagerPlan) {
	if first, _, _ := strings.Cut(text, "\n"); strings.HasPrefix(first, "#!") || strings.HasPrefix(first, "Content-Type:") {
		p.secret = mentionsSecret(text)
		p.problems = []Problem{{1, 1, "only #cloud-config is understood here; scripts are not run"}}
		return p
	}
	settings, problem := readYAML(text)
	if problem != nil {
		return imagerPlan{problems: []Problem{*problem}, secret: mentionsSecret(text)}
	}
	wrong := func(format string, args ...any) {
		p.problems = append(p.problems, Problem{Message: fmt.Sprintf(format, args...)})
	}
	keys := func(where string, value any) {
		for i, key := range texts(value) {
			p.key(fmt.Sprintf("%s: key %d", where, i+1), key)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		value := settings[name]
		switch name {
		case "hostname":
			hostname, _, err := checkHostname(fmt.Sprint(value))
			if err != nil {
				wrong("hostname: %v", err)
			}
			p.hostname = hostname
		case "ssh_authorized_keys":
			keys(name, value)
		case "user", "users":
			users, several := value.([]any)
			if !several {
				users = []any{value}
			}
			for i, user := range users {
				fields, ok := user.(map[string]any)
				if !ok {
					continue // the name of one, as in "default"
				}
				keys(fmt.Sprintf("%s[%d].ssh_authorized_keys", name, i), fields["ssh_authorized_keys"])
				for _, field := range []string{"passwd", "hashed_passwd", "plain_text_passwd"} {
					p.secret = p.secret || fields[field] != nil && fields[field] != ""
				}
				if fields["ssh_import_id"] != nil {
					p.note("Not applied: ssh_import_id. Put the key itself into %s.", cardKeys)
				}
			}
			p.note("Not applied: the user. This device has the user %s, who logs in over ssh with a key.", LoginUser)
		case "ssh_pwauth":
			if value == true {
				p.note("Not applied: ssh_pwauth. Logging in takes a key.")
			}
		case "timezone", "keyboard", "locale":
			p.note("Not applied: %s. The device has English messages and keeps UTC.", name)
		case "manage_etc_hosts", "enable_ssh", "disable_root":
			// Either so already, or for what is in the notes.
		case "packages", "apt":
			// For mDNS, which this device has by itself, when Imager writes it.
		case "rpi":
			p.note("Not applied: rpi (interfaces). I2C is on; others are set in config.txt.")
		default:
			// What else there is may have any secret in it, as runcmd has the token
			// of Raspberry Pi Connect.
			p.secret = true
			p.note("Not applied: %.60q, which is not known here.", name)
		}
	}
	return p
}

// parseNetworkConfig reads network-config, as netplan's YAML with or without
// the key network around it.
func parseNetworkConfig(text string) (p imagerPlan) {
	settings, problem := readYAML(text)
	if problem != nil {
		return imagerPlan{problems: []Problem{*problem}, secret: mentionsSecret(text)}
	}
	if inner, ok := settings["network"].(map[string]any); ok {
		settings = inner
	}
	wrong := func(format string, args ...any) {
		p.problems = append(p.problems, Problem{Message: fmt.Sprintf(format, args...)})
	}
	if version := fmt.Sprint(settings["version"]); version != "2" {
		p.secret = mentionsSecret(text)
		wrong("version is %s; version 2 is known here", printable(version))
		return p
	}
	var all wifi
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		devices, _ := settings[name].(map[string]any)
		switch name {
		case "version", "renderer":
		case "wifis":
			for _, device := range slices.Sorted(maps.Keys(devices)) {
				fields, _ := devices[device].(map[string]any)
				p.addresses(device, fields)
				country, _ := fields["regulatory-domain"].(string)
				points, _ := fields["access-points"].(map[string]any)
				for _, ssid := range slices.Sorted(maps.Keys(points)) {
					point, _ := points[ssid].(map[string]any)
					s, err := accessPoint(ssid, country, point)
					p.secret = p.secret || s.psk != "" || err != nil && mentionsSecret(text)
					var w wifi
					if err == nil {
						w, _, err = s.network()
					}
					if err != nil {
						wrong("wifis.%s: the network %q: %v", printable(device), ssid, err)
						continue
					}
					all.country = w.country
					all.networks = append(all.networks, w.networks...)
				}
			}
		case "ethernets":
			for _, device := range slices.Sorted(maps.Keys(devices)) {
				fields, _ := devices[device].(map[string]any)
				p.addresses(device, fields)
			}
		default:
			p.secret = true
			p.note("Not applied: %.60q, which is not known here; systemd-networkd's own files go into %s.", name, cardNetwork)
		}
	}
	if len(all.networks) > 0 {
		p.wifi = &all
	}
	return p
}

// addresses notes what is set beyond an address from the network's server.
func (p *imagerPlan) addresses(device string, fields map[string]any) {
	for _, field := range slices.Sorted(maps.Keys(fields)) {
		switch value := fields[field]; field {
		case "dhcp4":
			if value == true {
				continue
			}
		case "dhcp6", "optional", "regulatory-domain", "access-points":
			continue
		}
		p.note("Not applied: %.60q of %.20q. An address of its own is set with a file in %s.", field, device, cardNetwork)
	}
}

// accessPoint reads one of netplan's access-points. Without a password, or with
// an empty one, which is how Imager writes it, the network is open.
func accessPoint(ssid, country string, fields map[string]any) (s simpleWifi, err error) {
	s = simpleWifi{ssid: ssid, country: country}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		value := fields[name]
		switch name {
		case "password":
			s.psk, err = password(value)
		case "hidden":
			s.hidden = value == true
		case "auth":
			auth, _ := value.(map[string]any)
			if auth["password"] != nil {
				s.psk, err = password(auth["password"])
			}
			switch method := fmt.Sprint(auth["key-management"]); method {
			case "none", "psk", "psk-sha256", "<nil>":
			case "sae":
				s.wpa3 = true
			default:
				return s, fmt.Errorf("the way to log in, %.20q, is not known here; write the network into %s as wpa_supplicant does", method, cardWifi)
			}
		}
		if err != nil {
			return s, err
		}
	}
	s.open = s.psk == ""
	return s, nil
}

// password takes text alone: 01234567 without quotes is a number to YAML, and
// another one.
func password(value any) (string, error) {
	text, ok := value.(string)
	if !ok && value != nil {
		return "", errors.New("put the password in quotes")
	}
	return text, nil
}

// texts gives the texts of a list, or the lines of a text.
func texts(value any) (all []string) {
	switch v := value.(type) {
	case string:
		return strings.Split(v, "\n")
	case []any:
		for _, item := range v {
			all = append(all, fmt.Sprint(item))
		}
	}
	return all
}

// mentionsSecret tells whether there may be one in a text that cannot be read.
func mentionsSecret(text string) bool {
	text = strings.ToLower(text)
	return strings.Contains(text, "passw") || strings.Contains(text, "psk") || strings.Contains(text, "token")
}

// readYAML reads a mapping. The messages of the library are not passed on, since
// they quote what is there, which may be a password.
func readYAML(text string) (settings map[string]any, problem *Problem) {
	broken := &Problem{Message: "this is not valid YAML, of the form name: value, indented with blanks"}
	// The parser is for well-meant input; a damaged card must not end the rest.
	defer func() {
		if r := recover(); r != nil {
			settings, problem = nil, broken
		}
	}()
	flow, opened, line := 0, 0, 0
	for _, t := range lexer.Tokenize(text) {
		if t.Position.Line != line {
			line, opened = t.Position.Line, 0
		}
		switch t.Type {
		case token.AliasType, token.MergeKeyType:
			// What refers to other places can make a short text very long.
			return nil, &Problem{t.Position.Line, max(t.Position.Column, 1), "references (*name) are not understood here; write it out"}
		case token.MappingStartType, token.SequenceStartType:
			flow++
		case token.MappingEndType, token.SequenceEndType:
			flow--
		case token.SequenceEntryType, token.MappingKeyType, token.AnchorType, token.TagType:
			opened++
		}
		if flow > maxNesting || opened > maxNesting {
			return nil, &Problem{t.Position.Line, max(t.Position.Column, 1), "this is nested too deep"}
		}
	}
	err := yaml.Unmarshal([]byte(text), &settings)
	var at yaml.Error
	if errors.As(err, &at) && at.GetToken() != nil {
		broken.Line, broken.Column = at.GetToken().Position.Line, max(at.GetToken().Position.Column, 1)
	}
	if err != nil {
		return nil, broken
	}
	return settings, nil
}
