package main

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Machine is what the figures were taken on.
type Machine struct {
	CPU      string  `json:"cpu"`
	Cores    int     `json:"cores"`
	MemoryMB float64 `json:"memoryMB"`
	Arch     string  `json:"arch"`
	Kernel   string  `json:"kernel"`
	Load     string  `json:"load"` // the load averages at the start
	Disk     string  `json:"disk"` // the file system of the working folder
}

// String is a short description.
func (m Machine) String() string {
	return fmt.Sprintf("Machine: %d cores (%s, %s), %.1f GB memory, Linux %s, %s; load at the start %s",
		m.Cores, m.CPU, m.Arch, m.MemoryMB/1000, m.Kernel, m.Disk, m.Load)
}

// lookAround describes the machine and the file system of dir.
func lookAround(dir string) (Machine, error) {
	m := Machine{Cores: runtime.NumCPU(), Arch: runtime.GOARCH, CPU: "unknown CPU"}
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return m, fmt.Errorf("asking for the kernel's version: %w", err)
	}
	m.Kernel = unix.ByteSliceToString(name.Release[:])
	// ARM kernels give no model name there.
	for _, key := range []string{"model name", "Model"} {
		if cpu, err := field("/proc/cpuinfo", key); err == nil {
			m.CPU = cpu
			break
		}
	}
	kB, err := kilobytes("/proc/meminfo", "MemTotal")
	if err != nil {
		return m, err
	}
	m.MemoryMB = kB * 1024 / 1e6
	load, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return m, err
	}
	m.Load = strings.Join(strings.Fields(string(load))[:3], " ")
	m.Disk, err = fileSystem(dir)
	return m, err
}

// field reads "key: value" from a file of /proc.
func field(file, key string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		name, value, found := strings.Cut(lines.Text(), ":")
		if found && strings.TrimSpace(name) == key {
			return strings.TrimSpace(value), nil
		}
	}
	if err := lines.Err(); err != nil {
		return "", err
	}
	return "", fmt.Errorf("%s has no line %q", file, key)
}

func kilobytes(file, key string) (float64, error) {
	value, err := field(file, key)
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(value, "kB")), 64)
	if err != nil {
		return 0, fmt.Errorf("%s: %s: %w", file, key, err)
	}
	return n, nil
}

// fileSystem names the file system that dir is on. One in memory is refused:
// an fsync on it says nothing.
func fileSystem(dir string) (string, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return "", fmt.Errorf("asking for the file system of %s: %w", dir, err)
	}
	switch s.Type {
	case unix.TMPFS_MAGIC, unix.RAMFS_MAGIC:
		return "", fmt.Errorf("%s is on a file system in memory, where an fsync costs nothing; choose a folder on a disk with --dir", dir)
	case unix.EXT4_SUPER_MAGIC:
		return "ext4", nil
	case unix.XFS_SUPER_MAGIC:
		return "xfs", nil
	case unix.BTRFS_SUPER_MAGIC:
		return "btrfs", nil
	case unix.OVERLAYFS_SUPER_MAGIC:
		return "overlayfs", nil
	case unix.F2FS_SUPER_MAGIC:
		return "f2fs", nil
	default:
		return fmt.Sprintf("file system type %#x", s.Type), nil
	}
}

// syncLatency appends 4 KiB and calls fdatasync for so long, and gives the
// seconds that each took.
func syncLatency(dir string, long time.Duration) ([]float64, error) {
	f, err := os.OpenFile(filepath.Join(dir, "sync-probe"), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	block := make([]byte, 4096)
	var took []float64
	for end := time.Now().Add(long); time.Now().Before(end); {
		start := time.Now()
		if _, err := f.Write(block); err != nil {
			return nil, err
		}
		if err := unix.Fdatasync(int(f.Fd())); err != nil {
			return nil, fmt.Errorf("fdatasync of %s: %w", f.Name(), err)
		}
		took = append(took, time.Since(start).Seconds())
	}
	return took, nil
}

// flushes is how many flushes the disk that dir is on has done since the
// machine started; false when the kernel does not say. Those of other
// programs are among them.
func flushes(dir string) (int64, bool) {
	var s unix.Stat_t
	if unix.Stat(dir, &s) != nil {
		return 0, false
	}
	data, err := os.ReadFile(fmt.Sprintf("/sys/dev/block/%d:%d/stat", unix.Major(s.Dev), unix.Minor(s.Dev)))
	// The 16th field: Documentation/block/stat.rst of the kernel, since 5.5.
	fields := strings.Fields(string(data))
	if err != nil || len(fields) < 16 {
		return 0, false
	}
	n, err := strconv.ParseInt(fields[15], 10, 64)
	return n, err == nil
}
