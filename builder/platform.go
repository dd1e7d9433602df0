package builder

import (
	"bytes"
	"context"
	"fmt"
	"strings"

	"github.com/prose-im/prose-image/builder/disk"
	"github.com/prose-im/prose-image/builder/layer"
)

// platform is what a disk needs to boot where it will: file systems, kernel
// arguments, the list of datasources.
var platform = kind{
	name:        "platform",
	revision:    1,
	perPlatform: true,
	plan: func(in *Inputs, p *Plan, name string) Layer {
		return Layer{Kind: "platform", Inputs: []Input{
			text("platform", name),
			text("arch", in.Lock.Arch),
			text("root", disk.Derive(p.Release).Filesystem.String()),
			text("kernel", strings.Join(lookupPlatform(name).arguments(p.Arch), " ")),
			content("files", []byte(fmt.Sprint(platformFiles(p, name)))),
			epoch(p),
		}}
	},
	make: func(ctx context.Context, m *making) error {
		w, err := m.create(nil)
		if err != nil {
			return err
		}
		for _, f := range platformFiles(m.plan, m.platform) {
			e := layer.Entry{Path: f.path, Mode: 0o644, ModTime: m.plan.Epoch, Size: int64(len(f.text))}
			if f.dir {
				e.Type, e.Mode, e.Size = layer.Dir, 0o755, 0
			}
			if err := w.Write(e, bytes.NewReader([]byte(f.text))); err != nil {
				return err
			}
		}
		return nil
	},
}

func lookupPlatform(name string) Platform {
	for _, p := range Platforms {
		if p.Name == name {
			return p
		}
	}
	panic("BUG: no platform " + name)
}

// arguments is the kernel command line after root=. The last console is the
// one that gets systemd's messages. bpf is left out of the security modules:
// systemd would load a program into it at each start, twelve seconds under
// emulation, for RestrictFileSystems= alone, which no unit here uses.
func (p Platform) arguments(arch string) []string {
	serial := "ttyS0,115200"
	if arch == "arm64" {
		serial = "ttyAMA0,115200"
	}
	return append([]string{"ro", "console=tty0", "console=" + serial,
		"lsm=landlock,lockdown,yama,loadpin,safesetid,integrity,apparmor"}, p.Kernel...)
}

// volumeID is a FAT volume's number as blkid writes it.
func volumeID(n uint32) string { return fmt.Sprintf("%04X-%04X", n>>16, n&0xFFFF) }

type platformFile struct {
	path, text string
	dir        bool
}

func platformFiles(p *Plan, name string) []platformFile {
	pl := lookupPlatform(name)
	uuid := disk.Derive(p.Release).Filesystem.String()
	line := "root=UUID=" + uuid + " " + strings.Join(pl.arguments(p.Arch), " ")
	return []platformFile{
		{path: "etc/fstab", text: fmt.Sprintf("# The ESP is mounted only by those who change it.\nUUID=%s / ext4 errors=remount-ro 0 1\nUUID=%s /boot/efi vfat umask=0077,noauto 0 0\n", uuid, volumeID(disk.Derive(p.Release).Volume))},
		{path: "boot/efi", dir: true},
		{path: "boot/prose", dir: true},
		{path: "boot/prose/grub.cfg", text: grubConfig(uuid, line)},
		{path: "etc/cloud/cloud.cfg.d/90-prose-datasource.cfg", text: fmt.Sprintf("# Baked for platform %s.\ndatasource_list: [%s]\n", name, strings.Join(pl.Datasources, ", "))},
	}
}

// grubConfig is read by GRUB in all three ways to boot, BIOS, UEFI and UEFI
// with Secure Boot, and loads no module. It names the kernel by the symlinks
// that Debian's kernel packages keep, so an upgrade needs no new one; it lies
// outside /boot/grub so that update-grub does not replace it.
func grubConfig(uuid, line string) string {
	return `# Add to the kernel's arguments in /boot/prose/custom.cfg: set extra="..."
set timeout=1
set timeout_style=hidden
set default=0
if [ "$grub_platform" = pc ]; then
	serial --unit=0 --speed=115200
	terminal_input console serial
	terminal_output console serial
fi
search --no-floppy --fs-uuid --set=root ` + uuid + `
# A kernel's package moves the links before it has made the initrd, and only -s
# follows links: when the power
# went between the two, the kernel before is the one that boots.
if [ ! -s /initrd.img ]; then
	set default=1
fi
set extra=
if [ -e /boot/prose/custom.cfg ]; then
	. /boot/prose/custom.cfg
fi
menuentry "Prose" {
	linux /vmlinuz ` + line + ` $extra
	initrd /initrd.img
}
menuentry "Prose, previous kernel" {
	linux /vmlinuz.old ` + line + ` $extra
	initrd /initrd.img.old
}
`
}
