package ext4

import (
	"fmt"
	"path"
	"strings"

	"github.com/prose-im/prose-image/builder/layer"
	"github.com/prose-im/prose-image/builder/tree"
)

// Inode numbers that the format fixes.
const (
	inoRoot      = 2
	inoJournal   = 8
	inoLostFound = 11
	inoFirst     = 12 // of those that the tree numbers
)

const lostFound = "lost+found"

// lostFoundBlocks is what mke2fs gives lost+found: room to reconnect files with
// no block to allocate.
const lostFoundBlocks = 4

// A plan is the tree in the order in which it is written.
type plan struct {
	dirs  []dir  // parents before children; the root first
	nodes []node // by inode number, from inoFirst

	blocks      uint64 // of directories, contents, attributes, symlinks, extent trees: at most
	fixedBlocks uint64 // of blocks, those that no zero content can save
}

// A node is an inode that the tree numbers.
type node struct {
	inode *tree.Inode
	dir   int32  // index in dirs of the directory itself, or -1
	in    int32  // index in dirs of the directory it was first seen in
	name  string // its first name, for messages
}

// A dir is a directory: its names, without . and .., in byte order.
type dir struct {
	inode   *tree.Inode
	ino     uint32
	parent  int32
	name    string
	entries []entry
	links   uint32
	blocks  uint32
}

// An entry is a name in a directory.
type entry struct {
	name string
	ino  uint32
	kind byte
}

func (p *plan) inodes() uint64 { return inoFirst - 1 + uint64(len(p.nodes)) }

// path is where a directory lies, for messages.
func (p *plan) path(d int32) string {
	if d == 0 {
		return "."
	}
	return path.Join(p.path(p.dirs[d].parent), p.dirs[d].name)
}

func (p *plan) nodePath(n *node) string {
	if n.dir >= 0 {
		return p.path(n.dir)
	}
	return path.Join(p.path(n.in), n.name)
}

func newPlan(t *tree.Tree, o Options) (*plan, error) {
	p := &plan{}
	names, err := p.collect(t, o)
	if err != nil {
		return nil, err
	}
	p.number(names)
	if err := p.measure(seedWords(o.HashSeed)); err != nil {
		return nil, err
	}
	return p, nil
}

// A name is an entry before inodes are numbered.
type name struct {
	base  string
	inode *tree.Inode
	dir   int32 // of the directory that it names, or -1
}

// collect walks the tree and gives the names of each directory of p.dirs.
func (p *plan) collect(t *tree.Tree, o Options) ([][]name, error) {
	var names [][]name
	var open []int32 // the directories above the current name
	err := t.Walk(func(at string, n *tree.Inode) error {
		if err := checkInode(n); err != nil {
			return fmt.Errorf("%s: %w", at, err)
		}
		if at == "." {
			p.dirs = append(p.dirs, dir{inode: n, ino: inoRoot})
			names = append(names, nil)
			open = append(open, 0)
			return nil
		}
		open = open[:strings.Count(at, "/")+1]
		parent := open[len(open)-1]
		base := strings.Clone(path.Base(at))
		if len(base) > 255 {
			return fmt.Errorf("%s: a name of %d bytes, at most 255 fit", at, len(base))
		}
		entry := name{base, n, -1}
		if n.Type == layer.Dir {
			entry.dir = int32(len(p.dirs))
			open = append(open, entry.dir)
			p.dirs = append(p.dirs, dir{inode: n, parent: parent, name: base})
			names = append(names, nil)
		}
		if at == lostFound && n.Type != layer.Dir {
			return fmt.Errorf("%s: it must be a directory, not a %s", at, n.Type)
		}
		names[parent] = append(names[parent], entry)
		return nil
	})
	if err != nil {
		return nil, err
	}
	if _, ok := t.Lookup(lostFound); !ok {
		n := &tree.Inode{Type: layer.Dir, Mode: 0o700, ModTime: o.Time, Links: 1}
		names[0] = append(names[0], name{lostFound, n, int32(len(p.dirs))})
		p.dirs = append(p.dirs, dir{inode: n, name: lostFound})
		names = append(names, nil)
	}
	return names, nil
}

// number gives inode numbers: each directory, then what else it holds.
func (p *plan) number(names [][]name) {
	linked := map[*tree.Inode]uint32{}
	add := func(n node) uint32 {
		p.nodes = append(p.nodes, n)
		return inoFirst + uint32(len(p.nodes)) - 1
	}
	for i := range p.dirs {
		d := &p.dirs[i]
		switch {
		case i == 0:
		case d.parent == 0 && d.name == lostFound:
			d.ino = inoLostFound
		default:
			d.ino = add(node{d.inode, int32(i), d.parent, d.name})
		}
		d.links = 2
		d.entries = make([]entry, len(names[i]))
		for j, e := range names[i] {
			d.entries[j] = entry{e.base, 0, kinds[e.inode.Type].entry}
			if e.dir >= 0 {
				d.links++
				continue
			}
			ino := linked[e.inode]
			if ino == 0 {
				ino = add(node{e.inode, -1, int32(i), e.base})
				if e.inode.Links > 1 {
					linked[e.inode] = ino
				}
			}
			d.entries[j].ino = ino
		}
		if d.links > maxLinks { // dir_nlink: 1 stands for more than can be counted
			d.links = 1
		}
	}
	for i := range p.dirs {
		for j, e := range names[i] {
			if e.dir >= 0 {
				p.dirs[i].entries[j].ino = p.dirs[e.dir].ino
			}
		}
	}
}

// measure counts the blocks.
func (p *plan) measure(seed [4]uint32) error {
	for i := range p.dirs {
		d := &p.dirs[i]
		n, err := newDirLayout(d, seed).blocks()
		if err != nil {
			return fmt.Errorf("%s: %w", p.path(int32(i)), err)
		}
		d.blocks = n
		if d.ino == inoLostFound {
			d.blocks = max(n, lostFoundBlocks)
		}
		p.fixedBlocks += uint64(d.blocks) + treeBlocks(uint64(d.blocks))
	}
	content := uint64(0)
	one := func(n *tree.Inode, at func() string) error {
		_, block, err := attrs(n.Xattrs)
		if err != nil {
			return fmt.Errorf("%s: %w", at(), err)
		}
		if block != nil {
			p.fixedBlocks++
		}
		switch n.Type {
		case layer.Symlink:
			if len(n.Target) >= fastLink {
				p.fixedBlocks++
			}
		case layer.File:
			blocks := uint64(n.Size+blockSize-1) / blockSize
			content += blocks + treeBlocks(blocks)
		}
		return nil
	}
	for i := range p.dirs {
		if ino := p.dirs[i].ino; ino == inoRoot || ino == inoLostFound {
			if err := one(p.dirs[i].inode, func() string { return p.path(int32(i)) }); err != nil {
				return err
			}
		}
	}
	for i := range p.nodes {
		n := &p.nodes[i]
		if err := one(n.inode, func() string { return p.nodePath(n) }); err != nil {
			return err
		}
	}
	p.blocks = p.fixedBlocks + content
	return nil
}
