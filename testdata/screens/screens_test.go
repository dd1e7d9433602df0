// Package screens looks at the status page in a browser: what it looks like on
// a phone and on a desk, light and dark, and whether axe finds it accessible.
// It lies under testdata so that "go test ./..." passes it by: it needs
// Chromium and Node.js.
//
//	go test -count=1 ./testdata/screens
//
// The screenshots stay in out/screens for people to look at.
package screens

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prose-im/prose-image/firstboot/status"
	"github.com/prose-im/prose-image/firstboot/status/statustest"
)

// top is the directory of the sources.
const top = "../.."

// modules installs what package-lock.json says, once, and returns the
// directory of modules.
func modules(t *testing.T) string {
	t.Helper()
	lock, err := os.ReadFile("package-lock.json")
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := os.ReadFile("package.json")
	if err != nil {
		t.Fatal(err)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	cache = filepath.Join(cache, "prose-image")
	dir := filepath.Join(cache, fmt.Sprintf("screens-%x", sha256.Sum256(lock))[:24])
	if _, err := os.Stat(dir); err == nil {
		return filepath.Join(dir, "node_modules")
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		t.Fatal(err)
	}
	temp, err := os.MkdirTemp(cache, "screens-new-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(temp)
	for name, text := range map[string][]byte{"package.json": manifest, "package-lock.json": lock} {
		if err := os.WriteFile(filepath.Join(temp, name), text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	npm := exec.CommandContext(ctx, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	npm.Dir = temp
	if out, err := npm.CombinedOutput(); err != nil {
		t.Fatalf("npm ci: %v\n%s", err, out)
	}
	// Another run may have been quicker.
	if err := os.Rename(temp, dir); err != nil && !os.IsExist(err) {
		t.Fatal(err)
	}
	return filepath.Join(dir, "node_modules")
}

// policy is the Content-Security-Policy that NGINX sends with the page.
func policy(t *testing.T) string {
	t.Helper()
	snippet, err := os.ReadFile(top + "/overlays/base/etc/nginx/snippets/prose-page.conf")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`Content-Security-Policy "([^"]*)"`).FindSubmatch(snippet)
	if m == nil {
		t.Fatal("NGINX sends no policy")
	}
	return string(m[1])
}

// A view is what look.cjs measured of one page.
type view struct {
	Name, Scheme, Screen     string
	Width, Height            int
	ScrollWidth, ClientWidth int
	Over                     []string // elements that are cut off
	Violations               []struct {
		ID, Help string
		Nodes    []string
	}
	Passes     []string // rules of axe that found something to judge, and it was right
	Complaints []string // of the browser, such as what the policy refused
	Fetched    []string // what the page asked for
}

// look opens all pages and returns what was measured.
func look(t *testing.T, pages map[string][]byte, screens string) []view {
	t.Helper()
	dir := t.TempDir()
	for name, page := range pages {
		if err := os.WriteFile(filepath.Join(dir, name+".html"), page, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	chromium, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatalf("%v; make setup installs it", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	node := exec.CommandContext(ctx, "node", "look.cjs", dir, screens, chromium, policy(t))
	node.Env = append(os.Environ(), "NODE_PATH="+modules(t))
	var stderr bytes.Buffer
	node.Stderr = &stderr
	out, err := node.Output()
	if err != nil {
		t.Fatalf("node: %v\n%s", err, stderr.Bytes())
	}
	var views []view
	lines := bufio.NewScanner(bytes.NewReader(out))
	lines.Buffer(nil, 4<<20)
	for lines.Scan() {
		var v view
		if err := json.Unmarshal(lines.Bytes(), &v); err != nil {
			t.Fatal(err)
		}
		views = append(views, v)
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return views
}

func TestPages(t *testing.T) {
	screens, err := filepath.Abs(top + "/out/screens")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(screens); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(screens, 0o755); err != nil {
		t.Fatal(err)
	}
	pages := map[string][]byte{}
	for _, e := range statustest.Examples() {
		pages[e.Name] = status.Page(e.Status)
	}
	views := look(t, pages, screens)
	if want := 5 * len(pages); len(views) != want {
		t.Errorf("%d views, want %d", len(views), want)
	}
	for _, v := range views {
		t.Run(strings.TrimSuffix(v.Screen, ".png"), func(t *testing.T) {
			for _, problem := range problems(t, v, screens) {
				t.Error(problem)
			}
		})
	}
}

// problems are all that is wrong with a view.
func problems(t *testing.T, v view, screens string) []string {
	t.Helper()
	var all []string
	say := func(format string, args ...any) { all = append(all, fmt.Sprintf(format, args...)) }
	if v.ScrollWidth > v.ClientWidth || len(v.Over) > 0 {
		say("the page is %d wide on %d: %s", v.ScrollWidth, v.ClientWidth, strings.Join(v.Over, "\n"))
	}
	for _, violation := range v.Violations {
		say("axe: %s: %s\n%s", violation.ID, violation.Help, strings.Join(violation.Nodes, "\n"))
	}
	if !slices.Contains(v.Passes, "color-contrast") {
		say("axe did not judge the contrast of colours: %v", v.Passes)
	}
	if len(v.Complaints) > 0 || len(v.Fetched) > 0 {
		say("the browser complains %q; the page fetched %q", v.Complaints, v.Fetched)
	}
	return append(all, judge(t, filepath.Join(screens, v.Screen), v.Width, v.Scheme == "dark")...)
}

// The judges find what is wrong, so that their silence means something.
func TestJudgesFindFaults(t *testing.T) {
	good := string(status.Page(status.Unconfigured()))
	faults := map[string]struct{ page, want string }{
		"wide":     {strings.Replace(good, "<h1", `<p style="width:90rem">wide</p><h1`, 1), "the page is"},
		"contrast": {strings.Replace(good, "</style>", ".lead { color: #9aa }</style>", 1), "color-contrast"},
		"script":   {strings.Replace(good, "<h1", `<script>1</script><h1`, 1), "the browser complains"},
		"lang":     {strings.Replace(good, ` lang="en"`, "", 1), "html-has-lang"},
		"one-look": {strings.ReplaceAll(good, "color-scheme: dark", "color-scheme: none"), "background"},
		"blank":    {"<!doctype html><html lang=en><title>a</title>", "blank"},
	}
	pages := map[string][]byte{}
	for name, f := range faults {
		pages[name] = []byte(f.page)
	}
	screens := t.TempDir()
	found := map[string]string{}
	for _, v := range look(t, pages, screens) {
		found[v.Name] += strings.Join(problems(t, v, screens), "\n")
	}
	for name, f := range faults {
		if !strings.Contains(found[name], f.want) {
			t.Errorf("%s: nobody found %q, but %s", name, f.want, found[name])
		}
	}
}
