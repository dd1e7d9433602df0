package mkosi

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/prose-im/prose-image/builder"
	"github.com/prose-im/prose-image/builder/debian"
)

// mirror makes a Debian mirror of exactly the locked package files. Its form is
// https://wiki.debian.org/DebianRepository/Format.
func mirror(ctx context.Context, dir, cache string, lock *builder.Lock) error {
	const index = "main/binary-amd64/Packages"
	release := filepath.Join(dir, "dists", lock.Suite)
	for _, d := range []string{filepath.Join(dir, "pool"), filepath.Dir(filepath.Join(release, index))} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	if err := debian.Fetch(ctx, cache, lock.Packages); err != nil {
		return err
	}
	var list bytes.Buffer
	for _, p := range lock.Packages {
		from := debian.CachePath(cache, p)
		// mkosi reads the package's name from that of the file.
		name := fmt.Sprintf("pool/%s_%s_%s.deb", p.Name, strings.ReplaceAll(p.Version, ":", "%3a"), p.Arch)
		if err := debian.Place(from, filepath.Join(dir, name)); err != nil {
			return err
		}
		control, err := exec.CommandContext(ctx, "dpkg-deb", "--field", from).Output()
		if err != nil {
			return fmt.Errorf("reading what %s says of itself: %w", name, err)
		}
		fmt.Fprintf(&list, "%s\nFilename: %s\nSize: %d\nSHA256: %s\n\n", bytes.TrimRight(control, "\n"), name, p.Size, p.SHA256)
	}
	if err := os.WriteFile(filepath.Join(release, index), list.Bytes(), 0o644); err != nil {
		return err
	}
	text := fmt.Sprintf("Suite: %s\nCodename: %s\nArchitectures: %s\nComponents: main\nSHA256:\n %x %d %s\n",
		lock.Suite, lock.Suite, lock.Arch, sha256.Sum256(list.Bytes()), list.Len(), index)
	return os.WriteFile(filepath.Join(release, "Release"), []byte(text), 0o644)
}
