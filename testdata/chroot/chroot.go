// Package chroot makes a Debian of another release than this machine's and
// runs programs in it: with other versions of every tool, and the same kernel.
// What is written stays on the disk, unlike in testdata/machine, which has
// daemons and ends with its test.
package chroot

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	_ "embed"
)

// A Root is the directory of a Debian.
type Root string

// A Bind shows a directory of this machine in a [Root].
type Bind struct{ From, To string } // absolute paths; To as seen in the root

// Make makes a Debian of the suite with the packages and what they depend on,
// or takes the one that an earlier run has left in dir. It keeps the versions
// that it was made with until its directory is removed. Only root can do it.
func Make(ctx context.Context, dir, suite string, packages []string) (Root, error) {
	packages = append([]string{"mount"}, packages...) // which inside.sh needs there
	slices.Sort(packages)
	sum := sha256.Sum256([]byte(strings.Join(packages, " ")))
	root := filepath.Join(dir, fmt.Sprintf("%s-%x", suite, sum[:8]))
	if _, err := os.Stat(root); !errors.Is(err, fs.ErrNotExist) {
		return Root(root), err
	}
	fail := func(err error) (Root, error) { return "", fmt.Errorf("making a chroot of %s: %w", suite, err) }
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fail(err)
	}
	part, err := os.MkdirTemp(dir, "new-")
	if err != nil {
		return fail(err)
	}
	defer os.RemoveAll(part)
	// Its mounts, too, end with it: nothing here removes what is below them.
	cmd := exec.CommandContext(ctx, "unshare", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child", "mmdebstrap", "--variant=apt", "--mode=root", "--include="+strings.Join(packages, ","), suite, filepath.Join(part, "root"))
	if out, err := cmd.CombinedOutput(); err != nil {
		return fail(fmt.Errorf("%v: %w\n%s", cmd.Args, err, out))
	}
	if err := os.Rename(filepath.Join(part, "root"), root); err != nil {
		if _, there := os.Stat(root); there != nil {
			return fail(err)
		} // else another process was quicker
	}
	return Root(root), nil
}

//go:embed inside.sh
var inside string

// Command is a program in the root, as root, with /proc of its own, this
// machine's /sys, /dev and network, and binds. Its mounts and its processes
// end with it. It begins in the directory / with the environment of Env, which
// has nothing of this process.
func (r Root) Command(ctx context.Context, binds []Bind, args ...string) *exec.Cmd {
	all := []string{"--mount", "--pid", "--fork", "--kill-child", "sh", "-ec", inside, "inside", string(r)}
	for _, b := range binds {
		all = append(all, b.From, b.To)
	}
	cmd := exec.CommandContext(ctx, "unshare", append(append(all, "--"), args...)...)
	cmd.Env = []string{"HOME=/root", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8"}
	return cmd
}

// Version is that of an installed package.
func (r Root) Version(ctx context.Context, name string) (string, error) {
	out, err := exec.CommandContext(ctx, "dpkg-query", "--admindir="+filepath.Join(string(r), "var/lib/dpkg"), "-W", "-f=${Version}", name).Output()
	if err != nil {
		return "", fmt.Errorf("asking for the version of %s: %w", name, err)
	}
	return string(out), nil
}
