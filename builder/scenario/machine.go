package scenario

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
	"gopkg.in/yaml.v3"

	"github.com/prose-im/prose-image/builder/boot"
	"github.com/prose-im/prose-image/cloudinit"
	"github.com/prose-im/prose-image/cloudinit/seed"
)

// user is whom Debian's cloud-init gives the key to.
const user = "debian"

// A machine is the guest over all its boots.
type machine struct {
	options boot.Options
	key     *boot.Key
	keyFile string
	vm      *boot.VM
	shell   *boot.Shell // nil: nobody is logged in
	on      time.Time   // when it was first switched on
}

// newMachine prepares a machine; its disk and seed lie in dir.
func newMachine(s *Scenario, firmware boot.Firmware, accel boot.Accel, image, dir, logs string, replace *strings.Replacer) (*machine, error) {
	m := &machine{}
	var err error
	if m.key, err = boot.NewKey(); err != nil {
		return nil, err
	}
	m.keyFile = filepath.Join(logs, "key")
	if err := os.WriteFile(m.keyFile, m.key.Private(), 0o600); err != nil {
		return nil, fmt.Errorf("keeping the key of the machine: %w", err)
	}
	content, err := seedOf(s, m.key.Authorized(), replace)
	if err != nil {
		return nil, err
	}
	m.options = boot.Options{
		Image: image, Size: s.Disk << 30, Firmware: firmware, Accel: accel, CPUs: int(s.CPUs), Memory: int(s.Memory),
		Seed: filepath.Join(dir, "seed.iso"), Log: filepath.Join(logs, "serial.log"), Dir: filepath.Join(dir, "vm"), Address: Address,
	}
	for _, p := range ports {
		m.options.Forwards = append(m.options.Forwards, boot.Forward{Host: p, Guest: p})
	}
	return m, seed.Write(m.options.Seed, content)
}

// seedOf is what the owner gives the machine. The key to log in with comes as
// metadata, so that user-data is the scenario's alone, and so does the public
// address, which no interface of the machine has, as on most clouds.
func seedOf(s *Scenario, key string, replace *strings.Replacer) (seed.Seed, error) {
	text := "#cloud-config\n{}\n"
	switch {
	case s.UserData != "":
		text = replace.Replace(s.UserData)
	case s.Settings != nil:
		settings, err := settingsOf(s, replace)
		if err != nil {
			return seed.Seed{}, err
		}
		config, err := yaml.Marshal(map[string]any{"write_files": []map[string]any{{
			"path": cloudinit.SettingsDir + "/10-settings.yaml", "owner": "root:root", "permissions": "0600", "content": settings,
		}}})
		if err != nil {
			return seed.Seed{}, fmt.Errorf("writing user-data: %w", err)
		}
		text = "#cloud-config\n" + string(config)
	}
	meta, err := json.Marshal(map[string]any{"instance-id": "scenario-" + s.Name, "local-hostname": "prose", "public-keys": []string{key}, "public-ipv4": Address})
	if err != nil {
		return seed.Seed{}, fmt.Errorf("writing metadata: %w", err)
	}
	// cloud-init takes the key for the name in networkd's [Match], and knows no
	// match by name. QEMU's IPv6 is site-local and leads nowhere: without its
	// announcements the machine is one with IPv4 only.
	network := fmt.Sprintf("version: 2\nethernets:\n  \"en*\":\n    dhcp4: true\n    dhcp4-overrides: {use-dns: false}\n    accept-ra: false\n    nameservers: {addresses: [%s]}\n", guestNameserver)
	return seed.Seed{UserData: []byte(text), MetaData: meta, NetworkConfig: []byte(network)}, nil
}

// settingsOf adds what every machine of ours needs to the scenario's settings.
func settingsOf(s *Scenario, replace *strings.Replacer) (string, error) {
	all := maps.Clone(s.Settings)
	if _, ok := all["domain"]; !ok {
		all["domain"] = s.Domain
	}
	acme, ok := all["acme"].(map[string]any)
	if !ok && all["acme"] == nil {
		acme, ok = map[string]any{}, true
	}
	if ok {
		acme = maps.Clone(acme)
		if _, set := acme["directory"]; !set {
			acme["directory"], acme["ca"] = "{acme.directory}", replace.Replace("{acme.ca}")
		}
		all["acme"] = acme
	}
	text, err := yaml.Marshal(all)
	if err != nil {
		return "", fmt.Errorf("writing settings: %w", err)
	}
	return replace.Replace(string(text)), nil
}

// start switches the machine on. What was on its disk is still there.
func (m *machine) start(ctx context.Context) error {
	vm, err := boot.Start(ctx, m.options)
	if err != nil {
		return err
	}
	m.vm = vm
	if m.on.IsZero() {
		m.on = time.Now()
	}
	return nil
}

// cpu is the processor time that the machine has had, in seconds; 0 when it is
// off.
func (m *machine) cpu() float64 {
	if m.vm == nil {
		return 0
	}
	d, err := m.vm.CPU()
	if err != nil {
		return 0
	}
	return d.Seconds()
}

var errOff = errors.New("the machine is off")

// up waits until the machine lets somebody log in.
func (m *machine) up(ctx context.Context) error {
	if m.vm == nil {
		return errOff
	}
	if m.shell != nil {
		return nil
	}
	var err error
	m.shell, err = m.vm.SSH(ctx, user, m.key)
	return err
}

// leave logs out.
func (m *machine) leave() {
	if m.shell != nil {
		m.shell.Close()
		m.shell = nil
	}
}

// root runs a script as root, logging in first if need be.
func (m *machine) root(ctx context.Context, script string) (string, error) {
	if err := m.up(ctx); err != nil {
		return "", err
	}
	out, err := m.shell.Root(ctx, script)
	var exit *ssh.ExitError
	if err != nil && !errors.As(err, &exit) {
		m.leave() // the connection may be gone: the next script makes another
	}
	return out, err
}

// close cuts the power.
func (m *machine) close() {
	m.leave()
	if m.vm != nil {
		m.vm.Close()
		m.vm = nil
	}
}

// keepLogs asks the machine for its journal, if it still answers.
func (m *machine) keepLogs(ctx context.Context, dir string) error {
	if m.vm == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, m.vm.Accel.Budget(boot.Command))
	defer cancel()
	out, err := m.root(ctx, "systemctl --no-pager --failed; journalctl --no-pager -o short-monotonic")
	if err != nil {
		out += "\nreading the journal: " + err.Error() + "\n"
	}
	return os.WriteFile(filepath.Join(dir, "journal.log"), []byte(out), 0o600)
}

// placeholder is what values may stand for in steps and user-data.
var placeholder = regexp.MustCompile(`\{[a-z][a-z0-9.-]*\}`)
