package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"slices"
	"syscall"
	"unsafe"

	"golang.org/x/sync/errgroup"
)

// disk is what is written to: an *os.File, in a test one that has faults.
type disk interface {
	io.ReaderAt
	io.WriterAt
	Sync() error
}

const (
	windowSize = 4 << 20
	// probes is how many places beyond the image are tried for memory that is
	// not there.
	probes    = 64
	probeSize = blockSize
	blockSize = 4096
)

// writing is an image on its way to a device.
type writing struct {
	disk   disk
	path   string // of the device
	number string
	size   int64 // of the device
	sys    string
	image  *image
	flush  func() error // makes the kernel forget what it remembers of the device
	bar    func(what string, total int64) progress

	// For tests: after each window, and between writing and verifying.
	afterWindow func(offset int64)
	afterWrite  func()

	seed   maphash.Seed
	pieces []piece
	probed []piece
	head   []byte // the first part, which is written last
}

// errEnds is an image that is too short.
var errEnds = errors.New("it ends")

// piece is something that was written and is to be found there.
type piece struct {
	extent
	sum    [sha256.Size]byte
	blocks []uint64 // hashes of its blocks, to tell what is where it should not be
	empty  bool     // it is zeros, which may be there without having been written
}

// progress shows how far the work is.
type progress interface {
	add(n int64)
	end()
}

// writeAll writes and verifies. If it fails, the device has no partition table.
func (w *writing) writeAll(ctx context.Context) (err error) {
	w.seed = maphash.MakeSeed()
	defer func() {
		if err != nil {
			// Best effort: it is not to look like a card that is right.
			_, _ = w.write(extent{0, min(edge, w.size)}, aligned(edge))
			_ = w.settle()
		}
	}()
	if err := w.clear(ctx); err != nil {
		return err
	}
	if err := w.probe(ctx); err != nil {
		return err
	}
	if err := w.copy(ctx); err != nil {
		return err
	}
	if err := w.settle(); err != nil {
		return err
	}
	if w.afterWrite != nil {
		w.afterWrite()
	}
	if err := w.verify(ctx); err != nil {
		return err
	}
	if err := w.unprobe(); err != nil {
		return err
	}
	return w.finish(ctx)
}

// clear takes the device's old partition tables away, at the beginning and the
// end (a GPT has a copy there).
func (w *writing) clear(ctx context.Context) error {
	none := aligned(edge)
	if _, err := w.write(extent{0, min(edge, w.size)}, none); err != nil {
		return err
	}
	tail := extent{max(roundUp(w.image.size, sector), w.size-edge), 0}
	if tail.length = w.size - tail.offset; tail.length > 0 {
		p, err := w.write(tail, none[:tail.length])
		if err != nil {
			return err
		}
		w.pieces = append(w.pieces, p)
	}
	if err := w.settle(); err != nil {
		return err
	}
	return context.Cause(ctx)
}

// probe writes marks beyond the image, over all of the device. A device that
// has less memory than it says loses them, or puts them where the image goes
// and loses them then. With the image alone such a card would pass, and fail
// months later when the data partition has grown into what is not there.
func (w *writing) probe(ctx context.Context) error {
	from, step := roundUp(w.image.size, edge), w.size/probes
	var run [16]byte
	if _, err := rand.Read(run[:]); err != nil {
		return fmt.Errorf("making marks: %w", err)
	}
	mark := aligned(probeSize)
	for i := int64(1); i < probes; i++ {
		at := i * step &^ (edge - 1)
		if at < from || at+edge > w.size-edge || len(w.probed) > 0 && w.probed[len(w.probed)-1].offset == at {
			continue
		}
		// Each is different, and none is what an earlier run left.
		sum := sha256.Sum256(fmt.Append(run[:], at))
		for n := 0; n < len(mark); n += copy(mark[n:], sum[:]) {
		}
		p, err := w.write(extent{at, probeSize}, mark)
		if err != nil {
			return err
		}
		w.probed = append(w.probed, p)
		if err := context.Cause(ctx); err != nil {
			return err
		}
	}
	return nil
}

// unprobe takes the marks away.
func (w *writing) unprobe() error {
	none := aligned(probeSize)
	for _, p := range w.probed {
		if _, err := w.write(p.extent, none); err != nil {
			return err
		}
	}
	return nil
}

// copy writes the image, but for its first part. One goroutine unpacks while
// this one writes.
func (w *writing) copy(ctx context.Context) error {
	type window struct {
		extent
		data []byte // with zeros up to the end of a sector
	}
	source, wait, err := w.image.unpack(ctx)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	full, free := make(chan window), make(chan []byte, 2)
	for range cap(free) {
		free <- aligned(windowSize)
	}
	group.Go(func() error {
		defer close(full)
		check := newContentCheck(w.image.bmap)
		err := func() error {
			for at := int64(0); at < w.image.size; at += windowSize {
				var buffer []byte
				select {
				case buffer = <-free:
				case <-ctx.Done():
					return context.Cause(ctx)
				}
				n := min(windowSize, w.image.size-at)
				if got, err := io.ReadFull(source, buffer[:n]); err != nil {
					if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
						err = fmt.Errorf("%w after %d bytes of %d; get or build it again", errEnds, at+int64(got), w.image.size)
					}
					return fmt.Errorf("reading the image %s: %w", w.image.path, err)
				}
				if err := check.write(buffer[:n]); err != nil {
					return fmt.Errorf("reading the image %s: %w", w.image.path, err)
				}
				data := buffer[:roundUp(n, sector)]
				clear(data[n:])
				select {
				case full <- window{extent{at, n}, data}:
				case <-ctx.Done():
					return context.Cause(ctx)
				}
			}
			var more [1]byte
			if _, err := io.ReadFull(source, more[:]); err == nil {
				return fmt.Errorf("the image %s is longer than the %d bytes that it says", w.image.path, w.image.size)
			}
			return nil
		}()
		// What the unpacker says is the reason if the image ended too soon, and of
		// no interest if it was stopped from here.
		cause, waitErr := context.Cause(ctx), wait()
		switch {
		case cause != nil:
			return cause
		case waitErr != nil && (err == nil || errors.Is(err, errEnds)):
			return waitErr
		}
		return err
	})
	group.Go(func() error {
		var todo []extent
		var bar progress
		for win := range full {
			if bar == nil {
				todo = w.plan(win.data)
				var total int64
				for _, e := range todo {
					total += e.length
				}
				bar = w.bar("writing", total)
				defer bar.end()
			}
			for len(todo) > 0 && todo[0].offset < win.end() {
				part := todo[0].within(win.extent)
				// At the image's end the rest of the sector is written too.
				data := win.data[part.offset-win.offset:]
				data = data[:min(int64(len(data)), roundUp(part.length, sector))]
				p, err := w.write(extent{part.offset, int64(len(data))}, data)
				if err != nil {
					return err
				}
				w.pieces = append(w.pieces, p)
				bar.add(part.length)
				if todo[0].end() > win.end() {
					break
				}
				todo = todo[1:]
			}
			if w.afterWindow != nil {
				w.afterWindow(win.offset)
			}
			select {
			case free <- win.data[:windowSize]:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			if err := context.Cause(ctx); err != nil {
				return err
			}
		}
		return nil
	})
	return group.Wait()
}

// plan keeps the first part for later and says what is to be written now.
func (w *writing) plan(first []byte) []extent {
	w.head = aligned(int(roundUp(min(edge, w.image.size), sector)))
	copy(w.head, first)
	inUse := []extent{{0, w.image.size}}
	if m := w.image.bmap; m != nil {
		inUse = inUse[:0]
		for _, r := range m.ranges {
			inUse = append(inUse, r.extent)
		}
	}
	todo := plan(inUse, partitions(first), w.image.size)
	var rest []extent
	for _, e := range todo {
		if e = e.within(extent{edge, w.image.size}); e.length > 0 {
			rest = append(rest, e)
		}
	}
	return rest
}

// verify reads back what was written.
func (w *writing) verify(ctx context.Context) error {
	if bad, err := w.compare(ctx, w.probed, nil); err != nil {
		return err
	} else if len(bad) > 0 {
		return fmt.Errorf("%s has less memory than it says: it claims %s, but what was written at %s did not stay there. Cards with a false size are sold; the image itself would fit, and the device would fail when its data grow. Take another card",
			w.path, bytesText(w.size), bytesText(bad[0].offset))
	}
	var total int64
	for _, p := range w.pieces {
		total += p.length
	}
	bar := w.bar("verifying", total)
	defer bar.end()
	bad, err := w.compare(ctx, w.pieces, bar)
	if err != nil || len(bad) == 0 {
		return err
	}
	return w.explain(bad)
}

// difference is a piece that was not found as it was written.
type difference struct {
	piece
	got []uint64 // the hashes of the blocks that are there
}

// at is the first block that differs.
func (d difference) at() int64 {
	for i := range d.blocks {
		if d.got[i] != d.blocks[i] {
			return d.offset + int64(i)*blockSize
		}
	}
	return d.offset
}

// hashes are those of the blocks of data.
func (w *writing) hashes(data []byte) (sums []uint64) {
	for ; len(data) > 0; data = data[min(blockSize, len(data)):] {
		sums = append(sums, maphash.Bytes(w.seed, data[:min(blockSize, len(data))]))
	}
	return sums
}

// compare reads pieces and gives those that differ.
func (w *writing) compare(ctx context.Context, pieces []piece, bar progress) (bad []difference, err error) {
	buffer := aligned(windowSize)
	for _, p := range pieces {
		if err := context.Cause(ctx); err != nil {
			return nil, err
		}
		data := buffer[:p.length]
		if n, err := w.disk.ReadAt(data, p.offset); int64(n) < p.length {
			return nil, w.fault("reading it back", p.offset+int64(n), err)
		}
		if sha256.Sum256(data) != p.sum {
			bad = append(bad, difference{p, w.hashes(data)})
		}
		if bar != nil {
			bar.add(p.length)
		}
	}
	return bad, nil
}

// explain says what differences mean.
func (w *writing) explain(bad []difference) error {
	slices.SortFunc(bad, func(a, b difference) int { return cmp.Compare(a.offset, b.offset) })
	first := bad[0].at()
	none := maphash.Bytes(w.seed, zeros[:])
	wrote := map[uint64]int64{} // where
	after := 0                  // pieces that say something, from the first that differs on
	for _, p := range w.pieces {
		for i, sum := range p.blocks {
			if sum != none {
				wrote[sum] = p.offset + int64(i)*blockSize
			}
		}
		if !p.empty && p.offset >= bad[0].offset {
			after++
		}
	}
	lost := 0
	for _, b := range bad {
		for i, sum := range b.got {
			if other, ok := wrote[sum]; ok && sum != b.blocks[i] {
				return fmt.Errorf("%s has less memory than it says (%s): at byte %d there is what was written at byte %d. Cards with a false size are sold; take another one", w.path, bytesText(w.size), b.offset+int64(i)*blockSize, other)
			}
		}
		if !b.empty {
			lost++
		}
	}
	if lost == after && lost > 1 && first >= windowSize {
		return fmt.Errorf("nothing that was written to %s from byte %d (%s) on is there: the card probably has less memory than it says (%s); cards with a false size are sold. Take another one", w.path, first, bytesText(first), bytesText(w.size))
	}
	return fmt.Errorf("what was written to %s is not what is there, in %d of %d parts, first at byte %d (%s): the card, the reader or its cable is broken. Try another reader, then another card",
		w.path, len(bad), len(w.pieces), first, bytesText(first))
}

// finish writes the first part, with the partition table, now that the rest is
// known to be right.
func (w *writing) finish(ctx context.Context) error {
	p, err := w.write(extent{0, int64(len(w.head))}, w.head)
	if err != nil {
		return err
	}
	w.pieces = append(w.pieces, p)
	if err := w.settle(); err != nil {
		return err
	}
	bad, err := w.compare(ctx, []piece{p}, nil)
	if err == nil && len(bad) > 0 {
		err = w.explain(bad)
	}
	return err
}

// write writes data and says what is there now.
func (w *writing) write(e extent, data []byte) (piece, error) {
	data = data[:e.length]
	if n, err := w.disk.WriteAt(data, e.offset); err != nil {
		return piece{}, w.fault("writing", e.offset+int64(max(n, 0)), err)
	}
	return piece{e, sha256.Sum256(data), w.hashes(data), zero(data)}, nil
}

// settle waits until everything is on the device, and has the kernel forget it,
// so that reading it takes it from there.
func (w *writing) settle() error {
	if err := w.disk.Sync(); err != nil {
		return w.fault("writing out what was kept in memory", -1, err)
	}
	if w.flush != nil {
		if err := w.flush(); err != nil {
			return w.fault("writing out what was kept in memory", -1, err)
		}
	}
	return nil
}

// fault explains an error of the device.
func (w *writing) fault(doing string, at int64, err error) error {
	where := ""
	if at >= 0 {
		where = fmt.Sprintf(" at byte %d (%s of %s)", at, bytesText(at), bytesText(w.size))
	}
	switch {
	case errors.Is(err, syscall.ENODEV), errors.Is(err, syscall.ENXIO), errors.Is(err, syscall.ENOMEDIUM), gone(w.sys, w.number):
		return fmt.Errorf("%s: %s%s: the device is gone; card or reader was pulled out, or its cable is loose: %w", w.path, doing, where, err)
	case errors.Is(err, syscall.EROFS), errors.Is(err, syscall.EPERM):
		return fmt.Errorf("%s: %s%s: it is write-protected; a worn-out card does that by itself: %w", w.path, doing, where, err)
	case errors.Is(err, syscall.EIO), errors.Is(err, syscall.ENOSPC):
		return fmt.Errorf("%s: %s%s: the card is broken, or has less memory than it says; take another one: %w", w.path, doing, where, err)
	}
	return fmt.Errorf("%s: %s%s: %w", w.path, doing, where, err)
}

func roundUp(n, to int64) int64 { return (n + to - 1) / to * to }

// aligned gives zeros at an address that direct I/O can use (open(2), O_DIRECT).
func aligned(n int) []byte {
	const page = 4096
	b := make([]byte, n+page)
	skip := page - int(uintptr(unsafe.Pointer(&b[0]))%page)
	return b[skip : skip+n : skip+n]
}
