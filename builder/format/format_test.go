package format

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/prose-im/prose-image/builder/output"
)

func run(t *testing.T, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath(args[0]); err != nil {
		t.Fatalf("%s is not installed: install the Debian packages qemu-utils, zstd and util-linux", args[0])
	}
	out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%q: %v\n%s", args, err, out)
	}
	return string(out)
}

// A spot is a range of a disk and how it is filled.
type spot struct {
	at, size int64
	kind     string // noise, text, far, half, zeros
}

func fill(kind string, seed uint64, n int64) []byte {
	b := make([]byte, n)
	var s [32]byte
	binary.LittleEndian.PutUint64(s[:], seed)
	noise := rand.NewChaCha8(s)
	switch kind {
	case "noise":
		noise.Read(b)
	case "text":
		words := strings.Fields("the quick brown fox jumps over a lazy dog and says nothing at all")
		r := rand.New(noise)
		for i := 0; i < len(b); {
			i += copy(b[i:], words[r.IntN(len(words))]+" ")
		}
	case "half": // of each cluster compresses to nothing
		noise.Read(b)
		for i := range b {
			if i%clusterSize > clusterSize*5/8 {
				b[i] = 'x'
			}
		}
	case "far": // repeats that are further apart than the window of qcow2
		noise.Read(b[:min(n, 3*deflateWindow)])
		for i := 3 * deflateWindow; i < len(b); i++ {
			b[i] = b[i-3*deflateWindow]
		}
	}
	return b
}

// disk makes a sparse file.
func disk(t *testing.T, size int64, spots ...spot) string {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "disk.raw"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	for i, s := range spots {
		if _, err := f.WriteAt(fill(s.kind, uint64(i), s.size), s.at); err != nil {
			t.Fatal(err)
		}
	}
	return f.Name()
}

func lookup(t *testing.T, name string) Format {
	t.Helper()
	f, err := Lookup(name)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// convertChecked makes an artifact and has outside tools judge it.
func convertChecked(t *testing.T, name, src string) Artifact {
	t.Helper()
	f := lookup(t, name)
	dst := filepath.Join(t.TempDir(), "out."+f.Ext)
	a, err := Convert(t.Context(), f, src, dst, Options{})
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(dst)
	if err != nil {
		t.Fatal(err)
	}
	sum, _, _ := strings.Cut(run(t, "sha256sum", dst), " ")
	if want := (Artifact{Path: dst, Format: name, Size: info.Size(), SHA256: sum}); a != want {
		t.Errorf("got %+v, want %+v", a, want)
	}
	switch name {
	case "raw":
		run(t, "cmp", src, dst)
	case "raw.zst":
		run(t, "sh", "-c", `zstd -dc "$1" | cmp - "$2"`, "sh", dst, src)
	case "raw.gz":
		run(t, "sh", "-c", `gzip -dc "$1" | cmp - "$2"`, "sh", dst, src)
	case "qcow2":
		checkQcow2(t, dst, src)
	default:
		t.Errorf("nothing here checks %s", name)
	}
	return a
}

func checkQcow2(t *testing.T, path, src string) {
	t.Helper()
	var check struct {
		CheckErrors      int `json:"check-errors"`
		Leaks, Corrupted int
		ImageEndOffset   int64 `json:"image-end-offset"`
	}
	if err := json.Unmarshal([]byte(run(t, "qemu-img", "check", "--output=json", path)), &check); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if check.CheckErrors != 0 || check.Leaks != 0 || check.Corrupted != 0 || check.ImageEndOffset != info.Size() {
		t.Errorf("qemu-img check: %+v of %d bytes", check, info.Size())
	}
	if out := run(t, "qemu-img", "compare", "-f", "raw", "-F", "qcow2", src, path); !strings.Contains(out, "Images are identical.") {
		t.Error(out)
	}
}

func TestFormats(t *testing.T) {
	const kib, mib = 1 << 10, 1 << 20
	for _, c := range []struct {
		name  string
		size  int64
		spots []spot
	}{
		{"one sector", 512, []spot{{0, 512, "noise"}}},
		{"empty", 10 * mib, nil},
		{"zeros that are stored", 3 * mib, []spot{{0, 3 * mib, "zeros"}}},
		{"no whole cluster", 5*mib + 512, []spot{{0, 100, "text"}, {5 * mib, 512, "noise"}}},
		{"noise", 4 * mib, []spot{{0, 4 * mib, "noise"}}},
		{"text", 8 * mib, []spot{{0, 8 * mib, "text"}}},
		{"noise and text in turn", 9 * mib, []spot{
			{0, 9 * mib, "text"}, {64 * kib, 64 * kib, "noise"}, {200 * kib, 500 * kib, "noise"}, {mib, 64 * kib, "noise"},
			{2 * mib, 64 * kib, "noise"}, {3 * mib, 3 * mib, "noise"}, {7 * mib, 64 * kib, "zeros"}, {9*mib - 64*kib, 64 * kib, "noise"},
		}},
		{"noise last, after text", 3 * mib, []spot{{0, 2 * mib, "text"}, {2 * mib, mib, "noise"}}},
		{"text last, after noise", 3 * mib, []spot{{0, 2 * mib, "noise"}, {2 * mib, mib, "text"}}},
		{"far apart", 60 * mib, []spot{{0, 1000, "text"}, {31*mib + 5, 2 * mib, "text"}, {60*mib - 700, 700, "noise"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			src := disk(t, c.size, c.spots...)
			for _, f := range All {
				convertChecked(t, f.Name, src)
			}
		})
	}
}

// Disks of every kind, in every format: what outside tools read is the disk.
// What was packed comes out again, with its holes, and half a file is an error.
func TestUnpack(t *testing.T) {
	src := disk(t, 9<<20+512, spot{0, 1 << 20, "noise"}, spot{5 << 20, 70000, "text"})
	want, err := os.ReadFile(src)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range All[1:] {
		dir := t.TempDir()
		packed := convertChecked(t, f.Name, src).Path
		raw := filepath.Join(dir, "raw")
		if err := Unpack(t.Context(), f.Name, packed, raw); err != nil {
			t.Fatalf("%s: %v", f.Name, err)
		}
		got, err := os.ReadFile(raw)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes, %v", f.Name, len(got), err)
		}
		var st syscall.Stat_t
		if err := syscall.Stat(raw, &st); err != nil || st.Blocks*512 > 3<<20 {
			t.Errorf("%s: %d bytes on disk, %v", f.Name, st.Blocks*512, err)
		}
		whole, err := os.ReadFile(packed)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range []int{0, 3, len(whole) / 2} {
			if f.Name == "qcow2" && n > 3 {
				continue // qemu-img takes what is missing for zeros
			}
			half := filepath.Join(dir, fmt.Sprint("half", n))
			if err := os.WriteFile(half, whole[:n], 0o644); err != nil {
				t.Fatal(err)
			}
			if err := Unpack(t.Context(), f.Name, half, half+".raw"); err == nil {
				t.Errorf("%s: %d of %d bytes are a disk", f.Name, n, len(whole))
			}
		}
	}
}

func TestRandomDisks(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for i := range 12 {
		size := (r.Int64N(20<<20)/512 + 1) * 512
		var spots []spot
		for range r.IntN(30) {
			at := r.Int64N(size)
			n := min(r.Int64N(1<<r.IntN(22))+1, size-at)
			spots = append(spots, spot{at, n, []string{"noise", "text", "far", "half", "zeros"}[r.IntN(5)]})
		}
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			src := disk(t, size, spots...)
			for _, f := range All {
				convertChecked(t, f.Name, src)
			}
		})
	}
}

// The same disk gives the same file: on one processor or several, with holes or
// with zeros in their place.
func TestDeterminism(t *testing.T) {
	// The end lies within a cluster.
	src := disk(t, 20<<20+512, spot{0, 6 << 20, "text"}, spot{8 << 20, 1 << 20, "noise"}, spot{10<<20 + 777, 2 << 20, "far"}, spot{20 << 20, 512, "text"})
	dense := filepath.Join(t.TempDir(), "dense")
	run(t, "cp", "--sparse=never", src, dense)
	for _, f := range All {
		first := convertChecked(t, f.Name, src)
		for _, procs := range []int{1, 4} {
			before := runtime.GOMAXPROCS(procs)
			again := convertChecked(t, f.Name, map[int]string{1: dense, 4: src}[procs])
			runtime.GOMAXPROCS(before)
			if first.SHA256 != again.SHA256 {
				t.Errorf("%s differs with %d processors", f.Name, procs)
			}
		}
	}
}

func TestRawKeepsHoles(t *testing.T) {
	src := disk(t, 64<<20, spot{1 << 20, 1 << 20, "noise"}, spot{8 << 20, 4 << 20, "zeros"}, spot{63 << 20, 1 << 20, "text"})
	a := convertChecked(t, "raw", src)
	var s syscall.Stat_t
	if err := syscall.Stat(a.Path, &s); err != nil {
		t.Fatal(err)
	}
	if s.Size != 64<<20 || s.Blocks*512 > 3<<20 {
		t.Errorf("%d bytes take %d", s.Size, s.Blocks*512)
	}
}

func TestQcow2Header(t *testing.T) {
	src := disk(t, 5<<20, spot{0, 1 << 20, "text"})
	a := convertChecked(t, "qcow2", src)
	var info struct {
		VirtualSize int64 `json:"virtual-size"`
		ClusterSize int   `json:"cluster-size"`
		Format      string
		Dirty       bool `json:"dirty-flag"`
		Specific    struct {
			Data struct {
				Compat       string
				Compression  string `json:"compression-type"`
				LazyRefs     bool   `json:"lazy-refcounts"`
				RefcountBits int    `json:"refcount-bits"`
				Extended     bool   `json:"extended-l2"`
			}
		} `json:"format-specific"`
	}
	if err := json.Unmarshal([]byte(run(t, "qemu-img", "info", "--output=json", a.Path)), &info); err != nil {
		t.Fatal(err)
	}
	d := info.Specific.Data
	if info.VirtualSize != 5<<20 || info.ClusterSize != 65536 || info.Format != "qcow2" || info.Dirty ||
		d.Compat != "1.1" || d.Compression != "zlib" || d.LazyRefs || d.RefcountBits != 16 || d.Extended {
		t.Errorf("%+v", info)
	}
	// A million characters of twelve words are compressed, well.
	if a.Size > 600<<10 {
		t.Errorf("%d bytes", a.Size)
	}
}

// Clusters stored as they are between others cost nothing but themselves.
func TestQcow2Gaps(t *testing.T) {
	const n = 64
	var spots []spot
	for i := range int64(n) {
		spots = append(spots, spot{2 * i * clusterSize, clusterSize, "noise"}, spot{(2*i + 1) * clusterSize, clusterSize, "half"})
	}
	stored := func(spots ...spot) int64 {
		a := convertChecked(t, "qcow2", disk(t, 2*n*clusterSize, spots...))
		var s syscall.Stat_t
		if err := syscall.Stat(a.Path, &s); err != nil {
			t.Fatal(err)
		}
		return s.Blocks * 512
	}
	mixed, alone := stored(spots...), stored(spot{0, n * clusterSize, "half"})
	// Each run of clusters for compressed ones may lose the end of its last one.
	if waste := mixed - alone - n*clusterSize; waste > 3*clusterSize {
		t.Errorf("mixed %d bytes, without noise %d: %d are wasted", mixed, alone, waste)
	}
}

// QEMU's inflate has a window of 4 KiB: what repeats only further back must not
// be found.
func TestQcow2Window(t *testing.T) {
	far := &batch{plain: fill("far", 1, clusterSize)}
	near := &batch{plain: bytes.Repeat(fill("noise", 1, deflateWindow/2), 2*clusterSize/deflateWindow)}
	w, err := newDeflate()
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(far.pack(w, nil), near.pack(w, nil)); err != nil {
		t.Fatal(err)
	}
	if far.kinds[0] != plainCluster {
		t.Errorf("repeats 12 KiB apart were compressed to %d bytes", far.ends[0])
	}
	if near.kinds[0] != packedCluster || near.ends[0] > clusterSize/8 {
		t.Errorf("repeats 2 KiB apart were not compressed: %d bytes", near.ends[0])
	}
}

// A file with more clusters than one block of counts covers. Its data are
// holes, so that it is quick.
func TestQcow2ManyClusters(t *testing.T) {
	for _, n := range []int64{refsPerBlock - 8, refsPerBlock - 7, refsPerBlock - 6, refsPerBlock - 5, refsPerBlock - 4, refsPerBlock - 3, 3 * refsPerBlock} {
		src := disk(t, n*clusterSize)
		dst := filepath.Join(t.TempDir(), "out.qcow2")
		f, err := os.Create(dst)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		q := newQcow2(f, n*clusterSize)
		for i := range n {
			if err := q.set(i, oflagCopied|uint64(q.take(1))); err != nil {
				t.Fatal(err)
			}
		}
		if err := q.finish(); err != nil {
			t.Fatal(err)
		}
		checkQcow2(t, dst, src)
	}
}

// A disk whose first table takes two clusters.
func TestQcow2Large(t *testing.T) {
	const tib = 1 << 40
	src := disk(t, 5*tib, spot{0, 3 << 20, "text"}, spot{3*tib + 12345, 1 << 20, "noise"}, spot{5*tib - 1000, 1000, "text"})
	convertChecked(t, "qcow2", src)
}

func TestDescribe(t *testing.T) {
	src := disk(t, 6<<20, spot{5000, 1 << 20, "noise"}, spot{4 << 20, 100, "text"})
	f := lookup(t, "raw")
	a, err := Describe(t.Context(), f, src)
	if err != nil {
		t.Fatal(err)
	}
	sum, _, _ := strings.Cut(run(t, "sha256sum", src), " ")
	if want := (Artifact{Path: src, Format: "raw", Size: 6 << 20, SHA256: sum}); a != want {
		t.Errorf("got %+v, want %+v", a, want)
	}
	if _, err := Describe(t.Context(), f, src+".missing"); err == nil {
		t.Error("a file that is not there was described")
	}
}

func TestLink(t *testing.T) {
	src := disk(t, 6<<20, spot{5000, 1 << 20, "noise"})
	want, err := Describe(t.Context(), lookup(t, "raw"), src)
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{filepath.Dir(src), "/dev/shm"} { // the second is another file system
		dst := filepath.Join(dir, fmt.Sprintf("link-%d.raw", os.Getpid()))
		defer os.Remove(dst)
		a, err := Link(t.Context(), src, dst)
		if want.Path = dst; err != nil || a != want {
			t.Errorf("got %+v, %v, want %+v", a, err, want)
		}
		run(t, "cmp", src, dst)
	}
	if _, err := Link(t.Context(), src+".missing", src+".out"); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

func TestLookup(t *testing.T) {
	for _, f := range All {
		if got := lookup(t, f.Name); got.Ext != f.Ext || f.Ext == "" || f.MediaType == "" || f.Doc == "" || f.Write == nil {
			t.Errorf("%+v", f)
		}
	}
	if _, err := Lookup("vhdx"); err == nil || err.Error() != `there is no format "vhdx"; there are raw, raw.zst, raw.gz, qcow2` {
		t.Error(err)
	}
}

var errStopped = errors.New("stopped by the test")

// An end of the context is its cause, and leaves what was there.
func TestCancel(t *testing.T) {
	src := disk(t, 32<<20, spot{0, 8 << 20, "text"}, spot{10 << 20, 22 << 20, "noise"})
	for _, f := range All {
		for _, when := range []string{"before", "while writing", "when written"} {
			t.Run(f.Name+" "+when, func(t *testing.T) {
				dst := filepath.Join(t.TempDir(), "out")
				if err := os.WriteFile(dst, []byte("old"), 0o600); err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithCancelCause(t.Context())
				stopping := f
				stopping.Write = func(ctx context.Context, dst, src *os.File, size int64, o Options) ([]byte, error) {
					var wg sync.WaitGroup
					if when == "while writing" {
						wg.Go(func() { cancelWhenWritten(dst, cancel) })
					}
					sum, err := f.Write(ctx, dst, src, size, o)
					wg.Wait()
					cancel(errStopped)
					return sum, err
				}
				if when == "before" {
					cancel(errStopped)
				}
				if _, err := Convert(ctx, stopping, src, dst, Options{}); !errors.Is(err, errStopped) {
					t.Errorf("error %v, want %v", err, errStopped)
				}
				untouched(t, dst)
			})
		}
	}
}

// cancelWhenWritten cancels when the first bytes of f are there.
func cancelWhenWritten(f *os.File, cancel context.CancelCauseFunc) {
	deadline := time.Now().Add(20 * time.Second)
	for time.Now().Before(deadline) {
		var s syscall.Stat_t
		if err := syscall.Fstat(int(f.Fd()), &s); err != nil || s.Blocks > 0 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	cancel(errStopped)
}

func untouched(t *testing.T, dst string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(dst))
	if err != nil || len(entries) != 1 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
	// A file that has no name yet is still there as long as it is open.
	open, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range open {
		if name, _ := os.Readlink(fd); strings.HasPrefix(name, filepath.Dir(dst)) {
			t.Errorf("still open: %s", name)
		}
	}
	if b, err := os.ReadFile(dst); err != nil || string(b) != "old" {
		t.Errorf("the old file is %.20q, %v", b, err)
	}
}

func TestErrors(t *testing.T) {
	odd := disk(t, 513)
	empty := disk(t, 0)
	good := disk(t, 4096)
	for _, c := range []struct{ src, dst, want string }{
		{odd, odd + ".out", "has 513 bytes and is no disk"},
		{empty, empty + ".out", "has 0 bytes and is no disk"},
		{good, good, "it is the disk that it is made from"},
		{good + ".missing", good + ".out", "no such file"},
		{good, filepath.Join(good, "x"), "not a directory"},
	} {
		for _, f := range All {
			_, err := Convert(t.Context(), f, c.src, c.dst, Options{})
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "writing "+f.Name+" ") {
				t.Errorf("%s: error %v, want %q", f.Name, err, c.want)
			}
		}
	}
}

// A full disk is an error that says where and how much, and leaves nothing.
// The test runs itself again with a small file system of its own.
func TestFullDisk(t *testing.T) {
	small := os.Getenv("TEST_SMALL_DIR")
	src := disk(t, 32<<20, spot{0, 16 << 20, "noise"})
	if small == "" {
		small = t.TempDir()
		t.Setenv("TEST_SMALL_DIR", small)
		run(t, "unshare", "--user", "--map-root-user", "--mount", "sh", "-c",
			`mount -t tmpfs -o size=4m none "$1" && exec "$2" -test.run='^TestFullDisk$'`, "sh", small, os.Args[0])
		return
	}
	for _, f := range All {
		dst := filepath.Join(small, "out")
		if err := os.WriteFile(dst, []byte("old"), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Convert(t.Context(), f, src, dst, Options{})
		var full *output.NoSpaceError
		if !errors.As(err, &full) || full.Need != 16<<20 || !strings.Contains(err.Error(), dst) || !strings.Contains(err.Error(), "16777216 bytes") {
			t.Errorf("%s: error %v", f.Name, err)
		}
		untouched(t, dst)
	}
}
