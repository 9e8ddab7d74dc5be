package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestDebianLicences(t *testing.T) {
	for _, c := range []struct {
		name, text, want, err string
	}{
		{
			name: "machine-readable",
			text: "Format: https://example.org/\nLicense: Artistic\n\nFiles: *\nCopyright: A\nLicense: GPL-2+\n text\n\nFiles: b\nCopyright: B\nLicense: Expat\n\n" +
				"Files: c\nCopyright: C\nLicense: MIT\n\nFiles: d\nCopyright: D\nLicense: GPL-2+ or BSD-mine\n\nLicense: Expat\n text\n",
			want: "[MIT GPL-2.0-or-later GPL-2+ or BSD-mine]",
		},
		{
			name: "firmware-brcm80211",
			text: "Format: x\n\nFiles: intel/*\nLicense: binary-redist-Intel\n\nFiles: brcm/bcm43xx*.fw brcm/brcmfmac*.bin\nLicense: binary-redist-Broadcom-wifi\n",
			want: "[binary-redist-Broadcom-wifi]",
		},
		{name: "prose", text: "You may do what you like.\n", want: "[as in the copyright file of Debian's prose]"},
		{name: "nothing", text: "Format: x\n\nLicense: Expat\n", err: "names none"},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "copyright")
			if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			choices, err := debianLicences(c.name, file)
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Fatalf("%v, want an error with %q", err, c.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, c := range choices {
				got = append(got, c.Licence.ID+c.Licence.Name)
			}
			if fmt.Sprint(got) != c.want {
				t.Errorf("got %v, want %s", got, c.want)
			}
		})
	}
	if _, err := debianLicences("missing", filepath.Join(t.TempDir(), "missing")); err == nil {
		t.Error("a package without a copyright file has a licence")
	}
}

func TestMarkFAT(t *testing.T) {
	// 512-byte sectors, clusters of 2, 32 reserved, 2 tables of 1 sector.
	disk := make([]byte, 64<<10)
	copy(disk[11:], []byte{0, 2, 2, 32, 0, 2})
	disk[36] = 1
	table := disk[32*512:]
	table[2*4], table[20*4], table[21*4] = 0xff, 0xff, 0xff // clusters 2, 20 and 21
	got := map[int64]bool{}
	p := partition{kind: 0x0c, size: int64(len(disk))}
	if err := p.markFAT(bytes.NewReader(disk), func(from, to int64) error {
		for ; from < to; from++ {
			got[from] = true
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	// Data begins at 34 sectors, 17408: cluster 2 is in block 4, 20 and 21 are in
	// 35840 to 37887, blocks 8 and 9.
	for block := range int64(16) {
		if want := block <= 4 || block == 8 || block == 9; got[block] != want {
			t.Errorf("block %d: %v, want %v", block, got[block], want)
		}
	}
	if err := (partition{}).markFAT(bytes.NewReader(make([]byte, 512)), nil); err == nil {
		t.Error("an empty partition passes for FAT32")
	}
}
