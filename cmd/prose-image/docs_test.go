package main

import (
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

const top = "../.."

// documents are README.md and what is in docs, by path from the top.
func documents(t *testing.T) map[string]string {
	t.Helper()
	names, err := filepath.Glob(top + "/docs/*.md")
	if err != nil || len(names) < 10 {
		t.Fatalf("documents: %q, %v", names, err)
	}
	all := map[string]string{}
	for _, name := range append(names, top+"/README.md") {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		all[strings.TrimPrefix(name, top+"/")] = string(b)
	}
	return all
}

var (
	link = regexp.MustCompile(`\]\(([^)#]+)`)
	// A package and tests of it: `firstboot/door` TestClaim, TestForged/x ("y"), FuzzOpen.
	tested = regexp.MustCompile("`([a-z][a-z0-9/]*)` ((?:(?:Test|Fuzz)[A-Z]\\w*(?:/[\\w-]+)?(?: \\([^)]*\\))?(?:, )?)+)")
	ofTest = regexp.MustCompile(`\b(?:Test|Fuzz)[A-Z]\w*`)
	typed  = regexp.MustCompile("prose-image ([a-z][^`#\n]*)")
)

// Each document is found from the README, and links lead to files.
func TestLinksLeadSomewhere(t *testing.T) {
	all := documents(t)
	for name, text := range all {
		if name != "README.md" && !strings.Contains(all["README.md"], name) {
			t.Errorf("README.md does not name %s", name)
		}
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			if _, err := os.Stat(filepath.Join(top, path.Dir(name), m[1])); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

// What is said to be tested is: the packages have these tests.
func TestDocumentsNameTests(t *testing.T) {
	n := 0
	for name, text := range documents(t) {
		for _, m := range tested.FindAllStringSubmatch(text, -1) {
			for _, test := range ofTest.FindAllString(m[2], -1) {
				n++
				if err := exec.Command("grep", "-qrs", "--include=*_test.go", "^func "+test+"(", filepath.Join(top, m[1])).Run(); err != nil {
					t.Errorf("%s: %s has no %s", name, m[1], test)
				}
			}
		}
	}
	if n < 50 {
		t.Errorf("only %d tests are named", n)
	}
}

// Commands that documents show are there, with their flags.
func TestDocumentsShowCommands(t *testing.T) {
	n := 0
	for name, text := range documents(t) {
		for _, m := range typed.FindAllStringSubmatch(text, -1) {
			words := strings.Fields(m[1])
			i := slices.IndexFunc(verbs, func(v verb) bool { return strings.HasPrefix(m[1]+" ", v.name+" ") })
			if i < 0 {
				// Prose, unless it goes on with a flag.
				if strings.Contains(m[1], " -") {
					t.Errorf("%s: there is no prose-image %s", name, words[0])
				}
				continue
			}
			n++
			f := pflag.NewFlagSet("", pflag.ContinueOnError)
			f.SetOutput(io.Discard)
			verbs[i].flags(f)
			for _, word := range words {
				flag, long := strings.CutPrefix(word, "--")
				flag, _, _ = strings.Cut(strings.TrimRight(flag, ".,;:)"), "=")
				if long && flag != "" && f.Lookup(flag) == nil {
					t.Errorf("%s: prose-image %s has no --%s", name, verbs[i].name, flag)
				}
			}
		}
	}
	if n < 40 {
		t.Errorf("only %d commands are shown", n)
	}
}
