package overlays

// Packages are the Debian packages that a standard image needs besides the
// essential ones, a kernel (the builder's choice) and what each depends on.
// arch is Debian's name of the architecture. Recommended packages are not
// installed, so what is wanted of them is in the list.
func Packages(arch string) []string {
	p := []string{
		// Boot: initrd, init, devices.
		"initramfs-tools",
		"kmod",
		"systemd",
		"systemd-sysv",
		"udev",
		"zstd",              // compresses the initrd
		"dbus",              // hostnamectl, resolved, logind
		"libpam-systemd",    // sessions of those who log in
		"libnss-myhostname", // sudo finds its own host name
		"libnss-resolve",

		// Network: DHCP and names, time, walls.
		"iproute2",
		"iputils-ping",
		"nftables",
		"netbase",
		"systemd-resolved",
		"systemd-timesyncd",

		// Disk.
		"e2fsprogs",
		"fdisk",             // sfdisk, for growpart
		"cloud-guest-utils", // growpart

		// Cloud: netcat-openbsd is how cloud-init's stages talk, dhcpcd-base
		// its DHCP client before the network is up.
		"cloud-init",
		"dhcpcd-base",
		"netcat-openbsd",
		"openssh-server",
		"openssh-sftp-server",

		// The Pod.
		"docker.io",
		"docker-cli",
		"docker-compose",
		"iptables", // Docker's own rules
		"apparmor", // the profile that Docker puts containers under
		"nginx",
		"ca-certificates",

		// Upkeep.
		"unattended-upgrades",
		"logrotate",

		// For those who log in.
		"bash-completion",
		"curl",
		"less",
		"nano",
		"procps",
		"sudo",
	}
	// GRUB: the files that the disk is made of, and their upgrades. Without
	// grub-pc and grub-efi no maintainer script runs grub-install.
	switch arch {
	case "amd64":
		p = append(p, "grub-pc-bin", "grub-efi-amd64-bin", "grub-efi-amd64-signed", "shim-signed")
	case "arm64":
		p = append(p, "grub-efi-arm64-bin", "grub-efi-arm64-signed", "shim-signed")
	}
	return p
}
