package provision

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
)

// state is what earlier runs applied, by the name that a file is looked for
// under.
type state struct {
	Applied map[string]record `json:"applied"`
}

// record is one file that was applied.
type record struct {
	SHA256 string `json:"sha256"`
	Entry  Entry  `json:"entry"`
}

// loadState reads the state. A damaged one is as none: everything is applied
// once more, which does no harm.
func loadState(d *device) (state, error) {
	s := state{}
	data, err := d.get(statePath)
	if err == nil && data != nil {
		if err = json.Unmarshal(data, &s); err != nil {
			err = fmt.Errorf("what was applied before is not known, since /%s is damaged: %w", inside(statePath), err)
			s = state{}
		}
	}
	if s.Applied == nil {
		s.Applied = map[string]record{}
	}
	return s, err
}

func (s state) save(d *device) error {
	data, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	return d.put(place{path: statePath, mode: 0o600, dirMode: 0o755}, append(data, '\n'))
}

func hash(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
