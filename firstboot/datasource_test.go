package firstboot

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prose-im/prose-image/cloudinit"
	"github.com/prose-im/prose-image/firstboot/settings"
)

// bareMachine makes a machine without cloud-init.
func bareMachine(t *testing.T, files map[string]string) *machine {
	t.Helper()
	m := &machine{at: t.TempDir(), web: cloudinit.NewWeb}
	for _, d := range []string{runDir, stateDir, "/etc"} {
		if err := os.MkdirAll(m.path(d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for path, text := range files {
		if err := os.MkdirAll(filepath.Dir(m.path(path)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(m.path(path), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

// What is found is of the same effect as if cloud-init had found it.
func TestTake(t *testing.T) {
	user, err := cloudinit.FirstBoot{Domain: "example.org"}.UserData()
	if err != nil {
		t.Fatal(err)
	}
	f := cloudinit.Found{Platform: "NoCloud", ID: "i-1", Domain: "meta.example", UserData: append(user, "prose:\n  company: Example\n"...),
		VendorData: []byte("#cloud-config\nprose:\n  company: Vendor\n  federation: true\n"), Public: []netip.Addr{netip.MustParseAddr("1.2.3.4")}}
	m := bareMachine(t, nil)
	if err := m.take(f); err != nil {
		t.Fatal(err)
	}
	s, report := settings.Load(m.at)
	if len(report.Problems) > 0 || s.Domain != "example.org" || s.Company != "Example" || !s.Federation {
		t.Errorf("%+v\n%+v", s, report)
	}
	in, err := cloudinit.ReadInstance(m.at)
	if err != nil || in.ID != "i-1" || len(in.PublicAddresses) != 1 || in.MetaDomain != "meta.example" {
		t.Errorf("%+v, %v", in, err)
	}
	// Of two parts the later one wins, as with cloud-init.
	two := f
	two.UserData = []byte("MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: text/cloud-config\n\nprose: {company: One}\n--b\nContent-Type: text/cloud-config\n\nprose: {company: Two}\n--b--\n")
	other := bareMachine(t, nil)
	if err := other.take(two); err != nil {
		t.Fatal(err)
	}
	if s, _ := settings.Load(other.at); s.Company != "Two" {
		t.Errorf("of two parts %q wins", s.Company)
	}
	// What the owner has changed since stays as it is, until there is another
	// machine or other user-data.
	own := m.path(cloudinit.SettingsDir + "/10-domain.yaml")
	const changed = "domain: example.org\nfederation: false\n"
	if err := os.WriteFile(own, []byte(changed), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"i-1", "i-2"} {
		f.ID = id
		if err := m.take(f); err != nil {
			t.Fatal(err)
		}
		if b, err := os.ReadFile(own); err != nil || (string(b) == changed) != (id == "i-1") {
			t.Errorf("%s: %q, %v", id, b, err)
		}
	}
	for _, p := range []string{cloudinit.SettingsDir, cloudinit.DirectDir} {
		if info, err := os.Stat(m.path(p)); err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("%s: %v, %v", p, info, err)
		}
	}
}

// Where is looked, and where not.
func TestFind(t *testing.T) {
	const config = "#cloud-config\n"
	seed := map[string]string{"/var/lib/cloud/seed/nocloud/user-data": config, "/var/lib/cloud/seed/nocloud/meta-data": "instance-id: i\n"}
	m := bareMachine(t, seed)
	if f, err := m.find(t.Context()); err != nil || f == nil || f.Platform != "NoCloud" || f.ID != "i" {
		t.Errorf("a seed: %+v, %v", f, err)
	}
	// Nobody is asked on a machine whose firmware names no platform.
	m = bareMachine(t, map[string]string{"/sys/class/dmi/id/sys_vendor": "QEMU\n"})
	m.web = nil
	if f, err := m.find(t.Context()); err != nil || f != nil {
		t.Errorf("nowhere: %+v, %v", f, err)
	}
	for _, c := range []struct {
		enabled bool
		id      string
		want    bool
	}{{false, "", false}, {false, "none\n", false}, {true, "", true}, {true, "nocloud\n", true}, {true, "none\n", false}} {
		files := map[string]string{}
		if c.enabled {
			files["/run/cloud-init/enabled"] = ""
		}
		if c.id != "" {
			files["/run/cloud-init/cloud-id"] = c.id
		}
		if got := bareMachine(t, files).hasCloudInit(); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

// A drive is mounted by the kernel, and gone when it was read.
func TestMountedDrive(t *testing.T) {
	m := bareMachine(t, nil)
	broken := m.path("/broken.iso")
	if err := os.WriteFile(broken, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := mount(broken, m.path(runDir+"/drive")); err == nil || !strings.Contains(err.Error(), "mounting") {
		t.Errorf("a file that is no device: %v", err)
	}
}
