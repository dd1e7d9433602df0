//go:build cgo && libsqlite3

package catalog

import (
	"bytes"
	"context"
	"database/sql"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prose-im/prose-image/builder/publish"
)

// Of two who want to write, one waits until the other has written.
func TestWritersTakeTurns(t *testing.T) {
	dir := t.TempDir()
	one, other := opened(t, dir), opened(t, dir)
	waiting := make(chan error, 1)
	err := one.write(t.Context(), func(ctx context.Context, conn *sql.Conn) error {
		go func() { waiting <- other.Record(context.Background(), bakeOf("b", "/out")) }()
		select {
		case err := <-waiting:
			t.Errorf("the other did not wait: %v", err)
			waiting <- nil
		case <-time.After(100 * time.Millisecond):
		}
		_, err := conn.ExecContext(ctx, "INSERT INTO leases VALUES ('first', 7, '', 0)")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := <-waiting; err != nil {
		t.Error(err)
	}
	if l, err := other.Acquire(t.Context(), "first", time.Minute); err != nil || l.Token != 8 {
		t.Errorf("%+v, %v", l, err)
	}
}

// breaker stands between a catalog and its node. When it is armed it lets the
// next COMMIT through and breaks the connection in the answer's place.
type breaker struct {
	armed  atomic.Bool
	broken atomic.Int32
}

func newBreaker(t *testing.T, dir string) *breaker {
	t.Helper()
	socket, node := filepath.Join(dir, "socket"), filepath.Join(dir, "node.socket")
	if err := os.Rename(socket, node); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	b := &breaker{}
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("unix", node)
			if err != nil {
				client.Close()
				continue
			}
			go b.relay(client, server)
		}
	}()
	return b
}

func (b *breaker) relay(client, server net.Conn) {
	var cut atomic.Bool
	go func() {
		defer client.Close()
		buf := make([]byte, 64<<10)
		for {
			n, err := server.Read(buf)
			if err != nil || cut.Load() {
				b.count(&cut)
				return
			}
			if _, err := client.Write(buf[:n]); err != nil {
				return
			}
		}
	}()
	defer server.Close()
	buf := make([]byte, 64<<10)
	for {
		n, err := client.Read(buf)
		if err != nil {
			return
		}
		if bytes.Contains(buf[:n], []byte("COMMIT")) && b.armed.CompareAndSwap(true, false) {
			cut.Store(true)
		}
		if _, err := io.Copy(server, bytes.NewReader(buf[:n])); err != nil {
			return
		}
	}
}

func (b *breaker) count(cut *atomic.Bool) {
	if cut.Load() {
		b.broken.Add(1)
	}
}

// A write whose acknowledgement is lost is tried again and done once.
func TestLostAcknowledgement(t *testing.T) {
	ctx := t.Context()
	dir := t.TempDir()
	opened(t, dir) // runs the node
	b := newBreaker(t, dir)
	c := opened(t, dir)
	record(t, c, bakeOf("a", "/out", "raw"))
	record(t, c, bakeOf("b", "/out", "raw"))

	lose := func(what string, write func() error) {
		t.Helper()
		before := b.broken.Load()
		b.armed.Store(true)
		if err := write(); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if b.armed.Load() || b.broken.Load() != before+1 {
			t.Errorf("%s: %d connections broke", what, b.broken.Load()-before)
		}
	}
	lose("recording a bake", func() error { return c.Record(ctx, bakeOf("a", "/out", "raw")) })
	lose("writing the journal", func() error {
		return c.Journal().Append(ctx, publish.Entry{Operation: "x", Kind: publish.Intent})
	})
	lose("adding a reference", func() error {
		return c.AddReference(ctx, Reference{Release: release("a"), Target: "aws", ID: "ami-1"})
	})
	lose("moving a channel", func() error { _, err := c.SetChannel(ctx, "stable", "a"); return err })
	lose("removing a channel", func() error { return c.RemoveChannel(ctx, "stable") })
	var l Lease
	lose("taking a lease", func() (err error) { l, err = c.Acquire(ctx, "key", time.Hour); return err })
	lose("renewing a lease", func() (err error) { l, err = c.Renew(ctx, l, time.Hour); return err })
	if l.Token != 1 {
		t.Errorf("the lease is %+v", l)
	}
	lose("giving back a lease", func() error { return c.Release(ctx, l) })
	lose("cleaning", func() error {
		removals, err := c.Clean(ctx, Cleaning{Keep: -1})
		if len(removals) != 1 || removals[0].Release != release("b") {
			t.Errorf("removed %+v", removals)
		}
		return err
	})

	releases, err := c.Releases(ctx)
	if err != nil || len(releases) != 1 || len(releases[0].Bakes) != 2 || len(releases[0].References) != 1 {
		t.Errorf("%+v, %v", releases, err)
	}
	if entries, err := c.Journal().Entries(ctx, "x"); err != nil || len(entries) != 1 {
		t.Errorf("%+v, %v", entries, err)
	}
	if moves, err := c.History(ctx, "stable"); err != nil || len(moves) != 2 {
		t.Errorf("%+v, %v", moves, err)
	}
}
