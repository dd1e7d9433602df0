package main

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/prose-im/prose-image/"

// arrows is the house: which of our packages each may import. A package that is
// not here is a mistake, and so is a room that nobody uses.
var arrows = map[string][]string{
	"cmd/prose-image":         {"builder", "builder/boot", "builder/cache", "builder/catalog", "builder/debian", "builder/host", "builder/progress", "builder/publish", "builder/recipe", "builder/scenario", "cloudinit", "cloudinit/seed"},
	"cmd/prose-firstboot":     {"firstboot"},
	"cmd/packer-plugin-prose": {"packer"},
	"builder": {"builder/cache", "builder/catalog", "builder/checksum", "builder/debian", "builder/disk", "builder/dockerstore", "builder/evidence", "builder/format", "builder/layer", "builder/output",
		"builder/progress", "builder/publish", "builder/recipe", "builder/tree", "overlays"},
	"builder/boot":          {"builder/host"},
	"builder/cache":         {"builder/clusters", "builder/host", "builder/output"},
	"builder/clusters":      {"builder/output"},
	"builder/boot/writelog": {},
	"builder/catalog":       {"builder/output", "builder/publish"},
	"builder/checksum":      {},
	"builder/debian":        {"builder/cache", "builder/host", "builder/layer"},
	"builder/disk":          {"builder/disk/ext4", "builder/disk/fat", "builder/output", "builder/tree"},
	"builder/disk/ext4":     {"builder/layer", "builder/tree"},
	"builder/disk/fat":      {},
	"builder/dockerstore":   {"builder/cache", "builder/checksum", "builder/layer", "builder/output"},
	"builder/evidence":      {},
	"builder/format":        {"builder/clusters", "builder/host", "builder/output"},
	"builder/host":          {},
	"builder/layer":         {},
	"builder/output":        {},
	"builder/progress":      {},
	"builder/publish":       {"builder/checksum", "builder/host", "builder/output", "builder/progress"},
	"builder/recipe":        {},
	"builder/scenario":      {"builder/boot", "builder/host", "builder/recipe", "cloudinit", "cloudinit/seed"},
	"builder/tree":          {"builder/layer"},
	"cloudinit":             {},
	"cloudinit/seed":        {},
	"firstboot":             {"cloudinit", "firstboot/alert", "firstboot/beneath", "firstboot/certificate", "firstboot/command", "firstboot/dns", "firstboot/door", "firstboot/engine", "firstboot/pod", "firstboot/preflight", "firstboot/redact", "firstboot/settings", "firstboot/site", "firstboot/status"},
	"firstboot/alert":       {"firstboot/redact"},
	"firstboot/command":     {},
	"firstboot/door":        {},
	"firstboot/site":        {},
	"firstboot/engine":      {},
	"firstboot/pod":         {"firstboot/engine"},
	"firstboot/beneath":     {},
	"firstboot/certificate": {"firstboot/beneath", "firstboot/preflight"},
	"firstboot/dns":         {},
	"firstboot/preflight":   {"firstboot/dns"},
	"firstboot/redact":      {},
	"firstboot/settings":    {"cloudinit"},
	"firstboot/status":      {},
	"overlays":              {},
	"packer":                {"builder", "builder/progress", "builder/publish", "builder/recipe"},
}

// tests are packages that hold tests and what only they need.
var tests = []string{"builder/dockerstore/dockerdtest", "builder/dockerstore/imagetest", "builder/publish/publishtest", "firstboot/status/statustest"}

func list(t *testing.T, format string, packages ...string) []string {
	t.Helper()
	out, err := exec.Command("go", append([]string{"list", "-tags", "libsqlite3", "-f", format}, packages...)...).Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	return strings.Split(strings.TrimSpace(string(out)), "\n")
}

func TestArrowsGoOneWay(t *testing.T) {
	used := map[string]bool{}
	for _, line := range list(t, `{{.ImportPath}} {{join .Imports " "}}`, module+"...") {
		f := strings.Fields(line)
		from := strings.TrimPrefix(f[0], module)
		if slices.Contains(tests, from) {
			continue
		}
		allowed, ok := arrows[from]
		if !ok {
			t.Errorf("%s is no room of the house", from)
			continue
		}
		used[from] = true
		for _, path := range f[1:] {
			to, ours := strings.CutPrefix(path, module)
			switch {
			case ours && !slices.Contains(allowed, to):
				t.Errorf("%s imports %s", from, to)
			case path == "os/exec" && from != "builder/host" && from != "firstboot/command":
				t.Errorf("%s runs commands past builder/host or firstboot/command", from)
			case path == "text/template" && strings.HasPrefix(from, "firstboot"):
				t.Errorf("%s imports text/template, which adds 1.7 MB to the agent", from)
			}
		}
	}
	for from := range arrows {
		if !used[from] {
			t.Errorf("%s is not there", from)
		}
	}
}

// The agent is small because of what it does not link.
func TestWhatProgramsLink(t *testing.T) {
	t.Setenv("CGO_ENABLED", "0") // as the Makefile builds them
	agent := []string{"github.com/mholt/acmez/", "gopkg.in/yaml.v3", "github.com/pelletier/go-toml/", "golang.org/x/"}
	for _, path := range list(t, `{{if not .Standard}}{{join .Deps "\n"}}{{end}}`, module+"cmd/prose-firstboot") {
		if to, ours := strings.CutPrefix(path, module); ours && to != "firstboot" && !strings.HasPrefix(to, "firstboot/") && to != "cloudinit" {
			t.Errorf("the agent links %s", to)
		} else if first, _, _ := strings.Cut(path, "/"); !ours && strings.Contains(first, ".") && !slices.ContainsFunc(agent, func(p string) bool { return strings.HasPrefix(path, p) }) {
			t.Errorf("the agent links %s", path)
		} else if path == "text/template" || path == "runtime/cgo" {
			t.Errorf("the agent links %s", path)
		}
	}
	for _, path := range list(t, `{{join .Deps "\n"}}`, module+"cmd/prose-image") {
		if strings.HasPrefix(path, "github.com/hashicorp/packer-plugin-sdk") {
			t.Errorf("the CLI links %s", path)
		}
	}
}

// Every module that we import says in docs why it and not another.
func TestDependenciesAreExplained(t *testing.T) {
	docs, err := os.ReadFile("../../docs/dependencies.md")
	if err != nil {
		t.Fatal(err)
	}
	direct := list(t, `{{if not (or .Indirect .Main)}}{{.Path}}{{end}}`, "-m", "all")
	n := 0
	for _, path := range direct {
		if path == "" {
			continue
		}
		n++
		if !strings.Contains(string(docs), path) {
			t.Errorf("docs/dependencies.md does not say why %s", path)
		}
	}
	if n < 5 {
		t.Errorf("only %d direct dependencies: %q", n, direct)
	}
}
