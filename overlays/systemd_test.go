package overlays

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// The Pod's switch and the engine's units under a real systemd, sandbox and all,
// with stand-ins for the Pod's programs and Compose in the place of the agent.
func TestPodUnit(t *testing.T) {
	buildPeer(t)
	script, err := os.ReadFile("testdata/systemd.sh")
	if err != nil {
		t.Fatal(err)
	}
	group := fmt.Sprintf("/prose-overlays-unit-%d", os.Getpid())
	removeGroup(t, group)
	looked := filepath.Join(debian13.dir, "looked")
	t.Cleanup(func() { mustRun(t, "rm -f /looked /usr/lib/prose/pod/compose.images.yaml") })
	out, err := run(t, "CGROUP="+group+"\n"+string(script))
	got, readErr := os.ReadFile(looked)
	if err != nil || readErr != nil {
		t.Fatalf("%v %v\n%s\n%s", err, readErr, out, got)
	}
	want := `unit:prose-walls active success
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
`
	if string(got) != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}
