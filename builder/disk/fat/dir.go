package fat

import (
	"encoding/binary"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"time"
	"unicode/utf16"
)

const (
	entrySize    = 32
	maxDirectory = 1 << 16 // entries; FAT drivers keep directories below 2 MiB

	attrLabel   = 0x08
	attrDir     = 0x10
	attrArchive = 0x20
	attrLong    = 0x0F
)

// A node is a file or directory and its place.
type node struct {
	name     string
	short    [11]byte
	long     []uint16 // name in UTF-16 when short does not say it all
	dir      bool
	parent   *node
	children []*node // in byte order of their names
	folded   map[string]*node
	size     int64
	content  io.ReaderAt

	first    uint32 // cluster
	clusters int64
}

func (n *node) path() string {
	if n.parent == nil {
		return "."
	}
	return path.Join(n.parent.path(), n.name)
}

func newTree(files []File) (*node, error) {
	root := &node{dir: true}
	for _, f := range files {
		switch {
		case f.Size < 0 || f.Size >= 1<<32:
			return nil, fmt.Errorf("%s: a FAT file cannot have %d bytes", f.Path, f.Size)
		case f.Size > 0 && f.Content == nil:
			return nil, fmt.Errorf("%s: no content", f.Path)
		}
		n := root
		names := strings.Split(f.Path, "/")
		for i, name := range names {
			if err := checkName(name); err != nil {
				return nil, fmt.Errorf("%s: %w", f.Path, err)
			}
			last := i == len(names)-1
			c := n.folded[fold(name)]
			if c == nil {
				c = n.add(name, !last)
			} else if last || !c.dir || c.name != name {
				return nil, fmt.Errorf("%s: %s has the same name in FAT", f.Path, c.path())
			}
			n = c
		}
		n.size, n.content = f.Size, f.Content
	}
	return root, root.finish()
}

func (n *node) add(name string, dir bool) *node {
	c := &node{name: name, dir: dir, parent: n}
	if n.folded == nil {
		n.folded = map[string]*node{}
	}
	n.folded[fold(name)] = c
	n.children = append(n.children, c)
	return c
}

// finish sorts the directory n and all below it and gives 8.3 names.
func (n *node) finish() error {
	slices.SortFunc(n.children, func(a, b *node) int { return strings.Compare(a.name, b.name) })
	if err := alias(n.children); err != nil {
		return err
	}
	if e := n.entries(true); e > maxDirectory {
		return fmt.Errorf("%s: a directory of %d entries is too large", n.path(), e)
	}
	for _, c := range n.children {
		if c.dir {
			if err := c.finish(); err != nil {
				return err
			}
		}
	}
	return nil
}

// entries counts the directory entries of directory n.
func (n *node) entries(label bool) int {
	count := 0
	switch {
	case n.parent != nil:
		count = 2 // "." and ".."
	case label:
		count = 1
	}
	for _, c := range n.children {
		count += 1 + (len(c.long)+longUnits-1)/longUnits
	}
	return count
}

// directory is the content of directory n.
func (n *node) directory(o Options) []byte {
	var b []byte
	switch {
	case n.parent != nil:
		b = append(b, entry([11]byte([]byte(".          ")), attrDir, n.first, 0, o.Time)...)
		up := n.parent.first
		if n.parent.parent == nil {
			up = 0 // the root is always cluster 0 here, also in FAT32
		}
		b = append(b, entry([11]byte([]byte("..         ")), attrDir, up, 0, o.Time)...)
	case o.Label != "":
		b = append(b, entry([11]byte([]byte(label(o.Label))), attrLabel, 0, 0, o.Time)...)
	}
	for _, c := range n.children {
		b = append(b, longEntries(c.long, c.short)...)
		attr := byte(attrArchive)
		if c.dir {
			attr = attrDir
		}
		b = append(b, entry(c.short, attr, c.first, uint32(c.size), o.Time)...)
	}
	return b
}

func entry(name [11]byte, attr byte, cluster, size uint32, t time.Time) []byte {
	b := make([]byte, entrySize)
	le := binary.LittleEndian
	copy(b, name[:])
	b[11] = attr
	date, clock := dosTime(t)
	le.PutUint16(b[14:], clock)
	le.PutUint16(b[16:], date)
	le.PutUint16(b[18:], date)
	le.PutUint16(b[20:], uint16(cluster>>16))
	le.PutUint16(b[22:], clock)
	le.PutUint16(b[24:], date)
	le.PutUint16(b[26:], uint16(cluster))
	le.PutUint32(b[28:], size)
	return b
}

// dosTime clamps to what the format can say: 1980 to 2107, steps of 2 seconds.
func dosTime(t time.Time) (date, clock uint16) {
	t = t.UTC()
	if t.Year() < 1980 {
		t = time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	if t.Year() > 2107 {
		t = time.Date(2107, 12, 31, 23, 59, 58, 0, time.UTC)
	}
	date = uint16((t.Year()-1980)<<9 | int(t.Month())<<5 | t.Day())
	clock = uint16(t.Hour()<<11 | t.Minute()<<5 | t.Second()/2)
	return date, clock
}

// longUnits is how many UTF-16 code units one long-name entry holds.
const longUnits = 13

// longEntries are the entries that hold a long name, the last part first, as
// they stand before the entry with its alias.
func longEntries(name []uint16, short [11]byte) []byte {
	count := (len(name) + longUnits - 1) / longUnits
	b := make([]byte, count*entrySize)
	for i := range count {
		e := b[(count-1-i)*entrySize:][:entrySize]
		e[0] = byte(i + 1)
		if i == count-1 {
			e[0] |= 0x40
		}
		e[11] = attrLong
		e[13] = checksum(short)
		for j := range longUnits {
			unit := uint16(0xFFFF)
			switch k := i*longUnits + j; {
			case k < len(name):
				unit = name[k]
			case k == len(name):
				unit = 0
			}
			at := 1 + 2*j
			if j >= 5 {
				at += 3
			}
			if j >= 11 {
				at += 2
			}
			binary.LittleEndian.PutUint16(e[at:], unit)
		}
	}
	return b
}

func checksum(short [11]byte) byte {
	var sum byte
	for _, c := range short {
		sum = sum>>1 | sum<<7
		sum += c
	}
	return sum
}

func utf16s(s string) []uint16 { return utf16.Encode([]rune(s)) }
