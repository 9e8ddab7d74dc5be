package cloud

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A secret that others may read is told; systemd's copy of a credential, which lies
// in a folder that only the service sees, is not, though its mode has the group in it.
func TestSecretThatOthersMayRead(t *testing.T) {
	credentials := t.TempDir()
	t.Setenv("CREDENTIALS_DIRECTORY", credentials)
	for _, c := range []struct {
		dir  string
		mode os.FileMode
		told bool
	}{
		{t.TempDir(), 0o600, false},
		{t.TempDir(), 0o440, true},
		{t.TempDir(), 0o604, true},
		{credentials, 0o440, false},
	} {
		file := filepath.Join(c.dir, "hub-connection-string")
		if err := os.WriteFile(file, []byte(" hunter2\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(file, c.mode); err != nil {
			t.Fatal(err)
		}
		var log bytes.Buffer
		got, err := readSecret(file, slog.New(slog.NewTextHandler(&log, nil)))
		if err != nil || got != "hunter2" {
			t.Errorf("%q, %v", got, err)
		}
		if told := strings.Contains(log.String(), "Others may read"); told != c.told {
			t.Errorf("mode %v, with systemd %v: told %v: %s", c.mode, c.dir == credentials, told, log.String())
		}
		if strings.Contains(log.String(), "hunter2") {
			t.Errorf("the secret is in the log: %s", log.String())
		}
	}
}
