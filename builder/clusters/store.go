package clusters

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// maxPacks is how many packs are open at a time: those used last.
const maxPacks = 64

// A Store is a directory of packs, opened for one disk. A nil one holds nothing
// and keeps nothing.
type Store struct {
	dir   string
	coder [sha256.Size]byte
	packs []*pack
	known map[Key]place
	added *writer

	mu   sync.Mutex
	gone map[*pack]bool // damaged
}

// A pack is an open file of a store.
type pack struct {
	file *os.File
	used atomic.Bool
}

type place struct {
	pack *pack
	record
}

// Open opens the store in dir, which need not exist yet, for clusters deflated
// by coder: a name that changes with the bytes that the same plain cluster
// becomes. Clusters of other coders are not found. A pack that is damaged is
// removed, and as one that is not there.
func Open(dir, coder string) (*Store, error) {
	s := &Store{dir: dir, coder: sha256.Sum256([]byte(coder)), known: map[Key]place{}, gone: map[*pack]bool{}}
	files, err := byUse(dir)
	if err != nil {
		return nil, fmt.Errorf("opening the clusters in %s: %w", dir, err)
	}
	for _, path := range files[:min(len(files), maxPacks)] {
		s.open(path)
	}
	return s, nil
}

// byUse lists the packs in dir, the last used first.
func byUse(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	type file struct {
		path string
		used time.Time
	}
	var files []file
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), Suffix)
		if sum, err := hex.DecodeString(name); !ok || err != nil || len(sum) != sha256.Size {
			continue // of others
		}
		if info, err := e.Info(); err == nil && info.Mode().IsRegular() {
			files = append(files, file{filepath.Join(dir, e.Name()), info.ModTime()})
		}
	}
	slices.SortFunc(files, func(a, b file) int { return cmp.Or(b.used.Compare(a.used), strings.Compare(a.path, b.path)) })
	var paths []string
	for _, f := range files {
		paths = append(paths, f.path)
	}
	return paths, nil
}

func (s *Store) open(path string) {
	f, err := os.Open(path)
	if err != nil {
		return // it went as we looked
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return
	}
	x, err := readIndex(f, info.Size())
	if err != nil {
		_ = os.Remove(path)
	}
	if err != nil || x.coder != s.coder || len(s.known)+len(x.records) > maxRecords {
		f.Close()
		return
	}
	p := &pack{file: f}
	s.packs = append(s.packs, p)
	for _, r := range x.records {
		if _, ok := s.known[r.key]; !ok {
			s.known[r.key] = place{p, r}
		}
	}
}

// Get appends the deflated cluster for k to b. With known and nothing appended
// the cluster gets no smaller by deflating. Several goroutines may call it,
// one of them [Store.Add] meanwhile: what that keeps is not found before the
// store is opened again.
func (s *Store) Get(k Key, b []byte) (_ []byte, known bool) {
	if s == nil {
		return b, false
	}
	at, ok := s.known[k]
	if !ok {
		return b, false
	}
	p := at.pack
	start := len(b)
	b = slices.Grow(b, int(at.length))[:start+int(at.length)]
	if err := readAt(p.file, b[start:], at.offset); err != nil || crc32.Checksum(b[start:], castagnoli) != at.crc {
		s.drop(p)
		return b[:start], false
	}
	p.used.Store(true)
	return b, true
}

// drop removes a damaged pack. What else it has is judged by its own sum.
func (s *Store) drop(p *pack) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.gone[p] {
		s.gone[p] = true
		_ = os.Remove(p.file.Name())
	}
}

// Add keeps a cluster that was deflated; packed is empty when that makes it no
// smaller. Where the store cannot be written nothing is kept.
func (s *Store) Add(k Key, packed []byte) {
	if s == nil {
		return
	}
	if s.added == nil {
		s.added = create(s.dir, s.coder)
	}
	s.added.add(k, packed)
}

// Commit makes what was added a pack and notes which packs were used.
func (s *Store) Commit() error {
	if s == nil {
		return nil
	}
	now := time.Now()
	for _, p := range s.packs {
		if p.used.Load() && !s.gone[p] {
			_ = os.Chtimes(p.file.Name(), now, now)
		}
	}
	if s.added == nil {
		return nil
	}
	if err := s.added.commit(); err != nil {
		return fmt.Errorf("keeping deflated clusters: %w", err)
	}
	return nil
}

// Close closes the packs. What was added and not committed is gone.
func (s *Store) Close() {
	if s == nil {
		return
	}
	for _, p := range s.packs {
		p.file.Close()
	}
	if s.added != nil {
		s.added.discard()
	}
}
