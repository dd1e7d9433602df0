package host

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"syscall"
)

// watch ends a process group when its standard input does without a word, and
// removes a directory then, in which files may have other ids of the same user.
// A group that does not end by itself within a minute is killed.
const watch = `read word && exit
kill -s TERM -- "-$1" 2>/dev/null
n=0
while kill -s 0 -- "-$1" 2>/dev/null && [ $n -lt 600 ]; do
	sleep 0.1
	n=$((n + 1))
done
kill -s KILL -- "-$1" 2>/dev/null
rm -rf -- "$2" 2>/dev/null || unshare --map-root-user --map-auto rm -rf -- "$2"
`

// A watcher is a process that outlives us if we are killed: nothing else can
// then stop what we have started and tidy up after it.
type watcher struct {
	cmd  *exec.Cmd
	word *os.File
}

// startWatcher watches over the process group of a command whose files are in
// dir.
func startWatcher(group int, dir string) (*watcher, error) {
	in, word, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("watching over process %d: %w", group, err)
	}
	defer in.Close()
	w := &watcher{cmd: exec.Command("/bin/sh", "-c", watch, "sh", strconv.Itoa(group), dir), word: word}
	w.cmd.Dir = "/"
	w.cmd.Env = environ()
	w.cmd.Stdin = in
	w.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is not for it
	if err := w.cmd.Start(); err != nil {
		word.Close()
		return nil, fmt.Errorf("watching over process %d: %w", group, err)
	}
	return w, nil
}

// dismiss ends the watch: the command has ended, and we are there.
func (w *watcher) dismiss() {
	_, _ = w.word.WriteString("over\n") // if it is gone, there is nobody to tell
	w.word.Close()
	_ = w.cmd.Wait()
}
