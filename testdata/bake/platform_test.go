package bake

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prose-im/prose-image/testdata/oracle"
)

// Each platform of a recipe has a disk of its own, which differs from the
// others' only where the platform says.
func TestPlatforms(t *testing.T) {
	program, recipe, _ := demo(t)
	dir := t.TempDir()
	text := "platforms = [\"generic\", \"azure\"]\n\n[pod.mirror]\n\"docker.io/proseim\" = \"oci:" + filepath.Join(filepath.Dir(program), "pod") + "\"\n"
	lock, err := os.ReadFile(strings.TrimSuffix(recipe, ".toml") + ".lock")
	if err != nil {
		t.Fatal(err)
	}
	own := filepath.Join(dir, "own.toml")
	if err := errors.Join(os.WriteFile(own, []byte(text), 0o644), os.WriteFile(filepath.Join(dir, "own.lock"), lock, 0o644)); err != nil {
		t.Fatal(err)
	}
	out := t.TempDir()
	if o := run(t, exec.Command(program, "bake", own, "-o", out, "--format", "raw", "--catalog", filepath.Join(dir, "catalog"))); o.code != 0 {
		t.Fatalf("exit %d:\n%s", o.code, o.stderr)
	}
	disk := func(platform string) string { return filepath.Join(out, "prose-0-"+platform+"-amd64.raw") }
	for platform, want := range map[string][2]string{
		"generic": {"datasource_list: [ConfigDrive, NoCloud, OpenStack, None]", "apparmor $extra"},
		"azure":   {"datasource_list: [Azure, None]", "apparmor rootdelay=300 earlyprintk=ttyS0 net.ifnames=0 $extra"},
	} {
		image := oracle.Root(t, disk(platform))
		if got := oracle.Debugfs(t, image, "cat /etc/cloud/cloud.cfg.d/90-prose-datasource.cfg"); !strings.Contains(got, want[0]) {
			t.Errorf("%s: %s", platform, got)
		}
		if got := oracle.Debugfs(t, image, "cat /boot/prose/grub.cfg"); !strings.Contains(got, want[1]) {
			t.Errorf("%s: %s", platform, got)
		}
	}
	// Two files, their inodes, and what of directories and checksums goes with it.
	if n := differing(t, disk("generic"), disk("azure")); n == 0 || n > 16 {
		t.Errorf("%d blocks of 4 KiB differ", n)
	}
}

// differing counts the blocks of 4 KiB that two files do not have in common.
func differing(t *testing.T, a, b string) (n int) {
	t.Helper()
	var files [2]*os.File
	for i, name := range []string{a, b} {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		files[i] = f
	}
	var blocks [2][4096]byte
	for {
		_, err0 := io.ReadFull(files[0], blocks[0][:])
		_, err1 := io.ReadFull(files[1], blocks[1][:])
		if err0 == io.EOF && err1 == io.EOF {
			return n
		}
		if err0 != nil || err1 != nil {
			t.Fatalf("reading: %v, %v", err0, err1)
		}
		if !bytes.Equal(blocks[0][:], blocks[1][:]) {
			n++
		}
	}
}
