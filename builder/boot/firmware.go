package boot

import (
	"os"

	"github.com/prose-im/prose-image/builder/host"
)

// firmware is UEFI's code and the variables that a machine starts with.
type firmware struct{ code, vars string }

func findFirmware(a Arch, kind Firmware) (firmware, error) {
	m := machines[a]
	for _, fw := range m.firmware[kind] {
		if fw.code == "" {
			return fw, nil
		}
		_, err1 := os.Stat(fw.code)
		_, err2 := os.Stat(fw.vars)
		if err1 == nil && err2 == nil {
			return fw, nil
		}
	}
	return firmware{}, &host.MissingTool{Name: m.tool, Package: m.pkg}
}
