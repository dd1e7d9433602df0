package guide

// packages are what Debian's generic cloud image has, as far as it matters for
// a boot, and what the guide installs: docker, certbot, NGINX, curl, rsync.
var packages = []string{
	"adduser", "apparmor", "bash-completion", "bsdutils", "ca-certificates", "cloud-guest-utils", "cloud-init", "dbus", "dhcpcd-base",
	"dosfstools", "e2fsprogs", "fdisk", "initramfs-tools", "iproute2", "iputils-ping", "kmod", "less", "libnss-resolve", "libpam-systemd",
	"linux-image-amd64", "locales", "logrotate", "man-db", "nano", "netbase", "netcat-openbsd", "netplan.io", "openssh-server",
	"openssh-sftp-server", "polkitd", "procps", "sudo", "systemd", "systemd-resolved", "systemd-sysv", "systemd-timesyncd", "udev",
	"unattended-upgrades", "zstd",
	"grub-efi-amd64-bin", "grub-efi-amd64-signed", "grub-pc-bin", "grub2-common", "shim-signed",
	"certbot", "curl", "docker-cli", "docker-compose", "docker.io", "iptables", "nginx", "python3-certbot-nginx", "rsync",
}

// bootScript is the last step of installing: GRUB's image for BIOS, and the
// network as Debian's cloud image has it. Nothing else is changed.
const bootScript = `#!/bin/sh
set -e
mkdir -p /usr/lib/prose/grub
cp /usr/lib/grub/i386-pc/boot.img /usr/lib/prose/grub/boot.img
grub-mkimage --format=i386-pc --prefix='(,gpt1)/boot/prose' --output=/usr/lib/prose/grub/core.img \
	biosdisk part_gpt ext2 search search_fs_uuid normal linux echo configfile test serial terminal gzio minicmd ls cat
systemctl enable systemd-networkd
rm -f /etc/machine-id /etc/ssh/ssh_host_* /var/lib/systemd/random-seed
`

// menu is for GRUB, with the time that Debian's waits.
func menu(uuid string) string {
	return `set timeout=5
serial --unit=0 --speed=115200
terminal_input console serial
terminal_output console serial
search --no-floppy --fs-uuid --set=root ` + uuid + `
menuentry "Debian" {
	linux /vmlinuz root=UUID=` + uuid + ` ro console=tty0 console=ttyS0,115200
	initrd /initrd.img
}
`
}
