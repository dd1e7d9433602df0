package recipe

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What is no recipe at all is refused soon, whatever its size.
func TestLoadRefuses(t *testing.T) {
	large := filepath.Join(t.TempDir(), "large.toml")
	if err := os.WriteFile(large, bytes.Repeat([]byte("#\n"), maxSize/2+1), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		large:       "has more than 1024 KiB",
		"/dev/zero": "has more than 1024 KiB",
		t.TempDir(): "is a directory",
		"missing":   "no such file",
	} {
		if _, err := Load(name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
}

// Of very many problems the first are drawn.
func TestManyProblems(t *testing.T) {
	var src bytes.Buffer
	for i := range 5000 {
		fmt.Fprintf(&src, "key%d = 1\n", i)
	}
	_, problems := Parse(src.Bytes())
	drawn := (&Invalid{File: "f", Source: src.Bytes(), Problems: problems}).Draw()
	if len(problems) != 5000 || strings.Count(drawn, "unknown key") != maxDrawn || !strings.HasSuffix(drawn, "\nand 4900 more\n") {
		t.Errorf("%d problems, drawn:\n%.300s", len(problems), drawn)
	}
}
