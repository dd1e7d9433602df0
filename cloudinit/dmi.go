package cloudinit

import (
	"io"
	"os"
	"path/filepath"
	"strings"
)

// A DMI is what the firmware says about the machine that it is
// (/sys/class/dmi/id). It is what tells a platform: an address that every
// network may answer at is never asked to find out.
type DMI struct{ Vendor, Product, Serial, UUID, AssetTag string }

// ReadDMI reads it below root. What the machine does not have is empty.
func ReadDMI(root string) DMI {
	read := func(name string) string {
		f, err := os.Open(filepath.Join(root, "/sys/class/dmi/id", name))
		if err != nil {
			return ""
		}
		defer f.Close()
		b, err := io.ReadAll(io.LimitReader(f, 4096))
		if err != nil {
			return ""
		}
		return strings.TrimSpace(string(b))
	}
	return DMI{read("sys_vendor"), read("product_name"), read("product_serial"), read("product_uuid"), read("chassis_asset_tag")}
}
