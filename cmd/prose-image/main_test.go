package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http/httptest"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/prose-im/prose-image/builder"
	"github.com/prose-im/prose-image/builder/catalog"
	"github.com/prose-im/prose-image/builder/debian"
	"github.com/prose-im/prose-image/builder/format"
	"github.com/prose-im/prose-image/builder/publish"
	"github.com/prose-im/prose-image/builder/recipe"
)

var update = flag.Bool("update", false, "rewrite what scripts expect of outputs")

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"prose-image": func() {
			ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
			defer stop()
			os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
		},
		"locked": func() {
			if err := locked(os.Args[1], os.Args[2]); err != nil {
				fmt.Fprintln(os.Stderr, "error:", err)
				os.Exit(1)
			}
		},
		"record": func() {
			if err := record(os.Args[1], os.Args[2], os.Args[3:]); err != nil {
				fmt.Fprintln(os.Stderr, "error:", err)
				os.Exit(1)
			}
		},
	})
}

// record records a bake of a release, whose artifacts are files, as a bake does
// at its end.
func record(dir, release string, files []string) error {
	r, err := builder.NewRecorder(context.Background(), dir)
	if err != nil {
		return err
	}
	defer r.Close()
	made := &builder.Result{Name: "prose", Version: "1", Arch: "amd64", Release: release, Recipe: "recipe", Lock: "lock", Tool: "v1.0.0"}
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		made.Artifacts = append(made.Artifacts, builder.Artifact{Platform: "generic", Format: strings.TrimPrefix(filepath.Ext(name), "."),
			File: filepath.Base(name), Size: int64(len(b)), SHA256: fmt.Sprintf("%x", sha256.Sum256(b))})
	}
	return r.Record(context.Background(), filepath.Dir(files[0]), made)
}

// locked writes a lock that fits a recipe, with one package that nobody has.
func locked(path, agents string) error {
	l := &builder.Lock{Schema: 1, Date: time.Unix(1700000000, 0).UTC(), Suite: "trixie", Arch: "amd64", Sources: "deb http://deb.example trixie main\n",
		Packages: []debian.Package{{Name: "docker.io", Version: "26.1.5", Arch: "amd64", Size: 10, SHA256: strings.Repeat("d", 64), URI: "http://deb.example/docker.deb"}}}
	lock := builder.LockPath(path)
	if err := l.Write(lock); err != nil {
		return err
	}
	// What it lacks is what the recipe asks for.
	var stale *builder.StaleLockError
	if err := builder.Check(builder.Config{Recipe: path, Agent: agents}); !errors.As(err, &stale) {
		return fmt.Errorf("an empty lock: %w", err)
	}
	for _, reason := range stale.Reasons {
		if name, ok := strings.CutPrefix(reason, "it has no package "); ok {
			l.Request = append(l.Request, name)
		} else if name, ok := strings.CutPrefix(reason, "it has no container image "); ok {
			digest := "sha256:" + strings.Repeat("e", 64)
			l.Images = append(l.Images, builder.Image{Name: name, Digest: digest, Manifest: digest})
		}
	}
	return l.Write(lock)
}

// TestScripts runs the program as a person would: one file a theme.
func TestScripts(t *testing.T) {
	agents := agentDir(t)
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(server.Close)
	// A port where nothing listens: it was free a moment ago.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := l.Addr().String()
	l.Close()
	testscript.Run(t, testscript.Params{
		Dir:           "testdata/script",
		UpdateScripts: *update,
		Condition: func(name string) (bool, error) {
			if name != "catalog" {
				return false, fmt.Errorf("unknown condition %q", name)
			}
			return catalog.Available, nil
		},
		Setup: func(e *testscript.Env) error {
			e.Setenv("AGENT", agents)
			e.Setenv("REGISTRY", strings.TrimPrefix(server.URL, "http://"))
			e.Setenv("NOBODY", closed)
			e.Setenv("A", strings.Repeat("a", 64))
			e.Setenv("B", strings.Repeat("b", 64))
			for name, place := range map[string]string{"unreachable": closed, "absent": e.Getenv("REGISTRY")} {
				text := fmt.Sprintf("[pod.mirror]\n\"docker.io/proseim\" = %q\n", place+"/proseim")
				if err := os.WriteFile(filepath.Join(e.WorkDir, name+".toml"), []byte(text), 0o644); err != nil {
					return err
				}
			}
			e.Setenv("XDG_CACHE_HOME", filepath.Join(e.WorkDir, "cache"))
			e.Setenv("XDG_DATA_HOME", filepath.Join(e.WorkDir, "data"))
			return nil
		},
	})
}

// agentDir holds something with build information under the agent's names.
func agentDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, arch := range []string{"amd64", "arm64"} {
		if err := os.Link(exe, filepath.Join(dir, "prose-firstboot-linux-"+arch)); err != nil {
			in, err := os.Open(exe)
			if err != nil {
				t.Fatal(err)
			}
			out, err := os.Create(filepath.Join(dir, "prose-firstboot-linux-"+arch))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.Copy(out, in); err != nil {
				t.Fatal(err)
			}
			in.Close()
			out.Close()
		}
	}
	return dir
}

// The recipe package knows names of tables that lie elsewhere.
func TestRecipeKnowsTheTables(t *testing.T) {
	var formats, platforms []string
	for _, f := range format.All {
		formats = append(formats, f.Name)
	}
	for _, p := range builder.Platforms {
		platforms = append(platforms, p.Name)
	}
	slices.Sort(formats)
	if got := slices.Sorted(slices.Values(recipe.Formats)); !slices.Equal(got, formats) {
		t.Errorf("recipes know formats %q, there are %q", got, formats)
	}
	if !slices.Equal(recipe.Platforms, platforms) {
		t.Errorf("recipes know platforms %q, there are %q", recipe.Platforms, platforms)
	}
}

// Every verb has help that ends in an example of itself.
func TestEveryVerbHasAnExample(t *testing.T) {
	for _, v := range verbs {
		var out, errs strings.Builder
		if code := run(t.Context(), append(strings.Fields(v.name), "--help"), strings.NewReader(""), &out, &errs); code != exitDone || errs.Len() > 0 {
			t.Errorf("%s --help: exit %d, %s", v.name, code, errs.String())
		}
		if !strings.Contains(out.String(), "\nExample:\n  $ prose-image "+v.name) {
			t.Errorf("help of %s has no example:\n%s", v.name, out.String())
		}
		if !strings.Contains(overview(), "  "+v.name+" ") {
			t.Errorf("the overview has no %s", v.name)
		}
	}
}

// Who interrupts publishing is told that nothing is lost.
func TestInterruptedPublish(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "prose-0-generic-amd64.raw"), []byte("a disk"), 0o644); err != nil {
		t.Fatal(err)
	}
	manifest := `{"schema": 1, "name": "prose", "version": "0", "arch": "amd64", "artifacts": [{"format": "raw", "file": "prose-0-generic-amd64.raw", "size": 6,
		"sha256": "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", "key": "k"}]}`
	if err := os.WriteFile(filepath.Join(dir, builder.ManifestName), []byte(manifest), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Setenv("XDG_DATA_HOME", t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var out, errs strings.Builder
	code := run(ctx, []string{"publish", dir, t.TempDir()}, strings.NewReader(""), &out, &errs)
	if want := "error: interrupted\nhint: run the same command again: it goes on from here\n"; code != exitFailed || errs.String() != want || out.Len() > 0 {
		t.Errorf("exit %d, %q, %q", code, out.String(), errs.String())
	}
}

func TestIncompleteHasItsOwnCode(t *testing.T) {
	if code := exitCode(fmt.Errorf("publishing: %w", &publish.IncompleteError{})); code != 77 {
		t.Errorf("exit %d", code)
	}
}
