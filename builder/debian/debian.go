// Package debian makes the base layer: it resolves package names to exact
// files with apt, fetches those files into the cache, and has mmdebstrap
// install them. Installing is the only step of a bake that runs foreign code.
//
// Resolving happens once, for the lock. Baking installs from a local
// repository that holds nothing but the locked files, so what is installed
// cannot differ from the lock, and no network is used.
package debian

import (
	"fmt"
	"time"
)

// A Package is one exact package file.
type Package struct {
	Name    string `toml:"name"`
	Version string `toml:"version"`
	Arch    string `toml:"arch"`
	Size    int64  `toml:"size"`   // bytes
	SHA256  string `toml:"sha256"` // hex
	URI     string `toml:"uri"`    // where it was found
}

// A Request is what the recipe says of the base system.
type Request struct {
	Suite    string   // Debian suite, such as "trixie"
	Arch     string   // Debian architecture: amd64, arm64
	Mirrors  []string // apt one-line sources or mirror addresses; empty: mmdebstrap's default for the suite
	Packages []string // names, apt syntax
}

// A Resolution is what apt chose for a [Request].
type Resolution struct {
	Sources  string    // sources.list of the image
	Date     time.Time // newest date of the archives' Release files
	Packages []Package // sorted by name and architecture
}

// A GoneError is a locked package file that could not be had.
type GoneError struct {
	Package Package
	Err     error
}

func (e *GoneError) Error() string {
	return fmt.Sprintf("fetching %s %s (sha256 %.12s…): %v", e.Package.Name, e.Package.Version, e.Package.SHA256, e.Err)
}

func (e *GoneError) Unwrap() error { return e.Err }

// Hint names what would still have the file.
func (e *GoneError) Hint() string {
	return "a package cache that baked this lock before still has it, and so does a snapshot mirror of the lock's date set as base.mirrors; or move on with: prose-image lock --update RECIPE"
}

// An UnknownPackageError is a name that no source has.
type UnknownPackageError struct{ Names []string }

func (e *UnknownPackageError) Error() string {
	return fmt.Sprintf("resolving packages: no source has %v", e.Names)
}

// Hint is what to check.
func (e *UnknownPackageError) Hint() string {
	return "check the names in base.packages, and that base.mirrors has the components they are in"
}

// A PrivateError is a directory for temporary files that other ids of the same
// user, as mmdebstrap takes them in a user namespace, cannot get to.
type PrivateError struct{ Dir string }

func (e *PrivateError) Error() string {
	return fmt.Sprintf("installing packages without root: the users in the image cannot get to %s", e.Dir)
}

// Hint is where they can.
func (e *PrivateError) Hint() string { return "TMPDIR=/var/tmp, or: chmod o+x " + e.Dir }

// A NamespaceError says that mmdebstrap can run neither as root nor in a user
// namespace.
type NamespaceError struct{ User, Reason string }

func (e *NamespaceError) Error() string {
	return fmt.Sprintf("installing packages as %s: %s", e.User, e.Reason)
}

// Hint is the command that allows it.
func (e *NamespaceError) Hint() string {
	return fmt.Sprintf("run as root, or allow user namespaces: apt-get install uidmap && usermod --add-subuids 100000-165535 --add-subgids 100000-165535 %s", e.User)
}

// A SignatureError is a source whose index is not signed by a key that the
// recipe trusts.
type SignatureError struct {
	Line string // apt's own
	Err  error
}

func (e *SignatureError) Error() string {
	return "fetching package indexes: " + e.Line
}

func (e *SignatureError) Unwrap() error { return e.Err }

// Hint is how a key is named.
func (e *SignatureError) Hint() string {
	return `name the archive's key in base.mirrors: "deb [signed-by=/path/of/key.asc] ADDRESS SUITE COMPONENT"`
}

// A ScriptError is a script that failed in the image.
type ScriptError struct {
	Number int   // in [Base.Run], from 1 on
	Err    error // with the end of what it printed
}

func (e *ScriptError) Error() string {
	return fmt.Sprintf("running script %d of base.run: %v", e.Number, e.Err)
}

func (e *ScriptError) Unwrap() error { return e.Err }

// Hint is what scripts can count on.
func (e *ScriptError) Hint() string {
	return "what it printed is above; scripts run as root in the image, after its packages are installed, and have no network"
}
