package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// flasher is one run.
type flasher struct {
	options
	in  io.Reader
	out io.Writer // for people
	sys string    // where sysfs is

	// For tests: what comes between the program and the device, and what happens
	// meanwhile.
	wrap        func(disk) disk
	noDiscard   bool
	stopping    <-chan struct{} // closed when a signal has come
	afterWindow func(offset int64)
	afterWrite  func()
}

// result is what --json prints.
type result struct {
	Device      string   `json:"device"`
	Model       string   `json:"model"`
	Serial      string   `json:"serial,omitempty"`
	Size        int64    `json:"size"` // of the device, bytes
	Image       string   `json:"image"`
	ImageSHA256 string   `json:"imageSHA256,omitempty"`
	ImageSize   int64    `json:"imageSize"` // unpacked, bytes
	BlockMap    bool     `json:"blockMap"`
	Verified    int64    `json:"verified"` // written and read back, bytes
	Seconds     float64  `json:"seconds"`
	Boot        string   `json:"boot"` // the partition that settings go to
	Notes       []string `json:"notes"`
}

// listed is a device as --list --json prints it.
type listed struct {
	Device    string `json:"device"`
	Model     string `json:"model"`
	Serial    string `json:"serial,omitempty"`
	Size      int64  `json:"size"` // bytes
	Transport string `json:"transport,omitempty"`
	File      string `json:"file,omitempty"`    // of a loop device
	Refused   string `json:"refused,omitempty"` // why it cannot be written now
}

// list shows the cards there are.
func (f *flasher) list(ctx context.Context) ([]listed, error) {
	devices, err := blockDevices(ctx)
	if err != nil {
		return nil, err
	}
	cards := []listed{}
	for i := range devices {
		d := &devices[i]
		if d.Size == 0 || d.Type != "disk" && d.Type != "loop" || !d.pluggable(f.sys) {
			continue
		}
		l := listed{Device: d.Path, Model: d.title(), Serial: d.Serial, Size: d.Size, Transport: d.Transport, File: d.backing(f.sys)}
		fmt.Fprint(f.out, d.describe(f.sys))
		if err := d.refusal(d, false, f.sys); err != nil {
			l.Refused = err.Error()
			fmt.Fprintf(f.out, "  not now: %v\n", err)
		}
		cards = append(cards, l)
	}
	if len(cards) == 0 {
		fmt.Fprintln(f.out, "There is no card and no disk that is plugged in.")
	}
	return cards, nil
}

// run checks, asks, writes and verifies.
func (f *flasher) run(ctx context.Context) (*result, error) {
	// The device goes first, so that a wrong one is not found out after a minute.
	card, err := f.look(ctx)
	if err != nil {
		return nil, err
	}
	if err := unix.Access(card.Path, unix.R_OK|unix.W_OK); err != nil {
		return nil, openError(card.Path, err)
	}
	im, err := openImage(ctx, f.options)
	if err != nil {
		return nil, err
	}
	defer im.file.Close()
	if card.Size < im.size {
		return nil, fmt.Errorf("%s is too small: it has %s, and the image %s needs %s", card.Path, bytesText(card.Size), im.path, bytesText(im.size))
	}
	for _, note := range im.notes {
		fmt.Fprintln(f.out, note)
	}
	if err := f.ask(card, im); err != nil {
		return nil, err
	}

	file, direct, err := openDevice(card.Path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	// Open, it can no longer be mounted; it has to be what was looked at still.
	if now, err := f.look(ctx); err != nil {
		return nil, err
	} else if !now.same(card) {
		return nil, fmt.Errorf("%s is not the card any more that was there before; nothing was written", card.Path)
	}
	if !direct {
		im.notes = append(im.notes, "Direct I/O is not possible with this device; it was read back through the kernel's memory.")
	}
	began := time.Now()
	w := &writing{
		disk: file, path: card.Path, number: card.Number, size: card.Size, sys: f.sys, image: im,
		flush: func() error { return flush(file, direct) },
		bar:   func(what string, total int64) progress { return newProgress(f.out, what, total) },

		afterWindow: f.afterWindow, afterWrite: f.afterWrite,
	}
	if f.wrap != nil {
		w.disk = f.wrap(w.disk)
	}
	if err := f.write(ctx, w, file); err != nil {
		return nil, fmt.Errorf("%w\n%s is unusable until it is written again", err, card.Path)
	}
	r := &result{
		Device: card.Path, Model: card.title(), Serial: card.Serial, Size: card.Size, Image: im.path, ImageSHA256: im.sum, ImageSize: im.size,
		BlockMap: im.bmap != nil, Seconds: time.Since(began).Seconds(), Boot: card.partition(1), Notes: append([]string{}, im.notes...),
	}
	for _, p := range w.pieces {
		r.Verified += p.length
	}
	if err := f.takeUp(ctx, card, file, len(partitions(w.head))); err != nil {
		note := fmt.Sprintf("The kernel did not take up the new partitions (%v): pull the card out and put it in again.", err)
		if card.Type == "loop" {
			note = fmt.Sprintf("The partitions of %s do not show (%v). Make it with --partscan: sudo losetup --detach %s; sudo losetup --find --show --partscan %s", card.Path, err, card.Path, card.backing(f.sys))
		}
		r.Notes = append(r.Notes, note)
		fmt.Fprintln(f.out, note)
	}
	fmt.Fprintf(f.out, "Written and verified: %s in %.0f seconds.\n\n%s", bytesText(r.Verified), r.Seconds, next(card))
	return r, nil
}

// look finds the device and refuses what is not safe.
func (f *flasher) look(ctx context.Context) (*blockDevice, error) {
	number, err := deviceNumber(f.device)
	if err != nil {
		return nil, err
	}
	devices, err := blockDevices(ctx)
	if err != nil {
		return nil, err
	}
	d, disk := find(devices, number)
	if d == nil {
		return nil, fmt.Errorf("lsblk does not show %s; --list shows the cards there are", f.device)
	}
	return d, d.refusal(disk, f.fixedDisk, f.sys)
}

// ask shows what will be lost, and has the device's name typed.
func (f *flasher) ask(card *blockDevice, im *image) error {
	fmt.Fprintf(f.out, "Image:  %s, %s\nDevice: %s", im.path, bytesText(im.size), card.describe(f.sys))
	if card.Size > largeCard {
		fmt.Fprintf(f.out, "CAREFUL: %s is much for a card. Is it a disk with backups, or with somebody's pictures?\n", bytesText(card.Size))
	}
	if f.yes {
		return nil
	}
	want := []string{card.Name, card.Path, f.device}
	if !card.pluggable(f.sys) {
		fmt.Fprintf(f.out, "\nTHIS IS NOT A CARD. IT IS A DISK OF THIS MACHINE. Everything on it is lost\nfor good, and the machine may not start any more.\n")
		want = []string{"destroy " + card.Name}
	}
	fmt.Fprintf(f.out, "EVERYTHING on it will be lost. To go on, type %s: ", want[0])
	line, err := bufio.NewReader(f.in).ReadString('\n')
	line = strings.TrimSpace(line)
	if line == "" {
		if err != nil {
			fmt.Fprintln(f.out)
		}
		return errors.New("nothing was typed, so nothing was written (--yes does not ask)")
	}
	for _, w := range want {
		if line == w {
			return nil
		}
	}
	return fmt.Errorf("%q is not %s; nothing was written", line, want[0])
}

// errStopped is Ctrl-C.
var errStopped = errors.New("stopped")

// write writes, and leaves the device without a partition table if it is
// stopped. Before that Ctrl-C simply ends the program, and nothing is lost.
func (f *flasher) write(ctx context.Context, w *writing, file *os.File) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	f.stopping = ctx.Done()
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	done := make(chan struct{})
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		select {
		case s := <-signals:
			stop(fmt.Errorf("%w by a signal (%v)", errStopped, s))
		case <-done:
		}
		// A second Ctrl-C ends it at once, should the device never answer.
		signal.Stop(signals)
	}()
	defer func() { close(done); <-stopped }()

	if !f.noDiscard {
		discard(ctx, file, w.size)
	}
	return w.writeAll(ctx)
}

// openDevice opens a device for this program alone: with O_EXCL the kernel
// refuses a disk of which something is mounted, and mounts nothing of it as
// long as it is open (open(2)). Without direct I/O there is no saying whether
// what is read comes from the device.
func openDevice(path string) (file *os.File, direct bool, err error) {
	const mode = os.O_RDWR | os.O_EXCL
	file, err = os.OpenFile(path, mode|unix.O_DIRECT, 0)
	if errors.Is(err, syscall.EINVAL) {
		file, err = os.OpenFile(path, mode, 0)
		return file, false, wrapOpen(path, err)
	}
	return file, true, wrapOpen(path, err)
}

func wrapOpen(path string, err error) error {
	if err == nil {
		return nil
	}
	return openError(path, err)
}

// discard tells the device that none of its content is needed any more. Cards
// live longer and write faster for it; many readers do not pass it on, and then
// nothing is lost. What has to be zero is written as zeros.
func discard(ctx context.Context, file *os.File, size int64) {
	const step = 4 << 30
	for at := int64(0); at < size && ctx.Err() == nil; at += step {
		span := [2]uint64{uint64(at), uint64(min(step, size-at))}
		if ioctl(file, unix.BLKDISCARD, uintptr(unsafe.Pointer(&span))) != nil {
			return
		}
	}
}

// takeUp has the kernel read the partition table.
func (f *flasher) takeUp(ctx context.Context, card *blockDevice, file *os.File, count int) error {
	err := ioctl(file, unix.BLKRRPART, 0)
	// Something that looks into a partition just now makes it busy for a moment.
	for try := 0; errors.Is(err, syscall.EBUSY) && try < 10 && ctx.Err() == nil; try++ {
		time.Sleep(200 * time.Millisecond)
		err = ioctl(file, unix.BLKRRPART, 0)
	}
	last := filepath.Join(f.sys, "block", card.Name, filepath.Base(card.partition(count)))
	if _, statErr := os.Stat(last); err == nil && count > 0 && errors.Is(statErr, fs.ErrNotExist) {
		// A kernel that was built without this kind of table has to be told.
		out, partxErr := exec.CommandContext(ctx, "partx", "--add", card.Path).CombinedOutput()
		if partxErr != nil {
			err = fmt.Errorf("partx: %w: %s", partxErr, strings.TrimSpace(string(out)))
		}
	}
	return err
}

// flush has the kernel forget the device's content. It takes a privilege beyond
// that of writing (CAP_SYS_ADMIN), and with direct I/O there is nothing to forget.
func flush(file *os.File, direct bool) error {
	err := ioctl(file, unix.BLKFLSBUF, 0)
	if direct && (errors.Is(err, syscall.EACCES) || errors.Is(err, syscall.EPERM)) {
		return nil
	}
	return err
}

func ioctl(file *os.File, request uint, argument uintptr) error {
	for {
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, file.Fd(), uintptr(request), argument)
		switch errno {
		case 0:
			return nil
		case unix.EINTR:
			continue
		}
		return errno
	}
}

// next says what to do with the card.
func next(card *blockDevice) string {
	boot := card.partition(1)
	return fmt.Sprintf(`Next, if you like, settings for the device, before it starts for the first time:

  sudo mount %s /mnt     # or put the card in again, and open TUXWATCH
  ls /mnt/tuxwatch              # README.txt says what can be put there, examples/ has one of each
  sudo cp ~/.ssh/id_ed25519.pub /mnt/tuxwatch/authorized_keys   # without a key nobody can log in
  sudo umount /mnt

Then put the card into the Raspberry Pi and switch it on. It is tuxwatch.local
in the network: ssh tux@tuxwatch.local
`, boot)
}
