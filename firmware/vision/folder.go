package vision

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// ErrNoModel is returned by FindModel when no model came with the program.
var ErrNoModel = errors.New("no model found")

// ModelSearchPath lists the folders that FindModel looks for the penguin model
// in: that of the source tree whose build/bin the program is in, and that of
// the Debian package.
func ModelSearchPath() []string {
	var dirs []string
	if program, err := os.Executable(); err == nil {
		if program, err = filepath.EvalSymlinks(program); err == nil {
			dirs = append(dirs, filepath.Join(filepath.Dir(program), "..", "..", "models", "penguin"))
		}
	}
	return append(dirs, "/usr/share/tuxwatch/models/penguin")
}

// FindModel returns dir, or, when it is empty, the folder of the model that came
// with the program.
func FindModel(dir string) (string, error) {
	if dir != "" {
		return dir, nil
	}
	searched := ModelSearchPath()
	for _, dir := range searched {
		if _, err := os.Stat(dir); err == nil {
			return dir, nil
		} else if !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
	}
	return "", fmt.Errorf("%w (looked for %s); install the package tuxwatch, or name the folder of a model",
		ErrNoModel, strings.Join(searched, ", "))
}
