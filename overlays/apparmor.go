package overlays

import "strings"

// silenced are AppArmor's profiles that are not loaded, by the names of their
// files: each is compiled by a process of its own, half a second of every first
// boot under emulation. None of them confines anything: they are Debian's
// "unconfined" ones, which only allow what Ubuntu's kernels forbid, and ones in
// complain mode, whose programs are not in the image. testdata/image looks at
// every one. To load one: rm /etc/apparmor.d/disable/NAME, and reload
// apparmor.service.
var silenced = strings.Fields(`
1password Discord MongoDB_Compass QtWebEngineProcess Xorg balena-etcher brave buildah busybox cam ch-checkns
ch-run chrome chromium code crun devhelp element-desktop epiphany evolution firefox flatpak foliate geary
github-desktop goldendict ipa_verify kchmviewer keybase lc-compliance libcamerify linux-sandbox loupe
lxc-attach lxc-create lxc-destroy lxc-execute lxc-stop lxc-unshare lxc-usernsexec mmdebstrap msedge nautilus
notepadqq obsidian opam opera pageedit plasmashell polypane privacybrowser qcam qmapshack qutebrowser
rootlesskit rpm rssguard sbuild sbuild-abort sbuild-adduser sbuild-apt sbuild-checkpackages sbuild-clean
sbuild-createchroot sbuild-destroychroot sbuild-distupgrade sbuild-hold sbuild-shell sbuild-unhold
sbuild-update sbuild-upgrade scide signal-desktop slack slirp4netns steam stress-ng surfshark systemd-coredump
toybox transmission trinity tup tuxedo-control-center userbindmount uwsgi-core vdens virtiofsd vivaldi-bin
vpnns wike wpcom
`)

// silencers are the links by which apparmor_parser(8) passes a profile over.
func silencers() []row {
	var rows []row
	for _, name := range silenced {
		rows = append(rows, row{"etc/apparmor.d/disable/" + name, symlink, 0o777, root, "../" + name})
	}
	return rows
}

// Silenced are the paths of AppArmor's profiles that the image does not load.
func Silenced() []string {
	var paths []string
	for _, name := range silenced {
		paths = append(paths, "etc/apparmor.d/"+name)
	}
	return paths
}
