package check

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Bounds of a disk that is well. An acknowledgement waits for one write with
// fsync; a good card takes 5 to 50 ms for it.
const (
	lowSpace     = 64 << 20
	slowWrite    = 500 * time.Millisecond
	useless      = 5 * time.Second
	writeSamples = 5
)

// disk looks at the file system of the state: room, whether it can be written
// and how quickly, and what card and kernel say about their health.
func (c *checker) disk(context.Context) {
	dir := existing(c.State)
	stat, err := c.System.FileSystem(dir)
	if err != nil {
		c.fail("disk", "", fmt.Sprintf("looking at %s: %v", dir, err), "")
		return
	}
	room := int64(stat.Bavail) * int64(stat.Bsize)
	switch {
	case stat.Flags&unix.ST_RDONLY != 0:
		c.fail("disk", "", dir+" is on a file system that is read-only",
			"look for errors with dmesg; after the card failed the kernel makes it read-only: copy it and replace it")
		return
	case room < lowSpace:
		c.fail("disk", "", fmt.Sprintf("%s has %s left", dir, size(room)), "make room; du -xh "+c.whole()+" | sort -h shows what is large")
	case stat.Files > 0 && stat.Ffree < 1000:
		c.fail("disk", "", fmt.Sprintf("%s has room for %d more files", dir, stat.Ffree), "remove files")
	case room < int64(c.Config.Outbox.MaxBytes):
		c.warn("disk", "", fmt.Sprintf("%s has %s left, less than the outbox may take (%v)", dir, size(room), c.Config.Outbox.MaxBytes),
			"make room, or lower outbox.max_bytes")
	default:
		c.ok("disk", "", fmt.Sprintf("%s has %s left", dir, size(room)))
	}
	c.writing(dir)
	c.health(dir)
}

// whole is the folder that the state's file system is mounted on, and recheck how
// to have it checked. The card image does that by itself.
func (c *checker) whole() string {
	if Slot(c.path("/")) != "" {
		return "/data"
	}
	return "/"
}

func (c *checker) recheck() string {
	if Slot(c.path("/")) != "" {
		return "start again, which checks it"
	}
	return "have it checked at the next start (fsck.mode=force)"
}

// existing is the path, or what there is of it.
func existing(path string) string {
	for {
		if _, err := os.Stat(path); err == nil || path == filepath.Dir(path) || !errors.Is(err, fs.ErrNotExist) {
			return path
		}
		path = filepath.Dir(path)
	}
}

// writing measures what the outbox does for each message.
func (c *checker) writing(dir string) {
	took, err := measure(dir, writeSamples)
	switch {
	case errors.Is(err, fs.ErrPermission):
		c.warn("disk", "writing", fmt.Sprintf("not measured: %v", err), "run it with sudo")
	case err != nil:
		c.fail("disk", "writing", err.Error(), "look for errors with dmesg")
	case took > useless:
		c.fail("disk", "writing", fmt.Sprintf("a write with fsync takes %v", took.Round(time.Millisecond)), "the card is worn out or broken: copy it and replace it")
	case took > slowWrite:
		c.warn("disk", "writing", fmt.Sprintf("a write with fsync takes %v", took.Round(time.Millisecond)),
			"if nothing else writes now, the card is slow or wearing out; cards of class A1 or A2 take some milliseconds")
	default:
		c.ok("disk", "writing", fmt.Sprintf("a write with fsync takes %v", took.Round(100*time.Microsecond)))
	}
}

// measure writes a page and syncs it, n times, and gives the median.
func measure(dir string, n int) (took time.Duration, err error) {
	f, err := os.CreateTemp(dir, ".tuxwatch-check-*")
	if err != nil {
		return 0, fmt.Errorf("writing a file: %w", err)
	}
	defer func() {
		f.Close()
		if rm := os.Remove(f.Name()); err == nil {
			err = rm
		}
	}()
	page := make([]byte, 4096)
	var times []time.Duration
	for range n {
		start := time.Now()
		if _, err := f.Write(page); err != nil {
			return 0, fmt.Errorf("writing a file: %w", err)
		}
		if err := f.Sync(); err != nil {
			return 0, fmt.Errorf("writing a file: %w", err)
		}
		times = append(times, time.Since(start))
	}
	slices.Sort(times)
	return times[n/2], nil
}

// health reads what ext4 has counted and what an eMMC or SD card reports of
// itself. Cards that report nothing are left out.
func (c *checker) health(dir string) {
	dev, err := c.System.Device(dir)
	if err != nil {
		return
	}
	block, err := filepath.EvalSymlinks(c.path(fmt.Sprintf("/sys/dev/block/%d:%d", unix.Major(dev), unix.Minor(dev))))
	if err != nil {
		return // not on a block device: tmpfs, overlay, network
	}
	name := filepath.Base(block)
	if n := number(c.path("/sys/fs/ext4/" + name + "/errors_count")); n > 0 {
		c.fail("disk", "health", fmt.Sprintf("ext4 on %s has met %d errors", name, n),
			c.recheck()+", and if more come, replace the card")
	}
	if _, err := os.Stat(filepath.Join(block, "partition")); err == nil {
		block = filepath.Dir(block)
	}
	// "Pre-EOL information" and "Device life time estimation" of JESD84-B51:
	// 1 normal to 3 urgent; tenths of the life used, 11 for beyond.
	device := filepath.Join(block, "device")
	switch number(filepath.Join(device, "pre_eol_info")) {
	case 3:
		c.fail("disk", "health", filepath.Base(block)+" has used up its spare blocks", "copy it and replace it now")
	case 2:
		c.warn("disk", "health", filepath.Base(block)+" has used most of its spare blocks", "replace it soon")
	}
	life, err := os.ReadFile(filepath.Join(device, "life_time"))
	if err != nil {
		return
	}
	worst := int64(0)
	for _, field := range strings.Fields(string(life)) {
		if n, err := strconv.ParseInt(field, 0, 64); err == nil {
			worst = max(worst, n)
		}
	}
	switch text := fmt.Sprintf("%s has used about %d %% of its life", filepath.Base(block), worst*10); {
	case worst > 10:
		c.fail("disk", "health", filepath.Base(block)+" is beyond its rated life", "copy it and replace it")
	case worst >= 9:
		c.warn("disk", "health", text, "replace it soon")
	case worst > 0:
		c.ok("disk", "health", text)
	}
}

// number is the number in a file of sysfs; 0 where there is none.
func number(path string) int64 {
	f, err := os.Open(path)
	if err != nil {
		return 0
	}
	defer f.Close()
	line, _ := bufio.NewReader(f).ReadString('\n')
	n, err := strconv.ParseInt(strings.TrimSpace(line), 0, 64)
	if err != nil {
		return 0
	}
	return n
}

func fileSystem(path string) (s unix.Statfs_t, err error) {
	if err := unix.Statfs(path, &s); err != nil {
		return s, &fs.PathError{Op: "statfs", Path: path, Err: err}
	}
	return s, nil
}

func deviceOf(path string) (uint64, error) {
	var s unix.Stat_t
	if err := unix.Stat(path, &s); err != nil {
		return 0, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	return uint64(s.Dev), nil
}

// size writes a size for people.
func size(n int64) string {
	for _, u := range []struct {
		size float64
		name string
	}{{1e9, "GB"}, {1e6, "MB"}, {1e3, "kB"}} {
		if float64(n) >= u.size {
			return fmt.Sprintf("%.3g %s", float64(n)/u.size, u.name)
		}
	}
	return fmt.Sprintf("%d bytes", n)
}
