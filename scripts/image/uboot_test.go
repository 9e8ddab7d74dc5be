package image_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// environment is a file of U-Boot's format: CRC-32 of what follows, variables
// that end with a zero byte each, one more, and padding.
func environment(variables ...string) string {
	body := make([]byte, 4096-4)
	copy(body, strings.Join(variables, "\x00")+"\x00\x00")
	return string(binary.LittleEndian.AppendUint32(nil, crc32.ChecksumIEEE(body))) + string(body)
}

// variables are those of such a file, or nil where it is broken.
func variables(file string) map[string]string {
	if len(file) != 4096 || binary.LittleEndian.Uint32([]byte(file)) != crc32.ChecksumIEEE([]byte(file[4:])) {
		return nil
	}
	all := map[string]string{}
	body, _, _ := strings.Cut(file[4:], "\x00\x00")
	for _, v := range strings.Split(body, "\x00") {
		name, value, _ := strings.Cut(v, "=")
		all[name] = value
	}
	return all
}

// TestSlots has U-Boot itself choose, in the emulated Pi, among slots that have
// something in the kernel's place which does not start.
func TestSlots(t *testing.T) {
	file := built(t)
	qemu := "qemu-system-aarch64"
	if dir := strings.TrimSpace(output(t, "", "../emulator/fetch-qemu")); dir != "" {
		qemu = filepath.Join(dir, qemu)
	}
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	inFAT := fmt.Sprintf("@@%d", fat)
	output(t, "", "mcopy", "-i", file+inFAT, "::u-boot.bin", "::bcm2837-rpi-3-b.dtb", dir)

	// The image's boot partition, and two slots that are as small as can be.
	source, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer source.Close()
	base, err := os.Create(in("base.img"))
	if err != nil {
		t.Fatal(err)
	}
	defer base.Close()
	if _, err := io.Copy(base, io.NewSectionReader(source, 0, slotA)); err != nil {
		t.Fatal(err)
	}
	if err := base.Truncate(2 << 30); err != nil { // QEMU's cards are a power of two
		t.Fatal(err)
	}
	if err := os.MkdirAll(in("slot/boot"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(in("slot/boot/Image.gz"), []byte("not a kernel"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, offset := range []int64{slotA, slotB} {
		output(t, "", "mke2fs", "-q", "-F", "-t", "ext4", "-O", "^has_journal", "-E", fmt.Sprintf("offset=%d", offset), "-d", in("slot"), in("base.img"), "16M")
	}

	const broken = "broken"
	defaults := map[string]string{"slot_order": "a b", "slot_a_left": "good", "slot_b_left": "good"}
	for _, c := range []struct {
		name, env, bak string
		noB            bool
		said           []string // on the console, in this order; at the last one the power goes
		left           map[string]string
	}{
		{
			name: "a has no tries left, b is good, nothing starts",
			env:  environment("slot_order=a b", "slot_a_left=0", "slot_b_left=good", "extraargs=quiet"),
			said: []string{
				"slots from slots.env: order a b, a 0, b good", "slot a has no tries left", "starting slot b (good)", "slot b does not start",
				"nothing started; back to the defaults", "starting slot a (good)", "slot a does not start", "starting slot b (good)", "no slot starts",
			},
			left: defaults,
		},
		{
			name: "b is on trial",
			env:  environment("slot_order=b a", "slot_a_left=good", "slot_b_left=3", "extraargs=quiet"),
			said: []string{"starting slot b (2)", "slot b does not start", "starting slot a (good)"},
			left: map[string]string{"slot_order": "b a", "slot_a_left": "good", "slot_b_left": "2", "extraargs": "quiet"},
		},
		{
			name: "the last try, and nonsense",
			env:  environment("slot_order=c b a", "slot_a_left=nonsense", "slot_b_left=1"),
			said: []string{"starting slot b (0)", "slot b does not start", "slot a has no tries left", "back to the defaults", "starting slot a (good)"},
			left: defaults,
		},
		{
			name: "the power went while slots.env was written",
			env:  broken, bak: environment("slot_order=b a", "slot_a_left=good", "slot_b_left=good"),
			said: []string{"slots from slots.bak", "starting slot b (good)"},
		},
		{
			name: "both broken",
			env:  broken, bak: broken,
			said: []string{"slots from no", "starting slot a (good)"},
		},
		{
			name: "b is chosen and empty",
			env:  environment("slot_order=b a", "slot_a_left=good", "slot_b_left=good"),
			noB:  true,
			said: []string{"slot b is empty", "starting slot a (good)"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			card := in("card.img")
			output(t, "", "cp", "--sparse=always", in("base.img"), card)
			if c.noB {
				f, err := os.OpenFile(card, os.O_WRONLY, 0)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := f.WriteAt(make([]byte, mib), slotB); err != nil {
					t.Fatal(err)
				}
				if err := f.Close(); err != nil {
					t.Fatal(err)
				}
			}
			if c.bak == "" {
				c.bak = c.env
			}
			for name, text := range map[string]string{"slots.env": c.env, "slots.bak": c.bak} {
				if text == broken {
					text = strings.Repeat("x", 4096)
				}
				output(t, text, "mcopy", "-o", "-i", card+inFAT, "-", "::"+name)
			}
			before := output(t, "", "mtype", "-i", card+inFAT, "::slots.env")

			says(t, c.said, qemu, "-M", "raspi3b", "-kernel", in("u-boot.bin"), "-dtb", in("bcm2837-rpi-3-b.dtb"),
				"-drive", "file="+card+",if=sd,format=raw", "-display", "none", "-monitor", "none", "-serial", "null", "-serial", "stdio")

			after := output(t, "", "mtype", "-i", card+inFAT, "::slots.env")
			if c.left == nil {
				if before != after {
					t.Errorf("slots.env was written: %q, %v", after, variables(after))
				}
				return
			}
			for _, name := range []string{"slots.env", "slots.bak"} {
				got := variables(output(t, "", "mtype", "-i", card+inFAT, "::"+name))
				if fmt.Sprint(got) != fmt.Sprint(c.left) {
					t.Errorf("%s is %v, want %v", name, got, c.left)
				}
			}
		})
	}
}

// says runs a program until it has said all of it, one after the other, and
// kills it then.
func says(t *testing.T, want []string, name string, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		cancel()
		_ = cmd.Wait() // it was killed
	}()
	var console []byte
	from := 0
	for part := make([]byte, 4096); len(want) > 0; {
		n, err := out.Read(part)
		console = append(console, part[:n]...)
		for len(want) > 0 {
			i := bytes.Index(console[from:], []byte(want[0]))
			if i < 0 {
				break
			}
			from += i + len(want[0])
			want = want[1:]
		}
		// A serial line that chatters would stop the start for good.
		if bytes.Contains(console, []byte("Hit any key")) {
			t.Fatalf("U-Boot waits for a key:\n%s", console)
		}
		if err != nil && len(want) > 0 {
			t.Fatalf("the console ended without %q: %v\n%s\n%s", want[0], err, stderr.String(), console)
		}
	}
}
