package dockerdtest

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prose-im/prose-image/builder/dockerstore/imagetest"
)

// probe builds the program that runs in the test images.
func probe(t *testing.T) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "probe")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", out, "./testdata/probe")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+runtime.GOARCH)
	if b, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building the probe: %v\n%s", err, b)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// capChown is security.capability for cap_chown=ep (linux/capability.h,
// struct vfs_cap_data, revision 2).
const capChown = "\x01\x00\x00\x02\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"

// baseLayer is under all images.
func baseLayer(probe string) []imagetest.Entry {
	return []imagetest.Entry{
		imagetest.Dir("bin/"),
		{Name: "bin/probe", Mode: 0o755, Content: probe},
		imagetest.Dir("etc/"),
		imagetest.File("etc/passwd", "root:x:0:0::/:\nprose:x:1001:1001::/:\n"),
		{Name: "tmp/", Type: tar.TypeDir, Mode: 0o1777},
	}
}

// lowerLayer has one of everything that a layer may hold.
func lowerLayer(probe string) []imagetest.Entry {
	long := strings.Repeat("a-rather-long-name/", 12)
	return []imagetest.Entry{
		imagetest.Dir("./"),
		{Name: "./bin/setuid", Mode: 0o4755, Content: probe},
		{Name: "./bin/capable", Mode: 0o755, UID: 1001, GID: 1001, Content: probe,
			Xattrs: map[string]string{"security.capability": capChown, "trusted.overlay.redirect": "/etc"}},
		imagetest.File("./etc/a", "a"),
		imagetest.File("./etc/kept", "kept"),
		imagetest.Dir("dir"), imagetest.File("dir/x", "x"), imagetest.Dir("dir/sub"), imagetest.File("dir/sub/x", "x"),
		imagetest.Dir("gone"), imagetest.File("gone/1", "1"),
		imagetest.Dir("again"), imagetest.File("again/old", "old"),
		imagetest.Dir("todir"), imagetest.File("todir/file", "was a file"), imagetest.Dir("tofile"), imagetest.File("tofile/in", "in"),
		{Name: "srv", Type: tar.TypeDir, Mode: 0o2775, UID: 1234, GID: 5678},
		{Name: "srv/owned", Mode: 0o640, UID: 1234, GID: 5678, Content: "owned", Time: time.Date(1999, 12, 31, 23, 59, 59, 123456789, time.UTC)},
		{Name: "srv/big-owner", UID: 3000000000, GID: 4000000000},
		{Name: "srv/noted", Content: "n", Xattrs: map[string]string{"user.note": "n\x00te", "trusted.other": "x"}},
		{Name: "srv/dir", Type: tar.TypeDir, Xattrs: map[string]string{"user.note": "d"}},
		imagetest.File("data/one", strings.Repeat("one", 1000)),
		imagetest.HardLink("data/two", "data/one"),
		imagetest.HardLink("three", "./data/two"),
		imagetest.Symlink("data/relative", "../etc/kept"),
		imagetest.Symlink("data/absolute", "/etc/passwd"),
		imagetest.Symlink("data/dangling", "../../../nowhere/\xff"),
		imagetest.Symlink("lib", "usr/lib"),
		imagetest.Dir("usr"), imagetest.Dir("usr/lib"),
		imagetest.File("lib/through-a-link", "t"),
		{Name: "data/fifo", Type: tar.TypeFifo, Mode: 0o600},
		{Name: "data/null", Type: tar.TypeChar, Mode: 0o666, Major: 1, Minor: 3},
		{Name: "data/block", Type: tar.TypeBlock, Mode: 0o660, GID: 6, Major: 259, Minor: 70000},
		imagetest.File("data/empty", ""),
		imagetest.File("data/name with space, é and \xe9", "latin"),
		imagetest.File("data/"+long+"file", "long"),
		{Name: "data/old", Content: "before the epoch", Time: time.Date(1960, 1, 1, 0, 0, 0, 0, time.UTC)},
		imagetest.File("data/big", strings.Repeat("0123456789abcdef", 200_000)),
	}
}

// upperLayer changes and removes what lowerLayer has.
func upperLayer() []imagetest.Entry {
	return []imagetest.Entry{
		imagetest.File("etc/.wh.a", ""),
		imagetest.File("dir/y", "y"),
		imagetest.File("dir/.wh..wh..opq", ""),
		imagetest.File(".wh.gone", ""),
		imagetest.File(".wh.tofile", ""),
		imagetest.File("tofile", "now a file"),
		{Name: "srv", Type: tar.TypeDir, Mode: 0o750, UID: 1, GID: 2},
		imagetest.File("deep/er/than/named", "deep"),
		imagetest.HardLink("deep/link", "deep/er/than/named"),
		imagetest.HardLink("deep/links-link", "deep/link"),
	}
}

// newLayer both removes and has things, in ways that the engine itself gets
// wrong or refuses: it takes a directory made anew for the old one, and finds
// its own whiteout in the way of the rest.
func newLayer() []imagetest.Entry {
	return []imagetest.Entry{
		imagetest.File(".wh.again", ""),
		imagetest.Dir("again"),
		imagetest.File("again/new", "new"),
		imagetest.File("todir/.wh.file", ""),
		imagetest.File("todir/file/now-a-directory", ""),
		imagetest.File("etc/kept", "kept, newer"),
		imagetest.File("etc/.wh.kept", ""),
	}
}

// A node is what probe tells of one name.
type node struct {
	Path     string // quoted
	Mode     uint32
	UID, GID uint32
	Links    uint64
	Rdev     uint64
	Time     int64
	Sum      string
	Target   string // quoted
	Xattrs   map[string]string
}

func (n node) String() string {
	b, err := json.Marshal(n)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

var modes = map[byte]uint32{
	0: syscall.S_IFREG, tar.TypeDir: syscall.S_IFDIR, tar.TypeSymlink: syscall.S_IFLNK,
	tar.TypeFifo: syscall.S_IFIFO, tar.TypeChar: syscall.S_IFCHR, tar.TypeBlock: syscall.S_IFBLK,
}

// flatten says what a container of these layers shows, by the words of the OCI
// specification and nothing of the code under test.
func flatten(layers ...[]imagetest.Entry) map[string]*node {
	root := map[string]*node{}
	remove := func(p string, self bool) {
		maps.DeleteFunc(root, func(name string, _ *node) bool { return strings.HasPrefix(name, p+"/") || self && name == p })
	}
	for _, entries := range layers {
		for _, e := range entries {
			dir, base := path.Split(path.Join("/", e.Name))
			if base == ".wh..wh..opq" {
				remove(path.Clean(dir), false)
			} else if name, ok := strings.CutPrefix(base, ".wh."); ok {
				remove(dir+name, true)
			}
		}
		for _, e := range entries {
			p := path.Join("/", e.Name)
			if strings.HasPrefix(path.Base(p), ".wh.") || p == "/" {
				continue
			}
			if rest, ok := strings.CutPrefix(p, "/lib/"); ok {
				p = "/usr/lib/" + rest
			}
			for dir := path.Dir(p); dir != "/"; dir = path.Dir(dir) {
				if root[dir] == nil {
					root[dir] = &node{Mode: syscall.S_IFDIR | 0o755}
				}
			}
			if e.Type == tar.TypeLink {
				root[p] = root[path.Join("/", e.Link)]
				continue
			}
			root[p] = flat(e)
		}
	}
	links := map[*node]uint64{}
	for _, n := range root {
		links[n]++
	}
	for p, n := range root {
		copied := *n
		copied.Path = strconv.QuoteToASCII(p)
		if n.Mode&syscall.S_IFMT != syscall.S_IFDIR {
			copied.Links = links[n]
		}
		root[p] = &copied
	}
	quoted := map[string]*node{}
	for _, n := range root {
		quoted[n.Path] = n
	}
	return quoted
}

func flat(e imagetest.Entry) *node {
	n := &node{Mode: modes[e.Type] | uint32(e.Mode), UID: uint32(e.UID), GID: uint32(e.GID)}
	switch {
	case e.Type == tar.TypeSymlink:
		n.Mode, n.Target = n.Mode|0o777, strconv.QuoteToASCII(e.Link)
	case e.Mode == 0 && e.Type == tar.TypeDir:
		n.Mode |= 0o755
	case e.Mode == 0:
		n.Mode |= 0o644
	}
	if e.Type == tar.TypeDir {
		n.Time = 0
	} else if n.Time = imagetest.Time.UnixNano(); !e.Time.IsZero() {
		n.Time = max(0, e.Time.UnixNano())
	}
	if e.Type == tar.TypeChar || e.Type == tar.TypeBlock {
		// The kernel's huge encoding: minor in two parts around the major.
		n.Rdev = uint64(e.Minor&0xff | e.Major&0xfff<<8 | e.Minor&^0xff<<12 | e.Major&^0xfff<<32)
	}
	if e.Type == 0 {
		n.Sum = fmt.Sprintf("%x", sha256.Sum256([]byte(e.Content)))
	}
	for k, v := range e.Xattrs {
		if k == "security.capability" || strings.HasPrefix(k, "user.") {
			if n.Xattrs == nil {
				n.Xattrs = map[string]string{}
			}
			n.Xattrs[k] = fmt.Sprintf("%x", v)
		}
	}
	return n
}

// compare reports every difference between what probe said and what was
// expected.
func compare(t *testing.T, output string, want map[string]*node) {
	t.Helper()
	seen := map[string]bool{}
	for line := range strings.Lines(output) {
		var n node
		if err := json.Unmarshal([]byte(line), &n); err != nil {
			t.Fatalf("probe said %q: %v", line, err)
		}
		if n.Path == `"/"` {
			continue
		}
		seen[n.Path] = true
		// The engine makes files in directories; links of a directory depend on
		// the file system.
		if n.Mode&syscall.S_IFMT == syscall.S_IFDIR {
			n.Time, n.Links = 0, 0
		}
		w := want[n.Path]
		switch {
		case w == nil:
			t.Errorf("the container has %s, which it should not", n)
		case n.String() != w.String():
			t.Errorf("the container has\n%s, want\n%s", n, w)
		}
	}
	for _, p := range slices.Sorted(maps.Keys(want)) {
		if !seen[p] {
			t.Errorf("the container lacks %s", want[p])
		}
	}
}
