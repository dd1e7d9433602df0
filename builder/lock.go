package builder

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"

	"github.com/prose-im/prose-image/builder/debian"
	"github.com/prose-im/prose-image/builder/output"
	"github.com/prose-im/prose-image/builder/recipe"
)

// A Lock holds exactly what a recipe leaves open. The first bake writes it
// beside the recipe, later bakes obey it, and only an update moves it.
type Lock struct {
	Schema   int              `toml:"schema"` // 1
	Date     time.Time        `toml:"date"`   // newest date of the package archives; the default SOURCE_DATE_EPOCH
	Suite    string           `toml:"suite"`
	Arch     string           `toml:"arch"`
	Request  []string         `toml:"request"` // package names that were asked for, sorted
	Sources  string           `toml:"sources"` // sources.list of the image
	Images   []Image          `toml:"image"`
	Packages []debian.Package `toml:"package"`
}

// An Image is a container image at an exact digest.
type Image struct {
	Name     string `toml:"name"`     // as the bundle's compose file says it, with its tag
	Digest   string `toml:"digest"`   // what the name meant: an index or a manifest
	Manifest string `toml:"manifest"` // the manifest for the recipe's architecture
}

// lockSchema is the version of the lock's form.
const lockSchema = 1

const lockHead = "# Written by prose-image: exact versions for the recipe beside it. To move it:\n# prose-image lock --update RECIPE\n\n"

// LockPath is where the lock of a recipe file lies: beside it, ".lock" in place
// of ".toml".
func LockPath(recipePath string) string {
	return strings.TrimSuffix(recipePath, ".toml") + ".lock"
}

// A LockError says why a lock cannot be read.
type LockError struct {
	Path string
	Err  error
}

func (e *LockError) Error() string { return fmt.Sprintf("reading lock %s: %v", e.Path, e.Err) }

func (e *LockError) Unwrap() error { return e.Err }

// ReadLock reads a lock file; its errors are [LockError]. For a file that is
// not there that is an [fs.ErrNotExist].
func ReadLock(path string) (*Lock, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, &LockError{path, err}
	}
	l := &Lock{}
	d := toml.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(l); err != nil {
		return nil, &LockError{path, err}
	}
	if l.Schema != lockSchema {
		return nil, &LockError{path, fmt.Errorf("its schema is %d, this program writes %d", l.Schema, lockSchema)}
	}
	return l, nil
}

// Write writes the lock to path, whole or not at all.
func (l *Lock) Write(path string) error {
	b, err := l.encode()
	if err != nil {
		return err
	}
	if err := output.WriteFile(path, append([]byte(lockHead), b...)); err != nil {
		return fmt.Errorf("writing lock: %w", err)
	}
	return nil
}

func (l *Lock) encode() ([]byte, error) {
	b, err := toml.Marshal(l)
	if err != nil {
		return nil, fmt.Errorf("encoding lock: %w", err)
	}
	return b, nil
}

// Sum is the sha256 of what the lock says.
func (l *Lock) Sum() ([32]byte, error) {
	b, err := l.encode()
	return sha256.Sum256(b), err
}

// A StaleLockError says that a lock was made for something else than the
// recipe asks for now.
type StaleLockError struct {
	Path    string
	Reasons []string
}

func (e *StaleLockError) Error() string {
	return fmt.Sprintf("lock %s does not fit the recipe: %s", e.Path, strings.Join(e.Reasons, "; "))
}

// Hint is the command that makes a new one.
func (e *StaleLockError) Hint() string { return "prose-image lock --update RECIPE" }

// fits reports how a lock does not answer what r asks.
func (l *Lock) fits(path string, r *recipe.Recipe, request, images []string) error {
	var reasons []string
	if l.Suite != r.Suite {
		reasons = append(reasons, fmt.Sprintf("it is for suite %s, not %s", l.Suite, r.Suite))
	}
	if l.Arch != r.Arch {
		reasons = append(reasons, fmt.Sprintf("it is for %s, not %s", l.Arch, r.Arch))
	}
	var locked []string
	for _, i := range l.Images {
		locked = append(locked, i.Name)
	}
	reasons = append(reasons, differ("package", l.Request, request)...)
	reasons = append(reasons, differ("container image", locked, images)...)
	if reasons != nil {
		return &StaleLockError{Path: path, Reasons: reasons}
	}
	return nil
}

func differ(what string, have, want []string) (reasons []string) {
	for _, w := range want {
		if !slices.Contains(have, w) {
			reasons = append(reasons, fmt.Sprintf("it has no %s %s", what, w))
		}
	}
	for _, h := range have {
		if !slices.Contains(want, h) {
			reasons = append(reasons, fmt.Sprintf("%s %s is no longer asked for", what, h))
		}
	}
	return reasons
}
