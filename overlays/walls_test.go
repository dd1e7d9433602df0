package overlays

import (
	"os"
	"strings"
	"testing"
)

// The walls, loaded into a kernel, with a container on one side and the world
// on the other. Before they are loaded everything is open, which shows
// that a connection that is closed afterwards is closed by them.
func TestWalls(t *testing.T) {
	script, err := os.ReadFile("testdata/walls.sh")
	if err != nil {
		t.Fatal(err)
	}
	out := mustRun(t, string(script))

	// What changes, stage by stage: before, with walls, with federation and port
	// 8448 opened, with SSH for an IPv6 network, and for all of IPv4.
	stages := []string{"before", "walls", "federated", "listed", "other"}
	const o, x = "open", "closed"
	want := map[string][5]string{
		"outside4:22":   {o, o, o, x, o},
		"outside4:80":   {o, o, o, o, o},
		"outside4:443":  {o, o, o, o, o},
		"outside4:5222": {o, o, o, o, o},
		"outside4:5269": {o, x, o, x, x},
		"outside4:8080": {o, x, x, x, x},
		"outside4:8448": {o, x, o, x, x}, // published on another port than the container's
		"outside4:9000": {o, x, x, x, x}, // published, but not for the world
		"outside6:22":   {o, o, o, o, x},
		"outside6:80":   {o, o, o, o, o},
		"outside6:443":  {o, o, o, o, o},
		"outside6:5222": {o, o, o, o, o},
		"outside6:8080": {o, x, x, x, x},

		"outside4:direct":   {o, x, x, x, x},
		"outside4:ping":     {o, o, o, o, o},
		"outside6:ping":     {o, o, o, o, o},
		"machine4:25":       {o, o, o, o, o},
		"container4:25":     {o, o, o, o, o},
		"container6:25":     {o, o, o, o, o}, // afterwards because the walls masquerade
		"machine4:metadata": {o, o, o, o, o},

		"container4:machine22":  {o, x, x, x, x},
		"container4:machine443": {o, o, o, o, o},

		"container:169.254.169.254":    {o, x, x, x, x},
		"container:169.254.42.42":      {o, x, x, x, x},
		"container:168.63.129.16":      {o, x, x, x, x},
		"container:fd00:ec2::254":      {o, x, x, x, x},
		"container:fd00:42::42":        {o, x, x, x, x},
		"container:fd00:a9fe:a9fe::1":  {o, x, x, x, x},
		"container:fd00:c1::a9fe:a9fe": {o, x, x, x, x},
		"container:fd20:ce::254":       {o, x, x, x, x},
	}
	got := map[string]string{}
	for line := range strings.Lines(out) {
		if f := strings.Fields(line); len(f) == 3 {
			got[f[1]+" "+f[2]] = f[0]
		}
	}
	for name, states := range want {
		for i, stage := range stages {
			if g := got[stage+" "+name]; g != states[i] {
				t.Errorf("%s: %s is %q, want %s", stage, name, g, states[i])
			}
		}
	}
	if len(got) != len(stages)*len(want)+1 || got["docker table"] != "open" {
		t.Errorf("%d results for %d questions; Docker's table: %q\n%s", len(got), len(stages)*len(want)+1, got["docker table"], out)
	}
}
