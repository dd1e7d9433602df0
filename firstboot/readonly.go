package firstboot

import (
	"strings"

	"golang.org/x/sys/unix"

	"github.com/prose-im/prose-image/firstboot/status"
)

// written are directories of the agent's own, of each file system that it may
// have to write to. The unit lets it write there.
var written = []string{"/etc/letsencrypt", "/etc/prose", stateDir}

// readOnly are those of them that cannot be written: ext4 becomes read-only when
// it finds that the disk has lost something.
func (m *machine) readOnly() []string {
	var out []string
	for _, dir := range written {
		var st unix.Statfs_t
		if unix.Statfs(m.path(dir), &st) == nil && st.Flags&unix.ST_RDONLY != 0 {
			out = append(out, dir)
		}
	}
	return out
}

func readOnlyItem(w *world) status.Item {
	it := item(itemDisk, status.Failed, "The disk cannot be written. What runs goes on for now, and nothing new is kept.")
	it.Why = "Read-only are " + strings.Join(w.readOnly, ", ") + ". A disk that has failed makes itself read-only."
	it.Do, it.Type = "Make a copy of what matters, and see what the kernel says; a reboot checks the disk:", []string{"sudo dmesg --level=err", "sudo reboot"}
	return it
}
