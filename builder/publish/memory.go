package publish

import (
	"context"
	"slices"
	"sync"
)

// Memory is a journal that ends with the process.
type Memory struct {
	mu      sync.Mutex
	entries []Entry
}

// Append keeps e.
func (m *Memory) Append(_ context.Context, e Entry) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.entries = append(m.entries, e)
	return nil
}

// Entries lists what was appended for one operation.
func (m *Memory) Entries(_ context.Context, operation string) ([]Entry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var found []Entry
	for _, e := range m.entries {
		if e.Operation == operation {
			found = append(found, e)
		}
	}
	return found, nil
}

// Operations lists what has entries, oldest first.
func (m *Memory) Operations(context.Context) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var ids []string
	for _, e := range m.entries {
		if !slices.Contains(ids, e.Operation) {
			ids = append(ids, e.Operation)
		}
	}
	return ids, nil
}
