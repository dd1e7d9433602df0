package debian

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prose-im/prose-image/builder/host"
)

// Resolve asks apt which package files a request comes to: the essential
// packages, apt and the named ones with what they depend on. It needs the
// network and no privilege.
func Resolve(ctx context.Context, r Request) (*Resolution, error) {
	dir, err := os.MkdirTemp("", "prose-image-apt-")
	if err != nil {
		return nil, fmt.Errorf("resolving packages: %w", err)
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil { // in a user namespace other ids of ours use it
		return nil, fmt.Errorf("resolving packages: %w", err)
	}
	mode, err := Mode()
	if err != nil {
		return nil, err
	}

	// mmdebstrap makes an apt configuration with its own default sources, and
	// fetches their indexes; it installs nothing in this variant. In a user
	// namespace only a tar comes out with owners that we may read.
	args := []string{"--variant=custom", "--mode=" + mode, "--architectures=" + r.Arch,
		"--skip=check/qemu,check/empty,cleanup/apt/lists", "--format=tar",
		r.Suite, filepath.Join(dir, "apt.tar")}
	args = append(args, r.Mirrors...)
	if err := host.Run(ctx, mmdebstrap(mode, dir, args)); err != nil {
		if line := unsigned(err); line != "" {
			return nil, &SignatureError{Line: line, Err: err}
		}
		return nil, fmt.Errorf("fetching package indexes of %s: %w", r.Suite, err)
	}
	root := filepath.Join(dir, "root")
	if err := unpackApt(filepath.Join(dir, "apt.tar"), root); err != nil {
		return nil, fmt.Errorf("fetching package indexes of %s: %w", r.Suite, err)
	}

	out, err := host.Output(ctx, host.Command{Args: aptUris(root, r)})
	if err != nil {
		if unknown := unknownPackages(err); unknown != nil {
			return nil, &UnknownPackageError{Names: unknown}
		}
		return nil, fmt.Errorf("resolving packages: %w", err)
	}
	res := &Resolution{}
	if res.Packages, err = parseUris(out); err != nil {
		return nil, fmt.Errorf("resolving packages: %w", err)
	}
	if res.Date, err = releaseDate(filepath.Join(root, "var/lib/apt/lists")); err != nil {
		return nil, fmt.Errorf("resolving packages: %w", err)
	}
	sources, err := os.ReadFile(filepath.Join(root, "etc/apt/sources.list"))
	if err != nil {
		return nil, fmt.Errorf("resolving packages: %w", err)
	}
	res.Sources = string(sources)
	return res, nil
}

// aptUris is the command that prints what apt would download into root.
func aptUris(root string, r Request) []string {
	args := []string{"apt-get",
		"-o", "Dir=" + root,
		"-o", "Dir::State::status=" + filepath.Join(root, "var/lib/dpkg/status"),
		"-o", "APT::Architecture=" + r.Arch,
		"-o", "APT::Architectures=" + r.Arch,
		"-o", "APT::Install-Recommends=false",
		"-o", "Acquire::ForceHash=SHA256",
		"-qq", "--print-uris", "--yes", "install", "?essential", "apt"}
	return append(args, r.Packages...)
}

var uriLine = regexp.MustCompile(`^'([^']+)' (\S+) (\d+) SHA256:([0-9a-f]{64})$`)

// parseUris reads the output of apt-get --print-uris: 'URI' FILE SIZE HASH.
func parseUris(out []byte) ([]Package, error) {
	var packages []Package
	for line := range strings.Lines(string(out)) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		m := uriLine.FindStringSubmatch(line)
		if m == nil {
			return nil, fmt.Errorf("apt printed %q where a file with its sha256 was expected", line)
		}
		// NAME_VERSION_ARCH.deb, each part percent-encoded.
		parts := strings.Split(strings.TrimSuffix(m[2], ".deb"), "_")
		if len(parts) != 3 {
			return nil, fmt.Errorf("apt named a file %q that is no NAME_VERSION_ARCH.deb", m[2])
		}
		version, err := url.PathUnescape(parts[1])
		if err != nil {
			return nil, fmt.Errorf("apt named a file %q: %w", m[2], err)
		}
		size, err := strconv.ParseInt(m[3], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("apt gave size %q: %w", m[3], err)
		}
		packages = append(packages, Package{Name: parts[0], Version: version, Arch: parts[2], Size: size, SHA256: m[4], URI: m[1]})
	}
	slices.SortFunc(packages, func(a, b Package) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.Arch, b.Arch))
	})
	return packages, nil
}

// releaseDate finds the newest Date field of the Release files in lists.
func releaseDate(lists string) (time.Time, error) {
	files, err := filepath.Glob(filepath.Join(lists, "*Release"))
	if err != nil || len(files) == 0 {
		return time.Time{}, fmt.Errorf("no Release file in %s", lists)
	}
	var newest time.Time
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			return time.Time{}, err
		}
		s := bufio.NewScanner(bytes.NewReader(b))
		for s.Scan() {
			v, ok := strings.CutPrefix(s.Text(), "Date: ")
			if !ok {
				continue
			}
			d, err := time.Parse(time.RFC1123, v)
			if err != nil {
				return time.Time{}, fmt.Errorf("%s: %w", filepath.Base(name), err)
			}
			if d.After(newest) {
				newest = d
			}
			break
		}
	}
	if newest.IsZero() {
		return newest, errors.New("no Release file has a date")
	}
	return newest.UTC(), nil
}

var unknownLine = regexp.MustCompile(`(?m)^E: (?:Unable to locate package|Couldn't find any package by (?:glob|regex)|Package '?)\s*'?([^\s']+)'?`)

func unknownPackages(err error) []string {
	var e *host.Error
	if !errors.As(err, &e) {
		return nil
	}
	var names []string
	for _, m := range unknownLine.FindAllStringSubmatch(e.Output, -1) {
		names = append(names, m[1])
	}
	slices.Sort(names)
	return slices.Compact(names)
}

var signatureLine = regexp.MustCompile(`(?m)^(?:[WE]: )?(.*(?:NO_PUBKEY|EXPKEYSIG|BADSIG|is not signed|cannot be used due to|signatures? (?:couldn't|could not) be verified).*)$`)

// unsigned is what apt says of a signature that it does not trust, or empty.
func unsigned(err error) string {
	var e *host.Error
	if !errors.As(err, &e) {
		return ""
	}
	if m := signatureLine.FindStringSubmatch(e.Output); m != nil {
		return m[1]
	}
	return ""
}
