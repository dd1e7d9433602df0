package publish

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Names in a directory of images.
const (
	indexName    = "index.json"
	manifestName = "manifest.json"
	sumsName     = "SHA256SUMS"
	recordsName  = ".records"
)

// An Index lists all releases in a directory of images. docs/publishing.md
// describes it.
type Index struct {
	Schema   int       `json:"schema"` // 1
	Releases []Release `json:"releases"`
}

// A Release is all that is published under one name and version.
type Release struct {
	Schema  int      `json:"schema,omitempty"` // 1 in a manifest, none in an index
	Name    string   `json:"name"`
	Version string   `json:"version"`
	Files   []Record `json:"files"` // by name
}

// A Record is one published file.
type Record struct {
	Name     string    `json:"name,omitempty"`    // in a record of its own
	Version  string    `json:"version,omitempty"` // in a record of its own
	File     string    `json:"file"`              // relative to what it stands in
	Arch     string    `json:"arch,omitempty"`
	Platform string    `json:"platform,omitempty"`
	Format   string    `json:"format"`
	Size     int64     `json:"size"` // bytes
	SHA256   string    `json:"sha256"`
	Disk     string    `json:"disk,omitempty"`    // SHA-256 of the raw disk
	Release  string    `json:"release,omitempty"` // id of recipe and lock
	Date     time.Time `json:"date,omitzero"`     // of the lock
}

// A Pointer says which version a channel is at.
type Pointer struct {
	Schema   int    `json:"schema"` // 1
	Name     string `json:"name"`
	Channel  string `json:"channel"`
	Version  string `json:"version"`
	Manifest string `json:"manifest"` // relative to the pointer
}

func recordOf(img Image, f File) Record {
	return Record{Name: img.Name, Version: img.Version, File: f.Name, Arch: f.Arch, Platform: f.Platform, Format: f.Format,
		Size: f.Size, SHA256: f.SHA256, Disk: f.Disk, Release: f.Release, Date: f.Date}
}

func encode(v any) []byte {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		panic("BUG: " + err.Error()) // plain structs of ours
	}
	return append(b, '\n')
}

// parseRecord reads a record that lies where one of this name, version and file
// must lie.
func parseRecord(b []byte, name, version, file string) (Record, error) {
	var r Record
	if err := json.Unmarshal(b, &r); err != nil {
		return r, err
	}
	if r.Name != name || r.Version != version || r.File != file || !safeName.MatchString(file) || !hexSum.MatchString(r.SHA256) {
		return r, fmt.Errorf("it is about something else than %s %s %s", name, version, file)
	}
	return r, nil
}

func (d *directory) recordPath(img Image, f File) string {
	return filepath.Join(d.root, img.Name, img.Version, recordsName, f.Name+".json")
}

// recorded tells whether a file has its record.
func (d *directory) recorded(img Image, f File) bool {
	b, err := os.ReadFile(d.recordPath(img, f))
	if err != nil {
		return false
	}
	r, err := parseRecord(b, img.Name, img.Version, f.Name)
	return err == nil && r.SHA256 == f.SHA256
}

// release reads the records of one version. Indexes are made from records
// alone, so whoever writes one last has everything in it.
func (d *directory) release(name, version string) (Release, error) {
	rel := Release{Name: name, Version: version}
	dir := filepath.Join(d.root, name, version, recordsName)
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTDIR) {
		return rel, err
	}
	for _, e := range entries {
		file, ok := strings.CutSuffix(e.Name(), ".json")
		if !ok || !safeName.MatchString(file) {
			continue
		}
		path := filepath.Join(dir, e.Name())
		b, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return rel, err
		}
		r, err := parseRecord(b, name, version, file)
		if err != nil {
			return rel, &CallError{Outcome: Failed, Err: fmt.Errorf("reading %s: %w", path, err), Help: "remove it; publishing the file again writes it"}
		}
		// A file that its owner took away is not listed.
		if _, err := os.Lstat(filepath.Join(d.root, name, version, file)); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		r.Name, r.Version = "", ""
		rel.Files = append(rel.Files, r)
	}
	return rel, nil
}

// index reads the records of all versions; the newest of a name comes first.
func (d *directory) index() (Index, error) {
	x := Index{Schema: 1, Releases: []Release{}}
	for _, name := range directories(d.root) {
		for _, version := range directories(filepath.Join(d.root, name)) {
			r, err := d.release(name, version)
			if err != nil {
				return x, err
			}
			for i := range r.Files {
				r.Files[i].File = name + "/" + version + "/" + r.Files[i].File
			}
			if len(r.Files) > 0 {
				x.Releases = append(x.Releases, r)
			}
		}
	}
	slices.SortStableFunc(x.Releases, func(a, b Release) int {
		if c := compareText(a.Name, b.Name); c != 0 {
			return c
		}
		return CompareVersions(b.Version, a.Version)
	})
	return x, nil
}

// directories lists those in dir that can be a name or a version, by name.
func directories(dir string) (names []string) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if e.IsDir() && safeName.MatchString(e.Name()) {
			names = append(names, e.Name())
		}
	}
	return names
}

func (r Release) manifest() []byte {
	r.Schema = 1
	return encode(r)
}

// sums are what sha256sum -c reads.
func (r Release) sums() []byte {
	var b bytes.Buffer
	for _, f := range r.Files {
		fmt.Fprintf(&b, "%s  %s\n", f.SHA256, f.File)
	}
	return b.Bytes()
}

func holds(name string, content []byte) bool {
	b, err := os.ReadFile(name)
	return err == nil && bytes.Equal(b, content)
}

func (d *directory) lookIndexes(img Image, seen map[string]Seen) error {
	rel, err := d.release(img.Name, img.Version)
	if err != nil {
		return err
	}
	dir := filepath.Join(d.root, img.Name, img.Version)
	if holds(filepath.Join(dir, manifestName), rel.manifest()) && holds(filepath.Join(dir, sumsName), rel.sums()) {
		seen[callSums] = Seen{State: Done}
	}
	x, err := d.index()
	if err != nil {
		return err
	}
	if holds(filepath.Join(d.root, indexName), encode(x)) {
		seen[callIndex] = Seen{State: Done}
	}
	if img.Channel != "" && d.pointed(img) {
		seen[callPoint(img)] = Seen{State: Done}
	}
	return nil
}

func (d *directory) writeSums(ctx context.Context, img Image) error {
	rel, err := d.release(img.Name, img.Version)
	if err != nil {
		return err
	}
	dir := filepath.Join(d.root, img.Name, img.Version)
	if err := d.put(ctx, img, filepath.Join(dir, manifestName), rel.manifest()); err != nil {
		return err
	}
	return d.put(ctx, img, filepath.Join(dir, sumsName), rel.sums())
}

func (d *directory) writeIndex(ctx context.Context, img Image) error {
	x, err := d.index()
	if err != nil {
		return err
	}
	return d.put(ctx, img, filepath.Join(d.root, indexName), encode(x))
}

func (d *directory) pointerPath(img Image) string {
	return filepath.Join(d.root, img.Name, img.Channel+".json")
}

// pointed tells whether the channel is at this version or a newer one. A
// version that its owner took away does not count.
func (d *directory) pointed(img Image) bool {
	b, err := os.ReadFile(d.pointerPath(img))
	if err != nil {
		return false
	}
	var p Pointer
	if json.Unmarshal(b, &p) != nil || p.Name != img.Name || p.Channel != img.Channel || !safeName.MatchString(p.Version) || CompareVersions(p.Version, img.Version) < 0 {
		return false
	}
	_, err = os.Stat(filepath.Join(d.root, p.Name, p.Version, manifestName))
	return err == nil
}

func (d *directory) writePointer(ctx context.Context, img Image) error {
	if d.pointed(img) {
		return nil
	}
	// The link first: the file tells that both were done. Where a file system
	// has no links, or something else has the name, the file is all there is.
	link := filepath.Join(d.root, img.Name, img.Channel)
	if info, err := os.Lstat(link); errors.Is(err, fs.ErrNotExist) || err == nil && info.Mode()&fs.ModeSymlink != 0 {
		temp := filepath.Join(d.staging(img), fmt.Sprintf("%d.link.part", os.Getpid()))
		if err := d.files.mkdirs(d.root, filepath.Dir(temp)); err != nil {
			return err
		}
		_ = os.Remove(temp)
		err := d.files.op("symlink", temp, func() error { return os.Symlink(img.Version, temp) })
		if err == nil {
			err = d.files.replace(temp, link)
		}
		if err != nil && !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.ENOSYS) {
			return err
		}
	}
	p := Pointer{Schema: 1, Name: img.Name, Channel: img.Channel, Version: img.Version, Manifest: img.Version + "/" + manifestName}
	return d.put(ctx, img, d.pointerPath(img), encode(p))
}
