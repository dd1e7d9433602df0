package firstboot

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"strings"

	"github.com/prose-im/prose-image/firstboot/door"
)

// An identity says which machine this is. The zero value of a field: not known.
type identity struct {
	// Machine is a digest of /etc/machine-id, which must not leave the machine
	// itself (machine-id(5)).
	Machine string `json:"machine,omitempty"`
	// Instance is the platform's name for it.
	Instance string `json:"instance,omitempty"`
}

// machineID is the digest of /etc/machine-id, empty before systemd has made one.
func (m *machine) machineID() string {
	b, err := os.ReadFile(m.path("/etc/machine-id"))
	id := strings.TrimSpace(string(b))
	if err != nil || len(id) != 32 || strings.Trim(id, "0123456789abcdef") != "" {
		return ""
	}
	return fmt.Sprintf("%x", sha256.Sum256([]byte("prose-firstboot "+id)))[:32]
}

// copied says whether the disk was another machine's: everything that is
// remembered was done by a machine with another machine-id. An instance-id alone
// says nothing, because platforms change it when they move a machine.
func (w *world) copied() bool {
	return w.state.Machine != "" && w.is.Machine != "" && w.is.Machine != w.state.Machine
}

// unknown says whether the machine has yet to write down which one it is.
func (w *world) unknown() bool { return !w.copied() && w.state.known(w.is) != w.state.identity }

// known is an identity with what is newly known of it.
func (i identity) known(is identity) identity {
	return identity{or(is.Machine, i.Machine), or(is.Instance, i.Instance)}
}

// becomeItself makes a machine whose disk is a copy one of its own: no account,
// order, link or cookie of the original is of use any more. The domain, the
// data and the certificates stay: it may be meant to take over. It is written
// down last, so that a killed run begins again.
func (a *agent) becomeItself(ctx context.Context, w *world) error {
	m := a.machine
	if err := w.keeper.Forget(); err != nil {
		return err
	}
	if _, err := m.write(doorKeyPath, door.NewKey(), 0o600, root); err != nil {
		return err
	}
	if err := m.restartDoor(ctx); err != nil {
		return err
	}
	w.state.identity = w.state.known(w.is)
	w.state.Copied = w.now.UTC()
	return m.saveState(w.state)
}
