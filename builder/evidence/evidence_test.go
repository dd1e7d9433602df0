package evidence

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	spdxjson "github.com/spdx/tools-golang/json"
	"github.com/spdx/tools-golang/spdxlib"
)

const status = `Package: libstdc++6
Status: install ok installed
Maintainer: Debian GCC Maintainers
Architecture: amd64
Source: gcc-14 (14.2.0-19)
Version: 14.2.0-19+b1
Description: GNU Standard C++ Library
 Package: no field, but more of one
 .

Package: gone
Status: deinstall ok config-files
Version: 1

Package: prose-firstboot
Status: install ok installed
Architecture: amd64
Version: 0~devel
`

func example(t *testing.T) *Bake {
	t.Helper()
	installed, err := ParseStatus([]byte(status))
	if err != nil {
		t.Fatal(err)
	}
	return &Bake{
		Name: "prose", Version: "1.0", Arch: "amd64", Suite: "trixie", Release: strings.Repeat("a", 64), Date: time.Unix(1700000000, 0),
		Recipe: strings.Repeat("1", 64), Lock: strings.Repeat("2", 64), Tool: "v1.0.0", Installed: installed,
		Packages: []Package{{Name: "libstdc++6", Version: "14.2.0-19+b1", Arch: "amd64", SHA256: strings.Repeat("b", 64), URI: "http://user:secret@deb.example/pool/libstdc++6.deb"}},
		Images: []Image{
			{Name: "docker.io/proseim/prose-pod-api:0.20.0", Digest: "sha256:" + strings.Repeat("c", 64), Manifest: "sha256:" + strings.Repeat("d", 64)},
			{Name: "localhost:5000/x@sha256:" + strings.Repeat("c", 64), Digest: "sha256:" + strings.Repeat("c", 64), Manifest: "sha256:" + strings.Repeat("e", 64)},
		},
		Artifacts: []File{{"prose-1.0-generic-amd64.raw", strings.Repeat("f", 64)}},
	}
}

func TestStatus(t *testing.T) {
	got := example(t).Installed
	want := []Installed{{"libstdc++6", "14.2.0-19+b1", "amd64", "gcc-14 (14.2.0-19)"}, {"prose-firstboot", "0~devel", "amd64", "prose-firstboot"}}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", got, want)
	}
	for _, bad := range []string{"Package: x\nStatus: install ok installed\n", "no field\n"} {
		if _, err := ParseStatus([]byte(bad)); err == nil || !strings.Contains(err.Error(), "line 1: ") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// SPDX's own library reads the SBOM, and finds nothing wrong.
func TestSBOM(t *testing.T) {
	b, err := example(t).SBOM()
	if err != nil {
		t.Fatal(err)
	}
	d, err := spdxjson.Read(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	if err := spdxlib.ValidateDocument(d); err != nil {
		t.Error(err)
	}
	if d.SPDXVersion != "SPDX-2.3" || d.CreationInfo.Created != "2023-11-14T22:13:20Z" || len(d.Packages) != 5 || len(d.Relationships) != 5 {
		t.Errorf("%s", b)
	}
	var urls []string
	for _, p := range d.Packages {
		for _, r := range p.PackageExternalReferences {
			urls = append(urls, r.Locator)
		}
	}
	want := []string{"pkg:deb/debian/libstdc%2B%2B6@14.2.0-19%2Bb1?arch=amd64&distro=trixie", "pkg:generic/prose-firstboot@0~devel",
		"pkg:oci/prose-pod-api@sha256%3A" + strings.Repeat("d", 64) + "?repository_url=docker.io%2Fproseim%2Fprose-pod-api&tag=0.20.0",
		"pkg:oci/x@sha256%3A" + strings.Repeat("e", 64) + "?repository_url=localhost:5000%2Fx"}
	if strings.Join(urls, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(urls, "\n"), strings.Join(want, "\n"))
	}
	again, err := example(t).SBOM()
	if err != nil || !bytes.Equal(b, again) {
		t.Errorf("equal bakes have other SBOMs: %v", err)
	}
	if bytes.Contains(b, []byte("secret")) {
		t.Error("a mirror's password is in the SBOM")
	}
}

func TestProvenance(t *testing.T) {
	b, err := example(t).Provenance()
	if err != nil {
		t.Fatal(err)
	}
	type digest struct{ SHA256 string }
	var s struct {
		Type          string `json:"_type"`
		PredicateType string
		Subject       []struct {
			Name   string
			Digest digest
		}
		Predicate struct {
			BuildDefinition struct {
				BuildType            string
				ExternalParameters   struct{ Recipe struct{ Digest digest } }
				ResolvedDependencies []struct {
					Name, URI, DownloadLocation string
					Digest                      digest
				}
			}
			RunDetails struct {
				Builder  struct{ ID string }
				Metadata struct{ InvocationID string }
			}
		}
	}
	if err := json.Unmarshal(b, &s); err != nil {
		t.Fatal(err)
	}
	deps := s.Predicate.BuildDefinition.ResolvedDependencies
	switch {
	case s.Type != "https://in-toto.io/Statement/v1" || s.PredicateType != "https://slsa.dev/provenance/v1",
		len(s.Subject) != 1 || s.Subject[0].Digest.SHA256 != strings.Repeat("f", 64),
		s.Predicate.BuildDefinition.ExternalParameters.Recipe.Digest.SHA256 != strings.Repeat("1", 64),
		len(deps) != 4 || deps[1].DownloadLocation != "http://deb.example/pool/libstdc++6.deb" || deps[2].Digest.SHA256 != strings.Repeat("d", 64),
		s.Predicate.RunDetails.Builder.ID == "" || s.Predicate.BuildDefinition.BuildType == "" || s.Predicate.RunDetails.Metadata.InvocationID != strings.Repeat("a", 64):
		t.Errorf("%s", b)
	}
}

// OpenSSH's own program believes the signature, and no other.
func TestSign(t *testing.T) {
	dir := t.TempDir()
	keygen := func(args ...string) ([]byte, error) {
		c := exec.Command("ssh-keygen", args...)
		c.Dir = dir
		if f, err := os.Open(filepath.Join(dir, "content")); err == nil {
			defer f.Close()
			c.Stdin = f
		}
		return c.CombinedOutput()
	}
	if out, err := keygen("-q", "-t", "ed25519", "-N", "", "-f", "key"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if out, err := keygen("-q", "-t", "ed25519", "-N", "a passphrase", "-f", "locked"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	key, err := ReadKey(filepath.Join(dir, "key"))
	if err != nil {
		t.Fatal(err)
	}
	content := Sums([]File{{"b", strings.Repeat("b", 64)}, {"a", strings.Repeat("a", 64)}})
	if want := strings.Repeat("a", 64) + "  a\n" + strings.Repeat("b", 64) + "  b\n"; string(content) != want {
		t.Errorf("got %q", content)
	}
	signature, err := Sign(key, content)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := Sign(key, content); err != nil || !bytes.Equal(signature, again) {
		t.Errorf("another signature of the same: %v", err)
	}
	public, err := os.ReadFile(filepath.Join(dir, "key.pub"))
	if err != nil {
		t.Fatal(err)
	}
	write := func(name string, b []byte) {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("signers", append([]byte("publisher "), public...))
	write("content.sig", signature)
	write("content", content)
	verify := []string{"-Y", "verify", "-f", "signers", "-I", "publisher", "-n", Namespace, "-s", "content.sig"}
	if out, err := keygen(verify...); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	write("content", append(content, ' '))
	if out, err := keygen(verify...); err == nil {
		t.Errorf("a changed file is believed: %s", out)
	}
	for _, name := range []string{"locked", "key.pub", "nowhere"} {
		if _, err := ReadKey(filepath.Join(dir, name)); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzStatus(f *testing.F) {
	f.Add([]byte(status))
	f.Add([]byte("Package:\n\n\t"))
	f.Fuzz(func(t *testing.T, b []byte) {
		list, err := ParseStatus(b)
		if err != nil {
			return
		}
		for _, p := range list {
			if p.Name == "" || p.Version == "" || p.Arch == "" {
				t.Errorf("%+v", p)
			}
		}
	})
}

func TestParseSums(t *testing.T) {
	files := []File{{"a file", strings.Repeat("a", 64)}, {"b", strings.Repeat("0", 64)}}
	got, err := ParseSums(Sums(files))
	if err != nil || !slices.Equal(got, files) {
		t.Errorf("%v, %v", got, err)
	}
	for _, bad := range []string{"x", "abcd  file\n", strings.Repeat("a", 64) + " file\n", strings.Repeat("a", 64) + "  \n", strings.Repeat("a", 64) + "  ../x\n", strings.Repeat("g", 64) + "  x\n", "\n"} {
		if got, err := ParseSums([]byte(bad)); err == nil {
			t.Errorf("%q is %v", bad, got)
		}
	}
}
