package main

import (
	"os"
	"path/filepath"
	"testing"
)

// A bake's parts, and mmdebstrap's below that of the base.
func TestSpans(t *testing.T) {
	name := filepath.Join(t.TempDir(), "trace")
	if err := os.WriteFile(name, []byte("0.10 I: first...\n1.00 dpkg says something\n1.60 I: short\n1.61 I: third\n2.11 I: end\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	parts, err := readTrace(name)
	if err != nil {
		t.Fatal(err)
	}
	cold := sample{seconds: 4, spans: within([]span{{"bake base", 3}, {"write the disk", 0.5}}, "bake base", parts)}
	got := spans(cold, sample{seconds: 1, spans: []span{{"write the disk", 0.75}}}, sample{seconds: 2, spans: []span{{"convert to qcow2", 2}}})
	const want = `| what | cold, raw | one file changed, raw | one file changed, qcow2 |
|---|---|---|---|
| bake base | 3.00 | | |
| &emsp;first | 1.50 | | |
| &emsp;third | 0.50 | | |
| write the disk | 0.50 | 0.75 | |
| convert to qcow2 | | | 2.00 |
| between them | 0.50 | 0.25 | 0.00 |
| all | 4.00 | 1.00 | 2.00 |
`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	for _, text := range []string{"", "x I: first\n"} {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := readTrace(name); err == nil {
			t.Errorf("%q: no error", text)
		}
	}
}
