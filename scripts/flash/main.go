// Command flash writes a tuxwatch image to a card and proves that it is there.
// It refuses whatever is not a card (a partition, a disk in use, the disk that
// the system runs from, a disk that is built in), shows what is on the card and
// asks, checks the image against SHA256SUMS, writes what the image's block map
// says is in use, and reads everything back. The partition table goes last, so
// that a card that looks like a tuxwatch card has been verified.
//
// It is for whole images on whole devices, not for updating a card that is in
// use, nor for copying a card back into a file. It is started by
// scripts/flash/run, which becomes root if it has to. Start with flasher.run.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/pflag"
)

// What the program ends with.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
)

const usage = `usage: scripts/flash/run [OPTION...] DEVICE [IMAGE]
       scripts/flash/run --list [--json]

Writes IMAGE (.img.xz or .img; the newest build/tuxwatch-*.img.xz if left out)
to the card DEVICE, such as /dev/sdb or /dev/mmcblk0, and reads it back.
Everything on the card is lost. Files beside the image are used: SHA256SUMS,
and the block map (.img.bmap), which says what need not be written.

`

// options are what the command line says.
type options struct {
	device, image, bmap string
	all                 bool // whatever the block map says
	unchecked           bool
	yes                 bool
	fixedDisk           bool
	list, json          bool
}

// errUsage is a wrong command line.
var errUsage = errors.New("wrong use")

func main() {
	os.Exit(command(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// command is the program: what it prints for programs (--json) is on out, and
// what it prints for people as well, unless there is --json.
func command(ctx context.Context, args []string, in io.Reader, out, errOut io.Writer) (exit int) {
	o, help, err := parse(args)
	switch {
	case err != nil:
		fmt.Fprintf(errOut, "flash: %v; --help says how\n", err)
		return exitUsage
	case help != "":
		fmt.Fprint(out, help)
		return exitDone
	}
	f := &flasher{options: o, in: in, out: out, sys: "/sys"}
	if o.json {
		f.out = errOut
	}
	var result any
	if o.list {
		result, err = f.list(ctx)
	} else {
		result, err = f.run(ctx)
	}
	if o.json {
		if err != nil {
			result = struct {
				Error string `json:"error"`
			}{err.Error()}
		}
		encoder := json.NewEncoder(out)
		encoder.SetIndent("", "  ")
		if encodeErr := encoder.Encode(result); encodeErr != nil && err == nil {
			err = fmt.Errorf("printing the result: %w", encodeErr)
		}
	}
	if err != nil {
		fmt.Fprintf(errOut, "flash: %v\n", err)
		if errors.Is(err, errUsage) {
			return exitUsage
		}
		return exitFailed
	}
	return exitDone
}

// parse reads the command line; help is what to print instead of doing anything.
func parse(args []string) (o options, help string, err error) {
	flags := pflag.NewFlagSet("flash", pflag.ContinueOnError)
	flags.SortFlags = false
	flags.Usage = func() {}
	flags.BoolVar(&o.list, "list", false, "show the cards there are, and write nothing")
	flags.BoolVarP(&o.yes, "yes", "y", false, "do not ask (for scripts); what is not safe is refused all the same")
	flags.StringVar(&o.bmap, "bmap", "", "the image's block map `FILE`, if it is not beside the image")
	flags.BoolVar(&o.all, "all", false, "write the whole image, unused blocks as well")
	flags.BoolVar(&o.unchecked, "unchecked", false, "write an image that no SHA256SUMS speaks for")
	flags.BoolVar(&o.fixedDisk, "fixed-disk", false, "write to a disk that is built into this machine: NOT a card, and\nnot one that is plugged in. What is on it is gone for good")
	flags.BoolVar(&o.json, "json", false, "print the result as JSON; the rest goes to standard error")
	if err := flags.Parse(args); errors.Is(err, pflag.ErrHelp) {
		var b bytes.Buffer
		b.WriteString(usage)
		b.WriteString(flags.FlagUsages())
		b.WriteString("\nEnds with 0 when the card is written and verified, 1 when it is not, 2 after a\nwrong command line.\n")
		return o, b.String(), nil
	} else if err != nil {
		return o, "", err
	}
	switch rest := flags.Args(); {
	case o.list && len(rest) > 0:
		return o, "", fmt.Errorf("%w: --list takes no device", errUsage)
	case o.list:
	case len(rest) == 0 || rest[0] == "":
		return o, "", fmt.Errorf("%w: which device? --list shows the cards there are (make flash DEV=/dev/sdX)", errUsage)
	case len(rest) > 2:
		return o, "", fmt.Errorf("%w: one device and at most one image", errUsage)
	default:
		o.device = rest[0]
		if len(rest) == 2 {
			o.image = rest[1]
		}
	}
	if o.fixedDisk && o.yes {
		return o, "", fmt.Errorf("%w: --fixed-disk is answered for by a person, so not with --yes", errUsage)
	}
	if o.all && o.bmap != "" {
		return o, "", fmt.Errorf("%w: either --bmap or --all", errUsage)
	}
	return o, "", nil
}
