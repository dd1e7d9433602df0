package bake

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A bake is killed while packages are unpacked, configured and scripts run, as
// root and as an ordinary user: nothing of it goes on, is mounted or stays in
// the temporary directory. Then two bakes at a time make the base in that
// cache, once, while nobody may clean it.
func TestKilledBase(t *testing.T) {
	program, recipe, lock := demo(t)
	dir, err := os.MkdirTemp("/var/tmp", "prose-image-base-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// What is mounted there may be the machine's own.
		if mounts, err := os.ReadFile("/proc/self/mountinfo"); err != nil || bytes.Contains(mounts, []byte(dir)) {
			t.Errorf("something may be mounted in %s: it is left (%v)", dir, err)
			return
		}
		os.RemoveAll(dir)
	})
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	src, cache, temp := dir+"/src", dir+"/cache", dir+"/tmp"
	for _, d := range []string{src + "/bin", src + "/testdata/recipes", cache, temp} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	bin := filepath.Dir(program)
	for _, c := range [][2]string{
		{program, src + "/bin"}, {bin + "/prose-firstboot-linux-amd64", src + "/bin"}, {bin + "/pod", src + "/bin"}, {recipe, src + "/testdata/recipes"}, {lock, src + "/testdata/recipes"},
		{userCache(t) + "/packages", cache}, {userCache(t) + "/blobs", cache},
	} {
		if out, err := exec.Command("cp", "-rL", c[0], c[1]).CombinedOutput(); err != nil {
			t.Fatalf("copying: %v\n%s", err, out)
		}
	}
	bake := func(out string, who *syscall.Credential) *exec.Cmd {
		cmd := exec.Command(src+"/bin/prose-image", "bake", src+"/testdata/recipes/demo.toml", "-o", out, "--cache", cache, "--format", "raw", "--offline", "--catalog", out+".catalog")
		cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/nonexistent", "TMPDIR=" + temp}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: who}
		return cmd
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	who := ordinary(t)
	kills := []*syscall.Credential{nil, who}
	if os.Getenv("BAKE_CRASHES") != "" { // make soak
		kills = append(kills, nil, who, nil, who, nil, who)
	}
	for i, by := range kills {
		name := "root"
		if by != nil {
			name = "an ordinary user"
		}
		owner := fmt.Sprintf("%d:%d", who.Uid, who.Gid)
		if by == nil {
			owner = "0:0"
		}
		if out, err := exec.Command("chown", "-R", owner, dir).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		if !t.Run(fmt.Sprintf("%s, %d", name, i), func(t *testing.T) {
			cmd := bake(dir+"/killed", by)
			var said bytes.Buffer
			cmd.Stderr = &said
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			end := make(chan struct{})
			go func() { _ = cmd.Wait(); close(end) }()
			for begin := time.Now(); !installing(temp); time.Sleep(20 * time.Millisecond) {
				select {
				case <-end:
					t.Fatalf("the bake ended before it installed anything:\n%s", &said)
				default:
				}
				if time.Since(begin) > 3*time.Minute {
					t.Fatal("waiting for the base to be installed: 3 minutes are over")
				}
			}
			time.Sleep(time.Duration(random.Int64N(int64(15 * time.Second))))
			_ = cmd.Process.Kill()
			<-end
			if cmd.ProcessState.Exited() {
				t.Fatalf("the bake had ended before it was killed:\n%s", &said)
			}
			for begin := time.Now(); ; time.Sleep(100 * time.Millisecond) {
				remains := remains(t, temp)
				if len(remains) == 0 {
					break
				}
				if time.Since(begin) > 2*time.Minute {
					t.Fatalf("two minutes after the kill there are still:\n%s", strings.Join(remains, "\n"))
				}
			}
			looksGood(t, cache+"/layers")
		}) {
			return
		}
	}
	t.Run("two at a time", func(t *testing.T) {
		var said [2]bytes.Buffer
		var bakes [2]*exec.Cmd
		for i := range bakes {
			bakes[i] = bake(fmt.Sprintf("%s/out%d", dir, i), who)
			bakes[i].Stderr = &said[i]
			if err := bakes[i].Start(); err != nil {
				t.Fatal(err)
			}
		}
		for begin := time.Now(); !installing(temp); time.Sleep(20 * time.Millisecond) {
			if time.Since(begin) > 3*time.Minute {
				t.Fatalf("waiting for the base to be installed: 3 minutes are over")
			}
		}
		run(t, exec.Command(program, "cache", "gc", "--cache", cache, "--keep", "1MiB")).fails(t, 1, "a bake is using the cache ", "wait for its end")
		made := 0
		for i, c := range bakes {
			if err := c.Wait(); err != nil {
				t.Fatalf("%v\n%s", err, &said[i])
			}
			made += len(regexp.MustCompile(`(?m)^bake     base +[0-9]`).FindAllString(said[i].String(), -1))
		}
		if made != 1 {
			t.Errorf("the base was made %d times:\n%s\n%s", made, &said[0], &said[1])
		}
		whole := dir + "/whole" // as root, from the user's own cache
		if o := run(t, exec.Command(program, "bake", recipe, "-o", whole, "--format", "raw", "--offline", "--catalog", whole+".catalog")); o.code != 0 {
			t.Fatalf("exit %d:\n%s", o.code, o.stderr)
		}
		if a, b, want := raw(t, dir+"/out0"), raw(t, dir+"/out1"), raw(t, whole); a != want || b != want {
			t.Errorf("the disks are %s and %s, undisturbed it is %s", a, b, want)
		}
		if v := run(t, exec.Command(program, "cache", "verify", "--cache", cache)); v.code != 0 {
			t.Errorf("verify: exit %d:\n%s%s", v.code, v.stdout, v.stderr)
		}
		making, _ := filepath.Glob(cache + "/layers/*.making")
		if r := append(remains(t, temp), making...); len(r) > 0 {
			t.Errorf("left behind: %q", r)
		}
	})
}

// remains are processes that have to do with a directory, mounts in it that are
// not in a namespace of their own, and what lies in it.
func remains(t *testing.T, dir string) (list []string) {
	t.Helper()
	processes, _ := filepath.Glob("/proc/[0-9]*")
	for _, p := range processes {
		line, _ := os.ReadFile(p + "/cmdline")
		root, _ := os.Readlink(p + "/root")
		if bytes.Contains(line, []byte(dir)) || strings.HasPrefix(root, dir) {
			list = append(list, fmt.Sprintf("process %s: %q in %s", filepath.Base(p), line, root))
		}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); len(f) > 4 && strings.HasPrefix(f[4], dir+"/") {
			list = append(list, "mounted: "+f[4])
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		list = append(list, filepath.Join(dir, e.Name()))
	}
	return list
}

// looksGood says what of a base lies in a cache after a kill. The containers,
// which are made beside it, may be there whole. The empty .making is what the
// next bake takes.
func looksGood(t *testing.T, layers string) {
	t.Helper()
	files, err := os.ReadDir(layers)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		path := filepath.Join(layers, f.Name())
		whole := strings.TrimSuffix(path, filepath.Ext(path)) + ".json"
		switch filepath.Ext(path) {
		case ".making":
		case ".json", ".tar":
			var record struct{ Kind string }
			b, err := os.ReadFile(whole)
			if err == nil {
				err = json.Unmarshal(b, &record)
			}
			if err != nil || record.Kind != "containers" {
				t.Errorf("in the cache: %s of %q: %v", f.Name(), record.Kind, err)
			}
		default:
			t.Errorf("in the cache: %s", f.Name())
		}
	}
}
