// Command boot measures how long the card image takes from power-on until
// tuxwatchd says that it is ready, beside a Debian until its login prompt. Both
// run in the emulated Raspberry Pi, in one run, turn by turn. It is started by
// scripts/bench/boot/run, which builds the Debian.
//
// The clock is this machine's, from QEMU's start: U-Boot, kernel and initramfs are
// in it. Debian's time ends with the prompt on the serial console. How long ago it is
// that the daemon was ready is asked afterwards, over ssh, by the device's clock; how
// long the answer took is counted as part of the start. (Seconds since Linux started
// would not do: its clock starts seconds after it.)
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"golang.org/x/crypto/ssh"

	"tuxwatch/scripts/emulator"
)

// most is how long the image may take, as a part of Debian's time.
const most = 0.5

// contestant is one of the two cards.
type contestant struct {
	name, image string
	until       *regexp.Regexp // on the console
	seconds     []float64
}

// outcome is what --json prints.
type outcome struct {
	Machine string    `json:"machine"`
	Ready   []float64 `json:"tuxwatchReadySeconds"`
	Login   []float64 `json:"debianLoginSeconds"`
	Ratio   float64   `json:"ratioOfMedians"`
	Bar     float64   `json:"bar"`
	Chain   string    `json:"criticalChain"`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	root := flag.String("root", ".", "the source tree")
	image := flag.String("image", "", "card `image`; the newest in build if not given")
	rounds := flag.Int("rounds", 3, "how often each is started")
	asJSON := flag.Bool("json", false, "print JSON")
	flag.Parse()
	if flag.NArg() > 0 || *rounds < 1 {
		flag.Usage()
		os.Exit(2)
	}
	result, err := measure(ctx, *root, *image, *rounds)
	if err != nil {
		fmt.Fprintf(os.Stderr, "bench: %v\n", err)
		os.Exit(1)
	}
	if *asJSON {
		err = json.NewEncoder(os.Stdout).Encode(result)
	} else {
		err = result.print()
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "bench: %v\n", err)
		os.Exit(1)
	}
	if result.Ratio > most {
		fmt.Fprintf(os.Stderr, "bench: the image takes %.2f of Debian's time, more than %.2f\n", result.Ratio, most)
		os.Exit(1)
	}
}

func measure(ctx context.Context, root, image string, rounds int) (*outcome, error) {
	if image == "" {
		var err error
		if image, err = emulator.FindImage(filepath.Join(root, "build")); err != nil {
			return nil, err
		}
	}
	dir := filepath.Join(root, "build", "bench", "boot")
	ours := contestant{name: "tuxwatch", image: image}
	debian := contestant{name: "debian", image: filepath.Join(dir, "debian.img"), until: regexp.MustCompile(`debian login:`)}
	key, err := emulator.Key(filepath.Join(dir, "ssh-key"))
	if err != nil {
		return nil, err
	}
	result := &outcome{Machine: fmt.Sprintf("%d processors, %s/%s, QEMU without hardware help", runtime.NumCPU(), runtime.GOOS, runtime.GOARCH), Bar: most}
	for round := range rounds {
		for _, c := range []*contestant{&debian, &ours} {
			took, chain, err := c.start(ctx, dir, key)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", c.name, err)
			}
			fmt.Fprintf(os.Stderr, "bench: round %d of %d: %s %.0f s\n", round+1, rounds, c.name, took.Seconds())
			c.seconds = append(c.seconds, took.Seconds())
			if chain != "" {
				result.Chain = chain
			}
		}
	}
	result.Ready, result.Login = ours.seconds, debian.seconds
	result.Ratio = median(ours.seconds) / median(debian.seconds)
	return result, nil
}

// start is the first start of a new card, as the user sees it.
func (c *contestant) start(ctx context.Context, dir string, key ssh.Signer) (time.Duration, string, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Minute)
	defer cancel()
	work, err := os.MkdirTemp(dir, c.name+"-")
	if err != nil {
		return 0, "", err
	}
	defer os.RemoveAll(work)
	card, err := emulator.NewCard(c.image, filepath.Join(work, "card.img"))
	if err != nil {
		return 0, "", err
	}
	if c.name == "tuxwatch" {
		if err := card.WriteFile("tuxwatch/authorized_keys", emulator.AuthorizedKey(key)); err != nil {
			return 0, "", err
		}
	}
	begin := time.Now()
	m, err := emulator.Boot(ctx, card, emulator.Options{Dir: work, Keys: []ssh.Signer{key}})
	if err != nil {
		return 0, "", err
	}
	defer m.PowerCut()
	if c.until != nil {
		_, err := m.Console.Wait(ctx, 0, c.until)
		return time.Since(begin), "", err
	}
	if err := m.WaitReady(ctx); err != nil {
		return 0, "", err
	}
	if _, err := m.Run(ctx, "until systemctl is-active --quiet tuxwatchd; do sleep 1; done"); err != nil {
		return 0, "", err
	}
	said, err := m.Run(ctx, "systemctl show --property=ActiveEnterTimestampMonotonic --value tuxwatchd; cat /proc/uptime")
	asked := time.Since(begin)
	if err != nil {
		return 0, "", err
	}
	ago, err := since(said)
	if err != nil {
		return 0, "", err
	}
	chain, err := m.Run(ctx, "systemd-analyze time; systemd-analyze critical-chain --no-pager tuxwatchd.service")
	return asked - ago, chain, err
}

// since is how long ago a unit became active: said has that moment in microseconds
// since Linux started, and what /proc/uptime has now.
func since(said string) (time.Duration, error) {
	var microseconds int64
	var uptime float64
	if _, err := fmt.Sscan(said, &microseconds, &uptime); err != nil {
		return 0, fmt.Errorf("when the daemon was ready: %w: %q", err, said)
	}
	ago := time.Duration(uptime*float64(time.Second)) - time.Duration(microseconds)*time.Microsecond
	if microseconds <= 0 || ago < 0 {
		return 0, fmt.Errorf("when the daemon was ready: not told: %q", said)
	}
	return ago, nil
}

func (o *outcome) print() error {
	fmt.Printf("%s\n\n", o.Machine)
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "tuxwatch, until the daemon is ready\t%.0f s\t%s\n", median(o.Ready), list(o.Ready))
	fmt.Fprintf(w, "Debian, until its login prompt\t%.0f s\t%s\n", median(o.Login), list(o.Login))
	fmt.Fprintf(w, "ratio\t%.2f\tat most %.2f\n", o.Ratio, o.Bar)
	if err := w.Flush(); err != nil {
		return err
	}
	_, err := fmt.Printf("\n%s\n", strings.TrimSpace(o.Chain))
	return err
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

func list(values []float64) string {
	var parts []string
	for _, v := range values {
		parts = append(parts, fmt.Sprintf("%.0f", v))
	}
	return "(" + strings.Join(parts, ", ") + ")"
}
