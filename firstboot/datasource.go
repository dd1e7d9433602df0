package firstboot

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/prose-im/prose-image/cloudinit"
	"github.com/prose-im/prose-image/firstboot/settings"
)

// takenPath says which user-data was taken last. cloud-init likewise writes
// files once per machine, so that the owner may change them.
const takenPath = stateDir + "/datasource"

// datasource is the verb of the unit prose-datasource: it looks for user-data
// where cloud-init has left none, and leaves it as cloud-init would.
func datasource(ctx context.Context, c *call) int {
	if code, ok := c.noMore("datasource"); !ok {
		return code
	}
	if os.Geteuid() != 0 {
		return c.fail(1, "", "only root can read user-data")
	}
	m := c.machine
	if m.hasCloudInit() {
		return 0
	}
	found, err := m.find(ctx)
	if err != nil {
		fmt.Fprintf(c.stderr, "error: %v\n", err)
	}
	if found == nil {
		// Not a failed boot: the machine says that nobody has told it its domain.
		fmt.Fprintln(c.stdout, "there is no user-data")
		return 0
	}
	fmt.Fprintf(c.stdout, "user-data was found: %s\n", found.Platform)
	if err := m.take(*found); err != nil {
		return c.fail(1, "", "%w", err)
	}
	if err := kick(ctx); err != nil {
		fmt.Fprintf(c.stderr, "error: %v\n", err) // the timer comes soon
	}
	return 0
}

// hasCloudInit says whether cloud-init runs on this machine and has found more
// than nothing.
func (m *machine) hasCloudInit() bool {
	if _, err := os.Stat(m.path("/run/cloud-init/enabled")); err != nil {
		return false
	}
	id, err := os.ReadFile(m.path("/run/cloud-init/cloud-id"))
	return err != nil || strings.TrimSpace(string(id)) != "none"
}

// find looks at drives first: they cost nothing and nobody else answers for
// them. A metadata service is asked only when the firmware names its platform.
func (m *machine) find(ctx context.Context) (*cloudinit.Found, error) {
	var errs []error
	for _, d := range cloudinit.Drives {
		found, err := m.readDrive(d)
		if err == nil {
			return found, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	s := cloudinit.ServiceOf(cloudinit.ReadDMI(or(m.at, "/")))
	if s == nil {
		return nil, errors.Join(errs...)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, cloudinit.FetchLimit, fmt.Errorf("it has not answered in %v", cloudinit.FetchLimit))
	defer cancel()
	found, err := s.Fetch(m.web(ctx))
	if err != nil {
		return nil, errors.Join(append(errs, fmt.Errorf("asking %s: %w", s.Name, err))...)
	}
	found.Platform = s.Name
	return &found, nil
}

// readDrive reads user-data from a medium, or from where the image has it.
func (m *machine) readDrive(d cloudinit.Drive) (*cloudinit.Found, error) {
	from := func(dir string) (*cloudinit.Found, error) {
		r, err := os.OpenRoot(dir)
		if err != nil {
			return nil, err
		}
		defer r.Close()
		found, err := d.Read(r)
		found.Platform = d.Name
		return &found, err
	}
	for _, dir := range d.Dirs {
		found, err := from(m.path(dir))
		if err == nil {
			return found, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("reading %s from %s: %w", d.Name, dir, err)
		}
	}
	for _, label := range d.Labels {
		device := m.path("/dev/disk/by-label/" + label)
		if _, err := os.Stat(device); err != nil {
			continue
		}
		at := m.path(runDir + "/drive")
		unmount, err := mount(device, at)
		if err != nil {
			return nil, fmt.Errorf("reading %s from %s: %w", d.Name, device, err)
		}
		found, err := from(at)
		if err := unmount(); err != nil {
			return nil, fmt.Errorf("reading %s from %s: %w", d.Name, device, err)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("reading %s from %s: %w", d.Name, device, err)
		}
		if err == nil {
			return found, nil
		}
	}
	return nil, fs.ErrNotExist
}

// mount makes a medium readable at a directory, and nothing more: what lies on
// it is somebody else's.
func mount(device, at string) (unmount func() error, err error) {
	if err := os.MkdirAll(at, 0o700); err != nil {
		return nil, err
	}
	const flags = unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	for _, kind := range []string{"iso9660", "vfat"} {
		if err = unix.Mount(device, at, kind, flags, ""); err == nil {
			return func() error { return errors.Join(unix.Unmount(at, unix.MNT_DETACH), os.Remove(at)) }, nil
		}
	}
	return nil, fmt.Errorf("mounting it: %w", err)
}

// take leaves what was found as cloud-init does: files of settings once, the
// rest for this boot.
func (m *machine) take(f cloudinit.Found) error {
	if err := m.mkdir(cloudinit.DirectDir, 0o700, root); err != nil {
		return err
	}
	meta := map[string]any{"prose-domain": f.Domain, "public-ips": f.Public}
	if f.Domain == "" {
		delete(meta, "prose-domain")
	}
	data, err := json.Marshal(map[string]any{"v1": map[string]any{"instance_id": f.ID}, "ds": map[string]any{"meta_data": meta}})
	if err != nil {
		return err
	}
	if _, err := m.write(cloudinit.DirectDir+"/instance-data.json", data, 0o600, root); err != nil {
		return err
	}
	var wanted []settings.WrittenFile
	for _, one := range []struct {
		name string
		data []byte
	}{{"cloud-config", f.UserData}, {"vendor-cloud-config", f.VendorData}} {
		configs, err := cloudinit.CloudConfigs(one.data)
		if err != nil {
			return err
		}
		for i, config := range configs {
			// In the order of their names the later ones of user-data win, as with
			// cloud-init.
			name := fmt.Sprintf("%s-%02d.txt", one.name, 99-min(i, 99))
			if _, err := m.write(cloudinit.DirectDir+"/"+name, config, 0o600, root); err != nil {
				return err
			}
			files, err := settings.WrittenFiles(config)
			if err != nil {
				return err
			}
			wanted = append(wanted, files...)
		}
	}
	return m.takeFiles(f, wanted)
}

// takeFiles writes the files of settings, once for each machine and user-data.
func (m *machine) takeFiles(f cloudinit.Found, wanted []settings.WrittenFile) error {
	sum := sha256.Sum256(append([]byte(f.ID+"\n"), f.UserData...))
	taken := fmt.Appendf(nil, "%x\n", sum)
	if m.is(file{takenPath, taken, 0o600, root}) {
		return nil
	}
	if err := m.mkdir(cloudinit.SettingsDir, 0o700, root); err != nil {
		return err
	}
	for _, w := range wanted {
		if _, err := m.write(filepath.Join(cloudinit.SettingsDir, w.Name), w.Text, 0o600, root); err != nil {
			return err
		}
	}
	_, err := m.write(takenPath, taken, 0o600, root)
	return err
}
