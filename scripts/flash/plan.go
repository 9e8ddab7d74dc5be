package main

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash"
	"slices"
)

const (
	// edge is how much at the beginning and end of a device or partition decides
	// what a system takes it for: partition tables, and the superblocks of file
	// systems, RAID and LVM (wipefs(8) looks no further, ZFS labels apart).
	edge = 1 << 20
	// smallGap is a gap that is written as well, since flash memory and its
	// readers are slower with two small requests than with one larger one.
	smallGap = 64 << 10
	sector   = 512
)

// partitions reads the primary partitions of an MBR ("Master boot record",
// four entries of 16 bytes from byte 446). There are none if it is not one.
func partitions(head []byte) (parts []extent) {
	if len(head) < sector || head[510] != 0x55 || head[511] != 0xaa {
		return nil
	}
	for i := range 4 {
		e := head[446+16*i:][:16]
		start, count := int64(binary.LittleEndian.Uint32(e[8:])), int64(binary.LittleEndian.Uint32(e[12:]))
		if e[4] != 0 && start != 0 && count != 0 {
			parts = append(parts, extent{start * sector, count * sector})
		}
	}
	return parts
}

// plan says which parts of an image of the given size are written: those in
// use, and the edges of partitions whether in use or not. Otherwise what a card
// held before would come to light again in a partition that the image leaves
// empty, since a block map skips what has only zeros.
func plan(inUse, parts []extent, size int64) []extent {
	all := slices.Clone(inUse)
	for _, p := range append([]extent{{0, size}}, parts...) {
		tail := max(p.offset, p.end()-edge) &^ (sector - 1)
		all = append(all, extent{p.offset, min(edge, p.length)}, extent{tail, p.end() - tail})
	}
	all = slices.DeleteFunc(all, func(e extent) bool { return e.offset >= size || e.length <= 0 })
	slices.SortFunc(all, func(a, b extent) int { return cmp.Compare(a.offset, b.offset) })
	var merged []extent
	for _, e := range all {
		e.length = min(e.end(), size) - e.offset
		if n := len(merged); n > 0 && e.offset <= merged[n-1].end()+smallGap {
			last := &merged[n-1]
			last.length = max(last.end(), e.end()) - last.offset
			continue
		}
		merged = append(merged, e)
	}
	return merged
}

// within is the part of e that is within other; its length is not positive if
// there is none.
func (e extent) within(other extent) extent {
	start := max(e.offset, other.offset)
	return extent{start, min(e.end(), other.end()) - start}
}

// contentCheck compares an image, as it comes, with its block map: the content
// of every range, and that there are only zeros between them.
type contentCheck struct {
	m    *blockMap
	next int // range
	pos  int64
	sum  hash.Hash
}

func newContentCheck(m *blockMap) *contentCheck {
	c := &contentCheck{m: m}
	if m != nil && m.newHash != nil {
		c.sum = m.newHash()
	}
	return c
}

func (c *contentCheck) write(data []byte) error {
	for c.m != nil && len(data) > 0 {
		n := int64(len(data))
		if c.next == len(c.m.ranges) || c.pos < c.m.ranges[c.next].offset {
			if c.next < len(c.m.ranges) {
				n = min(n, c.m.ranges[c.next].offset-c.pos)
			}
			if !zero(data[:n]) {
				at := c.pos + int64(bytes.IndexFunc(data[:n], func(r rune) bool { return r != 0 }))
				return fmt.Errorf("the block map skips data at byte %d: it is of another image; --all writes everything without it", at)
			}
		} else {
			r := &c.m.ranges[c.next]
			n = min(n, r.end()-c.pos)
			if c.sum != nil {
				c.sum.Write(data[:n])
			}
			if c.pos+n == r.end() {
				if c.sum != nil {
					if got := c.sum.Sum(nil); !bytes.Equal(got, r.sum) {
						return fmt.Errorf("the image is damaged, or the block map is of another one: bytes %d to %d have the checksum %s, and should have %s", r.offset, r.end(), hex.EncodeToString(got), hex.EncodeToString(r.sum))
					}
					c.sum.Reset()
				}
				c.next++
			}
		}
		c.pos += n
		data = data[n:]
	}
	return nil
}

func zero(data []byte) bool {
	for len(data) > 0 {
		n := min(len(data), len(zeros))
		if !bytes.Equal(data[:n], zeros[:n]) {
			return false
		}
		data = data[n:]
	}
	return true
}

var zeros [4096]byte
