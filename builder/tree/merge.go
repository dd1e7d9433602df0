package tree

import (
	"fmt"
	"path"

	"github.com/prose-im/prose-image/builder/layer"
)

// Merge lays layers over each other, later over earlier, and returns the
// resulting tree. Its rules are these:
//
//   - a layer's deletions apply to what lies below it, before its own entries,
//     and a deletion of what is not there is an error;
//   - a parent must be there and be a directory: one that is missing or a
//     symlink is an error;
//   - a directory over a directory changes owner, mode, time and attributes
//     and keeps the children; any other change between a directory and
//     something else must be deleted first;
//   - when a name of a hard-linked file is replaced or deleted, the other names
//     keep the content.
func Merge(layers ...*layer.Layer) (*Tree, error) {
	t := New()
	for _, l := range layers {
		if err := t.Add(l); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// Add lays one more layer over the tree. After an error the tree is of no more
// use.
func (t *Tree) Add(l *layer.Layer) error {
	for _, p := range l.Deletions {
		if err := t.remove(p); err != nil {
			return fmt.Errorf("merging layer %s: %w", l.Name, err)
		}
	}
	own := make(map[string]*Inode, len(l.Entries))
	for i := range l.Entries {
		e := &l.Entries[i]
		n := own[e.Link]
		if e.Type != layer.HardLink {
			n = inode(l, i)
		}
		if n == nil {
			return fmt.Errorf("merging layer %s: hard link %s names %s, which is not in this layer", l.Name, e.Path, e.Link)
		}
		own[e.Path] = n
		if err := t.put(e.Path, n); err != nil {
			return fmt.Errorf("merging layer %s: %w", l.Name, err)
		}
	}
	return nil
}

func inode(l *layer.Layer, i int) *Inode {
	e := &l.Entries[i]
	n := &Inode{
		Type: e.Type, Mode: e.Mode, UID: e.UID, GID: e.GID, ModTime: e.ModTime,
		Size: e.Size, Major: e.Major, Minor: e.Minor, Xattrs: e.Xattrs, Layer: l.Name,
	}
	if e.Type == layer.Symlink {
		n.Target = e.Link
	}
	if e.Type == layer.File {
		n.content = l.Content(i)
	}
	return n
}

func (t *Tree) put(p string, n *Inode) error {
	if p == "." {
		n.Links = 1
		t.root.inode = n
		return nil
	}
	parent, err := t.parent(p)
	if err != nil {
		return err
	}
	name := path.Base(p)
	old := parent.children[name]
	if old != nil && (old.inode.Type == layer.Dir) != (n.Type == layer.Dir) {
		return fmt.Errorf("%s: a %s would replace a %s: delete it first", p, n.Type, old.inode.Type)
	}
	n.Links++
	if old == nil {
		parent.children[name] = &node{inode: n}
		if n.Type == layer.Dir {
			parent.children[name].children = map[string]*node{}
		}
		t.count++
		return nil
	}
	old.inode.Links--
	old.inode = n
	return nil
}

func (t *Tree) remove(p string) error {
	parent, err := t.parent(p)
	if err != nil {
		return fmt.Errorf("deleting: %w", err)
	}
	name := path.Base(p)
	n := parent.children[name]
	if n == nil {
		return fmt.Errorf("deleting %s: it is not there", p)
	}
	delete(parent.children, name)
	t.forget(n)
	return nil
}

func (t *Tree) forget(n *node) {
	t.count--
	n.inode.Links--
	for _, child := range n.children {
		t.forget(child)
	}
}

func (t *Tree) parent(p string) (*node, error) {
	n, at := t.root, "."
	for _, name := range split(path.Dir(p)) {
		at = path.Join(at, name)
		child := n.children[name]
		switch {
		case child == nil:
			return nil, fmt.Errorf("%s: its parent %s is not there", p, at)
		case child.inode.Type == layer.Symlink:
			return nil, fmt.Errorf("%s: its parent %s is a symlink to %s", p, at, child.inode.Target)
		case child.inode.Type != layer.Dir:
			return nil, fmt.Errorf("%s: its parent %s is a %s", p, at, child.inode.Type)
		}
		n = child
	}
	return n, nil
}
