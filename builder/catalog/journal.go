package catalog

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/prose-im/prose-image/builder/publish"
)

// Journal is the catalog as the journal of publishing.
func (c *Catalog) Journal() publish.Journal { return journal{c} }

type journal struct{ c *Catalog }

func (j journal) Append(ctx context.Context, e publish.Entry) error {
	if err := checkEntry(e); err != nil {
		return fmt.Errorf("writing the journal: %w", err)
	}
	data := sql.NullString{String: string(e.Data), Valid: e.Data != nil}
	id := rand.Text()
	err := j.c.write(ctx, func(ctx context.Context, conn *sql.Conn) error {
		_, err := conn.ExecContext(ctx, "INSERT OR IGNORE INTO journal (id, operation, stage, call, kind, data, at) VALUES (?, ?, ?, ?, ?, ?, ?)",
			id, e.Operation, e.Stage, e.Call, string(e.Kind), data, stamp(e.At))
		return err
	})
	if err != nil {
		return fmt.Errorf("writing the journal: %w", err)
	}
	return nil
}

func checkEntry(e publish.Entry) error {
	if e.Operation == "" {
		return errors.New("an entry has no operation")
	}
	if e.Kind != publish.Intent && e.Kind != publish.Result {
		return fmt.Errorf("an entry is of kind %q", e.Kind)
	}
	if e.Data != nil && !json.Valid(e.Data) {
		return errors.New("the data of an entry is no JSON")
	}
	return clean(e.Operation, e.Stage, e.Call)
}

func (j journal) Entries(ctx context.Context, operation string) ([]publish.Entry, error) {
	var entries []publish.Entry
	err := j.c.read(ctx, func(ctx context.Context, conn *sql.Conn) error {
		entries = nil
		return query(ctx, conn, func(rows *sql.Rows) error {
			e := publish.Entry{Operation: operation}
			var at string
			var data sql.NullString
			if err := rows.Scan(&e.Stage, &e.Call, &e.Kind, &data, &at); err != nil {
				return err
			}
			if data.Valid {
				e.Data = json.RawMessage(data.String)
			}
			var err error
			e.At, err = unstamp(at)
			entries = append(entries, e)
			return err
		}, "SELECT stage, call, kind, data, at FROM journal WHERE operation = ? ORDER BY n", operation)
	})
	if err != nil {
		return nil, fmt.Errorf("reading the journal: %w", err)
	}
	return entries, nil
}

func (j journal) Operations(ctx context.Context) ([]string, error) {
	var operations []string
	err := j.c.read(ctx, func(ctx context.Context, conn *sql.Conn) error {
		operations = nil
		return query(ctx, conn, func(rows *sql.Rows) error {
			var operation string
			err := rows.Scan(&operation)
			operations = append(operations, operation)
			return err
		}, "SELECT operation FROM journal GROUP BY operation ORDER BY min(n)")
	})
	if err != nil {
		return nil, fmt.Errorf("reading the journal: %w", err)
	}
	return operations, nil
}
