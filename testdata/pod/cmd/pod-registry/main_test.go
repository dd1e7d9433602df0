package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestUsage(t *testing.T) {
	for _, args := range [][]string{nil, {"nonsense"}, {"build"}, {"build", "-x"}, {"build", "-o", "d", "more"}} {
		var usage usageError
		if err := run(t.Context(), args, io.Discard, io.Discard); !errors.As(err, &usage) {
			t.Errorf("%q: %v", args, err)
		}
	}
}

// The layout and the registry hand out the same images.
func TestBuildAndServe(t *testing.T) {
	dir := t.TempDir()
	var built bytes.Buffer
	if err := run(t.Context(), []string{"build", "-o", filepath.Join(dir, "layout")}, &built, io.Discard); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(built.String()), "\n")
	if len(lines) != 4 {
		t.Fatalf("printed %q", lines)
	}
	for _, line := range lines {
		_, hex, _ := strings.Cut(line, "@sha256:")
		if _, err := os.Stat(filepath.Join(dir, "layout", "blobs", "sha256", hex)); err != nil {
			t.Error(err)
		}
	}

	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	ready := filepath.Join(dir, "ready")
	done := make(chan error, 1)
	var served bytes.Buffer
	go func() {
		done <- run(ctx, []string{"serve", "-addr", "127.0.0.1:0", "-ready-file", ready}, &served, io.Discard)
	}()
	addr, err := await(ctx, ready, done)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range lines {
		reference, digest, _ := strings.Cut(strings.TrimPrefix(line, "docker.io/"), "@")
		repository, tag, _ := strings.Cut(reference, ":")
		res, err := http.Head(fmt.Sprintf("http://%s/v2/%s/manifests/%s", addr, repository, tag))
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if got := res.Header.Get("Docker-Content-Digest"); res.StatusCode != 200 || got != digest {
			t.Errorf("%s: status %d, digest %s, want %s", reference, res.StatusCode, got, digest)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if served.String() != built.String() {
		t.Errorf("serve printed\n%s\nbuild printed\n%s", served.String(), built.String())
	}
}

// await returns what the ready file holds once it is there.
func await(ctx context.Context, path string, done <-chan error) (string, error) {
	for {
		text, err := os.ReadFile(path)
		if err == nil {
			return strings.TrimSpace(string(text)), nil
		}
		select {
		case err := <-done:
			return "", fmt.Errorf("serving ended: %w", err)
		case <-ctx.Done():
			return "", fmt.Errorf("waiting for %s: %w", path, ctx.Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
}
