package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
)

// blockSize is that of the block map and of the image's ext4 file systems.
const blockSize = 4096

// wipe is how many blocks are written at the beginning of the disk and of a
// partition without a file system (1 MiB), zeros though they are: a card that is
// written anew must not show what was on it before, above all not a slot.
const wipe = 1 << 20 / blockSize

// writeBlockMap writes the map of the image's blocks that have to be written
// (bmap format 2.0 of bmap-tools): everything that the partition table and the
// file systems use. Zeros among that are mapped as well, since a card has
// something else there; what the file systems call free is not.
func writeBlockMap(out io.Writer, image string) error {
	f, err := os.Open(image)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.Size()%blockSize != 0 {
		return fmt.Errorf("block map of %s: its size, %d bytes, is not in blocks of %d", image, info.Size(), blockSize)
	}
	used := make([]bool, info.Size()/blockSize)
	mark := func(from, to int64) error { // blocks, the last one excluded
		if from < 0 || to > int64(len(used)) || from > to {
			return fmt.Errorf("blocks %d to %d are outside of the image", from, to)
		}
		for i := from; i < to; i++ {
			used[i] = true
		}
		return nil
	}
	if err := mark(0, wipe); err != nil {
		return err
	}
	partitions, err := readMBR(f)
	if err != nil {
		return fmt.Errorf("block map of %s: %w", image, err)
	}
	for _, p := range partitions {
		if err := p.markUsed(f, image, mark); err != nil {
			return fmt.Errorf("block map of %s: partition at byte %d: %w", image, p.start, err)
		}
	}

	var ranges bytes.Buffer
	mapped := 0
	for from := 0; from < len(used); {
		if !used[from] {
			from++
			continue
		}
		to := from
		for to < len(used) && used[to] {
			to++
		}
		sum := sha256.New()
		if _, err := io.Copy(sum, io.NewSectionReader(f, int64(from)*blockSize, int64(to-from)*blockSize)); err != nil {
			return fmt.Errorf("block map of %s: %w", image, err)
		}
		span := strconv.Itoa(from)
		if to-from > 1 {
			span += "-" + strconv.Itoa(to-1)
		}
		fmt.Fprintf(&ranges, "        <Range chksum=\"%x\"> %s </Range>\n", sum.Sum(nil), span)
		mapped += to - from
		from = to
	}

	// The checksum is that of the file with zeros in the checksum's place.
	zeros := strings.Repeat("0", sha256.Size*2)
	text := fmt.Sprintf(`<?xml version="1.0" ?>
<!-- Which blocks of the image have to be written (bmap-tools, format 2.0). -->
<bmap version="2.0">
    <ImageSize> %d </ImageSize>
    <BlockSize> %d </BlockSize>
    <BlocksCount> %d </BlocksCount>
    <MappedBlocksCount> %d </MappedBlocksCount>
    <ChecksumType> sha256 </ChecksumType>
    <BmapFileChecksum> %s </BmapFileChecksum>
    <BlockMap>
%s    </BlockMap>
</bmap>
`, info.Size(), blockSize, len(used), mapped, zeros, ranges.String())
	sum := sha256.Sum256([]byte(text))
	_, err = io.WriteString(out, strings.Replace(text, zeros, hex.EncodeToString(sum[:]), 1))
	return err
}

// partition is an entry of the MBR, in bytes.
type partition struct {
	kind        byte
	start, size int64
}

// readMBR reads the four primary partitions (UEFI specification, 5.2.1).
func readMBR(r io.ReaderAt) ([]partition, error) {
	var sector [512]byte
	if _, err := r.ReadAt(sector[:], 0); err != nil {
		return nil, err
	}
	if sector[510] != 0x55 || sector[511] != 0xaa {
		return nil, errors.New("there is no partition table")
	}
	var partitions []partition
	for e := sector[446:510]; len(e) > 0; e = e[16:] {
		if e[4] == 0 {
			continue
		}
		partitions = append(partitions, partition{
			kind:  e[4],
			start: int64(binary.LittleEndian.Uint32(e[8:])) * 512,
			size:  int64(binary.LittleEndian.Uint32(e[12:])) * 512,
		})
	}
	return partitions, nil
}

func (p partition) markUsed(f io.ReaderAt, image string, mark func(from, to int64) error) error {
	if p.start%blockSize != 0 || p.size%blockSize != 0 {
		return fmt.Errorf("it is not in blocks of %d", blockSize)
	}
	if p.kind == 0x0c {
		return p.markFAT(f, mark)
	}
	var magic [2]byte // s_magic at 56 of the superblock, which is at 1024
	if _, err := f.ReadAt(magic[:], p.start+1024+56); err != nil {
		return err
	}
	if magic != [2]byte{0x53, 0xef} {
		return mark(p.start/blockSize, p.start/blockSize+wipe)
	}
	return p.markExt4(image, mark)
}

// markFAT marks the FAT32 file system's tables and the clusters in use
// (Microsoft's FAT32 File System Specification, 1.03).
func (p partition) markFAT(f io.ReaderAt, mark func(from, to int64) error) error {
	var boot [512]byte
	if _, err := f.ReadAt(boot[:], p.start); err != nil {
		return err
	}
	sector := int64(binary.LittleEndian.Uint16(boot[11:]))
	cluster := int64(boot[13]) * sector
	reserved := int64(binary.LittleEndian.Uint16(boot[14:])) * sector
	tables := int64(boot[16])
	table := int64(binary.LittleEndian.Uint32(boot[36:])) * sector
	if sector == 0 || cluster == 0 || table == 0 {
		return errors.New("it has no FAT32 file system")
	}
	data := p.start + reserved + tables*table
	if err := mark(p.start/blockSize, (data+blockSize-1)/blockSize); err != nil {
		return err
	}
	entries := make([]byte, table)
	if _, err := f.ReadAt(entries, p.start+reserved); err != nil {
		return err
	}
	for n := int64(2); n*4 < table; n++ { // the first cluster is number 2
		if binary.LittleEndian.Uint32(entries[n*4:])&0x0fffffff == 0 {
			continue
		}
		from := data + (n-2)*cluster
		if from+cluster > p.start+p.size {
			break
		}
		if err := mark(from/blockSize, (from+cluster+blockSize-1)/blockSize); err != nil {
			return err
		}
	}
	return nil
}

var freeBlocks = regexp.MustCompile(`(?m)^  Free blocks: (.*)$`)

// markExt4 marks what e2fsprogs does not call free.
func (p partition) markExt4(image string, mark func(from, to int64) error) error {
	cmd := exec.Command("dumpe2fs", fmt.Sprintf("%s?offset=%d", image, p.start))
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	text, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("dumpe2fs: %w: %s", err, strings.TrimSpace(stderr.String()))
	}
	if !bytes.Contains(text, []byte(fmt.Sprintf("Block size:               %d\n", blockSize))) {
		return fmt.Errorf("its blocks are not %d bytes", blockSize)
	}
	first := p.start / blockSize
	next := int64(0) // up to here it is known
	for _, group := range freeBlocks.FindAllSubmatch(text, -1) {
		for _, span := range strings.Split(string(group[1]), ", ") {
			if span == "" {
				continue
			}
			from, to, ok := strings.Cut(span, "-")
			if !ok {
				to = from
			}
			a, err := strconv.ParseInt(from, 10, 64)
			if err != nil {
				return fmt.Errorf("dumpe2fs says %q: %w", span, err)
			}
			b, err := strconv.ParseInt(to, 10, 64)
			if err != nil {
				return fmt.Errorf("dumpe2fs says %q: %w", span, err)
			}
			if err := mark(first+next, first+a); err != nil {
				return err
			}
			next = b + 1
		}
	}
	return mark(first+next, first+p.size/blockSize)
}
