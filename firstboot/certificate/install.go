package certificate

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	maxPEM = 256 << 10 // bytes of one file that we read
	spare  = 2         // pairs kept besides the live one
)

// The tree for NGINX reads like certbot's: live/<host>/fullchain.pem and so on.
// Unlike there, live/<host> is one link to archive/<host>/<serial>, so that one
// rename changes chain and key together.

func (p Paths) liveDir(host string) string    { return filepath.Join(p.Live, "live", host) }
func (p Paths) archiveDir(host string) string { return filepath.Join(p.Live, "archive", host) }

// ownPrefix begins the directories of pairs that the owner brought. Others are
// named by their serial.
const ownPrefix = "own-"

// store puts a pair into the archive, complete or not at all, and returns its
// directory's name there.
func (p Paths) store(host string, chain, key []byte, own bool) (string, error) {
	pair, leaf, err := parsePair(host, chain, key)
	if err != nil {
		return "", fmt.Errorf("storing the certificate of %s: %w", host, err)
	}
	dir := pair.Serial
	if own {
		dir = ownPrefix + pair.Digest[:16]
	}
	_, rest := pem.Decode(chain)
	files := []struct {
		name string
		data []byte
	}{
		{"privkey.pem", key},
		{"cert.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf.Raw})},
		{"chain.pem", bytes.TrimLeft(rest, "\n")},
		{"fullchain.pem", chain},
	}
	err = func() error {
		archive := p.archiveDir(host)
		if err := os.MkdirAll(archive, 0o700); err != nil {
			return err
		}
		temp, err := os.MkdirTemp(archive, ".new-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(temp)
		for _, f := range files {
			if err := writeFile(filepath.Join(temp, f.name), f.data, 0o600); err != nil {
				return err
			}
		}
		to := filepath.Join(archive, dir)
		if err := os.Rename(temp, to); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		return syncDir(archive)
	}()
	if err != nil {
		return "", fmt.Errorf("storing the certificate of %s: %w", host, err)
	}
	return dir, nil
}

// point makes a stored pair the live one, in one rename.
func (p Paths) point(host, serial string) error {
	var previous string
	err := func() error {
		live := p.liveDir(host)
		parent := filepath.Dir(live)
		if err := os.MkdirAll(parent, 0o700); err != nil {
			return err
		}
		if to, err := os.Readlink(live); err == nil {
			previous = filepath.Base(to)
		}
		link := filepath.Join(parent, "."+host+".new")
		// What a killed run left: a link, or certbot's directory (below).
		if err := os.RemoveAll(link); err != nil {
			return err
		}
		if err := os.Symlink(filepath.Join("..", "archive", host, serial), link); err != nil {
			return err
		}
		if info, err := os.Lstat(live); err == nil && info.IsDir() {
			// Certbot's own: a directory of links, which no rename replaces.
			if err := unix.Renameat2(unix.AT_FDCWD, link, unix.AT_FDCWD, live, unix.RENAME_EXCHANGE); err != nil {
				return err
			}
			if err := os.RemoveAll(link); err != nil {
				return err
			}
		} else if err := os.Rename(link, live); err != nil {
			return err
		}
		return syncDir(parent)
	}()
	if err != nil {
		return fmt.Errorf("installing the certificate of %s: %w", host, err)
	}
	// The one before stays too: somebody may be reading it.
	return p.prune(host, serial, previous)
}

// prune removes old pairs: they hold keys. The newest few stay, for a clock
// that turns out to have been wrong.
func (p Paths) prune(host string, keep ...string) error {
	archive := p.archiveDir(host)
	entries, err := os.ReadDir(archive)
	if err != nil {
		return fmt.Errorf("removing old certificates of %s: %w", host, err)
	}
	type old struct {
		name string
		end  time.Time
	}
	var signed []old
	for _, e := range entries {
		if !e.IsDir() || slices.Contains(keep, e.Name()) {
			continue
		}
		pair, _, _, err := readPair(filepath.Join(archive, e.Name()), host)
		// One under another name was on its way when its run was killed.
		if err != nil || !pair.Signed || pair.Serial != e.Name() {
			if err := os.RemoveAll(filepath.Join(archive, e.Name())); err != nil {
				return fmt.Errorf("removing old certificates of %s: %w", host, err)
			}
			continue
		}
		signed = append(signed, old{e.Name(), pair.NotAfter})
	}
	slices.SortFunc(signed, func(a, b old) int { return b.end.Compare(a.end) })
	for _, o := range signed[min(spare, len(signed)):] {
		if err := os.RemoveAll(filepath.Join(archive, o.name)); err != nil {
			return fmt.Errorf("removing old certificates of %s: %w", host, err)
		}
	}
	return nil
}

// readPair reads chain and key from one directory, opened once: a link that
// moves meanwhile mixes nothing. It follows no link out of the directory and
// waits for no pipe, whoever put them there.
func readPair(dir, host string) (pair Pair, chain, key []byte, err error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return Pair{}, nil, nil, err
	}
	defer root.Close()
	if chain, err = readIn(root, "fullchain.pem"); err != nil {
		return Pair{}, nil, nil, err
	}
	if key, err = readIn(root, "privkey.pem"); err != nil {
		return Pair{}, nil, nil, err
	}
	pair, _, err = parsePair(host, chain, key)
	return pair, chain, key, err
}

func readIn(root *os.Root, name string) ([]byte, error) {
	f, err := root.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil {
		return nil, err
	} else if !info.Mode().IsRegular() || info.Size() > maxPEM {
		return nil, fmt.Errorf("reading %s: not a file of at most %d bytes", name, maxPEM)
	}
	return io.ReadAll(io.LimitReader(f, maxPEM))
}

// live reads what NGINX reads.
func (p Paths) live(host string) Pair {
	pair, _, _, _ := readPair(p.liveDir(host), host)
	to, err := os.Readlink(p.liveDir(host))
	pair.Own = err == nil && strings.HasPrefix(filepath.Base(to), ownPrefix)
	return pair
}

// archived returns the best signed pair that is not live.
func (p Paths) archived(host string, now time.Time) Pair {
	entries, err := os.ReadDir(p.archiveDir(host))
	if err != nil {
		return Pair{}
	}
	var best Pair
	for _, e := range entries {
		pair, _, _, err := readPair(filepath.Join(p.archiveDir(host), e.Name()), host)
		if err == nil && pair.Signed && pair.Serial == e.Name() && pair.Valid(now) && pair.NotAfter.After(best.NotAfter) {
			best = pair
		}
	}
	return best
}

// liveLeaf returns the leaf that NGINX reads.
func (p Paths) liveLeaf(host string) (*x509.Certificate, error) {
	_, chain, key, err := readPair(p.liveDir(host), host)
	if err != nil {
		return nil, fmt.Errorf("reading the certificate of %s: %w", host, err)
	}
	_, leaf, err := parsePair(host, chain, key)
	return leaf, err
}
