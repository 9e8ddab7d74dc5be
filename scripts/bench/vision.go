package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/goccy/go-yaml"
	"golang.org/x/sys/unix"

	"tuxwatch/firmware/vision"
	"tuxwatch/firmware/vision/litert"
)

// passes is how often a round goes through the pictures. After each it is the
// others' turn, so that what else goes on in the machine meets all alike.
const passes = 5

// look is what looking at one picture took and gave.
type look struct {
	Decode        float64   `json:"decode"` // seconds
	Resize        float64   `json:"resize"`
	Invoke        float64   `json:"invoke"`
	Probabilities []float64 `json:"probabilities"` // in the order of the labels
}

func (l look) total() float64 { return l.Decode + l.Resize + l.Invoke }

// pass is looking at some pictures.
type pass struct {
	Looks []look  `json:"looks"`
	CPU   float64 `json:"cpu"` // seconds of processor time, on all cores
}

// viewer looks at n pictures, taking them in turn.
type viewer func(n int) (pass, error)

// vision compares the way from a picture's bytes to predictions with Pillow and
// the Python interpreter of LiteRT.
func (b *bench) vision(ctx context.Context) error {
	pictures, err := b.pictures(ctx)
	if err != nil {
		return err
	}
	var modes = []string{"full", "reduced"}
	names := map[string]string{
		"full":    "Pillow 13.0.0, ai-edge-litert 2.3.0",
		"reduced": "the same, reduced decoding",
	}
	for _, threads := range []int{1, 2} {
		peer, stopPeer, err := b.pythonViewer(threads, pictures)
		if err != nil {
			return err
		}
		ours, stopOurs, err := b.tuxwatchViewer(ctx, threads, pictures)
		if err != nil {
			stopPeer()
			return err
		}
		viewers := []viewer{ours, peer(modes[0]), peer(modes[1])}
		rounds, err := b.visionRounds(ctx, threads, len(pictures), viewers)
		stopPeer()
		stopOurs()
		if err != nil {
			return err
		}
		what := "1 thread"
		if threads > 1 {
			what = fmt.Sprintf("%d threads", threads)
		}
		figure := Figure{Part: "Picture to predictions (1280×720 JPEG)", What: what, Unit: "ms", Better: "lower",
			Tuxwatch: newSample("tuxwatch", rounds[0].times)}
		b.add(figure.against(newSample(names["full"], rounds[1].times)), figure.against(newSample(names["reduced"], rounds[2].times)))
		b.note("Pictures with %s: decode %s, resize %s, invoke %s ms (medians: tuxwatch, Pillow, Pillow reduced).", what,
			stage(rounds, func(l look) float64 { return l.Decode }),
			stage(rounds, func(l look) float64 { return l.Resize }),
			stage(rounds, func(l look) float64 { return l.Invoke }))
		b.note("Processor time for a picture with %s: %s / %s / %s ms.", what, number(rounds[0].cpu), number(rounds[1].cpu), number(rounds[2].cpu))
	}
	return nil
}

// visionRounds are the rounds of one viewer.
type visionRounds struct {
	times []float64 // a round's median, in milliseconds
	looks []look
	cpu   float64 // milliseconds of processor time for a picture, on average
}

// visionRounds lets the viewers look in turn, another one first in every round,
// and checks that they see the same.
func (b *bench) visionRounds(ctx context.Context, threads, pictures int, viewers []viewer) ([]visionRounds, error) {
	var first [][]look
	for _, v := range viewers { // caches are warm, threads are started
		p, err := v(pictures)
		if err != nil {
			return nil, err
		}
		first = append(first, p.Looks)
	}
	apart, err := agree(first)
	if err != nil {
		return nil, err
	}
	b.note("Pictures: the probabilities are at most %.3f apart from Pillow's, and %.3f with reduced decoding (%d pictures, %d threads).",
		apart[1], apart[2], pictures, threads)
	all := make([]visionRounds, len(viewers))
	for round := range b.rounds {
		b.say("vision: %d pictures with %d threads: round %d of %d", passes*pictures, threads, round+1, b.rounds)
		looks := make([][]look, len(viewers))
		for turn := range passes * len(viewers) {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			who := (turn + round) % len(viewers)
			p, err := viewers[who](pictures)
			if err != nil {
				return nil, err
			}
			looks[who] = append(looks[who], p.Looks...)
			all[who].cpu += p.CPU * 1e3 / float64(b.rounds*passes*pictures)
		}
		for who := range viewers {
			all[who].times = append(all[who].times, median(each(looks[who], look.total))*1e3)
			all[who].looks = append(all[who].looks, looks[who]...)
		}
	}
	return all, nil
}

func each(looks []look, of func(look) float64) []float64 {
	var values []float64
	for _, l := range looks {
		values = append(values, of(l))
	}
	return values
}

// stage is the median of one stage for each viewer.
func stage(rounds []visionRounds, of func(look) float64) string {
	var medians []string
	for _, r := range rounds {
		medians = append(medians, number(median(each(r.looks, of))*1e3))
	}
	return strings.Join(medians, " / ")
}

// mostApart is how much two probabilities of one picture may differ: roundings
// in decoding and resizing move an int8 model by a few steps. More than that
// would mean that the two do not do the same job.
const mostApart = 0.1

// agree holds the viewers' probabilities against those of the first and gives
// the largest difference of each.
func agree(viewers [][]look) ([]float64, error) {
	largest := make([]float64, len(viewers))
	for v, looks := range viewers {
		for i, l := range looks {
			for class, p := range l.Probabilities {
				largest[v] = max(largest[v], math.Abs(p-viewers[0][i].Probabilities[class]))
			}
		}
		if !(largest[v] <= mostApart) {
			return nil, fmt.Errorf("peer %d and tuxwatch do not see the same: their probabilities for a picture are %.2f apart", v, largest[v])
		}
	}
	return largest, nil
}

// pictures makes the sample pictures as large as a camera's.
func (b *bench) pictures(ctx context.Context) ([]string, error) {
	python, script := b.python()
	dir, err := b.fresh("pictures")
	if err != nil {
		return nil, err
	}
	samples := filepath.Join(b.root, "models", "samples")
	out, err := exec.CommandContext(ctx, python, script, "prepare", samples, dir).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("preparing pictures: %w\n%s", err, out)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.jpg"))
	if err == nil && len(files) == 0 {
		err = fmt.Errorf("there are no pictures in %s", samples)
	}
	return files, err
}

func (b *bench) python() (interpreter, script string) {
	return filepath.Join(b.dir, "python", "bin", "python"), filepath.Join(b.root, "scripts", "bench", "vision.py")
}

func (b *bench) model() string { return filepath.Join(b.root, "models", "penguin") }

// tuxwatchViewer looks as the daemon does: through a vision.Service.
func (b *bench) tuxwatchViewer(ctx context.Context, threads int, pictures []string) (viewer, func(), error) {
	runtime, err := litert.Load(filepath.Join(b.root, "build", "lib", "libLiteRt.so"))
	if err != nil {
		return nil, nil, err
	}
	service := vision.NewService(runtime)
	stop := func() { _ = service.Close() } // nothing is written that could be lost
	if err := service.Load(ctx, b.model(), vision.LoadOptions{Threads: threads}); err != nil {
		return nil, nil, err
	}
	info, _ := service.Model()
	var files [][]byte
	for _, p := range pictures {
		data, err := os.ReadFile(p)
		if err != nil {
			stop()
			return nil, nil, err
		}
		files = append(files, data)
	}
	return func(n int) (p pass, err error) {
		busy := processorTime()
		for i := range n {
			start := time.Now()
			r, err := service.Classify(ctx, files[i%len(files)])
			took := time.Since(start)
			if err != nil {
				return p, err
			}
			l := look{
				Decode: r.Timing.Decode.Seconds(), Resize: r.Timing.Prepare.Seconds(),
				Probabilities: make([]float64, len(info.Labels)),
			}
			l.Invoke = took.Seconds() - l.Decode - l.Resize // and whatever is around it
			for _, prediction := range r.Predictions {
				l.Probabilities[slices.Index(info.Labels, prediction.Label)] = prediction.Probability
			}
			p.Looks = append(p.Looks, l)
		}
		p.CPU = (processorTime() - busy).Seconds()
		return p, nil
	}, stop, nil
}

// processorTime is what this process has used on all cores.
func processorTime() time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return 0 // it cannot fail with these arguments
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// pythonViewer looks with vision.py, in a process of its own.
func (b *bench) pythonViewer(threads int, pictures []string) (func(how string) viewer, func(), error) {
	python, script := b.python()
	manifest, err := readManifest(b.model())
	if err != nil {
		return nil, nil, err
	}
	args := []string{script, "serve", filepath.Join(b.model(), manifest.Model), filepath.Join(b.model(), manifest.Labels),
		strconv.Itoa(threads), string(manifest.Input.Filter)}
	cmd := exec.Command(python, append(args, pictures...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	log, err := os.Create(filepath.Join(b.dir, "vision.log"))
	if err != nil {
		return nil, nil, err
	}
	defer log.Close()
	cmd.Stderr = log
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, nil, fmt.Errorf("starting the Python peer: %w", err)
	}
	stop := func() {
		_ = in.Close() // it ends with its input
		_ = cmd.Wait()
	}
	answers := bufio.NewReader(out)
	answer := func() ([]byte, error) {
		line, err := answers.ReadBytes('\n')
		if err != nil {
			return nil, fmt.Errorf("the Python peer ended (see %s): %w", log.Name(), err)
		}
		return line, nil
	}
	if _, err := answer(); err != nil { // "ready"
		stop()
		return nil, nil, err
	}
	return func(how string) viewer {
		return func(n int) (p pass, err error) {
			if _, err := fmt.Fprintln(in, how, n); err != nil {
				return p, fmt.Errorf("asking the Python peer (see %s): %w", log.Name(), err)
			}
			line, err := answer()
			if err != nil {
				return p, err
			}
			if err := json.Unmarshal(line, &p); err != nil {
				return p, fmt.Errorf("reading the Python peer's answer: %w", err)
			}
			return p, nil
		}
	}, stop, nil
}

// readManifest reads what the peer has to know of the model, and refuses what
// the peer cannot do.
func readManifest(dir string) (vision.Manifest, error) {
	m := vision.Manifest{Model: "model.tflite", Labels: "labels.txt"}
	m.Input.Resize, m.Input.Filter = vision.Stretch, vision.Bilinear
	data, err := os.ReadFile(filepath.Join(dir, vision.ManifestFile))
	if err != nil {
		return m, err
	}
	if err := yaml.Unmarshal(data, &m); err != nil {
		return m, fmt.Errorf("%s in %s: %w", vision.ManifestFile, dir, err)
	}
	if m.Input.Resize != vision.Stretch || m.Input.Channels == "bgr" || m.Input.Mean != nil {
		return m, fmt.Errorf("%s in %s: the benchmark's peer resizes by %q in RGB without mean and std only", vision.ManifestFile, dir, vision.Stretch)
	}
	return m, nil
}
