package host

import (
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
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

// The processor time is the command's: it grows with its work, and there is
// none to ask for after its end.
func TestCPU(t *testing.T) {
	in, feed, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	defer feed.Close()
	out, tell, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	defer tell.Close()
	script := "echo ready; read x; i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; echo done; read x"
	p, err := Start(t.Context(), Command{Args: []string{"sh", "-c", script}, Stdin: in, Stdout: tell})
	if err != nil {
		t.Fatal(err)
	}
	asks := func() time.Duration {
		t.Helper()
		if _, err := out.Read(make([]byte, 16)); err != nil {
			t.Fatal(err)
		}
		d, err := p.CPU()
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	before := asks()
	feed.WriteString("\n")
	if after := asks(); after <= before {
		t.Errorf("%s before the work, %s after", before, after)
	}
	feed.WriteString("\n")
	if err := p.Wait(); err != nil {
		t.Fatal(err)
	}
	if d, err := p.CPU(); err == nil {
		t.Errorf("%s of a command that has ended", d)
	}
}
