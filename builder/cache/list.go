package cache

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"
)

// An Entry is one thing in the cache.
type Entry struct {
	Kind string    `json:"kind"`
	Name string    `json:"name"`  // 64 hex digits
	Size int64     `json:"bytes"` // with what lies beside it
	Used time.Time `json:"used"`  // last
	What string    `json:"what,omitempty"`

	path   string
	beside string // another file of it; empty: none
}

// A Total is all entries of one kind.
type Total struct {
	Kind    string     `json:"kind"`
	Entries int        `json:"entries"`
	Size    int64      `json:"bytes"`
	Used    *time.Time `json:"used,omitempty"` // last; nil: there is none
}

// Totals adds up the entries by kind. What interrupted bakes left is a kind of
// its own, "left over".
func Totals(dir string) ([]Total, error) {
	entries, err := list(dir)
	if err != nil {
		return nil, err
	}
	var totals []Total
	for _, k := range kinds {
		t := Total{Kind: k.name}
		for _, e := range entries {
			if e.Kind == k.name {
				t.add(e)
			}
		}
		totals = append(totals, t)
	}
	left, err := leftovers(dir)
	if err != nil {
		return nil, err
	}
	t := Total{Kind: leftOver}
	for _, e := range left {
		t.add(e)
	}
	return append(totals, t), nil
}

func (t *Total) add(e Entry) {
	t.Entries++
	t.Size += e.Size
	if t.Used == nil || e.Used.After(*t.Used) {
		t.Used = &e.Used
	}
}

// List lists the entries with what they are, kind by kind, the last used first.
func List(ctx context.Context, dir string) ([]Entry, error) {
	entries, err := list(dir)
	if err != nil {
		return nil, err
	}
	parallel(len(entries), func(i int) {
		entries[i].What = lookup(entries[i].Kind).describe(ctx, entries[i].path)
	})
	return entries, ctx.Err()
}

func lookup(name string) kind {
	i := slices.IndexFunc(kinds, func(k kind) bool { return k.name == name })
	return kinds[i]
}

// list finds the entries of every kind, in the order of the table, the last
// used first.
func list(dir string) ([]Entry, error) {
	f, err := open(dir)
	if err != nil {
		return nil, err
	}
	f.Close()
	var entries []Entry
	for _, k := range kinds {
		names, err := entryNames(filepath.Join(dir, k.dir), k.suffix)
		if err != nil {
			return nil, err
		}
		var some []Entry
		for _, name := range names {
			e := Entry{Kind: k.name, Name: name, path: filepath.Join(dir, k.dir, name+k.suffix)}
			info, err := os.Stat(e.path)
			if errors.Is(err, fs.ErrNotExist) {
				continue // it goes as we look
			}
			if err != nil {
				return nil, fmt.Errorf("listing the cache: %w", err)
			}
			e.Size, e.Used = info.Size(), info.ModTime()
			if k.beside != "" {
				e.beside = filepath.Join(dir, k.dir, name+k.beside)
				info, err := os.Stat(e.beside)
				if err != nil {
					continue // see leftovers
				}
				e.Size += info.Size()
			}
			some = append(some, e)
		}
		slices.SortFunc(some, func(a, b Entry) int { return cmp.Or(b.Used.Compare(a.Used), strings.Compare(a.Name, b.Name)) })
		entries = append(entries, some...)
	}
	return entries, nil
}

// leftOver is the kind of what interrupted bakes left.
const leftOver = "left over"

// leftovers finds what is of no use: parts of entries, and files that are made
// on the way.
func leftovers(dir string) ([]Entry, error) {
	var paths []string
	for _, k := range kinds {
		for _, pattern := range k.leftover {
			found, err := filepath.Glob(filepath.Join(escape(dir), pattern))
			if err != nil {
				return nil, fmt.Errorf("listing the cache: %w", err)
			}
			paths = append(paths, found...)
		}
		if k.beside == "" {
			continue
		}
		where := filepath.Join(dir, k.dir)
		have, err := entryNames(where, k.suffix)
		if err != nil {
			return nil, err
		}
		beside, err := entryNames(where, k.beside)
		if err != nil {
			return nil, err
		}
		paths = append(paths, without(where, have, k.suffix, beside)...)
		paths = append(paths, without(where, beside, k.beside, have)...)
	}
	slices.Sort(paths)
	var left []Entry
	for _, path := range paths {
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return nil, fmt.Errorf("listing the cache: %w", err)
		}
		e := Entry{Kind: leftOver, Name: name, path: path}
		err = filepath.WalkDir(path, func(_ string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := d.Info()
			if err == nil && !d.IsDir() {
				e.Size += info.Size()
			}
			if err == nil && info.ModTime().After(e.Used) {
				e.Used = info.ModTime()
			}
			return err
		})
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("listing the cache: %w", err)
		}
		left = append(left, e)
	}
	return left, nil
}

// without gives the paths of the names that others lacks.
func without(dir string, names []string, suffix string, others []string) (paths []string) {
	for _, name := range names {
		if !slices.Contains(others, name) {
			paths = append(paths, filepath.Join(dir, name+suffix))
		}
	}
	return paths
}

// escape takes a path as it is into a pattern.
func escape(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}

// entryNames lists the hashes that dir has files of.
func entryNames(dir, suffix string) ([]string, error) {
	files, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("listing the cache: %w", err)
	}
	var names []string
	for _, f := range files {
		name, ok := strings.CutSuffix(f.Name(), suffix)
		if b, err := hex.DecodeString(name); ok && err == nil && len(b) == 32 && strings.ToLower(name) == name {
			names = append(names, name)
		}
	}
	return names, nil
}

// parallel calls do for 0 to n-1, as many at a time as there are processors.
func parallel(n int, do func(i int)) {
	var wg sync.WaitGroup
	next := make(chan int)
	for range min(n, runtime.GOMAXPROCS(0)) {
		wg.Go(func() {
			for i := range next {
				do(i)
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
}
