package durability

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

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

// number is what a variable of the environment says.
func number(t *testing.T, name string, standard uint64) uint64 {
	t.Helper()
	v := os.Getenv(name)
	if v == "" {
		return standard
	}
	n, err := strconv.ParseUint(v, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// TestPowerCuts records one first boot with a renewal and replays it.
func TestPowerCuts(t *testing.T) {
	r := &recording{dir: os.Getenv("PROSE_RECORD")}
	if r.dir != "" && r.load() == nil {
		r.replay(t, nil)
		return
	}
	image, err := filepath.Abs(os.Getenv("PROSE_IMAGE"))
	if err != nil || os.Getenv("PROSE_IMAGE") == "" {
		t.Fatalf("PROSE_IMAGE names no image (%v); make demo bakes one", err)
	}
	if r.dir == "" {
		if r.dir, err = os.MkdirTemp("/var/tmp", "prose-durability-"); err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(r.dir)
	}
	if err := os.MkdirAll(r.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	s, err := scenario.Load("recorded.toml")
	if err != nil {
		t.Fatal(err)
	}
	if err := r.copyDisk(image, s.Disk<<30); err != nil {
		t.Fatal(err)
	}
	accel, _, err := boot.Probe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	replayed := false
	config := scenario.Config{
		Image: image, Tools: filepath.Join("..", "..", "bin"), Logs: filepath.Join("..", "..", "out", "durability"), Accel: accel, Out: os.Stderr,
		Writes: r.writes(), Finalizing: r.finalizing,
		Live: func(c scenario.Case) { t.Logf("%6.1f s  %s %s", c.At, c.Line, c.Reason) },
		Keep: func(ctx context.Context, k scenario.Kept) {
			k.Cut()
			if err := r.save(); err != nil {
				t.Error(err)
			}
			if !t.Failed() {
				replayed = true
				r.replay(t, &k)
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

// replay goes through the points of a recording, and boots some of them when
// there is a machine.
func (r *recording) replay(t *testing.T, k *scenario.Kept) {
	seed := number(t, "PROSE_SEED", uint64(time.Now().UnixNano()))
	n, boots := int(number(t, "PROSE_POINTS", 20)), int(number(t, "PROSE_BOOTS", 2))
	if k == nil {
		boots = 0
	}
	f, err := os.Open(r.writes())
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	l, err := writelog.Read(f, info.Size())
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.OpenFile(r.disk(), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	root, err := rootOf(file)
	if err != nil {
		t.Fatal(err)
	}
	size, err := file.Stat()
	if err != nil {
		t.Fatal(err)
	}
	disk, err := writelog.NewDisk(l, file, size.Size())
	if err != nil {
		t.Fatal(err)
	}
	writes, err := agents(l)
	if err != nil || len(writes) == 0 {
		t.Fatalf("the agent has written nothing: %v", err)
	}
	t.Logf("recorded %d entries, %d MiB; the agent's are %d from %d on; %d orders finalized; PROSE_SEED=%d", len(l.Entries), info.Size()>>20, len(writes), writes[0], len(r.Finalized), seed)
	if len(r.Finalized) < 8 {
		t.Errorf("only %d orders were finalized", len(r.Finalized))
	}

	seen := map[string]int{}
	begin := time.Now()
	all := points(l, writes, n, seed)
	var booting time.Duration
	booted := 0
	for i, p := range all {
		lost := 0
		for j := l.Settled(p.Entries); j < p.Entries; j++ {
			lost++
		}
		if err := disk.To(p); err != nil {
			t.Fatal(err)
		}
		look, err := r.look(root, p)
		if err != nil {
			t.Fatal(err)
		}
		for _, problem := range look.problems {
			t.Errorf("point %d of %d (entry %d, coin %d, %d not flushed): %v", i, n, p.Entries, p.Seed, lost, problem)
		}
		for what := range look.seen {
			seen[what]++
		}
		if lost > 0 {
			seen["unflushed"]++
		}
		// Spread over all of them.
		if booted < boots && i >= (2*booted+1)*n/(2*boots) {
			start := time.Now()
			booted++
			r.boot(t, k, p)
			booting += time.Since(start)
		}
	}
	if err := disk.Back(); err != nil {
		t.Fatal(err)
	}
	took := time.Since(begin) - booting
	t.Logf("power cuts: %d points in %.0f s, %d with writes that were not flushed, %d with an order on its way, %d ready; %d booted in %.0f s", n, took.Seconds(), seen["unflushed"], seen["order"], seen["ready"], booted, booting.Seconds())
	for _, what := range []string{"unflushed", stateDir + "/state.json", "/etc/prose/prose.toml", stateDir + "/nginx/prose.conf", "signed " + domain, liveDir + "/" + domain} {
		if seen[what] == 0 {
			t.Errorf("no point had %s", what)
		}
	}
}

// look mends the file system, reads what the agent keeps and takes the mending
// back. An error means that it could not be looked at; what is wrong with the
// machine is in the result.
func (r *recording) look(root fileSystem, p writelog.Point) (l *look, err error) {
	dir, err := os.MkdirTemp(r.dir, "point-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	undo, wrong := root.mend(dir)
	if undo == nil {
		return nil, wrong
	}
	defer func() { err = errors.Join(err, undo()) }()
	if wrong != nil {
		return &look{problems: []error{wrong}}, nil
	}
	files := filepath.Join(dir, "files")
	if err := root.dump(files, kept); err != nil {
		return nil, err
	}
	l = lookAt(files, domain)
	l.promised(r.until(p.Entries))
	return l, nil
}

// boot boots the disk as it is now until the machine is ready again. Nobody may
// have been asked for more than one more certificate of a name.
func (r *recording) boot(t *testing.T, k *scenario.Kept, p writelog.Point) {
	before := k.Orders()
	if err := k.On(t.Context(), r.disk(), "status ready", "answers", "no-failed-units"); err != nil {
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
