package host

import (
	"context"
	"os"
	"strings"
	"testing"
)

// What a command mounts nobody else sees, and is gone with it.
func TestMounts(t *testing.T) {
	dir := t.TempDir()
	out, err := Output(context.Background(), Command{
		Args:   []string{"sh", "-ec", `mount -t tmpfs none "$1" && touch "$1/there" && cat /proc/self/mountinfo`, "sh", dir},
		Mounts: true,
		// An ordinary user may mount in a user namespace alone, which this one brings.
		Network: os.Geteuid() != 0,
	})
	if err != nil || !strings.Contains(string(out), dir) {
		t.Fatalf("it did not mount: %v", err)
	}
	ours, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil || strings.Contains(string(ours), dir) {
		t.Errorf("it is mounted here: %v", err)
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}
