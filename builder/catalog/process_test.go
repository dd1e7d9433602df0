//go:build cgo && libsqlite3

package catalog

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/prose-im/prose-image/builder/publish"
)

// The test's own program is also what writes in processes of its own.
func TestMain(m *testing.M) {
	if dir := os.Getenv("CATALOG_WORKER"); dir != "" {
		if err := work(dir, os.Args[1], os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, "error:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// work writes entries 1, 2, … of an operation and says each number when it is
// acknowledged, and whether the node is here.
func work(dir, operation, times string) error {
	ctx := context.Background()
	n, err := strconv.Atoi(times)
	if err != nil {
		return err
	}
	c, err := Open(ctx, dir)
	if err != nil {
		return err
	}
	for i := 1; i <= n; i++ {
		if err := c.Journal().Append(ctx, publish.Entry{Operation: operation, Call: strconv.Itoa(i), Kind: publish.Intent, At: time.Now()}); err != nil {
			return err
		}
		c.place.mu.Lock()
		fmt.Println(i, c.place.node != nil)
		c.place.mu.Unlock()
	}
	return c.Close()
}

// A worker is a process that writes.
type worker struct {
	operation string
	cmd       *exec.Cmd
	errors    *strings.Builder
	done      chan struct{} // closed when it has said all

	mu    sync.Mutex
	acked int
	node  bool // it ran the node when last heard of
}

func startWorker(t *testing.T, dir, operation string, times int) *worker {
	t.Helper()
	w := &worker{operation: operation, cmd: exec.Command(os.Args[0], operation, strconv.Itoa(times)), errors: &strings.Builder{}, done: make(chan struct{})}
	w.cmd.Env = append(os.Environ(), "CATALOG_WORKER="+dir)
	w.cmd.Stderr = w.errors
	// Should the test be killed, its workers go too.
	w.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := w.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := w.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(w.done)
		for s := bufio.NewScanner(out); s.Scan(); {
			var n int
			var node bool
			if _, err := fmt.Sscan(s.Text(), &n, &node); err == nil {
				w.mu.Lock()
				w.acked, w.node = n, node
				w.mu.Unlock()
			}
		}
	}()
	return w
}

func (w *worker) state() (acked int, node bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.acked, w.node
}

// check asks that the entries of each worker are 1, 2, … once each and in
// order, and that none that was acknowledged is missing.
func check(t *testing.T, dir string, workers []*worker) (acked int) {
	t.Helper()
	c := opened(t, dir)
	for _, w := range workers {
		entries, err := c.Journal().Entries(t.Context(), w.operation)
		if err != nil {
			t.Fatal(err)
		}
		n, _ := w.state()
		acked += n
		// One more may have been written than was heard of.
		if len(entries) != n && len(entries) != n+1 {
			t.Errorf("%s: %d writes were acknowledged, %d are there", w.operation, n, len(entries))
		}
		for i, e := range entries {
			if e.Call != strconv.Itoa(i+1) {
				t.Errorf("%s: write %d is %s", w.operation, i+1, e.Call)
				break
			}
		}
	}
	return acked
}

// Eight processes write at the same time. They end at different times, the one
// with the node among the first, so that it moves on more than once.
func TestManyProcesses(t *testing.T) {
	dir := t.TempDir()
	var workers []*worker
	for i := range 8 {
		workers = append(workers, startWorker(t, dir, fmt.Sprintf("worker %d", i), 10*(i+1)))
	}
	for i, w := range workers {
		<-w.done
		if err := w.cmd.Wait(); err != nil {
			t.Errorf("%s: %v: %s", w.operation, err, w.errors)
		}
		if n, _ := w.state(); n != 10*(i+1) {
			t.Errorf("%s: %d writes were acknowledged", w.operation, n)
		}
	}
	if n := check(t, dir, workers); n != 360 {
		t.Errorf("%d writes were acknowledged", n)
	}
}

// nodeOf waits until one of the workers says that it runs the node.
func nodeOf(t *testing.T, workers []*worker) int {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if i := slices.IndexFunc(workers, func(w *worker) bool { _, node := w.state(); return node }); i >= 0 {
			return i
		}
	}
	t.Fatal("nobody took the node over in a minute")
	return 0
}

// Processes are killed at any moment: while they open the catalog, write, run
// the node or take it over. What was acknowledged stays, and what comes next
// works.
func TestKilled(t *testing.T) {
	const least = 60 // kills, half of them of the process with the node
	dir := t.TempDir()
	var all []*worker
	next := func() *worker {
		w := startWorker(t, dir, fmt.Sprintf("worker %d", len(all)), 1<<30)
		all = append(all, w)
		return w
	}
	running := []*worker{next(), next(), next()}
	kills, nodes := 0, 0
	for ; kills < least; kills++ {
		i := rand.N(len(running))
		if kills%2 == 0 {
			i = nodeOf(t, running)
		}
		time.Sleep(rand.N(100 * time.Millisecond))
		w := running[i]
		if err := w.cmd.Process.Kill(); err != nil {
			t.Fatalf("%s ended by itself: %v: %s", w.operation, err, w.errors)
		}
		<-w.done
		_ = w.cmd.Wait()
		if w.errors.Len() > 0 {
			t.Errorf("%s: %s", w.operation, w.errors)
		}
		if _, node := w.state(); node {
			nodes++
		}
		running[i] = next()
	}
	for _, w := range running {
		_ = w.cmd.Process.Kill()
		<-w.done
		_ = w.cmd.Wait()
	}
	acked := check(t, dir, all)
	t.Logf("%d kills, %d of them of the process with the node, %d acknowledged writes, none lost", kills, nodes, acked)
	if nodes < least/2 || acked < nodes {
		t.Errorf("only %d kills of the node, %d writes", nodes, acked)
	}
}
