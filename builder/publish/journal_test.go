package publish_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/prose-im/prose-image/builder/publish"
)

func entry(operation, call string, at time.Time) publish.Entry {
	return publish.Entry{Operation: operation, Stage: "upload", Call: call, Kind: publish.Intent, Data: json.RawMessage(`{"again":true}`), At: at}
}

func TestFileJournal(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state", "publish")
	j := publish.OpenFileJournal(dir)
	if got, err := j.Operations(t.Context()); err != nil || len(got) > 0 {
		t.Errorf("before anything: %v, %v", got, err)
	}
	now := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	var want []publish.Entry
	for i, op := range []string{"b0", "a0", "b0", "b0"} {
		e := entry(op, string(rune('p'+i)), now.Add(time.Duration(i)*time.Second))
		if err := j.Append(t.Context(), e); err != nil {
			t.Fatal(err)
		}
		if op == "b0" {
			want = append(want, e)
		}
	}
	same := func(got []publish.Entry) bool {
		return slices.EqualFunc(got, want, func(a, b publish.Entry) bool {
			x, _ := json.Marshal(a)
			y, _ := json.Marshal(b)
			return bytes.Equal(x, y)
		})
	}
	got, err := publish.OpenFileJournal(dir).Entries(t.Context(), "b0")
	if err != nil || !same(got) {
		t.Errorf("%+v, %v", got, err)
	}
	if ops, err := j.Operations(t.Context()); err != nil || !slices.Equal(ops, []string{"b0", "a0"}) {
		t.Errorf("operations %v, %v", ops, err)
	}

	// A power cut in the last line, at each of its bytes.
	name := filepath.Join(dir, "b0.jsonl")
	whole, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	last := bytes.LastIndexByte(whole[:len(whole)-1], '\n') + 1
	next := entry("b0", "next", now.Add(time.Minute))
	want = append(want[:2:2], next)
	for cut := last; cut < len(whole); cut++ {
		if err := os.WriteFile(name, whole[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := j.Entries(t.Context(), "b0"); err != nil || len(got) != 2 {
			t.Fatalf("cut at %d: %v, %v", cut-last, got, err)
		}
		if err := j.Append(t.Context(), next); err != nil {
			t.Fatal(err)
		}
		got, err := j.Entries(t.Context(), "b0")
		// A line that only lacked its end is whole again, and true.
		if cut == len(whole)-1 && len(got) == 4 {
			got = slices.Delete(got, 2, 3)
		}
		if err != nil || !same(got) {
			t.Fatalf("cut at %d and gone on: %+v, %v", cut-last, got, err)
		}
	}
	if _, err := j.Entries(t.Context(), "../b0"); err == nil {
		t.Error("an operation may be a path")
	}
}

// Lines of two writers do not mix.
func TestFileJournalTogether(t *testing.T) {
	dir := t.TempDir()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			j := publish.OpenFileJournal(dir)
			for range 10 {
				if err := j.Append(t.Context(), entry("c0", "call", time.Now())); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if got, err := publish.OpenFileJournal(dir).Entries(t.Context(), "c0"); err != nil || len(got) != 40 {
		t.Errorf("%d entries, %v", len(got), err)
	}
}

func FuzzParseEntries(f *testing.F) {
	f.Add([]byte("{\"Operation\":\"a\"}\n"))
	f.Add([]byte("{\"Operation\":\"a\",\"Kind\":\"result\",\"Data\":\n{}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, e := range publish.ParseEntries("a", b) {
			if e.Operation != "a" {
				t.Errorf("entry of %q", e.Operation)
			}
		}
	})
}

func FuzzParseRecord(f *testing.F) {
	f.Add([]byte(`{"name":"n","version":"v","file":"f","sha256":"0000000000000000000000000000000000000000000000000000000000000000"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := publish.ParseRecord(b, "n", "v", "f")
		if err == nil && (r.Name != "n" || r.Version != "v" || r.File != "f" || len(r.SHA256) != 64) {
			t.Errorf("%+v passed", r)
		}
	})
}
