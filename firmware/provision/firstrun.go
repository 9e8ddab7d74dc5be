package provision

import (
	"fmt"
	"strings"
)

// imagerCustom is the program of Raspberry Pi OS that the script calls, where
// it is there.
const imagerCustom = "/usr/lib/raspberrypi-sys-mods/imager_custom"

// parseFirstRun reads firstrun.sh, the script that Raspberry Pi Imager writes
// for init_format systemd; Imager 1 does for every image of a file. It is not
// run: what has a meaning here is in the arguments of imager_custom (package
// raspberrypi-sys-mods), one call a line.
func parseFirstRun(text string) (p imagerPlan) {
	// It has a hash of the user's password, or the wireless network's.
	p.secret = true
	wrong := func(format string, args ...any) {
		p.problems = append(p.problems, Problem{Message: fmt.Sprintf(format, args...)})
	}
	for _, l := range meaningfulLines(text, "#") {
		rest, ok := strings.CutPrefix(l.text, imagerCustom+" ")
		if !ok {
			continue
		}
		words, ok := shellWords(rest)
		if !ok || len(words) == 0 {
			p.problems = append(p.problems, l.problem(0, "this line cannot be understood"))
			continue
		}
		switch command, args := words[0], words[1:]; {
		case command == "set_hostname" && len(args) == 1:
			hostname, _, err := checkHostname(args[0])
			if err != nil {
				wrong("set_hostname: %v", err)
			}
			p.hostname = hostname
		case command == "enable_ssh" && len(args) > 1 && args[0] == "-k":
			for i, key := range args[1:] {
				p.key(fmt.Sprintf("enable_ssh: key %d", i+1), key)
			}
		case command == "enable_ssh":
			p.note("Not applied: logging in over ssh with a password. It takes a key.")
		case command == "set_wlan":
			s := simpleWifi{}
			if len(args) > 0 && args[0] == "-h" {
				s.hidden, args = true, args[1:]
			}
			args = append(args, "", "", "")
			s.ssid, s.psk, s.country = args[0], args[1], args[2]
			s.open = s.psk == ""
			w, _, err := s.network()
			if err != nil {
				wrong("set_wlan: %v", err)
				continue
			}
			p.wifi = &w
		case command == "set_keymap", command == "set_timezone":
			p.note("Not applied: %s. The device has English messages and keeps UTC.", command)
		default:
			p.note("Not applied: %.60q, which is not known here.", command)
		}
	}
	if strings.Contains(text, "/userconf") {
		p.note("Not applied: the user. This device has the user %s, who logs in over ssh with a key.", LoginUser)
	}
	return p
}

// shellWords takes a line apart as sh(1) does, as far as Imager writes it:
// words, parts in single or double quotes, and no expansion of anything.
func shellWords(text string) (words []string, ok bool) {
	var word strings.Builder
	within, quote := false, rune(0)
	for _, r := range text {
		switch {
		case quote != 0 && r == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(r)
		case r == '\'' || r == '"':
			quote, within = r, true
		case r == ' ' || r == '\t':
			if within {
				words = append(words, word.String())
				word.Reset()
			}
			within = false
		case strings.ContainsRune("\\$`;&|<>()", r):
			return nil, false
		default:
			within = true
			word.WriteRune(r)
		}
	}
	if within {
		words = append(words, word.String())
	}
	return words, quote == 0
}
