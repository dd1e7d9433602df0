package catalog

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// A Lease is the right to work on a key until it ends. Its token is greater
// than that of every earlier lease of the key, so that whoever was away for too
// long and writes as if it still had its lease can be told apart and refused:
// see [Catalog.Under].
type Lease struct {
	Key   string
	Token int64
	Until time.Time // by the clock of the node

	holder string
}

// nowMillis is the node's clock, so that all who take leases go by one.
const nowMillis = "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)"

// Acquire takes the lease of a key for the time ttl, if nobody has it.
func (c *Catalog) Acquire(ctx context.Context, key string, ttl time.Duration) (Lease, error) {
	l := Lease{Key: key, holder: rand.Text()}
	if err := clean(key); err != nil {
		return Lease{}, fmt.Errorf("taking a lease: %w", err)
	}
	err := c.write(ctx, func(ctx context.Context, conn *sql.Conn) error {
		var holder string
		var now, until int64
		err := conn.QueryRowContext(ctx, "SELECT token, holder, until, "+nowMillis+" FROM leases WHERE key = ?", key).Scan(&l.Token, &holder, &until, &now)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		l.Until = time.UnixMilli(until).UTC()
		switch {
		case holder == l.holder:
			return nil // an attempt of ours that we heard nothing of
		case holder != "" && until > now:
			return &HeldError{Key: key, Until: l.Until}
		}
		l.Token++
		_, err = conn.ExecContext(ctx, "INSERT OR REPLACE INTO leases (key, token, holder, until) VALUES (?, ?, ?, "+nowMillis+" + ?)", key, l.Token, l.holder, ttl.Milliseconds())
		if err != nil {
			return err
		}
		return l.readEnd(ctx, conn)
	})
	if err != nil {
		return Lease{}, fmt.Errorf("taking the lease of %s: %w", key, err)
	}
	return l, nil
}

// Renew makes a lease last for the time ttl from now. That works after its end
// too, as long as nobody else has taken it.
func (c *Catalog) Renew(ctx context.Context, l Lease, ttl time.Duration) (Lease, error) {
	err := c.Under(l).write(ctx, func(ctx context.Context, conn *sql.Conn) error {
		if _, err := conn.ExecContext(ctx, "UPDATE leases SET until = "+nowMillis+" + ? WHERE key = ?", ttl.Milliseconds(), l.Key); err != nil {
			return err
		}
		return l.readEnd(ctx, conn)
	})
	if err != nil {
		return Lease{}, fmt.Errorf("renewing the lease of %s: %w", l.Key, err)
	}
	return l, nil
}

// Release gives a lease back. One that has ended or is somebody else's by now
// is let be.
func (c *Catalog) Release(ctx context.Context, l Lease) error {
	err := c.write(ctx, func(ctx context.Context, conn *sql.Conn) error {
		_, err := conn.ExecContext(ctx, "UPDATE leases SET holder = '', until = 0 WHERE key = ? AND token = ? AND holder = ?", l.Key, l.Token, l.holder)
		return err
	})
	if err != nil {
		return fmt.Errorf("giving back the lease of %s: %w", l.Key, err)
	}
	return nil
}

// Under is the same catalog for whoever holds a lease: when it was taken over
// by another, or given back, every write is refused and changes nothing.
func (c *Catalog) Under(l Lease) *Catalog {
	under := *c
	under.lease = &l
	return &under
}

// check is part of each write's transaction, so that nobody comes between.
func (l *Lease) check(ctx context.Context, conn *sql.Conn) error {
	var token int64
	var holder string
	err := conn.QueryRowContext(ctx, "SELECT token, holder FROM leases WHERE key = ?", l.Key).Scan(&token, &holder)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return err
	}
	if token != l.Token || holder != l.holder {
		return &FencedError{Key: l.Key, Token: l.Token, Newest: token}
	}
	return nil
}

func (l *Lease) readEnd(ctx context.Context, conn *sql.Conn) error {
	var until int64
	err := conn.QueryRowContext(ctx, "SELECT until FROM leases WHERE key = ?", l.Key).Scan(&until)
	l.Until = time.UnixMilli(until).UTC()
	return err
}

// A HeldError says that somebody else has a lease.
type HeldError struct {
	Key   string
	Until time.Time // its end, unless it is renewed
}

func (e *HeldError) Error() string {
	return fmt.Sprintf("somebody has it until %s", e.Until.Format(time.RFC3339))
}

// A FencedError says that a write was refused because its lease is no more.
type FencedError struct {
	Key           string
	Token, Newest int64
}

func (e *FencedError) Error() string {
	if e.Token == e.Newest {
		return fmt.Sprintf("the lease of %s was given back", e.Key)
	}
	return fmt.Sprintf("the lease of %s has token %d by now, ours was %d", e.Key, e.Newest, e.Token)
}
