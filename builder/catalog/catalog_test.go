//go:build cgo && libsqlite3

package catalog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/prose-im/prose-image/builder/output"
	"github.com/prose-im/prose-image/builder/publish"
)

func opened(t *testing.T, dir string) *Catalog {
	t.Helper()
	c, err := Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

var noon = time.Date(2026, 11, 28, 12, 0, 0, 123456789, time.UTC)

// release is an id as long as real ones.
func release(letter string) string { return strings.Repeat(letter, 64) }

func bakeOf(letter, dir string, formats ...string) Bake {
	b := Bake{Release: release(letter), Name: "prose", Version: "1", Arch: "amd64", Recipe: "r" + letter, Lock: "l" + letter, Tool: "v1", At: noon}
	for _, f := range formats {
		b.Artifacts = append(b.Artifacts, Artifact{Platform: "generic", Format: f, Path: filepath.Join(dir, letter+"."+f), Size: 4, SHA256: "sum of " + letter + f})
	}
	return b
}

func record(t *testing.T, c *Catalog, b Bake) {
	t.Helper()
	if err := c.Record(t.Context(), b); err != nil {
		t.Fatal(err)
	}
}

// All that is written is there for who opens the catalog next, whatever the
// length of its path.
func TestWhatIsWrittenStays(t *testing.T) {
	ctx := t.Context()
	dir := filepath.Join(t.TempDir(), strings.Repeat("long/", 40))
	c := opened(t, dir)
	record(t, c, bakeOf("a", "/out", "raw", "qcow2"))
	record(t, c, bakeOf("b", "/out", "raw"))
	record(t, c, bakeOf("a", "/out", "raw"))
	if _, err := c.SetChannel(ctx, "stable", "aaaa"); err != nil {
		t.Fatal(err)
	}
	want := Reference{Release: release("a"), SHA256: "sum of araw", Target: "aws", Region: "eu-west-3", ID: "ami-1", URL: "https://example.org/", At: noon}
	if err := c.AddReference(ctx, want); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}

	c = opened(t, dir)
	releases, err := c.Releases(ctx)
	if err != nil || len(releases) != 2 {
		t.Fatalf("%d releases, %v", len(releases), err)
	}
	r := releases[0]
	if r.Release != release("a") || len(r.Bakes) != 2 || !r.Bakes[0].At.Equal(noon) || r.Bakes[0].Recipe != "ra" || len(r.Artifacts) != 2 {
		t.Errorf("the last baked is %+v", r)
	}
	if a := r.Artifacts[1]; a.Path != "/out/a.raw" || a.Size != 4 || a.SHA256 != "sum of araw" || a.Platform != "generic" || a.Format != "raw" {
		t.Errorf("artifact %+v", a)
	}
	if !reflect.DeepEqual(r.Channels, []string{"stable"}) || !reflect.DeepEqual(r.References, []Reference{want}) {
		t.Errorf("channels %q, references %+v", r.Channels, r.References)
	}
	if err := c.RemoveReference(ctx, "aws", "eu-west-3", "ami-1"); err != nil {
		t.Fatal(err)
	}
	if refs, err := c.References(ctx); err != nil || len(refs) != 0 {
		t.Errorf("references %+v, %v", refs, err)
	}
}

func TestRecordRefuses(t *testing.T) {
	c := opened(t, t.TempDir())
	b := bakeOf("a", "out", "raw")
	if err := c.Record(t.Context(), b); err == nil || !strings.Contains(err.Error(), "not absolute") {
		t.Errorf("a relative path: %v", err)
	}
	b = bakeOf("a", "/out")
	b.Name = "pro\x00se"
	if err := c.Record(t.Context(), b); err == nil || !strings.Contains(err.Error(), "zero byte") {
		t.Errorf("a zero byte: %v", err)
	}
	if releases, err := c.Releases(t.Context()); err != nil || len(releases) != 0 {
		t.Errorf("%+v, %v", releases, err)
	}
}

func TestChannels(t *testing.T) {
	ctx := t.Context()
	c := opened(t, t.TempDir())
	record(t, c, bakeOf("a", "/out"))
	record(t, c, bakeOf("b", "/out"))
	record(t, c, bakeOf("bb"[:1]+"c", "/out"))
	for _, to := range []string{"a", "a", release("b")} {
		if _, err := c.SetChannel(ctx, "candidate", to); err != nil {
			t.Fatal(err)
		}
	}
	// A channel can follow another.
	if ch, err := c.SetChannel(ctx, "stable", "candidate"); err != nil || ch.Release != release("b") {
		t.Errorf("stable: %+v, %v", ch, err)
	}
	if err := c.RemoveChannel(ctx, "candidate"); err != nil {
		t.Fatal(err)
	}
	history, err := c.History(ctx, "candidate")
	var went []string
	for _, h := range history {
		went = append(went, h.Release)
	}
	if err != nil || !reflect.DeepEqual(went, []string{"", release("b"), release("a")}) {
		t.Errorf("candidate went to %q, %v", went, err)
	}
	if channels, err := c.Channels(ctx); err != nil || len(channels) != 1 || channels[0].Name != "stable" {
		t.Errorf("%+v, %v", channels, err)
	}

	var unknown *UnknownReleaseError
	if _, err := c.SetChannel(ctx, "stable", "b"); !errors.As(err, &unknown) || unknown.Fitting != 2 {
		t.Errorf("two releases fit: %v", err)
	}
	if _, err := c.SetChannel(ctx, "stable", "x"); !errors.As(err, &unknown) || unknown.Fitting != 0 {
		t.Errorf("none fits: %v", err)
	}
	var name *ChannelNameError
	if _, err := c.SetChannel(ctx, "Stable", "a"); !errors.As(err, &name) {
		t.Errorf("a bad name: %v", err)
	}
	var none *UnknownChannelError
	if err := c.RemoveChannel(ctx, "candidate"); !errors.As(err, &none) {
		t.Errorf("removed twice: %v", err)
	}
	if _, err := c.History(ctx, "beta"); !errors.As(err, &none) {
		t.Errorf("a history of nothing: %v", err)
	}
}

func TestJournal(t *testing.T) {
	ctx := t.Context()
	var j publish.Journal = opened(t, t.TempDir()).Journal()
	entries := []publish.Entry{
		{Operation: "b", Stage: "upload", Call: "put", Kind: publish.Intent, Data: []byte(`{"size": 4}`), At: noon},
		{Operation: "b", Stage: "upload", Call: "put", Kind: publish.Result, At: noon.Add(1)},
		{Operation: "a", Stage: "upload", Call: "put é", Kind: publish.Intent, Data: []byte("null")},
	}
	for _, e := range entries {
		if err := j.Append(ctx, e); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := j.Entries(ctx, "b"); err != nil || !reflect.DeepEqual(got, entries[:2]) {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := j.Entries(ctx, "a"); err != nil || !reflect.DeepEqual(got, entries[2:]) {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := j.Operations(ctx); err != nil || !reflect.DeepEqual(got, []string{"b", "a"}) {
		t.Errorf("%q, %v", got, err)
	}
	for what, e := range map[string]publish.Entry{
		"no operation": {Kind: publish.Intent},
		"no JSON":      {Operation: "c", Kind: publish.Intent, Data: []byte("{")},
		"kind":         {Operation: "c", Kind: "guess"},
		"zero byte":    {Operation: "c\x00", Kind: publish.Intent},
	} {
		if err := j.Append(ctx, e); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestLeases(t *testing.T) {
	ctx := t.Context()
	c := opened(t, t.TempDir())
	first, err := c.Acquire(ctx, "bake", time.Hour)
	if err != nil || first.Token != 1 {
		t.Fatalf("%+v, %v", first, err)
	}
	if other, err := c.Acquire(ctx, "another", time.Hour); err != nil || other.Token != 1 {
		t.Errorf("another key: %+v, %v", other, err)
	}
	var held *HeldError
	if _, err := c.Acquire(ctx, "bake", time.Hour); !errors.As(err, &held) || !held.Until.Equal(first.Until) {
		t.Errorf("taken twice: %v", err)
	}
	if err := c.Under(first).Record(ctx, bakeOf("a", "/out")); err != nil {
		t.Errorf("the holder cannot write: %v", err)
	}
	if first, err = c.Renew(ctx, first, time.Millisecond); err != nil {
		t.Fatal(err)
	}

	// Its end is a moment away; then somebody else can have it.
	var second Lease
	for deadline := time.Now().Add(10 * time.Second); ; {
		second, err = c.Acquire(ctx, "bake", time.Hour)
		if err == nil || time.Now().After(deadline) {
			break
		}
	}
	if err != nil || second.Token != 2 {
		t.Fatalf("%+v, %v", second, err)
	}
	var fenced *FencedError
	if err := c.Under(first).Record(ctx, bakeOf("b", "/out")); !errors.As(err, &fenced) || fenced.Newest != 2 {
		t.Errorf("a write with an old token: %v", err)
	}
	if err := c.Under(first).Journal().Append(ctx, publish.Entry{Operation: "x", Kind: publish.Intent}); !errors.As(err, &fenced) {
		t.Errorf("an entry with an old token: %v", err)
	}
	if _, err := c.Renew(ctx, first, time.Hour); !errors.As(err, &fenced) {
		t.Errorf("renewed with an old token: %v", err)
	}
	if err := c.Release(ctx, first); err != nil {
		t.Error(err)
	}
	if _, err := c.Acquire(ctx, "bake", time.Hour); !errors.As(err, &held) {
		t.Errorf("an old token gave back the lease: %v", err)
	}
	if err := c.Release(ctx, second); err != nil {
		t.Fatal(err)
	}
	if err := c.Under(second).Record(ctx, bakeOf("b", "/out")); !errors.As(err, &fenced) {
		t.Errorf("a write after giving back: %v", err)
	}
	if third, err := c.Acquire(ctx, "bake", time.Hour); err != nil || third.Token != 3 {
		t.Errorf("%+v, %v", third, err)
	}
	if releases, err := c.Releases(ctx); err != nil || len(releases) != 1 {
		t.Errorf("refused writes left something: %+v, %v", releases, err)
	}
}

func TestNewerSchema(t *testing.T) {
	dir := t.TempDir()
	c := opened(t, dir)
	err := c.write(t.Context(), func(ctx context.Context, conn *sql.Conn) error {
		_, err := conn.ExecContext(ctx, fmt.Sprintf("INSERT INTO migrations VALUES (%d)", len(migrations)+1))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	var newer *NewerError
	if _, err := Open(t.Context(), dir); !errors.As(err, &newer) || newer.Has != len(migrations)+1 {
		t.Errorf("%v", err)
	}
}

// Every version is reached from every earlier one, and its step is done once.
func TestMigrations(t *testing.T) {
	all := migrations
	defer func() { migrations = all }()
	dir := t.TempDir()
	for n := range all {
		migrations = all[:n+1]
		c := opened(t, dir)
		record(t, c, bakeOf("a", "/out"))
		c.Close()
	}
	migrations = append(all[:len(all):len(all)], []string{"ALTER TABLE bakes ADD COLUMN note TEXT NOT NULL DEFAULT ''"})
	for range 2 {
		c := opened(t, dir)
		if r, err := c.Releases(t.Context()); err != nil || len(r) != 1 {
			t.Errorf("%+v, %v", r, err)
		}
		c.Close()
	}
}

// A write that fails half-way changes nothing, and the next one goes on.
func TestAllOrNothing(t *testing.T) {
	c := opened(t, t.TempDir())
	broken := errors.New("broken")
	err := c.write(t.Context(), func(ctx context.Context, conn *sql.Conn) error {
		if _, err := conn.ExecContext(ctx, "INSERT INTO leases VALUES ('half', 1, '', 0)"); err != nil {
			return err
		}
		return broken
	})
	if !errors.Is(err, broken) {
		t.Fatal(err)
	}
	if l, err := c.Acquire(t.Context(), "half", time.Minute); err != nil || l.Token != 1 {
		t.Errorf("%+v, %v", l, err)
	}
}

// What lies in the directory is for its owner, and nothing listens elsewhere.
func TestNobodyElseCanConnect(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	opened(t, dir)
	for name, want := range map[string]os.FileMode{".": 0o700 | os.ModeDir, "socket": 0o600 | os.ModeSocket, "lock": 0o600, "node": 0o700 | os.ModeDir} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode() != want {
			t.Errorf("%s: %v, %v, want %v", name, info.Mode(), err, want)
		}
	}
	sockets, err := os.ReadFile("/proc/net/unix")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(sockets), "@prose-image-") {
		t.Errorf("an abstract socket is there:\n%s", sockets)
	}
	if !strings.Contains(string(sockets), "/socket\n") {
		t.Errorf("no socket with a path is there:\n%s", sockets)
	}
}

// go-dqlite has this process ignore SIGPIPE. What bakes start, such as Debian's
// maintainer scripts, must see broken pipes as always: Go resets it for them.
// Other signals stay as whoever started the test left them.
func TestChildrenGetSIGPIPE(t *testing.T) {
	out, err := exec.Command("grep", "SigIgn", "/proc/self/status").Output()
	if err != nil {
		t.Fatal(err)
	}
	ignored, err := strconv.ParseUint(strings.TrimSpace(strings.TrimPrefix(string(out), "SigIgn:")), 16, 64)
	if err != nil {
		t.Fatal(err)
	}
	if ignored&(1<<(unix.SIGPIPE-1)) != 0 {
		t.Errorf("SIGPIPE is ignored: %s", out)
	}
}

// Files that are not what was written are an error, not a fault and not a wait.
func TestDamage(t *testing.T) {
	good := t.TempDir()
	c := opened(t, good)
	for range 200 {
		record(t, c, bakeOf("a", "/out"))
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	files := func(dir, pattern string) []string {
		names, err := filepath.Glob(filepath.Join(dir, nodeDir, pattern))
		if err != nil || len(names) == 0 {
			t.Fatalf("%q, %v", names, err)
		}
		return names
	}
	for _, test := range []struct {
		name   string
		damage func(dir string) error
		want   string
	}{
		{"metadata", func(dir string) error {
			return os.WriteFile(filepath.Join(dir, nodeDir, "metadata1"), []byte("something else of thirty-two byte"), 0o600)
		}, "metadata1 is damaged"},
		{"two metadata files", func(dir string) error {
			b, err := os.ReadFile(filepath.Join(dir, nodeDir, "metadata1"))
			return errors.Join(err, os.WriteFile(filepath.Join(dir, nodeDir, "metadata2"), b, 0o600))
		}, "metadata2 is damaged"},
		{"a log cut short", func(dir string) error {
			logs := files(dir, "0*-0*")
			return os.Truncate(logs[len(logs)-1], 100)
		}, "load closed segment"},
		{"no snapshot", func(dir string) error {
			for _, name := range files(dir, "snapshot-*") {
				if err := os.Remove(name); err != nil {
					return err
				}
			}
			return nil
		}, "unexpected closed segment"},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.CopyFS(dir, os.DirFS(good)); err != nil {
				t.Fatal(err)
			}
			if err := test.damage(dir); err != nil {
				t.Fatal(err)
			}
			_, err := Open(t.Context(), dir)
			if err == nil || !strings.Contains(err.Error(), "starting the catalog's node in "+dir) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v", err)
			}
		})
	}
}

// Who has the lock and does not answer is waited for as long as the caller has
// time, and no longer.
func TestSomebodyElseHasTheLock(t *testing.T) {
	dir := t.TempDir()
	lock, err := os.Create(filepath.Join(dir, "lock"))
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := Open(ctx, dir); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	time.AfterFunc(50*time.Millisecond, func() { lock.Close() })
	record(t, opened(t, dir), bakeOf("a", "/out"))
}

// A full disk is named, and what was acknowledged before is there when there is
// room again.
func TestFullDisk(t *testing.T) {
	if os.Getuid() != 0 {
		t.Fatal("this test must run as root: it mounts a small file system")
	}
	small := t.TempDir()
	if err := unix.Mount("tmpfs", small, "tmpfs", 0, "size=9m"); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(small, unix.MNT_DETACH)
	dir := filepath.Join(small, "catalog")
	c := opened(t, dir)
	record(t, c, bakeOf("a", "/out"))
	n := 0
	var full *output.NoSpaceError
	for ; n < 5000; n++ {
		if err := c.Record(t.Context(), bakeOf("b", "/out", "raw")); errors.As(err, &full) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if full == nil || full.Path != filepath.Join(dir, nodeDir) {
		t.Fatalf("%d bakes found room: %v", n, full)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if err := unix.Mount("", small, "", unix.MS_REMOUNT, "size=64m"); err != nil {
		t.Fatal(err)
	}
	releases, err := opened(t, dir).Releases(t.Context())
	if err != nil || len(releases) != 2 || len(releases[0].Bakes) < n {
		t.Errorf("%d releases, %v, of %d bakes", len(releases), err, n)
	}
}
