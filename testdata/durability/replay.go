package durability

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/prose-im/prose-image/builder/boot/writelog"
)

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

// reopen opens what was recorded for a replay: the log and its bytes, and the
// disk, or a copy of it when it is replayed again some day, with its root.
func (r *Recording) reopen(t *testing.T) (l *writelog.Log, logged int64, disk *os.File, root fileSystem) {
	t.Helper()
	f, err := os.Open(r.Writes())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if l, err = writelog.Read(f, info.Size()); err != nil {
		t.Fatal(err)
	}
	name := r.Disk()
	if os.Getenv("PROSE_RECORD") != "" {
		name = filepath.Join(r.Dir, "replayed.raw")
		if out, err := exec.Command("cp", "--sparse=always", r.Disk(), name).CombinedOutput(); err != nil {
			t.Fatalf("copying the disk: %v\n%s", err, out)
		}
		t.Cleanup(func() { os.Remove(name) })
	}
	disk, root = r.openDisk(t, name)
	return l, info.Size(), disk, root
}

// openDisk opens a raw disk of the recorded machine and its root.
func (r *Recording) openDisk(t *testing.T, name string) (*os.File, fileSystem) {
	t.Helper()
	disk, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { disk.Close() })
	root, err := r.root(disk)
	if err != nil {
		t.Fatal(err)
	}
	return disk, root
}

// Replay goes through points of a recording, and has some of them booted when
// there is a way to: boot gets the disk, which it must not write to.
func (r *Recording) Replay(t *testing.T, boot func(p writelog.Point, disk string)) {
	t.Helper()
	seed := number(t, "PROSE_SEED", uint64(time.Now().UnixNano()))
	n, boots := int(number(t, "PROSE_POINTS", 20)), int(number(t, "PROSE_BOOTS", 2))
	if boot == nil {
		boots = 0
	}
	l, logged, file, root := r.reopen(t)
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
	t.Logf("recorded %d entries, %d MiB; the agent's are %d from %d on; %d orders finalized; PROSE_SEED=%d", len(l.Entries), logged>>20, len(writes), writes[0], len(r.Finalized), seed)
	if len(r.Finalized) < 8 {
		t.Errorf("only %d orders were finalized", len(r.Finalized))
	}

	seen := map[string]int{}
	begin := time.Now()
	all := points(l, writes, r.Finalized, n, seed)
	var booting time.Duration
	booted, bad := 0, 0
	for i, p := range all {
		lost := p.Entries - l.Settled(p.Entries)
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
		if len(look.problems) > 0 {
			if bad++; bad == 5 {
				t.Fatal("and so on: five points are bad")
			}
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
			boot(p, file.Name())
			booting += time.Since(start)
		}
	}
	if err := disk.Back(); err != nil {
		t.Fatal(err)
	}
	took := time.Since(begin) - booting
	t.Logf("power cuts: %d points in %.0f s, %d with writes that were not flushed, %d with an order on its way, %d ready; %d booted in %.0f s", n, took.Seconds(), seen["unflushed"], seen["order"], seen["ready"], booted, booting.Seconds())
	for _, what := range []string{"unflushed", "account", "order", "ready", stateDir + "/state.json", "/etc/prose/prose.toml", stateDir + "/nginx/prose.conf", "signed " + r.Domain} {
		if seen[what] == 0 {
			t.Errorf("no point had %s", what)
		}
	}
}

// look mends the file system, reads what the agent keeps and takes the mending
// back. An error means that it could not be looked at; what is wrong with the
// machine is in the result.
func (r *Recording) look(root fileSystem, p writelog.Point) (l *look, err error) {
	dir, err := os.MkdirTemp(r.Dir, "point-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	super, err := root.super()
	if err != nil {
		return nil, err
	}
	name, detach, err := root.attach()
	if err != nil {
		return nil, err
	}
	undo, wrong := mend(name, dir)
	defer func() {
		err = errors.Join(err, undo(), detach())
		_, back := root.disk.WriteAt(super, root.offset)
		err = errors.Join(err, back)
	}()
	if wrong != nil {
		return &look{problems: []error{wrong}}, nil
	}
	files := filepath.Join(dir, "files")
	var paths []string
	for _, p := range kept {
		paths = append(paths, filepath.Join(r.Top, p))
	}
	if err := dump(name, files, paths); err != nil {
		return nil, err
	}
	l = lookAt(filepath.Join(files, r.Top), r.Domain)
	l.promised(r.until(p.Entries))
	return l, nil
}
