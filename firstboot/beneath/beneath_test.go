package beneath

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

var prose = Owner{1001, 1001}

// house is a directory of the Pod's user beside files of root that nobody may
// touch through it.
type house struct {
	t       *testing.T
	dir     *Dir
	in, out string // paths of the two
	before  string
}

func newHouse(t *testing.T) *house {
	t.Helper()
	if os.Getuid() != 0 {
		t.Fatal("this test must run as root: it changes owners")
	}
	base := t.TempDir()
	h := &house{t: t, in: filepath.Join(base, "in"), out: filepath.Join(base, "out")}
	for _, dir := range []string{h.in, h.out, filepath.Join(h.out, "sub")} {
		must(t, os.Mkdir(dir, 0o700))
	}
	must(t, os.WriteFile(filepath.Join(h.out, "shadow"), []byte("root's\n"), 0o600))
	must(t, os.WriteFile(filepath.Join(h.out, "sub", "key"), []byte("root's too\n"), 0o640))
	must(t, os.Chown(h.in, 1001, 1001))
	h.before = h.outside()
	d, err := Open(h.in)
	must(t, err)
	t.Cleanup(func() { d.Close() })
	h.dir = d
	return h
}

// outside is everything about root's files but their number of names.
func (h *house) outside() string {
	h.t.Helper()
	var b strings.Builder
	must(h.t, filepath.WalkDir(h.out, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		var text []byte
		if st.Mode&unix.S_IFMT == unix.S_IFREG {
			if text, err = os.ReadFile(path); err != nil {
				return err
			}
		}
		fmt.Fprintf(&b, "%s %o %d:%d %q\n", path, st.Mode, st.Uid, st.Gid, text)
		return nil
	}))
	return b.String()
}

func (h *house) check(what string) {
	h.t.Helper()
	if now := h.outside(); now != h.before {
		h.t.Errorf("%s moved what lies outside:\n%s\nwas\n%s", what, now, h.before)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func stat(t *testing.T, path string) unix.Stat_t {
	t.Helper()
	var st unix.Stat_t
	must(t, unix.Lstat(path, &st))
	return st
}

func TestWriteFile(t *testing.T) {
	h := newHouse(t)
	path := filepath.Join(h.in, "a.toml")
	var inode uint64
	for _, step := range []struct {
		data    string
		mode    fs.FileMode
		owner   Owner
		changed bool
	}{
		{"one", 0o600, prose, true},
		{"one", 0o600, prose, false},
		{"two", 0o600, prose, true},
		{"two", 0o640, prose, true},
		{"two", 0o640, Owner{0, 1001}, true},
		{"two", 0o640, Owner{0, 1001}, false},
		{"two", 0o640, Owner{0, 0}, true},
		{"", 0o640, Owner{0, 1001}, true},
		{"", 0o640, Owner{0, 1001}, false},
	} {
		changed, err := h.dir.WriteFile("a.toml", []byte(step.data), step.mode, step.owner)
		must(t, err)
		st := stat(t, path)
		got, _ := os.ReadFile(path)
		if changed != step.changed || string(got) != step.data || st.Mode != unix.S_IFREG|uint32(step.mode) ||
			int(st.Uid) != step.owner.UID || int(st.Gid) != step.owner.GID {
			t.Errorf("%+v: changed %v, %q %o %d:%d", step, changed, got, st.Mode, st.Uid, st.Gid)
		}
		if (st.Ino == inode) == step.changed {
			t.Errorf("%+v: the file's inode went from %d to %d", step, inode, st.Ino)
		}
		inode = st.Ino
	}
	// With a second name it is made anew: the other one may be elsewhere.
	must(t, os.Link(path, path+".other"))
	if changed, err := h.dir.WriteFile("a.toml", nil, 0o640, Owner{0, 1001}); err != nil || !changed {
		t.Errorf("a file with two names: changed %v, %v", changed, err)
	}
	must(t, os.Remove(path+".other"))
	names, err := os.ReadDir(h.in)
	if err != nil || len(names) != 1 {
		t.Errorf("left behind: %v %v", names, err)
	}
}

// Each plant is what uid 1001 can put at a name before we come.
func TestPlants(t *testing.T) {
	link := func(target string) func(h *house, path string) error {
		return func(h *house, path string) error { return os.Symlink(filepath.Join(h.out, target), path) }
	}
	plants := []struct {
		name  string
		plant func(h *house, path string) error
	}{
		{"symlink to a file", link("shadow")},
		{"symlink to nothing", link("new")},
		{"symlink to a directory", link("sub")},
		{"symlink to all of it", link(".")},
		{"relative symlink", func(h *house, path string) error {
			rel, err := filepath.Rel(filepath.Dir(path), filepath.Join(h.out, "shadow"))
			if err != nil {
				return err
			}
			return os.Symlink(rel, path)
		}},
		{"hard link", func(h *house, path string) error { return os.Link(filepath.Join(h.out, "shadow"), path) }},
		{"fifo", func(h *house, path string) error {
			return errors.Join(unix.Mkfifo(path, 0o666), os.Chown(path, 1001, 1001))
		}},
		{"socket", func(h *house, path string) error {
			return errors.Join(unix.Mknod(path, unix.S_IFSOCK|0o666, 0), os.Chown(path, 1001, 1001))
		}},
	}
	for _, p := range plants {
		for _, at := range []string{"file", ".file.new", "deep/file", "deep/.file.new"} {
			t.Run(p.name+" at "+at, func(t *testing.T) {
				h := newHouse(t)
				must(t, os.Mkdir(filepath.Join(h.in, "deep"), 0o700))
				must(t, p.plant(h, filepath.Join(h.in, at)))
				name := strings.Replace(strings.TrimSuffix(at, ".new"), ".file", "file", 1)
				_, err := h.dir.WriteFile(name, []byte("ours"), 0o640, prose)
				must(t, err)
				st := stat(t, filepath.Join(h.in, name))
				got, _ := os.ReadFile(filepath.Join(h.in, name))
				if string(got) != "ours" || st.Mode != unix.S_IFREG|0o640 || st.Uid != 1001 || st.Nlink != 1 {
					t.Errorf("%q %o %d, %d names", got, st.Mode, st.Uid, st.Nlink)
				}
				h.check("writing")
			})
		}
		t.Run(p.name+" under the other methods", func(t *testing.T) {
			h := newHouse(t)
			path := filepath.Join(h.in, "x")
			must(t, p.plant(h, path))
			if b, err := h.dir.ReadFile("x", 1<<20, 1001); err == nil {
				t.Errorf("ReadFile got %q", b)
			}
			if created, err := h.dir.Create("x", 0o666, prose); created || err == nil && p.name != "hard link" {
				t.Errorf("Create: %v %v", created, err)
			}
			for _, below := range []string{"x/new", "x/key", "x/sub/key"} {
				if _, err := h.dir.WriteFile(below, []byte("ours"), 0o666, prose); err == nil {
					t.Errorf("WriteFile went through to %s", below)
				}
				if _, err := h.dir.Create(below, 0o666, prose); err == nil {
					t.Errorf("Create went through to %s", below)
				}
			}
			// Not the last name but one on the way is the link.
			if b, err := h.dir.ReadFile("x/sub/key", 1<<20, 0); err == nil {
				t.Errorf("ReadFile got %q on the way", b)
			}
			if d, err := h.dir.Mkdir("x/sub/new", 0o777, prose); err == nil {
				d.Close()
				t.Error("Mkdir went through on the way")
			}
			h.check("one of the methods")
		})
	}
}

// A link where a directory should be goes, and what it leads to stays. Anything
// else is left alone.
func TestMkdirInThePlaceOfAPlant(t *testing.T) {
	for _, target := range []string{"shadow", "new", "sub", "."} {
		h := newHouse(t)
		path := filepath.Join(h.in, "x")
		must(t, os.Symlink(filepath.Join(h.out, target), path))
		d, err := h.dir.Mkdir("x", 0o750, prose)
		must(t, err)
		_, err = d.WriteFile("key", []byte("ours"), 0o600, prose)
		must(t, err)
		d.Close()
		if st := stat(t, path); st.Mode != unix.S_IFDIR|0o750 || st.Uid != 1001 {
			t.Errorf("%s: %o %d", target, st.Mode, st.Uid)
		}
		h.check("making a directory")
	}
	h := newHouse(t)
	must(t, os.Link(filepath.Join(h.out, "shadow"), filepath.Join(h.in, "x")))
	if d, err := h.dir.Mkdir("x", 0o777, prose); err == nil {
		d.Close()
		t.Error("a file was taken for a directory")
	}
	h.check("making a directory")
}

func TestDirectoryInTheWay(t *testing.T) {
	h := newHouse(t)
	must(t, os.MkdirAll(filepath.Join(h.in, "file", "x"), 0o700))
	if _, err := h.dir.WriteFile("file", []byte("ours"), 0o600, prose); err == nil {
		t.Error("a directory was replaced")
	}
	if names, _ := os.ReadDir(h.in); len(names) != 1 {
		t.Errorf("left behind: %v", names)
	}
	// In the way of the temporary name it is no hindrance.
	must(t, os.MkdirAll(filepath.Join(h.in, ".other.new", "x"), 0o700))
	if _, err := h.dir.WriteFile("other", []byte("ours"), 0o600, prose); err != nil {
		t.Error(err)
	}
}

// A link that stays inside is refused on the way too: it may lead elsewhere the
// next moment.
func TestLinkInside(t *testing.T) {
	h := newHouse(t)
	must(t, os.Mkdir(filepath.Join(h.in, "real"), 0o700))
	must(t, os.Symlink("real", filepath.Join(h.in, "link")))
	if _, err := h.dir.WriteFile("link/file", nil, 0o600, prose); err == nil {
		t.Error("WriteFile went through")
	}
	must(t, os.Mkdir(filepath.Join(h.in, "real", "deep"), 0o700))
	if _, err := h.dir.WriteFile("link/deep/file", nil, 0o600, prose); err == nil {
		t.Error("WriteFile went through on the way")
	}
}

func TestNamesThatLeadOut(t *testing.T) {
	h := newHouse(t)
	for _, name := range []string{"", ".", "..", "/etc/passwd", "../out/shadow", "a/../../out/shadow", "a//b", "a/", "./a"} {
		if _, err := h.dir.WriteFile(name, []byte("x"), 0o600, prose); err == nil {
			t.Errorf("WriteFile(%q) went through", name)
		}
		if _, err := h.dir.ReadFile(name, 10, 1001); err == nil {
			t.Errorf("ReadFile(%q) went through", name)
		}
	}
	for _, mode := range []fs.FileMode{fs.ModeSetuid | 0o755, 0o4755, fs.ModeDir | 0o700} {
		if _, err := h.dir.WriteFile("a", nil, mode, prose); err == nil {
			t.Errorf("mode %v went through", mode)
		}
	}
	h.check("something")
	link := h.in + "-link"
	must(t, os.Symlink(h.out, link))
	for _, path := range []string{link, link + "/sub"} {
		if d, err := Open(path); err == nil {
			d.Close()
			t.Errorf("Open went through a link: %s", path)
		}
	}
}

func TestMkdirCreateChown(t *testing.T) {
	h := newHouse(t)
	for range 2 {
		d, err := h.dir.Mkdir("certs", 0o750, prose)
		must(t, err)
		_, err = d.WriteFile("k", []byte("x"), 0o600, prose)
		must(t, err)
		d.Close()
		st := stat(t, filepath.Join(h.in, "certs"))
		if st.Mode != unix.S_IFDIR|0o750 || st.Uid != 1001 || st.Gid != 1001 {
			t.Errorf("certs %o %d:%d", st.Mode, st.Uid, st.Gid)
		}
		must(t, os.Chown(filepath.Join(h.in, "certs"), 0, 0))
	}
	for i := range 2 {
		created, err := h.dir.Create("database.sqlite", 0o640, prose)
		must(t, err)
		if created != (i == 0) {
			t.Errorf("time %d: created %v", i, created)
		}
		path := filepath.Join(h.in, "database.sqlite")
		if st := stat(t, path); st.Mode != unix.S_IFREG|0o640 || st.Uid != 1001 {
			t.Errorf("database %o %d", st.Mode, st.Uid)
		}
		if i == 1 {
			if got, _ := os.ReadFile(path); string(got) != "rows" {
				t.Errorf("the database became %q", got)
			}
		}
		must(t, os.WriteFile(path, []byte("rows"), 0o640))
	}
	if _, err := h.dir.ReadFile("database.sqlite", 3, 1001); err == nil {
		t.Error("four bytes passed a limit of three")
	}
	if _, err := h.dir.ReadFile("database.sqlite", 4, 0); err == nil {
		t.Error("the file of another user was read")
	}
	if b, err := h.dir.ReadFile("database.sqlite", 4, 1001); err != nil || string(b) != "rows" {
		t.Errorf("%q %v", b, err)
	}
}

// racer does what uid 1001 would: it exchanges things for links while we
// write, as fast as it can.
func (h *house) race(swap func()) (stop func()) {
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-quit:
				return
			default:
				swap()
			}
		}
	}()
	return func() { close(quit); <-done }
}

func TestRaces(t *testing.T) {
	const long = 700 * time.Millisecond
	races := []struct {
		name string
		swap func(h *house) func()
	}{
		{"directory for a link to root's", func(h *house) func() {
			dir, link := filepath.Join(h.in, "d"), filepath.Join(h.in, "link")
			_ = os.Symlink(filepath.Join(h.out, "sub"), link)
			return func() { _ = unix.Renameat2(unix.AT_FDCWD, dir, unix.AT_FDCWD, link, unix.RENAME_EXCHANGE) }
		}},
		{"directory on the way for a link to root's", func(h *house) func() {
			_ = os.MkdirAll(filepath.Join(h.in, "d", "sub"), 0o700)
			dir, link := filepath.Join(h.in, "d"), filepath.Join(h.in, "link")
			_ = os.Symlink(h.out, link)
			return func() { _ = unix.Renameat2(unix.AT_FDCWD, dir, unix.AT_FDCWD, link, unix.RENAME_EXCHANGE) }
		}},
		{"file for a link to root's", func(h *house) func() {
			path := filepath.Join(h.in, "d", "shadow")
			return func() {
				_ = os.Remove(path)
				_ = os.Symlink(filepath.Join(h.out, "shadow"), path)
			}
		}},
		{"temporary file for a link to root's", func(h *house) func() {
			path := filepath.Join(h.in, "d", ".shadow.new")
			return func() {
				_ = os.Remove(path)
				_ = os.Symlink(filepath.Join(h.out, "shadow"), path)
			}
		}},
		{"file for another name of root's", func(h *house) func() {
			path := filepath.Join(h.in, "d", "shadow")
			return func() {
				_ = os.Remove(path)
				_ = os.Link(filepath.Join(h.out, "shadow"), path)
			}
		}},
		{"temporary file for another name of root's", func(h *house) func() {
			path := filepath.Join(h.in, "d", ".shadow.new")
			return func() {
				_ = os.Remove(path)
				_ = os.Link(filepath.Join(h.out, "shadow"), path)
			}
		}},
		{"directory moved out of the house", func(h *house) func() {
			dir, away := filepath.Join(h.in, "d"), h.in+"-away"
			return func() {
				_ = os.Rename(dir, away)
				_ = os.Symlink(filepath.Join(h.out, "sub"), dir)
				_ = os.Remove(dir)
				_ = os.Rename(away, dir)
			}
		}},
	}
	for _, r := range races {
		t.Run(r.name, func(t *testing.T) {
			h := newHouse(t)
			must(t, os.Mkdir(filepath.Join(h.in, "d"), 0o700))
			stop := sync.OnceFunc(h.race(r.swap(h)))
			defer stop()
			wrote, refused := 0, 0
			for end := time.Now().Add(long); time.Now().Before(end); {
				data := fmt.Appendf(nil, "ours %d", wrote)
				for _, name := range []string{"d/shadow", "d/key", "d/sub/key"} {
					if _, err := h.dir.WriteFile(name, data, 0o640, prose); err == nil {
						wrote++
						// Where only the temporary name is fought for, what was
						// reported as written is there.
						if strings.HasPrefix(r.name, "temporary") && name == "d/shadow" {
							path := filepath.Join(h.in, name)
							if got, _ := os.ReadFile(path); string(got) != string(data) || stat(t, path).Mode != unix.S_IFREG|0o640 {
								t.Fatalf("%s is %o %q", name, stat(t, path).Mode, got)
							}
						}
					} else {
						refused++
					}
				}
				if b, err := h.dir.ReadFile("d/shadow", 100, 1001); err == nil && strings.Contains(string(b), "root's") {
					t.Errorf("read %q", b)
				}
				if d, err := h.dir.Mkdir("d", 0o711, prose); err == nil {
					d.Close()
				}
			}
			stop()
			h.check("the race")
			t.Logf("%d written, %d refused", wrote, refused)
			if wrote == 0 {
				t.Error("nothing was ever written")
			}
		})
	}
}

func TestFullDisk(t *testing.T) {
	h := newHouse(t)
	small := filepath.Join(h.in, "small")
	must(t, os.Mkdir(small, 0o700))
	must(t, syscall.Mount("tmpfs", small, "tmpfs", 0, "size=64k"))
	defer func() { must(t, syscall.Unmount(small, 0)) }()
	d, err := Open(small)
	must(t, err)
	defer d.Close()
	_, err = d.WriteFile("a", []byte("first"), 0o600, prose)
	must(t, err)
	if _, err := d.WriteFile("a", make([]byte, 1<<20), 0o600, prose); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("got %v, want no space", err)
	}
	names, _ := os.ReadDir(small)
	if b, _ := os.ReadFile(filepath.Join(small, "a")); string(b) != "first" || len(names) != 1 {
		t.Errorf("left: %q, %v", b, names)
	}
}
