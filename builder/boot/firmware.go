package boot

import (
	"os"

	"github.com/prose-im/prose-image/builder/host"
)

// firmware is OVMF's code and the variables that a machine starts with.
type firmware struct{ code, vars string }

// ovmf lists where Debian and Ubuntu have had OVMF, newest first. The variables
// with .ms hold Microsoft's keys, with which Debian's shim is signed.
var ovmf = map[Firmware][]firmware{
	BIOS: {{}}, // QEMU has SeaBIOS in it
	UEFI: {
		{"/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"},
		{"/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"},
	},
	SecureBoot: {
		{"/usr/share/OVMF/OVMF_CODE_4M.secboot.fd", "/usr/share/OVMF/OVMF_VARS_4M.ms.fd"},
		{"/usr/share/OVMF/OVMF_CODE.secboot.fd", "/usr/share/OVMF/OVMF_VARS.ms.fd"},
	},
}

func findFirmware(kind Firmware) (firmware, error) {
	for _, fw := range ovmf[kind] {
		if fw.code == "" {
			return fw, nil
		}
		_, err1 := os.Stat(fw.code)
		_, err2 := os.Stat(fw.vars)
		if err1 == nil && err2 == nil {
			return fw, nil
		}
	}
	return firmware{}, &host.MissingTool{Name: "UEFI firmware for QEMU (OVMF)", Package: "ovmf"}
}
