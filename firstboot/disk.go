package firstboot

import (
	"os"

	"golang.org/x/sys/unix"
)

// A disk is how full a file system is, in bytes, as df counts: what is kept for
// root is no part of it.
type disk struct{ Size, Free uint64 }

// percent is how full it is, rounded up.
func (d disk) percent() int {
	if d.Size == 0 || d.Free > d.Size {
		return 0
	}
	used := float64(d.Size-d.Free) / float64(d.Size) * 100
	return int(used + 0.999)
}

// disk looks at the file system that everything which grows is on.
func (m *machine) disk() disk {
	var st unix.Statfs_t
	if unix.Statfs(m.path("/var/lib"), &st) != nil {
		return disk{}
	}
	block := uint64(st.Frsize)
	return disk{Size: (st.Blocks - st.Bfree + st.Bavail) * block, Free: st.Bavail * block}
}

// rebootDue says whether upgrades wait for a restart, by the mark that Debian's
// unattended-upgrades leaves. /run is empty after one.
func (m *machine) rebootDue() bool {
	for _, path := range []string{"/run/reboot-required", "/var/run/reboot-required"} {
		if _, err := os.Lstat(m.path(path)); err == nil {
			return true
		}
	}
	return false
}
