//go:build !tensorflow

package savedmodel

import (
	"errors"
	"strings"
	"testing"
)

func TestWithoutTensorFlow(t *testing.T) {
	_, err := Load()
	if !errors.Is(err, ErrNotBuilt) || !strings.Contains(err.Error(), "-tags tensorflow") || Available {
		t.Error(err)
	}
}
