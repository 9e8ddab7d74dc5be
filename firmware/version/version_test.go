package version

import (
	"strings"
	"testing"
)

func TestString(t *testing.T) {
	if got := String(); !strings.HasPrefix(got, "devel") {
		t.Errorf("without a release: %q, want devel…", got)
	}
	release = "1.2.3"
	defer func() { release = "" }()
	if got := String(); got != "1.2.3" {
		t.Errorf("with a release: %q", got)
	}
	if got := Long("tuxwatchd"); !strings.HasPrefix(got, "tuxwatchd 1.2.3 (linux/") {
		t.Errorf("Long: %q", got)
	}
}
