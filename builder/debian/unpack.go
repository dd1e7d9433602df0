package debian

import (
	"archive/tar"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
)

// unpackApt unpacks apt's configuration and state from a tar of a chroot.
func unpackApt(name, dir string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	// apt wants these even when they are empty.
	for _, d := range []string{"etc/apt/apt.conf.d", "etc/apt/preferences.d", "var/cache/apt/archives/partial", "var/lib/apt/lists/partial", "var/log/apt", "var/lib/dpkg"} {
		if err := root.MkdirAll(d, 0o700); err != nil {
			return err
		}
	}
	for tr := tar.NewReader(f); ; {
		h, err := tr.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		p := strings.TrimPrefix(path.Clean("/"+h.Name), "/")
		wanted := strings.HasPrefix(p, "etc/apt/") || strings.HasPrefix(p, "var/lib/apt/lists/") || strings.HasPrefix(p, "var/lib/dpkg/")
		if h.Typeflag != tar.TypeReg || !wanted {
			continue
		}
		if err := root.MkdirAll(path.Dir(p), 0o700); err != nil {
			return err
		}
		out, err := root.Create(p)
		if err != nil {
			return err
		}
		if _, err := io.Copy(out, tr); err != nil {
			out.Close()
			return fmt.Errorf("unpacking %s: %w", p, err)
		}
		if err := out.Close(); err != nil {
			return err
		}
	}
}
