// Package catalog remembers what was baked, where it went and what is under
// way: a dqlite database in a directory, which the processes of one user share.
//
// # Sharing
//
// The first process that opens a catalog runs its node, the others talk to the
// node over a socket in the directory. When the first ends, however it ends,
// another one takes over; a write that was acknowledged is on disk and is not
// lost. node.go has the details.
//
// # Writing
//
// A connection may break after a write was done and before anybody heard of it.
// Every write is therefore a transaction that can be run twice and does its
// work once: rows carry an identity that is drawn before the first attempt.
package catalog

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// A Catalog is open until Close. Its methods may be called at the same time.
type Catalog struct {
	place *place
	db    *sql.DB
	lease *Lease // of the key that all writes belong to; nil: of none
}

// patience is how long an operation waits for its turn and for a node.
const patience = 15 * time.Second

// DefaultDir is the user's own catalog: XDG_DATA_HOME/prose-image/catalog.
func DefaultDir() (string, error) {
	if dir := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "prose-image", "catalog"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("finding the catalog: %w", err)
	}
	return filepath.Join(home, ".local", "share", "prose-image", "catalog"), nil
}

// Open opens the catalog in dir and makes it when there is none.
func Open(ctx context.Context, dir string) (*Catalog, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("opening the catalog: %w", err)
	}
	p, db, err := open(dir)
	if err != nil {
		return nil, fmt.Errorf("opening the catalog in %s: %w", dir, err)
	}
	// Writers take turns anyway, so one connection is enough for a process.
	db.SetMaxOpenConns(1)
	c := &Catalog{place: p, db: db}
	if err := c.migrate(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("opening the catalog in %s: %w", dir, err), c.Close())
	}
	return c, nil
}

// OpenExisting opens the catalog in dir; there must be one.
func OpenExisting(ctx context.Context, dir string) (*Catalog, error) {
	if !Available {
		return nil, ErrUnavailable
	}
	if _, err := os.Stat(filepath.Join(dir, nodeDir)); errors.Is(err, fs.ErrNotExist) {
		return nil, &MissingError{Dir: dir}
	}
	return Open(ctx, dir)
}

// nodeDir holds dqlite's own files, inside the catalog's directory.
const nodeDir = "node"

// A MissingError says that a directory holds no catalog.
type MissingError struct{ Dir string }

func (e *MissingError) Error() string { return "there is no catalog in " + e.Dir }

// Hint is how one comes about.
func (e *MissingError) Hint() string {
	return "the first bake makes it: prose-image bake RECIPE; or name another with --catalog DIR"
}

// Close lets go of the catalog. If this process runs the node, the next one
// that wants something will.
func (c *Catalog) Close() error {
	return errors.Join(c.db.Close(), c.place.close())
}

// read runs do on one unchanging state of the catalog. It may run it again.
func (c *Catalog) read(ctx context.Context, do func(context.Context, *sql.Conn) error) error {
	return c.transact(ctx, "BEGIN", do)
}

// write runs do in a transaction and returns when that is on disk. It may run
// it again, after it failed or after it was done.
func (c *Catalog) write(ctx context.Context, do func(context.Context, *sql.Conn) error) error {
	return c.transact(ctx, "BEGIN IMMEDIATE", func(ctx context.Context, conn *sql.Conn) error {
		if c.lease != nil {
			if err := c.lease.check(ctx, conn); err != nil {
				return err
			}
		}
		return do(ctx, conn)
	})
}

func (c *Catalog) transact(ctx context.Context, begin string, do func(context.Context, *sql.Conn) error) error {
	waiting, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for wait := 2 * time.Millisecond; ; wait = min(2*wait, 64*time.Millisecond) {
		err := c.once(waiting, begin, do)
		if err == nil {
			return nil
		}
		if broken := c.place.failure(); broken != nil {
			return broken
		}
		if waiting.Err() == nil && !again(err) {
			return c.place.explain(err)
		}
		select {
		case <-time.After(rand.N(wait)):
		case <-waiting.Done():
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return &BusyError{Dir: c.place.dir.Name(), Err: err}
		}
	}
}

// A BusyError says that an operation had no turn in time.
type BusyError struct {
	Dir string
	Err error
}

func (e *BusyError) Error() string {
	return fmt.Sprintf("waiting %s for the catalog in %s: %v", patience, e.Dir, e.Err)
}

func (e *BusyError) Unwrap() error { return e.Err }

// Hint finds the process that keeps others waiting.
func (e *BusyError) Hint() string {
	return "another process holds it and does not answer: fuser " + filepath.Join(e.Dir, "lock")
}

func (c *Catalog) once(ctx context.Context, begin string, do func(context.Context, *sql.Conn) error) error {
	conn, err := c.db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := conn.ExecContext(ctx, begin); err != nil {
		return err
	}
	if err = do(ctx, conn); err == nil {
		_, err = conn.ExecContext(ctx, "COMMIT")
	}
	if err == nil {
		return nil
	}
	// A connection that cannot be brought back to where it was is thrown away;
	// the node then rolls back what it had begun.
	undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if _, failed := conn.ExecContext(undo, "ROLLBACK"); failed != nil {
		_ = conn.Raw(func(any) error { return driver.ErrBadConn })
	}
	return err
}

// clean refuses texts that dqlite's protocol, where a zero ends a string, would
// cut short.
func clean(texts ...string) error {
	for _, s := range texts {
		if strings.ContainsRune(s, 0) {
			return fmt.Errorf("%q holds a zero byte", s)
		}
	}
	return nil
}

// stamp and unstamp keep times as text that people can read.
func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

func unstamp(s string) (time.Time, error) { return time.Parse(time.RFC3339Nano, s) }

// query calls scan for each row. The rows are closed when it returns.
func query(ctx context.Context, conn *sql.Conn, scan func(*sql.Rows) error, text string, args ...any) error {
	rows, err := conn.QueryContext(ctx, text, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}
