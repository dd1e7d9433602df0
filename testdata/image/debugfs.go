// Package image looks at the baked demo image from outside: other people's
// tools judge its bytes, debugfs reads its root file system, and a golden lists
// what is in it beyond the files of packages.
//
// PROSE_RAW and PROSE_IMAGE name the raw and the qcow2 image; "make test" bakes
// both and sets them.
package image

import (
	"bufio"
	"bytes"
	"fmt"
	"os/exec"
	"path"
	"slices"
	"strconv"
	"strings"
)

// A file is one name in the root file system as debugfs tells it.
type file struct {
	path     string // absolute
	mode     uint32 // with the type's bits, as in st_mode
	uid, gid int
	size     int64
}

func (f file) isDir() bool { return f.mode&0o170000 == 0o040000 }

// fileSystem is an ext4 file system inside an image.
type fileSystem struct{ spec string }

// run gives commands to one debugfs and returns what it printed.
func (s fileSystem) run(commands []string) (string, error) {
	c := exec.Command("debugfs", "-f", "-", s.spec)
	c.Stdin = strings.NewReader(strings.Join(commands, "\n") + "\n")
	var stderr bytes.Buffer
	c.Stderr = &stderr
	out, err := c.Output()
	if err != nil {
		return "", fmt.Errorf("debugfs: %w: %s", err, &stderr)
	}
	return string(out), nil
}

// cat returns the content of a small text file.
func (s fileSystem) cat(p string) (string, error) {
	out, err := exec.Command("debugfs", "-R", "cat "+p, s.spec).Output()
	return string(out), err
}

// list walks the whole tree, one debugfs for all directories of a depth.
func (s fileSystem) list() ([]file, error) {
	var all []file
	dirs := []string{"/"}
	for depth := 0; len(dirs) > 0; depth++ {
		if depth > 100 {
			return nil, fmt.Errorf("directories are more than %d deep", depth)
		}
		var commands []string
		for _, d := range dirs {
			commands = append(commands, fmt.Sprintf("ls -p %q", d))
		}
		out, err := s.run(commands)
		if err != nil {
			return nil, err
		}
		var next []string
		at := -1
		for lines := bufio.NewScanner(strings.NewReader(out)); lines.Scan(); {
			line := lines.Text()
			if strings.HasPrefix(line, "debugfs: ls -p ") {
				at++
				continue
			}
			// /INODE/MODE/UID/GID/NAME/SIZE/; inode 0 is an unused entry.
			f := strings.Split(line, "/")
			if len(f) != 8 || at < 0 || f[1] == "0" || f[5] == "." || f[5] == ".." {
				continue
			}
			mode, err := strconv.ParseUint(f[2], 8, 32)
			if err != nil {
				return nil, fmt.Errorf("debugfs printed %q", line)
			}
			uid, _ := strconv.Atoi(f[3])
			gid, _ := strconv.Atoi(f[4])
			size, _ := strconv.ParseInt(f[6], 10, 64)
			e := file{path.Join(dirs[at], f[5]), uint32(mode), uid, gid, size}
			all = append(all, e)
			if e.isDir() {
				next = append(next, e.path)
			}
		}
		if at+1 != len(dirs) {
			return nil, fmt.Errorf("debugfs answered %d of %d commands", at+1, len(dirs))
		}
		dirs = next
	}
	slices.SortFunc(all, func(a, b file) int { return strings.Compare(a.path, b.path) })
	return all, nil
}
