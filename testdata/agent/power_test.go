package agenttest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prose-im/prose-image/builder/boot/writelog"
	"github.com/prose-im/prose-image/testdata/durability"
)

// features are those of our images' file systems.
const features = "none,has_journal,ext_attr,dir_index,filetype,extent,64bit,flex_bg,sparse_super,large_file,huge_file,dir_nlink,extra_isize,metadata_csum"

// recorded gives a device with an empty file system, all writes to which are
// recorded by QEMU: what a guest's disk is to it, an exported file is here.
func recorded(t *testing.T, r *durability.Recording) string {
	t.Helper()
	must := func(args ...string) {
		t.Helper()
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	disk, export := filepath.Join(r.Dir, "recorded.raw"), filepath.Join(r.Dir, "export")
	for name, size := range map[string]int64{r.Disk(): 512 << 20, r.Writes(): 0, export: 0} {
		if err := os.WriteFile(name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(name, size); err != nil {
			t.Fatal(err)
		}
	}
	must("mkfs.ext4", "-q", "-O", features, "-E", "lazy_itable_init=0,lazy_journal_init=0", r.Disk())
	must("cp", "--sparse=always", r.Disk(), disk)
	daemon := exec.Command("qemu-storage-daemon",
		"--blockdev", "driver=file,node-name=file,discard=unmap,cache.no-flush=on,filename="+disk,
		"--blockdev", "driver=file,node-name=log,cache.no-flush=on,filename="+r.Writes(),
		"--blockdev", "driver=blklogwrites,node-name=disk,discard=unmap,file=file,log=log,log-sector-size=512,log-super-update-interval=1",
		"--export", "type=fuse,id=export,node-name=disk,writable=on,mountpoint="+export)
	log := &strings.Builder{}
	daemon.Stdout, daemon.Stderr = log, log
	if err := daemon.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		daemon.Process.Kill()
		daemon.Wait()
		_ = exec.Command("umount", "--lazy", export).Run() // its server is gone
	})
	for begin := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		if info, err := os.Stat(export); err == nil && info.Size() > 0 {
			break
		}
		if time.Since(begin) > 30*time.Second {
			t.Fatalf("waiting for the exported disk: 30 s are over\n%s", log)
		}
	}
	return loop(t, export)
}

// TestPowerCuts records what a first boot and a renewal write to the machine's
// file system, and replays it to many moments; from some of them the agent goes
// on. testdata/durability does the same with a whole machine.
func TestPowerCuts(t *testing.T) {
	dir := os.Getenv("PROSE_RECORD")
	if dir == "" {
		var err error
		if dir, err = os.MkdirTemp("/var/tmp", "prose-power-"); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(dir) })
	}
	r := &durability.Recording{Dir: dir, Domain: domain, Top: "/upper"}
	if r.Load() == nil {
		r.Replay(t, nil)
		return
	}
	w := newWorld(t, programs)
	w.records(address, names...)
	w.finalizing = r.Finalizing
	t.Run("record", func(t *testing.T) {
		b := newBoxIn(t, w, recorded(t, r))
		b.settings("")
		b.Run(t, "sync") // until here it is the image
		b.ready(t)
		if out := b.agent("renew"); out.code != 0 {
			t.Fatalf("renew: %s", out.out)
		}
		b.ready(t)
		if _, all := w.ordered(); all != 2*len(names) {
			t.Fatalf("%d orders", all)
		}
	})
	if err := r.Save(); err != nil {
		t.Fatal(err)
	}
	if t.Failed() {
		return
	}
	w.finalizing = nil
	r.Replay(t, func(p writelog.Point, disk string) {
		t.Run(fmt.Sprintf("entry %d, coin %d", p.Entries, p.Seed), func(t *testing.T) { goOn(t, w, disk) })
	})
}

// goOn has the agent go on with what a disk holds. The engine begins anew: its
// store is not recorded.
func goOn(t *testing.T, w *world, disk string) {
	again := filepath.Join(t.TempDir(), "disk")
	if out, err := exec.Command("cp", "--sparse=always", disk, again).CombinedOutput(); err != nil {
		t.Fatalf("copying the disk: %v\n%s", err, out)
	}
	before, _ := w.ordered()
	b := newBoxIn(t, w, loop(t, again))
	b.settings("")
	b.ready(t)
	b.serves(t)
	after, _ := w.ordered()
	for _, name := range names {
		if more := after[name] - before[name]; more > 1 {
			t.Errorf("%s: %d more orders", name, more)
		}
	}
}

// loop makes a block device of a file.
func loop(t *testing.T, file string) string {
	t.Helper()
	out, err := exec.Command("losetup", "--find", "--show", file).CombinedOutput()
	if err != nil {
		t.Fatalf("losetup %s: %v\n%s", file, err, out)
	}
	device := strings.TrimSpace(string(out))
	t.Cleanup(func() { _ = exec.Command("losetup", "--detach", device).Run() })
	return device
}
