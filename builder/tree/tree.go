// Package tree holds a root file system as an in-memory index: names and
// inodes in memory, content wherever it was, in layer files or on a disk image.
//
// Everything that looks at a root file system takes a [Tree]: the disk writer,
// lint, inspect, diff and the SBOM. A tree is made by [Merge] from layers.
package tree

import (
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/prose-im/prose-image/builder/layer"
)

// An Inode is a file, directory, symlink or device, reachable by one or more
// names. Names that are hard links of each other share one Inode.
type Inode struct {
	Type         layer.Type // never HardLink
	Mode         uint16     // permission bits with setuid, setgid and sticky
	UID, GID     uint32
	ModTime      time.Time
	Size         int64  // bytes of content of a File
	Target       string // of a Symlink
	Major, Minor uint32 // of a Char or Block device
	Xattrs       map[string]string
	Links        int    // names of this inode; 1 for a directory
	Layer        string // name of the layer it came from

	content io.ReaderAt
	offset  int64
}

// Open gives the content of a File; of anything else, nothing.
func (n *Inode) Open() *io.SectionReader {
	if n.content == nil {
		return io.NewSectionReader(strings.NewReader(""), 0, 0)
	}
	return io.NewSectionReader(n.content, n.offset, n.Size)
}

// A Tree is a root file system. The zero value is not usable; see [New].
type Tree struct {
	root  *node
	count int
}

type node struct {
	inode    *Inode
	children map[string]*node // nil unless a directory
}

// New returns a tree that holds only its root directory, 0755 root:root.
func New() *Tree {
	return &Tree{root: &node{inode: &Inode{Type: layer.Dir, Mode: 0o755, Links: 1}, children: map[string]*node{}}, count: 1}
}

// Len counts the names in the tree, the root included.
func (t *Tree) Len() int { return t.count }

// Lookup finds what is at path, without following a symlink.
func (t *Tree) Lookup(p string) (*Inode, bool) {
	n := t.find(p)
	if n == nil {
		return nil, false
	}
	return n.inode, true
}

// Children lists the names in the directory at p, sorted by their bytes. It is
// empty for what is no directory.
func (t *Tree) Children(p string) []string {
	n := t.find(p)
	if n == nil {
		return nil
	}
	return slices.Sorted(maps.Keys(n.children))
}

// ReadFile reads the file at p, following symlinks inside the tree.
func (t *Tree) ReadFile(p string) ([]byte, error) {
	const most = 40 // symlinks, as the kernel's MAXSYMLINKS
	for range most {
		real, rest := t.follow(p)
		if rest != "" {
			p = rest
			continue
		}
		n, ok := t.Lookup(real)
		if !ok {
			return nil, fmt.Errorf("reading %s: no such file in the tree", p)
		}
		if n.Type != layer.File {
			return nil, fmt.Errorf("reading %s: it is a %s", p, n.Type)
		}
		b := make([]byte, n.Size)
		if _, err := io.ReadFull(n.Open(), b); err != nil {
			return nil, fmt.Errorf("reading %s: %w", p, err)
		}
		return b, nil
	}
	return nil, fmt.Errorf("reading %s: too many symlinks", p)
}

// follow walks p. When it meets a symlink it returns the path with the link
// replaced by its target, as rest.
func (t *Tree) follow(p string) (real, rest string) {
	at, n := ".", t.root
	parts := split(p)
	for i, name := range parts {
		child := n.children[name]
		if child == nil {
			return p, ""
		}
		at = path.Join(at, name)
		if child.inode.Type == layer.Symlink {
			target := child.inode.Target
			if !path.IsAbs(target) {
				target = path.Join("/", path.Dir(at), target)
			}
			target = path.Join(append([]string{target}, parts[i+1:]...)...)
			if target = strings.TrimPrefix(target, "/"); target == "" {
				target = "."
			}
			return "", target
		}
		n = child
	}
	return at, ""
}

// Walk calls fn for every name, parents before children, siblings in byte
// order, starting with "." for the root.
func (t *Tree) Walk(fn func(path string, n *Inode) error) error {
	return walk(".", t.root, fn)
}

func walk(p string, n *node, fn func(string, *Inode) error) error {
	if err := fn(p, n.inode); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(n.children)) {
		if err := walk(path.Join(p, name), n.children[name], fn); err != nil {
			return err
		}
	}
	return nil
}

func split(p string) []string {
	if p == "." || p == "" {
		return nil
	}
	return strings.Split(p, "/")
}

func (t *Tree) find(p string) *node {
	n := t.root
	for _, name := range split(p) {
		if n = n.children[name]; n == nil {
			return nil
		}
	}
	return n
}
