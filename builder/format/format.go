// Package format turns a raw disk into the files that clouds and hypervisors
// take. Equal disks give equal bytes, whatever the number of processors.
//
// A format is one file here and one line in [All].
package format

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/prose-im/prose-image/builder/output"
)

// A Format is one kind of file that holds a disk.
type Format struct {
	Name      string
	Ext       string // of file names, without the dot
	MediaType string
	Doc       string // one line for help
	// Write writes the disk src, of size bytes, to the empty file dst. It
	// returns the SHA-256 of what it wrote, or nil when it did not write in
	// order and the file has to be read again for it.
	Write func(ctx context.Context, dst, src *os.File, size int64, o Options) ([]byte, error)
}

// Options say how to make an artifact. None of them changes its bytes.
type Options struct {
	// Clusters is the directory of a store of deflated clusters, see the package
	// clusters; empty: none.
	Clusters string
}

// All are the formats, in the order in which help shows them.
var All = []Format{
	{Name: "raw", Ext: "raw", MediaType: "application/octet-stream", Doc: "the disk as it is, with holes", Write: writeRaw},
	{Name: "raw.zst", Ext: "raw.zst", MediaType: "application/zstd", Doc: "the disk compressed by zstd", Write: writeZstd},
	{Name: "raw.gz", Ext: "raw.gz", MediaType: "application/gzip", Doc: "the disk compressed by gzip", Write: writeGzip},
	{Name: "qcow2", Ext: "qcow2", MediaType: "application/x-qemu-disk", Doc: "QEMU, OpenStack and most clouds; compressed", Write: writeQcow2},
}

// Lookup finds a format by its name.
func Lookup(name string) (Format, error) {
	var names []string
	for _, f := range All {
		if f.Name == name {
			return f, nil
		}
		names = append(names, f.Name)
	}
	return Format{}, fmt.Errorf("there is no format %q; there are %s", name, strings.Join(names, ", "))
}

// An Artifact is one file in one format.
type Artifact struct {
	Path   string `json:"path"`
	Format string `json:"format"`
	Size   int64  `json:"size"` // bytes
	SHA256 string `json:"sha256"`
}

// Convert writes the raw disk at src to dst in format f. dst appears when it is
// complete; on any error, or when ctx ends, it is as it was. A full disk is an
// [output.NoSpaceError].
func Convert(ctx context.Context, f Format, src, dst string, o Options) (Artifact, error) {
	a, err := convert(ctx, f, src, dst, o)
	if err != nil {
		return Artifact{}, fmt.Errorf("writing %s %s: %w", f.Name, filepath.Base(dst), err)
	}
	return a, nil
}

func convert(ctx context.Context, f Format, src, dst string, o Options) (Artifact, error) {
	in, err := os.Open(src)
	if err != nil {
		return Artifact{}, err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return Artifact{}, err
	}
	if old, err := os.Stat(dst); err == nil && os.SameFile(old, info) {
		return Artifact{}, fmt.Errorf("it is the disk that it is made from")
	}
	size := info.Size()
	const sector = 512
	if size == 0 || size%sector != 0 {
		return Artifact{}, fmt.Errorf("%s has %d bytes and is no disk in sectors of %d", src, size, sector)
	}
	out, err := output.Create(dst)
	if err != nil {
		return Artifact{}, err
	}
	defer out.Discard()
	sum, err := f.Write(ctx, out.File, in, size, o)
	if err == nil && sum == nil {
		sum, err = digest(ctx, out.File)
	}
	var end int64
	if err == nil {
		end, err = out.Seek(0, io.SeekEnd)
	}
	if err == nil && ctx.Err() == nil {
		if err = out.Commit(); err == nil {
			return Artifact{Path: dst, Format: f.Name, Size: end, SHA256: hex.EncodeToString(sum)}, nil
		}
	}
	if ctx.Err() != nil {
		return Artifact{}, context.Cause(ctx)
	}
	return Artifact{}, output.Explain(err, dst, used(in, size))
}

// Link is Convert for the format raw when nobody will change the disk at src:
// dst becomes a second name of it. Where that cannot be, it is a copy.
func Link(ctx context.Context, src, dst string) (Artifact, error) {
	raw := All[0]
	if err := output.Link(src, dst); err != nil {
		return Convert(ctx, raw, src, dst, Options{})
	}
	return Describe(ctx, raw, dst)
}

// Describe reads the file at path, which is there already, as an artifact of
// format f.
func Describe(ctx context.Context, f Format, path string) (Artifact, error) {
	in, err := os.Open(path)
	if err != nil {
		return Artifact{}, fmt.Errorf("describing %s: %w", f.Name, err)
	}
	defer in.Close()
	sum, err := digest(ctx, in)
	if err != nil {
		return Artifact{}, fmt.Errorf("describing %s: %w", path, err)
	}
	info, err := in.Stat()
	if err != nil {
		return Artifact{}, fmt.Errorf("describing %s: %w", path, err)
	}
	return Artifact{Path: path, Format: f.Name, Size: info.Size(), SHA256: hex.EncodeToString(sum)}, nil
}

// digest is the SHA-256 of a file. Its holes are not read.
func digest(ctx context.Context, f *os.File) ([]byte, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	h := sha256.New()
	buf := make([]byte, chunk)
	zeros := make([]byte, chunk)
	at := int64(0)
	skip := func(to int64) {
		for at < to {
			n := min(to-at, chunk)
			h.Write(zeros[:n])
			at += n
		}
	}
	for e, err := range extents(f, info.Size(), 1) {
		if err != nil {
			return nil, err
		}
		skip(e.start)
		for at < e.end {
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			b := buf[:min(e.end-at, chunk)]
			if err := readAt(f, b, at); err != nil {
				return nil, err
			}
			h.Write(b)
			at += int64(len(b))
		}
	}
	skip(info.Size())
	return h.Sum(nil), nil
}
