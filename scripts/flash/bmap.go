package main

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"fmt"
	"hash"
	"strconv"
	"strings"
)

// extent is a part of an image or of a device, in bytes.
type extent struct{ offset, length int64 }

func (e extent) end() int64 { return e.offset + e.length }

// mapped is a range of blocks in use, with the checksum of its content.
type mapped struct {
	extent
	sum []byte // nil if the map has none
}

// blockMap is what a .bmap file says: which blocks of an image are in use. The
// format is that of bmaptool, versions 1.2 to 2.0, as the comment in every
// such file explains it.
type blockMap struct {
	imageSize int64
	newHash   func() hash.Hash // of the ranges
	ranges    []mapped         // in order, within the image, not empty
}

// What a map may ask for; all are longer than any image is likely to be.
const (
	maxBlockMapBytes = 64 << 20
	maxImageBytes    = 1 << 46
)

// The checksum types that bmaptool takes from its --chksum-type, without those
// that are broken for this purpose (sha1 is what version 1.3 has).
var checksumTypes = map[string]func() hash.Hash{
	"sha1": sha1.New, "sha224": sha256.New224, "sha256": sha256.New, "sha384": sha512.New384, "sha512": sha512.New,
}

// parseBlockMap reads a .bmap file and checks it against its own checksum.
func parseBlockMap(text []byte) (*blockMap, error) {
	var x struct {
		XMLName      xml.Name `xml:"bmap"`
		Version      string   `xml:"version,attr"`
		ImageSize    string
		BlockSize    string
		BlocksCount  string
		MappedBlocks string `xml:"MappedBlocksCount"`
		ChecksumType string
		FileChecksum string `xml:"BmapFileChecksum"`
		FileSHA1     string `xml:"BmapFileSHA1"`
		Ranges       []struct {
			Checksum string `xml:"chksum,attr"`
			SHA1     string `xml:"sha1,attr"`
			Blocks   string `xml:",chardata"`
		} `xml:"BlockMap>Range"`
	}
	if err := xml.Unmarshal(text, &x); err != nil {
		return nil, fmt.Errorf("it is not a block map: %w", err)
	}
	switch x.Version {
	case "1.2", "1.3", "1.4", "2.0":
	default:
		return nil, fmt.Errorf("its version is %.20q; 1.2 to 2.0 are known", x.Version)
	}
	fileSum, kind := strings.TrimSpace(x.FileChecksum), strings.ToLower(strings.TrimSpace(x.ChecksumType))
	if fileSum == "" && x.FileSHA1 != "" {
		fileSum, kind = strings.TrimSpace(x.FileSHA1), "sha1"
	}
	m := &blockMap{}
	if kind != "" {
		if m.newHash = checksumTypes[kind]; m.newHash == nil {
			return nil, fmt.Errorf("its checksums are of the type %.20q; sha256 and its relatives are known", kind)
		}
		if err := checkFileSum(text, fileSum, m.newHash()); err != nil {
			return nil, err
		}
	} else if x.Version == "2.0" || x.Version == "1.4" {
		return nil, errors.New("it has no ChecksumType")
	}

	var numbers [4]int64
	for i, s := range []string{x.ImageSize, x.BlockSize, x.BlocksCount, x.MappedBlocks} {
		var err error
		if numbers[i], err = strconv.ParseInt(strings.TrimSpace(s), 10, 64); err != nil || numbers[i] < 0 {
			return nil, fmt.Errorf("its %s is not a number", []string{"ImageSize", "BlockSize", "BlocksCount", "MappedBlocksCount"}[i])
		}
	}
	size, block, count, inUse := numbers[0], numbers[1], numbers[2], numbers[3]
	switch {
	case size == 0 || size > maxImageBytes:
		return nil, fmt.Errorf("its ImageSize is %d", size)
	case block < 512 || block > 1<<30 || block&(block-1) != 0:
		return nil, fmt.Errorf("its BlockSize is %d, which is not a power of two from 512", block)
	case count != (size+block-1)/block:
		return nil, fmt.Errorf("its BlocksCount is %d, but %d bytes are %d blocks", count, size, (size+block-1)/block)
	}
	m.imageSize = size

	var next, total int64
	for i, r := range x.Ranges {
		first, last, err := blocks(r.Blocks)
		if err != nil || first < next || last < first || last >= count {
			return nil, fmt.Errorf("its range %d, %.40q, is not after the one before and within %d blocks", i+1, strings.TrimSpace(r.Blocks), count)
		}
		e := mapped{extent: extent{first * block, min((last+1)*block, size) - first*block}}
		text := strings.TrimSpace(r.Checksum)
		if text == "" {
			text = strings.TrimSpace(r.SHA1)
		}
		switch {
		case m.newHash == nil:
		case text == "":
			return nil, fmt.Errorf("its range %d has no checksum", i+1)
		default:
			if e.sum, err = hex.DecodeString(text); err != nil || len(e.sum) != m.newHash().Size() {
				return nil, fmt.Errorf("its range %d has a checksum that is not of the type %s", i+1, kind)
			}
		}
		m.ranges = append(m.ranges, e)
		next, total = last+1, total+last+1-first
	}
	if total != inUse {
		return nil, fmt.Errorf("its ranges have %d blocks, but its MappedBlocksCount is %d: it is cut off or was changed", total, inUse)
	}
	return m, nil
}

// checkFileSum checks the map's own checksum, which was computed with zeros in
// its place.
func checkFileSum(text []byte, sum string, h hash.Hash) error {
	if len(sum) != 2*h.Size() {
		return errors.New("its own checksum is missing or of another type")
	}
	h.Write(bytes.Replace(text, []byte(sum), bytes.Repeat([]byte("0"), len(sum)), 1))
	if hex.EncodeToString(h.Sum(nil)) != strings.ToLower(sum) {
		return errors.New("its own checksum does not fit: the file is damaged or was changed")
	}
	return nil
}

// blocks reads "7" or "3-7".
func blocks(text string) (first, last int64, err error) {
	a, b, several := strings.Cut(strings.TrimSpace(text), "-")
	if first, err = strconv.ParseInt(strings.TrimSpace(a), 10, 64); err != nil {
		return 0, 0, err
	}
	if !several {
		return first, first, nil
	}
	last, err = strconv.ParseInt(strings.TrimSpace(b), 10, 64)
	return first, last, err
}
