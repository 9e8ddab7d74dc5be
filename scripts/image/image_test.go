// Package image_test holds the card image against what is promised of it. The
// tests look at the image's own bytes; scripts/image/build makes it first, where
// it is not there, or TUXWATCH_IMAGE names one, with its other files beside it.
package image_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

const (
	mib = 1 << 20
	// Where the slots and the data partition are, in bytes.
	slotA, slotB, data = 100 * mib, 548 * mib, 996 * mib
	slotSize, dataSize = 448 * mib, 64 * mib
	fat                = 4 * mib
)

// image is the uncompressed image, built once for all tests.
var image = sync.OnceValues(func() (string, error) {
	if file := os.Getenv("TUXWATCH_IMAGE"); file != "" {
		return filepath.Abs(file)
	}
	for _, command := range [][]string{{"scripts/setup", "build", "deb", "image"}, {"scripts/image/build", "--if-missing"}} {
		cmd := exec.Command(command[0], command[1:]...)
		cmd.Dir, cmd.Stdout, cmd.Stderr = "../..", os.Stderr, os.Stderr
		if err := cmd.Run(); err != nil {
			return "", fmt.Errorf("%s: %w", strings.Join(command, " "), err)
		}
	}
	files, err := filepath.Glob("../../build/tuxwatch-*-arm64.img")
	if err != nil {
		return "", err
	}
	if len(files) != 1 {
		return "", fmt.Errorf("in build there is not one image tuxwatch-*-arm64.img but %d", len(files))
	}
	return filepath.Abs(files[0])
})

// built gives the image; -short does without, and says so.
func built(t *testing.T) string {
	t.Helper()
	if testing.Short() {
		t.Skip("-short: the image takes minutes to build")
	}
	file, err := image()
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// output is what a program prints.
func output(t *testing.T, stdin string, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "TZ=UTC", "MTOOLS_SKIP_CHECK=1", "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
	cmd.Stdin = strings.NewReader(stdin)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, stderr.String())
	}
	return string(out)
}

func sum(t *testing.T, file string) string {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(h.Sum(nil))
}

func at(file string, offset int64) string { return fmt.Sprintf("%s?offset=%d", file, offset) }

func TestLayout(t *testing.T) {
	file := built(t)
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var mbr [512]byte
	if _, err := f.ReadAt(mbr[:], 0); err != nil {
		t.Fatal(err)
	}
	if id := binary.LittleEndian.Uint32(mbr[440:]); id != 0x74757877 {
		t.Errorf("disk id %#x", id)
	}
	want := []struct {
		boot, kind  byte
		start, size int64
	}{
		{0x80, 0x0c, fat, 96 * mib},
		{0, 0x83, slotA, slotSize},
		{0, 0x83, slotB, slotSize},
		{0, 0x83, data, dataSize},
	}
	for i, w := range want {
		e := mbr[446+16*i:]
		start, size := int64(binary.LittleEndian.Uint32(e[8:]))*512, int64(binary.LittleEndian.Uint32(e[12:]))*512
		if e[0] != w.boot || e[4] != w.kind || start != w.start || size != w.size {
			t.Errorf("partition %d: boot %#x, type %#x, at %d, %d bytes; want %+v", i+1, e[0], e[4], start, size, w)
		}
	}
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if info.Size() > 11<<30/10 {
		t.Errorf("the image has %d bytes, more than 1.1 GiB", info.Size())
	}
	empty := make([]byte, mib)
	if _, err := f.ReadAt(empty, slotB); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(empty, make([]byte, mib)) {
		t.Error("slot B is not empty")
	}
	for offset, label := range map[int64]string{slotA: "tuxwatch-a", data: "tuxwatch-data"} {
		head := output(t, "", "dumpe2fs", "-h", at(file, offset))
		if !regexp.MustCompile(`(?m)^Filesystem volume name: +` + label + `$`).MatchString(head) {
			t.Errorf("the file system at %d is not %s:\n%s", offset, label, head)
		}
		journal := strings.Contains(head, "has_journal")
		if journal != (offset == data) {
			t.Errorf("%s: journal %v", label, journal)
		}
		output(t, "", "e2fsck", "-fn", at(file, offset))
	}
	listing := output(t, "", "mdir", "-b", "-/", "-i", fmt.Sprintf("%s@@%d", file, fat), "::")
	for _, name := range []string{"start.elf", "start4.elf", "fixup.dat", "fixup4.dat", "bootcode.bin", "config.txt", "u-boot.bin", "boot.scr",
		"uboot.env", "slots.env", "slots.bak", "bcm2837-rpi-3-b.dtb", "bcm2711-rpi-4-b.dtb", "tuxwatch/README.txt", "tuxwatch/examples/authorized_keys"} {
		if !strings.Contains(listing, "::/"+name+"\n") {
			t.Errorf("the boot partition has no %s", name)
		}
	}
}

// entry is a file of slot A.
type entry struct {
	path     string
	mode     uint64 // st_mode
	uid, gid string
	size     int64
}

const (
	kindMask = 0o170000
	folder   = 0o040000
	regular  = 0o100000
	symlink  = 0o120000
)

// root takes slot A's compressed root file system out of the image.
func root(t *testing.T, file string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "root.squashfs")
	output(t, "", "debugfs", "-R", "dump /root.squashfs "+to, at(file, slotA))
	return to
}

// slotFiles lists the root of slot A.
func slotFiles(t *testing.T, file string) []entry {
	t.Helper()
	var all []entry
	// -rwxr-xr-x 0/0  68536 2026-11-23 00:51 squashfs-root/usr/bin/cat
	line := regexp.MustCompile(`^([-dlcbps])(\S{9}) (\d+)/(\d+)\s+(\d+) \S+ \S+ squashfs-root(/.*?)( -> .*)?$`)
	for _, l := range strings.Split(strings.TrimSpace(output(t, "", "unsquashfs", "-lln", root(t, file))), "\n") {
		m := line.FindStringSubmatch(l)
		if m == nil {
			if !strings.HasSuffix(l, " squashfs-root") {
				t.Fatalf("unsquashfs: %q", l)
			}
			continue
		}
		size, err := strconv.ParseInt(m[5], 10, 64)
		if err != nil {
			t.Fatalf("unsquashfs: %q: %v", l, err)
		}
		all = append(all, entry{m[6], mode(t, m[1], m[2]), m[3], m[4], size})
	}
	if len(all) < 1000 {
		t.Fatalf("slot A has only %d files", len(all))
	}
	return all
}

// mode is st_mode of what ls -l shows.
func mode(t *testing.T, kind, letters string) uint64 {
	t.Helper()
	m, known := map[string]uint64{"-": regular, "d": folder, "l": symlink}[kind]
	if !known {
		t.Fatalf("a file of the kind %q", kind)
	}
	for i, letter := range letters {
		bit := uint64(1) << (8 - i)
		special := uint64(0o1000) << (2 - i/3)
		switch letter {
		case '-':
		case 's', 't':
			m |= bit | special
		case 'S', 'T':
			m |= special
		default:
			m |= bit
		}
	}
	return m
}

// slotFile is the content of a file in the root of slot A.
func slotFile(t *testing.T, file, name string) string {
	t.Helper()
	return output(t, "", "unsquashfs", "-cat", root(t, file), strings.TrimPrefix(name, "/"))
}

// A Pi has no clock of its own: its first start must not be before the image was
// made.
func TestTheClockStartsWithTheImage(t *testing.T) {
	file := built(t)
	to := filepath.Join(t.TempDir(), "root")
	output(t, "", "unsquashfs", "-quiet", "-no-progress", "-dest", to, root(t, file), "usr/lib/clock-epoch")
	info, err := os.Stat(filepath.Join(to, "usr/lib/clock-epoch"))
	if err != nil {
		t.Fatal(err)
	}
	seconds := info.ModTime().Unix()
	want := strings.TrimSpace(output(t, "", "git", "log", "-1", "--format=%ct"))
	if got := strconv.FormatInt(seconds, 10); got != want && os.Getenv("TUXWATCH_IMAGE") == "" {
		t.Errorf("it is of %s, the commit of %s", got, want)
	}
}

func TestNothingForbiddenInside(t *testing.T) {
	file := built(t)
	files := slotFiles(t, file)

	var uids, gids []string
	ids := func(table string) (all []string) {
		for _, line := range strings.Split(strings.TrimSpace(slotFile(t, file, table)), "\n") {
			all = append(all, strings.Split(line, ":")[2])
		}
		return all
	}
	uids, gids = ids("/etc/passwd"), ids("/etc/group")

	forbidden := regexp.MustCompile(`^/usr/(bin/(perl|dpkg|apt|python|gcc|cc$|ld$)|share/(doc|man|info|locale|i18n|perl|debconf|dpkg|lintian)(/|$)|` +
		`lib/(apt|dpkg|python3|gcc)(/|$)|lib/[^/]+/(perl|gconv))|^/var/.|^/etc/(apt|dpkg)(/|$)|\.(a|h|la|pc)$|/ssh_host_|\.dpkg-|/var/lib/dpkg`)
	setuid := []string{"/usr/bin/sudo"}
	writable := []string{"/tmp"}
	var total int64
	for _, e := range files {
		if forbidden.MatchString(e.path) {
			t.Errorf("%s has nothing to do on the device", e.path)
		}
		if e.mode&0o6000 != 0 && e.mode&kindMask == regular && !slices.Contains(setuid, e.path) {
			t.Errorf("%s is setuid or setgid (%o)", e.path, e.mode)
		}
		if e.mode&0o002 != 0 && e.mode&kindMask != symlink && !slices.Contains(writable, e.path) {
			t.Errorf("%s can be written by anybody (%o)", e.path, e.mode)
		}
		if !slices.Contains(uids, e.uid) || !slices.Contains(gids, e.gid) {
			t.Errorf("%s belongs to %s:%s, whom nobody knows", e.path, e.uid, e.gid)
		}
		if e.uid != "0" {
			t.Errorf("%s belongs to user %s: the root is root's", e.path, e.uid)
		}
		if e.mode&kindMask == regular {
			total += e.size
		}
	}
	t.Logf("%d files, %.1f MB", len(files), float64(total)/1e6)
	if total > 300e6 {
		t.Errorf("the root has %.1f MB unpacked, more than 300", float64(total)/1e6)
	}
	has := func(name string) bool {
		return slices.ContainsFunc(files, func(e entry) bool { return e.path == name })
	}
	for _, name := range []string{"/usr/bin/tuxwatchd", "/usr/lib/tuxwatch/libLiteRt.so", "/usr/share/tuxwatch/models/penguin/model.tflite",
		"/usr/share/tuxwatch/licences.txt.gz", "/data", "/boot/firmware",
		"/usr/lib/firmware/regulatory.db", "/usr/lib/firmware/brcm/brcmfmac43455-sdio.raspberrypi,4-model-b.txt", "/etc/ssl/certs/ca-certificates.crt"} {
		if !has(name) {
			t.Errorf("there is no %s", name)
		}
	}
	for _, module := range []string{"vivid", "uvcvideo", "i2c-bcm2835", "bcm2835_wdt", "brcmfmac", "lan78xx", "smsc95xx", "genet", "ext4", "vfat"} {
		if !slices.ContainsFunc(files, func(e entry) bool { return path.Base(e.path) == module+".ko" }) {
			t.Errorf("the kernel module %s is missing", module)
		}
	}

	// What U-Boot loads is beside the root, where it can read it.
	beside := output(t, "", "debugfs", "-R", "ls -p /boot", at(file, slotA))
	for _, name := range []string{"Image.gz", "initrd.img", "dtb"} {
		if !strings.Contains(beside, "/"+name+"/") {
			t.Errorf("there is no /boot/%s in the slot: %s", name, beside)
		}
	}

	// Ids of packages are listed, so that they never move.
	fixed, err := os.ReadFile("ids.conf")
	if err != nil {
		t.Fatal(err)
	}
	listed := string(fixed)
	for _, conf := range []string{"tuxwatch", "tuxwatch-image"} {
		text, err := os.ReadFile("../../rootfs/usr/lib/sysusers.d/" + conf + ".conf")
		if err != nil {
			t.Fatal(err)
		}
		listed += string(text)
	}
	for _, line := range strings.Split(strings.TrimSpace(slotFile(t, file, "/etc/passwd")), "\n") {
		c := strings.Split(line, ":")
		id, err := strconv.Atoi(c[2])
		if err != nil {
			t.Fatal(err)
		}
		if id > 100 && id < 65534 && !regexp.MustCompile(`(?m)^u!?\s+`+c[0]+`\s+`+c[2]+`\b`).MatchString(listed) {
			t.Errorf("user %s has the id %d by chance: it has to be in scripts/image/ids.conf", c[0], id)
		}
		if c[1] != "x" {
			t.Errorf("user %s has %q for a password in /etc/passwd", c[0], c[1])
		}
	}
	for _, line := range strings.Split(strings.TrimSpace(slotFile(t, file, "/etc/shadow")), "\n") {
		if c := strings.Split(line, ":"); !strings.HasPrefix(c[1], "*") && !strings.HasPrefix(c[1], "!") {
			t.Errorf("user %s has a password", c[0])
		}
	}
	if id := slotFile(t, file, "/etc/machine-id"); id != "" {
		t.Errorf("the image has the machine id %q, the same on every device", id)
	}

	etc := filepath.Join(t.TempDir(), "root")
	output(t, "", "unsquashfs", "-quiet", "-no-progress", "-dest", etc, root(t, file), "etc")
	if err := filepath.WalkDir(etc, func(name string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(name)
		if err == nil && bytes.Contains(text, []byte("PRIVATE KEY-----")) {
			t.Errorf("%s has a private key", strings.TrimPrefix(name, etc))
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

func TestCompressedSizeAndSums(t *testing.T) {
	file := built(t)
	info, err := os.Stat(file + ".xz")
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%.1f MB", float64(info.Size())/1e6)
	if info.Size() > 100e6 {
		t.Errorf("the compressed image has %.1f MB, more than 100", float64(info.Size())/1e6)
	}
	sums, err := os.ReadFile(filepath.Join(filepath.Dir(file), "SHA256SUMS"))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(sums)), "\n")
	if len(lines) != 5 {
		t.Errorf("SHA256SUMS has %d lines, want the image, compressed, its map, packages and bill of materials", len(lines))
	}
	for _, line := range lines {
		want, name, _ := strings.Cut(line, "  ")
		if got := sum(t, filepath.Join(filepath.Dir(file), name)); got != want {
			t.Errorf("%s: SHA-256 %s, SHA256SUMS has %s", name, got, want)
		}
	}
	cmd := exec.Command("xz", "--decompress", "--stdout", file+".xz")
	unpacked := sha256.New()
	cmd.Stdout = unpacked
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	if hex.EncodeToString(unpacked.Sum(nil)) != sum(t, file) {
		t.Error("the compressed image is not the image")
	}

	var list struct {
		List []struct {
			Name, URL, Icon string
			ExtractSize     int64  `json:"extract_size"`
			ExtractSHA256   string `json:"extract_sha256"`
			DownloadSize    int64  `json:"image_download_size"`
			DownloadSHA256  string `json:"image_download_sha256"`
			ReleaseDate     string `json:"release_date"`
			Devices         []string
			InitFormat      string `json:"init_format"`
		} `json:"os_list"`
	}
	text, err := os.ReadFile(filepath.Join(filepath.Dir(file), "os_list.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &list); err != nil || len(list.List) != 1 {
		t.Fatalf("os_list.json: %v, %d entries", err, len(list.List))
	}
	e := list.List[0]
	image, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	if e.ExtractSize != image.Size() || e.DownloadSize != info.Size() || !strings.Contains(string(sums), e.ExtractSHA256+"  ") ||
		!strings.Contains(string(sums), e.DownloadSHA256+"  ") || path.Base(e.URL) != filepath.Base(file)+".xz" ||
		!regexp.MustCompile(`^\d{4}-\d\d-\d\d$`).MatchString(e.ReleaseDate) || len(e.Devices) == 0 || e.InitFormat == "" || e.Icon == "" || e.Name == "" {
		t.Errorf("os_list.json does not fit the image: %+v", e)
	}
}

func TestBillOfMaterials(t *testing.T) {
	file := built(t)
	base := strings.TrimSuffix(file, ".img")
	text, err := os.ReadFile(base + ".cdx.json")
	if err != nil {
		t.Fatal(err)
	}
	var bill struct {
		Format      string `json:"bomFormat"`
		SpecVersion string
		Components  []struct {
			Type, Name, Version string
			Ref                 string `json:"bom-ref"`
			Licenses            []struct{ License struct{ ID, Name string } }
		}
	}
	if err := json.Unmarshal(text, &bill); err != nil {
		t.Fatal(err)
	}
	if bill.Format != "CycloneDX" || bill.SpecVersion != "1.6" {
		t.Errorf("format %s %s", bill.Format, bill.SpecVersion)
	}
	versions := map[string]string{}
	refs := map[string]bool{}
	for _, c := range bill.Components {
		if len(c.Licenses) == 0 {
			t.Errorf("%s has no licence", c.Name)
		}
		for _, l := range c.Licenses {
			if (l.License.ID == "") == (l.License.Name == "") {
				t.Errorf("%s: licence %+v has not either an id or a name", c.Name, l)
			}
		}
		if refs[c.Ref] {
			t.Errorf("two components are %s", c.Ref)
		}
		refs[c.Ref] = true
		versions[c.Name] = c.Version
	}
	packages, err := os.ReadFile(base + ".packages")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(packages)), "\n")
	if len(lines) < 80 || !slices.IsSorted(lines) {
		t.Errorf("%d packages, sorted: %v", len(lines), slices.IsSorted(lines))
	}
	for _, line := range lines {
		c := strings.Split(line, "\t")
		if len(c) != 5 || versions[c[0]] != c[1] {
			t.Errorf("package %q has the version %q in the bill", line, versions[c[0]])
		}
	}
	for _, name := range []string{"systemd", "raspi-firmware", "u-boot-rpi", "busybox-static", "tuxwatch", "go", "github.com/eclipse/paho.mqtt.golang", "LiteRT", "penguin"} {
		if versions[name] == "" {
			t.Errorf("%s is missing", name)
		}
	}
	for _, name := range []string{"perl-base", "dpkg", "initramfs-tools"} {
		if versions[name] != "" {
			t.Errorf("%s is in the bill, and not in the image", name)
		}
	}
}

// TestBlockMap writes what the map says onto a disk that is full of something
// else, as a used card is, and looks at all file systems there.
func TestBlockMap(t *testing.T) {
	file := built(t)
	text, err := os.ReadFile(file + ".bmap")
	if err != nil {
		t.Fatal(err)
	}
	var m struct {
		Version                           string `xml:"version,attr"`
		ImageSize, BlockSize, BlocksCount string
		MappedBlocksCount, ChecksumType   string
		BmapFileChecksum                  string
		BlockMap                          struct {
			Range []struct {
				Sum  string `xml:"chksum,attr"`
				Span string `xml:",chardata"`
			}
		}
	}
	if err := xml.Unmarshal(text, &m); err != nil {
		t.Fatal(err)
	}
	own := strings.TrimSpace(m.BmapFileChecksum)
	blank := sha256.Sum256([]byte(strings.Replace(string(text), own, strings.Repeat("0", 64), 1)))
	if hex.EncodeToString(blank[:]) != own {
		t.Errorf("the map's own checksum is %s, it says %s", hex.EncodeToString(blank[:]), own)
	}
	source, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer source.Close()
	info, err := source.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if strings.TrimSpace(m.ImageSize) != strconv.FormatInt(info.Size(), 10) || strings.TrimSpace(m.BlockSize) != "4096" || m.Version != "2.0" {
		t.Errorf("version %s, size %s, blocks of %s", m.Version, m.ImageSize, m.BlockSize)
	}
	card := filepath.Join(t.TempDir(), "card")
	target, err := os.Create(card)
	if err != nil {
		t.Fatal(err)
	}
	defer target.Close()
	before := bytes.Repeat([]byte{0xff}, mib)
	for range info.Size() / mib {
		if _, err := target.Write(before); err != nil {
			t.Fatal(err)
		}
	}
	mapped := int64(0)
	for _, r := range m.BlockMap.Range {
		from, to, ok := strings.Cut(strings.TrimSpace(r.Span), "-")
		if !ok {
			to = from
		}
		a, err1 := strconv.ParseInt(from, 10, 64)
		b, err2 := strconv.ParseInt(to, 10, 64)
		if err1 != nil || err2 != nil {
			t.Fatalf("range %q", r.Span)
		}
		block := make([]byte, (b-a+1)*4096)
		if _, err := source.ReadAt(block, a*4096); err != nil {
			t.Fatal(err)
		}
		if s := sha256.Sum256(block); hex.EncodeToString(s[:]) != r.Sum {
			t.Errorf("range %s: SHA-256 %x, the map has %s", r.Span, s, r.Sum)
		}
		if _, err := target.WriteAt(block, a*4096); err != nil {
			t.Fatal(err)
		}
		mapped += b - a + 1
	}
	if strings.TrimSpace(m.MappedBlocksCount) != strconv.FormatInt(mapped, 10) {
		t.Errorf("the map has %d blocks, and says %s", mapped, m.MappedBlocksCount)
	}
	if mapped*4096 > info.Size()/3 {
		t.Errorf("%d of %d MiB are mapped: more than file systems use", mapped*4096/mib, info.Size()/mib)
	}
	for _, offset := range []int64{slotA, data} {
		output(t, "", "e2fsck", "-fn", at(card, offset))
	}
	trees := map[string]string{}
	for name, image := range map[string]string{"image": file, "card": card} {
		dir := filepath.Join(t.TempDir(), name)
		for _, part := range []string{"boot", "a"} {
			if err := os.MkdirAll(filepath.Join(dir, part), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		output(t, "", "mcopy", "-s", "-n", "-i", fmt.Sprintf("%s@@%d", image, fat), "::/*", filepath.Join(dir, "boot"))
		output(t, "", "debugfs", "-R", "rdump / "+filepath.Join(dir, "a"), at(image, slotA))
		trees[name] = dir
	}
	output(t, "", "diff", "-r", "--no-dereference", trees["image"], trees["card"])
	stale := make([]byte, mib)
	if _, err := target.ReadAt(stale, slotB); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(stale, make([]byte, mib)) {
		t.Error("what was in slot B before would still be found there")
	}
}

// TestBoards holds the boards' device trees against what the image promises, and
// the check against a tree that breaks the promise.
func TestBoards(t *testing.T) {
	file := built(t)
	dir := t.TempDir()
	output(t, "", "debugfs", "-R", "rdump /boot/dtb/broadcom "+dir, at(file, slotA))
	trees, err := filepath.Glob(filepath.Join(dir, "broadcom/*.dtb"))
	if err != nil {
		t.Fatal(err)
	}
	var boards []string
	for _, tree := range trees {
		boards = append(boards, strings.TrimSuffix(filepath.Base(tree), ".dtb"))
	}
	// Compute Module 4 goes by its carrier board, as U-Boot's fdtfile has it.
	want := []string{"bcm2711-rpi-4-b", "bcm2711-rpi-400", "bcm2711-rpi-cm4-io", "bcm2837-rpi-3-a-plus", "bcm2837-rpi-3-b-plus", "bcm2837-rpi-3-b", "bcm2837-rpi-zero-2-w"}
	if !slices.Equal(boards, want) {
		t.Fatalf("device trees of %v, want %v", boards, want)
	}
	output(t, "", "./check-device-tree", trees...)
	for _, broken := range [][]string{
		{"-t", "s", trees[4], "/soc/i2c@7e804000", "status", "disabled"},
		{"-t", "s", trees[0], "/soc/watchdog@7e100000", "status", "disabled"},
		{"-d", trees[5], "/aliases", "i2c1"},
		{"-r", trees[1], "/scb/ethernet@7d580000"},
	} {
		output(t, "", "fdtput", broken...)
	}
	for _, i := range []int{0, 1, 4, 5} {
		if out, err := exec.Command("./check-device-tree", trees[i]).CombinedOutput(); err == nil || !bytes.Contains(out, []byte(boards[i])) {
			t.Errorf("a broken tree of %s passes: %s", boards[i], out)
		}
	}
}

// asRoot is a command of the build, which has to be root or think it is.
func asRoot(t *testing.T, name string, args ...string) {
	t.Helper()
	if os.Getuid() != 0 {
		name, args = "unshare", append([]string{"--map-root-user", "--map-auto", "--mount", name}, args...)
	}
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin",
		"SOURCE_DATE_EPOCH="+strings.TrimSpace(output(t, "", "git", "log", "-1", "--format=%ct")))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

// TestReproducible makes the root and the card once more from the same packages.
func TestReproducible(t *testing.T) {
	file := built(t)
	version := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(file), "tuxwatch-"), "-arm64.img")
	deb := filepath.Join(filepath.Dir(file), "tuxwatch_"+version+"_arm64.deb")
	if _, err := os.Stat(deb); err != nil {
		t.Fatalf("the package that the image was made with is not beside it: %v", err)
	}
	if now := strings.TrimSpace(output(t, "", "../build-deb", "--print-version")); now != version {
		t.Skipf("the image is of %s and not of this tree, %s", version, now)
	}
	dir := t.TempDir()
	t.Cleanup(func() { asRoot(t, "rm", "-rf", dir) })
	in := func(name string) string { return filepath.Join(dir, name) }
	asRoot(t, "./fetch", in("packages"))
	asRoot(t, "./root", "--packages", in("packages"), "--deb", deb, "--version", version, "--out", in("root"))
	asRoot(t, "./card", "--root", in("root"), "--out", in("first.img"))
	asRoot(t, "./card", "--root", in("root"), "--out", in("second.img"))
	first := sum(t, in("first.img"))
	if second := sum(t, in("second.img")); first != second {
		t.Errorf("two cards of one root: %s and %s", first, second)
	}
	packages, err := os.ReadFile(in("root.packages"))
	if err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(strings.TrimSuffix(file, ".img") + ".packages")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(packages, before) {
		t.Skip("Debian has other versions of packages by now than when the image was built: there is nothing to compare with")
	}
	if image := sum(t, file); first != image {
		t.Errorf("made again of the same packages: %s, the image is %s", first, image)
	}
}

// TestWholeBuildIsReproducible builds everything again, the programs as well.
func TestWholeBuildIsReproducible(t *testing.T) {
	if os.Getenv("TUXWATCH_LONG") == "" {
		t.Skip("a second whole build: set TUXWATCH_LONG=1 (make test-long)")
	}
	var sums [2]string
	for i := range sums {
		dir := t.TempDir()
		cmd := exec.Command("scripts/image/build", "--out", dir)
		cmd.Dir, cmd.Stdout, cmd.Stderr = "../..", os.Stderr, os.Stderr
		if err := cmd.Run(); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(filepath.Join(dir, "SHA256SUMS"))
		if err != nil {
			t.Fatal(err)
		}
		sums[i] = string(text)
	}
	if sums[0] != sums[1] {
		t.Errorf("two builds:\n%s\n%s", sums[0], sums[1])
	}
}
