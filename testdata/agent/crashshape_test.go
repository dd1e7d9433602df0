package agenttest

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"

	"github.com/pelletier/go-toml/v2"
)

// serial is a directory of the archive.
var serial = regexp.MustCompile(`(/archive/[^/]+)/[0-9a-f]+`)

// replaced are hidden names that the next write takes for itself, and nonces,
// which go after an hour: another run's may be in use.
var replaced = regexp.MustCompile(`/\.[^/]+\.new$|/www/challenge/probe-[^/]+$`)

// hidden are names of what is being written.
var hidden = regexp.MustCompile(`/\.[^/]`)

// shape says what there is in the state and checks that each file is whole. In
// the middle of a run files are, but pairs of them may not be, nor what is still
// hidden.
func (b *box) shape(end bool) (map[string]string, error) {
	out := map[string]string{}
	var errs []error
	for _, top := range stateDirs {
		err := filepath.WalkDir(b.path(top), func(p string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := d.Info()
			if err != nil {
				return err
			}
			name := strings.TrimPrefix(p, b.Root)
			if replaced.MatchString(name) {
				return nil
			}
			st, _ := info.Sys().(*syscall.Stat_t)
			what := fmt.Sprint(info.Mode(), " ", st.Uid, ":", st.Gid)
			if info.Mode()&fs.ModeSymlink != 0 {
				to, err := os.Readlink(p)
				if err != nil {
					return err
				}
				what += " to " + serial.ReplaceAllString("/"+to, "$1/*")
				if _, err := os.Stat(p); err != nil && (end || !hidden.MatchString(name)) {
					errs = append(errs, fmt.Errorf("%s leads nowhere", name))
				}
			} else if info.Mode().IsRegular() && (end || !hidden.MatchString(name)) {
				errs = append(errs, whole(p, name, end))
			}
			out[serial.ReplaceAllString(name, "$1/*")] = what
			return nil
		})
		errs = append(errs, err)
	}
	return out, errors.Join(errs...)
}

// whole checks that a file is what its name says, and at the end of a run that a
// chain has its key.
func whole(path, name string, end bool) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var v any
	switch filepath.Ext(name) {
	case ".json":
		err = json.Unmarshal(text, &v)
	case ".toml":
		err = toml.Unmarshal(text, &v)
	case ".pem":
		if end && filepath.Base(name) == "fullchain.pem" {
			_, err = tls.LoadX509KeyPair(path, filepath.Dir(path)+"/privkey.pem")
		} else if len(text) > 0 && !strings.HasPrefix(string(text), "-----BEGIN ") {
			err = errors.New("no PEM")
		}
	case ".key", ".html", ".conf", ".nft", ".issue":
		if len(text) == 0 {
			err = errors.New("empty")
		}
	}
	if err != nil {
		return fmt.Errorf("%s is half-written: %w", name, err)
	}
	return nil
}
