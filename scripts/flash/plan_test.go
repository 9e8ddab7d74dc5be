package main

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestPartitions(t *testing.T) {
	head := bytes.Clone(testImage(1)[:sector])
	want := []extent{{1 << 20, 2 << 20}, {3 << 20, 4 << 20}, {7 << 20, 4 << 20}, {11 << 20, 5 << 20}}
	if diff := cmp.Diff(want, partitions(head), cmp.AllowUnexported(extent{})); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	head[511] = 0
	if got := partitions(head); got != nil {
		t.Errorf("without the signature: %v", got)
	}
	if got := partitions(head[:100]); got != nil {
		t.Errorf("100 bytes: %v", got)
	}
}

// A plan is in order, has room between its parts, and has every byte in use, the
// edges of the image and of each partition, and not much more.
func TestPlan(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.Int64Range(1, 20_000).Draw(t, "blocks") * 4096
		some := func(name string) (all []extent) {
			for range rapid.IntRange(0, 5).Draw(t, name) {
				at := rapid.Int64Range(0, size/512).Draw(t, "at") * 512
				all = append(all, extent{at, rapid.Int64Range(1, 8192).Draw(t, "length") * 512})
			}
			return all
		}
		inUse, parts := some("in use"), some("partitions")
		wanted := append([]extent{{0, edge}, {size - edge, edge}}, inUse...)
		for _, p := range parts {
			wanted = append(wanted, extent{p.offset, min(edge, p.length)}, extent{max(p.offset, p.end()-edge), min(edge, p.length)})
		}
		got := plan(inUse, parts, size)
		var total, next int64
		for i, e := range got {
			if e.length <= 0 || e.end() > size || i > 0 && e.offset <= next+smallGap {
				t.Fatalf("%v in an image of %d", got, size)
			}
			next, total = e.end(), total+e.length
		}
		var atMost int64
		for _, w := range wanted {
			w = w.within(extent{0, size})
			if w.length <= 0 {
				continue
			}
			atMost += w.length + smallGap
			found := false
			for _, e := range got {
				found = found || e.offset <= w.offset && w.end() <= e.end()
			}
			if !found {
				t.Fatalf("%v is not within %v", w, got)
			}
		}
		if total > atMost {
			t.Fatalf("%d bytes, where %d are enough: %v", total, atMost, got)
		}
	})
}

// testImage is 16 MiB with the layout of a tuxwatch image on a small scale: a
// first partition with data, a slot with data and free blocks at its end, an
// empty slot, and a data partition with a little.
// It is not to be changed.
func testImage(seed byte) []byte {
	if images[seed] != nil {
		return images[seed]
	}
	image := make([]byte, 16<<20)
	fill := func(from, to int) {
		for i := from; i < to; i++ {
			image[i] = byte(i*7+i>>8+i>>13) ^ seed | 1
		}
	}
	fill(0, 440)
	for i, p := range [][2]uint32{{1, 2}, {3, 4}, {7, 4}, {11, 5}} {
		e := image[446+16*i:]
		e[4] = 0x83
		binary.LittleEndian.PutUint32(e[8:], p[0]<<11)
		binary.LittleEndian.PutUint32(e[12:], p[1]<<11)
	}
	image[510], image[511] = 0x55, 0xaa
	fill(1<<20, 2<<20+4096)
	fill(3<<20, 4<<20)
	fill(5<<20, 5<<20+300<<10)
	fill(11<<20, 11<<20+8192)
	fill(14<<20, 14<<20+100)
	images[seed] = image
	return image
}

var images = map[byte][]byte{}
