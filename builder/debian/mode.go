package debian

import (
	"bufio"
	"fmt"
	"os"
	"os/user"
	"strings"

	"github.com/prose-im/prose-image/builder/host"
)

// Mode picks how mmdebstrap becomes root in its chroot: by being root, or in a
// user namespace.
func Mode() (string, error) {
	if err := host.Look("mmdebstrap"); err != nil {
		return "", err
	}
	if os.Geteuid() == 0 {
		return "root", nil
	}
	me, err := user.Current()
	if err != nil {
		return "", fmt.Errorf("finding out who bakes: %w", err)
	}
	for _, name := range []string{"/etc/subuid", "/etc/subgid"} {
		if !hasRange(name, me) {
			return "", &NamespaceError{User: me.Username, Reason: "no range of ids in " + name}
		}
	}
	if err := host.Look("newuidmap"); err != nil {
		return "", err
	}
	return "unshare", nil
}

// hasRange looks for a subordinate id range as subuid(5) describes it.
func hasRange(name string, me *user.User) bool {
	f, err := os.Open(name)
	if err != nil {
		return false
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		owner, _, ok := strings.Cut(s.Text(), ":")
		if ok && (owner == me.Username || owner == me.Uid) {
			return true
		}
	}
	return false
}
