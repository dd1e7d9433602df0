package clusters

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"

	"github.com/prose-im/prose-image/builder/output"
)

// A writer makes one pack. After its first error it takes no more.
type writer struct {
	dir  string
	file *output.File
	to   *bufio.Writer
	sum  hash.Hash
	have map[Key]bool
	at   int64
	err  error
	index
}

func create(dir string, coder [sha256.Size]byte) *writer {
	w := &writer{dir: dir, sum: sha256.New(), have: map[Key]bool{}}
	w.coder = coder
	if w.err = os.MkdirAll(dir, 0o755); w.err != nil {
		return w
	}
	// The name that counts is known at the end.
	if w.file, w.err = output.Create(filepath.Join(dir, "new"+Suffix)); w.err != nil {
		return w
	}
	w.to = bufio.NewWriterSize(io.MultiWriter(w.file, w.sum), 1<<20)
	return w
}

func (w *writer) add(k Key, packed []byte) {
	if w.err != nil || w.have[k] || len(w.records) == maxRecords {
		return
	}
	if _, w.err = w.to.Write(packed); w.err != nil {
		return
	}
	w.have[k] = true
	w.records = append(w.records, record{k, w.at, uint32(len(packed)), crc32.Checksum(packed, castagnoli)})
	w.at += int64(len(packed))
}

func (w *writer) commit() error {
	if w.err != nil {
		return w.err
	}
	if _, err := w.to.Write(w.encode()); err != nil {
		return err
	}
	if err := w.to.Flush(); err != nil {
		return err
	}
	w.file.Rename(filepath.Join(w.dir, hex.EncodeToString(w.sum.Sum(nil))+Suffix))
	return w.file.Commit()
}

func (w *writer) discard() {
	if w.file != nil {
		w.file.Discard()
	}
}
