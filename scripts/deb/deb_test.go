// Package deb tests the Debian packages that scripts/build-deb makes: that they
// are the same bytes every time, hold what they should, please lintian, install,
// upgrade and go again, and that their programs run from where they are put.
package deb

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"tuxwatch/firmware/config"
	"tuxwatch/firmware/modules"
)

const root = "../.."

// built are the packages of one build, by name: paths of the files.
type built map[string]string

// build runs scripts/build-deb; env is added to the environment.
func build(t *testing.T, arch string, before string, env ...string) built {
	t.Helper()
	for _, tool := range []string{"dpkg-deb", compiler(arch)} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not installed: no package is built (scripts/setup deb installs it)", tool)
		}
	}
	out := t.TempDir()
	cmd := exec.Command("sh", "-c", before+` exec ./scripts/build-deb --arch "$1" --out "$2"`, "sh", arch, out)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), env...)
	var log bytes.Buffer
	cmd.Stderr = &log
	if _, err := cmd.Output(); err != nil {
		t.Fatalf("building the packages: %v\n%s", err, log.String())
	}
	files, err := filepath.Glob(filepath.Join(out, "*.deb"))
	if err != nil || len(files) != 2 {
		t.Fatalf("packages: %v %v", files, err)
	}
	packages := built{}
	for _, f := range files {
		name, _, _ := strings.Cut(filepath.Base(f), "_")
		if !strings.HasSuffix(f, "_"+arch+".deb") {
			t.Errorf("%s is not named after %s", f, arch)
		}
		packages[name] = f
	}
	return packages
}

func compiler(arch string) string {
	if arch == "arm64" && runtime.GOARCH != "arm64" {
		return "aarch64-linux-gnu-gcc"
	}
	return "gcc"
}

func output(t *testing.T, name string, args ...string) string {
	t.Helper()
	var stderr bytes.Buffer
	cmd := exec.Command(name, args...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s%s", name, strings.Join(args, " "), err, out, stderr.String())
	}
	return string(out)
}

func sum(t *testing.T, file string) [sha256.Size]byte {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return sha256.Sum256(data)
}

// One build of this machine's packages serves every check, because it compiles.
func TestPackages(t *testing.T) {
	if testing.Short() {
		t.Skip("builds packages, which takes a minute")
	}
	packages := build(t, runtime.GOARCH, "")
	tree := t.TempDir()
	output(t, "dpkg-deb", "-x", packages["tuxwatch"], tree)
	t.Run("reproducible", func(t *testing.T) { reproducible(t, packages) })
	t.Run("contents", func(t *testing.T) { contents(t, packages) })
	t.Run("control", func(t *testing.T) { control(t, packages) })
	t.Run("documents", func(t *testing.T) { documents(t, tree) })
	t.Run("lintian", func(t *testing.T) { lintian(t, packages) })
	t.Run("install", func(t *testing.T) { install(t, packages["tuxwatch"]) })
	t.Run("programs", func(t *testing.T) { programs(t, tree) })
}

// reproducible builds again, as somebody else somewhere else.
func reproducible(t *testing.T, packages built) {
	env := []string{"TZ=Pacific/Auckland", "LC_ALL=C.UTF-8", "TMPDIR=" + t.TempDir(), "TUXHUB_STATE=/elsewhere", "XDG_STATE_HOME=/elsewhere"}
	if os.Getenv("TUXWATCH_LONG") != "" {
		env = append(env, "GOCACHE="+t.TempDir()) // compiles everything again
	}
	again := build(t, runtime.GOARCH, "umask 077;", env...)
	for name, file := range packages {
		if sum(t, file) == sum(t, again[name]) {
			continue
		}
		if diff, err := exec.Command("cmp", file, again[name]).CombinedOutput(); err != nil {
			t.Errorf("%s differs: %s", name, diff)
		}
		for _, f := range []string{file, again[name]} {
			t.Logf("%s\n%s", f, output(t, "dpkg-deb", "-c", f))
		}
	}
}

func contents(t *testing.T, packages built) {
	wants := map[string][]string{
		"tuxwatch": {
			"-rwxr-xr-x root/root ./usr/bin/tuxwatchd",
			"-rwxr-xr-x root/root ./usr/bin/tuxwatch",
			"-rw-r--r-- root/root ./usr/lib/tuxwatch/libLiteRt.so",
			"-rw-r--r-- root/root ./usr/share/tuxwatch/models/penguin/model.tflite",
			"-rw-r--r-- root/root ./usr/share/tuxwatch/models/penguin/SHA256SUMS",
			"drwxr-xr-x root/root ./etc/tuxwatch/",
			"-rw-r--r-- root/root ./etc/tuxwatch/tuxwatch.yaml",
			"-rw-r--r-- root/root ./usr/share/tuxwatch/tuxwatch.yaml",
			"-rw-r--r-- root/root ./usr/lib/systemd/system/tuxwatchd.service",
			"-rw-r--r-- root/root ./usr/lib/sysusers.d/tuxwatch.conf",
			"-rw-r--r-- root/root ./usr/lib/tmpfiles.d/tuxwatch.conf",
			"-rw-r--r-- root/root ./usr/lib/udev/rules.d/60-tuxwatch.rules",
			"-rw-r--r-- root/root ./usr/share/man/man1/tuxwatch.1.gz",
			"-rw-r--r-- root/root ./usr/share/man/man5/tuxwatch.yaml.5.gz",
			"-rw-r--r-- root/root ./usr/share/man/man8/tuxwatchd.8.gz",
			"-rw-r--r-- root/root ./usr/share/bash-completion/completions/tuxwatch",
			"-rw-r--r-- root/root ./usr/share/zsh/vendor-completions/_tuxwatch",
			"-rw-r--r-- root/root ./usr/share/fish/vendor_completions.d/tuxwatch.fish",
			"-rw-r--r-- root/root ./usr/share/doc/tuxwatch/copyright",
			"-rw-r--r-- root/root ./usr/share/doc/tuxwatch/changelog.gz",
		},
		"tuxhub": {
			"-rwxr-xr-x root/root ./usr/bin/tuxhub",
			"-rw-r--r-- root/root ./usr/share/man/man1/tuxhub.1.gz",
			"-rw-r--r-- root/root ./usr/share/bash-completion/completions/tuxhub",
			"-rw-r--r-- root/root ./usr/share/doc/tuxhub/copyright",
		},
	}
	entry := regexp.MustCompile(`(?m)^(\S+) (\S+) +\d+ \S+ \S+ (\S+)$`)
	for name, want := range wants {
		have := map[string]bool{}
		for _, m := range entry.FindAllStringSubmatch(output(t, "dpkg-deb", "-c", packages[name]), -1) {
			have[strings.Join(m[1:], " ")] = true
			if mode := m[1]; m[2] != "root/root" || mode[5] == 'w' || mode[8] == 'w' || strings.ContainsAny(mode, "sSt") {
				t.Errorf("%s: %v", name, m[0])
			}
		}
		for _, w := range want {
			if !have[w] {
				t.Errorf("%s lacks %s", name, w)
			}
		}
	}
}

func control(t *testing.T, packages built) {
	field := func(pkg, name string) string {
		return strings.TrimSpace(output(t, "dpkg-deb", "-f", packages[pkg], name))
	}
	for _, pkg := range []string{"tuxwatch", "tuxhub"} {
		if version := field(pkg, "Version"); exec.Command("dpkg", "--validate-version", version).Run() != nil {
			t.Errorf("%s: version %q", pkg, version)
		}
		if !strings.Contains(field(pkg, "Depends"), "libc6 (>= 2.") {
			t.Errorf("%s depends on %q", pkg, field(pkg, "Depends"))
		}
	}
	for _, needed := range []string{"libstdc++6 (>= ", "libgcc-s1", "systemd", "init-system-helpers"} {
		if !strings.Contains(field("tuxwatch", "Depends"), needed) {
			t.Errorf("tuxwatch does not depend on %s: %q", needed, field("tuxwatch", "Depends"))
		}
	}
	dir := t.TempDir()
	output(t, "dpkg-deb", "-e", packages["tuxwatch"], dir)
	conffiles, err := os.ReadFile(filepath.Join(dir, "conffiles"))
	if err != nil || string(conffiles) != config.DefaultPath+"\n" {
		t.Errorf("conffiles: %q %v", conffiles, err)
	}
	if _, err := exec.LookPath("shellcheck"); err != nil {
		t.Skip("shellcheck is not installed: the maintainer's scripts are not checked")
	}
	output(t, "shellcheck", filepath.Join(dir, "postinst"), filepath.Join(dir, "prerm"), filepath.Join(dir, "postrm"))
}

// documents: every setting and flag there is has its place in the manual, and
// every module that is linked is in the copyright file.
func documents(t *testing.T, tree string) {
	manual := output(t, "zcat", filepath.Join(tree, "usr/share/man/man5/tuxwatch.yaml.5.gz"))
	defaults, err := config.Default(modules.Kinds(nil))
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range defaults.Effective(nil, nil) {
		name := v.Path[strings.LastIndex(v.Path, ".")+1:]
		if !regexp.MustCompile(`\b` + name + `\b`).MatchString(manual) {
			t.Errorf("tuxwatch.yaml(5) lacks %s", v.Path)
		}
	}
	daemon := output(t, "zcat", filepath.Join(tree, "usr/share/man/man8/tuxwatchd.8.gz"))
	help, _ := exec.Command(filepath.Join(tree, "usr/bin/tuxwatchd"), "--help").CombinedOutput()
	flags := regexp.MustCompile(`(?m)^ +--([a-z-]+)`).FindAllStringSubmatch(string(help), -1)
	if len(flags) < 3 {
		t.Fatalf("tuxwatchd --help shows no flags:\n%s", help)
	}
	for _, f := range flags {
		if !strings.Contains(daemon, "Fl -"+f[1]) {
			t.Errorf("tuxwatchd(8) lacks --%s", f[1])
		}
	}
	copyright, err := os.ReadFile(filepath.Join(tree, "usr/share/doc/tuxwatch/copyright"))
	if err != nil {
		t.Fatal(err)
	}
	linked := regexp.MustCompile(`(?m)^\s+dep\s+(\S+)`).FindAllStringSubmatch(
		output(t, "go", "version", "-m", filepath.Join(tree, "usr/bin/tuxwatch"), filepath.Join(tree, "usr/bin/tuxwatchd")), -1)
	if len(linked) < 10 {
		t.Fatalf("the programs name %d modules", len(linked))
	}
	for _, m := range linked {
		if !bytes.Contains(copyright, []byte("\nFiles: "+m[1]+"/*\n")) {
			t.Errorf("the copyright file lacks %s", m[1])
		}
	}
	for _, file := range []string{"usr/share/man/man1/tuxwatch.1.gz", "usr/share/man/man5/tuxwatch.yaml.5.gz", "usr/share/man/man8/tuxwatchd.8.gz"} {
		if _, err := exec.LookPath("groff"); err != nil {
			t.Skip("groff is not installed: the manual pages are not formatted")
		}
		out, err := exec.Command("sh", "-c", `zcat "$1" | groff -Kutf8 -mandoc -Tutf8 -ww >/dev/null`, "sh", filepath.Join(tree, file)).CombinedOutput()
		if err != nil || len(out) > 0 {
			t.Errorf("%s: %v\n%s", file, err, out)
		}
	}
}

func lintian(t *testing.T, packages built) {
	if _, err := exec.LookPath("lintian"); err != nil {
		t.Skip("lintian is not installed: the packages are not checked (scripts/setup deb installs it)")
	}
	for name, file := range packages {
		out, err := exec.Command("lintian", "--allow-root", "--fail-on", "error,warning", file).CombinedOutput()
		if err != nil || regexp.MustCompile(`(?m)^[EW]:`).Match(out) {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}

// install puts the package into a system of its own, as an image is made, and
// takes it out again: dpkg runs the maintainer's scripts with DPKG_ROOT.
func install(t *testing.T, file string) {
	if os.Geteuid() != 0 {
		t.Skip("not root: dpkg cannot give files away")
	}
	for _, tool := range []string{"systemd-sysusers", "systemd-tmpfiles", "deb-systemd-helper"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not installed: the package is not installed", tool)
		}
	}
	system := t.TempDir()
	dpkg := func(args ...string) {
		t.Helper()
		output(t, "dpkg", append([]string{"--root=" + system, "--force-depends", "--force-script-chrootless", "--force-confdef", "--force-confold"}, args...)...)
	}
	for _, dir := range []string{"var/lib/dpkg/updates", "var/lib/dpkg/info", "var/lib/dpkg/triggers", "etc", "var/log"} {
		if err := os.MkdirAll(filepath.Join(system, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(system, "var/lib/dpkg/status"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	read := func(path string) string {
		t.Helper()
		data, err := os.ReadFile(filepath.Join(system, path))
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	exists := func(path string) bool {
		_, err := os.Lstat(filepath.Join(system, path))
		return err == nil
	}
	const wanted = "etc/systemd/system/multi-user.target.wants/tuxwatchd.service"

	dpkg("-i", file)
	user := regexp.MustCompile(`(?m)^tuxwatch:x?!?\*?:(\d+):(\d+):`).FindStringSubmatch(read("etc/passwd"))
	if user == nil {
		t.Fatalf("there is no user:\n%s", read("etc/passwd"))
	}
	for _, group := range []string{"i2c", "video", "gpio"} {
		if !regexp.MustCompile(`(?m)^` + group + `:.*:tuxwatch$`).MatchString(read("etc/group")) {
			t.Errorf("the user is not in the group %s:\n%s", group, read("etc/group"))
		}
	}
	if !exists(wanted) {
		t.Error("the service is not enabled")
	}
	state, err := os.Stat(filepath.Join(system, "var/lib/tuxwatch"))
	if err != nil {
		t.Fatal(err)
	}
	if owner := state.Sys().(*syscall.Stat_t); state.Mode().Perm() != 0o700 || fmt.Sprint(owner.Uid) != user[1] {
		t.Errorf("the state directory is %v of user %d", state.Mode(), owner.Uid)
	}

	// An upgrade keeps what the operator wrote and that he disabled the service.
	conf := filepath.Join(system, "etc/tuxwatch/tuxwatch.yaml")
	if err := os.WriteFile(conf, []byte("log: {level: debug}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(system, wanted)); err != nil {
		t.Fatal(err)
	}
	dpkg("-i", file)
	if got := read("etc/tuxwatch/tuxwatch.yaml"); got != "log: {level: debug}\n" {
		t.Errorf("the upgrade wrote over the configuration: %q", got)
	}
	if exists(wanted) {
		t.Error("the upgrade enabled the service again")
	}

	dpkg("-r", "tuxwatch")
	if exists("usr/bin/tuxwatchd") || !exists("etc/tuxwatch/tuxwatch.yaml") || !exists("var/lib/tuxwatch") {
		t.Error("removing is to take the programs and leave configuration and state")
	}
	dpkg("-P", "tuxwatch")
	for _, path := range []string{"etc/tuxwatch", "var/lib/tuxwatch", "usr/lib/tuxwatch", "var/lib/systemd/deb-systemd-helper-enabled/tuxwatchd.service.dsh-also"} {
		if exists(path) {
			t.Errorf("purging left %s behind", path)
		}
	}
}

// programs runs what was unpacked as if it were installed: in a root of its own
// with no more than the libraries it depends on.
func programs(t *testing.T, tree string) {
	for _, name := range []string{"usr/bin/tuxwatch", "usr/bin/tuxwatchd", "usr/lib/tuxwatch/libLiteRt.so"} {
		for _, m := range regexp.MustCompile(`(/\S+) \(0x`).FindAllStringSubmatch(output(t, "ldd", filepath.Join(tree, name)), -1) {
			if err := copyFile(m[1], filepath.Join(tree, m[1])); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, sample := range []string{"penguin-toy-desk.jpg", "desk-empty.jpg"} {
		if err := copyFile(filepath.Join(root, "models/samples", sample), filepath.Join(tree, sample)); err != nil {
			t.Fatal(err)
		}
	}
	// The model's runtime looks there for what the processor can do.
	if err := copyFile("/proc/cpuinfo", filepath.Join(tree, "proc/cpuinfo")); err != nil {
		t.Fatal(err)
	}
	inside := func(program string, args ...string) *exec.Cmd {
		cmd := exec.Command(program, args...)
		cmd.Dir = "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: tree}
		if os.Geteuid() != 0 {
			cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWUSER
			cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
			cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
		}
		return cmd
	}
	out, err := inside("/usr/bin/tuxwatchd", "--version").CombinedOutput()
	if errors.Is(err, fs.ErrPermission) {
		t.Skip("this machine does not let us change the root: the programs are not run from their places")
	}
	if err != nil || !strings.HasPrefix(string(out), "tuxwatchd ") {
		t.Fatalf("tuxwatchd --version: %v\n%s", err, out)
	}
	if out, err := inside("/usr/bin/tuxwatchd", "--check").CombinedOutput(); err != nil || string(out) != config.DefaultPath+": valid\n" {
		t.Errorf("tuxwatchd --check: %v\n%s", err, out)
	}
	// The library and the model are found where the package has them.
	out, err = inside("/usr/bin/tuxwatch", "classify", "--json", "/penguin-toy-desk.jpg", "/desk-empty.jpg").CombinedOutput()
	if err != nil {
		t.Fatalf("tuxwatch classify: %v\n%s", err, out)
	}
	var best []string
	for line := range strings.Lines(string(out)) {
		var answer struct{ Predictions []struct{ TagName string } }
		if err := json.Unmarshal([]byte(line), &answer); err != nil || len(answer.Predictions) == 0 {
			t.Fatalf("tuxwatch classify printed %q: %v", line, err)
		}
		best = append(best, answer.Predictions[0].TagName)
	}
	if len(best) != 2 || best[0] != "penguin" || best[1] == "penguin" {
		t.Errorf("tuxwatch classify sees %v", best)
	}

	// The daemon comes up with the installed configuration, and stops.
	daemon := inside("/usr/bin/tuxwatchd", "--state", "/state")
	var log bytes.Buffer
	daemon.Stderr = &log
	if err := daemon.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- daemon.Wait() }()
	answered := false
	for deadline := time.Now().Add(60 * time.Second); !answered && time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		out, err := inside("/usr/bin/tuxwatch", "status", "--json", "--socket", "/state/control.sock").Output()
		answered = err == nil && bytes.Contains(out, []byte(`"recognizer"`))
	}
	if err := daemon.Process.Signal(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
	if err := <-ended; err != nil || !answered {
		t.Errorf("tuxwatchd: answered %v, ended with %v\n%s", answered, err, log.String())
	}
}

func copyFile(from, to string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	return os.WriteFile(to, data, 0o755)
}

// The Raspberry Pi's programs start. Their models run on a Raspberry Pi or in
// the emulated one: qemu-user 7.2 crashes in the compiler of the model's kernels.
func TestRaspberryPi(t *testing.T) {
	if testing.Short() {
		t.Skip("builds packages, which takes a minute")
	}
	if runtime.GOARCH == "arm64" {
		t.Skip("this machine is one: TestPackages has run its programs")
	}
	packages := build(t, "arm64", "")
	if got := strings.TrimSpace(output(t, "dpkg-deb", "-f", packages["tuxwatch"], "Architecture")); got != "arm64" {
		t.Errorf("the package is for %s", got)
	}
	lintian(t, packages)
	emulator, err := exec.LookPath("qemu-aarch64-static")
	if err != nil {
		t.Skip("qemu-aarch64-static is not installed: the programs are not run (scripts/setup deb installs it)")
	}
	tree := t.TempDir()
	output(t, "dpkg-deb", "-x", packages["tuxwatch"], tree)
	output(t, "dpkg-deb", "-x", packages["tuxhub"], tree)
	program := func(name string, args ...string) string {
		t.Helper()
		return output(t, emulator, append([]string{"-L", "/usr/aarch64-linux-gnu", filepath.Join(tree, "usr/bin", name)}, args...)...)
	}
	for _, name := range []string{"tuxwatchd", "tuxwatch", "tuxhub"} {
		if out := program(name, "--version"); !strings.Contains(out, "linux/arm64") {
			t.Errorf("%s --version: %s", name, out)
		}
	}
	message := filepath.Join(t.TempDir(), "message.json")
	if err := os.WriteFile(message, []byte(`{"body":{"machine":{"temperature":31}},"properties":{}}`), 0o644); err != nil {
		t.Fatal(err)
	}
	if out := program("tuxwatch", "route", "eval", "--message", message, "--", "$body.machine.temperature > 30"); !strings.Contains(out, "true") {
		t.Errorf("tuxwatch route eval: %s", out)
	}
}
