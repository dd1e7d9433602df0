package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"github.com/prose-im/prose-image/builder/boot"
)

var bootVerb = verb{
	name: "boot", args: "IMAGE", atLeast: 1, atMost: 1,
	short: "start an image in QEMU and show its console",
	long: `
Starts an image in QEMU with its serial console on this terminal. The image is
not written to. KVM is used where it really works, emulation elsewhere.
`,
	flags: func(f *pflag.FlagSet) func(context.Context, *term, []string) error {
		o := boot.Options{}
		firmware := f.String("firmware", "", "firmware: "+join(boot.Firmwares)+"; bios unless given, for arm64 uefi")
		arch := f.String("arch", "", "architecture of the machine: "+join(boot.Arches)+"; what the image is for unless given")
		network := f.String("network", string(boot.Open), "what the machine reaches: "+join(boot.Networks))
		forwards := f.StringArray("forward", nil, "HOST:GUEST, a port of this machine that leads to one of the guest; may be repeated")
		f.StringVar(&o.Seed, "seed", "", "NoCloud seed to attach, see prose-image seed")
		f.IntVar(&o.Memory, "memory", 2048, "MiB of memory")
		f.IntVar(&o.CPUs, "cpus", 2, "processors")
		f.StringVar(&o.CPU, "cpu", "", "processor model; the host's with KVM, else the one that is quickest to emulate")
		f.StringVar(&o.Log, "log", "", "file that gets what the console says")
		gib := f.Int64("disk", 0, "GiB of disk that the guest sees; as much as the image has unless given")
		return func(ctx context.Context, t *term, args []string) error {
			o.Image, o.Arch, o.Firmware, o.Network, o.Size = args[0], boot.Arch(*arch), boot.Firmware(*firmware), boot.Network(*network), *gib<<30
			if err := checkMachine(o); err != nil {
				return &usageError{"boot", err}
			}
			for _, text := range *forwards {
				fw, err := parseForward(text)
				if err != nil {
					return &usageError{"boot", err}
				}
				o.Forwards = append(o.Forwards, fw)
			}
			if err := lookForImage(o.Image); err != nil {
				return err
			}
			return boot.Interactive(ctx, o, t.in, t.out.Writer, t.err)
		}
	},
}

// checkMachine says which flag asks for a machine that there cannot be.
func checkMachine(o boot.Options) error {
	switch {
	case o.Firmware != "" && !slices.Contains(boot.Firmwares, o.Firmware):
		return fmt.Errorf("--firmware %q is not one of %s", o.Firmware, join(boot.Firmwares))
	case o.Arch != "" && !slices.Contains(boot.Arches, o.Arch):
		return fmt.Errorf("--arch %q is not one of %s", o.Arch, join(boot.Arches))
	case !slices.Contains(boot.Networks, o.Network):
		return fmt.Errorf("--network %q is not one of %s", o.Network, join(boot.Networks))
	}
	for _, n := range []struct {
		flag        string
		value, from int64
	}{{"memory", int64(o.Memory), 1}, {"cpus", int64(o.CPUs), 1}, {"disk", o.Size, 0}} {
		if n.value < n.from {
			return fmt.Errorf("--%s is less than %d", n.flag, n.from)
		}
	}
	return nil
}

func parseForward(s string) (boot.Forward, error) {
	host, guest, ok := strings.Cut(s, ":")
	h, herr := strconv.Atoi(host)
	g, gerr := strconv.Atoi(guest)
	if !ok || herr != nil || gerr != nil {
		return boot.Forward{}, fmt.Errorf("--forward %q is not HOST:GUEST, such as 2222:22", s)
	}
	return boot.Forward{Host: h, Guest: g}, nil
}

func join[T ~string](names []T) string {
	var s []string
	for _, n := range names {
		s = append(s, string(n))
	}
	return strings.Join(s, ", ")
}

// lookForImage refuses what cannot be one.
func lookForImage(path string) error {
	info, err := os.Stat(path)
	if err == nil && info.IsDir() {
		err = fmt.Errorf("%s is a directory", path)
	}
	if err != nil {
		return &inputError{fmt.Errorf("looking for the image: %w", err), "prose-image bake makes one"}
	}
	return nil
}
