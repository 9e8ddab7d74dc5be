package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What lsblk of util-linux 2.38 says about a laptop: an NVMe disk that is the
// system's, by way of LVM on LUKS; a second disk; an SD card on a USB reader, one
// in the laptop's own reader, eMMC, a disk on USB with a file system, an empty
// reader, a disk of a RAID.
const laptop = `{"blockdevices": [
 {"name":"nvme0n1","path":"/dev/nvme0n1","maj:min":"259:0","type":"disk","size":512110190592,"rm":false,"ro":false,"tran":"nvme","vendor":null,"model":"KXG60 TOSHIBA","serial":"1","log-sec":512,"pttype":"gpt","fstype":null,"label":null,"mountpoints":[null],
  "children":[
   {"name":"nvme0n1p1","path":"/dev/nvme0n1p1","maj:min":"259:1","type":"part","size":536870912,"rm":false,"ro":false,"tran":"nvme","log-sec":512,"pttype":"gpt","fstype":"vfat","label":"EFI","mountpoints":["/boot/efi"]},
   {"name":"nvme0n1p3","path":"/dev/nvme0n1p3","maj:min":"259:3","type":"part","size":511000000000,"log-sec":512,"fstype":"crypto_LUKS","mountpoints":[null],
    "children":[{"name":"luks","path":"/dev/mapper/luks","maj:min":"254:0","type":"crypt","size":510000000000,"log-sec":512,"fstype":"LVM2_member","mountpoints":[null],
     "children":[{"name":"vg-root","path":"/dev/mapper/vg-root","maj:min":"254:1","type":"lvm","size":40000000000,"log-sec":512,"fstype":"ext4","mountpoints":["/"]},
                 {"name":"vg-swap","path":"/dev/mapper/vg-swap","maj:min":"254:2","type":"lvm","size":8000000000,"log-sec":512,"fstype":"swap","mountpoints":["[SWAP]"]}]}]}]},
 {"name":"sda","path":"/dev/sda","maj:min":"8:0","type":"disk","size":4000787030016,"rm":false,"ro":false,"tran":"sata","vendor":"ATA     ","model":"WDC WD40","serial":"2","log-sec":512,"fstype":"ext4","label":"photos","mountpoints":[null]},
 {"name":"sdb","path":"/dev/sdb","maj:min":"8:16","type":"disk","size":31914983424,"rm":true,"ro":false,"tran":"usb","vendor":"Generic ","model":"STORAGE DEVICE","serial":"3","log-sec":512,"pttype":"dos","mountpoints":[null],
  "children":[{"name":"sdb1","path":"/dev/sdb1","maj:min":"8:17","type":"part","size":268435456,"rm":true,"log-sec":512,"pttype":"dos","fstype":"vfat","label":"bootfs","mountpoints":[null]}]},
 {"name":"sdc","path":"/dev/sdc","maj:min":"8:32","type":"disk","size":2000398934016,"rm":false,"ro":false,"tran":"usb","vendor":"WD","model":"Elements","serial":"4","log-sec":512,"mountpoints":[null],
  "children":[{"name":"sdc1","path":"/dev/sdc1","maj:min":"8:33","type":"part","size":2000397868544,"log-sec":512,"fstype":"ext4","label":"my backup","mountpoints":["/media/me/my backup"]}]},
 {"name":"sdd","path":"/dev/sdd","maj:min":"8:48","type":"disk","size":0,"rm":true,"ro":false,"tran":"usb","model":"SD Reader","log-sec":512,"mountpoints":[null]},
 {"name":"sde","path":"/dev/sde","maj:min":"8:64","type":"disk","size":31914983424,"rm":true,"ro":true,"tran":"usb","model":"SD Reader","log-sec":512,"mountpoints":[null]},
 {"name":"sdf","path":"/dev/sdf","maj:min":"8:80","type":"disk","size":4000787030016,"rm":false,"ro":false,"tran":"usb","model":"Expansion","log-sec":512,"mountpoints":[null]},
 {"name":"sdg","path":"/dev/sdg","maj:min":"8:96","type":"disk","size":64000000000,"rm":false,"ro":false,"tran":"usb","model":"Native","log-sec":4096,"mountpoints":[null]},
 {"name":"sdh","path":"/dev/sdh","maj:min":"8:112","type":"disk","size":64000000000,"rm":false,"ro":false,"tran":"usb","model":"Half","log-sec":512,"mountpoints":[null],
  "children":[{"name":"md0","path":"/dev/md0","maj:min":"9:0","type":"raid1","size":63000000000,"log-sec":512,"mountpoints":[null]}]},
 {"name":"mmcblk0","path":"/dev/mmcblk0","maj:min":"179:0","type":"disk","size":31914983424,"rm":false,"ro":false,"tran":null,"model":null,"serial":"0x1","log-sec":512,"mountpoints":[null]},
 {"name":"mmcblk1","path":"/dev/mmcblk1","maj:min":"179:8","type":"disk","size":31914983424,"rm":false,"ro":false,"tran":null,"model":null,"serial":"0x2","log-sec":512,"mountpoints":[null]},
 {"name":"loop7","path":"/dev/loop7","maj:min":"7:7","type":"loop","size":0,"rm":false,"ro":false,"tran":null,"log-sec":512,"mountpoints":[null]},
 {"name":"sr0","path":"/dev/sr0","maj:min":"11:0","type":"rom","size":1073741312,"rm":true,"ro":false,"tran":"usb","log-sec":2048,"mountpoints":[null]}
]}`

func TestRefusal(t *testing.T) {
	devices, err := parseDevices([]byte(laptop))
	if err != nil {
		t.Fatal(err)
	}
	sys := t.TempDir()
	for name, kind := range map[string]string{"mmcblk0": "SD\n", "mmcblk1": "MMC\n"} {
		dir := filepath.Join(sys, "block", name, "device")
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "type"), []byte(kind), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		number, name string
		fixedDisk    bool
		want         string // "" is may be written
	}{
		{"8:16", "card in a USB reader", false, ""},
		{"179:0", "card in the laptop's reader", false, ""},
		{"179:8", "eMMC", false, "disk of this machine"},
		{"179:8", "eMMC", true, ""},
		{"8:17", "partition of a card", false, "goes onto the whole device: /dev/sdb"},
		{"8:17", "partition of a card", true, "goes onto the whole device: /dev/sdb"},
		{"259:0", "system disk", false, "this system runs from: /dev/nvme0n1p1 is mounted on /boot/efi; /dev/mapper/luks (crypt) is made of it; /dev/mapper/vg-root is mounted on /;"},
		{"259:0", "system disk", true, "this system runs from"},
		{"254:1", "logical volume", true, "type lvm"},
		{"8:0", "second disk", false, "--fixed-disk"},
		{"8:0", "second disk of 4 TB", true, "no card is larger"},
		{"8:32", "mounted USB disk", false, "/dev/sdc1 is mounted on /media/me/my backup. First: sudo umount '/media/me/my backup'"},
		{"8:32", "mounted USB disk", true, "is in use"},
		{"8:48", "empty reader", false, "no card in /dev/sdd (SD Reader)"},
		{"8:64", "locked card", false, "write-protected"},
		{"8:80", "USB disk of 4 TB", false, "no card is larger"},
		{"8:96", "sectors of 4096", false, "sectors of 4096"},
		{"8:112", "half of a RAID", true, "/dev/md0 (raid1) is made of it"},
		{"7:7", "loop device without a file", false, "losetup"},
		{"11:0", "CD", false, "type rom"},
	} {
		d, disk := find(devices, test.number)
		if d == nil {
			t.Errorf("%s: not found", test.name)
			continue
		}
		err := d.refusal(disk, test.fixedDisk, sys)
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s, --fixed-disk %v: %v; want %q", test.name, test.fixedDisk, err, test.want)
		}
	}
	if d, _ := find(devices, "1:1"); d != nil {
		t.Errorf("found %v", d)
	}

	card, _ := find(devices, "8:16")
	if got, want := card.describe(sys), "/dev/sdb  31.9 GB  Generic STORAGE DEVICE, serial number 3, usb\n  sdb1  268.4 MB  vfat \"bootfs\"\n"; got != want {
		t.Errorf("describe: %q, want %q", got, want)
	}
	other := *card
	other.Serial = "another"
	if !card.same(card) || card.same(&other) {
		t.Error("same: a card with another serial number is taken for the same")
	}
	if got := card.partition(1); got != "/dev/sdb1" {
		t.Errorf("partition: %s", got)
	}
	if mmc, _ := find(devices, "179:0"); mmc.partition(1) != "/dev/mmcblk0p1" {
		t.Errorf("partition: %s", mmc.partition(1))
	}
}

func TestBytesText(t *testing.T) {
	for n, want := range map[int64]string{0: "0 bytes", 999: "999 bytes", 1000: "1.0 kB", 31914983424: "31.9 GB", 4000787030016: "4.0 TB", 5e15: "5000.0 TB"} {
		if got := bytesText(n); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
}
