package bake

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Two bakes in two places say the same of what they made, sha256sum and
// ssh-keygen agree, and the SBOM has what dpkg and the lock have.
func TestEvidence(t *testing.T) {
	program, recipe, lock := demo(t)
	dir := t.TempDir()
	if o := run(t, exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", filepath.Join(dir, "key"))); o.code != 0 {
		t.Fatalf("%s", o.stderr)
	}
	outs := []string{filepath.Join(dir, "one"), filepath.Join(dir, "two")}
	for _, out := range outs {
		o := run(t, exec.Command(program, "bake", recipe, "-o", out, "--format", "raw", "--sign", filepath.Join(dir, "key")))
		if o.code != 0 {
			t.Fatalf("exit %d:\n%s", o.code, o.stderr)
		}
	}
	names := []string{"SHA256SUMS", "SHA256SUMS.sig", "manifest.json", "prose-0-amd64.intoto.json", "prose-0-amd64.spdx.json", "prose-0-generic-amd64.raw"}
	for i, f := range left(t, outs[0]) {
		if i >= len(names) || filepath.Base(f) != names[i] {
			t.Errorf("a bake made %s", f)
			continue
		}
		if names[i] == "prose-0-generic-amd64.raw" {
			continue // its hash is in the others
		}
		one, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if two, err := os.ReadFile(filepath.Join(outs[1], names[i])); err != nil || !bytes.Equal(one, two) {
			t.Errorf("%s differs from bake to bake: %v", names[i], err)
		}
	}
	check := exec.Command("sha256sum", "--check", "--strict", "SHA256SUMS")
	check.Dir = outs[0]
	if o := run(t, check); o.code != 0 || strings.Count(o.stdout, ": OK\n") != 4 {
		t.Errorf("SHA256SUMS: exit %d\n%s%s", o.code, o.stdout, o.stderr)
	}
	public, err := os.ReadFile(filepath.Join(dir, "key.pub"))
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "signers"), append([]byte("publisher "), public...), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	sums, err := os.Open(filepath.Join(outs[0], "SHA256SUMS"))
	if err != nil {
		t.Fatal(err)
	}
	defer sums.Close()
	verify := exec.Command("ssh-keygen", "-Y", "verify", "-f", filepath.Join(dir, "signers"), "-I", "publisher", "-n", "prose-image", "-s", filepath.Join(outs[0], "SHA256SUMS.sig"))
	verify.Stdin = sums
	if o := run(t, verify); o.code != 0 {
		t.Errorf("ssh-keygen: exit %d\n%s%s", o.code, o.stdout, o.stderr)
	}

	var sbom struct {
		Packages []struct {
			Name      string
			Purpose   string `json:"primaryPackagePurpose"`
			Checksums []struct{ ChecksumValue string }
		}
	}
	read(t, filepath.Join(outs[0], "prose-0-amd64.spdx.json"), &sbom)
	locked, err := os.ReadFile(lock)
	if err != nil {
		t.Fatal(err)
	}
	count := map[string]int{}
	for _, p := range sbom.Packages {
		count[p.Purpose]++
		for _, c := range p.Checksums {
			if !bytes.Contains(locked, []byte(c.ChecksumValue)) {
				t.Errorf("the lock has no %s with hash %s", p.Name, c.ChecksumValue)
			}
		}
		if p.Checksums == nil && p.Purpose == "INSTALL" && p.Name != "prose-firstboot" {
			t.Errorf("%s is installed, and the lock has no file of it", p.Name)
		}
	}
	if n := bytes.Count(locked, []byte("[[package]]")) + 1; count["INSTALL"] != n {
		t.Errorf("%d packages are installed, want those of the lock and the agent, %d", count["INSTALL"], n)
	}
	if n := bytes.Count(locked, []byte("[[image]]")); count["CONTAINER"] != n {
		t.Errorf("%d containers, want %d", count["CONTAINER"], n)
	}

	// Without a key no old signature stays, and a key that is none fails before
	// the bake begins.
	if o := run(t, exec.Command(program, "bake", recipe, "-o", outs[0], "--format", "raw")); o.code != 0 {
		t.Errorf("exit %d:\n%s", o.code, o.stderr)
	}
	if _, err := os.Stat(filepath.Join(outs[0], "SHA256SUMS.sig")); err == nil {
		t.Error("the signature of another bake stayed")
	}
	run(t, exec.Command(program, "bake", recipe, "-o", outs[0], "--sign", filepath.Join(dir, "key.pub"))).fails(t, 2, "reading the key .*key.pub", "ssh-keygen -t ed25519")
}
