package builder

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"

	"github.com/prose-im/prose-image/builder/layer"
	"github.com/prose-im/prose-image/builder/output"
)

// A Key names a layer by everything that goes into it.
type Key [sha256.Size]byte

func (k Key) String() string { return hex.EncodeToString(k[:]) }

// A cache keeps layers by key. An entry is one file that appears whole by
// rename, so several bakes may share a cache and an interrupted one leaves no
// broken entry.
type cache struct{ dir string }

func (c cache) path(k Key) string { return filepath.Join(c.dir, "layers", k.String()+".tar") }

// open indexes a cached layer; the file stays open as long as the layer is
// used. Not being there gives an error that is [fs.ErrNotExist].
func (c cache) open(name string, k Key) (*layer.Layer, *os.File, error) {
	f, err := os.Open(c.path(k))
	if err != nil {
		return nil, nil, err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	l, err := layer.Read(name, f, info.Size())
	if err != nil {
		f.Close()
		return nil, nil, fmt.Errorf("%s: %w", f.Name(), err)
	}
	return l, f, nil
}

// make runs fill to make the layer for key. Nothing is left of a layer that
// was not finished.
func (c cache) make(k Key, fill func(createFunc) error) error {
	if err := os.MkdirAll(filepath.Dir(c.path(k)), 0o755); err != nil {
		return err
	}
	f, err := output.Create(c.path(k))
	if err != nil {
		return err
	}
	defer f.Discard()
	buf := bufio.NewWriterSize(f, 1<<20)
	var w *layer.Writer
	err = fill(func(deletions []string) (*layer.Writer, error) {
		if w != nil {
			return nil, fmt.Errorf("BUG: a layer is begun twice")
		}
		var err error
		w, err = layer.NewWriter(buf, deletions)
		return w, err
	})
	if err != nil {
		return err
	}
	if w == nil {
		return fmt.Errorf("BUG: a layer was not begun")
	}
	if err := w.Close(); err != nil {
		return err
	}
	if err := buf.Flush(); err != nil {
		return err
	}
	return f.Commit()
}
