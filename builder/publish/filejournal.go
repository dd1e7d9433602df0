package publish

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// A FileJournal keeps entries in a directory: one file of JSON lines for each
// operation, only ever appended to. Several processes may write at once. A line
// that a crash or a full disk cut short is passed over: the entry was not on
// disk, so what it was about has not begun, or its outcome is unknown.
type FileJournal struct{ dir string }

// OpenFileJournal uses the directory dir, which the first entry makes.
func OpenFileJournal(dir string) *FileJournal { return &FileJournal{dir} }

var operationName = regexp.MustCompile(`^[0-9a-f]{1,64}$`)

func (j *FileJournal) path(operation string) (string, error) {
	if !operationName.MatchString(operation) {
		return "", fmt.Errorf("BUG: %q is no name of an operation", operation)
	}
	return filepath.Join(j.dir, operation+".jsonl"), nil
}

// Append writes e and syncs it.
func (j *FileJournal) Append(_ context.Context, e Entry) error {
	name, err := j.path(e.Operation)
	if err != nil {
		return err
	}
	line, err := json.Marshal(e)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(j.dir, 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	end, err := f.Seek(0, 2)
	if err != nil {
		return err
	}
	var whole []byte
	if last := []byte{'\n'}; end > 0 {
		if _, err := f.ReadAt(last, end-1); err != nil {
			return err
		}
		if last[0] != '\n' {
			whole = append(whole, '\n') // what was cut short stays a line of its own
		}
	}
	// One write, so that lines of two processes do not mix.
	whole = append(append(whole, line...), '\n')
	if _, err := f.Write(whole); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if end == 0 {
		if err := syncDir(j.dir); err != nil {
			return err
		}
	}
	return f.Close()
}

// Entries reads those of one operation.
func (j *FileJournal) Entries(_ context.Context, operation string) ([]Entry, error) {
	name, err := j.path(operation)
	if err != nil {
		return nil, err
	}
	b, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return parseEntries(operation, b), nil
}

// parseEntries reads lines of JSON and leaves out what is none, or is about
// another operation.
func parseEntries(operation string, b []byte) []Entry {
	var entries []Entry
	for line := range bytes.Lines(b) {
		var e Entry
		if line[len(line)-1] != '\n' || json.Unmarshal(line, &e) != nil || e.Operation != operation {
			continue
		}
		entries = append(entries, e)
	}
	return entries
}

// Operations lists what has entries, by the time of the first one.
func (j *FileJournal) Operations(ctx context.Context) ([]string, error) {
	dir, err := os.ReadDir(j.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var ids []string
	first := map[string]time.Time{}
	for _, d := range dir {
		id, ok := strings.CutSuffix(d.Name(), ".jsonl")
		if !ok || !operationName.MatchString(id) {
			continue
		}
		entries, err := j.Entries(ctx, id)
		if err != nil {
			return nil, err
		}
		if len(entries) > 0 {
			ids, first[id] = append(ids, id), entries[0].At
		}
	}
	slices.SortStableFunc(ids, func(a, b string) int { return first[a].Compare(first[b]) })
	return ids, nil
}
