package publish

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/prose-im/prose-image/builder/host"
)

// The rsync target makes the same directory as the directory target on another
// machine. rsync(1) has no operations for it, but options that come to the same:
//
//   - a file that another is compared with by --link-dest becomes a second name
//     of that one, on the other machine: so what was uploaded and verified in
//     .prose-publish gets its name without a further transfer;
//   - --ignore-existing replaces nothing;
//   - --checksum --dry-run compares without changing anything;
//   - --delete from an empty directory removes.
//
// There is no lock. Lists are looked at again after they were written, and made
// again when another publisher was in between.
var rsyncKind = Kind{
	Name:    "rsync",
	Address: "rsync://HOST/MODULE/DIRECTORY or [USER@]HOST:DIRECTORY",
	Doc:     "the same directory on another machine, by rsync: its daemon, or over ssh",
	Match: func(address string) bool {
		first, rest, _ := strings.Cut(address, "/")
		return strings.HasPrefix(address, "rsync://") || strings.Contains(first, ":") && !(strings.HasSuffix(first, ":") && strings.HasPrefix(rest, "/"))
	},
	Open: func(address string) (Target, string, error) {
		address = strings.TrimRight(address, "/")
		if !rsyncAddress.MatchString(address) {
			return nil, "", &BadAddressError{address, "neither rsync:// with host, module and directory, nor host, colon and directory, in plain characters"}
		}
		r := &remote{address: address, known: map[string]bool{}}
		r.rsync = r.run
		return r, address, nil
	},
}

// rsyncAddress keeps out what ssh or a remote shell would take for something
// else than a name.
var rsyncAddress = regexp.MustCompile(`^(rsync://(\w[\w.-]*@)?\w[\w.-]*(:\d+)?(/\w[\w.+~-]*)+|(\w[\w.-]*@)?\w[\w.-]*:(/?[\w.~][\w.+~-]*(/[\w.][\w.+~-]*)*))$`)

type remote struct {
	address string          // without a slash at its end
	known   map[string]bool // by file and time: whether it has the bytes that it should
	rsync   func(ctx context.Context, args ...string) ([]byte, error)
}

// run runs rsync. Its children are ssh and what that runs.
func (r *remote) run(ctx context.Context, args ...string) ([]byte, error) {
	args = append([]string{"rsync", "--timeout=300", "--no-motd"}, args...)
	if !strings.HasPrefix(r.address, "rsync://") {
		args = append(args[:1:1], append([]string{"--rsh=ssh -oBatchMode=yes"}, args[1:]...)...)
	}
	var env []string
	for _, key := range []string{"RSYNC_PASSWORD", "SSH_AUTH_SOCK"} {
		if v, ok := os.LookupEnv(key); ok {
			env = append(env, key+"="+v)
		}
	}
	out, err := host.Output(ctx, host.Command{Args: args, Env: env})
	return out, rsyncError(err)
}

// rsyncError tells what rsync(1), EXIT VALUES, calls a matter of the network
// from what will be the same next time.
func rsyncError(err error) error {
	if missing, ok := host.IsMissing(err); ok {
		return &CallError{Outcome: Failed, Err: err, Help: missing.Hint()}
	}
	var exit interface{ ExitCode() int }
	if !errors.As(err, &exit) {
		return err
	}
	switch exit.ExitCode() {
	case 10, 12, 20, 24, 30, 35, 255:
		return err
	}
	return &CallError{Outcome: Failed, Err: err, Help: "see that the directory is there and you may write to it"}
}

func (r *remote) Horizon() time.Duration { return 0 }

func (r *remote) Plan(img Image) ([]Step, error) { return (&directory{}).Plan(img) }

func (r *remote) staging(img Image) string { return hidden + "/" + Operation(r.address, img) }

// A listing is what rsync lists: relative names, with their times.
type listing map[string]listed

type listed struct {
	dir  bool
	size int64
	time time.Time
}

// listLine is generate_extended_permissions, size and time as rsync prints them
// with --list-only; the time is in UTC, for that is our TZ.
var listLine = regexp.MustCompile(`^([-dlpsbcD])\S*\s+([\d,.]+)\s+(\d{4}/\d\d/\d\d \d\d:\d\d:\d\d) (.+)$`)

func parseListing(out []byte) listing {
	l := listing{}
	for line := range bytes.Lines(out) {
		m := listLine.FindStringSubmatch(strings.TrimRight(string(line), "\n"))
		if m == nil {
			continue
		}
		size, err := strconv.ParseInt(strings.NewReplacer(",", "", ".", "").Replace(m[2]), 10, 64)
		at, terr := time.Parse("2006/01/02 15:04:05", m[3])
		if err != nil || terr != nil {
			continue
		}
		name, _, _ := strings.Cut(m[4], " -> ")
		l[name] = listed{dir: m[1] == "d", size: size, time: at}
	}
	return l
}

func (r *remote) list(ctx context.Context) (listing, error) {
	out, err := r.rsync(ctx, "--recursive", "--links", "--list-only", "--", r.address+"/")
	return parseListing(out), err
}

// mirror is a local directory with the lists and records of the remote one, and
// empty files in place of images. The caller removes it.
func (r *remote) mirror(ctx context.Context, l listing) (*directory, error) {
	dir, err := os.MkdirTemp("", "prose-publish-")
	if err != nil {
		return nil, err
	}
	d := newDirectory(dir)
	_, err = r.rsync(ctx, "--recursive", "--ignore-times", "--max-size=1m", "--exclude=/"+hidden, "--include=*/", "--include=/"+indexName, "--include=/*/*.json",
		"--include=/*/*/"+manifestName, "--include=/*/*/"+sumsName, "--include=/*/*/"+recordsName+"/*.json", "--exclude=*", "--", r.address+"/", dir+"/")
	for name, it := range l {
		p := strings.Split(name, "/")
		if err != nil || it.dir || len(p) != 3 || !safeName.MatchString(p[0]) || !safeName.MatchString(p[1]) || !safeName.MatchString(p[2]) {
			continue
		}
		var f *os.File
		if f, err = os.OpenFile(filepath.Join(dir, name), os.O_WRONLY|os.O_CREATE, 0o600); err == nil {
			err = f.Close()
		}
	}
	if err != nil {
		os.RemoveAll(dir)
		return nil, err
	}
	return d, nil
}

// same tells whether a remote file has the bytes that a local one has.
func (r *remote) same(ctx context.Context, f File, name string, it listed) (bool, error) {
	if it.size != f.Size {
		return false, nil
	}
	key := fmt.Sprint(name, it.time, f.SHA256)
	if same, ok := r.known[key]; ok {
		return same, nil
	}
	out, err := r.rsync(ctx, "--copy-links", "--checksum", "--dry-run", "--itemize-changes", "--", f.Path, r.address+"/"+name)
	if err != nil {
		return false, err
	}
	r.known[key] = len(bytes.TrimSpace(out)) == 0
	return r.known[key], nil
}

func (r *remote) Look(ctx context.Context, img Image, _ map[string]json.RawMessage) (map[string]Seen, error) {
	l, err := r.list(ctx)
	if err != nil {
		return nil, err
	}
	d, err := r.mirror(ctx, l)
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(d.root)
	seen := map[string]Seen{}
	for _, f := range img.Files {
		final := path.Join(img.Name, img.Version, f.Name)
		if it, ok := l[final]; ok {
			same, err := r.same(ctx, f, final, it)
			if err != nil {
				return nil, err
			}
			if !same {
				seen["publish "+f.Name] = Seen{State: Conflict, Note: fmt.Sprintf("%s/%s has other bytes than %s", r.address, final, f.Path)}
				continue
			}
			seen["upload "+f.Name], seen["verify "+f.Name] = Seen{State: Done}, Seen{State: Done}
			if d.recorded(img, f) {
				seen["publish "+f.Name] = Seen{State: Done, ID: r.address + "/" + final}
			}
			continue
		}
		staged := r.staging(img) + "/" + f.Name
		if it, ok := l[staged]; ok && it.size == f.Size {
			same, known := r.known[fmt.Sprint(staged, it.time, f.SHA256)]
			if same || !known {
				seen["upload "+f.Name] = Seen{State: Done}
			}
			if same {
				seen["verify "+f.Name] = Seen{State: Done}
			}
		}
	}
	if err := d.lookIndexes(img, seen); err != nil {
		return nil, err
	}
	if _, ok := l[r.staging(img)]; !ok {
		seen[callTidy] = Seen{State: Done}
	}
	return seen, nil
}

func (r *remote) Do(ctx context.Context, img Image, s Step, _ map[string]Seen) (json.RawMessage, error) {
	switch s.Call {
	case callTidy:
		return nil, r.Remove(ctx, r.staging(img))
	case callSums, callIndex, callPoint(img):
		return nil, r.writeLists(ctx, img, s.Call)
	}
	for _, f := range img.Files {
		if f.Name != s.Part {
			continue
		}
		switch s.Stage {
		case Upload:
			return nil, r.upload(ctx, img, f)
		case Verify:
			return nil, r.verify(ctx, f, r.staging(img)+"/"+f.Name)
		case Public:
			return nil, r.publish(ctx, img, f)
		}
	}
	return nil, fmt.Errorf("BUG: rsync knows no step %q", s.Call)
}

// writeLists makes lists of the records that are there now.
func (r *remote) writeLists(ctx context.Context, img Image, call string) error {
	l, err := r.list(ctx)
	if err != nil {
		return err
	}
	d, err := r.mirror(ctx, l)
	if err != nil {
		return err
	}
	defer os.RemoveAll(d.root)
	dir := img.Name + "/" + img.Version
	switch call {
	case callSums:
		if err := d.writeSums(ctx, img); err != nil {
			return err
		}
		return r.push(ctx, d.root, dir+"/"+manifestName, dir+"/"+sumsName)
	case callIndex:
		if err := d.writeIndex(ctx, img); err != nil {
			return err
		}
		return r.push(ctx, d.root, indexName)
	}
	if err := d.writePointer(ctx, img); err != nil {
		return err
	}
	if _, err := os.Lstat(filepath.Join(d.root, img.Name, img.Channel)); err == nil {
		// Not every module takes links; the file tells as much.
		if err := r.push(ctx, d.root, img.Name+"/"+img.Channel); err != nil && ctx.Err() != nil {
			return err
		}
	}
	return r.push(ctx, d.root, img.Name+"/"+img.Channel+".json")
}

// verify has the other side read the file.
func (r *remote) verify(ctx context.Context, f File, name string) error {
	l, err := r.list(ctx)
	if err != nil {
		return err
	}
	same, err := r.same(ctx, f, name, l[name])
	if err == nil && !same {
		return &CallError{Outcome: Refused, Err: fmt.Errorf("%s/%s does not read back as what was sent", r.address, name)}
	}
	return err
}

// modes are what files and directories get, whatever they are here.
const modes = "--chmod=D755,F644"

// link puts a file of the image below a local directory, under a name.
func link(dir string, f File, name string) error {
	from, err := filepath.Abs(f.Path)
	if err != nil {
		return err
	}
	to := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	return os.Symlink(from, to)
}

// upload goes on in what is there of the file: nobody else sees it.
func (r *remote) upload(ctx context.Context, img Image, f File) error {
	dir, err := os.MkdirTemp("", "prose-publish-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	staged := r.staging(img) + "/" + f.Name
	if err := link(dir, f, staged); err != nil {
		return err
	}
	_, err = r.rsync(ctx, "--relative", "--copy-links", "--ignore-times", "--inplace", "--sparse", "--perms", modes, "--", dir+"/./"+staged, r.address+"/")
	return err
}

// publish gives what was verified its name, and then its record.
func (r *remote) publish(ctx context.Context, img Image, f File) error {
	dir, err := os.MkdirTemp("", "prose-publish-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	place := img.Name + "/" + img.Version
	records := place + "/" + recordsName + "/"
	if err := os.MkdirAll(filepath.Join(dir, records), 0o755); err != nil {
		return err
	}
	if err := r.push(ctx, dir, records); err != nil {
		return err
	}
	if err := link(dir, f, f.Name); err != nil {
		return err
	}
	_, err = r.rsync(ctx, "--copy-links", "--checksum", "--ignore-existing", "--sparse", "--link-dest=../../"+r.staging(img), "--", dir+"/"+f.Name, r.address+"/"+place+"/")
	if err != nil {
		return err
	}
	// What another publisher gave this name meanwhile is not believed.
	if err := r.verify(ctx, f, place+"/"+f.Name); err != nil {
		return err
	}
	record := records + f.Name + ".json"
	if err := os.WriteFile(filepath.Join(dir, record), encode(recordOf(img, f)), 0o644); err != nil {
		return err
	}
	return r.push(ctx, dir, record)
}

// push sends files, links and directories below a local one, one after the
// other; each file appears by rename.
func (r *remote) push(ctx context.Context, dir string, names ...string) error {
	for _, name := range names {
		_, err := r.rsync(ctx, "--relative", "--dirs", "--links", "--ignore-times", "--perms", modes, "--", dir+"/./"+name, r.address+"/")
		if err != nil {
			return err
		}
	}
	return nil
}

func (r *remote) Remove(ctx context.Context, id string) error {
	op, ok := strings.CutPrefix(id, hidden+"/")
	if !ok || !operationName.MatchString(op) {
		return fmt.Errorf("BUG: %q is nothing that rsync may remove", id)
	}
	empty, err := os.MkdirTemp("", "prose-publish-")
	if err != nil {
		return err
	}
	defer os.Remove(empty)
	_, err = r.rsync(ctx, "--recursive", "--delete", "--include=/"+op, "--include=/"+op+"/**", "--exclude=*", "--", empty+"/", r.address+"/"+hidden+"/")
	return err
}

func (r *remote) Leftovers(ctx context.Context) ([]Leftover, error) {
	l, err := r.list(ctx)
	if err != nil {
		return nil, err
	}
	return leftoversOf(l), nil
}

func leftoversOf(l listing) []Leftover {
	var left []Leftover
	for name, it := range l {
		op, ok := strings.CutPrefix(name, hidden+"/")
		if !ok || !it.dir || !operationName.MatchString(op) {
			continue
		}
		at := it.time
		for inner, i := range l {
			if strings.HasPrefix(inner, name+"/") {
				at = latest(at, i.time)
			}
		}
		left = append(left, Leftover{ID: name, Operation: op, What: "files that were not published yet", Made: at})
	}
	return left
}
