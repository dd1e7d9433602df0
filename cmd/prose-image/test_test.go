package main

import (
	"slices"
	"testing"

	"github.com/prose-im/prose-image/builder/boot"
)

func TestFirmwareFor(t *testing.T) {
	all := boot.Firmwares
	if got := firmwareFor(boot.AMD64, all); !slices.Equal(got, all) {
		t.Errorf("amd64: %v", got)
	}
	if got := firmwareFor(boot.ARM64, all); !slices.Equal(got, []boot.Firmware{boot.UEFI, boot.SecureBoot}) {
		t.Errorf("arm64, of all: %v", got)
	}
	if got := firmwareFor(boot.ARM64, []boot.Firmware{boot.BIOS}); !slices.Equal(got, []boot.Firmware{boot.UEFI}) {
		t.Errorf("arm64, of BIOS: %v", got)
	}
}
