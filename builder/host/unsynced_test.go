package host

import (
	"context"
	"errors"
	"os"
	"syscall"
	"testing"
)

// Nobody can fsync a pipe, so that one who says it worked did not try.
func TestUnsynced(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("it needs root")
	}
	c := Command{Args: []string{"sh", "-c", "dd if=/dev/null conv=fsync && dd if=/dev/null conv=fdatasync && sync && echo end"}}
	if out, err := Output(context.Background(), c); err == nil {
		t.Fatalf("a pipe was synced: %q", out)
	}
	c.Unsynced = true
	if out, err := Output(context.Background(), c); err != nil || string(out) != "end\n" {
		t.Errorf("%q, %v", out, err)
	}
	// This process, and what it starts from now on, are as before.
	c.Unsynced = false
	for range 20 {
		if out, err := Output(context.Background(), c); err == nil {
			t.Fatalf("a later command was unsynced: %q", out)
		}
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Sync(); !errors.Is(err, syscall.EINVAL) {
			t.Errorf("syncing a pipe: %v", err)
		}
		r.Close()
		w.Close()
	}
}
