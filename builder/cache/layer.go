package cache

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/prose-im/prose-image/builder/output"
)

// A Record lies beside a layer: what it was made from, and what it hashes to.
type Record struct {
	Schema   int     `json:"schema"` // 1
	Kind     string  `json:"kind"`   // of the layer
	Platform string  `json:"platform,omitempty"`
	Size     int64   `json:"size"`   // bytes of the tar
	SHA256   string  `json:"sha256"` // of the tar, hex
	CRC32C   uint32  `json:"crc32c"` // of the tar: quick enough to look at in each bake
	Inputs   []Input `json:"inputs"`
}

// An Input is one thing that a layer is made from.
type Input struct {
	Name  string `json:"name"`
	Value string `json:"value"` // for people: short, without line ends
	Sum   string `json:"sum"`   // what counts for the key
	// Parts, if there are any, say what Sum stands for.
	Parts []Part `json:"parts,omitempty"`
}

// A Part is one of the things in an [Input], such as a file.
type Part struct {
	Name  string `json:"name"`
	Value string `json:"value,omitempty"` // for people, such as a version
	Sum   string `json:"sum"`
}

const recordSchema = 1

// LayerPath is where the layer with this key lies.
func LayerPath(dir, key string) string { return filepath.Join(dir, layersDir, key+layerSuffix) }

const (
	layersDir    = "layers"
	layerSuffix  = ".tar"
	recordSuffix = ".json"
)

func recordPath(layer string) string {
	return layer[:len(layer)-len(layerSuffix)] + recordSuffix
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// OpenLayer opens a layer and notes its use. One that is not there, or whose
// record is not, gives an error that is [fs.ErrNotExist]; one with another size
// than recorded a [DamagedError].
func OpenLayer(dir, key string) (*os.File, *Record, error) {
	path := LayerPath(dir, key)
	r, err := readRecord(path)
	if err != nil {
		return nil, nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	if info, err := f.Stat(); err != nil || info.Size() != r.Size {
		f.Close()
		if err == nil {
			err = &DamagedError{path, fmt.Sprintf("it has %d bytes, not %d", info.Size(), r.Size)}
		}
		return nil, nil, err
	}
	Touch(path)
	return f, r, nil
}

// Check reads a layer that was opened for its CRC. It may be called while the
// layer is read.
func (r *Record) Check(ctx context.Context, f *os.File) error {
	sum := crc32.New(castagnoli)
	if _, err := io.Copy(sum, &contextReader{ctx, io.NewSectionReader(f, 0, r.Size)}); err != nil {
		return fmt.Errorf("reading %s: %w", f.Name(), err)
	}
	if got := sum.Sum32(); got != r.CRC32C {
		return &DamagedError{f.Name(), fmt.Sprintf("its CRC-32C is %08x, not %08x", got, r.CRC32C)}
	}
	return nil
}

func readRecord(layer string) (*Record, error) {
	path := recordPath(layer)
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	r := &Record{}
	if err := json.Unmarshal(b, r); err != nil {
		return nil, &DamagedError{path, err.Error()}
	}
	if r.Schema != recordSchema || r.Size < 0 || len(r.SHA256) != hex.EncodedLen(sha256.Size) {
		return nil, &DamagedError{path, "it is no record of a layer"}
	}
	return r, nil
}

// MakeLayer has fill write the layer for key. Nothing is left of a layer that
// was not finished. r says what it is made from; MakeLayer adds the sums.
func MakeLayer(ctx context.Context, dir, key string, r Record, fill func(io.Writer) error) error {
	path := LayerPath(dir, key)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := output.Create(path)
	if err != nil {
		return err
	}
	defer f.Discard()
	sum, crc := sha256.New(), crc32.New(castagnoli)
	w := bufio.NewWriterSize(io.MultiWriter(f, sum, crc), 1<<20)
	if err := fill(w); err != nil {
		return err
	}
	if err := w.Flush(); err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	r.Schema, r.Size, r.SHA256, r.CRC32C = recordSchema, info.Size(), hex.EncodeToString(sum.Sum(nil)), crc.Sum32()
	b, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return fmt.Errorf("encoding the record of a layer: %w", err)
	}
	return commit(ctx, path, f, append(b, '\n'))
}

// naming is how long giving a layer its name may take another process.
const naming = time.Minute

// commit brings a layer and its record to their places. The two must be of one
// making: under the lock the first of two that made the same layer at the same
// time stays. The record comes first, so that no layer is ever without one.
func commit(ctx context.Context, path string, f *output.File, record []byte) error {
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer d.Close()
	if err := waitFor(ctx, d, unix.LOCK_EX, naming); err != nil {
		return fmt.Errorf("waiting for another bake to name a layer: %w", err)
	}
	if whole(path) {
		return nil
	}
	// What is there is of an older program, or of a clean-up that was killed.
	if err := remove(path); err != nil {
		return err
	}
	if err := output.WriteFile(recordPath(path), record); err != nil {
		return err
	}
	return f.Commit()
}

// whole reports whether a layer is there with its record, and has its size.
func whole(path string) bool {
	r, err := readRecord(path)
	if err != nil {
		return false
	}
	info, err := os.Stat(path)
	return err == nil && info.Size() == r.Size
}

// DropLayer removes a layer that was found damaged, so that it can be made
// anew. Who has it open keeps what it has.
func DropLayer(dir, key string) error {
	path := LayerPath(dir, key)
	return errors.Join(remove(path), remove(recordPath(path)))
}

// A Layer is one layer in the cache.
type Layer struct {
	Key  string
	Used time.Time
	Record
}

// Layers lists the layers that are whole, in no order.
func Layers(dir string) ([]Layer, error) {
	names, err := entryNames(filepath.Join(dir, layersDir), layerSuffix)
	if err != nil {
		return nil, err
	}
	var list []Layer
	for _, key := range names {
		path := LayerPath(dir, key)
		r, err := readRecord(path)
		if err != nil {
			continue
		}
		if info, err := os.Stat(path); err == nil {
			list = append(list, Layer{Key: key, Used: info.ModTime(), Record: *r})
		}
	}
	return list, nil
}

func verifyLayer(ctx context.Context, path string) error {
	r, err := readRecord(path)
	if errors.Is(err, fs.ErrNotExist) {
		return &DamagedError{path, "it has no record"}
	}
	if err != nil {
		return err
	}
	return verifySum(ctx, path, r.SHA256)
}

func describeLayer(_ context.Context, path string) string {
	r, err := readRecord(path)
	if err != nil {
		return ""
	}
	if r.Platform != "" {
		return r.Kind + " for " + r.Platform
	}
	return r.Kind
}
