package image

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/prose-im/prose-image/builder/host"
)

// packages are unpacked with what they depend on; no maintainer script runs, so
// the result is a function of the packages and needs no emulator for another
// architecture.
var packages = []string{"base-files", "busybox-static", "ca-certificates", "lua-unbound", "prosody"}

// What of the packages is kept: the longest prefix that matches decides.
var (
	keep = []string{
		"bin", "sbin", "lib", "lib64", "run", "tmp", "var",
		"etc/debian_version", "etc/os-release", "etc/ssl",
		"usr/bin/busybox", "usr/bin/lua5.4", "usr/bin/prosody", "usr/bin/prosodyctl",
		"usr/lib", "usr/lib64", "usr/share/lua",
	}
	drop = []string{
		"usr/lib/init", "usr/lib/systemd", "usr/lib/tmpfiles.d", "usr/lib/sysusers.d", "usr/lib/sasl2",
		"usr/share/lua/5.1/lxp/doc", "var/cache", "var/lib", "var/log", "var/backups", "var/local", "var/lock", "var/run", "var/spool",
		"usr/lib/ssl/misc",
	}
	// perl comes with debconf, which only maintainer scripts want.
	dropBase = []string{"perl", "perl-base", "perl5", "gconv", "audit", "security"}
)

const (
	certificates = "usr/share/ca-certificates/mozilla/"
	bundle       = "etc/ssl/certs/ca-certificates.crt"
)

// applets are the names under which busybox is found, for whoever looks into a
// running container.
var applets = []string{"cat", "env", "find", "grep", "hostname", "id", "kill", "ls", "mkdir", "mv", "nslookup", "ps", "rm", "sh", "sleep", "stat", "tail", "touch", "wget"}

// rootfs are the two layers made of Debian packages, as files in the cache.
type rootfs struct {
	server string // Prosody and what it needs
	base   string // what the three small images share
}

// sources are the code that makes the layers.
//
//go:embed debian.go layer.go
var sources embed.FS

// debian returns the layers of an architecture, from the cache if they are
// there. The key is what was asked for and the code that answers, not what the
// mirror had: to follow the mirror, empty the cache.
func debian(ctx context.Context, cache, suite, arch string, progress io.Writer) (rootfs, error) {
	key := sha256.New()
	for _, name := range []string{"debian.go", "layer.go"} {
		text, err := sources.ReadFile(name)
		if err != nil {
			return rootfs{}, err
		}
		key.Write(text)
	}
	fmt.Fprintln(key, suite, arch, created)
	dir := filepath.Join(cache, fmt.Sprintf("pod-%s-%s-%x", suite, arch, key.Sum(nil)[:8]))
	out := rootfs{server: filepath.Join(dir, "server.tar.gz"), base: filepath.Join(dir, "base.tar.gz")}
	if _, err := os.Stat(dir); err == nil {
		return out, nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return rootfs{}, err
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return rootfs{}, err
	}
	tmp, err := os.MkdirTemp(cache, "pod-new-")
	if err != nil {
		return rootfs{}, err
	}
	defer os.RemoveAll(tmp)
	fmt.Fprintf(progress, "unpacking Prosody from Debian %s for %s\n", suite, arch)
	if err := bake(ctx, tmp, suite, arch); err != nil {
		return rootfs{}, fmt.Errorf("making the root of the server image: %w", err)
	}
	// Another process may have been faster: its result is as good.
	if err := os.Rename(tmp, dir); err != nil && !errors.Is(err, fs.ErrExist) {
		if _, there := os.Stat(dir); there != nil {
			return rootfs{}, err
		}
	}
	return out, nil
}

func bake(ctx context.Context, dir, suite, arch string) error {
	raw := filepath.Join(dir, "raw.tar")
	err := host.Run(ctx, host.Command{Args: []string{
		"mmdebstrap", "--quiet", "--variant=extract", "--architectures=" + arch,
		"--include=" + strings.Join(packages, ","), suite, raw,
	}})
	if err != nil {
		return err
	}
	defer os.Remove(raw)
	server, shared, err := sift(raw)
	if err != nil {
		return err
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	if err := writeGzip(filepath.Join(dir, "server.tar.gz"), func(w io.Writer) error { return server.write(w, raw) }); err != nil {
		return err
	}
	return writeGzip(filepath.Join(dir, "base.tar.gz"), func(w io.Writer) error { return writeTar(w, shared, created) })
}

func writeGzip(name string, write func(io.Writer) error) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer f.Close()
	zw, err := gzip.NewWriterLevel(f, gzip.BestSpeed)
	if err != nil {
		return err
	}
	if err := write(zw); err != nil {
		return fmt.Errorf("writing %s: %w", name, err)
	}
	if err := zw.Close(); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return f.Close()
}

// A sifted is the list of what is kept of a raw tar, sorted by name.
type sifted struct {
	headers []*tar.Header
	offsets map[string]int64 // where content starts
	extra   []entry          // what no package has
}

// sift reads the raw tar once. shared are the entries of the common base.
func sift(raw string) (s sifted, shared []entry, err error) {
	f, err := os.Open(raw)
	if err != nil {
		return s, nil, err
	}
	defer f.Close()
	s.offsets = map[string]int64{}
	var roots bytes.Buffer
	var busybox []byte
	for tr := tar.NewReader(f); ; {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return s, nil, err
		}
		name := strings.TrimPrefix(path.Clean(h.Name), "./")
		switch {
		case strings.HasPrefix(name, certificates) && h.Typeflag == tar.TypeReg:
			if _, err := io.Copy(&roots, tr); err != nil {
				return s, nil, err
			}
			continue
		case name == "usr/bin/busybox":
			offset, err := f.Seek(0, io.SeekCurrent)
			if err != nil {
				return s, nil, err
			}
			busybox = make([]byte, h.Size)
			if _, err := f.ReadAt(busybox, offset); err != nil {
				return s, nil, err
			}
		}
		if name == "." || !kept(name) {
			continue
		}
		if h.Typeflag == tar.TypeLink {
			h.Linkname = strings.TrimPrefix(path.Clean(h.Linkname), "./")
		}
		if s.offsets[name], err = f.Seek(0, io.SeekCurrent); err != nil {
			return s, nil, err
		}
		h.Name = name
		s.headers = append(s.headers, h)
	}
	if len(busybox) == 0 || roots.Len() == 0 {
		return s, nil, errors.New("the packages hold no busybox or no certificates")
	}
	slices.SortFunc(s.headers, func(a, b *tar.Header) int { return strings.Compare(a.Name, b.Name) })

	common := append([]entry{{name: bundle, mode: 0o644, data: roots.Bytes()}}, basics...)
	for _, name := range applets {
		common = append(common, entry{name: "usr/bin/" + name, mode: 0o777, link: "busybox"})
	}
	s.extra = common
	shared = append(slices.Clone(common),
		entry{name: "usr/bin/busybox", mode: 0o755, data: busybox},
		entry{name: "bin", mode: 0o777, link: "usr/bin"},
		entry{name: "run/", mode: 0o755},
		entry{name: "tmp/", mode: 0o1777},
	)
	return s, shared, nil
}

// basics are the accounts of every image, and the link that Prosody's paths go
// through. The server's is called prosody, as
// upstream's; the owner's machine calls the same number prose.
var basics = []entry{
	{name: "etc/passwd", mode: 0o644, data: []byte("root:x:0:0:root:/root:/bin/sh\nprosody:x:1001:1001::/var/lib/prosody:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n")},
	{name: "etc/group", mode: 0o644, data: []byte("root:x:0:\nprosody:x:1001:\nnogroup:x:65534:\n")},
	{name: "root/", mode: 0o700},
	{name: "var/run", mode: 0o777, link: "/run"},
}

func kept(name string) bool {
	best, good := -1, false
	for i, list := range [][]string{keep, drop} {
		for _, p := range list {
			if (name == p || strings.HasPrefix(name, p+"/")) && len(p) > best {
				best, good = len(p), i == 0
			}
		}
	}
	if strings.HasPrefix(name, "usr/lib/") {
		for part := range strings.SplitSeq(name, "/") {
			good = good && !slices.Contains(dropBase, part)
		}
	}
	// The parents of what is kept.
	for _, p := range keep {
		good = good || strings.HasPrefix(p, name+"/")
	}
	return good
}

// write writes the kept entries with the extra ones, sorted, times clamped, no
// names of owners and no setuid bits.
func (s *sifted) write(w io.Writer, raw string) error {
	f, err := os.Open(raw)
	if err != nil {
		return err
	}
	defer f.Close()
	have := map[string]bool{}
	for _, h := range s.headers {
		have[h.Name] = true
	}
	headers := slices.Clone(s.headers)
	content := map[string][]byte{}
	for _, e := range withParents(slices.Clone(s.extra)) {
		name := strings.TrimSuffix(e.name, "/")
		if have[name] {
			continue
		}
		h := &tar.Header{Name: name, Mode: e.mode, ModTime: created, Typeflag: tar.TypeReg, Size: int64(len(e.data))}
		switch {
		case name != e.name:
			h.Typeflag = tar.TypeDir
		case e.link != "":
			h.Typeflag, h.Linkname = tar.TypeSymlink, e.link
		}
		headers, content[name] = append(headers, h), e.data
	}
	slices.SortFunc(headers, func(a, b *tar.Header) int { return strings.Compare(a.Name, b.Name) })
	tw := tar.NewWriter(w)
	for _, h := range headers {
		out := &tar.Header{
			Name: h.Name, Linkname: h.Linkname, Typeflag: h.Typeflag, Size: h.Size,
			Mode: h.Mode & 0o1777, Uid: h.Uid, Gid: h.Gid, ModTime: clamp(h.ModTime),
		}
		if h.Typeflag == tar.TypeDir {
			out.Name += "/"
		}
		if err := tw.WriteHeader(out); err != nil {
			return fmt.Errorf("writing %s: %w", h.Name, err)
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		var from io.Reader = io.NewSectionReader(f, s.offsets[h.Name], h.Size)
		if data, ok := content[h.Name]; ok {
			from = bytes.NewReader(data)
		}
		if _, err := io.Copy(tw, from); err != nil {
			return fmt.Errorf("writing %s: %w", h.Name, err)
		}
	}
	return tw.Close()
}

func clamp(t time.Time) time.Time {
	if t.After(created) {
		return created
	}
	return t.Truncate(time.Second)
}
