// Package overlays holds every file that an image gets beyond Debian's
// packages, as it will be in the image, and one table that says who owns it and
// with what mode.
//
// The directories initrd, base, pod and pod-2025 hold the content; embedding
// loses owners and modes, so table.go gives them, along with directories,
// symlinks, masked units and enabled units. A file without a row, or a row
// without a file, is an error that every function here returns.
//
//   - [Initrd] must be in place before the first package is installed: it feeds
//     dpkg and the initrd.
//   - [Base] goes over the packages, the same on every platform.
//   - [Pod] is one Pod bundle.
//
// Nothing here replaces a path that dpkg owns, and nothing that root obeys can
// be written by anybody else. README.md says of each file why it is there.
package overlays

import (
	"embed"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
)

//go:embed all:initrd all:base all:pod all:pod-2025
var content embed.FS

// Type says what a [File] is.
type Type uint8

// The types of files.
const (
	Regular Type = iota
	Dir
	Symlink
)

func (t Type) String() string {
	return [...]string{"file", "dir", "symlink"}[t]
}

// A File is one path that an image gets.
type File struct {
	Path     string // relative to the root, clean
	Type     Type
	Mode     uint16 // permission bits; 0777 for a symlink
	UID, GID uint32
	Link     string // target of a symlink
	Content  []byte // of a regular file
}

// Initrd is what must lie in the root file system before the first package is
// installed there, sorted by path. Directories above it may have to be made:
// root's, 0755.
func Initrd() ([]File, error) {
	return files("initrd", initrdTable)
}

// DpkgOptions are the options of dpkg that [Initrd] installs as a file. The
// essential packages are unpacked before that file is there: whoever unpacks
// them has to give dpkg these.
func DpkgOptions() ([]string, error) {
	b, err := content.ReadFile("initrd/etc/dpkg/dpkg.cfg.d/prose")
	if err != nil {
		return nil, fmt.Errorf("reading dpkg's options: %w", err)
	}
	var options []string
	for line := range strings.Lines(string(b)) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			options = append(options, line)
		}
	}
	return options, nil
}

// Base is what every image gets over its packages, parents before children.
// Directories that the packages of [Packages] bring are not in it.
func Base() ([]File, error) {
	rows := slices.Clone(baseTable)
	rows = append(rows, silencers()...)
	for _, m := range masked {
		rows = append(rows, row{m, symlink, 0o777, root, "/dev/null"})
	}
	for _, u := range units {
		rows = append(rows, u.links()...)
	}
	return files("base", rows)
}

// Deletions are the paths below Base that go: what maintainer scripts made, and
// dpkg owns none of it.
func Deletions() []string { return slices.Clone(deletions) }

// Pod is the bundle of the given name, see [Bundles], parents before children.
//
// The builder adds [ImagesFile], which the agent reads as well: the digest of
// each image, or "services: {}".
func Pod(name string) ([]File, error) {
	for _, b := range bundles {
		if b.name == name {
			return b.files()
		}
	}
	return nil, fmt.Errorf("no Pod bundle %q, there are: %s", name, strings.Join(Bundles(), ", "))
}

// Bundles are the names of the Pod bundles, the default first.
func Bundles() []string {
	var names []string
	for _, b := range bundles {
		names = append(names, b.name)
	}
	return names
}

// files makes the files of a table from the content below dir.
func files(dir string, rows []row) ([]File, error) {
	var out []File
	seen := map[string]bool{}
	for _, r := range rows {
		if seen[r.path] {
			return nil, fmt.Errorf("the table has %s twice", r.path)
		}
		seen[r.path] = true
		f := File{Path: r.path, Type: r.kind, Mode: r.mode, UID: r.owner.uid, GID: r.owner.gid, Link: r.link}
		if r.kind == regular {
			b, err := content.ReadFile(path.Join(dir, r.path))
			if err != nil {
				return nil, fmt.Errorf("reading %s of the table: %w", r.path, err)
			}
			f.Content = b
		}
		out = append(out, f)
	}
	err := fs.WalkDir(content, dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if name := strings.TrimPrefix(p, dir+"/"); !seen[name] {
			return fmt.Errorf("%s is not in the table", name)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("comparing %s with its table: %w", dir, err)
	}
	sortFiles(out)
	return out, nil
}

// sortFiles sorts by path, every directory before what it holds.
func sortFiles(files []File) {
	slices.SortFunc(files, func(a, b File) int {
		return slices.Compare(strings.Split(a.Path, "/"), strings.Split(b.Path, "/"))
	})
}
