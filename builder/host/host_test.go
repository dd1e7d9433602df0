package host

import (
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// A command gets its three streams and no file that we were started with.
func TestFilesAreNotHandedDown(t *testing.T) {
	var pipe [2]int
	if err := syscall.Pipe(pipe[:]); err != nil { // without close-on-exec, as an inherited one
		t.Fatal(err)
	}
	defer syscall.Close(pipe[0])
	defer syscall.Close(pipe[1])
	inherited, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(pipe[0]))
	if err != nil {
		t.Fatal(err)
	}
	out, err := Output(t.Context(), Command{Args: []string{"ls", "-l", "/proc/self/fd"}})
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(out), inherited) {
		t.Errorf("the command has %s:\n%s", inherited, out)
	}
	// It is still ours.
	if _, err := syscall.Write(pipe[1], []byte("x")); err != nil {
		t.Error(err)
	}
}
