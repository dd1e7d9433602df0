package publish_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/prose-im/prose-image/builder/publish"
)

// A childOrder is what a real process is to publish, and when to die of it.
type childOrder struct {
	Root, Journal string
	Image         publish.Image
	N             int  // operation in which it gets SIGKILL; 0: none
	After         bool // after the operation, else before it
	Count         string
}

// child is this program as that process. Beside the operations of the target
// it counts the entries of the journal.
func child() {
	var o childOrder
	if err := json.Unmarshal([]byte(os.Getenv("PUBLISH_CHILD")), &o); err != nil {
		panic(err)
	}
	n := 0
	do := func(_, _ string, run func() error) error {
		n++
		if n == o.N && !o.After {
			die()
		}
		err := run()
		if n == o.N {
			die()
		}
		return err
	}
	_, err := publish.Run(context.Background(), publish.Config{
		Image: o.Image, Address: "file://" + o.Root, Target: publish.Hooked(o.Root, os.Getpid(), do),
		Journal: killJournal{publish.OpenFileJournal(o.Journal), do},
	})
	if err == nil && o.Count != "" {
		err = os.WriteFile(o.Count, []byte(strconv.Itoa(n)), 0o644)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func die() {
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	time.Sleep(time.Hour)
}

func (o childOrder) run(t *testing.T) error {
	t.Helper()
	b, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^$")
	c.Env = append(os.Environ(), "PUBLISH_CHILD="+string(b))
	out, err := c.CombinedOutput()
	if len(out) > 0 {
		t.Logf("the process says: %s", out)
	}
	return err
}

// A real process gets SIGKILL at each operation, before it and after, and a
// second one goes on with what is on disk.
func TestDirectoryKilled(t *testing.T) {
	img := testImage(t, 1)
	count := filepath.Join(t.TempDir(), "count")
	root := t.TempDir()
	o := childOrder{Root: root, Journal: t.TempDir(), Image: img, Count: count}
	if err := o.run(t); err != nil {
		t.Fatal(err)
	}
	if err := checkDirectory(root, img); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(count)
	if err != nil {
		t.Fatal(err)
	}
	operations, err := strconv.Atoi(string(b))
	if err != nil || operations < 50 {
		t.Fatalf("a publishing has %q operations: %v", b, err)
	}
	for n := 1; n <= operations; n++ {
		for _, after := range []bool{false, true} {
			cases++
			t.Run(fmt.Sprintf("%d/after %v", n, after), func(t *testing.T) {
				root, journal := memory(t), memory(t)
				o := childOrder{Root: root, Journal: journal, Image: img, N: n, After: after}
				var exit *exec.ExitError
				if err := o.run(t); !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
					t.Fatalf("the process did not die: %v", err)
				}
				o.N = 0
				if err := o.run(t); err != nil {
					t.Fatal(err)
				}
				if err := checkDirectory(root, img); err != nil {
					t.Error(err)
				}
				left, err := publish.NewDirectory(root).Leftovers(t.Context())
				if err != nil || len(left) > 0 {
					t.Errorf("left over: %v, %v", left, err)
				}
			})
		}
	}
}

// Two real processes publish the same at the same time.
func TestDirectoryTwoProcesses(t *testing.T) {
	img := testImage(t, 1)
	for range 5 {
		cases++
		root := t.TempDir()
		errs := make(chan error, 2)
		for range 2 {
			o := childOrder{Root: root, Journal: t.TempDir(), Image: img}
			go func() { errs <- o.run(t) }()
		}
		for range 2 {
			if err := <-errs; err != nil {
				t.Error(err)
			}
		}
		if left, err := publish.NewDirectory(root).Leftovers(t.Context()); err != nil || len(left) > 0 {
			t.Errorf("left over: %v, %v", left, err)
		}
		if err := checkDirectory(root, img); err != nil {
			t.Error(err)
		}
	}
}

// killJournal is a journal whose writes count as operations.
type killJournal struct {
	publish.Journal
	do func(op, path string, run func() error) error
}

func (j killJournal) Append(ctx context.Context, e publish.Entry) error {
	return j.do("append", "", func() error { return j.Journal.Append(ctx, e) })
}
