package agenttest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/prose-im/prose-image/firstboot/status"
)

func (b *faulty) fullDisk(t *testing.T) {
	size := b.full(t)
	before := b.files(t)
	b.settings("company: Another\n") // a file of the owner's that fits
	b.until(t, "it says that the disk is full", func(s status.Status, code int) bool {
		why := item(s, "setup").Why
		return code == 2 && strings.Contains(why, "/var/lib/prose-firstboot/state.json") && strings.Contains(why, "no space left") && strings.Contains(why, "bytes are needed")
	})
	for _, p := range differences(before, b.files(t)) {
		if strings.HasPrefix(filepath.Base(p), ".") {
			t.Errorf("half a file is left: %s", p)
		}
	}
	b.serves(t)
	b.resize(t, size)
	b.until(t, "it has written what did not fit", func(s status.Status, code int) bool {
		config, err := os.ReadFile(b.path("etc/prose/prose.toml"))
		return err == nil && code == 0 && strings.Contains(string(config), "Another")
	})
	b.ordered(t)
}

func (b *faulty) readOnlyRoot(t *testing.T) {
	// What daemons have open for writing keeps the root itself from it.
	for _, at := range readOnly {
		b.mount(t, at, func() error {
			return errors.Join(unix.Mount(at, at, "", unix.MS_BIND, ""), unix.Mount("none", at, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""))
		})
	}
	for range 2 {
		if r := b.agent("run"); r.code != 0 {
			t.Errorf("exit code %d\n%s", r.code, r.out)
		}
	}
	if s, code := b.status(t); code != 2 || !strings.Contains(item(s, "disk").Why, "/etc/letsencrypt, /etc/prose, /var/lib/prose-firstboot") {
		t.Errorf("exit code %d: %+v", code, s.Items)
	}
	b.serves(t)
	for _, at := range readOnly {
		b.mount(t, at, func() error { return unix.Unmount(at, 0) })
	}
	b.ready(t)
	b.ordered(t)
}

// full leaves the disk below the root no room, and returns how large it was.
func (b *box) full(t testing.TB) string {
	t.Helper()
	disk := b.disk()
	size := strings.Fields(b.Run(t, "df", "-k", "--output=size,used", disk))
	b.resize(t, size[3]+"k")
	return size[2] + "k"
}

func (b *box) resize(t testing.TB, size string) {
	t.Helper()
	b.mount(t, b.disk(), func() error { return unix.Mount("none", b.disk(), "", unix.MS_REMOUNT, "size="+size) })
}

// readOnly are the directories in which the agent writes, but for what it writes
// anew at each boot.
var readOnly = []string{"/etc", "/var/lib/prose-firstboot"}

// mount changes a mount of the machine's, which has no program for that.
func (b *box) mount(t testing.TB, at string, change func() error) {
	t.Helper()
	done := make(chan error)
	go func() {
		// The thread dies with the goroutine: it never goes back.
		runtime.LockOSThread()
		fd, err := unix.Open(fmt.Sprintf("/proc/%d/ns/mnt", b.Pid), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == nil {
			err = errors.Join(unix.Unshare(unix.CLONE_FS), unix.Setns(fd, unix.CLONE_NEWNS))
			unix.Close(fd)
		}
		if err == nil {
			err = change()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatalf("mounting %s: %v", at, err)
	}
}

// disk is where the writable part of the root lies, seen from inside.
func (b *box) disk() string { return "/mnt" + b.Dir + "/top" }
