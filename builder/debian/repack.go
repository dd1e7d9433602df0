package debian

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"

	"github.com/prose-im/prose-image/builder/host"
)

// repackage writes a package file again with its two parts uncompressed, see
// deb(5), and returns its new size and sha256: an emulated dpkg takes most of
// its time to decompress.
func repackage(ctx context.Context, from, to string) (size int64, sum string, err error) {
	if err := repack(ctx, from, to); err != nil {
		return 0, "", fmt.Errorf("unpacking %s: %w", from, err)
	}
	f, err := os.Open(to)
	if err != nil {
		return 0, "", err
	}
	defer f.Close()
	h := sha256.New()
	if size, err = io.Copy(h, f); err != nil {
		return 0, "", err
	}
	return size, hex.EncodeToString(h.Sum(nil)), nil
}

func repack(ctx context.Context, from, to string) error {
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	defer out.Close()
	const version = "2.0\n"
	if _, err := io.WriteString(out, "!<arch>\n"+member("debian-binary", int64(len(version)))+version); err != nil {
		return err
	}
	for _, part := range []struct{ name, flag string }{{"control.tar", "--ctrl-tarfile"}, {"data.tar", "--fsys-tarfile"}} {
		if err := addMember(ctx, out, part.name, host.Command{Args: []string{"dpkg-deb", part.flag, from}}); err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
	}
	return out.Close()
}

// addMember adds what a command prints. Its size comes before it, and is known
// after it.
func addMember(ctx context.Context, out *os.File, name string, c host.Command) error {
	start, err := out.Seek(0, io.SeekCurrent)
	if err != nil {
		return err
	}
	if _, err := io.WriteString(out, member(name, 0)); err != nil {
		return err
	}
	c.Stdout = out
	if err := host.Run(ctx, c); err != nil {
		return err
	}
	end, err := out.Seek(0, io.SeekCurrent)
	if err != nil {
		return err
	}
	// Members begin at even places, and a tar is blocks of 512 bytes.
	_, err = out.WriteAt([]byte(member(name, end-start-headerSize)), start)
	return err
}

// headerSize is that of a member of an ar archive.
const headerSize = 60

// member is the header of an ar archive's member: name, time, owner, group,
// mode and size, padded with spaces.
func member(name string, size int64) string {
	return fmt.Sprintf("%-16s%-12d%-6d%-6d%-8s%-10d`\n", name, 0, 0, 0, "100644", size)
}
