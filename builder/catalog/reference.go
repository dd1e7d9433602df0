package catalog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// A Reference is where an artifact went.
type Reference struct {
	Release string    `json:"release"`
	SHA256  string    `json:"sha256"` // of the artifact
	Target  string    `json:"target"`
	Region  string    `json:"region,omitempty"` // where the target has them
	ID      string    `json:"id"`               // the provider's
	URL     string    `json:"url,omitempty"`    // where one can be fetched
	At      time.Time `json:"at"`
}

// AddReference keeps a reference. One of the same target, region and id is
// replaced.
func (c *Catalog) AddReference(ctx context.Context, r Reference) error {
	err := clean(r.Release, r.SHA256, r.Target, r.Region, r.ID, r.URL)
	if r.Release == "" || r.Target == "" || r.ID == "" {
		err = errors.New("it needs a release, a target and an id")
	}
	if err == nil {
		err = c.write(ctx, func(ctx context.Context, conn *sql.Conn) error {
			_, err := conn.ExecContext(ctx, "INSERT OR REPLACE INTO refs (release, sha256, target, region, id, url, at) VALUES (?, ?, ?, ?, ?, ?, ?)",
				r.Release, r.SHA256, r.Target, r.Region, r.ID, r.URL, stamp(r.At))
			return err
		})
	}
	if err != nil {
		return fmt.Errorf("recording a reference: %w", err)
	}
	return nil
}

// RemoveReference forgets what is no longer at a target.
func (c *Catalog) RemoveReference(ctx context.Context, target, region, id string) error {
	err := c.write(ctx, func(ctx context.Context, conn *sql.Conn) error {
		_, err := conn.ExecContext(ctx, "DELETE FROM refs WHERE target = ? AND region = ? AND id = ?", target, region, id)
		return err
	})
	if err != nil {
		return fmt.Errorf("removing a reference: %w", err)
	}
	return nil
}

// References lists all of them, oldest first.
func (c *Catalog) References(ctx context.Context) ([]Reference, error) {
	var references []Reference
	err := c.read(ctx, func(ctx context.Context, conn *sql.Conn) (err error) {
		references, err = readReferences(ctx, conn)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("reading references: %w", err)
	}
	return references, nil
}

func readReferences(ctx context.Context, conn *sql.Conn) ([]Reference, error) {
	references := []Reference{}
	err := query(ctx, conn, func(rows *sql.Rows) error {
		var r Reference
		var at string
		if err := rows.Scan(&r.Release, &r.SHA256, &r.Target, &r.Region, &r.ID, &r.URL, &at); err != nil {
			return err
		}
		var err error
		r.At, err = unstamp(at)
		references = append(references, r)
		return err
	}, "SELECT release, sha256, target, region, id, url, at FROM refs ORDER BY n")
	return references, err
}
