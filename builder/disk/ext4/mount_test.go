package ext4

import (
	"os"
	"strings"
	"testing"
)

// mount mounts an image over a loop device and says where; false where this
// process may not.
func mount(t testing.TB, image, options string) (string, bool) {
	t.Helper()
	if os.Getuid() != 0 {
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

func TestMount(t *testing.T) {
	for seed := range uint64(3) {
		from := generate(t, seed, 2000, allNames)
		image, _ := write(t, from, options)
		dir, ok := mount(t, image, "ro")
		if !ok {
			t.Log("no root: the kernel was not asked")
			return
		}
		compare(t, "kernel", seeTree(t, from), seeDir(t, dir), nil)
	}
}
