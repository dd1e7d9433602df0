//go:build cgo && libsqlite3

package catalog

import (
	"context"
	"database/sql"
	sqldriver "database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/canonical/go-dqlite"
	"github.com/canonical/go-dqlite/client"
	"github.com/canonical/go-dqlite/driver"
	"golang.org/x/sys/unix"

	"github.com/prose-im/prose-image/builder/output"
)

// Available says whether this program was built with the catalog.
const Available = true

// A place is a catalog's directory as one process sees it:
//
//	lock    held by the process that runs the node
//	socket  where the node listens
//	node/   dqlite's own files: the log of all that was written, and snapshots
//
// Everybody talks to the node over its socket, its own process too. Who cannot
// reach it tries to get the lock, and who gets the lock runs the node. The
// kernel takes the lock from a process that ends, however it ends.
type place struct {
	dir *os.File // open, so that the socket's address is short however long the path

	mu     sync.Mutex
	lock   *os.File
	node   *dqlite.Node // nil: not run by us
	closed bool
	broken error // why the node does not start here
}

// The one member of a cluster of one. The address is only a name in the log.
const (
	nodeID      = dqlite.BootstrapID
	nodeAddress = "catalog"
)

// A process that starts the node reads the log since the last snapshot, so a
// short log opens fast. dqlite wants Trailing to be Threshold or more.
var snapshots = dqlite.SnapshotParams{Threshold: 64, Trailing: 64}

// open connects to the catalog of dir when it is used first.
func open(dir string) (*place, *sql.DB, error) {
	// What is in it is not secret, but who can write to the socket or to the
	// log can lead a channel anywhere.
	for _, d := range []string{dir, filepath.Join(dir, nodeDir)} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, nil, err
		}
		if err := os.Chmod(d, 0o700); err != nil {
			return nil, nil, err
		}
	}
	d, err := os.Open(dir)
	if err != nil {
		return nil, nil, err
	}
	p := &place{dir: d}
	store := client.NewInmemNodeStore()
	if err := store.Set(context.Background(), []client.NodeInfo{{ID: nodeID, Address: nodeAddress}}); err != nil {
		d.Close()
		return nil, nil, err
	}
	// Retrying is done in one place, [Catalog.transact].
	dr, err := driver.New(store,
		driver.WithDialFunc(func(ctx context.Context, _ string) (net.Conn, error) { return p.dial(ctx) }),
		driver.WithRetryLimit(1),
		driver.WithConnectionBackoffFactor(time.Millisecond),
		driver.WithLogFunc(func(client.LogLevel, string, ...any) {}))
	if err != nil {
		d.Close()
		return nil, nil, err
	}
	connector, err := dr.OpenConnector("catalog")
	if err != nil {
		d.Close()
		return nil, nil, err
	}
	return p, sql.OpenDB(connector), nil
}

// again says whether an error may be gone at the next attempt: the connection
// broke, nobody runs the node at the moment, or another one is writing.
func again(err error) bool {
	var network *net.OpError
	var sqlite driver.Error
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return false
	case errors.As(err, &sqlite):
		return sqlite.Code&0xff == driver.ErrBusy
	}
	return errors.As(err, &network) || errors.Is(err, sqldriver.ErrBadConn) || errors.Is(err, io.EOF) ||
		errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, driver.ErrNoAvailableLeader)
}

// explain tells a full disk from other errors: SQLite has one code for all of
// reading and writing.
func (p *place) explain(err error) error {
	const ioError = 10
	var sqlite driver.Error
	if errors.As(err, &sqlite) && sqlite.Code&0xff == ioError {
		// The log grows in files of this size.
		if full := output.CheckSpace(p.path(nodeDir), 8<<20); full != nil {
			return full
		}
	}
	return err
}

func (p *place) path(name string) string { return filepath.Join(p.dir.Name(), name) }

// socketAddress is short: the kernel's limit is 107 bytes.
func (p *place) socketAddress() string { return fmt.Sprintf("/proc/self/fd/%d/socket", p.dir.Fd()) }

// dial connects to the node, which it starts if nobody does.
func (p *place) dial(ctx context.Context) (net.Conn, error) {
	for {
		conn, err := (&net.Dialer{}).DialContext(ctx, "unix", p.socketAddress())
		if err == nil {
			return conn, nil
		}
		started, failed := p.start()
		if failed != nil {
			return nil, failed
		}
		if started {
			continue
		}
		// Somebody has the lock and does not listen yet, or no more.
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// start runs the node here if nobody has the lock.
func (p *place) start() (bool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.node != nil || p.broken != nil {
		return false, p.broken
	}
	lock, err := os.OpenFile(p.path("lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		p.broken = err
		return false, err
	}
	err = unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		lock.Close()
		return false, nil
	}
	if err == nil {
		node, failed := p.run()
		if err = failed; err == nil {
			p.node = node
		}
	}
	if err != nil {
		// The library keeps the socket of a node that did not start. Others must
		// not wait there for an answer.
		_ = os.Remove(p.path("socket"))
		lock.Close()
		p.broken = fmt.Errorf("starting the catalog's node in %s: %w", p.path(nodeDir), err)
		return false, p.broken
	}
	p.lock = lock
	return true, nil
}

// failure is why the node does not start in this process.
func (p *place) failure() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.broken
}

// close stops the node if we run it. The lock is given back when the node has
// put its files in order.
func (p *place) close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil
	}
	p.closed = true
	var err error
	if p.node != nil {
		err = p.node.Close()
		_ = os.Remove(p.path("socket"))
		err = errors.Join(err, p.lock.Close())
	}
	return errors.Join(err, p.dir.Close())
}
