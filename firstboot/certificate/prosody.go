package certificate

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/prose-im/prose-image/firstboot/beneath"
)

// ForProsody returns what Keeper.WriteProsody wants: it writes below a
// directory whose parent belongs to the owner, who may change anything there
// while we write.
func ForProsody(certs string, owner beneath.Owner) func(name string, data []byte) error {
	return func(name string, data []byte) error {
		top, err := beneath.Open(filepath.Dir(certs))
		if err != nil {
			return err
		}
		defer top.Close()
		at := filepath.Base(certs)
		dir, err := top.Mkdir(at, 0o750, owner)
		if err != nil {
			return err
		}
		dir.Close()
		host, file, ok := strings.Cut(name, "/")
		if !ok || strings.Contains(file, "/") {
			return fmt.Errorf("writing %s: not a host's file", name)
		}
		if dir, err = top.Mkdir(at+"/"+host, 0o700, owner); err != nil {
			return err
		}
		defer dir.Close()
		_, err = dir.WriteFile(file, data, 0o600, owner)
		return err
	}
}
