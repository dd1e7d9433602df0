package cloudinit

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// web asks a server of the test's instead of the platform.
func web(t *testing.T, limit time.Duration, h http.HandlerFunc) *Web {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	ctx, cancel := context.WithTimeoutCause(t.Context(), limit, errors.New("the time is over"))
	t.Cleanup(cancel)
	w := NewWeb(ctx)
	w.base, w.pause = s.URL, time.Millisecond
	return w
}

// paths answers what a map has, by method and path, and insists on headers:
// "GET /x" or "GET /x Name: value".
func paths(t *testing.T, answers map[string]string) http.HandlerFunc {
	return func(rw http.ResponseWriter, r *http.Request) {
		for key, body := range answers {
			question, header, _ := strings.Cut(key, " with ")
			name, value, _ := strings.Cut(header, ": ")
			if question == r.Method+" "+r.URL.Path && (header == "" || r.Header.Get(name) == value) {
				io.WriteString(rw, body)
				return
			}
		}
		http.NotFound(rw, r)
	}
}

const config = "#cloud-config\nprose: {domain: example.org}\n"

func TestServices(t *testing.T) {
	packed := base64.StdEncoding.EncodeToString([]byte(config))
	quoted := fmt.Sprintf("%q", config)
	for _, c := range []struct {
		dmi     DMI
		name    string
		answers map[string]string
		public  string
		domain  string
	}{
		{DMI{UUID: "ec2b1c2d-0000"}, "Ec2", map[string]string{
			"PUT /latest/api/token with X-Aws-Ec2-Metadata-Token-Ttl-Seconds: 600":        "secret\n",
			"GET /2021-03-23/user-data with X-Aws-Ec2-Metadata-Token: secret":             config,
			"GET /2021-03-23/meta-data/instance-id with X-Aws-Ec2-Metadata-Token: secret": "i-1",
			"GET /2021-03-23/meta-data/public-ipv4 with X-Aws-Ec2-Metadata-Token: secret": "1.2.3.4",
			"GET /latest/user-data": "never asked without a token",
		}, "[1.2.3.4]", ""},
		{DMI{Vendor: "DigitalOcean"}, "DigitalOcean", map[string]string{
			"GET /metadata/v1.json": `{"droplet_id": 1, "user_data": ` + quoted + `, "interfaces": {"public": [{"ipv4": {"ip_address": "1.2.3.4"}, "ipv6": {"ip_address": "2a01::4"}}]}}`,
		}, "[1.2.3.4 2a01::4]", ""},
		{DMI{Product: "Google Compute Engine"}, "GCE", map[string]string{
			"GET /computeMetadata/v1/instance/id with Metadata-Flavor: Google":                                                "1",
			"GET /computeMetadata/v1/instance/attributes/user-data with Metadata-Flavor: Google":                              packed,
			"GET /computeMetadata/v1/instance/attributes/user-data-encoding with Metadata-Flavor: Google":                     "base64",
			"GET /computeMetadata/v1/instance/attributes/prose-domain with Metadata-Flavor: Google":                           "m.example",
			"GET /computeMetadata/v1/instance/network-interfaces/0/access-configs/0/external-ip with Metadata-Flavor: Google": "1.2.3.4",
		}, "[1.2.3.4]", "m.example"},
		{DMI{Vendor: "Hetzner"}, "Hetzner", map[string]string{
			"GET /hetzner/v1/userdata": config, "GET /hetzner/v1/metadata/instance-id": "1\n", "GET /hetzner/v1/metadata/public-ipv4": "1.2.3.4",
		}, "[1.2.3.4]", ""},
		{DMI{Product: "OpenStack Nova"}, "OpenStack", map[string]string{
			"GET /openstack/latest/meta_data.json": `{"uuid": "u", "meta": {"prose-domain": "m.example"}}`,
			"GET /openstack/latest/user_data":      config, "GET /openstack/latest/vendor_data.json": `{"cloud-init": "#cloud-config\n"}`,
		}, "[]", "m.example"},
		{DMI{Vendor: "Vultr"}, "Vultr", map[string]string{
			"GET /v1.json with Metadata-Token: cloudinit": `{"instance-v2-id": "v", "user-data": ` + quoted + `, "interfaces": [{"network-type": "public", "ipv4": {"address": "1.2.3.4"}}, {"network-type": "private", "ipv4": {"address": "10.0.0.1"}}]}`,
		}, "[1.2.3.4]", ""},
		{DMI{Vendor: "UpCloud"}, "UpCloud", map[string]string{"GET /metadata/v1.json": `{"instance_id": "c", "user_data": ` + quoted + `}`}, "[]", ""},
		{DMI{Product: "Exoscale Compute Platform"}, "Exoscale", map[string]string{
			"GET /1.0/user-data": config, "GET /1.0/meta-data/instance-id": "x", "GET /1.0/meta-data/public-ipv4": "1.2.3.4",
		}, "[1.2.3.4]", ""},
		{DMI{Vendor: "Linode"}, "Akamai", map[string]string{
			"PUT /v1/token with Metadata-Token-Expiry-Seconds: 300": "tok",
			"GET /v1/instance with Metadata-Token: tok":             `{"id": 7}`,
			"GET /v1/user-data with Metadata-Token: tok":            packed,
		}, "[]", ""},
	} {
		s := ServiceOf(c.dmi)
		if s == nil || s.Name != c.name {
			t.Errorf("%+v is %v, want %s", c.dmi, s, c.name)
			continue
		}
		f, err := s.Fetch(web(t, 10*time.Second, paths(t, c.answers)))
		if err != nil || string(f.UserData) != config || f.ID == "" || strings.ContainsAny(f.ID, "\n ") || fmt.Sprint(f.Public) != c.public || f.Domain != c.domain {
			t.Errorf("%s: %+v, %v", c.name, f, err)
		}
		// A machine without user-data is no fault.
		if _, err := s.Fetch(web(t, 10*time.Second, func(rw http.ResponseWriter, r *http.Request) {
			switch {
			case r.Method == http.MethodPut:
				io.WriteString(rw, "token")
			case strings.HasSuffix(r.URL.Path, "json"), r.URL.Path == "/v1/instance":
				io.WriteString(rw, "{}")
			default:
				http.NotFound(rw, r)
			}
		})); err != nil {
			t.Errorf("%s without user-data: %v", c.name, err)
		}
	}
	for _, nowhere := range []DMI{{}, {Vendor: "QEMU", Product: "Standard PC (i440FX + PIIX, 1996)"}, {Vendor: "Raspberry Pi"}} {
		if s := ServiceOf(nowhere); s != nil {
			t.Errorf("%+v: %s would be asked", nowhere, s.Name)
		}
	}
}

// Answers that no platform gives are not taken for user-data, and asked for
// again until the time is over.
func TestStrangeAnswers(t *testing.T) {
	for _, c := range []struct {
		name, want string
		answer     http.HandlerFunc
	}{
		{"a login page", "a web page", func(rw http.ResponseWriter, _ *http.Request) { io.WriteString(rw, "\n<!DOCTYPE html><title>Log in") }},
		{"a redirect to one", "a redirect", func(rw http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/login" {
				t.Error("the redirect was followed")
			}
			http.Redirect(rw, r, "/login", http.StatusFound)
		}},
		{"a gateway's error", "status 502", func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(http.StatusBadGateway) }},
		{"half an answer", "unexpected EOF", func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Content-Length", "100")
			io.WriteString(rw, "half")
		}},
		{"silence", "time is over", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }},
	} {
		var asked atomic.Int32
		var over context.CancelCauseFunc
		w := web(t, time.Minute, func(rw http.ResponseWriter, r *http.Request) {
			if asked.Add(1) > 2 || c.name == "silence" {
				over(errors.New("the time is over"))
			}
			c.answer(rw, r)
		})
		w.ctx, over = context.WithCancelCause(w.ctx)
		f, err := hetzner.Fetch(w)
		if err == nil || !strings.Contains(err.Error(), c.want) || len(f.UserData) > 0 {
			t.Errorf("%s: %q, %v; want %q", c.name, f.UserData, err, c.want)
		}
		over(nil)
		if c.name != "silence" && asked.Load() < 3 {
			t.Errorf("%s: asked %d times", c.name, asked.Load())
		}
	}
	// Too much is not asked for again.
	w := web(t, 10*time.Second, func(rw http.ResponseWriter, _ *http.Request) {
		for range MaxInput/1024 + 2 {
			io.WriteString(rw, strings.Repeat("x", 1024))
		}
	})
	if _, err := hetzner.Fetch(w); err == nil || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("too large: %v", err)
	}
	// A network that comes late.
	var n atomic.Int32
	w = web(t, 10*time.Second, func(rw http.ResponseWriter, _ *http.Request) {
		if n.Add(1) < 3 {
			rw.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		io.WriteString(rw, config)
	})
	if b, err := w.get("/"); err != nil || string(b) != config {
		t.Errorf("after two failures: %q, %v", b, err)
	}
}

// The environment's proxy is never asked: it would see secrets, and could make
// some up.
func TestNoProxy(t *testing.T) {
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
	tr, ok := NewWeb(t.Context()).client.Transport.(*http.Transport)
	if !ok || tr.Proxy != nil {
		t.Error("a proxy may be asked")
	}
}

func TestDMI(t *testing.T) {
	root := plant(t, map[string]string{"/sys/class/dmi/id/sys_vendor": "Hetzner\n", "/sys/class/dmi/id/product_name": "vServer\n", "/sys/class/dmi/id/product_uuid": "x\n"})
	if got := ReadDMI(root); got != (DMI{Vendor: "Hetzner", Product: "vServer", UUID: "x"}) {
		t.Errorf("%+v", got)
	}
	if got := ReadDMI(t.TempDir()); got != (DMI{}) {
		t.Errorf("of nothing: %+v", got)
	}
}

func TestDrives(t *testing.T) {
	read := func(name string, files map[string]string) (Found, error) {
		t.Helper()
		root, err := os.OpenRoot(plant(t, files))
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()
		for _, d := range Drives {
			if d.Name == name {
				return d.Read(root)
			}
		}
		t.Fatalf("no drive %s", name)
		return Found{}, nil
	}
	f, err := read("NoCloud", map[string]string{"user-data": config, "vendor-data": "#cloud-config\n",
		"meta-data": "# of ours\ninstance-id: \"i-1\"  # a comment\nprose-domain: example.org\npublic-ipv4: 1.2.3.4\nnested:\n  instance-id: no\nurl:no\n"})
	if err != nil || string(f.UserData) != config || f.ID != "i-1" || f.Domain != "example.org" || fmt.Sprint(f.Public) != "[1.2.3.4]" || len(f.VendorData) == 0 {
		t.Errorf("NoCloud: %+v, %v", f, err)
	}
	if f, err := read("NoCloud", map[string]string{"user-data": "", "meta-data": `{"instance-id": "j", "n": 1}`}); err != nil || f.ID != "j" {
		t.Errorf("NoCloud with JSON: %+v, %v", f, err)
	}
	f, err = read("ConfigDrive", map[string]string{"openstack/latest/user_data": config, "openstack/latest/meta_data.json": `{"uuid": "u", "meta": {"prose-domain": "a.org"}}`, "openstack/latest/vendor_data.json": `"#cloud-config"`})
	if err != nil || string(f.UserData) != config || f.ID != "u" || f.Domain != "a.org" || string(f.VendorData) != "#cloud-config" {
		t.Errorf("ConfigDrive: %+v, %v", f, err)
	}
	for name, files := range map[string]map[string]string{
		"NoCloud":     {"user-data": config},
		"ConfigDrive": {"user-data": config, "meta-data": ""},
	} {
		if _, err := read(name, files); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s of half a drive: %v", name, err)
		}
	}
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	if f, err := read("NoCloud", map[string]string{"user-data": "-> " + secret, "meta-data": ""}); err == nil {
		t.Errorf("a link out of the drive was followed: %+v", f)
	}
	if _, err := read("NoCloud", map[string]string{"user-data": strings.Repeat("x", MaxInput+1), "meta-data": ""}); err == nil || !strings.Contains(err.Error(), "larger") {
		t.Errorf("too large: %v", err)
	}
	if _, err := read("ConfigDrive", map[string]string{"openstack/latest/meta_data.json": "<html>"}); err == nil {
		t.Error("meta_data.json of HTML was read")
	}
}
