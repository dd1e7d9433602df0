package main

import (
	"os"
	"strings"
	"testing"
)

// What was measured takes the place of what the page says of the same; the rest
// stays.
func TestWrite(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.Mkdir("docs", 0o755); err != nil {
		t.Fatal(err)
	}
	const table = "# Benchmarks\n\n| what | measured | goal |\n|---|---|---|\n| a | 1 s | |\n"
	old := table + "| b | 2 s | |\n" + secondsHead + "\nold seconds\n" + timelinesHead + "\nan old boot\n"
	for name, c := range map[string]struct {
		m    measured
		want string
	}{
		"boots":   {measured{rows: []row{{"b", "3 s", ""}}, boots: "\nnew boot\n"}, table + "| b | 3 s |  |\n" + secondsHead + "\nold seconds\n" + timelines + "\nnew boot\n"},
		"seconds": {measured{rows: []row{{"b", "3 s", ""}}, seconds: "\nnew seconds\n"}, table + "| b | 3 s |  |\n" + secondsHead + "\nnew seconds\n" + timelinesHead + "\nan old boot\n"},
	} {
		if err := os.WriteFile(page, []byte(old), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := c.m.write(false); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(page); err != nil || string(got) != c.want {
			t.Errorf("%s: %v\n%s\nwant:\n%s", name, err, got, c.want)
		}
	}
	m := measured{rows: []row{{"c", "4 s", "5 s"}}, seconds: "\ns\n", boots: "\nb\n"}
	if err := m.write(true); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(page); err != nil || strings.Contains(string(got), "| b |") || !strings.HasSuffix(string(got), "| c | 4 s | 5 s |\n"+secondsHead+"\ns\n"+timelines+"\nb\n") {
		t.Errorf("%v\n%s", err, got)
	}
}
