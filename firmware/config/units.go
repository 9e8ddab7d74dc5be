package config

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Size is a number of bytes. In the file it is a number with a unit: "512KB",
// "100MB", "1.5GB" (powers of 1000) or "64MiB" (powers of 1024).
type Size int64

// UnmarshalText reads a size with its unit.
func (s *Size) UnmarshalText(text []byte) error {
	n, err := parseSize(string(text))
	if err != nil {
		return err
	}
	*s = Size(n)
	return nil
}

// String gives the size in the largest unit that divides it.
func (s Size) String() string {
	for _, u := range sizeUnits {
		if u.factor > 1 && s != 0 && int64(s)%u.factor == 0 {
			return strconv.FormatInt(int64(s)/u.factor, 10) + u.name
		}
	}
	return strconv.FormatInt(int64(s), 10) + "B"
}

// MarshalText gives what UnmarshalText reads.
func (s Size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// sizeUnits from the largest to the smallest.
var sizeUnits = []struct {
	name   string
	factor int64
}{
	{"TiB", 1 << 40}, {"TB", 1e12}, {"GiB", 1 << 30}, {"GB", 1e9},
	{"MiB", 1 << 20}, {"MB", 1e6}, {"KiB", 1 << 10}, {"KB", 1e3}, {"B", 1},
}

func parseSize(text string) (int64, error) {
	t := strings.TrimSpace(text)
	end := strings.LastIndexAny(t, "0123456789.") + 1
	number, unit := t[:end], strings.TrimSpace(t[end:])
	wrong := fmt.Errorf("%q is not a size; write a number and a unit, as in 512KB, 100MB or 64MiB", clip(text))
	value, err := strconv.ParseFloat(number, 64)
	if err != nil || value < 0 || strings.ContainsAny(number, "eExXpP_+") {
		return 0, wrong
	}
	if unit == "" {
		if value == 0 {
			return 0, nil
		}
		return 0, fmt.Errorf("%s has no unit; write for example %sKB, %sMB or %sB", number, number, number, number)
	}
	for _, u := range sizeUnits {
		if strings.EqualFold(unit, u.name) || strings.EqualFold(unit+"B", u.name) {
			bytes := value * float64(u.factor)
			if bytes >= math.MaxInt64 {
				return 0, fmt.Errorf("%q is too large", clip(text))
			}
			return int64(bytes), nil
		}
	}
	return 0, wrong
}

// parseDuration reads Go's durations ("1h30m") and, because retention times are
// long, whole days and weeks before them ("7d", "2w").
func parseDuration(text string) (time.Duration, error) {
	t := strings.TrimSpace(text)
	sign := time.Duration(1)
	if rest, ok := strings.CutPrefix(t, "-"); ok {
		t, sign = rest, -1
	}
	var total time.Duration
	for _, u := range []struct {
		letter string
		length time.Duration
	}{{"w", 7 * 24 * time.Hour}, {"d", 24 * time.Hour}} {
		number, rest, ok := strings.Cut(t, u.letter)
		if !ok {
			continue
		}
		n, err := strconv.ParseUint(number, 10, 32)
		if err != nil || time.Duration(n) > math.MaxInt64/2/u.length {
			return 0, notADuration(text)
		}
		total += time.Duration(n) * u.length
		if t = rest; t == "" {
			return sign * total, nil
		}
	}
	if n, err := strconv.ParseFloat(t, 64); err == nil {
		if n == 0 {
			return 0, nil
		}
		return 0, fmt.Errorf("%s has no unit; write for example %ss, %sms or %sm", t, t, t, t)
	}
	d, err := time.ParseDuration(t)
	if err != nil || d < 0 || total > math.MaxInt64-d {
		return 0, notADuration(text)
	}
	return sign * (total + d), nil
}

func notADuration(text string) error {
	return fmt.Errorf("%q is not a duration; write a number and a unit, as in 500ms, 5s, 10m, 12h or 7d", clip(text))
}

// formatDuration is time.Duration's String without the zeros at the end.
func formatDuration(d time.Duration) string {
	const day = 24 * time.Hour
	if d > 0 && d%day == 0 {
		return strconv.FormatInt(int64(d/day), 10) + "d"
	}
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = s[:len(s)-2]
	}
	if strings.HasSuffix(s, "h0m") {
		s = s[:len(s)-2]
	}
	return s
}
