package guide

import (
	"bytes"
	"crypto/tls"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/prose-im/prose-image/builder/layer"
	"github.com/prose-im/prose-image/builder/tree"
)

// Files come with the directories above them, each with its owner.
func TestWrite(t *testing.T) {
	var b bytes.Buffer
	w, err := layer.NewWriter(&b, nil)
	if err != nil {
		t.Fatal(err)
	}
	files := []file{
		{path: "etc/prose/a", mode: 0o640, uid: 1001, text: []byte("x")},
		{path: "etc/prose-b", mode: 0o644},
		{path: "etc/prose", mode: 0o750, uid: 1001, dir: true},
		{path: "etc/link", link: "/a"},
	}
	if err := write(w, files, time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	l, err := layer.Read("test", bytes.NewReader(b.Bytes()), int64(b.Len()))
	if err != nil {
		t.Fatal(err)
	}
	made, err := tree.Merge(l)
	if err != nil {
		t.Fatal(err)
	}
	for p, want := range map[string]struct {
		mode uint16
		uid  uint32
	}{"etc": {0o755, 0}, "etc/prose": {0o750, 1001}, "etc/prose/a": {0o640, 1001}, "etc/prose-b": {0o644, 0}, "etc/link": {0o777, 0}} {
		n, ok := made.Lookup(p)
		if !ok || n.Mode != want.mode || n.UID != want.uid || n.GID != want.uid {
			t.Errorf("%s: %v %+v, want %+v", p, ok, n, want)
		}
	}
}

// The guide's compose file is upstream's: nothing of this machine's is in it.
func TestPodIsUpstreams(t *testing.T) {
	compose, settings, err := pod()
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(compose), "/usr/lib/prose") || !strings.Contains(string(compose), "/etc/prose/prose.env") {
		t.Errorf("%s", compose)
	}
	if !strings.Contains(string(settings), "{your_domain}") {
		t.Errorf("%s", settings)
	}
}

func TestSelfSigned(t *testing.T) {
	chain, key, err := selfSigned([]string{"a.example", "b.example"})
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(chain, key)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a.example", "b.example"} {
		if err := pair.Leaf.VerifyHostname(name); err != nil {
			t.Error(err)
		}
	}
}

// The script is one that bash takes.
func TestScript(t *testing.T) {
	cmd := exec.Command("bash", "-n")
	cmd.Stdin = bytes.NewReader(text("guide.sh"))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}
