package debian

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestRepackage has dpkg-deb make a package and read it again after us.
func TestRepackage(t *testing.T) {
	root := filepath.Join(t.TempDir(), "root")
	write := func(name, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(filepath.Join(root, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("DEBIAN/control", "Package: sample\nVersion: 1:2.0\nArchitecture: arm64\nMaintainer: Nobody <nobody@example.org>\nDescription: a sample\n")
	write("usr/share/sample/text", strings.Repeat("all work and no play\n", 5000))
	dpkg := func(args ...string) []byte {
		t.Helper()
		out, err := exec.Command("dpkg-deb", args...).Output()
		if err != nil {
			t.Fatalf("dpkg-deb %v: %v", args, err)
		}
		return out
	}
	from, to := filepath.Join(t.TempDir(), "from.deb"), filepath.Join(t.TempDir(), "to.deb")
	dpkg("--root-owner-group", "-Zxz", "--build", root, from)
	size, sum, err := repackage(t.Context(), from, to)
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"--fsys-tarfile", "--ctrl-tarfile", "--field"} {
		if before, after := dpkg(part, from), dpkg(part, to); len(before) == 0 || !bytes.Equal(before, after) {
			t.Errorf("dpkg-deb %s gives %d bytes, %d before", part, len(after), len(before))
		}
	}
	b, err := os.ReadFile(to)
	if err != nil {
		t.Fatal(err)
	}
	if int64(len(b)) != size || fmt.Sprintf("%x", sha256.Sum256(b)) != sum {
		t.Errorf("%d bytes, %s; it has %d", size, sum, len(b))
	}
	if !bytes.Contains(b, bytes.Repeat([]byte("all work and no play\n"), 100)) {
		t.Error("it is still compressed")
	}
	list, err := exec.Command("ar", "t", to).Output()
	if err != nil || string(list) != "debian-binary\ncontrol.tar\ndata.tar\n" {
		t.Errorf("ar lists %q, %v", list, err)
	}
	if _, _, err := repackage(t.Context(), filepath.Join(root, "DEBIAN/control"), to+"2"); err == nil {
		t.Error("a text was taken for a package")
	}
}
