package cloudinit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
)

// Where cloud-init leaves what it has read, and the kernel its command line.
const (
	CombinedFile     = "/run/cloud-init/combined-cloud-config.json"
	InstanceDataFile = "/run/cloud-init/instance-data.json"
	CommandLineFile  = "/proc/cmdline"
)

// DirectDir is where the agent leaves what it has read itself, on a machine
// without cloud-init: instance-data.json in cloud-init's form, and cloud-configs
// as *.txt.
const DirectDir = "/run/prose-firstboot/datasource"

// The merged cloud-configs of the current instance, one per origin, as YAML:
// what a cloud-init older than 23.3 leaves, and what outlasts a reboot without
// cloud-init. The first that sets a key wins.
var instanceConfigs = []string{"cloud-config.txt", "vendor2-cloud-config.txt", "vendor-cloud-config.txt"}

// MaxInput is the most that is read of any one file, in bytes.
const MaxInput = 1 << 20

// A Document is a file with text that is yet to be parsed.
type Document struct {
	Path string
	Text []byte
}

// An Instance is what cloud-init and the kernel have to say to us. All of it
// is outside input; nothing in it is checked.
type Instance struct {
	// Combined holds cloud.cfg, vendor-data and user-data as one JSON object.
	// Empty when this boot's cloud-init left none.
	Combined Document
	// Configs are the YAML cloud-configs to look at when Combined is empty.
	Configs []Document
	// ID is the platform's name for this machine, or empty. Some platforms give a
	// new one to a machine that moved, and copies may have the same.
	ID string
	// MetaDomain is "prose-domain" of the platform's metadata, or empty.
	MetaDomain string
	// PublicAddresses are this machine's in the world, as the platform's metadata
	// says: of machines behind address translation no interface has them.
	PublicAddresses []netip.Addr
	// CommandLineDomain is "prose.domain" of the kernel's command line, or empty.
	CommandLineDomain string
}

// ReadInstance reads what is there below root, "/" on a machine. What is not
// there is left empty; what cannot be read or is no JSON is left empty too and
// is in the error, one per file.
func ReadInstance(root string) (Instance, error) {
	var in Instance
	var errs []error
	read := func(path string) []byte {
		b, err := readFile(filepath.Join(root, path))
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR) {
			errs = append(errs, fmt.Errorf("reading %s: %w", path, bare(err)))
		}
		return b
	}
	if text := read(CombinedFile); len(bytes.TrimSpace(text)) > 0 {
		in.Combined = Document{CombinedFile, text}
	} else if dir := currentInstance(root); dir != "" {
		for _, name := range instanceConfigs {
			path := filepath.Join(dir, name)
			if text := read(path); len(text) > 0 {
				in.Configs = append(in.Configs, Document{path, text})
			}
		}
	}
	instanceData := InstanceDataFile
	// What the agent has read itself counts where cloud-init has nothing to say.
	if names := direct(root); len(names) > 0 {
		instanceData = filepath.Join(DirectDir, "instance-data.json")
		in.Combined = Document{}
		for _, name := range names {
			path := filepath.Join(DirectDir, name)
			if text := read(path); len(text) > 0 && filepath.Ext(name) == ".txt" {
				in.Configs = append(in.Configs, Document{path, text})
			}
		}
	}
	if text := read(instanceData); len(text) > 0 {
		domain, err := MetaDomain(text)
		if err != nil {
			errs = append(errs, fmt.Errorf("reading %s: %w", instanceData, err))
		}
		in.MetaDomain = domain
		in.PublicAddresses = PublicAddresses(text)
		in.ID = InstanceID(text)
	}
	in.CommandLineDomain, _ = KernelParameter(string(read(CommandLineFile)), "prose.domain")
	return in, errors.Join(errs...)
}

// direct are the files that the agent has left, in order.
func direct(root string) []string {
	entries, err := os.ReadDir(filepath.Join(root, DirectDir))
	if err != nil {
		return nil
	}
	var names []string
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") {
			names = append(names, e.Name())
		}
	}
	return names
}

// currentInstance is the directory behind /var/lib/cloud/instance. cloud-init
// makes that link absolute, so below another root it must not be followed.
func currentInstance(root string) string {
	target, err := os.Readlink(filepath.Join(root, "/var/lib/cloud/instance"))
	if err != nil {
		return ""
	}
	id := filepath.Base(target)
	if id == "." || id == ".." || id == "/" {
		return ""
	}
	return filepath.Join("/var/lib/cloud/instances", id)
}

func readFile(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil {
		return nil, err
	} else if !st.Mode().IsRegular() {
		return nil, errors.New("not a regular file")
	}
	b, err := io.ReadAll(io.LimitReader(f, MaxInput+1))
	if err == nil && len(b) > MaxInput {
		return nil, fmt.Errorf("larger than %d bytes", MaxInput)
	}
	return b, err
}

// bare is an error without its operation and path, for callers that name them.
func bare(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

// MetaDomain finds "prose-domain" in cloud-init's instance-data.json: in the
// metadata itself (NoCloud, LXD's user.meta-data and others), or in its "meta",
// where OpenStack puts what the owner of a server said about it.
func MetaDomain(instanceData []byte) (string, error) {
	var data struct {
		DS struct {
			MetaData json.RawMessage `json:"meta_data"`
		} `json:"ds"`
	}
	if err := json.Unmarshal(instanceData, &data); err != nil {
		return "", notJSON(err)
	}
	// Some platforms have a string or a list here, and nothing of ours.
	var meta map[string]json.RawMessage
	if json.Unmarshal(data.DS.MetaData, &meta) != nil {
		return "", nil
	}
	var own map[string]json.RawMessage
	if json.Unmarshal(meta["meta"], &own) != nil {
		own = nil
	}
	for _, m := range []map[string]json.RawMessage{meta, own} {
		raw, ok := m["prose-domain"]
		if !ok {
			continue
		}
		var domain string
		if err := json.Unmarshal(raw, &domain); err != nil {
			return "", errors.New("prose-domain of the metadata is not a string")
		}
		return domain, nil
	}
	return "", nil
}

// InstanceID is the platform's name for this machine in cloud-init's
// instance-data.json, or empty.
func InstanceID(instanceData []byte) string {
	var data struct {
		V1 struct {
			ID any `json:"instance_id"`
		} `json:"v1"`
	}
	if json.Unmarshal(instanceData, &data) != nil {
		return ""
	}
	// Some platforms number their machines.
	switch id := data.V1.ID.(type) {
	case string:
		return id
	case float64:
		return fmt.Sprintf("%.0f", id)
	}
	return ""
}

// publicKey is what platforms call a public address: EC2, Hetzner and NoCloud
// public-ipv4, EC2's interfaces public-ipv4s, Azure publicIpAddress, Vultr and
// others variants of these.
var publicKey = regexp.MustCompile(`(?i)^public[-_]?ip(v[46])?[-_]?(s|addr|address(es)?)?$`)

// PublicAddresses finds public addresses in the metadata of cloud-init's
// instance-data.json, at any depth, in the order of their keys. It is a hint
// for records to show, never a proof.
func PublicAddresses(instanceData []byte) []netip.Addr {
	var data struct {
		DS struct {
			MetaData any `json:"meta_data"`
		} `json:"ds"`
	}
	if json.Unmarshal(instanceData, &data) != nil {
		return nil
	}
	var found []netip.Addr
	var walk func(v any, public bool)
	walk = func(v any, public bool) {
		switch v := v.(type) {
		case map[string]any:
			for _, key := range slices.Sorted(maps.Keys(v)) {
				walk(v[key], publicKey.MatchString(key))
			}
		case []any:
			for _, item := range v {
				walk(item, public)
			}
		case string:
			for _, word := range strings.Fields(v) {
				if a, err := netip.ParseAddr(word); public && err == nil && a.Zone() == "" && !slices.Contains(found, a.Unmap()) {
					found = append(found, a.Unmap())
				}
			}
		}
	}
	walk(data.DS.MetaData, false)
	return found
}

// CloudConfigProse is the value of "prose" in cloud-init's combined JSON
// config, nil when there is none.
func CloudConfigProse(combined []byte) (json.RawMessage, error) {
	var config map[string]json.RawMessage
	if err := json.Unmarshal(combined, &config); err != nil {
		return nil, notJSON(err)
	}
	return config["prose"], nil
}

// notJSON says where, not what: the text may hold secrets.
func notJSON(err error) error {
	var se *json.SyntaxError
	if errors.As(err, &se) {
		return fmt.Errorf("no JSON after byte %d", se.Offset)
	}
	return errors.New("not the JSON that cloud-init writes")
}

// KernelParameter is the value of name on the kernel's command line, whose
// parameters may stand in double quotes, whole or from the value on
// (Documentation/admin-guide/kernel-parameters.rst). As with the kernel's own,
// the last one counts, and "--" ends them.
func KernelParameter(line, name string) (value string, ok bool) {
	for word := range words(line) {
		if word == "--" {
			break
		}
		if v, found := strings.CutPrefix(word, name+"="); found {
			value, ok = v, true
		}
	}
	return value, ok
}

// words splits a command line at spaces outside quotes, and drops the quotes.
func words(line string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		var b strings.Builder
		quoted, any := false, false
		for _, r := range line + " " {
			switch {
			case r == '"':
				quoted, any = !quoted, true
			case !quoted && (r == ' ' || r == '\t' || r == '\n'):
				if any && !yield(b.String()) {
					return
				}
				b.Reset()
				any = false
			default:
				b.WriteRune(r)
				any = true
			}
		}
	}
}
