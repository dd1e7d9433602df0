package builder

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/prose-im/prose-image/builder/checksum"
	"github.com/prose-im/prose-image/builder/disk"
	"github.com/prose-im/prose-image/builder/format"
)

// artifact compares one artifact with the one that was made.
func (v *verifying) artifact(ctx context.Context, name string) (*Finding, error) {
	of := func(r *Result) *Artifact {
		for i := range r.Artifacts {
			if r.Artifacts[i].File == name {
				return &r.Artifacts[i]
			}
		}
		return nil
	}
	given, made := of(v.given), of(v.made)
	if made == nil {
		return &Finding{File: name, Text: "it is not made again"}, nil
	}
	path := filepath.Join(v.dir, name)
	_, sum, err := checksum.File(ctx, path)
	if err != nil {
		return nil, err
	}
	if sum == made.SHA256 {
		return nil, nil
	}
	found := &Finding{File: name, Text: fmt.Sprintf("its sha256 is %s, that of what is made again %s", brief(sum), brief(made.SHA256))}
	if sum != given.SHA256 {
		found.Text = fmt.Sprintf("it is not the file of the manifest: its sha256 is %s, not %s", brief(sum), brief(given.SHA256))
	}
	where, file, err := v.locate(ctx, *made, path)
	if err != nil {
		return nil, err
	}
	found.Path = file
	if where != "" {
		found.Text += "; " + where
	}
	return found, nil
}

// locate says where the disk in the artifact at path differs first from the one
// that was made.
func (v *verifying) locate(ctx context.Context, made Artifact, path string) (where, file string, err error) {
	is := filepath.Join(v.c.Out, made.File)
	if made.Format != "raw" {
		for _, p := range []*string{&path, &is} {
			raw := filepath.Join(v.c.Out, fmt.Sprintf("%s.%x.disk", made.File, sha256.Sum256([]byte(*p))))
			if err := format.Unpack(ctx, made.Format, *p, raw); ctx.Err() != nil {
				return "", "", context.Cause(ctx)
			} else if err != nil {
				return fmt.Sprintf("where is not known: %v", err), "", nil
			}
			*p = raw
		}
	}
	a, err := os.Open(path)
	if err != nil {
		return "", "", err
	}
	defer a.Close()
	b, err := os.Open(is)
	if err != nil {
		return "", "", err
	}
	defer b.Close()
	at, err := compareReaders(a, b)
	if err != nil {
		return "", "", fmt.Errorf("comparing %s: %w", made.File, err)
	}
	if at < 0 {
		return "the disk in it is the same", "", nil
	}
	where = fmt.Sprintf("the disk differs first at byte %d", at)
	own, d, err := v.assemble(ctx, made.Platform)
	if err != nil {
		return "", "", err
	}
	defer own.close()
	partition, file, err := disk.Locate(ctx, own.tree, own.diskOptions(d), at)
	if err != nil {
		return "", "", err
	}
	if partition != "" {
		where += ", in partition " + partition
	}
	return where, file, nil
}

// compareReaders returns the first offset at which two differ, or -1.
func compareReaders(a, b io.Reader) (int64, error) {
	x, y := make([]byte, 1<<18), make([]byte, 1<<18)
	for at := int64(0); ; {
		n, err := io.ReadFull(a, x)
		m, err2 := io.ReadFull(b, y)
		if d := firstDifference(x[:n], y[:m]); d < max(n, m) {
			return at + int64(d), nil
		}
		at += int64(n)
		if err != nil || err2 != nil {
			for _, e := range []error{err, err2} {
				if e != nil && e != io.EOF && e != io.ErrUnexpectedEOF {
					return 0, e
				}
			}
			return -1, nil
		}
	}
}

// line is the number of the first line that differs.
func line(a, b []byte) int {
	return 1 + bytes.Count(a[:firstDifference(a, b)], []byte("\n"))
}

func firstDifference(a, b []byte) int {
	n := min(len(a), len(b))
	if bytes.Equal(a[:n], b[:n]) {
		return n
	}
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}
