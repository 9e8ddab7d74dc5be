// Command describe writes what belongs beside a card image: its block map, its
// bill of materials, the list that Raspberry Pi Imager reads, and the release
// notes. scripts/image/build calls it; start reading at run.
//
//	describe bmap --image FILE >FILE.bmap
//	describe sbom --packages FILE --copyright DIR --root DIR --version VERSION >FILE.cdx.json
//	describe os-list --image FILE --compressed FILE --version VERSION --url PREFIX >os_list.json
//	describe notes --image FILE --compressed FILE --packages FILE --root DIR --sbom FILE --version VERSION >release-notes.md
//
// All of it is the same for the same input: the time is SOURCE_DATE_EPOCH.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"
)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "describe:", err)
		os.Exit(1)
	}
}

// build is what the parts know of the image.
type build struct {
	image, compressed string
	packages          string // a line a package: name, version, architecture, source, source's version
	copyright         string // folder with a copyright file a package
	root              string // the slot's file system
	sbom              string
	version           string
	url               string // where the compressed image is offered, without its name
	time              time.Time
}

func run(args []string, out io.Writer) error {
	if len(args) == 0 {
		return fmt.Errorf("say what to write: bmap, sbom, os-list or notes")
	}
	var b build
	flags := flag.NewFlagSet("describe "+args[0], flag.ContinueOnError)
	flags.StringVar(&b.image, "image", "", "the image")
	flags.StringVar(&b.compressed, "compressed", "", "the image, compressed")
	flags.StringVar(&b.packages, "packages", "", "the table of packages")
	flags.StringVar(&b.copyright, "copyright", "", "folder of the packages' copyright files")
	flags.StringVar(&b.root, "root", "", "folder of the slot's file system")
	flags.StringVar(&b.sbom, "sbom", "", "the bill of materials")
	flags.StringVar(&b.version, "version", "", "the release")
	flags.StringVar(&b.url, "url", "", "where the compressed image is offered, without its name")
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	seconds, err := strconv.ParseInt(os.Getenv("SOURCE_DATE_EPOCH"), 10, 64)
	if err != nil {
		return fmt.Errorf("SOURCE_DATE_EPOCH has to be the release's time in seconds since 1970: %w", err)
	}
	b.time = time.Unix(seconds, 0).UTC()
	switch args[0] {
	case "bmap":
		return writeBlockMap(out, b.image)
	case "sbom":
		return b.writeSBOM(out)
	case "os-list":
		return b.writeOSList(out)
	case "notes":
		return b.writeNotes(out)
	}
	return fmt.Errorf("there is no %q: say bmap, sbom, os-list or notes", args[0])
}
