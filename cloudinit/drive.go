package cloudinit

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"
)

// A Drive is a kind of medium with user-data on it.
type Drive struct {
	Name   string   // of cloud-init's datasource
	Labels []string // of the file system, as udev links them below /dev/disk/by-label
	Dirs   []string // where the same files may lie on the machine itself
	// Read reads them. fs.ErrNotExist: it is none of this kind.
	Read func(*os.Root) (Found, error)
}

// Drives are those that are known, in the order in which they count: a provider
// that attaches both means the first.
var Drives = []Drive{
	{"ConfigDrive", []string{"config-2", "CONFIG-2"}, []string{"/var/lib/cloud/seed/config_drive", "/config-drive"}, configDrive},
	{"NoCloud", []string{"cidata", "CIDATA"}, []string{"/var/lib/cloud/seed/nocloud", "/var/lib/cloud/seed/nocloud-net"}, noCloud},
}

// noCloud reads user-data and meta-data, which both must be there (cloud-init's
// reference, "NoCloud").
func noCloud(r *os.Root) (Found, error) {
	user, err := readFrom(r, "user-data")
	if err != nil {
		return Found{}, err
	}
	meta, err := readFrom(r, "meta-data")
	if err != nil {
		return Found{}, err
	}
	vendor, err := readFrom(r, "vendor-data")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Found{}, err
	}
	m := flat(meta)
	return Found{ID: m["instance-id"], Domain: m["prose-domain"], Public: addresses(m["public-ipv4"], m["public-ipv6"]), UserData: user, VendorData: vendor}, nil
}

// configDrive reads the newest layout (OpenStack's "Config drives").
func configDrive(r *os.Root) (Found, error) {
	const at = "openstack/latest"
	meta, err := readFrom(r, at+"/meta_data.json")
	if err != nil {
		return Found{}, err
	}
	f, err := novaMetaData(meta)
	if err != nil {
		return Found{}, fmt.Errorf("reading meta_data.json: %w", err)
	}
	if f.UserData, err = readFrom(r, at+"/user_data"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Found{}, err
	}
	vendor, err := readFrom(r, at+"/vendor_data.json")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Found{}, err
	}
	f.VendorData = novaVendorData(vendor)
	return f, nil
}

// readFrom reads a regular file below a directory, without waiting for anybody.
func readFrom(r *os.Root, name string) ([]byte, error) {
	f, err := r.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", path.Base(name), bare(err))
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil {
		return nil, fmt.Errorf("reading %s: %w", path.Base(name), bare(err))
	} else if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("reading %s: not a regular file", path.Base(name))
	}
	b, err := io.ReadAll(io.LimitReader(f, MaxInput+1))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", path.Base(name), bare(err))
	}
	if len(b) > MaxInput {
		return nil, fmt.Errorf("reading %s: larger than %d bytes", path.Base(name), MaxInput)
	}
	return b, nil
}

// flat are the texts at the top of a document in YAML or JSON: what meta-data
// has that is of use to us is no deeper, and of one line.
func flat(text []byte) map[string]string {
	out := map[string]string{}
	var object map[string]any
	if json.Unmarshal(text, &object) == nil {
		for k, v := range object {
			if s, ok := v.(string); ok {
				out[k] = s
			}
		}
		return out
	}
	for line := range strings.Lines(string(text)) {
		key, value, ok := strings.Cut(strings.TrimRight(line, "\r\n"), ":")
		if !ok || key == "" || key != strings.TrimSpace(key) || strings.HasPrefix(key, "#") || value != "" && value[0] != ' ' && value[0] != '\t' {
			continue
		}
		value, _, _ = strings.Cut(value, " #")
		value = strings.TrimSpace(value)
		if n := len(value); n >= 2 && (value[0] == '"' || value[0] == '\'') && value[n-1] == value[0] {
			value = value[1 : n-1]
		}
		out[strings.Trim(key, `"'`)] = value
	}
	return out
}
