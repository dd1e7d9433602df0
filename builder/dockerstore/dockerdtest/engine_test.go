package dockerdtest

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prose-im/prose-image/testdata/machine"
)

// daemonJSON has no network of its own, so that nothing of the host's is
// changed: the machine is in it, because the registry is.
const daemonJSON = `{"bridge": "none", "iptables": false, "ip6tables": false, "storage-driver": "overlay2"}`

// An engine is a Debian's dockerd.
type engine struct {
	*machine.Machine
	data string // what is /var/lib/docker inside
}

// start starts all but dockerd itself: its store is filled first.
func start(t *testing.T) *engine {
	t.Helper()
	m := machine.StartHere(t, machine.Debian(t))
	m.Write("etc/docker/daemon.json", daemonJSON)
	m.StartContainerd()
	return &engine{m, filepath.Join(m.Dir, "docker")}
}

// docker is what a command of the client writes to standard output.
func (e *engine) docker(t testing.TB, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cmd := e.Command(ctx, append([]string{"docker"}, args...)...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("docker %s: %v\n%s%s\n%s", strings.Join(args, " "), err, out.String(), errs.String(), e.log(t))
	}
	return out.String()
}

// log is what dockerd has said, without containerd before it.
func (e *engine) log(t testing.TB) string {
	t.Helper()
	b, err := os.ReadFile(e.Log)
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(b), `msg="Starting up"`)
	return after
}
