package publish

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/prose-im/prose-image/builder/output"
)

// The directory target, also on NFS. It relies on what NFS has: rename and link
// are atomic, a closed file is seen by who opens it then, directories can be
// synced. It takes no kernel lock.
//
//	index.json                        all releases
//	NAME/CHANNEL.json, NAME/CHANNEL   pointer: a file, and a symbolic link
//	NAME/VERSION/FILE
//	NAME/VERSION/manifest.json        the files of the version
//	NAME/VERSION/SHA256SUMS           the same, for sha256sum -c
//	NAME/VERSION/.records/FILE.json   what the three above are made from
//	.prose-publish/OPERATION/         what is not public yet
//	.prose-publish/lock               while an index is written
var directoryKind = Kind{
	Name:    "directory",
	Address: "DIRECTORY or file:///DIRECTORY",
	Doc:     "a directory, also one mounted from NFS, for any web server: files by version, checksums, an index, a pointer to the latest",
	Match: func(address string) bool {
		first, _, _ := strings.Cut(address, "/")
		return strings.HasPrefix(address, "file:") || address != "" && !strings.Contains(first, ":")
	},
	Open: func(address string) (Target, string, error) {
		root := address
		if strings.HasPrefix(address, "file:") {
			u, err := url.Parse(address)
			if err != nil || u.Host != "" && u.Host != "localhost" || !filepath.IsAbs(u.Path) || u.RawQuery != "" || u.Fragment != "" {
				return nil, "", &BadAddressError{address, "it is not file:/// and an absolute path"}
			}
			root = u.Path
		}
		root, err := filepath.Abs(root)
		if err != nil {
			return nil, "", err
		}
		d := newDirectory(root)
		return d, d.address(), nil
	},
}

// hidden holds what is not public. What is in it is ours.
const hidden = ".prose-publish"

// reserved are names in a version's directory that are no artifacts.
var reserved = []string{manifestName, sumsName}

type directory struct {
	root  string
	files files
	known map[string]sighting // by path
	me    holder
	stale time.Duration // age at which a lock has no owner
}

// A sighting is a file as it was when its sum was taken.
type sighting struct {
	size    int64
	mtime   time.Time
	inode   uint64
	ctime   unix.Timespec
	content string // sha256
}

func newDirectory(root string) *directory {
	return &directory{
		root: root, files: files{chunk: 1 << 20}, known: map[string]sighting{}, stale: time.Minute,
		me: holder{Owner: fmt.Sprintf("%016x", rand.Uint64()), Where: here(), PID: os.Getpid()},
	}
}

func (d *directory) address() string        { return (&url.URL{Scheme: "file", Path: d.root}).String() }
func (d *directory) Horizon() time.Duration { return 0 }

func (d *directory) staging(img Image) string {
	return filepath.Join(d.root, hidden, Operation(d.address(), img))
}

func (d *directory) final(img Image, f File) string {
	return filepath.Join(d.root, img.Name, img.Version, f.Name)
}

const (
	callSums  = "write manifest.json and SHA256SUMS"
	callIndex = "write index.json"
	callTidy  = "tidy up"
)

func callPoint(img Image) string { return "point " + img.Channel + " to " + img.Version }

func (d *directory) Plan(img Image) ([]Step, error) {
	var steps []Step
	for _, s := range []struct {
		stage Stage
		verb  string
	}{{Upload, "upload "}, {Verify, "verify "}, {Public, "publish "}} {
		for _, f := range img.Files {
			steps = append(steps, Step{Stage: s.stage, Call: s.verb + f.Name, Part: f.Name, Again: true})
		}
	}
	finish := []string{callSums, callIndex}
	if img.Channel != "" {
		finish = append(finish, callPoint(img))
	}
	for _, call := range append(finish, callTidy) {
		steps = append(steps, Step{Stage: Finish, Call: call, Again: true})
	}
	return steps, nil
}

func (d *directory) Look(ctx context.Context, img Image, _ map[string]json.RawMessage) (map[string]Seen, error) {
	if info, err := os.Stat(d.root); err != nil {
		return nil, &CallError{Outcome: Failed, Err: err, Help: "mkdir -p " + d.root + " if it is the right place, and mount what belongs there"}
	} else if !info.IsDir() {
		return nil, &CallError{Outcome: Failed, Err: fmt.Errorf("%s is no directory", d.root)}
	}
	seen := map[string]Seen{}
	for _, f := range img.Files {
		if err := d.lookFile(ctx, img, f, seen); err != nil {
			return nil, err
		}
	}
	if err := d.lookIndexes(img, seen); err != nil {
		return nil, err
	}
	if _, err := os.Lstat(d.staging(img)); errors.Is(err, fs.ErrNotExist) {
		seen[callTidy] = Seen{State: Done}
	}
	return seen, nil
}

func (d *directory) lookFile(ctx context.Context, img Image, f File, seen map[string]Seen) error {
	final := d.final(img, f)
	info, err := os.Lstat(final)
	switch {
	case err == nil:
		s := sighting{}
		if info.Mode().IsRegular() {
			if s, err = d.sum(ctx, final); err != nil {
				return err
			}
		}
		if s.content != f.SHA256 {
			seen["publish "+f.Name] = Seen{State: Conflict, Note: fmt.Sprintf("%s has sha256 %s, not %s", final, orNone(s.content), f.SHA256)}
			return nil
		}
		seen["upload "+f.Name] = Seen{State: Done}
		seen["verify "+f.Name] = Seen{State: Done}
		if d.recorded(img, f) {
			seen["publish "+f.Name] = Seen{State: Done, ID: final}
		}
		return nil
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	staged := filepath.Join(d.staging(img), f.Name)
	info, err = os.Lstat(staged)
	if err != nil || info.Size() != f.Size {
		return nil
	}
	switch s, ok := d.known[staged]; {
	case !ok || !s.same(info):
		seen["upload "+f.Name] = Seen{State: Done}
	case s.content == f.SHA256:
		seen["upload "+f.Name] = Seen{State: Done}
		seen["verify "+f.Name] = Seen{State: Done}
	}
	return nil
}

func orNone(sum string) string {
	if sum == "" {
		return "none, for it is no file"
	}
	return sum
}

func sight(info fs.FileInfo) sighting {
	s := sighting{size: info.Size(), mtime: info.ModTime()}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		s.inode, s.ctime = st.Ino, unix.Timespec(st.Ctim)
	}
	return s
}

func (s sighting) same(info fs.FileInfo) bool {
	now := sight(info)
	now.content = s.content
	return now == s
}

// sum is what a file has in it. A file that is as it was is not read again.
func (d *directory) sum(ctx context.Context, name string) (sighting, error) {
	info, err := os.Lstat(name)
	if err != nil {
		return sighting{}, err
	}
	if s, ok := d.known[name]; ok && s.same(info) {
		return s, nil
	}
	s := sight(info)
	if _, s.content, err = sumFile(ctx, name); err != nil {
		return sighting{}, err
	}
	d.known[name] = s
	return s, nil
}

func (d *directory) Do(ctx context.Context, img Image, s Step, _ map[string]Seen) (json.RawMessage, error) {
	return nil, explain(d.do(ctx, img, s), d.root)
}

func (d *directory) do(ctx context.Context, img Image, s Step) error {
	switch s.Call {
	case callSums:
		return d.locked(ctx, img, func() error { return d.writeSums(ctx, img) })
	case callIndex:
		return d.locked(ctx, img, func() error { return d.writeIndex(ctx, img) })
	case callPoint(img):
		return d.locked(ctx, img, func() error { return d.writePointer(ctx, img) })
	case callTidy:
		if lock := d.deadLock(); lock != nil {
			if err := d.files.mkdirs(d.root, d.staging(img)); err != nil {
				return err
			}
			if err := d.takeAway(d.lockPath(), filepath.Join(d.staging(img), "dead.part"), lock); err != nil {
				return err
			}
		}
		return d.files.removeAll(d.staging(img))
	}
	for _, f := range img.Files {
		if f.Name != s.Part {
			continue
		}
		switch s.Stage {
		case Upload:
			return d.upload(ctx, img, f)
		case Verify:
			staged := filepath.Join(d.staging(img), f.Name)
			got, err := d.sum(ctx, staged)
			if err == nil && got.content != f.SHA256 {
				err = &CallError{Outcome: Refused, Err: fmt.Errorf("%s reads back as sha256 %s, not %s", staged, got.content, f.SHA256)}
			}
			return err
		case Public:
			return d.publish(ctx, img, f)
		}
	}
	return fmt.Errorf("BUG: a directory knows no step %q", s.Call)
}

func (d *directory) upload(ctx context.Context, img Image, f File) error {
	dir := d.staging(img)
	if err := d.files.mkdirs(d.root, dir); err != nil {
		return err
	}
	if err := output.CheckSpace(filepath.Join(dir, f.Name), used(f.Path)); err != nil {
		return err
	}
	in, err := os.Open(f.Path)
	if err != nil {
		return &CallError{Outcome: Failed, Err: err}
	}
	defer in.Close()
	temp, sum, err := d.files.temp(ctx, dir, in)
	if err != nil {
		return err
	}
	if sum != f.SHA256 {
		_ = os.Remove(temp)
		return &CallError{Outcome: Failed, Err: &ChangedError{f.Path, fmt.Sprintf("its sha256 became %s", sum)}}
	}
	return d.files.replace(temp, filepath.Join(dir, f.Name))
}

// publish gives a verified file its name, and then its record.
func (d *directory) publish(ctx context.Context, img Image, f File) error {
	final := d.final(img, f)
	if err := d.files.mkdirs(d.root, filepath.Join(filepath.Dir(final), recordsName)); err != nil {
		return err
	}
	if _, err := os.Lstat(final); errors.Is(err, fs.ErrNotExist) {
		if err := d.files.place(filepath.Join(d.staging(img), f.Name), final); err != nil {
			return err
		}
	}
	// What another process placed meanwhile is looked at, not believed.
	if s, err := d.sum(ctx, final); err != nil || s.content != f.SHA256 {
		return errors.Join(err, fmt.Errorf("%s is there and has sha256 %s", final, orNone(s.content)))
	}
	return d.put(ctx, img, d.recordPath(img, f), encode(recordOf(img, f)))
}

// put writes a small file, whole or not at all. Its temporary name is in the
// staging directory, so that a crash leaves nothing where people look.
func (d *directory) put(ctx context.Context, img Image, name string, content []byte) error {
	dir := d.staging(img)
	if err := d.files.mkdirs(d.root, dir); err != nil {
		return err
	}
	temp, _, err := d.files.temp(ctx, dir, strings.NewReader(string(content)))
	if err != nil {
		return err
	}
	return d.files.replace(temp, name)
}

func (d *directory) Leftovers(ctx context.Context) ([]Leftover, error) {
	entries, err := os.ReadDir(filepath.Join(d.root, hidden))
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(d.root); err != nil {
			return nil, err
		}
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var left []Leftover
	for _, e := range entries {
		l := Leftover{ID: filepath.Join(hidden, e.Name()), Operation: e.Name(), What: "files that were not published yet"}
		switch {
		case e.Name() == lockName:
			l.Operation, l.What = "", "a lock that nobody gave back"
		case !operationName.MatchString(e.Name()) || !e.IsDir():
			continue // not ours
		}
		err := filepath.WalkDir(filepath.Join(d.root, l.ID), func(_ string, e fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := e.Info()
			if err == nil {
				l.Made = latest(l.Made, info.ModTime())
			}
			return err
		})
		if errors.Is(err, fs.ErrNotExist) {
			continue // it is in use, or just went
		}
		if err != nil {
			return nil, err
		}
		left = append(left, l)
	}
	return left, nil
}

func (d *directory) Remove(_ context.Context, id string) error {
	dir, name := filepath.Split(id)
	if filepath.Clean(dir) != hidden || name != lockName && !operationName.MatchString(name) {
		return fmt.Errorf("BUG: %q is nothing that a directory may remove", id)
	}
	return explain(d.files.removeAll(filepath.Join(d.root, id)), d.root)
}

// explain tells errors that trying again does not mend from others.
func explain(err error, root string) error {
	var known *CallError
	if err == nil || errors.As(err, &known) || errors.Is(err, context.Canceled) {
		return err
	}
	err = output.Explain(err, filepath.Join(root, hidden), 0)
	var full *output.NoSpaceError
	if errors.As(err, &full) {
		return &CallError{Outcome: Failed, Help: full.Hint(), Err: err}
	}
	for _, e := range []error{unix.EACCES, unix.EPERM, unix.EROFS, unix.ENAMETOOLONG, unix.EFBIG} {
		if errors.Is(err, e) {
			return &CallError{Outcome: Failed, Err: err, Help: "see that you may write to " + root}
		}
	}
	return err
}

// used is what a file takes on disk, holes left out.
func used(name string) int64 {
	info, err := os.Stat(name)
	if err != nil {
		return 0
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Blocks * 512
	}
	return info.Size()
}
