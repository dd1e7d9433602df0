package ext4

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/prose-im/prose-image/builder/layer"
	"github.com/prose-im/prose-image/builder/tree"
	"golang.org/x/sys/unix"
)

// TestMain runs the tests in a mount namespace of their own, if this process may
// make one: whoever copies the namespace of the machine at the wrong moment
// would keep an image mounted behind our back.
func TestMain(m *testing.M) {
	const inside = "EXT4_TEST_NAMESPACE"
	fuzzing := strings.Contains(strings.Join(os.Args, " "), "fuzz")
	if os.Getuid() != 0 || fuzzing || os.Getenv(inside) != "" {
		os.Exit(m.Run())
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	var exit *exec.ExitError
	switch err := cmd.Run(); {
	case err == nil:
		os.Exit(0)
	case errors.As(err, &exit):
		os.Exit(exit.ExitCode())
	}
	os.Exit(m.Run())
}

// mayMount probes whether this process may mount over a loop device.
var mayMount = sync.OnceValue(func() error {
	if os.Getenv("EXT4_TEST_NAMESPACE") == "" {
		return errors.New("no mount namespace of its own")
	}
	f, err := os.CreateTemp("", "probe")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if err := f.Truncate(1 << 20); err != nil {
		return err
	}
	loop, err := exec.Command("losetup", "-f", "--show", f.Name()).Output()
	if err != nil {
		return fmt.Errorf("losetup: %w", err)
	}
	return exec.Command("losetup", "-d", strings.TrimSpace(string(loop))).Run()
})

// mount mounts an image over a loop device and says where; false, with a note
// in the log, where this process may not.
func mount(t testing.TB, image, options string) (string, bool) {
	t.Helper()
	if err := mayMount(); err != nil {
		t.Logf("the kernel was not asked: %v", err)
		return "", false
	}
	dir := t.TempDir()
	run(t, "mount", "-t", "ext4", "-o", "loop,"+options, image, dir)
	t.Cleanup(func() {
		if b, _ := os.ReadFile("/proc/self/mounts"); strings.Contains(string(b), dir) {
			run(t, "umount", dir)
		}
	})
	return dir, true
}

// TestMount has the kernel read generated trees.
func TestMount(t *testing.T) {
	for seed := range uint64(4) {
		from := generate(t, seed, 1500, allNames)
		image, _ := write(t, from, options)
		dir, ok := mount(t, image, "ro")
		if !ok {
			return
		}
		compare(t, "kernel", seeTree(t, from), seeDir(t, dir), nil)
	}
}

// TestChange has the kernel change everything that was written, which trips
// over wrong bitmaps, counts, hashes and checksums.
func TestChange(t *testing.T) {
	from := generate(t, 11, 1500, allNames)
	o := options
	o.Free = 64 << 20
	image, l := write(t, from, o)
	dir, ok := mount(t, image, "rw,errors=remount-ro")
	if !ok {
		return
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		t.Fatal(err)
	}
	if free := int64(fs.Bfree) * fs.Bsize; free < o.Free {
		t.Errorf("the kernel finds %d bytes free of %d", free, o.Free)
	}
	if int64(fs.Files) != l.Inodes || int64(fs.Files-fs.Ffree) != l.UsedInodes {
		t.Errorf("the kernel finds %d inodes, %d free, measured were %d, %d used", fs.Files, fs.Ffree, l.Inodes, l.UsedInodes)
	}
	before := seeDir(t, dir)
	n := 0
	for p, s := range before {
		at := filepath.Join(dir, p)
		var err error
		switch n++; {
		case s.Type == 0 && n%3 == 0:
			err = os.Remove(at)
		case s.Type == 0 && n%3 == 1:
			err = os.Truncate(at, s.Size/2)
		case s.Type == 0:
			var f *os.File
			if f, err = os.OpenFile(at, os.O_WRONLY, 0); err == nil {
				_, err = f.WriteAt([]byte(strings.Repeat("new", 3000)), s.Size/2)
				f.Close()
			}
		default:
			err = unix.Lsetxattr(at, "trusted.new", []byte(strings.Repeat("v", 10+n%80)), 0)
			if err == unix.ENOSPC { // the block of attributes was full
				err = unix.Lremovexattr(at, "trusted.overlay.origin")
			}
		}
		if err != nil {
			t.Fatalf("changing %q: %v", p, err)
		}
	}
	run(t, "umount", dir)
	fsck(t, image)
}

// TestShare gives a new file the attributes of one of ours. The kernel makes
// them share a block if ours has the hash and the order that its own would have.
func TestShare(t *testing.T) {
	xattrs := map[string]string{"user.\xe9": strings.Repeat("v", 99), "trusted.longer": "a", "trusted.b": strings.Repeat("w", 1001), "user.c": strings.Repeat("x", 90)}
	b := newBuilder(t)
	b.add(layer.Entry{Path: "ours", Mode: 0o600, Xattrs: xattrs}, "")
	image, _ := write(t, b.tree(), options)
	dir, ok := mount(t, image, "rw")
	if !ok {
		return
	}
	if err := os.WriteFile(filepath.Join(dir, "theirs"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name := range xattrs { // reading ours is what the kernel remembers it by
		if _, err := unix.Lgetxattr(filepath.Join(dir, "ours"), name, make([]byte, 2000)); err != nil {
			t.Fatal(err)
		}
	}
	body, block, err := attrs(xattrs)
	if err != nil || len(body) != 1 || len(block) != 3 {
		t.Fatalf("%d attributes in the inode, %d in the block: %v", len(body), len(block), err)
	}
	for _, list := range [][]attr{body, block} {
		for _, a := range list {
			name := map[byte]string{1: "user.", 4: "trusted."}[a.index] + a.name
			if err := unix.Lsetxattr(filepath.Join(dir, "theirs"), name, []byte(a.value), 0); err != nil {
				t.Fatal(err)
			}
		}
	}
	run(t, "umount", dir)
	fsck(t, image)
	var places [2]string
	for i, answer := range debugfs(t, image, []string{"stat ours", "stat theirs"}) {
		_, rest, _ := strings.Cut(answer, "File ACL: ")
		places[i], _, _ = strings.Cut(rest, "\n")
	}
	if places[0] == "0" || places[0] != places[1] {
		t.Errorf("the attributes lie in blocks %q", places)
	}
}

// TestGrow grows a file system past the descriptors that it has room for, and a
// thousandfold; `make soak` has it grow to 2 TiB. It does so mounted, as
// growpart and resize2fs do at first boot, where this process may; resize2fs
// alone otherwise, which makes room by moving blocks.
func TestGrow(t *testing.T) {
	from := generate(t, 12, 500, allNames)
	l, err := Measure(from, options)
	if err != nil {
		t.Fatal(err)
	}
	sizes := []int64{20 << 30, 1000 * l.Size}
	if os.Getenv("EXT4_NAMES") != "" {
		sizes = append(sizes, 2<<40)
	}
	for _, size := range sizes {
		grow(t, from, size)
	}
}

func grow(t *testing.T, from *tree.Tree, size int64) {
	image, l := write(t, from, options)
	if dir, ok := mount(t, image, "rw,errors=remount-ro"); ok && mayResize(t) {
		loop, _, _ := strings.Cut(run(t, "losetup", "-j", image), ":")
		if err := os.Truncate(image, size); err != nil {
			t.Fatal(err)
		}
		run(t, "losetup", "-c", loop)
		run(t, "resize2fs", loop)
		if err := os.WriteFile(filepath.Join(dir, "big"), make([]byte, 64<<20), 0o600); err != nil {
			t.Fatal(err)
		}
		change(t, dir, 1000)
		run(t, "umount", dir)
		fsck(t, image)
		if features := run(t, "dumpe2fs", "-h", image); !strings.Contains(features, "meta_bg") {
			t.Errorf("no meta_bg after growing:\n%s", features)
		}
	} else {
		if ok {
			run(t, "umount", dir)
			t.Log("no CAP_SYS_RESOURCE: grown unmounted")
		}
		run(t, "e2fsck", "-fp", image) // resize2fs wants the check to be younger than the mount
		run(t, "resize2fs", image, fmt.Sprintf("%dK", size>>10))
		fsck(t, image)
	}
	dir, ok := mount(t, image, "rw,errors=remount-ro")
	if !ok {
		return
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		t.Fatal(err)
	}
	if got := int64(fs.Blocks) * fs.Bsize; got < size*95/100 {
		t.Errorf("it has %d bytes after growing to %d", got, size)
	}
	if ratio := size / int64(fs.Files); ratio > 17000 {
		t.Errorf("%d bytes per inode after growing, %d before", ratio, l.Size/l.Inodes)
	}
	got := seeDir(t, dir)
	for p := range got {
		if strings.HasPrefix(p, "new") || p == "big" {
			delete(got, p)
		}
	}
	compare(t, "grown", seeTree(t, from), got, func(s *seen) {
		if s.Same == "." {
			s.Links, s.Time = 0, ""
		}
	})
	run(t, "umount", dir)
	fsck(t, image)
}

// mayResize says whether this process has CAP_SYS_RESOURCE, which
// EXT4_IOC_RESIZE_FS asks for.
func mayResize(t testing.TB) bool {
	t.Helper()
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&hdr, &data[0]); err != nil {
		t.Fatal(err)
	}
	return data[0].Effective&(1<<unix.CAP_SYS_RESOURCE) != 0
}
