// Package boot starts an image in QEMU: for a person ([Interactive]) and for
// tests ([Start]), who wait for lines of its console ([VM.Wait]) and run
// commands in it ([VM.SSH]).
//
// # What a machine is
//
// A q35 PC, or QEMU's virt board for arm64, with one virtio disk, a serial
// console, a random number generator and, if asked, a second disk with a NoCloud
// seed. The image is never written to: the disk is an overlay, which may be
// larger than the image, as a cloud's disk is. UEFI variables are a fresh copy.
//
// # Time
//
// Emulation (TCG) is five to ten times slower than KVM. [Probe] finds out
// which one there is, and [Accel.Budget] says how long either may take.
package boot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
)

// Firmware is how a machine starts.
type Firmware string

const (
	BIOS       Firmware = "bios"       // SeaBIOS
	UEFI       Firmware = "uefi"       // OVMF, and AAVMF for arm64
	SecureBoot Firmware = "secureboot" // the same that enforces Microsoft's keys
)

// Firmwares are all kinds of firmware, for flags and their help.
var Firmwares = []Firmware{BIOS, UEFI, SecureBoot}

// Network is what a guest can reach.
type Network string

const (
	Open Network = "open" // the host and all that the host reaches
	Cut  Network = "cut"  // nothing; forwarded ports still lead in
	None Network = "none" // there is no network card
)

// Networks are all kinds of network, for flags and their help.
var Networks = []Network{Open, Cut, None}

// A Forward leads a TCP port of the host to a port of the guest.
type Forward struct {
	Host  int // 0: a free one; see [VM.Port]
	Guest int
}

func (f Forward) String() string { return fmt.Sprintf("%d -> %d", f.Host, f.Guest) }

// A Drive is one more virtio disk.
type Drive struct {
	Path     string
	Format   string // raw or qcow2
	ReadOnly bool
}

// Options say what to start. Only Image is needed.
type Options struct {
	Image    string    // the disk image; it is not written to
	Format   string    // raw or qcow2; empty: what its first bytes say
	Size     int64     // bytes of disk that the guest sees; 0: as many as the image has
	Arch     Arch      // of the machine; empty: what the image is for, see [ArchOf]
	Firmware Firmware  // empty: the architecture's usual one, BIOS or UEFI
	Accel    Accel     // empty: what Probe finds
	CPU      string    // model; empty: the host's with KVM, and the one that is quickest to emulate without
	CPUs     int       // 0: 2
	Memory   int       // MiB; 0: 2048
	Seed     string    // a NoCloud seed; empty: none
	Network  Network   // empty: Open
	Forwards []Forward // ports of the guest to reach from the host
	Address  string    // IPv4 address of the host that Forwards listen on; empty: 127.0.0.1
	Drives   []Drive   // after the disk and the seed
	Console  io.Writer // gets what the serial console says, as it is; nil: nobody
	Log      string    // file that gets the same and is kept; empty: none
	Writes   string    // file that records all writes to the disk, anew with each start, see package writelog; empty: none
	Dir      string    // where the overlay and the UEFI variables are kept for the next start; empty: nowhere
	Args     []string  // further arguments of QEMU
}

// normal fills in what was left out and refuses what cannot be.
func (o Options) normal() (Options, error) {
	if o.Image == "" {
		return o, errors.New("starting a machine: no image is named")
	}
	fill(&o.Network, Open)
	fill(&o.CPUs, 2)
	fill(&o.Memory, 2048)
	fill(&o.Address, "127.0.0.1")
	if ip, err := netip.ParseAddr(o.Address); err != nil || !ip.Is4() {
		return o, fmt.Errorf("forwarding ports: %q is no IPv4 address", o.Address)
	}
	if err := oneOf("network", o.Network, Networks); err != nil {
		return o, err
	}
	if o.Network == None && len(o.Forwards) > 0 {
		return o, errors.New("forwarding ports: the machine has no network")
	}
	taken := map[int]bool{}
	for _, f := range o.Forwards {
		if f.Guest < 1 || f.Guest > 65535 || f.Host < 0 || f.Host > 65535 {
			return o, fmt.Errorf("forwarding %s: ports are 1 to 65535", f)
		}
		if taken[f.Host] {
			return o, fmt.Errorf("forwarding %s: port %d of the host is forwarded twice", f, f.Host)
		}
		taken[f.Host] = f.Host != 0
	}
	files := []string{o.Image, o.Seed}
	for _, d := range o.Drives {
		files = append(files, d.Path)
	}
	for i, name := range files {
		if name == "" && i == 1 {
			continue
		}
		fi, err := os.Stat(name)
		if err != nil {
			return o, fmt.Errorf("starting a machine: %w", err)
		}
		if fi.IsDir() {
			return o, fmt.Errorf("starting a machine: %s is a directory, not an image", name)
		}
	}
	if o.Format == "" {
		format, err := sniff(o.Image)
		if err != nil {
			return o, err
		}
		o.Format = format
	}
	return o, oneOf("format", o.Format, []string{"raw", "qcow2"})
}

// fit makes the machine one that the image is for.
func (o Options) fit(ctx context.Context) (Options, error) {
	if o.Arch == "" {
		head, err := readHead(ctx, o.Image, o.Format)
		if err != nil {
			return o, err
		}
		o.Arch = parseArch(head)
	}
	if err := oneOf("architecture", o.Arch, Arches); err != nil {
		return o, err
	}
	if o.Firmware == "" {
		o.Firmware = o.Arch.Firmware(BIOS)
	}
	return o, o.Arch.check(o.Firmware)
}

func fill[T comparable](v *T, standard T) {
	var zero T
	if *v == zero {
		*v = standard
	}
}

func oneOf[T ~string](what string, v T, all []T) error {
	var names []string
	for _, a := range all {
		if a == v {
			return nil
		}
		names = append(names, string(a))
	}
	return fmt.Errorf("%s %q is not one of %s", what, v, strings.Join(names, ", "))
}

// sniff tells a qcow2 image by its magic number; anything else of a sector at
// least is raw.
func sniff(image string) (string, error) {
	f, err := os.Open(image)
	if err != nil {
		return "", fmt.Errorf("starting a machine: %w", err)
	}
	defer f.Close()
	sector := make([]byte, 512)
	if _, err := io.ReadFull(f, sector); err != nil {
		return "", fmt.Errorf("starting a machine: %s is no disk image: %w", image, err)
	}
	if string(sector[:4]) == "QFI\xfb" {
		return "qcow2", nil
	}
	return "raw", nil
}

// prepare makes the files of a machine in dir: the overlay and the UEFI
// variables. Those that are there from an earlier start are kept. A record of
// writes is begun anew.
func prepare(ctx context.Context, o Options, dir string) error {
	overlay := filepath.Join(dir, overlayName)
	if _, err := os.Stat(overlay); err != nil {
		if err := makeOverlay(ctx, o, overlay); err != nil {
			return err
		}
	}
	if o.Writes != "" {
		if err := os.WriteFile(o.Writes, nil, 0o600); err != nil {
			return fmt.Errorf("recording the disk's writes: %w", err)
		}
	}
	fw, err := findFirmware(o.Arch, o.Firmware)
	if err != nil || fw.vars == "" {
		return err
	}
	vars := filepath.Join(dir, varsName)
	if _, err := os.Stat(vars); err == nil {
		return nil
	}
	data, err := os.ReadFile(fw.vars)
	if err != nil {
		return fmt.Errorf("copying UEFI variables: %w", err)
	}
	if err := os.WriteFile(vars, data, 0o600); err != nil {
		return fmt.Errorf("copying UEFI variables: %w", err)
	}
	return nil
}
