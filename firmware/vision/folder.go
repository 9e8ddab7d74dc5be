package vision

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
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

// sumsFile may be in a model folder: the SHA-256 sums of its files, as sha256sum
// writes them. Storage that goes bad, and copies that were cut short, are then
// found before the model runs; LiteRT trusts the numbers in a model.
const sumsFile = "SHA256SUMS"

// checkSums holds the files of a folder against its sums, if it has them.
func checkSums(dir string) error {
	list, err := os.ReadFile(filepath.Join(dir, sumsFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(list)) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		sum, name, found := strings.Cut(line, " ")
		name = strings.TrimPrefix(strings.TrimSpace(name), "*") // * marks binary mode
		want, err := hex.DecodeString(sum)
		if !found || err != nil || len(want) != sha256.Size || !filepath.IsLocal(name) {
			return fmt.Errorf("%s: %q is not a line of sha256sum", sumsFile, line)
		}
		got, err := sumOf(filepath.Join(dir, name))
		if err != nil {
			return fmt.Errorf("%s: %w", sumsFile, err)
		}
		if !bytes.Equal(got, want) {
			return fmt.Errorf("%s is damaged or was changed: its SHA-256 sum is not that in %s (delete that file if the change is meant)", name, sumsFile)
		}
	}
	return nil
}

func sumOf(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	hash := sha256.New()
	if _, err := io.Copy(hash, f); err != nil {
		return nil, err
	}
	return hash.Sum(nil), nil
}
