// Package layer reads and writes layers: content-addressed sets of file-system
// entries plus a list of deletions, each stored as one deterministic tar.
//
// # Format
//
// A layer is a POSIX pax archive (pax(1), IEEE Std 1003.1-2001). Its first
// record is a global extended header whose key [deletionsKey] holds a JSON
// array of the paths that the layer removes from what lies below it. Entries
// follow, each path once, a hard link after the name it links to. Names are
// relative, clean and slash-separated; "." is the root directory itself.
//
// Deletions are in the header and nowhere else: a name that starts with ".wh."
// and a character device 0:0 are ordinary content here, because Docker's
// overlay2 store is made of them.
//
// Owners are numbers, user and group names are empty, access and change times
// are absent, so equal input gives equal bytes.
package layer

import (
	"fmt"
	"path"
	"strings"
	"time"
)

// Type says what an [Entry] is.
type Type uint8

// The types of entries. A HardLink is another name for a file of the same
// layer; every other type is an inode of its own.
const (
	File Type = iota
	Dir
	Symlink
	HardLink
	Char
	Block
	Fifo
)

var typeNames = [...]string{"file", "dir", "symlink", "hardlink", "char", "block", "fifo"}

func (t Type) String() string {
	if int(t) < len(typeNames) {
		return typeNames[t]
	}
	return fmt.Sprintf("type(%d)", uint8(t))
}

// An Entry is one name in a layer and, unless it is a [HardLink], the inode
// behind it.
type Entry struct {
	Path         string            // relative, clean, slash-separated; "." is the root
	Type         Type              //
	Mode         uint16            // permission bits with setuid, setgid and sticky, at most 07777
	UID, GID     uint32            //
	ModTime      time.Time         //
	Size         int64             // bytes of content; zero unless Type is File
	Link         string            // target of a Symlink, path of what a HardLink names
	Major, Minor uint32            // of a Char or Block device
	Xattrs       map[string]string // full attribute name to raw value; nil when there are none
}

// CheckPath reports why p cannot be the path of an entry.
func CheckPath(p string) error {
	switch {
	case p == "":
		return fmt.Errorf("empty path")
	case strings.HasPrefix(p, "/"):
		return fmt.Errorf("path %q is absolute", p)
	case path.Clean(p) != p:
		return fmt.Errorf("path %q is not clean", p)
	case p == ".." || strings.HasPrefix(p, "../"):
		return fmt.Errorf("path %q leaves the root", p)
	case strings.ContainsRune(p, 0):
		return fmt.Errorf("path %q holds a NUL", p)
	}
	return nil
}

func (e *Entry) check() error {
	if err := CheckPath(e.Path); err != nil {
		return err
	}
	if e.Mode > 0o7777 {
		return fmt.Errorf("%s: mode %#o has more than permission bits", e.Path, e.Mode)
	}
	if e.Type != File && e.Size != 0 {
		return fmt.Errorf("%s: a %s has no content, got size %d", e.Path, e.Type, e.Size)
	}
	if e.Size < 0 {
		return fmt.Errorf("%s: negative size", e.Path)
	}
	switch e.Type {
	case Symlink:
		if e.Link == "" {
			return fmt.Errorf("%s: symlink without a target", e.Path)
		}
	case HardLink:
		if err := CheckPath(e.Link); err != nil {
			return fmt.Errorf("%s: hard link: %w", e.Path, err)
		}
	default:
		if e.Link != "" {
			return fmt.Errorf("%s: a %s has no link target", e.Path, e.Type)
		}
	}
	if e.Path == "." && e.Type != Dir {
		return fmt.Errorf("the root is a directory, not a %s", e.Type)
	}
	return nil
}
