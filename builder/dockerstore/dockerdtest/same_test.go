package dockerdtest

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/prose-im/prose-image/builder/dockerstore"
	"github.com/prose-im/prose-image/builder/dockerstore/imagetest"
)

// TestSameAsDocker has the engine pull the images itself, and compares its
// store with ours: every path, mode, owner, time, attribute and byte, but for
// the names that the engine makes up.
func TestSameAsDocker(t *testing.T) {
	f := makeFixture(t)

	// The engine must find them by these names, so they are not upstream's.
	var pinned []dockerstore.Pinned
	for _, name := range []string{"proseim/plain:1.0", "proseim/prose-pod-api:1.0", "proseim/prose-pod-dashboard:2", "elsewhere/app:1.0", "up/web:1"} {
		p, err := f.source.Resolve(t.Context(), f.registry.Host+"/"+name)
		if err != nil {
			t.Fatal(err)
		}
		pinned = append(pinned, p)
	}
	if err := f.source.Fetch(t.Context(), pinned...); err != nil {
		t.Fatal(err)
	}
	m := start(t)
	ours := filepath.Join(m.Dir, "ours")
	if err := os.Mkdir(ours, 0o700); err != nil {
		t.Fatal(err)
	}
	apply(t, store(t, f.source.Cache, pinned), dataRoot, ours)
	m.StartDocker()
	for _, p := range pinned {
		m.docker(t, "pull", "--quiet", p.Reference)
	}
	m.StopDocker()

	got, want := describe(t, ours), describe(t, m.data)
	// What differs, and should.
	dropped := strings.NewReplacer(" trusted.other=78", "", " trusted.overlay.redirect="+hex.EncodeToString([]byte("/etc")), "")
	for p := range want {
		// We take no trusted attributes from an image.
		want[p] = dropped.Replace(want[p])
		switch {
		case strings.HasSuffix(p, "/committed"):
			// The engine writes it when a layer gets a child. Without it a top
			// layer would count as one that is still being written.
			delete(want, p)
		case strings.HasPrefix(p, "image/overlay2/imagedb/metadata/sha256/"):
			// When the image was last pulled.
			delete(want, p)
		case p == "image/overlay2/layerdb/tmp", p == "image/overlay2/layerdb/mounts":
			delete(want, p)
		}
	}
	for p := range got {
		if strings.HasSuffix(p, "/committed") {
			delete(got, p)
		}
	}

	all := maps.Clone(got)
	maps.Copy(all, want)
	for _, p := range slices.Sorted(maps.Keys(all)) {
		if g, w := got[p], want[p]; g != w {
			t.Errorf("%q:\nours:   %s\nengine: %s", p, g, w)
		}
	}
	if len(got) < 150 {
		t.Errorf("only %d paths were compared", len(got))
	}
}

// describe says of each path in a store what it is. The directories of layers
// go by their ChainID, and times of what the engine makes are left out.
func describe(t *testing.T, store string) map[string]string {
	t.Helper()
	read := func(p string) string {
		b, err := os.ReadFile(filepath.Join(store, p))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	chains, links := map[string]string{}, map[string]string{}
	for _, p := range list(t, store, "image/overlay2/layerdb/sha256") {
		id := read(p + "/cache-id")
		chains[id] = filepath.Base(p)
		links[read("overlay2/"+id+"/link")] = filepath.Base(p)
	}
	all := map[string]string{}
	err := filepath.WalkDir(store, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		p, err := filepath.Rel(store, file)
		if err != nil {
			return err
		}
		parts := strings.Split(p, "/")
		if p != "." && parts[0] != "image" && parts[0] != "overlay2" {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		inLayer := false
		if len(parts) > 1 && parts[0] == "overlay2" && parts[1] != "l" {
			id, ok := chains[parts[1]]
			if !ok {
				t.Errorf("%s/%s belongs to no layer", store, p)
				return fs.SkipDir
			}
			inLayer = len(parts) > 3 && parts[2] == "diff"
			p = strings.Join(append([]string{"layer " + id}, parts[2:]...), "/")
		}
		what, err := describeFile(file, inLayer)
		if err != nil {
			return err
		}
		switch base := filepath.Base(p); {
		case inLayer:
		case strings.HasPrefix(p, "overlay2/l/"):
			p = "overlay2/l/" + links[base]
			target, err := os.Readlink(file)
			if err != nil {
				return err
			}
			what = "link to " + chains[strings.Split(target, "/")[1]]
		case base == "cache-id", base == "link":
			what = what[:strings.LastIndex(what, " ")]
		case base == "lower":
			var ids []string
			for l := range strings.SplitSeq(read("overlay2/"+parts[1]+"/lower"), ":") {
				ids = append(ids, links[strings.TrimPrefix(l, "l/")])
			}
			what = "lower " + strings.Join(ids, ":")
		case base == "tar-split.json.gz":
			b, err := gunzip(file)
			if err != nil {
				return err
			}
			what = what[:strings.Index(what, " ")] + fmt.Sprintf(" %x", sha256.Sum256(b))
		case base == "repositories.json", strings.Contains(p, "v2metadata-by-diffid/sha256/"):
			var v any
			if err := json.Unmarshal([]byte(read(strings.Join(parts, "/"))), &v); err != nil {
				return err
			}
			if list, ok := v.([]any); ok {
				slices.SortFunc(list, func(a, b any) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
			}
			what = fmt.Sprint(what[:strings.Index(what, " ")], " ", v)
		}
		all[p] = what
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func gunzip(name string) ([]byte, error) {
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(z)
}

// describeFile says what a file is. In a layer its time counts too, but for a
// whiteout and for a directory that the layer does not name: these are made by
// the engine as it unpacks.
func describeFile(name string, inLayer bool) (string, error) {
	var st unix.Stat_t
	if err := unix.Lstat(name, &st); err != nil {
		return "", err
	}
	what := fmt.Sprintf("%o:%d:%d:%x", st.Mode, st.Uid, st.Gid, st.Rdev)
	kind := st.Mode & unix.S_IFMT
	whiteout := kind == unix.S_IFCHR && st.Rdev == 0
	if kind != unix.S_IFDIR {
		what += fmt.Sprintf(":%d", st.Nlink)
	}
	named := kind != unix.S_IFDIR || st.Mtim.Nano() == imagetest.Time.UnixNano()
	if inLayer && !whiteout && named {
		what += fmt.Sprintf(" %d.%09d", st.Mtim.Sec, st.Mtim.Nsec)
	}
	switch kind {
	case unix.S_IFREG:
		b, err := os.ReadFile(name)
		if err != nil {
			return "", err
		}
		what += fmt.Sprintf(" %x", sha256.Sum256(b))
	case unix.S_IFLNK:
		target, err := os.Readlink(name)
		if err != nil {
			return "", err
		}
		what += " -> " + target
	}
	buf := make([]byte, 4096)
	n, err := unix.Llistxattr(name, buf)
	if err != nil {
		return "", err
	}
	names := strings.FieldsFunc(string(buf[:n]), func(r rune) bool { return r == 0 })
	slices.Sort(names)
	for _, x := range names {
		n, err := unix.Lgetxattr(name, x, buf)
		if err != nil {
			return "", err
		}
		what += fmt.Sprintf(" %s=%s", x, hex.EncodeToString(buf[:n]))
	}
	return what, nil
}
