package publish_test

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"strings"
	"testing"

	"github.com/prose-im/prose-image/builder/publish"
)

const begin, end = "<!-- made from builder/publish; make golden rewrites it -->\n", "<!-- end -->\n"

// The list in docs/publishing.md is made from the tables.
func TestDocs(t *testing.T) {
	const file = "../../docs/publishing.md"
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := bytes.Cut(b, []byte(begin))
	list, after, ok2 := bytes.Cut(rest, []byte(end))
	if !ok || !ok2 {
		t.Fatalf("%s has no place for the list", file)
	}
	if string(list) == publish.Docs() {
		return
	}
	if !*update {
		t.Fatalf("the list in %s is not what the tables say: make golden", file)
	}
	whole := string(before) + begin + publish.Docs() + end + string(after)
	if err := os.WriteFile(file, []byte(whole), 0o644); err != nil {
		t.Fatal(err)
	}
}

// A kind of target that is declared is in the table.
func TestKindsAreComplete(t *testing.T) {
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".go") || strings.HasSuffix(e.Name(), "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), e.Name(), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(node ast.Node) bool {
			lit, ok := node.(*ast.CompositeLit)
			if id, isID := func() (*ast.Ident, bool) {
				if !ok {
					return nil, false
				}
				id, is := lit.Type.(*ast.Ident)
				return id, is
			}(); isID && id.Name == "Kind" {
				n++
			}
			return true
		})
	}
	if n != len(publish.Kinds) || n == 0 {
		t.Errorf("%d kinds are declared, %d are in the table", n, len(publish.Kinds))
	}
}

func TestOpen(t *testing.T) {
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for address, want := range map[string]string{
		"/srv/images":                "file:///srv/images",
		"/srv/images/":               "file:///srv/images",
		"file:///srv/images":         "file:///srv/images",
		"file://localhost/srv/a%20b": "file:///srv/a%20b",
		"images":                     "file://" + here + "/images",
		"./a:b":                      "file://" + here + "/a:b",
		"file:images":                "",
		"file://elsewhere/srv":       "",
		"file:///srv?x=y":            "",
		"gopher://example.org/1":     "",
		"":                           "",
	} {
		_, got, err := publish.Open(address)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q is %q, %v", address, got, err)
		}
	}
}
