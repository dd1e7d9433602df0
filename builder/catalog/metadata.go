package catalog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// checkMetadata looks at the two files where C raft keeps its term and vote, in
// turns: go-dqlite's program ends with a fault where the library refuses them.
// Each is 32 bytes, four little-endian words: format, version, term, vote
// (uv_metadata.c in raft's sources). A file that is shorter was being written
// when the machine stopped and does not count.
func checkMetadata(dir string) error {
	var versions []uint64
	for _, name := range []string{"metadata1", "metadata2"} {
		path := filepath.Join(dir, name)
		b, err := os.ReadFile(path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if len(b) < 32 {
			continue
		}
		format, version := binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:])
		if format != 1 || version == 0 {
			return &DamagedError{Path: path, Why: fmt.Sprintf("format %d, version %d", format, version)}
		}
		versions = append(versions, version)
	}
	if len(versions) == 2 && versions[0] == versions[1] {
		return &DamagedError{Path: filepath.Join(dir, "metadata2"), Why: "the same version as metadata1"}
	}
	return nil
}

// A DamagedError says that a file of the catalog is not what was written.
type DamagedError struct{ Path, Why string }

func (e *DamagedError) Error() string { return fmt.Sprintf("%s is damaged: %s", e.Path, e.Why) }

// Hint is how to go on.
func (e *DamagedError) Hint() string {
	return "bring back a copy of the catalog, or move it away: the next bake begins a new one"
}
