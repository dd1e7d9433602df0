package checksum

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// What sha256sum says of a file is what we say.
func TestFile(t *testing.T) {
	for _, content := range []string{"", "a", strings.Repeat("image", 1<<20)} {
		path := filepath.Join(t.TempDir(), "x")
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command("sha256sum", path).Output()
		if err != nil {
			t.Fatal(err)
		}
		size, sum, err := File(t.Context(), path)
		if want, _, _ := strings.Cut(string(out), " "); err != nil || sum != want || size != int64(len(content)) {
			t.Errorf("%d bytes: %d, %s, %v, want %s", len(content), size, sum, err, want)
		}
	}
}

func TestFileErrors(t *testing.T) {
	dir := t.TempDir()
	if _, _, err := File(t.Context(), filepath.Join(dir, "gone")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	// It can be opened, and not be read.
	if _, _, err := File(t.Context(), dir); err == nil || !strings.HasPrefix(err.Error(), "reading "+dir+": ") {
		t.Errorf("a directory: %v", err)
	}
}

// An end in the middle of a stream is heard, with its reason.
func TestEnds(t *testing.T) {
	why := errors.New("interrupted")
	ctx, cancel := context.WithCancelCause(t.Context())
	size, _, err := Of(ctx, io.MultiReader(strings.NewReader("abc"), io.LimitReader(endless(func() { cancel(why) }), 64<<20)))
	if !errors.Is(err, why) || size < 3 || size >= 64<<20 {
		t.Errorf("after %d bytes: %v", size, err)
	}
}

// endless reads for ever, and calls a function each time.
type endless func()

func (e endless) Read(p []byte) (int, error) { e(); return len(p), nil }
