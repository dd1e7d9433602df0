package overlays

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// The Pod's switch and the engine's units under a real systemd, sandbox and all,
// with stand-ins for the Pod's programs and Compose in the place of the agent.
func TestPodUnit(t *testing.T) {
	t.Cleanup(func() { mustRun(t, "rm -f /usr/lib/prose/pod/compose.images.yaml") })
	underSystemd(t, "pod", `unit:prose-walls active success
unit:containerd active success
unit:docker active success
unit:prose active success
switched on
running 4
peer
stopped:prose inactive success
running 0
switched off
switched on
running 4
restarted:prose active success
running 4
walled:docker inactive success
walled:walls active success
walls stand
killed:docker active success
`)
}

// The door's units with the agent's own program, sandbox and all.
func TestDoorUnit(t *testing.T) {
	run(t, "true") // makes the machine
	build := exec.Command("go", "build", "-o", filepath.Join(debian13.dir, "usr/bin/prose-firstboot"), "../cmd/prose-firstboot")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the agent: %v\n%s", err, out)
	}
	t.Cleanup(func() {
		mustRun(t, "rm -rf /usr/bin/prose-firstboot /var/lib/prose-firstboot/door.key /var/lib/prose-door")
	})
	underSystemd(t, "door", `begins 204
stranger 401
killed 204
away 503
back 204
account
gone 000
mended 204
keyless 000
keyed 204
uid 1001 is refused
NGINX is not
`)
}

// underSystemd starts units and compares what was looked at.
func underSystemd(t *testing.T, name, want string) {
	t.Helper()
	buildPeer(t)
	group := fmt.Sprintf("/prose-overlays-unit-%d", os.Getpid())
	script := "CGROUP=" + group + "\n"
	for _, part := range []string{"begin", name, "end"} {
		b, err := os.ReadFile("testdata/systemd/" + part + ".sh")
		if err != nil {
			t.Fatal(err)
		}
		script += string(b)
	}
	removeGroup(t, group)
	t.Cleanup(func() { mustRun(t, "rm -f /looked") })
	out, err := run(t, script)
	got, readErr := os.ReadFile(filepath.Join(debian13.dir, "looked"))
	if err != nil || readErr != nil {
		t.Fatalf("%v %v\n%s\n%s", err, readErr, out, got)
	}
	if string(got) != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}
