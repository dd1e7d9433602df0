//go:build cgo && libsqlite3

package catalog

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"time"

	"github.com/canonical/go-dqlite"
	"golang.org/x/sys/unix"
)

// run starts the node, listening at our path.
//
// dqlite listens on TCP ports and in Linux's abstract space, which every user
// of the machine can connect to, and its protocol asks nobody who they are. So
// it is given an abstract name that it binds and does not listen on yet, and
// before it does another socket, bound to a path with a mode, takes that
// descriptor's place.
func (p *place) run() (*dqlite.Node, error) {
	if err := checkMetadata(p.path(nodeDir)); err != nil {
		return nil, err
	}
	name := "@prose-image-" + rand.Text()
	node, err := dqlite.New(nodeID, nodeAddress, p.path(nodeDir), dqlite.WithBindAddress(name), dqlite.WithSnapshotParams(snapshots))
	if err != nil {
		return nil, err
	}
	if err := p.replaceSocket(name); err != nil {
		return nil, err
	}
	// The library loops for ever over a snapshot that was cut short.
	started := make(chan error, 1)
	go func() { started <- node.Start() }()
	select {
	case err := <-started:
		return node, err
	case <-time.After(patience):
		return nil, fmt.Errorf("waiting %s for its log and snapshots to be read", patience)
	}
}

func (p *place) replaceSocket(name string) error {
	bound, err := findSocket(name)
	if err != nil {
		return err
	}
	// What lies there is of a process that ended: we have the lock.
	if err := os.Remove(p.path("socket")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("making a socket: %w", err)
	}
	defer unix.Close(fd)
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: p.socketAddress()}); err != nil {
		return fmt.Errorf("binding %s: %w", p.path("socket"), err)
	}
	// Nobody can connect before the node listens.
	if err := os.Chmod(p.path("socket"), 0o600); err != nil {
		return err
	}
	return unix.Dup3(fd, bound, unix.O_CLOEXEC)
}

// findSocket finds the descriptor that is bound to a name.
func findSocket(name string) (int, error) {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0, fmt.Errorf("looking for the node's socket: %w", err)
	}
	for _, e := range entries {
		fd, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if a, err := unix.Getsockname(fd); err == nil {
			if u, ok := a.(*unix.SockaddrUnix); ok && u.Name == name {
				return fd, nil
			}
		}
	}
	return 0, errors.New("looking for the node's socket: it is not bound")
}
