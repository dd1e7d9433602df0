// Package soaktest holds the tests that take too long for every run. "make
// soak" runs them and writes what they found to docs/soak.md.
package soaktest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prose-im/prose-image/builder/debian"
)

// newer is what the version of an upgraded package ends in.
const newer = "+upgrade1"

// A repository is a directory of packages that a guest can install from.
type repository struct {
	t     *testing.T
	dir   string
	index bytes.Buffer
}

func newRepository(t *testing.T) *repository { return &repository{t: t, dir: t.TempDir()} }

func (r *repository) run(args ...string) string {
	r.t.Helper()
	out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
	if err != nil {
		r.t.Fatalf("%v: %v\n%s", args, err, out)
	}
	return string(out)
}

// add takes a package file as it is.
func (r *repository) add(file string) {
	r.t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		r.t.Fatal(err)
	}
	name := fmt.Sprintf("%x.deb", sha256.Sum256(b))
	if err := os.WriteFile(filepath.Join(r.dir, name), b, 0o644); err != nil {
		r.t.Fatal(err)
	}
	control := r.run("dpkg-deb", "--field", file)
	fmt.Fprintf(&r.index, "%s\nFilename: ./%s\nSize: %d\nSHA256: %s\n\n", strings.TrimRight(control, "\n"), name, len(b), strings.TrimSuffix(name, ".deb"))
}

// addNewer takes a package with a higher version and, where it depends on
// exactly the old version of another of the set, on that one's higher version.
func (r *repository) addNewer(file string, set []debian.Package) {
	r.t.Helper()
	dir := filepath.Join(r.t.TempDir(), "package")
	r.run("dpkg-deb", "--raw-extract", file, dir)
	control := filepath.Join(dir, "DEBIAN", "control")
	b, err := os.ReadFile(control)
	if err != nil {
		r.t.Fatal(err)
	}
	var out []string
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSuffix(line, "\n")
		if version, ok := strings.CutPrefix(line, "Version: "); ok {
			line = "Version: " + version + newer
		}
		for _, p := range set {
			line = strings.ReplaceAll(line, p.Name+" (= "+p.Version+")", p.Name+" (= "+p.Version+newer+")")
		}
		out = append(out, line)
	}
	if err := os.WriteFile(control, []byte(strings.Join(out, "\n")+"\n"), 0o644); err != nil {
		r.t.Fatal(err)
	}
	deb := dir + ".deb"
	r.run("dpkg-deb", "--build", "-Znone", "--root-owner-group", dir, deb)
	r.add(deb)
}

// serve offers the repository on loopback and returns its address as a guest
// of QEMU's user network reaches it.
func (r *repository) serve() string {
	r.t.Helper()
	if err := os.WriteFile(filepath.Join(r.dir, "Packages"), r.index.Bytes(), 0o644); err != nil {
		r.t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		r.t.Fatal(err)
	}
	s := &http.Server{Handler: http.FileServer(http.Dir(r.dir))}
	go s.Serve(l)
	r.t.Cleanup(func() { s.Shutdown(context.Background()) })
	return fmt.Sprintf("http://10.0.2.2:%d", l.Addr().(*net.TCPAddr).Port)
}
