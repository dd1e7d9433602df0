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

// attach names the file system for e2fsprogs until detach: the disk itself, or
// a device that begins where the partition does, because e2fsck keeps no undo
// file of one at an offset ("Wrong undo file" once it has replayed a journal).
func (s fileSystem) attach() (name string, detach func() error, err error) {
	if s.offset == 0 {
		return s.disk.Name(), func() error { return nil }, nil
	}
	out, err := exec.Command("losetup", "--find", "--show", "--offset", fmt.Sprint(s.offset), s.disk.Name()).CombinedOutput()
	if err != nil {
		return "", nil, fmt.Errorf("making a device of the partition: %w\n%s", err, out)
	}
	name = strings.TrimSpace(string(out))
	return name, func() error { return exec.Command("losetup", "--detach", name).Run() }, nil
}

// mend has e2fsck replay the journal as a boot would have it, then asks it
// whether all is well. undo takes that back, and is to be called in any case.
func mend(name, dir string) (undo func() error, err error) {
	log := filepath.Join(dir, "e2fsck.undo")
	undo = func() error {
		out, err := exec.Command("e2undo", log, name).CombinedOutput()
		if err != nil {
			return fmt.Errorf("taking back e2fsck's changes: %w\n%s", err, out)
		}
		return os.Remove(log)
	}
	// 1 is "corrected", which a replayed journal is not, but an orphan is.
	out, err := exec.Command("e2fsck", "-fp", "-z", log, name).CombinedOutput()
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 1) {
		return undo, fmt.Errorf("e2fsck -fp: %w\n%s", err, out)
	}
	if out, err := exec.Command("e2fsck", "-fn", name).CombinedOutput(); err != nil {
		return undo, fmt.Errorf("e2fsck -fn: %w\n%s", err, out)
	}
	return undo, nil
}

// dump copies directories to the same places below dir. Those that are not
// there are left out.
func dump(name, dir string, paths []string) error {
	var commands []string
	for _, p := range paths {
		parent := filepath.Join(dir, filepath.Dir(p))
		if err := os.MkdirAll(parent, 0o700); err != nil {
			return err
		}
		commands = append(commands, fmt.Sprintf("rdump %s %s", p, parent))
	}
	c := exec.Command("debugfs", "-f", "-", name)
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

// superBlock is where times of the super block are, which e2undo does not put
// back as they were.
const superBlock = 4096

// super reads it.
func (s fileSystem) super() ([]byte, error) {
	b := make([]byte, superBlock)
	_, err := s.disk.ReadAt(b, s.offset)
	return b, err
}
