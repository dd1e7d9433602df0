package ext4

import (
	"fmt"
	"math/rand/v2"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/prose-im/prose-image/builder/layer"
	"github.com/prose-im/prose-image/builder/tree"
)

// A names says which names a generated tree may have.
type names struct {
	long int  // bytes of the longest
	odd  bool // bytes that are not plain ASCII; the text of debugfs cannot carry them
}

var allNames = names{255, true}

// generate makes a tree of all that can be in one, different for each seed.
func generate(t testing.TB, seed uint64, entries int, kind names) *tree.Tree {
	r := rand.New(rand.NewPCG(seed, 1))
	b := newBuilder(t)
	ids := []uint32{0, 1, 1001, 65534, 65535, 65536, 100000, 1<<31 + 7, 1<<32 - 2}
	times := []time.Time{
		time.Unix(-1<<31, 1), time.Unix(-1, 999999999), time.Unix(0, 0), time.Unix(1700000000, 123456789),
		time.Unix(1<<31-1, 5), time.Unix(1<<31, 6), time.Unix(1<<32-1, 0), time.Unix(1<<32, 7), time.Unix(1<<33+12345, 0), time.Unix(1<<34-1<<31-1, 999999999),
	}
	meta := func(e layer.Entry) layer.Entry {
		e.Mode = uint16(r.UintN(0o10000))
		e.UID, e.GID = ids[r.IntN(len(ids))], ids[r.IntN(len(ids))]
		e.ModTime = times[r.IntN(len(times))]
		return e
	}
	count := 0
	name := func() string {
		count++
		n := fmt.Sprintf("%x", count)
		switch r.IntN(6) {
		case 0:
			n += strings.Repeat("n", kind.long-len(n))
		case 1:
			if !kind.odd {
				return n
			}
			n += "é ü\n\xff\x80" // bytes above 127 show whether hashes are unsigned
		case 2:
			n += strings.Repeat("m", r.IntN(200))
		}
		return n
	}
	random := func(n int) string {
		s := make([]byte, n)
		for i := range s {
			s[i] = byte(r.Uint32())
		}
		return string(s)
	}
	xattrs := func(of layer.Type) map[string]string {
		x := map[string]string{}
		if r.IntN(3) > 0 {
			return nil
		}
		if of == layer.File && r.IntN(2) == 0 {
			x["security.capability"] = "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
		}
		if of == layer.Dir {
			x["trusted.overlay.opaque"] = "y"
			if r.IntN(2) == 0 {
				x["system.posix_acl_default"] = acl(1, 7, 4, 5, 0x10, 5, 0x20, 5)
			}
		}
		if of == layer.Dir || of == layer.File {
			for range r.IntN(4) {
				x["user."+fmt.Sprint(r.IntN(100))] = random(r.IntN(200))
			}
			if r.IntN(4) == 0 {
				x["user."+strings.Repeat("x", 1+r.IntN(240))] = random(r.IntN(2500))
				x["user.empty"] = ""
			}
		}
		x["trusted.overlay.origin"] = random(r.IntN(90))
		if kind.odd {
			x["trusted.\xe9t\xe9"] = random(r.IntN(90))
		}
		x["trusted.b"] = random(3)
		return x
	}
	dirs := []string{"."}
	b.add(meta(layer.Entry{Path: ".", Type: layer.Dir, Xattrs: map[string]string{"user.root": "r"}}), "")
	var files []string
	for range entries {
		parent := dirs[r.IntN(len(dirs))]
		if r.IntN(3) == 0 {
			parent = dirs[len(dirs)-1]
		}
		p := path.Join(parent, name())
		switch r.IntN(12) {
		case 0, 1:
			if len(p) > 3500 { // the kernel takes no longer path in the comparison
				continue
			}
			b.add(meta(layer.Entry{Path: p, Type: layer.Dir, Xattrs: xattrs(layer.Dir)}), "")
			dirs = append(dirs, p)
		case 2:
			targets := []int{1, 58, 59, 60, 61, 255, 1000, 4095}
			b.add(meta(layer.Entry{Path: p, Type: layer.Symlink, Link: strings.Repeat("t", targets[r.IntN(len(targets))]), Xattrs: xattrs(layer.Symlink)}), "")
		case 3:
			numbers := [][2]uint32{{0, 0}, {1, 3}, {255, 255}, {255, 256}, {256, 0}, {4095, 1<<20 - 1}}
			n := numbers[r.IntN(len(numbers))]
			b.add(meta(layer.Entry{Path: p, Type: layer.Char + layer.Type(r.IntN(2)), Major: n[0], Minor: n[1], Xattrs: xattrs(layer.Char)}), "")
		case 4:
			b.add(meta(layer.Entry{Path: p, Type: layer.Fifo}), "")
		case 5:
			if len(files) > 0 {
				b.add(layer.Entry{Path: p, Type: layer.HardLink, Link: files[r.IntN(len(files))]}, "")
			}
		default:
			b.add(meta(layer.Entry{Path: p, Xattrs: xattrs(layer.File)}), content(r, random))
			files = append(files, p)
		}
	}
	return b.tree()
}

// content is of one block and a bit, mostly, and holds runs of zeros.
func content(r *rand.Rand, random func(int) string) string {
	sizes := []int{0, 1, 511, 4095, 4096, 4097, 10000}
	switch r.IntN(20) {
	case 0: // more extents than an inode holds
		var s strings.Builder
		for range r.IntN(40) {
			s.WriteString(random(blockSize * (1 + r.IntN(2))))
			s.WriteString(strings.Repeat("\x00", blockSize*(1+r.IntN(3))))
		}
		return s.String() + random(r.IntN(2))
	case 1:
		return strings.Repeat("\x00", r.IntN(5*blockSize))
	}
	return random(sizes[r.IntN(len(sizes))])
}

// acl is a version 2 ACL of tags and permissions.
func acl(pairs ...byte) string {
	s := "\x02\x00\x00\x00"
	for i := 0; i < len(pairs); i += 2 {
		s += string([]byte{pairs[i], 0, pairs[i+1], 0, 0xff, 0xff, 0xff, 0xff})
	}
	return s
}
