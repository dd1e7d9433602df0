package builder

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/prose-im/prose-image/builder/cache"
	"github.com/prose-im/prose-image/builder/layer"
	"github.com/prose-im/prose-image/builder/tree"
	"github.com/prose-im/prose-image/overlays"
)

// files is what an image has beyond packages: our overlays, the pod bundle with
// the digests of its images, and the recipe's own overlays, in this order.
var files = kind{
	name:     "files",
	revision: 1,
	plan: func(in *Inputs, p *Plan, _ string) Layer {
		// It looks at what packages own, and deletes only what is there.
		l := Layer{Kind: "files", ReadsAll: true, Inputs: []Input{
			sumOf("base", in.Base),
			sumOf("bundle "+in.Bundle.Name, in.Bundle.Files),
			text("deletions", strings.Join(overlays.Deletions(), " ")),
			epoch(p),
		}}
		for _, i := range in.Lock.Images {
			l.Inputs = append(l.Inputs, text("pin", i.Name+" "+i.Digest))
		}
		if in.Overlay != nil {
			l.Inputs = append(l.Inputs, sumOf("overlay", in.Overlay))
		}
		return l
	},
	make: func(ctx context.Context, m *making) error {
		pinned, err := pins(m.in.Bundle.Services, m.in.Lock.Images)
		if err != nil {
			return err
		}
		all := slices.Concat(m.in.Base, m.in.Bundle.Files, []overlays.File{{Path: overlays.ImagesFile, Mode: 0o644, Content: pinned}}, m.in.Overlay)
		list := lastOfEach(all)
		if err := refuseOwned(m.below, list); err != nil {
			return err
		}
		w, err := m.create(present(m.below, overlays.Deletions()))
		if err != nil {
			return err
		}
		for _, f := range list {
			e := layer.Entry{Path: f.Path, Mode: f.Mode, UID: f.UID, GID: f.GID, ModTime: m.plan.Epoch, Size: int64(len(f.Content)), Link: f.Link, Type: entryType(f.Type)}
			// A directory that is there keeps the owner and mode its package
			// gave it.
			if old, ok := m.below.Lookup(f.Path); ok && old.Type == layer.Dir && f.Type == overlays.Dir && !fromTable(m.in, f.Path) {
				continue
			}
			if err := w.Write(e, bytes.NewReader(f.Content)); err != nil {
				return err
			}
		}
		return nil
	},
}

func fromTable(in *Inputs, path string) bool {
	is := func(f overlays.File) bool { return f.Path == path }
	return slices.ContainsFunc(in.Base, is) || slices.ContainsFunc(in.Bundle.Files, is)
}

func entryType(t overlays.Type) layer.Type {
	switch t {
	case overlays.Dir:
		return layer.Dir
	case overlays.Symlink:
		return layer.Symlink
	}
	return layer.File
}

// lastOfEach keeps the last file of each path, parents before children.
func lastOfEach(all []overlays.File) []overlays.File {
	last := map[string]overlays.File{}
	for _, f := range all {
		last[f.Path] = f
	}
	list := make([]overlays.File, 0, len(last))
	for _, f := range last {
		list = append(list, f)
	}
	slices.SortFunc(list, func(a, b overlays.File) int {
		return slices.Compare(strings.Split(a.Path, "/"), strings.Split(b.Path, "/"))
	})
	return list
}

// present leaves out the paths that are not in the tree.
func present(t *tree.Tree, paths []string) []string {
	return slices.DeleteFunc(slices.Clone(paths), func(p string) bool {
		_, ok := t.Lookup(p)
		return !ok
	})
}

// An OwnedError names overlay files that would replace a package's own: the
// next upgrade of the package would replace them again.
type OwnedError struct {
	Paths []string // path and package
}

func (e *OwnedError) Error() string {
	return "overlays would replace files of packages: " + strings.Join(e.Paths, ", ")
}

// Hint is the way out.
func (e *OwnedError) Hint() string {
	return "use a drop-in directory of the package, or a diversion in a run script (dpkg-divert --local --add)"
}

// refuseOwned compares the files with dpkg's lists of what packages own. What
// was diverted by this machine's administrator, that is by a run script, is free.
func refuseOwned(below *tree.Tree, list []overlays.File) error {
	const info = "var/lib/dpkg/info"
	want := map[string]bool{}
	for _, f := range list {
		if f.Type != overlays.Dir {
			want["/"+f.Path] = true
		}
	}
	diverted := map[string]bool{}
	if b, err := below.ReadFile("var/lib/dpkg/diversions"); err == nil {
		// Three lines each: from, to, package or ":" for a local one.
		lines := strings.Split(string(b), "\n")
		for i := 0; i+2 < len(lines); i += 3 {
			if lines[i+2] == ":" {
				diverted[lines[i]] = true
			}
		}
	}
	var owned []string
	for _, name := range below.Children(info) {
		pkg, ok := strings.CutSuffix(name, ".list")
		if !ok {
			continue
		}
		b, err := below.ReadFile(info + "/" + name)
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(b)) {
			if p := strings.TrimSuffix(line, "\n"); want[p] && !diverted[p] {
				owned = append(owned, fmt.Sprintf("%s (%s)", p, pkg))
			}
		}
	}
	if owned != nil {
		return &OwnedError{Paths: owned}
	}
	return nil
}

func sumOf(name string, list []overlays.File) Input {
	in := Input{Name: name, Value: fmt.Sprintf("%d files", len(list)), Sum: filesSum(list)}
	for _, f := range list {
		in.Parts = append(in.Parts, cache.Part{Name: f.Path, Sum: filesSum([]overlays.File{f})})
	}
	return in
}

// filesSum hashes files with all their attributes.
func filesSum(list []overlays.File) string {
	h := newHash("files")
	for _, f := range list {
		sum := sha256.Sum256(f.Content)
		h.add(f.Path, fmt.Sprintf("%s %o %d:%d %s %s", f.Type, f.Mode, f.UID, f.GID, f.Link, hex.EncodeToString(sum[:])))
	}
	return h.sum().String()
}
