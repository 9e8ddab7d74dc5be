package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// mapOf makes a block map in the form of bmaptool 3.6: blocks of 4096 bytes
// that are not zeros are in use.
func mapOf(image []byte) string {
	const block = 4096
	count := (len(image) + block - 1) / block
	used := func(i int) bool { return !zero(image[i*block : min((i+1)*block, len(image))]) }
	var ranges strings.Builder
	inUse := 0
	for i := 0; i < count; i++ {
		if !used(i) {
			continue
		}
		first := i
		for i+1 < count && used(i+1) {
			i++
		}
		inUse += i + 1 - first
		which := fmt.Sprintf("%d-%d", first, i)
		if first == i {
			which = fmt.Sprint(first)
		}
		fmt.Fprintf(&ranges, "        <Range chksum=\"%x\"> %s </Range>\n", sha256.Sum256(image[first*block:min((i+1)*block, len(image))]), which)
	}
	return sealed(fmt.Sprintf(`<?xml version="1.0" ?>
<!-- This file contains the block map for an image file -->
<bmap version="2.0">
    <ImageSize> %d </ImageSize>
    <BlockSize> %d </BlockSize>
    <BlocksCount> %d </BlocksCount>
    <MappedBlocksCount> %d   </MappedBlocksCount>
    <ChecksumType> sha256 </ChecksumType>
    <BmapFileChecksum> %s </BmapFileChecksum>
    <BlockMap>
%s    </BlockMap>
</bmap>
`, len(image), block, count, inUse, unsealed, ranges.String()))
}

var unsealed = strings.Repeat("0", 64)

// sealed puts the file's own checksum in.
func sealed(text string) string {
	sum := sha256.Sum256([]byte(text))
	return strings.Replace(text, unsealed, hex.EncodeToString(sum[:]), 1)
}

func TestBlockMap(t *testing.T) {
	image := make([]byte, 10*4096+512)
	for _, block := range []int{0, 1, 5, 10} {
		image[block*4096] = byte(block + 1)
	}
	m, err := parseBlockMap([]byte(mapOf(image)))
	if err != nil {
		t.Fatal(err)
	}
	var got []extent
	for _, r := range m.ranges {
		got = append(got, r.extent)
	}
	want := []extent{{0, 8192}, {5 * 4096, 4096}, {10 * 4096, 512}}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(extent{})); diff != "" || m.imageSize != int64(len(image)) {
		t.Errorf("image of %d bytes, ranges (-want +got):\n%s", m.imageSize, diff)
	}
	if err := newContentCheck(m).write(image); err != nil {
		t.Errorf("the image itself: %v", err)
	}
	// In parts of any size.
	c := newContentCheck(m)
	for i := range image {
		if err := c.write(image[i : i+1]); err != nil {
			t.Fatal(err)
		}
	}
	for _, at := range []int{8191, 5 * 4096, len(image) - 1} {
		bad := bytes.Clone(image)
		bad[at] ^= 1
		if err := newContentCheck(m).write(bad); err == nil || !strings.Contains(err.Error(), "damaged") {
			t.Errorf("byte %d changed: %v", at, err)
		}
	}
	image[2*4096] = 1
	if err := newContentCheck(m).write(image); err == nil || !strings.Contains(err.Error(), "skips data at byte 8192") {
		t.Errorf("data where the map has a hole: %v", err)
	}
}

// The older versions, as bmaptool's documentation has them.
func TestOldBlockMaps(t *testing.T) {
	const none = `<bmap version="1.2"><ImageSize>8192</ImageSize><BlockSize>4096</BlockSize><BlocksCount>2</BlocksCount><MappedBlocksCount>1</MappedBlocksCount><BlockMap><Range>1</Range></BlockMap></bmap>`
	m, err := parseBlockMap([]byte(none))
	if err != nil || len(m.ranges) != 1 || m.ranges[0].sum != nil {
		t.Fatalf("1.2: %v, %v", m, err)
	}
	if err := newContentCheck(m).write(append(make([]byte, 4096), 1)); err != nil {
		t.Error(err)
	}
	// sha1 of 4096 zeros, by sha1sum(1).
	const sum = "1ceaf73df40e531df3bfb26b4fb7cd95fb7bff1d"
	text := strings.NewReplacer(`"1.2"`, `"1.3"`, "<Range>", `<Range sha1="`+sum+`">`, "<BlockMap>", "<BmapFileSHA1>"+strings.Repeat("0", 40)+"</BmapFileSHA1><BlockMap>").Replace(none)
	h := checksumTypes["sha1"]()
	h.Write([]byte(text))
	m, err = parseBlockMap([]byte(strings.Replace(text, strings.Repeat("0", 40), hex.EncodeToString(h.Sum(nil)), 1)))
	if err != nil {
		t.Fatalf("1.3: %v", err)
	}
	if err := newContentCheck(m).write(make([]byte, 8192)); err != nil {
		t.Errorf("1.3: %v", err)
	}
	if err := newContentCheck(m).write(append(make([]byte, 8191), 1)); err == nil {
		t.Error("1.3: a wrong range is taken")
	}
}

func TestWrongBlockMaps(t *testing.T) {
	image := bytes.Repeat([]byte{1}, 3*4096)
	right := mapOf(image)
	open := strings.Replace(right, right[strings.Index(right, "<BmapFileChecksum> ")+19:][:64], unsealed, 1)
	for _, test := range []struct{ old, new, want string }{
		{"", "", ""},
		{"<bmap", "<map", "not a block map"},
		{`version="2.0"`, `version="3.0"`, `version is "3.0"`},
		{"sha256", "md5", `type "md5"`},
		{" sha256 ", "", "no ChecksumType"},
		{"<ImageSize> 12288 ", "<ImageSize> x ", "ImageSize is not a number"},
		{"<ImageSize> 12288 ", "<ImageSize> 22288 ", "BlocksCount is 3"},
		{"<ImageSize> 12288 ", "<ImageSize> 0 ", "ImageSize is 0"},
		{"<BlockSize> 4096 ", "<BlockSize> 4095 ", "power of two"},
		{"<MappedBlocksCount> 3 ", "<MappedBlocksCount> 4 ", "cut off"},
		{"> 0-2 <", "> 0-3 <", "range 1"},
		{"> 0-2 <", "> 2-0 <", "range 1"},
		{"> 0-2 <", "> x <", "range 1"},
		{"</Range>", `</Range><Range chksum="` + unsealed + `">2</Range>`, "range 2"},
		{`<Range chksum="`, `<Range other="`, "no checksum"},
		{`<Range chksum="`, `<Range chksum="0`, "not of the type sha256"},
	} {
		_, err := parseBlockMap([]byte(sealed(strings.Replace(open, test.old, test.new, 1))))
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s for %s: %v; want %q", test.new, test.old, err, test.want)
		}
	}
	if _, err := parseBlockMap([]byte(strings.Replace(right, "> 0-2 <", "> 0-1 <", 1))); err == nil || !strings.Contains(err.Error(), "damaged or was changed") {
		t.Errorf("changed after it was sealed: %v", err)
	}
}

// TestBmaptool reads what the original writes.
func TestBmaptool(t *testing.T) {
	tool, err := exec.LookPath("bmaptool")
	if err != nil {
		t.Skip("NOT TESTED: bmaptool (Debian package bmap-tools) is not installed")
	}
	dir := t.TempDir()
	image := testImage(1)
	path := filepath.Join(dir, "x.img")
	writeSparse(t, path, image)
	out, err := exec.Command(tool, "create", path).Output()
	if err != nil {
		t.Fatalf("bmaptool create: %v", err)
	}
	m, err := parseBlockMap(out)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if err := newContentCheck(m).write(image); err != nil || len(m.ranges) < 2 {
		t.Errorf("%d ranges: %v", len(m.ranges), err)
	}
}

func FuzzBlockMap(f *testing.F) {
	f.Add([]byte(mapOf(make([]byte, 5000))))
	f.Add([]byte(mapOf(bytes.Repeat([]byte{1}, 5000))))
	f.Add([]byte(`<bmap version="1.2"><ImageSize>8192</ImageSize><BlockSize>4096</BlockSize><BlocksCount>2</BlocksCount><MappedBlocksCount>1</MappedBlocksCount><BlockMap><Range>1</Range></BlockMap></bmap>`))
	f.Fuzz(func(t *testing.T, text []byte) {
		m, err := parseBlockMap(text)
		if err != nil {
			return
		}
		var next int64
		for _, r := range m.ranges {
			if r.offset < next || r.length <= 0 || r.end() > m.imageSize {
				t.Fatalf("range %+v after %d in an image of %d", r, next, m.imageSize)
			}
			next = r.end()
		}
	})
}

func writeSparse(t *testing.T, path string, data []byte) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for at := 0; at < len(data); at += 4096 {
		if block := data[at:min(at+4096, len(data))]; !zero(block) {
			if _, err := f.WriteAt(block, int64(at)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := f.Truncate(int64(len(data))); err != nil {
		t.Fatal(err)
	}
}
