package catalog

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func writeFile(t *testing.T, dir, name string, b []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// Without the C library everything says so, and what to type. With it, there is
// a catalog.
func TestUnavailable(t *testing.T) {
	c, err := Open(t.Context(), t.TempDir())
	if Available {
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		return
	}
	var hinted interface{ Hint() string }
	if !errors.Is(err, ErrUnavailable) || !errors.As(err, &hinted) || !strings.Contains(hinted.Hint(), "make build") {
		t.Errorf("opening: %v", err)
	}
	if _, err := OpenExisting(t.Context(), t.TempDir()); !errors.Is(err, ErrUnavailable) {
		t.Errorf("opening: %v", err)
	}
}

func TestDefaultDir(t *testing.T) {
	t.Setenv("HOME", "/home/ann")
	for data, want := range map[string]string{
		"":      "/home/ann/.local/share/prose-image/catalog",
		"/data": "/data/prose-image/catalog",
		"data":  "/home/ann/.local/share/prose-image/catalog", // the standard has relative ones ignored
	} {
		t.Setenv("XDG_DATA_HOME", data)
		if got, err := DefaultDir(); err != nil || got != want {
			t.Errorf("XDG_DATA_HOME=%s: %s, %v", data, got, err)
		}
	}
}
