package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"sync"
)

// A database is the file database.sqlite. It holds JSON, not SQLite; what
// counts is kept: it must exist, may be empty, and its directory must be
// writable for the files that SQLite puts beside it.
type database struct {
	path string
	mu   sync.Mutex
	data data
}

type data struct {
	ChosenDomain         string `json:"chosen_domain,omitempty"`
	WorkspaceInitialized bool   `json:"workspace_initialized,omitempty"`
}

var companions = []string{"-wal", "-shm"}

// openDatabase never creates the file itself.
func openDatabase(path string) (*database, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	for _, suffix := range companions {
		c, err := os.OpenFile(path+suffix, os.O_RDWR|os.O_CREATE, 0o666)
		if err != nil {
			return nil, err
		}
		c.Close()
	}
	return &database{path: path}, nil
}

// migrate reads the file. Text that is not ours is an error, as a file that is
// no database is to SQLite.
func (d *database) migrate() error {
	f, err := os.Open(d.path)
	if err != nil {
		return err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, 1<<20))
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.data = data{}
	if len(bytes.TrimSpace(text)) == 0 {
		return nil
	}
	if err := json.Unmarshal(text, &d.data); err != nil {
		return fmt.Errorf("file is not a database: %w", err)
	}
	return nil
}

func (d *database) get() data {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.data
}

// update changes the data and writes the file in place, keeping its owner.
func (d *database) update(change func(*data)) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	next := d.data
	change(&next)
	text, err := json.Marshal(next)
	if err != nil {
		return err
	}
	if err := d.write(text); err != nil {
		return err
	}
	d.data = next
	return nil
}

func (d *database) write(text []byte) error {
	f, err := os.OpenFile(d.path, os.O_RDWR|os.O_TRUNC, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write(text); err != nil {
		return err
	}
	return f.Sync()
}

// empty forgets everything.
func (d *database) empty() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.data = data{}
	return d.write(nil)
}

// close removes the companions, as SQLite does on an orderly end.
func (d *database) close() {
	for _, suffix := range companions {
		os.Remove(d.path + suffix)
	}
}
