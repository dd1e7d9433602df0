package durability

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/prose-im/prose-image/builder/boot"
	"github.com/prose-im/prose-image/builder/boot/writelog"
	"github.com/prose-im/prose-image/builder/host"
	"github.com/prose-im/prose-image/builder/scenario"
)

// inside says that we are in a network namespace of our own.
const inside = "PROSE_DURABILITY_INSIDE"

func TestMain(m *testing.M) {
	if os.Getenv(inside) != "" {
		os.Exit(m.Run())
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	env := []string{inside + "=1"}
	for _, v := range os.Environ() {
		if strings.HasPrefix(v, "PROSE_") || strings.HasPrefix(v, "TMPDIR=") || strings.HasPrefix(v, "HOME=") {
			env = append(env, v)
		}
	}
	p, err := host.Start(ctx, host.Command{Args: append([]string{os.Args[0]}, os.Args[1:]...), Env: env, Stdout: os.Stdout, Stderr: os.Stderr, Network: true, Tied: true})
	if err == nil {
		if err = p.Wait(); err == nil {
			os.Exit(0)
		}
		os.Exit(1)
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// TestPowerCuts records one first boot with a renewal and replays it.
func TestPowerCuts(t *testing.T) {
	r := &Recording{Dir: os.Getenv("PROSE_RECORD"), Domain: "chat.example", Partition: "root", Top: "/"}
	if r.Dir != "" && r.Load() == nil {
		r.Replay(t, nil)
		return
	}
	image, err := filepath.Abs(os.Getenv("PROSE_IMAGE"))
	if err != nil || os.Getenv("PROSE_IMAGE") == "" {
		t.Fatalf("PROSE_IMAGE names no image (%v); make demo bakes one", err)
	}
	if r.Dir == "" {
		if r.Dir, err = os.MkdirTemp("/var/tmp", "prose-durability-"); err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(r.Dir)
	}
	if err := os.MkdirAll(r.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	s, err := scenario.Load("recorded.toml")
	if err != nil {
		t.Fatal(err)
	}
	if err := r.CopyDisk(image, s.Disk<<30); err != nil {
		t.Fatal(err)
	}
	accel, _, err := boot.Probe(t.Context(), boot.AMD64)
	if err != nil {
		t.Fatal(err)
	}
	replayed, failed := false, false
	config := scenario.Config{
		Image: image, Tools: filepath.Join("..", "..", "bin"), Logs: filepath.Join("..", "..", "out", "durability"), Accel: accel, Out: os.Stderr,
		Writes: r.Writes(), Finalizing: r.Finalizing,
		Live: func(c scenario.Case) {
			failed = failed || c.Reason != ""
			t.Logf("%6.1f s  %s %s", c.At, c.Line, c.Reason)
		},
		Keep: func(ctx context.Context, k scenario.Kept) {
			k.Cut()
			if failed {
				return
			}
			replayed = true
			if err := r.Save(); err != nil {
				t.Error(err)
			} else {
				r.Replay(t, func(p writelog.Point, disk string) { r.boot(t, k, p, disk) })
			}
		},
	}
	result, err := scenario.Run(t.Context(), config, s, boot.BIOS)
	if err != nil || result.Failed() {
		t.Errorf("recording: %v; logs are in %s", err, result.Logs)
	}
	if !replayed {
		t.Error("nothing was replayed")
	}
}

// boot boots the disk as it is now until the machine is ready again. Nobody may
// have been asked for more than one more certificate of a name.
func (r *Recording) boot(t *testing.T, k scenario.Kept, p writelog.Point, disk string) {
	before := k.Orders()
	if err := k.On(t.Context(), disk, "status ready", "answers", "no-failed-units"); err != nil {
		t.Errorf("booting entry %d, coin %d: %v", p.Entries, p.Seed, err)
	}
	k.Cut()
	more := k.Orders()[len(before):]
	slices.Sort(more)
	t.Logf("booted entry %d: ordered again %v", p.Entries, more)
	if len(slices.Compact(slices.Clone(more))) != len(more) {
		t.Errorf("booting entry %d, coin %d: more than one order of a name: %v", p.Entries, p.Seed, more)
	}
}
