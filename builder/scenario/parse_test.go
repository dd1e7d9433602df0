package scenario

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prose-im/prose-image/builder/boot"
	"github.com/prose-im/prose-image/builder/recipe"
)

var update = flag.Bool("update", false, "rewrite docs/scenarios.md and what is expected of bad files")

func TestWords(t *testing.T) {
	tests := []struct {
		line string
		want []string
		err  string
	}{
		{"", nil, ""},
		{" a  b\tc\n", []string{"a", "b", "c"}, ""},
		{`a 'b c' "d e"`, []string{"a", "b c", "d e"}, ""},
		{`'' ""`, []string{"", ""}, ""},
		{`a'b'"c"d`, []string{"abcd"}, ""},
		{`'\' "\\\"\n"`, []string{`\`, `\"\n`}, ""},
		{"'two\nlines'", []string{"two\nlines"}, ""},
		{"é ü", []string{"é", "ü"}, ""},
		{`"`, nil, "a quote is not closed"},
		{`it's`, nil, "a quote is not closed"},
		{`a\b`, nil, "a backslash outside quotes: put the word in quotes"},
		{`"a\`, nil, "a quote is not closed"},
	}
	for _, tt := range tests {
		got, err := words(tt.line)
		if tt.err != "" {
			if err == nil || err.Error() != tt.err {
				t.Errorf("%q: error %v, want %s", tt.line, err, tt.err)
			}
			continue
		}
		if err != nil || !slices.Equal(got, tt.want) {
			t.Errorf("%q: %q, %v; want %q", tt.line, got, err, tt.want)
		}
	}
}

func TestParse(t *testing.T) {
	s, problems := Parse([]byte(`
about = "a"
firmware = ["uefi", "secureboot"]
domain = "example.org"
disk = 9
memory = 512
cpus = 3
budget = 60
dns = "none"
login = false
steps = [
  'within 90s http 200 GET https://{domain}/ body "a b"', # comment
  "run 'echo {{.Names}}'",
]
[settings]
company = "Example"
[settings.smtp]
host = "mail.example.org"
`))
	if problems != nil {
		t.Fatal(problems)
	}
	if s.About != "a" || !slices.Equal(s.Firmware, []boot.Firmware{boot.UEFI, boot.SecureBoot}) || s.Domain != "example.org" ||
		s.Disk != 9 || s.Memory != 512 || s.CPUs != 3 || s.Budget != time.Minute || s.DNS != "none" || s.Login {
		t.Errorf("%+v", s)
	}
	if len(s.Steps) != 2 || s.Steps[0].Within != 90*time.Second || s.Steps[0].Command.Name != "http" ||
		!slices.Equal(s.Steps[0].Args, []string{"200", "GET", "https://{domain}/", "body", "a b"}) ||
		s.Steps[1].Args[0] != "echo {{.Names}}" {
		t.Errorf("%+v", s.Steps)
	}
	if s.Settings["company"] != "Example" || s.Settings["smtp"].(map[string]any)["host"] != "mail.example.org" {
		t.Errorf("%v", s.Settings)
	}

	s, problems = Parse([]byte("steps = ['settled']"))
	if problems != nil || s.Domain == "" || s.Disk == 0 || len(s.Firmware) != 1 || s.DNS != "right" || !s.Login || s.Settings != nil {
		t.Errorf("least scenario: %+v, %v", s, problems)
	}
}

// Each bad file has all that is wrong with it drawn beside it.
func TestBad(t *testing.T) {
	files, err := filepath.Glob("testdata/bad/*.toml")
	if err != nil || len(files) < 3 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		_, err := Load(file)
		var invalid *recipe.Invalid
		if !errors.As(err, &invalid) {
			t.Errorf("%s: %v", file, err)
			continue
		}
		golden := strings.TrimSuffix(file, ".toml") + ".txt"
		if *update {
			if err := os.WriteFile(golden, []byte(invalid.Draw()), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if got := invalid.Draw(); got != string(want) {
			t.Errorf("%s: got\n%s\nwant\n%s", file, got, want)
		}
	}
}

// The scenarios that everybody runs are right.
func TestOurs(t *testing.T) {
	var files []string
	for _, dir := range []string{"scenarios", "soak", "bench/poweron"} {
		found, err := filepath.Glob("../../testdata/" + dir + "/*.toml")
		if err != nil || len(found) == 0 {
			t.Fatal(dir, err)
		}
		files = append(files, found...)
	}
	for _, file := range files {
		s, err := Load(file)
		var invalid *recipe.Invalid
		switch {
		case errors.As(err, &invalid):
			t.Errorf("%s", invalid.Draw())
		case err != nil:
			t.Error(err)
		case s.About == "":
			t.Errorf("%s says nothing about itself", file)
		}
	}
}

func TestCommands(t *testing.T) {
	seen := map[string]bool{"within": true}
	for _, c := range Commands {
		if seen[c.Name] {
			t.Errorf("%s comes twice", c.Name)
		}
		seen[c.Name] = true
		if c.Name == "" || c.do == nil || !strings.HasSuffix(c.Doc, ".") || (c.Args == "") != (c.most == 0) || c.most >= 0 && c.least > c.most {
			t.Errorf("%+v", c)
		}
	}
}

func TestDocs(t *testing.T) {
	const file = "../../docs/scenarios.md"
	if *update {
		if err := os.WriteFile(file, []byte(Markdown()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil || string(got) != Markdown() {
		t.Errorf("%s is not what the tables say (%v): go test ./builder/scenario -run TestDocs -update", file, err)
	}
}

func FuzzParse(f *testing.F) {
	for _, pattern := range []string{"testdata/bad/*.toml", "../../testdata/scenarios/*.toml"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range files {
			src, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(src)
		}
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		s, problems := Parse(src)
		if (s == nil) == (problems == nil) {
			t.Fatalf("%v and %v", s, problems)
		}
		invalid := &recipe.Invalid{File: "x", Source: src, Problems: problems}
		_ = invalid.Draw()
		for _, p := range problems {
			if p.Line < 1 || p.Column < 1 || p.Message == "" {
				t.Errorf("%+v", p)
			}
		}
		if s == nil {
			return
		}
		for _, step := range s.Steps {
			if step.Command == nil {
				t.Errorf("%q has no command", step.Line)
			}
		}
	})
}
