package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/template"
)

// osList is what Raspberry Pi Imager reads with --repo (rpi-imager,
// doc/json-schema/os-list-schema.json).
type osList struct {
	List []osEntry `json:"os_list"`
}

type osEntry struct {
	Name             string   `json:"name"`
	Description      string   `json:"description"`
	Icon             string   `json:"icon"`
	URL              string   `json:"url"`
	ExtractSize      int64    `json:"extract_size"`
	ExtractSHA256    string   `json:"extract_sha256"`
	DownloadSize     int64    `json:"image_download_size"`
	DownloadSHA256   string   `json:"image_download_sha256"`
	ReleaseDate      string   `json:"release_date"`
	Devices          []string `json:"devices"`
	InitFormat       string   `json:"init_format"`
	Architecture     string   `json:"architecture"`
	EnableRPiConnect bool     `json:"enable_rpi_connect"`
}

// icon is a penguin (SVG), small enough to be part of the list, so that nothing
// else has to be offered beside it.
const icon = "data:image/svg+xml;base64," +
	"PHN2ZyB4bWxucz0iaHR0cDovL3d3dy53My5vcmcvMjAwMC9zdmciIHZpZXdCb3g9IjAgMCA0MCA0MCI+PHJlY3Qgd2lkdGg9IjQwIiBoZWlnaHQ9IjQwIiByeD0iNiIgZmlsbD0iIzFiMmIzYSIvPjxlbGxpcHNlIGN4PSIyMCIgY3k9IjIyIiByeD0iMTEiIHJ5PSIxNCIgZmlsbD0iIzExMSIvPjxlbGxpcHNlIGN4PSIyMCIgY3k9IjI1IiByeD0iNyIgcnk9IjEwIiBmaWxsPSIjZmZmIi8+PGNpcmNsZSBjeD0iMTYiIGN5PSIxNCIgcj0iMiIgZmlsbD0iI2ZmZiIvPjxjaXJjbGUgY3g9IjI0IiBjeT0iMTQiIHI9IjIiIGZpbGw9IiNmZmYiLz48cGF0aCBkPSJNMTcgMTdoNmwtMyA0eiIgZmlsbD0iI2Y5YTAxYiIvPjwvc3ZnPg=="

// writeOSList writes the list with which Imager offers the image. The card takes
// the settings that Imager writes for images of cloud-init (firmware/provision).
func (b build) writeOSList(out io.Writer) error {
	size, sum, err := measure(b.image)
	if err != nil {
		return fmt.Errorf("list for Raspberry Pi Imager: %w", err)
	}
	packedSize, packedSum, err := measure(b.compressed)
	if err != nil {
		return fmt.Errorf("list for Raspberry Pi Imager: %w", err)
	}
	e := json.NewEncoder(out)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(osList{[]osEntry{{
		Name:           "tuxwatch " + b.version,
		Description:    "Edge-AI alarm: a sensor on I2C and a camera go in, filtered alerts come out at a cloud hub",
		Icon:           icon,
		URL:            strings.TrimSuffix(b.url, "/") + "/" + filepath.Base(b.compressed),
		ExtractSize:    size,
		ExtractSHA256:  sum,
		DownloadSize:   packedSize,
		DownloadSHA256: packedSum,
		ReleaseDate:    b.time.Format("2006-01-02"),
		// Imager's tags: Zero 2 W goes by the Pi 3's.
		Devices:      []string{"pi3-64bit", "pi4-64bit"},
		InitFormat:   "cloudinit",
		Architecture: "armv8",
	}}})
}

func measure(file string) (size int64, sum string, err error) {
	f, err := os.Open(file)
	if err != nil {
		return 0, "", err
	}
	defer f.Close()
	h := sha256.New()
	if size, err = io.Copy(h, f); err != nil {
		return 0, "", err
	}
	return size, hex.EncodeToString(h.Sum(nil)), nil
}

// rootSize is what the slot's files take, in bytes, each counted once.
func rootSize(root string) (size int64, files int, err error) {
	err = filepath.WalkDir(root, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		size += info.Size()
		files++
		return nil
	})
	return size, files, err
}

// writeNotes writes the release notes.
func (b build) writeNotes(out io.Writer) error {
	packages, err := readPackages(b.packages)
	if err != nil {
		return fmt.Errorf("release notes: %w", err)
	}
	text, err := os.ReadFile(b.sbom)
	if err != nil {
		return fmt.Errorf("release notes: %w", err)
	}
	var bill bom
	if err := json.Unmarshal(text, &bill); err != nil {
		return fmt.Errorf("release notes: %s: %w", b.sbom, err)
	}
	licences := map[string]int{}
	for _, c := range bill.Components {
		for _, l := range c.Licences {
			if l.Licence.ID != "" {
				licences[l.Licence.ID]++
			} else {
				licences[l.Licence.Name]++
			}
		}
	}
	var names []string
	for name := range licences {
		names = append(names, name)
	}
	slices.Sort(names)

	notes := struct {
		Version, Date, Image, Sum              string
		Size, Packed, Root, RootFiles, Modules int64
		Packages                               []debianPackage
		Kernel, Systemd, UBoot, Firmware       string
		Licences                               []string
		Components                             int
	}{
		Version: b.version, Date: b.time.Format("2 January 2006"), Image: filepath.Base(b.compressed),
		Packages: packages, Licences: names, Components: len(bill.Components),
	}
	if notes.Size, _, err = measure(b.image); err != nil {
		return fmt.Errorf("release notes: %w", err)
	}
	if notes.Packed, notes.Sum, err = measure(b.compressed); err != nil {
		return fmt.Errorf("release notes: %w", err)
	}
	size, files, err := rootSize(b.root)
	if err != nil {
		return fmt.Errorf("release notes: %w", err)
	}
	notes.Root, notes.RootFiles = size, int64(files)
	for _, p := range packages {
		switch {
		case strings.HasPrefix(p.name, "linux-image-"):
			notes.Kernel = strings.TrimPrefix(p.name, "linux-image-")
		case p.name == "systemd":
			notes.Systemd = p.version
		case p.name == "u-boot-rpi":
			notes.UBoot = p.version
		case p.name == "raspi-firmware":
			notes.Firmware = p.version
		}
	}
	return template.Must(template.New("notes").Funcs(template.FuncMap{
		"mb": func(bytes int64) string { return fmt.Sprintf("%.1f MB", float64(bytes)/1e6) },
	}).Parse(notesText)).Execute(out, notes)
}

const notesText = `# tuxwatch {{.Version}}, card image

{{.Date}}. One image for the Raspberry Pi 3B, 3B+, 3A+, Zero 2 W, 4B, 400 and
Compute Module 4 (64 bit).

| what | size |
|---|---|
| ` + "`{{.Image}}`" + ` | {{mb .Packed}} |
| unpacked; a card has to have that much | {{mb .Size}} |
| root file system, {{.RootFiles}} files | {{mb .Root}} |

SHA-256 of the compressed image: ` + "`{{.Sum}}`" + `

Made of {{len .Packages}} Debian 13 packages: Linux {{.Kernel}}, systemd {{.Systemd}},
U-Boot {{.UBoot}}, the Pi's firmware {{.Firmware}}; the list with versions is in the
.packages file, everything with its licence ({{.Components}} components) in the .cdx.json
file (CycloneDX).

## Onto a card

With this repository, as root: ` + "`make flash DEV=/dev/sdX`" + `. With bmap-tools:
` + "`bmaptool copy {{.Image}} /dev/sdX`" + `. With Raspberry Pi Imager: "Use custom", or
start it with ` + "`rpi-imager --repo`" + ` and the os_list.json from here.

Then mount the card's partition TUXWATCH: the folder tuxwatch on it takes ssh
keys, Wi-Fi, the hub's connection string and settings; README.txt there says
how. Without an ssh key nobody can log in.

## What has been tested, and what not

These bytes are booted in an emulated Raspberry Pi 3 from U-Boot on: sensor on
I2C, camera, network, power cuts, watchdog. Only real hardware can show, and has
not shown: the Pi's own boot firmware, Wi-Fi, the boards' Ethernet, the lights,
temperature, the watchdog of the SoC, and every model but the 3B. The newer
Zero 2 W with the Synaptics wireless chip has no firmware for it in Debian.

## Licences

tuxwatch is under the Apache License 2.0. The packages' own copyright files and
the licences they name are in the image, in
/usr/share/tuxwatch/licences.txt.gz. In the image are:

{{range .Licences}}- {{.}}
{{end}}`
