package host

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// main of the process that is killed in TestWatched.
func watched(dir string) {
	script := `sleep 1000 & echo $! > "$1/child"; trap ': > "$1/tidy"; cp -r "$1" "$1.seen"; exit 1' TERM; : > "$1/ready"; wait`
	_ = Run(context.Background(), Command{Args: []string{"sh", "-c", script, "sh", dir}, Within: dir})
	os.Exit(0)
}

func TestMain(m *testing.M) {
	if dir := os.Getenv("HOST_TEST_WATCHED"); dir != "" {
		watched(dir)
	}
	os.Exit(m.Run())
}

// waitFor waits until something is so.
func waitFor(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(90 * time.Second); !is(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waiting for %s: 90 s are over", what)
		}
	}
}

func there(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}

// TestWatched kills a process that runs a command: the command may tidy up, and
// nothing of it is left.
func TestWatched(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "files")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), "HOST_TEST_WATCHED="+dir)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the command", func() bool { return there(dir + "/ready") })
	child, err := os.ReadFile(dir + "/child")
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(child)))
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	waitFor(t, "the end of its directory", func() bool { return !there(dir) })
	if !there(dir + ".seen/tidy") {
		t.Error("the command could not tidy up")
	}
	waitFor(t, "the end of its child", func() bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) })
}

// A command that ends while we are there leaves its directory to us.
func TestWatchedEnds(t *testing.T) {
	dir := t.TempDir()
	if err := Run(t.Context(), Command{Args: []string{"true"}, Within: dir}); err != nil || !there(dir) {
		t.Errorf("%v, directory there: %v", err, there(dir))
	}
}
