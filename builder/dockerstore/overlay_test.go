package dockerstore

import (
	"archive/tar"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/prose-im/prose-image/builder/dockerstore/imagetest"
	"github.com/prose-im/prose-image/builder/layer"
	"github.com/prose-im/prose-image/builder/tree"
)

// lowerLayer is what random layers change.
var lowerLayer = []imagetest.Entry{
	imagetest.Dir("a"), imagetest.Dir("a/a"), imagetest.File("a/a/b", "lower"), imagetest.File("a/b", "lower"),
	imagetest.File("b", "lower"), imagetest.Dir("c"), imagetest.Dir("c/a"), imagetest.File("c/a/a", "lower"),
}

// randomLayer reads a layer from bytes, three for each entry.
func randomLayer(b []byte) []imagetest.Entry {
	words := []string{"a", "b", "c", ".wh.a", ".wh.b", ".wh.c", ".wh..wh..opq", "."}
	var entries []imagetest.Entry
	for ; len(b) >= 3 && len(entries) < 30; b = b[3:] {
		name := words[b[0]&7]
		if b[0]&8 != 0 {
			name += "/" + words[b[0]>>4&7]
		}
		if b[1]&8 != 0 {
			name += "/" + words[b[1]&7]
		}
		switch b[2] % 5 {
		case 0:
			entries = append(entries, imagetest.Dir(name))
		case 1:
			entries = append(entries, imagetest.HardLink(name, words[b[1]>>4&3]))
		default:
			entries = append(entries, imagetest.File(name, fmt.Sprint(len(entries))))
		}
	}
	return entries
}

// overlaid is what overlayfs shows of two directories (the kernel's
// Documentation/filesystems/overlayfs.rst).
func overlaid(all map[string]string, at string, upper, lower *tree.Tree, hidden bool) {
	dir := path.Join("root", at)
	names := upper.Children(dir)
	if !hidden {
		names = append(names, lower.Children(dir)...)
	}
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		p := path.Join(at, name)
		n, isUpper := upper.Lookup(path.Join("root", p))
		below, isLower := lower.Lookup(path.Join("root", p))
		isLower = isLower && !hidden
		switch {
		case isUpper && n.Type == layer.Char && n.Major == 0 && n.Minor == 0:
		case isUpper && n.Type == layer.Dir:
			all[p] = "dir"
			overlaid(all, p, upper, lower, !isLower || below.Type != layer.Dir || n.Xattrs[opaqueXattr] == opaqueValue)
		case isUpper:
			all[p] = content(n)
		case below.Type == layer.Dir:
			all[p] = "dir"
			overlaid(all, p, upper, lower, false)
		default:
			all[p] = content(below)
		}
	}
}

func content(n *tree.Inode) string {
	b := make([]byte, n.Size)
	n.Open().Read(b)
	return fmt.Sprintf("file %s", b)
}

// flattened is what a container shows, by the OCI image specification's
// layer.md: removals first, then the layer's own.
func flattened(layers ...[]imagetest.Entry) map[string]string {
	all := map[string]string{}
	remove := func(p string, self bool) {
		maps.DeleteFunc(all, func(name, _ string) bool {
			return p == "." && !self || strings.HasPrefix(name, p+"/") || self && name == p
		})
	}
	for _, entries := range layers {
		for _, e := range entries {
			dir, base := path.Split(path.Clean(e.Name))
			if base == opaqueName {
				remove(path.Clean(dir), false)
			} else if name, ok := strings.CutPrefix(base, whiteoutPrefix); ok {
				remove(dir+name, true)
			}
		}
		for _, e := range entries {
			p := path.Clean(e.Name)
			dirs := path.Dir(p)
			if e.Type == tar.TypeDir && !strings.HasPrefix(path.Base(p), whiteoutPrefix) {
				dirs = p
			}
			for ; dirs != "."; dirs = path.Dir(dirs) {
				if all[dirs] != "dir" {
					all[dirs] = "dir"
				}
			}
			switch {
			case strings.HasPrefix(path.Base(p), whiteoutPrefix), e.Type == tar.TypeDir:
			case e.Type == tar.TypeLink:
				remove(p, true)
				all[p] = all[path.Clean(e.Link)]
			default:
				remove(p, true)
				all[p] = "file " + e.Content
			}
		}
	}
	return all
}

// FuzzOverlay: a random layer over a fixed one, translated and then seen
// through overlayfs, shows what the OCI specification says.
func FuzzOverlay(f *testing.F) {
	f.Add([]byte{3, 0, 2, 0, 0, 0, 0, 9, 2})
	f.Add([]byte{0x68, 0, 2, 8, 0, 2, 0x18, 8, 0})
	f.Add([]byte{4, 0, 2, 1, 0, 0, 9, 9, 2})
	f.Add([]byte{0, 0, 0, 5, 0, 2, 2, 0, 2})
	lower, _, err := unpack(imagetest.Tar(f, lowerLayer...))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		entries := randomLayer(b)
		for _, e := range entries {
			// Whiteouts that have something below them have no meaning.
			dir := path.Dir(path.Clean(e.Name))
			if strings.Contains(dir, ".wh.") {
				return
			}
			if path.Clean(e.Name) == opaqueName {
				return // the kernel does not look at it in the root of a layer
			}
		}
		upper, _, err := unpack(imagetest.Tar(t, entries...))
		if err != nil {
			return
		}
		got := map[string]string{}
		overlaid(got, ".", upper, lower, false)
		if want := flattened(lowerLayer, entries); !maps.Equal(got, want) {
			t.Errorf("layer %+v\nshows %v\nwant  %v", entries, got, want)
		}
	})
}
