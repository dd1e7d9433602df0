package durability

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// A fileSystem is the root of a raw disk, as e2fsprogs find it there.
type fileSystem struct {
	disk   *os.File
	offset int64 // bytes
}

// root finds the file system on the disk.
func (r *Recording) root(disk *os.File) (fileSystem, error) {
	if r.Partition == "" {
		return fileSystem{disk, 0}, nil
	}
	fail := func(err error) (fileSystem, error) {
		return fileSystem{}, fmt.Errorf("looking for the root file system: %w", err)
	}
	out, err := exec.Command("sfdisk", "--json", disk.Name()).Output()
	if err != nil {
		return fail(err)
	}
	var table struct {
		PartitionTable struct {
			SectorSize int64
			Partitions []struct {
				Name  string
				Start int64
			}
		}
	}
	if err := json.Unmarshal(out, &table); err != nil {
		return fail(err)
	}
	for _, p := range table.PartitionTable.Partitions {
		if p.Name == r.Partition {
			return fileSystem{disk, p.Start * table.PartitionTable.SectorSize}, nil
		}
	}
	return fail(fmt.Errorf("no partition is called %s", r.Partition))
}

// spec is the file system for e2fsprogs.
func (s fileSystem) spec() string { return fmt.Sprintf("%s?offset=%d", s.disk.Name(), s.offset) }

// superBlocks is what e2undo does not put back as it was: times of the super
// block.
const superBlocks = 4096

// mend has e2fsck replay the journal as a boot would have it, then asks it
// whether all is well. undo takes that back, and is to be called in any case.
func (s fileSystem) mend(dir string) (undo func() error, err error) {
	log := filepath.Join(dir, "e2fsck.undo")
	super := make([]byte, superBlocks)
	if _, err := s.disk.ReadAt(super, s.offset); err != nil {
		return nil, err
	}
	undo = func() error {
		out, err := exec.Command("e2undo", "-o", fmt.Sprint(s.offset), log, s.disk.Name()).CombinedOutput()
		if err != nil {
			return fmt.Errorf("taking back e2fsck's changes: %w\n%s", err, out)
		}
		if _, err := s.disk.WriteAt(super, s.offset); err != nil {
			return err
		}
		return os.Remove(log)
	}
	// 1 is "corrected", which a replayed journal is not, but an orphan is.
	out, err := exec.Command("e2fsck", "-fp", "-z", log, s.spec()).CombinedOutput()
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 1) {
		return undo, fmt.Errorf("e2fsck -fp: %w\n%s", err, out)
	}
	if out, err := exec.Command("e2fsck", "-fn", s.spec()).CombinedOutput(); err != nil {
		return undo, fmt.Errorf("e2fsck -fn: %w\n%s", err, out)
	}
	return undo, nil
}

// dump copies directories to the same places below dir. Those that are not
// there are left out.
func (s fileSystem) dump(dir string, paths []string) error {
	var commands []string
	for _, p := range paths {
		parent := filepath.Join(dir, filepath.Dir(p))
		if err := os.MkdirAll(parent, 0o700); err != nil {
			return err
		}
		commands = append(commands, fmt.Sprintf("rdump %s %s", p, parent))
	}
	c := exec.Command("debugfs", "-f", "-", s.spec())
	c.Stdin = strings.NewReader(strings.Join(commands, "\n") + "\n")
	var said strings.Builder
	c.Stdout, c.Stderr = &said, &said
	if err := c.Run(); err != nil {
		return fmt.Errorf("reading files by debugfs: %w\n%s", err, said.String())
	}
	for line := range strings.Lines(said.String()) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "debugfs") || strings.Contains(line, "File not found by ext2_lookup") {
			continue
		}
		return fmt.Errorf("reading files by debugfs: %s", line)
	}
	return nil
}
