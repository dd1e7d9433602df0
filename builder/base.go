package builder

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/prose-im/prose-image/builder/cache"
	"github.com/prose-im/prose-image/builder/debian"
	"github.com/prose-im/prose-image/builder/disk"
	"github.com/prose-im/prose-image/builder/output"
	"github.com/prose-im/prose-image/overlays"
)

// base is Debian: the locked packages, installed by mmdebstrap, and the
// recipe's scripts run over them. It makes the initrd and GRUB's core image.
var base = kind{
	name:     "base",
	revision: 3,
	plan: func(in *Inputs, p *Plan, _ string) Layer {
		l := Layer{Kind: "base", Inputs: []Input{
			text("suite", in.Lock.Suite),
			text("arch", in.Lock.Arch),
			{Name: "packages", Value: fmt.Sprintf("%d locked", len(in.Lock.Packages)), Sum: packagesSum(in.Lock.Packages), Parts: packageParts(in.Lock.Packages)},
			{Name: "asked for", Value: fmt.Sprintf("%d names", len(in.Lock.Request)), Sum: strings.Join(in.Lock.Request, " "), Parts: nameParts(in.Lock.Request)},
			content("sources", []byte(in.Lock.Sources)),
			text("epoch", fmt.Sprint(p.Epoch.Unix())),
			sumOf("initrd", in.Initrd),
		}}
		if disk.BIOS(p.Arch) {
			l.Inputs = append(l.Inputs, content("boot loader", []byte(grubScript)))
		}
		for i, script := range in.Run {
			l.Inputs = append(l.Inputs, content(fmt.Sprintf("run %d", i+1), script))
		}
		return l
	},
	make: func(ctx context.Context, m *making) error {
		if err := debian.CanRun(ctx, m.in.Lock.Arch); err != nil {
			return err
		}
		// The root file system stands in three places for a while: unpacked, as
		// the tar it comes in, and as the layer.
		size := debian.Unpacked(m.in.Lock.Packages)
		if err := output.CheckSpace(filepath.Join(m.cache, "layers"), 2*size); err != nil {
			return err
		}
		if err := output.CheckSpace(filepath.Join(os.TempDir(), "prose-image"), size); err != nil {
			return err
		}
		if err := debian.Fetch(ctx, m.cache, m.in.Lock.Packages); err != nil {
			return err
		}
		// It needs no name, and without one nothing is left of it when this
		// process is killed.
		spool, err := os.CreateTemp(m.cache, "base-*.tar")
		if err != nil {
			return err
		}
		defer spool.Close()
		if err := os.Remove(spool.Name()); err != nil {
			return err
		}
		b := debian.Base{
			Suite: m.in.Lock.Suite, Arch: m.in.Lock.Arch, Sources: m.in.Lock.Sources,
			Locked: m.in.Lock.Packages, Packages: m.in.Lock.Request, Epoch: m.plan.Epoch,
		}
		for _, f := range m.in.Initrd {
			b.Before = append(b.Before, debian.File{Path: f.Path, Mode: f.Mode, Dir: f.Type == overlays.Dir, Content: f.Content})
		}
		for _, script := range m.in.Run {
			b.Run = append(b.Run, string(script))
		}
		if disk.BIOS(m.plan.Arch) {
			b.Run = append(b.Run, grubScript)
		}
		if err := debian.Bootstrap(ctx, m.cache, b, spool); err != nil {
			return err
		}
		w, err := m.create(nil)
		if err != nil {
			return err
		}
		// The scrub layer would take it out of the image, and it is different each
		// time, and secret: the cache does not keep it either.
		return debian.Import(spool, w, m.plan.Epoch, scrubs)
	},
}

// grubScript makes GRUB's image for BIOS. All modules that our configuration
// uses are in it, so it loads none from the disk; its prefix names the
// partition by number on the disk it was read from, so it needs no id.
const grubScript = `#!/bin/sh
set -e
mkdir -p /usr/lib/prose/grub
cp /usr/lib/grub/i386-pc/boot.img /usr/lib/prose/grub/boot.img
grub-mkimage --format=i386-pc --prefix='(,gpt1)/boot/prose' --output=/usr/lib/prose/grub/core.img \
	biosdisk part_gpt ext2 search search_fs_uuid normal linux echo configfile test serial terminal gzio minicmd ls cat
`

func packagesSum(packages []debian.Package) string {
	var sums []string
	for _, p := range packages {
		sums = append(sums, p.SHA256)
	}
	slices.Sort(sums)
	return strings.Join(sums, " ")
}

func packageParts(packages []debian.Package) (parts []cache.Part) {
	for _, p := range packages {
		parts = append(parts, cache.Part{Name: p.Name + ":" + p.Arch, Value: p.Version, Sum: p.SHA256})
	}
	return parts
}

func nameParts(names []string) (parts []cache.Part) {
	for _, n := range names {
		parts = append(parts, cache.Part{Name: n, Sum: n})
	}
	return parts
}
