// Package durability cuts the power of a machine at many moments of its first
// boot. It lies under testdata so that "go test ./..." passes it by: it needs an
// image and takes minutes.
//
//	PROSE_IMAGE=out/prose.qcow2 go test -count=1 -timeout 60m ./testdata/durability
//
// A killed process loses nothing that it has written; a machine without power
// does. So QEMU records every write to the disk while a machine becomes ready
// and renews its certificates. Then the disk is made what it was at one moment
// after another, where of the writes since the last flush some are lost and
// some are torn. The file system must mend itself, and whatever the agent keeps
// must be whole. Some of these disks are booted until the machine is ready.
//
// Another test does so with a disk of 2 TiB, while the file system grows to it.
//
// PROSE_POINTS and PROSE_BOOTS say how many moments and boots there are,
// PROSE_SEED makes them the ones of an earlier run. With PROSE_RECORD the
// recording is kept in that directory; when it has one, that is replayed
// without a boot.
package durability

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"

	"github.com/prose-im/prose-image/builder/boot/writelog"
)

// A Recording is what a directory holds of a boot: the disk as it was before,
// the writes, and when the authority was asked to finalize orders.
type Recording struct {
	Dir       string `json:"-"`
	Domain    string
	Partition string // name of the partition with the file system; empty: the disk is one
	Top       string // directory of the file system that is the machine's root
	Finalized []moment

	mu sync.Mutex
}

// A moment is when the authority was asked to finalize an order.
type moment struct {
	Name    string
	Entries int // that the record of writes had
}

// Writes is the file with the record of writes.
func (r *Recording) Writes() string { return filepath.Join(r.Dir, "writes.log") }

// Disk is the file with the disk: before its first write, or, when it has been
// replayed, as it was at some point.
func (r *Recording) Disk() string  { return filepath.Join(r.Dir, "disk.raw") }
func (r *Recording) notes() string { return filepath.Join(r.Dir, "recording.json") }

// CopyDisk makes the disk that the machine begins with: the image, in as many
// bytes as the machine has.
func (r *Recording) CopyDisk(image string, size int64) error {
	if out, err := exec.Command("qemu-img", "convert", "-O", "raw", image, r.Disk()).CombinedOutput(); err != nil {
		return fmt.Errorf("copying the image: %w\n%s", err, out)
	}
	return os.Truncate(r.Disk(), size)
}

// Finalizing notes how far the record of writes is.
func (r *Recording) Finalizing(name string) {
	f, err := os.Open(r.Writes())
	if err != nil {
		return
	}
	defer f.Close()
	if n, err := writelog.Count(f); err == nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.Finalized = append(r.Finalized, moment{name, n})
	}
}

// until counts the orders that had been finalized at a point, by name.
func (r *Recording) until(entries int) map[string]int {
	n := map[string]int{}
	for _, m := range r.Finalized {
		if m.Entries <= entries {
			n[m.Name]++
		}
	}
	return n
}

// Save keeps what the other files do not say.
func (r *Recording) Save() error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(r.notes(), b, 0o600)
}

// Load reads what was saved.
func (r *Recording) Load() error {
	b, err := os.ReadFile(r.notes())
	if err != nil {
		return err
	}
	return json.Unmarshal(b, r)
}
