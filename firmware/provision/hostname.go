package provision

import (
	"fmt"
	"strings"
)

// parseHostname reads a file with a host name.
func parseHostname(text string) (string, []Problem) {
	lines := meaningfulLines(text, "#")
	switch len(lines) {
	case 0:
		return "", []Problem{{Message: "there is no name in it"}}
	case 1:
	default:
		return "", []Problem{lines[1].problem(0, "there is more than one line; a name is one word")}
	}
	name, offset, err := checkHostname(lines[0].text)
	if err != nil {
		return "", []Problem{lines[0].problem(offset, "%v", err)}
	}
	return name, nil
}

// checkHostname gives the name in lower case if it is one label of RFC 1123,
// section 2.1, and otherwise where it is not.
func checkHostname(name string) (valid string, offset int, err error) {
	for i, r := range name {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
		switch {
		case r == '.':
			return "", i, fmt.Errorf("a host name has no dot: the device is NAME.local in its network by itself")
		case !letter && r != '-':
			return "", i, fmt.Errorf("%q cannot be in a host name; letters a to z, digits and - can", r)
		case r == '-' && (i == 0 || i == len(name)-1):
			return "", i, fmt.Errorf("a host name neither begins nor ends with -")
		}
	}
	valid = strings.ToLower(name)
	switch {
	case valid == "":
		return "", 0, fmt.Errorf("the host name is empty")
	case len(valid) > 63:
		return "", 63, fmt.Errorf("the host name has %d characters; 63 are the most", len(valid))
	case valid == "localhost":
		return "", 0, fmt.Errorf("localhost is every machine's name for itself; choose another")
	}
	return valid, 0, nil
}
