package provision

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
)

// wifi is what a file says about wireless networks.
type wifi struct {
	country  string
	networks []wifiNetwork
}

// wifiNetwork is a block of wpa_supplicant.conf(5): names with values as they
// stand there.
type wifiNetwork struct {
	ssid     string // as a person reads it
	settings []string
}

// parseWifi reads wifi.conf: either lines ssid=, psk=, country=, hidden=, open=,
// wpa3=, or wpa_supplicant.conf(5). No message has a password in it.
func parseWifi(text string) (w wifi, problems []Problem) {
	lines := meaningfulLines(text, "#;")
	for _, l := range lines {
		if strings.HasPrefix(strings.ReplaceAll(l.text, " ", ""), "network={") {
			return parseSupplicant(lines)
		}
	}
	return parseSimpleWifi(lines)
}

// simpleWifi is one network as simple files and Raspberry Pi Imager describe it.
type simpleWifi struct {
	ssid, psk, country string
	hidden, open, wpa3 bool
}

func parseSimpleWifi(lines []line) (w wifi, problems []Problem) {
	if len(lines) == 0 {
		return w, []Problem{{Message: "there is nothing in it; at least ssid and psk, the network's name and its password, are needed"}}
	}
	var s simpleWifi
	at := map[string]line{}
	offsets := map[string]int{}
	for _, l := range lines {
		key, value, offset, ok := l.keyValue()
		key = strings.ToLower(key)
		value = unquote(value)
		if !ok {
			problems = append(problems, l.problem(0, "this is not name=value"))
			continue
		}
		if key == "password" {
			key = "psk"
		}
		if _, again := at[key]; again {
			problems = append(problems, l.problem(0, "%s is given twice; for several networks write them as wpa_supplicant does, network={ … }", key))
			continue
		}
		at[key], offsets[key] = l, offset
		switch key {
		case "ssid":
			s.ssid = value
		case "psk":
			s.psk = value
		case "country":
			s.country = value
		case "hidden", "open", "wpa3":
			on, err := yesNo(value)
			if err != nil {
				problems = append(problems, l.problem(offset, "%s: %v", key, err))
			}
			*map[string]*bool{"hidden": &s.hidden, "open": &s.open, "wpa3": &s.wpa3}[key] = on
		default:
			problems = append(problems, l.problem(0, "there is no setting of this name; there are ssid, psk, country, hidden, open and wpa3"))
		}
	}
	if len(problems) > 0 {
		return w, problems
	}
	w, key, err := s.network()
	if err != nil {
		if l, ok := at[key]; ok {
			return w, []Problem{l.problem(offsets[key], "%v", err)}
		}
		return w, []Problem{{Message: err.Error()}}
	}
	return w, nil
}

func yesNo(value string) (bool, error) {
	switch strings.ToLower(value) {
	case "yes", "true", "1", "on":
		return true, nil
	case "no", "false", "0", "off", "":
		return false, nil
	}
	return false, fmt.Errorf("write yes or no")
}

// network checks the values; key is the one that is wrong.
func (s simpleWifi) network() (w wifi, key string, err error) {
	if w.country, err = checkCountry(s.country); err != nil {
		return w, "country", err
	}
	// An SSID has 1 to 32 octets (IEEE 802.11-2020, 9.4.2.2).
	switch {
	case s.ssid == "":
		return w, "ssid", fmt.Errorf("ssid, the network's name, is missing")
	case len(s.ssid) > 32:
		return w, "ssid", fmt.Errorf("ssid has %d bytes; a network's name has at most 32", len(s.ssid))
	}
	n := wifiNetwork{ssid: s.ssid, settings: []string{"ssid=" + supplicantString(s.ssid)}}
	if s.hidden {
		n.settings = append(n.settings, "scan_ssid=1")
	}
	switch {
	case s.open && s.psk != "":
		return w, "open", fmt.Errorf("open=yes is for a network without a password, and psk gives one")
	case s.open:
		n.settings = append(n.settings, "key_mgmt=NONE")
	case s.psk == "":
		return w, "psk", fmt.Errorf("psk, the password, is missing (open=yes if the network has none)")
	case isPSK(s.psk) && s.wpa3:
		return w, "psk", fmt.Errorf("wpa3 needs the password itself, not the 64 digits that are computed from it")
	case isPSK(s.psk):
		n.settings = append(n.settings, "psk="+strings.ToLower(s.psk), "key_mgmt=WPA-PSK")
	default:
		if err := checkPassphrase(s.psk); err != nil {
			return w, "psk", err
		}
		n.settings = append(n.settings, `psk="`+s.psk+`"`)
		if s.wpa3 {
			n.settings = append(n.settings, "key_mgmt=SAE", "ieee80211w=2")
		} else {
			n.settings = append(n.settings, "key_mgmt=WPA-PSK")
		}
	}
	w.networks = []wifiNetwork{n}
	return w, "", nil
}

// checkCountry gives the code in capitals (ISO 3166-1, two letters).
func checkCountry(code string) (string, error) {
	if code == "" {
		return "", nil
	}
	code = strings.ToUpper(code)
	if len(code) != 2 || strings.Trim(code, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != "" {
		return "", fmt.Errorf("country is two letters, such as DE or US")
	}
	return code, nil
}

// checkPassphrase holds it against IEEE 802.11-2020, J.4.1: 8 to 63 printable
// characters of ASCII.
func checkPassphrase(psk string) error {
	if len(psk) < 8 || len(psk) > 63 {
		return fmt.Errorf("psk has %d characters; a password has 8 to 63, or it is 64 hexadecimal digits", len(psk))
	}
	for _, r := range psk {
		if r < ' ' || r > '~' {
			return fmt.Errorf("psk has a character that is not in ASCII")
		}
	}
	return nil
}

func isPSK(psk string) bool {
	_, err := hex.DecodeString(psk)
	return err == nil && len(psk) == 64
}

// supplicantString writes any text so that wpa_supplicant reads the same.
func supplicantString(text string) string {
	for _, r := range text {
		if r < ' ' || r > '~' || r == '"' || r == '\\' {
			return hex.EncodeToString([]byte(text))
		}
	}
	return `"` + text + `"`
}

// supplicantKeys are the settings of a network that are taken over: those of
// passwords and of WPA Enterprise. What loads libraries or runs programs is not
// among them.
var supplicantKeys = []string{
	"ssid", "bssid", "scan_ssid", "priority", "disabled", "id_str", "mode", "freq_list", "scan_freq",
	"key_mgmt", "proto", "pairwise", "group", "ieee80211w", "psk", "sae_password", "mem_only_psk",
	"eap", "identity", "anonymous_identity", "password", "ca_cert", "client_cert", "private_key",
	"private_key_passwd", "phase1", "phase2", "domain_match", "domain_suffix_match", "altsubject_match",
	"proactive_key_caching", "bgscan",
}

// supplicantGlobals are ignored: the image has its own.
var supplicantGlobals = []string{"ctrl_interface", "ctrl_interface_group", "update_config", "ap_scan", "fast_reauth", "eapol_version", "p2p_disabled", "pmf", "sae_pwe"}

// parseSupplicant reads the part of wpa_supplicant.conf(5) that describes
// networks.
func parseSupplicant(lines []line) (w wifi, problems []Problem) {
	var current *wifiNetwork
	var opened line
	seen := map[string]bool{}
	for _, l := range lines {
		switch compact := strings.ReplaceAll(l.text, " ", ""); {
		case compact == "network={":
			if current != nil {
				problems = append(problems, l.problem(0, "the network before, in line %d, is not closed with }", opened.number))
			}
			current, opened = &wifiNetwork{}, l
			seen = map[string]bool{}
			continue
		case compact == "}" && current != nil:
			problems = append(problems, current.check(opened)...)
			w.networks = append(w.networks, *current)
			current = nil
			continue
		}
		key, value, offset, ok := l.keyValue()
		switch {
		case !ok || value == "":
			problems = append(problems, l.problem(0, "this is neither name=value nor network={ nor }, each of which has a line of its own"))
		case current == nil && key == "country":
			var err error
			if w.country, err = checkCountry(value); err != nil {
				problems = append(problems, l.problem(offset, "%v", err))
			}
		case current == nil && slices.Contains(supplicantGlobals, key):
		case current == nil:
			problems = append(problems, l.problem(0, "a setting of this name is not taken over; country and network={ … } are"))
		case !slices.Contains(supplicantKeys, key):
			problems = append(problems, l.problem(0, "a network has no setting of this name, or it is not supported here"))
		case seen[key]:
			problems = append(problems, l.problem(0, "%s is given twice", key))
		default:
			seen[key] = true
			if err := current.set(key, value); err != nil {
				problems = append(problems, l.problem(offset, "%s: %v", key, err))
			}
		}
	}
	if current != nil {
		problems = append(problems, opened.problem(0, "this network is not closed with }"))
	}
	return w, problems
}

// set takes one setting over.
func (n *wifiNetwork) set(key, value string) error {
	if value[0] == '"' && (len(value) < 2 || value[len(value)-1] != '"') {
		return fmt.Errorf("the quote is not closed")
	}
	quoted := value[0] == '"'
	switch key {
	case "ssid":
		n.ssid = unquote(value)
		if !quoted {
			raw, err := hex.DecodeString(value)
			if err != nil {
				return fmt.Errorf("put the name in quotes")
			}
			n.ssid = string(raw)
		}
		if n.ssid == "" || len(n.ssid) > 32 {
			return fmt.Errorf("a network's name has 1 to 32 bytes")
		}
	case "psk":
		if quoted {
			if err := checkPassphrase(unquote(value)); err != nil {
				return err
			}
		} else if !isPSK(value) {
			return fmt.Errorf("put the password in quotes, or give 64 hexadecimal digits")
		}
	}
	n.settings = append(n.settings, key+"="+value)
	return nil
}

// check looks at the network as a whole.
func (n *wifiNetwork) check(opened line) []Problem {
	if n.ssid == "" {
		return []Problem{opened.problem(0, "this network has no ssid")}
	}
	return nil
}

// file is the configuration for wpa_supplicant.
func (w wifi) file() []byte {
	var b strings.Builder
	b.WriteString("# Written by tuxwatch provision from the card's settings.\n")
	b.WriteString("ctrl_interface=/run/wpa_supplicant\n")
	if w.country != "" {
		b.WriteString("country=" + w.country + "\n")
	}
	for _, n := range w.networks {
		b.WriteString("\nnetwork={\n")
		for _, s := range n.settings {
			b.WriteString("\t" + s + "\n")
		}
		b.WriteString("}\n")
	}
	return []byte(b.String())
}

// names lists the networks for a report.
func (w wifi) names() string {
	names := make([]string, len(w.networks))
	for i, n := range w.networks {
		names[i] = fmt.Sprintf("%q", n.ssid)
	}
	return strings.Join(names, ", ")
}
