package durability

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prose-im/prose-image/builder/boot"
	"github.com/prose-im/prose-image/builder/boot/writelog"
	boottest "github.com/prose-im/prose-image/testdata/boot"
)

const (
	grownDisk = 2 << 40 // bytes: more than a thousand times the image
	grownDir  = "/var/tmp/grown"
	batches   = 12
)

// A batch is files that the guest had synced when the record had so many
// entries: a flush among them keeps these files for good.
type batch struct {
	Entries int
	Sums    map[string]string // sha256 by name
}

// TestGrownDisk boots the image on a disk of 2 TiB while QEMU records its
// writes, has it write files, and kills QEMU. What is left must mend itself and
// have every file that was synced. So must the disk as it was at many moments,
// half of them while the file system was growing, and some of these are booted:
// they have to grow to the end.
func TestGrownDisk(t *testing.T) {
	if out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	r := &Recording{Dir: os.Getenv("PROSE_RECORD"), Partition: "root"}
	notes := filepath.Join(r.Dir, "grown.json")
	if b, err := os.ReadFile(notes); r.Dir != "" && err == nil {
		var written []batch
		if err := json.Unmarshal(b, &written); err != nil {
			t.Fatal(err)
		}
		r.replayGrowth(t, written)
		return
	}
	if r.Dir == "" {
		dir, err := os.MkdirTemp("/var/tmp", "prose-grown-")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(dir) })
		r.Dir = dir
	}
	if err := r.CopyDisk(boottest.Image(t), grownDisk); err != nil {
		t.Fatal(err)
	}
	var written []batch
	machine := filepath.Join(r.Dir, "machine")
	t.Run("record", func(t *testing.T) {
		key, err := boot.NewKey()
		if err != nil {
			t.Fatal(err)
		}
		m := boottest.BootWith(t, key, boot.Options{Size: grownDisk, Network: boot.Cut, Writes: r.Writes(), Dir: machine})
		hasGrown(t, m)
		for i := range batches {
			written = append(written, writeBatch(t, m, r, i))
		}
		go m.Shell.Root(context.Background(), writeScript(batches))
		time.Sleep(time.Second) // in the middle of that
		killMachine(t, machine)
		<-m.Done()
	})
	if t.Failed() {
		return
	}
	t.Run("killed", func(t *testing.T) { checkKilled(t, r, filepath.Join(machine, "disk.qcow2"), written) })
	if b, err := json.Marshal(written); os.Getenv("PROSE_RECORD") != "" && (err != nil || os.WriteFile(notes, b, 0o600) != nil) {
		t.Errorf("the recording is not kept: %v", err)
	}
	r.replayGrowth(t, written)
}

// hasGrown waits until the machine has settled and looks how large its file
// system is.
func hasGrown(t *testing.T, m *boottest.Machine) {
	t.Helper()
	state := m.Root(t, boot.ToSettled, "systemctl is-system-running --wait || true")
	if state != "running" {
		t.Errorf("the system is %s:\n%s", state, m.Root(t, boot.Command, "systemctl --no-pager --failed"))
	}
	sizes := strings.Fields(m.Root(t, boot.Command, `root=$(findmnt -no SOURCE /)
blockdev --getsize64 "$root"
dumpe2fs -h "$root" 2>/dev/null | sed -n 's/^Block count: *//p; s/^Inode count: *//p'
df --block-size=1 --output=size / | tail -n1`))
	if len(sizes) != 4 {
		t.Fatalf("sizes: %q", sizes)
	}
	var n [4]int64
	for i, s := range sizes {
		v, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		n[i] = v
	}
	partition, inodes, blocks, usable := n[0], n[1], n[2], n[3]
	if partition < grownDisk-1<<30 || partition-blocks*4096 > 128<<20 || usable < grownDisk*97/100 || grownDisk/inodes > 17000 {
		t.Errorf("on %d bytes the partition has %d, the file system %d with %d inodes, %d of it usable", int64(grownDisk), partition, blocks*4096, inodes, usable)
	}
}

// writeScript makes the files of a batch, syncs each and prints their sums.
func writeScript(n int) string {
	return fmt.Sprintf(`mkdir -p %[1]s
cd %[1]s
for i in $(seq 1 25); do
	head -c $((i * 3777)) /dev/urandom > %[2]d-$i
	sync %[2]d-$i
done
sync .
sha256sum %[2]d-*`, grownDir, n)
}

func writeBatch(t *testing.T, m *boottest.Machine, r *Recording, n int) batch {
	t.Helper()
	b := batch{Sums: map[string]string{}}
	for line := range strings.Lines(m.Root(t, boot.Command, writeScript(n))) {
		if f := strings.Fields(line); len(f) == 2 {
			b.Sums[f[1]] = f[0]
		}
	}
	if len(b.Sums) != 25 {
		t.Fatalf("batch %d has %d files", n, len(b.Sums))
	}
	f, err := os.Open(r.Writes())
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if b.Entries, err = writelog.Count(f); err != nil {
		t.Fatal(err)
	}
	return b
}

// killMachine kills the QEMU whose files are in dir, which gives it no chance
// to write anything.
func killMachine(t *testing.T, dir string) {
	t.Helper()
	lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, name := range lines {
		line, _ := os.ReadFile(name)
		program, _, _ := strings.Cut(string(line), "\x00")
		if strings.HasPrefix(filepath.Base(program), "qemu-system-") && strings.Contains(string(line), dir+"/") {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(name)))
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			return
		}
	}
	t.Fatalf("no QEMU has its files in %s", dir)
}

// checkKilled looks at what a killed QEMU has left.
func checkKilled(t *testing.T, r *Recording, overlay string, written []batch) {
	copied := filepath.Join(r.Dir, "killed.raw")
	defer os.Remove(copied)
	if out, err := exec.Command("qemu-img", "convert", "-O", "raw", overlay, copied).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	_, root := r.openDisk(t, copied)
	blocks, problems := r.lookAtGrown(t, root, written)
	for _, p := range problems {
		t.Error(p)
	}
	if blocks*4096 < grownDisk-1<<30 {
		t.Errorf("the file system has %d blocks", blocks)
	}
}

// lookAtGrown mends the file system, and takes that back. It says how many
// blocks there are, and what of the batches is not as it was.
func (r *Recording) lookAtGrown(t *testing.T, root fileSystem, promised []batch) (blocks int64, problems []error) {
	t.Helper()
	dir, err := os.MkdirTemp(r.Dir, "point-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	before, err := root.super()
	if err != nil {
		t.Fatal(err)
	}
	name, detach, err := root.attach()
	if err != nil {
		t.Fatal(err)
	}
	undo, wrong := mend(name, dir)
	defer func() {
		if err := undo(); err != nil {
			t.Error(err)
		}
		if err := detach(); err != nil {
			t.Error(err)
		}
		if _, err := root.disk.WriteAt(before, root.offset); err != nil {
			t.Error(err)
		}
	}()
	if wrong != nil {
		return 0, []error{wrong}
	}
	super, err := root.super()
	if err != nil {
		t.Fatal(err)
	}
	if len(promised) > 0 {
		files := filepath.Join(dir, "files")
		if err := dump(name, files, []string{grownDir}); err != nil {
			return 0, []error{err}
		}
		for _, b := range promised {
			for file, sum := range b.Sums {
				content, err := os.ReadFile(filepath.Join(files, grownDir, file))
				if got := fmt.Sprintf("%x", sha256.Sum256(content)); err != nil || got != sum {
					problems = append(problems, fmt.Errorf("%s: %d bytes with sha256 %.12s, want %.12s: %v", file, len(content), got, sum, err))
				}
			}
		}
	}
	return superBlocks(super[1024:]), problems
}

// superBlocks is s_blocks_count of a super block (fs/ext4/ext4.h of Linux).
func superBlocks(super []byte) int64 {
	return int64(binary.LittleEndian.Uint32(super[4:])) | int64(binary.LittleEndian.Uint32(super[0x150:]))<<32
}

// growth finds the writes between which the file system grew, by the block
// counts of its super block: as it is put into the journal, and to its place.
func growth(l *writelog.Log, before []byte) (first, last int, err error) {
	const block, at = 4096, 1024
	begin, uuid := superBlocks(before[at:]), before[at+0x68:at+0x78]
	most := begin
	for i := range l.Entries {
		b, err := l.Content(i)
		if err != nil {
			return 0, 0, err
		}
		for ; len(b) >= block; b = b[block:] {
			if b[at+0x38] != 0x53 || b[at+0x39] != 0xef || !bytes.Equal(b[at+0x68:at+0x78], uuid) {
				continue
			}
			if n := superBlocks(b[at:]); n > most {
				if most == begin {
					first = i
				}
				most, last = n, i
			}
		}
	}
	return first, last, nil
}

// replayGrowth goes through moments of the record.
func (r *Recording) replayGrowth(t *testing.T, written []batch) {
	seed := number(t, "PROSE_SEED", uint64(time.Now().UnixNano()))
	n, boots := int(number(t, "PROSE_POINTS", 20)), int(number(t, "PROSE_BOOTS", 2))
	l, logged, file, root := r.reopen(t)
	before, err := root.super()
	if err != nil {
		t.Fatal(err)
	}
	first, last, err := growth(l, before)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("recorded %d entries, %d MiB; the file system grew from %d to %d; PROSE_SEED=%d", len(l.Entries), logged>>20, first, last, seed)
	if first == 0 || last <= first {
		t.Fatal("no growth was recorded")
	}
	disk, err := writelog.NewDisk(l, file, grownDisk)
	if err != nil {
		t.Fatal(err)
	}
	coin := rand.New(rand.NewPCG(seed, 0))
	points := make([]writelog.Point, n)
	for i := range points {
		at := first - 20 + coin.IntN(last-first+60)
		if i%2 == 1 {
			at = last + coin.IntN(len(l.Entries)-last+1)
		}
		points[i] = writelog.Point{Entries: min(max(at, 1), len(l.Entries)), Seed: coin.Uint64()}
	}
	slices.SortFunc(points, func(a, b writelog.Point) int { return a.Entries - b.Entries })

	seen, booted := map[string]int{}, 0
	for i, p := range points {
		if err := disk.To(p); err != nil {
			t.Fatal(err)
		}
		settled := l.Settled(p.Entries)
		var promised []batch
		for _, b := range written {
			if b.Entries <= settled {
				promised = append(promised, b)
			}
		}
		blocks, problems := r.lookAtGrown(t, root, promised)
		for _, problem := range problems {
			t.Errorf("point %d of %d (entry %d, coin %d): %v", i, n, p.Entries, p.Seed, problem)
		}
		between := p.Entries >= first && p.Entries <= last
		for what, is := range map[string]bool{"growing": between, "grown": blocks*4096 > grownDisk-1<<30, "promised": len(promised) > 0, "unflushed": settled < p.Entries} {
			if is {
				seen[what]++
			}
		}
		if booted < boots && between {
			booted++
			t.Run(fmt.Sprintf("boot of entry %d, coin %d", p.Entries, p.Seed), func(t *testing.T) { r.growOn(t, file.Name()) })
		}
	}
	t.Logf("power cuts: %d points, %d while growing, %d grown, %d with files that were synced, %d with writes that were not flushed; %d booted", n, seen["growing"], seen["grown"], seen["promised"], seen["unflushed"], booted)
	for _, what := range []string{"growing", "grown", "promised", "unflushed"} {
		if seen[what] == 0 {
			t.Errorf("no point was %s", what)
		}
	}
}

// growOn boots a disk, whose file system has to grow to its end.
func (r *Recording) growOn(t *testing.T, disk string) {
	t.Setenv("PROSE_IMAGE", disk)
	key, err := boot.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	machine := filepath.Join(r.Dir, "again")
	defer os.RemoveAll(machine)
	m := boottest.BootWith(t, key, boot.Options{Network: boot.Cut, Dir: machine})
	hasGrown(t, m)
	m.Off(t)
	copied := filepath.Join(r.Dir, "again.raw")
	defer os.Remove(copied)
	if out, err := exec.Command("qemu-img", "convert", "-O", "raw", filepath.Join(machine, "disk.qcow2"), copied).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	f, err := os.Open(copied)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	root, err := r.root(f)
	if err != nil {
		t.Fatal(err)
	}
	name, detach, err := root.attach()
	if err != nil {
		t.Fatal(err)
	}
	defer detach()
	if out, err := exec.Command("e2fsck", "-fn", name).CombinedOutput(); err != nil {
		t.Errorf("e2fsck -fn: %v\n%s", err, out)
	}
}
