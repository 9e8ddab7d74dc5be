// Package version says which build of the program runs. It holds no logic that
// depends on it.
package version

import (
	"runtime"
	"runtime/debug"
)

// release is set by the build: -ldflags "-X tuxwatch/firmware/version.release=1.2.3".
var release string

// String gives the release, or the commit for a build that is none, as in
// "1.2.3" or "devel 4f2a9c01d3e5+changes".
func String() string {
	if release != "" {
		return release
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "devel"
	}
	commit, changed := "", ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			commit = " " + s.Value[:min(len(s.Value), 12)]
		case s.Key == "vcs.modified" && s.Value == "true":
			changed = "+changes"
		}
	}
	return "devel" + commit + changed
}

// Long is String with the program's name, platform and compiler, for --version.
func Long(program string) string {
	return program + " " + String() + " (" + runtime.GOOS + "/" + runtime.GOARCH + ", " + runtime.Version() + ")"
}
