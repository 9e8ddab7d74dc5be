package emulator

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// FindImage returns the newest image in a folder, which make image fills.
func FindImage(folder string) (string, error) {
	files, err := filepath.Glob(filepath.Join(folder, "tuxwatch-*.img"))
	if err != nil {
		return "", err
	}
	newest := func(a, b string) int {
		first, err := os.Stat(a)
		second, other := os.Stat(b)
		if err != nil || other != nil {
			return 0 // gone in between: opening the one that is chosen says so
		}
		return first.ModTime().Compare(second.ModTime())
	}
	if len(files) == 0 {
		return "", fmt.Errorf("no image tuxwatch-*.img in %s: make image builds one", folder)
	}
	return slices.MaxFunc(files, newest), nil
}
