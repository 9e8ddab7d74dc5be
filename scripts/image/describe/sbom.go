package main

import (
	"bufio"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/google/uuid"
)

// bom is a CycloneDX 1.6 bill of materials, as far as it is used here.
type bom struct {
	Format       string      `json:"bomFormat"`
	SpecVersion  string      `json:"specVersion"`
	SerialNumber string      `json:"serialNumber"`
	Version      int         `json:"version"`
	Metadata     bomMetadata `json:"metadata"`
	Components   []component `json:"components"`
}

type bomMetadata struct {
	Timestamp string    `json:"timestamp"`
	Component component `json:"component"`
}

type component struct {
	Type       string          `json:"type"`
	Ref        string          `json:"bom-ref"`
	Name       string          `json:"name"`
	Version    string          `json:"version"`
	Desc       string          `json:"description,omitempty"`
	Licences   []licenceChoice `json:"licenses"`
	PURL       string          `json:"purl,omitempty"`
	Properties []property      `json:"properties,omitempty"`
}

type property struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// debianPackage is a line of the table of packages.
type debianPackage struct {
	name, version, arch, source, sourceVersion string
}

func readPackages(file string) ([]debianPackage, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var packages []debianPackage
	for lines := bufio.NewScanner(f); lines.Scan(); {
		c := strings.Split(lines.Text(), "\t")
		if len(c) != 5 {
			return nil, fmt.Errorf("%s: %q has not name, version, architecture, source and its version", file, lines.Text())
		}
		packages = append(packages, debianPackage{c[0], c[1], c[2], c[3], c[4]})
	}
	if len(packages) == 0 {
		return nil, fmt.Errorf("%s: no packages", file)
	}
	return packages, nil
}

// writeSBOM writes what the image is made of: Debian packages, the Go modules
// that tuxwatch's programs are linked from, the model and its runtime; each with
// its licence, without which there is no bill.
func (b build) writeSBOM(out io.Writer) error {
	packages, err := readPackages(b.packages)
	if err != nil {
		return fmt.Errorf("bill of materials: %w", err)
	}
	var all []component
	for _, p := range packages {
		licences, err := debianLicences(p.name, filepath.Join(b.copyright, p.name))
		if err != nil {
			return fmt.Errorf("bill of materials: %w", err)
		}
		c := component{
			Type: "library", Name: p.name, Version: p.version, Licences: licences,
			PURL: fmt.Sprintf("pkg:deb/debian/%s@%s?arch=%s&distro=trixie", url.PathEscape(p.name), escaped(p.version), p.arch),
			Properties: []property{
				{"tuxwatch:debian:source", p.source},
				{"tuxwatch:debian:source-version", p.sourceVersion},
			},
		}
		switch {
		case p.name == "tuxwatch": // what is made here is not Debian's
			c.Type, c.PURL = "application", ""
			c.Licences = []licenceChoice{{licence{ID: "Apache-2.0"}}}
		case strings.Contains(p.name, "firmware"):
			c.Type = "firmware"
		}
		all = append(all, c)
	}
	modules, err := b.goModules()
	if err != nil {
		return fmt.Errorf("bill of materials: %w", err)
	}
	all = append(all, modules...)
	model, err := b.model()
	if err != nil {
		return fmt.Errorf("bill of materials: %w", err)
	}
	all = append(all, model...)
	for i := range all {
		c := &all[i]
		c.Ref = c.PURL
		if c.Ref == "" {
			c.Ref = c.Type + ":" + c.Name + "@" + c.Version
		}
	}

	doc := bom{
		Format: "CycloneDX", SpecVersion: "1.6", Version: 1,
		Metadata: bomMetadata{
			Timestamp: b.time.Format(time.RFC3339),
			Component: component{
				Type: "operating-system", Ref: "tuxwatch-image", Name: "tuxwatch-image", Version: b.version,
				Desc:     "SD card image for the Raspberry Pi: edge-AI alarm",
				Licences: []licenceChoice{{licence{ID: "Apache-2.0"}}},
			},
		},
		Components: all,
	}
	// The serial number is one of this content (a name-based UUID, RFC 9562 5.5).
	content, err := json.Marshal(doc)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(content)
	doc.SerialNumber = "urn:uuid:" + uuid.NewSHA1(uuid.NameSpaceOID, sum[:]).String()
	e := json.NewEncoder(out)
	e.SetIndent("", " ")
	e.SetEscapeHTML(false)
	return e.Encode(doc)
}

// escaped is a version as package URLs have it (purl specification, "version").
func escaped(version string) string {
	return strings.NewReplacer(":", "%3A", "+", "%2B").Replace(url.PathEscape(version))
}

// goModules are those that the programs say they are linked from, with the
// licences that tuxwatch's own copyright file has for them.
func (b build) goModules() ([]component, error) {
	text, err := os.ReadFile(filepath.Join(b.copyright, "tuxwatch"))
	if err != nil {
		return nil, err
	}
	licences := map[string][]licenceChoice{}
	for _, paragraph := range strings.Split(string(text), "\n\n") {
		f := fields(paragraph)
		path, ok := strings.CutSuffix(f["files"], "/*")
		if !ok {
			continue
		}
		for _, short := range regexp.MustCompile(`,? and `).Split(strings.SplitN(f["license"], "\n", 2)[0], -1) {
			l := licence{Name: short}
			if id := spdx[strings.ToLower(short)]; id != "" {
				l = licence{ID: id}
			}
			licences[path] = append(licences[path], licenceChoice{l})
		}
	}
	found := map[string]component{}
	for _, program := range []string{"tuxwatchd", "tuxwatch"} {
		info, err := buildinfo.ReadFile(filepath.Join(b.root, "usr/bin", program))
		if err != nil {
			return nil, err
		}
		found["go"] = component{
			Type: "library", Name: "go", Version: strings.TrimPrefix(info.GoVersion, "go"), Licences: licences["go"],
			Desc: "Go's standard library and runtime",
			PURL: "pkg:golang/std@" + strings.TrimPrefix(info.GoVersion, "go"),
		}
		for _, m := range info.Deps {
			if m.Replace != nil {
				m = m.Replace
			}
			found[m.Path] = component{
				Type: "library", Name: m.Path, Version: m.Version, Licences: licences[m.Path],
				PURL:       "pkg:golang/" + m.Path + "@" + escaped(m.Version),
				Properties: []property{{"tuxwatch:go:sum", m.Sum}},
			}
		}
	}
	var all []component
	for _, c := range found {
		if len(c.Licences) == 0 {
			return nil, fmt.Errorf("tuxwatch's copyright file has no licence of %s", c.Name)
		}
		all = append(all, c)
	}
	slices.SortFunc(all, func(a, b component) int { return strings.Compare(a.Name, b.Name) })
	return all, nil
}

// model is the penguin model, and the library that runs it.
func (b build) model() ([]component, error) {
	text, err := os.ReadFile(filepath.Join(b.root, "usr/share/tuxwatch/models/penguin/model.yaml"))
	if err != nil {
		return nil, err
	}
	var card struct {
		Name, Version, Licence, Description string
	}
	if err := yaml.Unmarshal(text, &card); err != nil {
		return nil, fmt.Errorf("model.yaml: %w", err)
	}
	if card.Licence == "" || card.Version == "" {
		return nil, errors.New("model.yaml says no licence or version")
	}
	copyright, err := os.ReadFile(filepath.Join(b.copyright, "tuxwatch"))
	if err != nil {
		return nil, err
	}
	litert := regexp.MustCompile(`LiteRT ([0-9.]+[0-9])`).FindSubmatch(copyright)
	if litert == nil {
		return nil, errors.New("tuxwatch's copyright file does not say which LiteRT there is")
	}
	return []component{
		{
			Type: "machine-learning-model", Name: card.Name, Version: card.Version, Desc: card.Description,
			Licences: []licenceChoice{{licence{ID: card.Licence}}},
		},
		{
			Type: "library", Name: "LiteRT", Version: string(litert[1]), Desc: "Runtime of TensorFlow Lite models",
			Licences: []licenceChoice{{licence{ID: "Apache-2.0"}}},
			PURL:     "pkg:pypi/ai-edge-litert@" + string(litert[1]),
		},
	}, nil
}
