package catalog

import (
	"context"
	"database/sql"
	"fmt"
)

// migrations are the schema's versions, in order, counted from 1. One that was
// released is never changed.
var migrations = [][]string{
	{
		// One row a bake. n is the order in which things happened.
		`CREATE TABLE bakes (
			n       INTEGER PRIMARY KEY AUTOINCREMENT,
			id      TEXT NOT NULL UNIQUE,
			release TEXT NOT NULL, -- hash of recipe and lock
			name    TEXT NOT NULL,
			version TEXT NOT NULL,
			arch    TEXT NOT NULL,
			recipe  TEXT NOT NULL, -- sha256 of the file
			lock    TEXT NOT NULL, -- sha256
			tool    TEXT NOT NULL, -- version of the program
			at      TEXT NOT NULL  -- RFC 3339, UTC, as all times here
		)`,
		`CREATE INDEX bakes_release ON bakes (release)`,
		// One row a file; a bake that makes it again takes the row over.
		`CREATE TABLE artifacts (
			release  TEXT NOT NULL,
			path     TEXT NOT NULL, -- absolute
			platform TEXT NOT NULL,
			format   TEXT NOT NULL,
			size     INTEGER NOT NULL, -- bytes
			sha256   TEXT NOT NULL,
			bake     TEXT NOT NULL, -- id of the last that made it
			PRIMARY KEY (release, path)
		)`,
		// Every move of a channel; the last is where it is. No release: removed.
		`CREATE TABLE moves (
			n       INTEGER PRIMARY KEY AUTOINCREMENT,
			id      TEXT NOT NULL UNIQUE,
			channel TEXT NOT NULL,
			release TEXT NOT NULL,
			at      TEXT NOT NULL
		)`,
		`CREATE INDEX moves_channel ON moves (channel)`,
		`CREATE TABLE refs (
			n       INTEGER PRIMARY KEY AUTOINCREMENT,
			release TEXT NOT NULL,
			sha256  TEXT NOT NULL, -- of the artifact
			target  TEXT NOT NULL,
			region  TEXT NOT NULL, -- empty where there are none
			id      TEXT NOT NULL, -- the provider's
			url     TEXT NOT NULL, -- empty where there is none
			at      TEXT NOT NULL,
			UNIQUE (target, region, id)
		)`,
		`CREATE TABLE journal (
			n         INTEGER PRIMARY KEY AUTOINCREMENT,
			id        TEXT NOT NULL UNIQUE,
			operation TEXT NOT NULL,
			stage     TEXT NOT NULL,
			call      TEXT NOT NULL,
			kind      TEXT NOT NULL,
			data      TEXT, -- JSON
			at        TEXT NOT NULL
		)`,
		`CREATE INDEX journal_operation ON journal (operation)`,
		// A row stays when its lease is given back: tokens only grow.
		`CREATE TABLE leases (
			key    TEXT PRIMARY KEY,
			token  INTEGER NOT NULL,
			holder TEXT NOT NULL,   -- empty: nobody
			until  INTEGER NOT NULL -- milliseconds since 1970, by the node's clock
		)`,
	},
}

// migrate brings the database to the newest version that this program knows.
func (c *Catalog) migrate(ctx context.Context) error {
	version := 0
	look := func(ctx context.Context, conn *sql.Conn) error {
		version = 0
		tables := 0
		if err := conn.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_master WHERE name = 'migrations'").Scan(&tables); err != nil || tables == 0 {
			return err
		}
		return conn.QueryRowContext(ctx, "SELECT coalesce(max(version), 0) FROM migrations").Scan(&version)
	}
	if err := c.read(ctx, look); err != nil {
		return fmt.Errorf("reading the schema's version: %w", err)
	}
	if version > len(migrations) {
		return &NewerError{Has: version, Knows: len(migrations)}
	}
	if version == len(migrations) {
		return nil
	}
	return c.write(ctx, func(ctx context.Context, conn *sql.Conn) error {
		// Another process may have been first.
		if err := look(ctx, conn); err != nil {
			return err
		}
		if version > len(migrations) {
			return &NewerError{Has: version, Knows: len(migrations)}
		}
		if _, err := conn.ExecContext(ctx, "CREATE TABLE IF NOT EXISTS migrations (version INTEGER PRIMARY KEY)"); err != nil {
			return err
		}
		for i := version; i < len(migrations); i++ {
			for _, statement := range append(migrations[i][:len(migrations[i]):len(migrations[i])], fmt.Sprintf("INSERT INTO migrations VALUES (%d)", i+1)) {
				if _, err := conn.ExecContext(ctx, statement); err != nil {
					return fmt.Errorf("migrating to version %d: %w", i+1, err)
				}
			}
		}
		return nil
	})
}

// A NewerError says that a newer program has changed the catalog's schema.
type NewerError struct {
	Has, Knows int // versions
}

func (e *NewerError) Error() string {
	return fmt.Sprintf("its schema has version %d, this program knows those up to %d", e.Has, e.Knows)
}

// Hint is how to read it.
func (e *NewerError) Hint() string {
	return "use the prose-image that wrote it, or a newer one; or name another catalog with --catalog DIR"
}
