package main

import (
	"bytes"
	"fmt"
	"os/exec"
	"strings"
)

// agentGoals are the goals for what testdata/agent measures, by how its lines
// begin.
var agentGoals = []struct{ what, goal string }{
	{"the first run", "at most 16 MiB resident"},
	{"a run with nothing to do", "at most 50 ms and 16 MiB resident"},
}

// agent measures the stripped agent on a machine with a real engine, NGINX,
// Prosody and an authority.
func agent() ([]row, error) {
	cmd := exec.Command("go", "test", "-count=1", "-v", "-run", "^TestCost$", "./testdata/agent")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%v: %w\n%s", cmd.Args, err, &out)
	}
	var rows []row
	for _, g := range agentGoals {
		for line := range strings.Lines(out.String()) {
			text, ok := strings.CutPrefix(strings.TrimSpace(line), "cost: ")
			if what, measured, found := strings.Cut(text, ": "); ok && found && strings.HasPrefix(what, g.what) {
				rows = append(rows, row{"agent, " + what, measured, g.goal})
			}
		}
	}
	if len(rows) != len(agentGoals) {
		return nil, fmt.Errorf("%v printed %d of %d figures:\n%s", cmd.Args, len(rows), len(agentGoals), &out)
	}
	return rows, nil
}
