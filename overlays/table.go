package overlays

import "path"

// An owner is a user and a group, by number.
type owner struct{ uid, gid uint32 }

var (
	root  = owner{0, 0}
	prose = owner{1001, 1001}
	www   = owner{0, 33} // root, readable for NGINX's workers (www-data)
)

const (
	regular = Regular
	dir     = Dir
	symlink = Symlink
)

// A row is one path of the image.
type row struct {
	path  string
	kind  Type
	mode  uint16
	owner owner
	link  string
}

// initrdTable is for [Initrd], sorted by path.
var initrdTable = []row{
	{"etc/dpkg/dpkg.cfg.d/prose", regular, 0o644, root, ""},
	{"etc/initramfs-tools/conf.d/prose", regular, 0o644, root, ""},
	{"etc/initramfs-tools/hooks/prose", regular, 0o755, root, ""},
	{"etc/kernel-img.conf", regular, 0o644, root, ""},
}

// baseTable is for [Base], sorted by path. Owners other than root: what the
// guide gives to the Pod, nothing else.
var baseTable = []row{
	{"etc/apt/apt.conf.d/52prose", regular, 0o644, root, ""},
	{"etc/cloud/cloud.cfg.d/60-prose.cfg", regular, 0o644, root, ""},
	{"etc/cloud/cloud.cfg.d/61-prose-quiet.cfg", regular, 0o644, root, ""},
	{"etc/cloud/ds-identify.cfg", regular, 0o644, root, ""},
	{"etc/containerd/prose.toml", regular, 0o644, root, ""},
	{"etc/default/grub.d/prose.cfg", regular, 0o644, root, ""},
	{"etc/docker/daemon.json", regular, 0o644, root, ""},
	{"etc/hostname", regular, 0o644, root, ""},
	{"etc/hosts", regular, 0o644, root, ""},
	{"etc/issue.d", dir, 0o755, root, ""},
	{"etc/issue.d/10-prose.issue", regular, 0o644, root, ""},
	{"etc/letsencrypt", dir, 0o700, root, ""},
	{"etc/motd", regular, 0o644, root, ""},
	{"etc/nftables.d", dir, 0o755, root, ""},
	{"etc/nftables.d/prose.d", dir, 0o755, root, ""},
	{"etc/nftables.d/prose.nft", regular, 0o644, root, ""},
	{"etc/nginx/conf.d/prose.conf", regular, 0o644, root, ""},
	{"etc/nginx/conf.d/prose_sites.conf", regular, 0o644, root, ""},
	{"etc/nginx/sites-available/prose", regular, 0o644, root, ""},
	{"etc/nginx/sites-enabled/prose", symlink, 0o777, root, "../sites-available/prose"},
	{"etc/nginx/snippets/prose-challenge.conf", regular, 0o644, root, ""},
	{"etc/nginx/snippets/prose-page.conf", regular, 0o644, root, ""},
	{"etc/nginx/snippets/prose-proxy.conf", regular, 0o644, root, ""},
	{"etc/nginx/snippets/prose-tls.conf", regular, 0o644, root, ""},
	{"etc/prose", dir, 0o750, prose, ""},
	{"etc/prose-firstboot.d", dir, 0o700, root, ""},
	{"etc/prose/prose.env", regular, 0o600, prose, ""},
	{"etc/prosody", dir, 0o750, prose, ""},
	{"etc/prosody/certs", dir, 0o750, prose, ""},
	{"etc/resolv.conf", symlink, 0o777, root, "../run/systemd/resolve/stub-resolv.conf"},
	{"etc/ssh/sshd_config.d/10-prose.conf", regular, 0o644, root, ""},
	{"etc/sysctl.d/60-prose.conf", regular, 0o644, root, ""},
	{"etc/systemd/journald.conf.d", dir, 0o755, root, ""},
	{"etc/systemd/journald.conf.d/prose.conf", regular, 0o644, root, ""},
	{"etc/systemd/resolved.conf.d", dir, 0o755, root, ""},
	{"etc/systemd/resolved.conf.d/prose.conf", regular, 0o644, root, ""},
	{"etc/systemd/system-generators", dir, 0o755, root, ""},
	{"etc/systemd/system/containerd.service", regular, 0o644, root, ""},
	{"etc/systemd/system/docker.service", regular, 0o644, root, ""},
	{"etc/systemd/system/docker.socket.d", dir, 0o755, root, ""},
	{"etc/systemd/system/docker.socket.d/prose.conf", regular, 0o644, root, ""},
	{"etc/systemd/system/network-online.target.wants", dir, 0o755, root, ""},
	{"etc/systemd/system/nginx.service.d", dir, 0o755, root, ""},
	{"etc/systemd/system/nginx.service.d/prose.conf", regular, 0o644, root, ""},
	{"etc/systemd/system/sshd-keygen.service.d", dir, 0o755, root, ""},
	{"etc/systemd/system/sshd-keygen.service.d/prose.conf", regular, 0o644, root, ""},
	{"etc/systemd/system/systemd-networkd.service.wants", dir, 0o755, root, ""},
	{"usr/lib/prose", dir, 0o755, root, ""},
	{"usr/lib/prose/after-upgrade", regular, 0o755, root, ""},
	{"usr/lib/prose/fallback.network", regular, 0o644, root, ""},
	{"usr/lib/systemd/system/prose-datasource.service", regular, 0o644, root, ""},
	{"usr/lib/systemd/system/prose-door.service", regular, 0o644, root, ""},
	{"usr/lib/systemd/system/prose-door.socket", regular, 0o644, root, ""},
	{"usr/lib/systemd/system/prose-firstboot.service", regular, 0o644, root, ""},
	{"usr/lib/systemd/system/prose-firstboot.timer", regular, 0o644, root, ""},
	{"usr/lib/systemd/system/prose-network.service", regular, 0o644, root, ""},
	{"usr/lib/systemd/system/prose-walls.service", regular, 0o644, root, ""},
	{"usr/lib/systemd/system/prose.service", regular, 0o644, root, ""},
	{"usr/share/prose", dir, 0o755, root, ""},
	{"usr/share/prose/www", dir, 0o755, root, ""},
	{"usr/share/prose/www/index.html", regular, 0o644, root, ""},
	{"var/lib/prose-firstboot", dir, 0o710, www, ""},
	{"var/lib/prose-firstboot/nginx", dir, 0o700, root, ""},
	{"var/lib/prose-firstboot/www", dir, 0o755, root, ""},
	{"var/lib/prose-firstboot/www/challenge", dir, 0o755, root, ""},
	{"var/lib/prose-firstboot/www/status", dir, 0o755, root, ""},
	{"var/lib/prose-firstboot/www/well-known", dir, 0o755, root, ""},
	{"var/lib/prose-pod-api", dir, 0o750, prose, ""},
	{"var/lib/prose-pod-api/database.sqlite", regular, 0o640, prose, ""},
	{"var/lib/prose-pod-server", dir, 0o750, prose, ""},
	{"var/lib/prosody", dir, 0o750, prose, ""},
}

// deletions is for [Deletions].
var deletions = []string{
	// Made by a maintainer script; two default servers cannot be.
	"etc/nginx/sites-enabled/default",
}

// masked paths become links to /dev/null: units and generators that do nothing
// for this machine and cost its first boot time. Masks, not missing links: a
// package's upgrade would make those again.
var masked = []string{
	// Scrubs LVM snapshots; there is no LVM.
	"etc/systemd/system/e2scrub_all.timer",
	"etc/systemd/system/e2scrub_reap.service",
	// Writes grubenv at each boot, which our menu does not read.
	"etc/systemd/system/grub-common.service",
	// Graphics for seats.
	"etc/systemd/system/modprobe@drm.service",
	// File systems that only tracing and debugging want: mount them by hand.
	"etc/systemd/system/dev-hugepages.mount",
	"etc/systemd/system/sys-fs-fuse-connections.mount",
	"etc/systemd/system/sys-kernel-config.mount",
	"etc/systemd/system/sys-kernel-debug.mount",
	"etc/systemd/system/sys-kernel-tracing.mount",
	// Crash records in firmware that virtual machines do not have.
	"etc/systemd/system/systemd-pstore.service",
	// No hibernation, no partitions found by type, no TPM, no SSH over vsock
	// (which also prints a false failure).
	"etc/systemd/system-generators/systemd-gpt-auto-generator",
	"etc/systemd/system-generators/systemd-hibernate-resume-generator",
	"etc/systemd/system-generators/systemd-ssh-generator",
	"etc/systemd/system-generators/systemd-tpm2-generator",
}

// A unit is one that the image enables beyond what Debian's packages do.
type unit struct {
	name   string
	in     string   // directory of the unit file
	alias  []string // other names
	wanted []string // units whose start brings it
}

const (
	vendor = "/usr/lib/systemd/system"
	admin  = "/etc/systemd/system"
)

var units = []unit{
	{"prose-walls.service", vendor, nil, []string{"sysinit.target"}},
	{"prose.service", vendor, nil, []string{"multi-user.target"}},
	{"prose-door.socket", vendor, nil, []string{"sockets.target"}},
	{"prose-datasource.service", vendor, nil, []string{"multi-user.target"}},
	{"prose-firstboot.service", vendor, nil, []string{"multi-user.target"}},
	{"prose-firstboot.timer", vendor, nil, []string{"timers.target"}},

	// cloud-init renders for systemd-networkd, which Debian leaves off.
	{"prose-network.service", vendor, nil, []string{"systemd-networkd.service"}},
	{"systemd-networkd.service", vendor, []string{"dbus-org.freedesktop.network1.service"}, []string{"multi-user.target"}},
	{"systemd-networkd.socket", vendor, nil, []string{"sockets.target"}},
	{"systemd-networkd-wait-online.service", vendor, nil, []string{"network-online.target"}},
	{"systemd-network-generator.service", vendor, nil, []string{"sysinit.target"}},

	// By hand of their packages they point to the units that ours replace.
	{"containerd.service", admin, nil, []string{"multi-user.target"}},
	{"docker.service", admin, nil, []string{"multi-user.target"}},
}

// links are the symlinks that "systemctl enable" would make.
func (u unit) links() []row {
	var rows []row
	target := path.Join(u.in, u.name)
	for _, a := range u.alias {
		rows = append(rows, row{"etc/systemd/system/" + a, symlink, 0o777, root, target})
	}
	for _, w := range u.wanted {
		rows = append(rows, row{"etc/systemd/system/" + w + ".wants/" + u.name, symlink, 0o777, root, target})
	}
	return rows
}
