package provision

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// networkName is what a file for systemd-networkd may be called.
var networkName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._@-]{0,100}\.(network|netdev|link)$`)

// neededSection is the one without which systemd takes no notice of a file
// (systemd.network(5), systemd.netdev(5), systemd.link(5)).
var neededSection = map[string]string{"network": "Match", "netdev": "NetDev", "link": "Match"}

// parseNetwork checks a file of systemd-networkd as far as its form goes
// (systemd.syntax(7)); what its settings mean networkd itself says. secret tells
// whether a key is in it.
func parseNetwork(name, text string) (secret bool, problems []Problem) {
	if !networkName.MatchString(name) {
		return false, []Problem{{Message: fmt.Sprintf("%.60q is no name for it: letters, digits and . _ @ - and then .network, .netdev or .link", name)}}
	}
	needed := neededSection[name[strings.LastIndexByte(name, '.')+1:]]
	section, settings, continued := "", map[string]int{}, false
	for _, l := range meaningfulLines(text, "#;") {
		was := continued
		continued = strings.HasSuffix(l.text, `\`)
		if was {
			continue
		}
		if l.text[0] == '[' {
			if len(l.text) < 3 || l.text[len(l.text)-1] != ']' || strings.ContainsAny(l.text[1:len(l.text)-1], "[]") {
				problems = append(problems, l.problem(0, "a section stands in brackets, as [%s]", needed))
				continue
			}
			section = l.text[1 : len(l.text)-1]
			continue
		}
		key, value, _, ok := l.keyValue()
		switch {
		case !ok || key == "":
			problems = append(problems, l.problem(0, "this is neither Setting=value nor a [Section]"))
		case section == "":
			problems = append(problems, l.problem(0, "this setting stands before the first [Section]"))
		default:
			settings[section]++
			if value != "" && slices.Contains([]string{"privatekey", "presharedkey", "key", "password"}, strings.ToLower(key)) {
				secret = true
			}
		}
	}
	if len(problems) == 0 && settings[needed] == 0 {
		problems = []Problem{{Message: fmt.Sprintf("the section [%s] is missing or empty; without it the file has no effect", needed)}}
	}
	return secret, problems
}
