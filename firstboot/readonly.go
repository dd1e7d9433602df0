package firstboot

import (
	"golang.org/x/sys/unix"
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
