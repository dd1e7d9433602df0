package debian

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prose-im/prose-image/builder/host"
)

// A File is written into the chroot before the first package beyond the
// essential ones is configured. Its owner is root.
type File struct {
	Path    string // relative
	Mode    uint16
	Dir     bool
	Content []byte
}

// A Base is what to install and how.
type Base struct {
	Suite    string
	Arch     string
	Sources  string    // sources.list that the image keeps
	Locked   []Package // everything that will be installed, and nothing else
	Packages []string  // the names asked for; apt marks them as manually installed
	Before   []File    // what package scripts must find, such as initramfs settings
	Run      []string  // shell scripts run in the chroot at the end, in order
	Epoch    time.Time // SOURCE_DATE_EPOCH of everything that runs
}

// Unpacked estimates the bytes that packages take when installed: Debian's
// package files unpack to about four times their size.
func Unpacked(packages []Package) int64 {
	var sum int64
	for _, p := range packages {
		sum += p.Size
	}
	return 4 * sum
}

// Bootstrap installs b from files in the cache and writes the root file system
// to out as a tar, as mmdebstrap makes it. It runs maintainer scripts and b.Run,
// and uses no network.
func Bootstrap(ctx context.Context, cache string, b Base, out io.Writer) error {
	mode, err := Mode()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "prose-image-base-")
	if err != nil {
		return fmt.Errorf("installing packages: %w", err)
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil {
		return fmt.Errorf("installing packages: %w", err)
	}
	if mode == "unshare" {
		if err := reachable(dir); err != nil {
			return err
		}
	}
	repo := filepath.Join(dir, "repo")
	if err := writeRepository(ctx, cache, b, repo); err != nil {
		return fmt.Errorf("making a repository of the locked packages: %w", err)
	}
	before, sources := filepath.Join(dir, "before.tar"), filepath.Join(dir, "sources.list")
	if err := os.WriteFile(before, filesTar(b.Before, b.Epoch), 0o644); err != nil {
		return fmt.Errorf("installing packages: %w", err)
	}
	if err := os.WriteFile(sources, []byte(b.Sources), 0o644); err != nil {
		return fmt.Errorf("installing packages: %w", err)
	}
	var scripts []string
	for i, text := range b.Run {
		name := filepath.Join(dir, fmt.Sprintf("run-%d", i+1))
		if err := os.WriteFile(name, []byte(text), 0o755); err != nil {
			return fmt.Errorf("installing packages: %w", err)
		}
		scripts = append(scripts, name)
	}
	// In a user namespace other ids of ours read what we put here, whatever the
	// umask.
	if err := readable(dir); err != nil {
		return fmt.Errorf("installing packages: %w", err)
	}
	c := mmdebstrap(mode, dir, mmdebstrapArgs(b, mode, repo, before, sources, scripts))
	c.Umask = true // maintainer scripts make files by it
	c.Env = append(c.Env, "SOURCE_DATE_EPOCH="+strconv.FormatInt(b.Epoch.Unix(), 10), "DEBIAN_FRONTEND=noninteractive")
	c.Stdout = out
	// dpkg waits for the disk some thousand times, whatever force-unsafe-io
	// says, and what it writes is gone in a minute.
	c.Unsynced = true
	err = host.Run(ctx, c)
	if n := failedScript(err); n > 0 {
		return &ScriptError{Number: n, Err: err}
	}
	if err != nil {
		return fmt.Errorf("installing packages: %w", err)
	}
	return nil
}

var scriptLine = regexp.MustCompile(`(?m)^script ([0-9]+) failed$`)

// failedScript is the number of the script that ended mmdebstrap, from 1 on.
func failedScript(err error) int {
	var e *host.Error
	if !errors.As(err, &e) {
		return 0
	}
	m := scriptLine.FindStringSubmatch(e.Output)
	if m == nil {
		return 0
	}
	n, _ := strconv.Atoi(m[1])
	return n
}

// reachable reports whether every user can get to dir.
func reachable(dir string) error {
	for at := dir; at != "/" && at != "."; {
		at = filepath.Dir(at)
		info, err := os.Stat(at)
		if err != nil {
			return fmt.Errorf("installing packages: %w", err)
		}
		if info.Mode()&0o001 == 0 {
			return &PrivateError{at}
		}
	}
	return nil
}

// readable lets every user read what is in dir. Package files are linked from
// the cache; they are public.
func readable(dir string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		mode := info.Mode().Perm() | 0o444
		if mode&0o100 != 0 {
			mode |= 0o111 // directories, scripts
		}
		if mode == info.Mode().Perm() {
			return nil
		}
		return os.Chmod(path, mode)
	})
}

// mmdebstrap is a run of mmdebstrap that has all its files in dir. As root it
// mounts things into its chroot: in a mount namespace of its own, so that they
// are gone with it, even when it is killed.
func mmdebstrap(mode, dir string, args []string) host.Command {
	return host.Command{Args: append([]string{"mmdebstrap"}, args...), Env: []string{"TMPDIR=" + dir}, Within: dir, Mounts: mode == "root"}
}

func mmdebstrapArgs(b Base, mode, repo, before, sources string, scripts []string) []string {
	args := []string{"--skip=check/qemu", "--format=tar", "--mode=" + mode, "--architectures=" + b.Arch,
		// Not --variant=apt: from which step on that installs apt, and with it in
		// which order packages make their users, differs between mmdebstrap 1.3
		// and 1.5.
		"--variant=essential",
		"--include=" + strings.Join(append(slices.Clone(b.Packages), "apt"), ","),
		// The essential hook runs before any other package is unpacked.
		"--essential-hook=tar-in " + before + " /",
		// Nothing that is installed here must survive a crash of this machine.
		"--dpkgopt=force-unsafe-io",
	}
	for i, s := range scripts {
		name := fmt.Sprintf("/run/prose-image-%d", i+1)
		args = append(args,
			"--customize-hook=upload "+s+" "+name,
			"--customize-hook=chmod 0755 \"$1\""+name,
			// What it got from a network, no lock would hold.
			fmt.Sprintf("--customize-hook=unshare --net -- chroot \"$1\" %s || { echo 'script %d failed' >&2; exit 1; }", name, i+1),
			"--customize-hook=rm \"$1\""+name)
	}
	return append(args,
		"--customize-hook=upload "+sources+" /etc/apt/sources.list",
		b.Suite, "-", "deb [trusted=yes] copy:"+repo+" ./")
}

// writeRepository makes a flat apt repository of exactly the locked packages.
func writeRepository(ctx context.Context, cache string, b Base, dir string) error {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	stanzas := make([][]byte, len(b.Locked))
	errs := make([]error, len(b.Locked))
	var wg sync.WaitGroup
	next := make(chan int)
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for i := range next {
				stanzas[i], errs[i] = addToRepository(ctx, cache, b.Locked[i], foreign(b.Arch), dir)
			}
		})
	}
	for i := range b.Locked {
		next <- i
	}
	close(next)
	wg.Wait()
	var index bytes.Buffer
	for i, s := range stanzas {
		if errs[i] != nil {
			return errs[i]
		}
		index.Write(s)
		index.WriteByte('\n')
	}
	if err := os.WriteFile(filepath.Join(dir, "Packages"), index.Bytes(), 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "Release"), release(b, index.Bytes()), 0o644)
}

// release is the Release file over the index. mmdebstrap 1.5.7 takes essential
// packages only from repositories that say they are of the suite.
func release(b Base, index []byte) []byte {
	return fmt.Appendf(nil, "Suite: %s\nCodename: %s\nArchitectures: %s\nSHA256:\n %x %d Packages\n", b.Suite, b.Suite, b.Arch, sha256.Sum256(index), len(index))
}

func addToRepository(ctx context.Context, cache string, p Package, repack bool, dir string) ([]byte, error) {
	from, name := CachePath(cache, p), p.SHA256+".deb"
	size, sum, err := p.Size, p.SHA256, error(nil)
	if repack {
		size, sum, err = repackage(ctx, from, filepath.Join(dir, name))
	} else {
		err = Place(from, filepath.Join(dir, name))
	}
	if err != nil {
		return nil, err
	}
	control, err := host.Output(ctx, host.Command{Args: []string{"dpkg-deb", "--field", from}})
	if err != nil {
		return nil, err
	}
	return fmt.Appendf(bytes.TrimRight(control, "\n"), "\nFilename: ./%s\nSize: %d\nSHA256: %s\n", name, size, sum), nil
}

// Place gives a file a second name, or copies it where the two places are on
// different file systems. Nothing may be at to.
func Place(from, to string) error {
	if os.Link(from, to) == nil {
		return nil
	}
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		out.Close()
		return err
	}
	return out.Close()
}

func filesTar(files []File, epoch time.Time) []byte {
	var b bytes.Buffer
	tw := tar.NewWriter(&b)
	for _, f := range files {
		h := &tar.Header{Name: f.Path, Mode: int64(f.Mode), Size: int64(len(f.Content)), ModTime: epoch, Typeflag: tar.TypeReg, Format: tar.FormatPAX}
		if f.Dir {
			h.Typeflag, h.Size, h.Name = tar.TypeDir, 0, f.Path+"/"
		}
		// Writes to a bytes.Buffer do not fail, and the header fits the format.
		_ = tw.WriteHeader(h)
		_, _ = tw.Write(f.Content)
	}
	_ = tw.Close()
	return b.Bytes()
}
