package main

import (
	"bytes"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
)

// licence is CycloneDX's: an SPDX identifier where there is one, else a name,
// with the text where the name alone says little.
type licence struct {
	ID   string       `json:"id,omitempty"`
	Name string       `json:"name,omitempty"`
	Text *licenceText `json:"text,omitempty"`
}

type licenceText struct {
	Content string `json:"content"`
}

// licenceChoice is how CycloneDX wraps it.
type licenceChoice struct {
	Licence licence `json:"license"`
}

// files that a package of many vendors' firmware is about here: the rest of its
// copyright file speaks of other packages of the same source.
var partOf = map[string]*regexp.Regexp{
	"firmware-brcm80211": regexp.MustCompile(`brcm/brcmfmac|cypress/`),
}

// debianLicences are those that a package's copyright file names: for the
// machine-readable format (DEP-5) those of its Files paragraphs, else the whole
// text as one.
func debianLicences(name string, file string) ([]licenceChoice, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("licence of %s: %w", name, err)
	}
	if !bytes.HasPrefix(bytes.ToLower(text), []byte("format:")) {
		return []licenceChoice{{licence{Name: "as in the copyright file of Debian's " + name, Text: &licenceText{string(text)}}}}, nil
	}
	var names []string
	for _, paragraph := range regexp.MustCompile(`\n[ \t]*\n`).Split(string(text), -1) {
		fields := fields(paragraph)
		if fields["files"] == "" {
			continue
		}
		if only := partOf[name]; only != nil && !only.MatchString(fields["files"]) {
			continue
		}
		short, _, _ := strings.Cut(fields["license"], "\n")
		if short = strings.TrimSpace(short); short != "" {
			names = append(names, short)
		}
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("licence of %s: its copyright file names none", name)
	}
	slices.Sort(names)
	names = slices.Compact(names)
	var choices []licenceChoice
	for _, n := range names {
		l := licence{Name: n}
		if id := spdx[strings.ToLower(n)]; id != "" {
			l = licence{ID: id}
		}
		if !slices.ContainsFunc(choices, func(c licenceChoice) bool { return c.Licence.ID == l.ID && c.Licence.Name == l.Name }) {
			choices = append(choices, licenceChoice{l})
		}
	}
	return choices, nil
}

// fields are those of a paragraph of a Debian control file, by lower-case name,
// with continuation lines as they are.
func fields(paragraph string) map[string]string {
	all := map[string]string{}
	name := ""
	for _, line := range strings.Split(paragraph, "\n") {
		switch {
		case strings.HasPrefix(line, "#"):
		case strings.HasPrefix(line, " ") || strings.HasPrefix(line, "\t"):
			if name != "" {
				all[name] += "\n" + line
			}
		default:
			before, after, ok := strings.Cut(line, ":")
			if !ok {
				continue
			}
			name = strings.ToLower(before)
			all[name] = strings.TrimSpace(after)
		}
	}
	return all
}

// spdx has the SPDX identifiers of names that Debian's copyright files use, in
// lower case (copyright format 1.0, "Short name"; the SPDX licence list).
var spdx = map[string]string{
	"0bsd":                 "0BSD",
	"afl-2.1":              "AFL-2.1",
	"apache-2":             "Apache-2.0",
	"apache-2.0":           "Apache-2.0",
	"artistic":             "Artistic-1.0-Perl",
	"beerware":             "Beerware",
	"bsd-2-clause":         "BSD-2-Clause",
	"bsd-2-clause-netbsd":  "BSD-2-Clause",
	"bsd-3-clause":         "BSD-3-Clause",
	"bsd-3-clause-generic": "BSD-3-Clause",
	"bsd-4-clause":         "BSD-4-Clause",
	"bsd-4-clause-uc":      "BSD-4-Clause-UC",
	"bsl-1.0":              "BSL-1.0",
	"bzip2-1.0.6":          "bzip2-1.0.6",
	"cc0-1.0":              "CC0-1.0",
	"expat":                "MIT",
	"fsfap":                "FSFAP",
	"fsfullr":              "FSFULLR",
	"gfdl-1.3+":            "GFDL-1.3-or-later",
	"gfdl-niv-1.3":         "GFDL-1.3-no-invariants-only",
	"gfdl-niv-1.3+":        "GFDL-1.3-no-invariants-or-later",
	"gpl-1":                "GPL-1.0-only",
	"gpl-1+":               "GPL-1.0-or-later",
	"gpl-2":                "GPL-2.0-only",
	"gpl-2.0":              "GPL-2.0-only",
	"gpl-2.0-only":         "GPL-2.0-only",
	"gpl-2+":               "GPL-2.0-or-later",
	"gpl-2.0+":             "GPL-2.0-or-later",
	"gpl-3":                "GPL-3.0-only",
	"gpl-3+":               "GPL-3.0-or-later",
	"isc":                  "ISC",
	"lgpl-2":               "LGPL-2.0-only",
	"lgpl-2+":              "LGPL-2.0-or-later",
	"lgpl-2.0+":            "LGPL-2.0-or-later",
	"lgpl-2.1":             "LGPL-2.1-only",
	"lgpl-2.1+":            "LGPL-2.1-or-later",
	"lgpl-3":               "LGPL-3.0-only",
	"lgpl-3+":              "LGPL-3.0-or-later",
	"mit":                  "MIT",
	"mpl-2.0":              "MPL-2.0",
	"ofl-1.1":              "OFL-1.1",
	"openssh":              "SSH-OpenSSH",
	"sunpro":               "SunPro",
	"unicode-dfs-2016":     "Unicode-DFS-2016",
	"x11":                  "X11",
	"zlib":                 "Zlib",
}
