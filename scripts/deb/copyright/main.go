// Command copyright writes the part of a Debian copyright file (DEP-5, machine-
// readable format 1.0) that is about the Go modules linked into programs: a
// paragraph a module, out of the licence files that the module comes with. A
// licence that it does not know ends it, so that nothing is shipped unlicensed.
//
//	go run ./scripts/deb/copyright --arch arm64 ./firmware/cmd/tuxwatchd … < header > copyright
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

func main() {
	arch := flag.String("arch", "", "the processor that the programs are for, as Go names it")
	flag.Parse()
	if err := run(os.Stdin, os.Stdout, *arch, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "copyright:", err)
		os.Exit(1)
	}
}

func run(header io.Reader, out io.Writer, arch string, programs []string) error {
	modules, err := linked(arch, programs)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	if _, err := io.Copy(&b, header); err != nil {
		return err
	}
	for _, m := range modules {
		p, err := paragraph(m)
		if err != nil {
			return err
		}
		b.WriteString("\n" + p)
	}
	b.WriteString("\n" + apache)
	_, err = out.Write(b.Bytes())
	return err
}

// module is one that programs are linked from.
type module struct {
	Path, Version, Dir string
	packages           []string // folders of its packages that are linked
}

// linked lists the modules, and Go's own library as one, in the order of paths.
func linked(arch string, programs []string) ([]module, error) {
	cmd := exec.Command("go", append([]string{"list", "-deps", "-json=Dir,Standard,Module"}, programs...)...)
	if arch != "" {
		cmd.Env = append(os.Environ(), "GOARCH="+arch, "CGO_ENABLED=1")
	}
	cmd.Stderr = os.Stderr
	list, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	goroot, err := exec.Command("go", "env", "GOROOT", "GOVERSION").Output()
	if err != nil {
		return nil, fmt.Errorf("go env: %w", err)
	}
	root := strings.Fields(string(goroot))
	modules := map[string]*module{"std": {Path: "go", Version: root[1], Dir: root[0]}}
	for d := json.NewDecoder(bytes.NewReader(list)); ; {
		var p struct {
			Dir      string
			Standard bool
			Module   *struct {
				module
				Main bool
			}
		}
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, fmt.Errorf("go list: %w", err)
		}
		if p.Standard || p.Module == nil || p.Module.Main {
			continue
		}
		m := modules[p.Module.Path]
		if m == nil {
			m = &p.Module.module
			modules[m.Path] = m
		}
		m.packages = append(m.packages, p.Dir)
	}
	var sorted []module
	for _, m := range modules {
		sorted = append(sorted, *m)
	}
	slices.SortFunc(sorted, func(a, b module) int { return strings.Compare(a.Path, b.Path) })
	return sorted, nil
}

// licenceFile matches the names that licences have; edl-v10 is the one of the
// two of Eclipse that we choose (BSD-3-Clause).
var licenceFile = regexp.MustCompile(`(?i)^(edl-v10|(un)?licen[cs]e(\.(txt|md))?|copying)$`)

// paragraph gives what is to be said about a module.
func paragraph(m module) (string, error) {
	texts, err := read(m.Dir, licenceFile)
	if err != nil {
		return "", err
	}
	if len(texts) > 1 { // paho's LICENSE is EPL or EDL, and EDL stands beside it
		texts = slices.DeleteFunc(texts, func(t string) bool { return strings.Contains(t, "Eclipse Public License") })
	}
	if len(texts) != 1 {
		return "", fmt.Errorf("%s has %d licence files; teach scripts/deb/copyright which one holds", m.Dir, len(texts))
	}
	text := texts[0]
	name, err := identify(text)
	if err != nil {
		return "", fmt.Errorf("%s: %w", m.Dir, err)
	}
	holders := holdersIn(text)
	if len(holders) == 0 && name != "Unlicense" {
		if holders, err = holdersInSource(m.packages); err != nil {
			return "", err
		}
	}
	if len(holders) == 0 {
		holders = []string{"the authors of " + m.Path}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "Files: %s/*\n", m.Path)
	fmt.Fprintf(&b, "Copyright: %s\n", strings.Join(holders, "\n "))
	fmt.Fprintf(&b, "License: %s\n", name)
	if name != "Apache-2.0" { // whose text is on every Debian
		more, err := read(filepath.Join(m.Dir, "THIRD_PARTY_LICENSES"), regexp.MustCompile(`LICENSE$`))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return "", err
		}
		for i, t := range append([]string{text}, more...) {
			if i > 0 {
				b.WriteString(" .\n Parts of it:\n .\n")
			}
			b.WriteString(indented(t))
		}
	}
	fmt.Fprintf(&b, "Comment: version %s\n", m.Version)
	notices, err := read(m.Dir, regexp.MustCompile(`^NOTICE(\.txt)?$`))
	if err != nil {
		return "", err
	}
	for _, n := range notices {
		b.WriteString(" .\n" + indented(n))
	}
	return b.String(), nil
}

// read gives the texts of a folder's files of that name.
func read(dir string, name *regexp.Regexp) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var texts []string
	for _, e := range entries {
		if !e.Type().IsRegular() || !name.MatchString(e.Name()) {
			continue
		}
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, err
		}
		texts = append(texts, string(data))
	}
	return texts, nil
}

// identify names a licence by the sentences that only it has.
func identify(text string) (string, error) {
	flat := strings.Join(strings.Fields(text), " ")
	has := func(s string) bool { return strings.Contains(flat, s) }
	switch {
	case has("Apache License") && has("Version 2.0, January 2004"):
		return "Apache-2.0", nil
	case has("This is free and unencumbered software released into the public domain"):
		return "Unlicense", nil
	case has("Permission is hereby granted, free of charge") && has(`THE SOFTWARE IS PROVIDED "AS IS"`):
		return "Expat", nil
	case has("Redistribution and use in source and binary forms"):
		if has("Neither the name") || has("Neither the names") || has("may be used to endorse or promote") {
			return "BSD-3-clause", nil
		}
		return "BSD-2-clause", nil
	}
	return "", fmt.Errorf("the licence is none that scripts/deb/copyright knows; it begins with %.60q", flat)
}

var holder = regexp.MustCompile(`(?im)^[\s/*#]*copyright\s*(?:\(c\)|©)?\s*((?:©|\d{4}|[^\n]*\bAuthors\b)[^\n]*?)\s*$`)

func holdersIn(text string) []string {
	var holders []string
	for _, m := range holder.FindAllStringSubmatch(text, -1) {
		h := strings.TrimSuffix(m[1], " All rights reserved.")
		h = strings.TrimSuffix(h, ". All rights reserved")
		if strings.Contains(h, "{") || strings.Contains(h, "[yyyy]") || slices.Contains(holders, h) {
			continue
		}
		holders = append(holders, h)
	}
	return holders
}

// holdersInSource looks where the licence names nobody: into the heads of the
// source files that are linked.
func holdersInSource(dirs []string) ([]string, error) {
	var holders []string
	for _, dir := range dirs {
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil {
			return nil, err
		}
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				return nil, err
			}
			for _, h := range holdersIn(string(data[:min(len(data), 1000)])) {
				if !slices.Contains(holders, h) {
					holders = append(holders, h)
				}
			}
		}
	}
	slices.Sort(holders)
	return holders, nil
}

// indented writes a text as DEP-5 has it in fields: a blank before each line,
// and a dot for an empty one.
func indented(text string) string {
	var b strings.Builder
	for line := range strings.Lines(strings.Trim(text, "\n")) {
		line = strings.TrimRight(line, " \t\r\n\f")
		if line == "" {
			line = "."
		}
		b.WriteString(" " + line + "\n")
	}
	return b.String()
}

const apache = `License: Apache-2.0
 Licensed under the Apache License, Version 2.0 (the "License"); you may not use
 these files except in compliance with the License. Unless required by applicable
 law or agreed to in writing, software distributed under the License is
 distributed on an "AS IS" BASIS, WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND,
 either express or implied. See the License for the specific language governing
 permissions and limitations under the License.
 .
 On Debian systems, the text of the License is in
 /usr/share/common-licenses/Apache-2.0.
`
