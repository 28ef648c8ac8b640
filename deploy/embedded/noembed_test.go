//go:build noembed || !(linux || darwin)

package embedded

import (
	"errors"
	"testing"
)

// A build without engines says so when asked for one, and does nothing when not.
func TestNoEmbed(t *testing.T) {
	t.Parallel()
	var left *NotEmbeddedError
	if _, err := Start(t.Context(), Options{DataDir: t.TempDir(), Kafka: true}); !errors.As(err, &left) {
		t.Errorf("Start: %v", err)
	}
	e, err := Start(t.Context(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}
