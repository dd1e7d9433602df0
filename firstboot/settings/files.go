package settings

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/prose-im/prose-image/cloudinit"
)

// files reads the settings' directory in the order of its names. instead, when
// not nil, stands for the content of configure's file.
func (c *collector) files(root string, instead []byte) {
	dir := Place{Source: Files, Path: cloudinit.SettingsDir}
	if instead != nil {
		defer func() { // the entries are put in order below
			slices.SortStableFunc(c.entries, func(a, b entry) int { return strings.Compare(a.at.Path, b.at.Path) })
		}()
		c.document(configureFile, instead)
	}
	d, err := os.OpenFile(filepath.Join(root, dir.Path), os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err != nil {
		c.problem(dir, "", "cannot be read: "+bare(err).Error(), "run as root")
		return
	}
	defer d.Close()
	if what := c.tighten(d, dir.Path, 0o700); what != "" {
		c.problem(dir, "", what, "chown root:root "+dir.Path)
		return
	}
	names, err := d.Readdirnames(-1)
	if err != nil {
		c.problem(dir, "", "cannot be listed: "+bare(err).Error(), "")
		return
	}
	slices.Sort(names)
	for _, name := range names {
		path := filepath.Join(dir.Path, name)
		switch ext := filepath.Ext(name); {
		case strings.HasPrefix(name, "."), instead != nil && path == configureFile:
		case ext == ".yaml", ext == ".json":
			c.file(d, path)
		case ext == ".yml", ext == ".toml":
			c.problem(Place{Source: Files, Path: path}, "", "is not read: its name ends in "+ext, "name it .yaml or .json")
		}
	}
}

// file reads one file of the directory d.
func (c *collector) file(d *os.File, path string) {
	at := Place{Source: Files, Path: path}
	fd, err := unix.Openat(int(d.Fd()), filepath.Base(path), unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ELOOP) {
		c.problem(at, "", "is a symbolic link", "put the file itself there")
		return
	}
	if err != nil {
		c.problem(at, "", "cannot be read: "+err.Error(), "")
		return
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	if what := c.tighten(f, path, 0o600); what != "" {
		c.problem(at, "", what, "chown root:root "+path)
		return
	}
	text, err := io.ReadAll(io.LimitReader(f, cloudinit.MaxInput+1))
	switch {
	case err != nil:
		c.problem(at, "", "cannot be read: "+bare(err).Error(), "")
	case len(text) > cloudinit.MaxInput:
		c.problem(at, "", fmt.Sprintf("is larger than %d bytes", cloudinit.MaxInput), "")
	default:
		c.document(path, text)
	}
}

// tighten says why f must not be obeyed, or makes sure that only its owner,
// root, may use it.
func (c *collector) tighten(f *os.File, path string, most uint32) string {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return "cannot be looked at: " + err.Error()
	}
	switch kind := st.Mode & unix.S_IFMT; {
	case kind != unix.S_IFREG && kind != unix.S_IFDIR:
		return "is neither file nor directory"
	case kind == unix.S_IFDIR && most == 0o600:
		return "is a directory"
	case st.Uid != 0:
		return fmt.Sprintf("belongs to user %d, not to root", st.Uid)
	case st.Mode&0o7777&^most == 0:
		return ""
	}
	if err := unix.Fchmod(int(f.Fd()), st.Mode&most); err != nil {
		return "can be read by others: " + err.Error()
	}
	c.report.Tightened = append(c.report.Tightened, path)
	return ""
}
