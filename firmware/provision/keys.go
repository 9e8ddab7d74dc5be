package provision

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
)

// keyTypes are the kinds of public keys that sshd takes today. ssh-dss is gone
// (OpenSSH 10.0, release notes).
var keyTypes = []string{
	"ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "ssh-rsa",
	"sk-ssh-ed25519@openssh.com", "sk-ecdsa-sha2-nistp256@openssh.com",
}

// minRSABits is what is held to be safe (NIST SP 800-131A revision 2, table 2).
const minRSABits = 2048

// parseKeys reads a file in the format of sshd(8), "AUTHORIZED_KEYS FILE
// FORMAT". It gives the lines that are right and what is wrong with the others.
func parseKeys(text string) (keys []string, problems []Problem) {
	for _, l := range meaningfulLines(text, "#") {
		if strings.HasPrefix(l.text, "---") {
			// What follows in such a file is its body, a mistake in each line.
			return nil, append(problems, foreignKey(l))
		}
		offset, err := checkKey(l.text)
		if err != nil {
			problems = append(problems, l.problem(offset, "%v", err))
			continue
		}
		if !slices.Contains(keys, l.text) {
			keys = append(keys, l.text)
		}
	}
	if len(keys)+len(problems) == 0 {
		problems = []Problem{{Message: "there is no key in it"}}
	}
	return keys, problems
}

func foreignKey(l line) Problem {
	if strings.Contains(l.text, "PRIVATE KEY") {
		return l.problem(0, "this is a private key, which has to stay with you: put the file that ends in .pub here, and make a new pair if anybody else may have read this card")
	}
	return l.problem(0, "this key is in another program's format; ssh-keygen -i -f FILE writes it as sshd reads it")
}

// checkKey checks one line: options, type, key, comment. offset is where in it
// the mistake is.
func checkKey(text string) (offset int, err error) {
	kind, rest, _ := strings.Cut(text, " ")
	if !slices.Contains(keyTypes, kind) {
		// There may be options before it, with blanks within quotes.
		end := optionsEnd(text)
		if end < 0 {
			return 0, fmt.Errorf("a quote is not closed")
		}
		after := strings.TrimLeft(text[end:], " \t")
		first := kind
		kind, rest, _ = strings.Cut(after, " ")
		if !slices.Contains(keyTypes, kind) {
			if known := first; strings.HasPrefix(known, "ssh-") || strings.HasPrefix(known, "ecdsa-") || strings.HasPrefix(known, "sk-") {
				return 0, fmt.Errorf("keys of the type %.40q are not accepted; make one with ssh-keygen -t ed25519", known)
			}
			return 0, fmt.Errorf("this is not a public key; a line begins with its type, such as %s", keyTypes[0])
		}
		offset = len(text) - len(after)
	}
	offset += len(kind) + 1
	encoded, _, _ := strings.Cut(strings.TrimLeft(rest, " \t"), " ")
	encoded, _, _ = strings.Cut(encoded, "\t")
	blob, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil || encoded == "" {
		return offset, fmt.Errorf("the key is damaged or cut off: it is not base64; copy the line again")
	}
	inner, body, ok := wireString(blob)
	if !ok || string(inner) != kind {
		return offset, fmt.Errorf("the key is damaged or cut off: it is not of the type %s; copy the line again", kind)
	}
	if err := checkKeyBody(kind, body); err != nil {
		return offset, err
	}
	return 0, nil
}

// checkKeyBody checks what comes after the type: RFC 4253, section 6.6 (RSA),
// RFC 5656, section 3.1 (ECDSA), RFC 8709, section 4 (Ed25519), and OpenSSH's
// PROTOCOL.u2f for keys in hardware.
func checkKeyBody(kind string, body []byte) error {
	lengths := map[string][]int{ // of the fields; 0 is any
		"ssh-ed25519":                        {32},
		"ecdsa-sha2-nistp256":                {8, 65},
		"ecdsa-sha2-nistp384":                {8, 97},
		"ecdsa-sha2-nistp521":                {8, 133},
		"ssh-rsa":                            {0, 0},
		"sk-ssh-ed25519@openssh.com":         {32, 0},
		"sk-ecdsa-sha2-nistp256@openssh.com": {8, 65, 0},
	}[kind]
	damaged := fmt.Errorf("the key is damaged or cut off; copy the line again")
	var last []byte
	for _, want := range lengths {
		field, rest, ok := wireString(body)
		if !ok || len(field) == 0 || want != 0 && len(field) != want {
			return damaged
		}
		last, body = field, rest
	}
	if len(body) > 0 {
		return damaged
	}
	if kind == "ssh-rsa" {
		modulus := strings.TrimLeft(string(last), "\x00")
		if bits := 8 * len(modulus); bits < minRSABits {
			return fmt.Errorf("the RSA key has about %d bits, fewer than %d; make one with ssh-keygen -t ed25519", bits, minRSABits)
		}
	}
	return nil
}

// wireString reads a string of RFC 4251, section 5.
func wireString(data []byte) (value, rest []byte, ok bool) {
	if len(data) < 4 {
		return nil, nil, false
	}
	n := binary.BigEndian.Uint32(data)
	if uint64(n) > uint64(len(data)-4) {
		return nil, nil, false
	}
	return data[4 : 4+n], data[4+n:], true
}

// optionsEnd is where the options end: at the first blank outside of quotes, or
// -1 if a quote is left open.
func optionsEnd(text string) int {
	quoted := false
	for i := 0; i < len(text); i++ {
		switch {
		case quoted && text[i] == '\\' && i+1 < len(text) && text[i+1] == '"':
			i++
		case text[i] == '"':
			quoted = !quoted
		case !quoted && (text[i] == ' ' || text[i] == '\t'):
			return i
		}
	}
	if quoted {
		return -1
	}
	return len(text)
}
