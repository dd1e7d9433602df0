package catalog

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"regexp"
	"time"
)

// A Channel is a name that leads to a release, such as stable.
type Channel struct {
	Name    string    `json:"name"`
	Release string    `json:"release"`
	At      time.Time `json:"at"` // when it was moved there
}

var channelName = regexp.MustCompile(`^[a-z][a-z0-9.-]*$`)

// A ChannelNameError says that a channel cannot have this name.
type ChannelNameError struct{ Name string }

func (e *ChannelNameError) Error() string {
	return fmt.Sprintf("%q cannot be a channel's name", e.Name)
}

// Hint says what can.
func (e *ChannelNameError) Hint() string {
	return "use small letters, digits, . and -, beginning with a letter, such as stable"
}

// SetChannel leads a channel to the release whose id begins with prefix, or to
// where another channel of that name leads, and returns it. A channel that is
// there already is not moved.
func (c *Catalog) SetChannel(ctx context.Context, name, prefix string) (Channel, error) {
	if !channelName.MatchString(name) {
		return Channel{}, &ChannelNameError{Name: name}
	}
	id, now := rand.Text(), time.Now().UTC()
	var channel Channel
	err := c.write(ctx, func(ctx context.Context, conn *sql.Conn) error {
		releases, err := readReleases(ctx, conn)
		if err != nil {
			return err
		}
		r, err := find(releases, prefix)
		if err != nil {
			return err
		}
		channels, err := readChannels(ctx, conn)
		if err != nil {
			return err
		}
		for _, channel = range channels {
			if channel.Name == name && channel.Release == r.Release {
				return nil
			}
		}
		channel = Channel{Name: name, Release: r.Release, At: now}
		return move(ctx, conn, id, channel)
	})
	if err != nil {
		return Channel{}, fmt.Errorf("moving channel %s: %w", name, err)
	}
	return channel, nil
}

// RemoveChannel ends a channel; its history stays.
func (c *Catalog) RemoveChannel(ctx context.Context, name string) error {
	id, now := rand.Text(), time.Now().UTC()
	err := c.write(ctx, func(ctx context.Context, conn *sql.Conn) error {
		var last, release string
		err := conn.QueryRowContext(ctx, "SELECT id, release FROM moves WHERE channel = ? ORDER BY n DESC LIMIT 1", name).Scan(&last, &release)
		if last == id {
			return nil
		}
		if errors.Is(err, sql.ErrNoRows) || err == nil && release == "" {
			return &UnknownChannelError{Name: name}
		}
		if err != nil {
			return err
		}
		return move(ctx, conn, id, Channel{Name: name, At: now})
	})
	if err != nil {
		return fmt.Errorf("removing channel %s: %w", name, err)
	}
	return nil
}

func move(ctx context.Context, conn *sql.Conn, id string, c Channel) error {
	_, err := conn.ExecContext(ctx, "INSERT OR IGNORE INTO moves (id, channel, release, at) VALUES (?, ?, ?, ?)", id, c.Name, c.Release, stamp(c.At))
	return err
}

// Channels lists the channels by name.
func (c *Catalog) Channels(ctx context.Context) ([]Channel, error) {
	var channels []Channel
	err := c.read(ctx, func(ctx context.Context, conn *sql.Conn) (err error) {
		channels, err = readChannels(ctx, conn)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("reading channels: %w", err)
	}
	return channels, nil
}

func readChannels(ctx context.Context, conn *sql.Conn) ([]Channel, error) {
	moves, err := readMoves(ctx, conn, "SELECT channel, release, at FROM moves WHERE n IN (SELECT max(n) FROM moves GROUP BY channel) AND release <> ''")
	return inOrder(moves), err
}

// History lists where a channel has led, newest first. Where Release is empty
// the channel was removed.
func (c *Catalog) History(ctx context.Context, name string) ([]Channel, error) {
	var moves []Channel
	err := c.read(ctx, func(ctx context.Context, conn *sql.Conn) (err error) {
		moves, err = readMoves(ctx, conn, "SELECT channel, release, at FROM moves WHERE channel = ? ORDER BY n DESC", name)
		return err
	})
	if err == nil && len(moves) == 0 {
		err = &UnknownChannelError{Name: name}
	}
	if err != nil {
		return nil, fmt.Errorf("reading channel %s: %w", name, err)
	}
	return moves, nil
}

// An UnknownChannelError says that there is no channel of this name.
type UnknownChannelError struct{ Name string }

func (e *UnknownChannelError) Error() string { return fmt.Sprintf("there is no channel %q", e.Name) }

// Hint shows what there is.
func (e *UnknownChannelError) Hint() string { return "prose-image catalog channel" }

func readMoves(ctx context.Context, conn *sql.Conn, text string, args ...any) ([]Channel, error) {
	channels := []Channel{}
	err := query(ctx, conn, func(rows *sql.Rows) error {
		var c Channel
		var at string
		if err := rows.Scan(&c.Name, &c.Release, &at); err != nil {
			return err
		}
		var err error
		c.At, err = unstamp(at)
		channels = append(channels, c)
		return err
	}, text, args...)
	return channels, err
}
