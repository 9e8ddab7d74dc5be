package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// image is a file to write.
type image struct {
	path   string
	file   *os.File
	packed bool   // by xz
	size   int64  // unpacked
	sum    string // SHA-256 of the file, hexadecimal; empty if not checked
	bmap   *blockMap
	notes  []string
}

// newestImage is the image that was built last.
func newestImage() (string, error) {
	paths, err := filepath.Glob("build/tuxwatch-*.img.xz")
	if err != nil || len(paths) == 0 {
		return "", errors.New("there is no image in build; make image makes one, or name one: make flash DEV=/dev/sdX IMAGE=FILE.img.xz")
	}
	age := func(path string) int64 {
		info, err := os.Stat(path)
		if err != nil {
			return 0
		}
		return info.ModTime().UnixNano()
	}
	return slices.MaxFunc(paths, func(a, b string) int {
		if c := age(a) - age(b); c != 0 {
			return int(c>>63) | 1
		}
		return strings.Compare(a, b)
	}), nil
}

// openImage opens an image and checks everything that can be known about it
// before a card is touched.
func openImage(ctx context.Context, o options) (im *image, err error) {
	path := o.image
	if path == "" {
		if path, err = newestImage(); err != nil {
			return nil, err
		}
	}
	im = &image{path: path}
	switch {
	case strings.HasSuffix(path, ".img.xz"):
		im.packed = true
	case !strings.HasSuffix(path, ".img"):
		return nil, fmt.Errorf("the image %s is neither .img.xz nor .img", path)
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("opening the image: %w", err)
	}
	defer func() {
		if err != nil {
			file.Close()
		}
	}()
	im.file = file
	info, err := file.Stat()
	switch {
	case err != nil:
		return nil, fmt.Errorf("opening the image: %w", err)
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("the image %s is not a file", path)
	}
	if err := im.checkSum(o.unchecked); err != nil {
		return nil, err
	}
	if im.size = info.Size(); im.packed {
		if im.size, err = unpackedSize(ctx, path); err != nil {
			return nil, err
		}
	}
	if im.size == 0 {
		return nil, fmt.Errorf("the image %s is empty", path)
	}
	if !o.all {
		if err := im.findBlockMap(o.bmap, o.unchecked); err != nil {
			return nil, err
		}
	}
	return im, nil
}

// checkSum checks the image against the SHA256SUMS beside it.
func (im *image) checkSum(unchecked bool) error {
	if unchecked {
		im.notes = append(im.notes, "The image was not checked against a SHA256SUMS (--unchecked).")
		return nil
	}
	sums := filepath.Join(filepath.Dir(im.path), "SHA256SUMS")
	want, err := listedSum(sums, filepath.Base(im.path))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("there is no %s to check the image against; get it from where the image is from, or use --unchecked", sums)
	case err != nil:
		return err
	case want == "":
		return fmt.Errorf("%s does not have %s: they do not belong together; get the two again, or use --unchecked", sums, filepath.Base(im.path))
	}
	h := sha256.New()
	if _, err := io.Copy(h, im.file); err != nil {
		return fmt.Errorf("reading the image %s: %w", im.path, err)
	}
	if im.sum = hex.EncodeToString(h.Sum(nil)); im.sum != want {
		return fmt.Errorf("the image %s is damaged or not the one that %s is about: its SHA-256 is %s, and should be %s; get or build it again", im.path, sums, im.sum, want)
	}
	return nil
}

// listedSum finds a file's checksum in the format of sha256sum(1); it is empty
// if the file is not listed.
func listedSum(sums, name string) (string, error) {
	f, err := os.Open(sums)
	if err != nil {
		return "", fmt.Errorf("reading the checksums: %w", err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		sum, file, ok := strings.Cut(lines.Text(), " ")
		// A blank follows for text, an asterisk for binary.
		if !ok || file == "" || strings.TrimPrefix(file[1:], "./") != name {
			continue
		}
		if raw, err := hex.DecodeString(sum); err != nil || len(raw) != sha256.Size {
			return "", fmt.Errorf("%s: the line of %s does not begin with a SHA-256", sums, name)
		}
		return strings.ToLower(sum), nil
	}
	if err := lines.Err(); err != nil {
		return "", fmt.Errorf("reading %s: %w", sums, err)
	}
	return "", nil
}

// findBlockMap reads the block map if there is one.
func (im *image) findBlockMap(path string, unchecked bool) error {
	if path == "" {
		path = strings.TrimSuffix(im.path, ".xz") + ".bmap"
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			im.notes = append(im.notes, fmt.Sprintf("There is no block map %s, so unused blocks are written as well.", path))
			return nil
		}
	}
	text, err := readLimited(path, maxBlockMapBytes)
	if err != nil {
		return fmt.Errorf("reading the block map: %w", err)
	}
	// Where the list has the map too, its word counts.
	if want, err := listedSum(filepath.Join(filepath.Dir(im.path), "SHA256SUMS"), filepath.Base(path)); !unchecked && err == nil && want != "" {
		if got := sha256.Sum256(text); hex.EncodeToString(got[:]) != want {
			return fmt.Errorf("the block map %s is not the one that SHA256SUMS is about; get it again, or write everything with --all", path)
		}
	}
	if im.bmap, err = parseBlockMap(text); err != nil {
		return fmt.Errorf("the block map %s cannot be used: %w; --all writes everything without it", path, err)
	}
	if im.bmap.imageSize != im.size {
		return fmt.Errorf("the block map %s is of another image: of one with %d bytes, while %s has %d; --all writes everything without it", path, im.bmap.imageSize, im.path, im.size)
	}
	return nil
}

func readLimited(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("%s has more than %s", path, bytesText(limit))
	}
	return data, err
}

// unpackedSize asks xz how much is in an archive. Its index is at the end, so
// that a file that was cut off is found out.
func unpackedSize(ctx context.Context, path string) (int64, error) {
	out, err := exec.CommandContext(ctx, "xz", "--robot", "--list", "--", path).Output()
	if err != nil {
		return 0, fmt.Errorf("the image %s cannot be unpacked: %w", path, xzError(err, nil))
	}
	for line := range strings.Lines(string(out)) {
		// totals: streams, blocks, packed, unpacked (xz(1), "ROBOT MODE").
		if f := strings.Fields(line); len(f) > 4 && f[0] == "totals" {
			return strconv.ParseInt(f[4], 10, 64)
		}
	}
	return 0, fmt.Errorf("the image %s: xz does not say how large it is", path)
}

// xzError explains what xz ended with.
func xzError(err error, said []byte) error {
	var exit *exec.ExitError
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return errors.New("the program xz is missing (Debian package xz-utils)")
	case errors.As(err, &exit):
		if said == nil {
			said = exit.Stderr
		}
		return fmt.Errorf("it is cut off or damaged (%s); get or build it again", strings.TrimSpace(string(said)))
	}
	return err
}

// unpack gives the image's bytes. wait is to be called in the end, whether
// everything was read or not; it says what went wrong.
func (im *image) unpack(ctx context.Context) (r io.Reader, wait func() error, err error) {
	if _, err := im.file.Seek(0, io.SeekStart); err != nil {
		return nil, nil, fmt.Errorf("reading the image: %w", err)
	}
	if !im.packed {
		return im.file, func() error { return nil }, nil
	}
	// It reads the file that was checked, even if there is another by that name.
	ctx, cancel := context.WithCancel(ctx)
	xz := exec.CommandContext(ctx, "xz", "--decompress", "--stdout", "--threads=0")
	xz.Stdin = im.file
	// Ctrl-C is for this program, which ends xz when it is ready to.
	xz.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var said bytes.Buffer
	xz.Stderr = &said
	out, err := xz.StdoutPipe()
	if err == nil {
		err = xz.Start()
	}
	if err != nil {
		cancel()
		return nil, nil, fmt.Errorf("unpacking the image %s: %w", im.path, xzError(err, nil))
	}
	return out, func() error {
		// At the end of the image it has written everything, and only says how it
		// went; before that it is not wanted any more.
		var one [1]byte
		if _, err := out.Read(one[:]); err == nil {
			cancel()
		}
		defer cancel()
		if err := xz.Wait(); err != nil {
			return fmt.Errorf("unpacking the image %s: %w", im.path, xzError(err, said.Bytes()))
		}
		return nil
	}, nil
}
