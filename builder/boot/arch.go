package boot

import (
	"fmt"
	"runtime"
	"slices"
)

// Arch is a processor architecture, by Debian's name.
type Arch string

const (
	AMD64 Arch = "amd64"
	ARM64 Arch = "arm64"
)

// Arches are all that machines are started of, for flags and their help.
var Arches = []Arch{AMD64, ARM64}

// A machine is what QEMU emulates for an architecture.
type machine struct {
	qemu     string // the program
	board    string
	kvm      string                  // of the board, with KVM only
	cpu      string                  // that is quickest to emulate
	screen   bool                    // has one
	root     guid                    // type of the root partition
	firmware map[Firmware][]firmware // newest first
	tool     string                  // what the firmware is called, for who lacks it
	pkg      string                  // that has it
}

// machines has where Debian and Ubuntu have had each firmware. The variables
// with .ms hold Microsoft's keys, with which Debian's shim is signed.
var machines = map[Arch]machine{
	AMD64: {
		qemu: "qemu-system-x86_64", board: "q35", cpu: "qemu64", screen: true, root: rootAMD64,
		firmware: map[Firmware][]firmware{
			BIOS: {{}}, // QEMU has SeaBIOS in it
			UEFI: {
				{"/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"},
				{"/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"},
			},
			SecureBoot: {
				{"/usr/share/OVMF/OVMF_CODE_4M.secboot.fd", "/usr/share/OVMF/OVMF_VARS_4M.ms.fd"},
				{"/usr/share/OVMF/OVMF_CODE.secboot.fd", "/usr/share/OVMF/OVMF_VARS.ms.fd"},
			},
		},
		tool: "UEFI firmware for QEMU (OVMF)", pkg: "ovmf",
	},
	ARM64: {
		// The interrupt controller must be the host's under KVM. Models newer than
		// this one sign pointers, which is slow to emulate.
		qemu: "qemu-system-aarch64", board: "virt", kvm: ",gic-version=host", cpu: "cortex-a72", root: rootARM64,
		firmware: map[Firmware][]firmware{
			UEFI:       {{"/usr/share/AAVMF/AAVMF_CODE.fd", "/usr/share/AAVMF/AAVMF_VARS.fd"}},
			SecureBoot: {{"/usr/share/AAVMF/AAVMF_CODE.ms.fd", "/usr/share/AAVMF/AAVMF_VARS.ms.fd"}},
		},
		tool: "UEFI firmware for QEMU (AAVMF)", pkg: "qemu-efi-aarch64",
	},
}

// Firmwares are the kinds of firmware that machines of an architecture have,
// the usual one first.
func (a Arch) Firmwares() []Firmware {
	var all []Firmware
	for _, f := range Firmwares {
		if machines[a].firmware[f] != nil {
			all = append(all, f)
		}
	}
	return all
}

// Firmware is what stands for f on machines of an architecture: UEFI for BIOS
// where there is none.
func (a Arch) Firmware(f Firmware) Firmware {
	all := a.Firmwares()
	if f == BIOS && !slices.Contains(all, f) {
		return all[0]
	}
	return f
}

// native reports whether it is the host's own.
func (a Arch) native() bool { return string(a) == runtime.GOARCH }

// check refuses firmware that machines of the architecture do not have.
func (a Arch) check(f Firmware) error {
	if err := oneOf("firmware", f, Firmwares); err != nil {
		return err
	}
	if !slices.Contains(a.Firmwares(), f) {
		return fmt.Errorf("machines of %s have no firmware %q", a, f)
	}
	return nil
}
