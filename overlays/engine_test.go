package overlays

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// The image's own engine, configuration, walls and bundle together, with
// stand-ins for the Pod's programs. Compose stands in for the agent.
func TestEngine(t *testing.T) {
	buildPeer(t)
	script, err := os.ReadFile("testdata/engine.sh")
	if err != nil {
		t.Fatal(err)
	}
	unit, err := content.ReadFile("base/usr/lib/systemd/system/prose.service")
	if err != nil {
		t.Fatal(err)
	}
	// What the unit takes away, as far as it goes without systemd: no network,
	// no capability, no home.
	const confined = "unshare --net setpriv --bounding-set -all --inh-caps -all --no-new-privs env --unset HOME "
	var set strings.Builder
	group := fmt.Sprintf("/prose-overlays-%d", os.Getpid())
	fmt.Fprintf(&set, "CGROUP=%s\n", group)
	for line := range strings.Lines(string(unit)) {
		switch key, value, _ := strings.Cut(strings.TrimSpace(line), "="); key {
		case "Environment":
			fmt.Fprintf(&set, "export %s\n", value)
		case "ExecStop":
			compose, ok := strings.CutSuffix(value, " stop")
			if !ok {
				t.Fatalf("ExecStop=%s", value)
			}
			fmt.Fprintf(&set, "STOP='%s%s'\nUP='%s%s up --detach --remove-orphans'\n", confined, value, confined, compose)
		}
	}
	removeGroup(t, group)
	out := mustRun(t, set.String()+string(script))

	want := []string{
		"subnet 172.24.", " fd6c:9d1e:5a2b:70",
		"/prose-server-1 log json-file 10m 3",
		"caps /prose-server-1 [ALL] [no-new-privileges:true] unless-stopped",
		"caps /prose-app-1 [ALL] [no-new-privileges:true] unless-stopped",
		// Without the daemon IPv4 goes on, it is the kernel's.
		"away:outside:198.51.100.1:5222 open",
		"restarted none", "killed back", "stopped 0", "up 4",
		"volume prose_server-share",
	}
	for _, stage := range []string{"up", "again"} {
		for _, line := range []string{
			"server running", "api running", "dashboard running", "app running",
			"machine:127.0.0.1:8080 open", "machine:127.0.0.1:8081 open", "machine:127.0.0.1:5280 open", "machine:127.0.0.1:5222 open", "machine:[::1]:5222 open",
			"outside:198.51.100.1:5222 open", "outside:[2001:db8::1]:5222 open",
			"outside:198.51.100.1:8080 closed", "outside:198.51.100.1:8081 closed", "outside:198.51.100.1:5280 closed",
			"outside:198.51.100.1:5281 closed", "outside:198.51.100.1:5269 closed", "outside:[2001:db8::1]:8080 closed",
			"container:198.51.100.2:25 open", "container:[2001:db8::2]:25 open", "container:169.254.169.254:80 closed", "container:peer open",
		} {
			want = append(want, stage+":"+line)
		}
	}
	for _, w := range want {
		if !strings.Contains(out, w) {
			t.Errorf("missing: %s", w)
		}
	}
	if strings.Contains(out, "volume anonymous") {
		t.Error("a volume without a name is left behind")
	}
	if t.Failed() {
		t.Log(out)
	}
}

// buildPeer puts the stand-in for the Pod's programs into the machine.
func buildPeer(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Fatal("this test starts a real dockerd: run it as root")
	}
	mustRun(t, "true") // the machine is there
	build := exec.Command("go", "build", "-o", filepath.Join(debian13.dir, "usr/local/bin/peer"), "./testdata/peer")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOARCH="+runtime.GOARCH)
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the stand-in: %v\n%s", err, out)
	}
}

// removeGroup removes the control group when the test ends: groups outlive the
// processes in them.
func removeGroup(t *testing.T, group string) {
	t.Cleanup(func() {
		mustRun(t, "mount -t cgroup2 cgroup2 /sys/fs/cgroup; cd /sys/fs/cgroup && if [ -d ."+group+" ]; then find ."+group+" -depth -type d -exec rmdir {} +; fi")
	})
}
