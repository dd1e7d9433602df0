package publish_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prose-im/prose-image/builder/publish"
	"github.com/prose-im/prose-image/builder/publish/publishtest"
)

// rsyncDaemon serves modules: each directory that is made in the one it
// returns.
func rsyncDaemon(t *testing.T) (root, address string) {
	t.Helper()
	root = memory(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address = l.Addr().String()
	l.Close()
	_, port, _ := net.SplitHostPort(address)
	conf := filepath.Join(t.TempDir(), "rsyncd.conf")
	text := fmt.Sprintf("use chroot = no\nmunge symlinks = no\naddress = 127.0.0.1\n[images]\npath = %s\nread only = no\n", root)
	if os.Getuid() == 0 {
		text += "uid = root\ngid = root\n"
	}
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	log := filepath.Join(t.TempDir(), "log")
	c := exec.Command("rsync", "--daemon", "--no-detach", "--config="+conf, "--port="+port, "--log-file="+log)
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Process.Kill()
		_ = c.Wait()
		if t.Failed() {
			b, _ := os.ReadFile(log)
			t.Logf("the daemon says:\n%.4000s", b)
		}
	})
	for range 200 {
		if conn, err := net.Dial("tcp", address); err == nil {
			conn.Close()
			return root, address
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatal("the daemon does not answer after ten seconds")
	return "", ""
}

func FuzzParseListing(f *testing.F) {
	f.Add([]byte("drwxr-xr-x          4,096 2026/11/28 09:40:33 .prose-publish/00\n-rw-r--r-- 1.2 2026/11/28 09:40:33 .prose-publish/00/x -> y\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if n := publish.ParseListing(b); n > strings.Count(string(b), ".prose-publish/") {
			t.Errorf("%d leftovers", n)
		}
	})
}

// The directory's promises over a real rsync and its daemon, with a process that
// dies after every third of its commands that write. All of the contract would
// take some ten thousand commands.
func TestRsync(t *testing.T) {
	root, address := rsyncDaemon(t)
	worlds := 0
	world := func(t *testing.T) (dir, at string) {
		worlds++
		dir = filepath.Join(root, fmt.Sprintf("w%d", worlds))
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		return dir, fmt.Sprintf("rsync://%s/images/w%d", address, worlds)
	}
	img, other := testImage(t, 1), testImage(t, 2)
	journal := &publish.Memory{}
	// run publishes as a process that dies after its nth command that writes.
	run := func(img publish.Image, at string, n int) (writes int, r *publish.Report, err error) {
		dead, clock := false, publishtest.NewClock()
		target := publish.HookedRsync(at, func(args []string, run func() error) error {
			if dead {
				return publishtest.ErrDead
			}
			line := strings.Join(args, " ")
			if strings.Contains(line, "--list-only") || strings.Contains(line, "--dry-run") || strings.Contains(line, "--max-size") {
				return run()
			}
			writes++
			err := run()
			dead = writes == n
			return err
		})
		r, err = publish.Run(t.Context(), publish.Config{Image: img, Address: at, Target: target, Journal: journal, Now: clock.Now, Sleep: clock.Sleep})
		return writes, r, err
	}
	left := func(t *testing.T, at string) {
		t.Helper()
		l, err := publish.HookedRsync(at, func(_ []string, run func() error) error { return run() }).Leftovers(t.Context())
		if err != nil || len(l) > 0 {
			t.Errorf("left over: %v, %v", l, err)
		}
	}

	dir, at := world(t)
	cases++
	writes, _, err := run(img, at, 0)
	if err != nil || writes < 10 {
		t.Fatalf("%d commands, %v", writes, err)
	}
	if err := checkDirectory(dir, img); err != nil {
		t.Fatal(err)
	}
	left(t, at)
	if n, r, err := run(img, at, 0); err != nil || n != 0 || r.Steps != 0 || len(r.Published) != 2 {
		t.Errorf("again: %d commands, %+v, %v", n, r, err)
	}
	var conflict *publish.ConflictError
	if n, _, err := run(other, at, 0); !errors.As(err, &conflict) || n != 0 {
		t.Errorf("other bytes: %d commands, %v", n, err)
	}
	if err := checkDirectory(dir, img); err != nil {
		t.Error(err)
	}
	for n := 1; n <= writes; n += 3 {
		cases++
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			dir, at := world(t)
			if n, _, err := run(img, at, n); err == nil {
				t.Fatalf("the process did not die of %d commands", n)
			}
			if _, _, err := run(img, at, 0); err != nil {
				t.Fatal(err)
			}
			if err := checkDirectory(dir, img); err != nil {
				t.Error(err)
			}
			left(t, at)
		})
	}
}
