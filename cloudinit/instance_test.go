package cloudinit

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// plant writes files below a new root.
func plant(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for path, text := range files {
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if target, ok := strings.CutPrefix(text, "-> "); ok {
			if err := os.Symlink(target, path); err != nil {
				t.Fatal(err)
			}
		} else if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestReadInstance(t *testing.T) {
	tests := []struct {
		name     string
		files    map[string]string
		combined string
		configs  []string // paths
		meta     string
		command  string
		err      string
	}{
		{name: "nothing"},
		{name: "all", files: map[string]string{
			CombinedFile:              `{"prose": {"domain": "a.org"}}`,
			"/var/lib/cloud/instance": "-> /var/lib/cloud/instances/i-1",
			"/var/lib/cloud/instances/i-1/cloud-config.txt": "prose: {}",
			InstanceDataFile: `{"ds": {"meta_data": {"prose-domain": "m.org"}}}`,
			CommandLineFile:  "root=/dev/vda3 prose.domain=c.org quiet\n",
		}, combined: `{"prose": {"domain": "a.org"}}`, meta: "m.org", command: "c.org"},
		{name: "an older cloud-init", files: map[string]string{
			"/var/lib/cloud/instance":                               "-> /var/lib/cloud/instances/i-1",
			"/var/lib/cloud/instances/i-1/cloud-config.txt":         "#cloud-config\nprose: {}\n",
			"/var/lib/cloud/instances/i-1/vendor-cloud-config.txt":  "#cloud-config\n",
			"/var/lib/cloud/instances/i-1/vendor2-cloud-config.txt": "",
			"/var/lib/cloud/instances/i-0/cloud-config.txt":         "prose: {domain: of.another.org}\n",
		}, configs: []string{"/var/lib/cloud/instances/i-1/cloud-config.txt", "/var/lib/cloud/instances/i-1/vendor-cloud-config.txt"}},
		{name: "an empty combined file", files: map[string]string{
			CombinedFile:              " \n",
			"/var/lib/cloud/instance": "-> ./instances/i-1",
			"/var/lib/cloud/instances/i-1/cloud-config.txt": "x",
		}, configs: []string{"/var/lib/cloud/instances/i-1/cloud-config.txt"}},
		{name: "an instance that is not there", files: map[string]string{"/var/lib/cloud/instance": "-> /var/lib/cloud/instances/i-1"}},
		{name: "an instance link to elsewhere", files: map[string]string{"/var/lib/cloud/instance": "-> ..", "/var/lib/cloud/cloud-config.txt": "x"}},
		{name: "broken instance data", files: map[string]string{InstanceDataFile: "<html>", CommandLineFile: "prose.domain=c.org"},
			command: "c.org", err: "reading " + InstanceDataFile + ": no JSON after byte 1"},
		{name: "a combined file that is a link", files: map[string]string{CombinedFile: "-> /etc/shadow"}, err: "reading " + CombinedFile},
		{name: "too large", files: map[string]string{CommandLineFile: strings.Repeat("x ", MaxInput)}, err: "larger than"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in, err := ReadInstance(plant(t, tt.files))
			if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("error %v, want %q", err, tt.err)
			}
			var configs []string
			for _, c := range in.Configs {
				configs = append(configs, c.Path)
			}
			if string(in.Combined.Text) != tt.combined || strings.Join(configs, " ") != strings.Join(tt.configs, " ") ||
				in.MetaDomain != tt.meta || in.CommandLineDomain != tt.command {
				t.Errorf("got %q %q %q %q", in.Combined.Text, configs, in.MetaDomain, in.CommandLineDomain)
			}
		})
	}
}

func TestReadInstanceDoesNotWait(t *testing.T) {
	root := plant(t, map[string]string{InstanceDataFile: ""})
	path := filepath.Join(root, CombinedFile)
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadInstance(root); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("a fifo: %v", err)
	}
}

func TestMetaDomain(t *testing.T) {
	tests := []struct{ data, want, err string }{
		{`{}`, "", ""},
		{`{"ds": {"meta_data": {"instance-id": "i", "prose-domain": "a.org"}}}`, "a.org", ""},
		{`{"ds": {"meta_data": {"uuid": "i", "meta": {"prose-domain": "a.org"}}}}`, "a.org", ""},
		{`{"ds": {"meta_data": {"prose-domain": "a.org", "meta": {"prose-domain": "b.org"}}}}`, "a.org", ""},
		{`{"ds": {"meta_data": {"meta": "text"}}}`, "", ""},
		{`{"ds": {"meta_data": "text"}}`, "", ""},
		{`{"ds": {"meta_data": null}}`, "", ""},
		{`{"ds": {"meta_data": {"prose-domain": 7}}}`, "", "not a string"},
		{`{"ds": {"meta_data": {"prose-domain": {"a": 1}}}}`, "", "not a string"},
		{`{"ds": 1}`, "", "not the JSON"},
		{`[]`, "", "not the JSON"},
		{``, "", "no JSON"},
	}
	for _, tt := range tests {
		got, err := MetaDomain([]byte(tt.data))
		if got != tt.want || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("MetaDomain(%s) = %q, %v; want %q, %q", tt.data, got, err, tt.want, tt.err)
		}
	}
}

func TestKernelParameter(t *testing.T) {
	tests := []struct {
		line, want string
		ok         bool
	}{
		{"", "", false},
		{"prose.domain=a.org", "a.org", true},
		{"BOOT_IMAGE=/vmlinuz ro prose.domain=a.org\n", "a.org", true},
		{"prose.domain=a.org prose.domain=b.org", "b.org", true},
		{"prose.domain=", "", true},
		{"prose.domain", "", false},
		{"xprose.domain=a.org", "", false},
		{"prose.domainx=a.org", "", false},
		{`prose.domain="a.org"`, "a.org", true},
		{`"prose.domain=a.org"`, "a.org", true},
		{`x="1 prose.domain=a.org"`, "", false},
		{"x -- prose.domain=a.org", "", false},
		{"prose.domain=a.org -- prose.domain=b.org", "a.org", true},
		{`prose.domain="a.org`, "", false}, // the quote never ends
	}
	for _, tt := range tests {
		if got, ok := KernelParameter(tt.line, "prose.domain"); got != tt.want || ok != tt.ok {
			t.Errorf("KernelParameter(%q) = %q, %v; want %q, %v", tt.line, got, ok, tt.want, tt.ok)
		}
	}
}

func FuzzInstance(f *testing.F) {
	f.Add([]byte(`{"ds": {"meta_data": {"prose-domain": "a.org"}}, "prose": 1}`))
	f.Add([]byte(`prose.domain="a b" -- x`))
	f.Fuzz(func(t *testing.T, text []byte) {
		_, _ = MetaDomain(text)
		_, _ = CloudConfigProse(text)
		if v, ok := KernelParameter(string(text), "prose.domain"); ok && !strings.Contains(string(text), "prose.domain") && !strings.Contains(string(text), `"`) {
			t.Errorf("%q from nothing", v)
		}
	})
}

func TestPublicAddresses(t *testing.T) {
	for data, want := range map[string]string{
		`{"ds":{"meta_data":{"public-ipv4":"1.2.3.4","local-ipv4":"10.0.0.1"}}}`:                                                                 "[1.2.3.4]",
		`{"ds":{"meta_data":{"network":{"interfaces":{"macs":{"m":{"public-ipv4s":["1.2.3.4","1.2.3.5"],"ipv6s":"fe80::1"}}}}}}}`:                "[1.2.3.4 1.2.3.5]",
		`{"ds":{"meta_data":{"imds":{"network":{"interface":[{"ipv4":{"ipAddress":[{"publicIpAddress":"1.2.3.4","privateIpAddress":""}]}}]}}}}}`: "[1.2.3.4]",
		`{"ds":{"meta_data":{"public_ipv6":"2a01::1","public-keys":"1.2.3.4","publicity":"5.6.7.8"}}}`:                                           "[2a01::1]",
		`{"ds":{"meta_data":{"public-ipv4":"not yet"}}}`:                                                                                         "[]",
		`{"ds":{"meta_data":"odd"}}`: "[]",
		`[`:                          "[]",
	} {
		if got := fmt.Sprint(PublicAddresses([]byte(data))); got != want {
			t.Errorf("%s: %s, want %s", data, got, want)
		}
	}
}
