package settings

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"strings"
	"testing"

	"github.com/prose-im/prose-image/cloudinit"
)

func TestWrittenFiles(t *testing.T) {
	documented, err := cloudinit.FirstBoot{Domain: "example.org"}.UserData()
	if err != nil {
		t.Fatal(err)
	}
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	w.Write([]byte("domain: a.org\n"))
	w.Close()
	at := func(more string) string {
		return "#cloud-config\nwrite_files:\n- path: /etc/prose-firstboot.d/1.yaml\n" + more
	}
	b64 := func(b []byte) string { return base64.StdEncoding.EncodeToString(b) }
	for _, c := range []struct{ name, config, want, err string }{
		{"the documented form", string(documented), "10-domain.yaml: domain: example.org\n", ""},
		{"none", "#cloud-config\nprose: {}\n", "", ""},
		{"base64", at("  encoding: b64\n  content: " + b64([]byte("domain: a.org\n"))), "1.yaml: domain: a.org\n", ""},
		{"gzip in base64", at("  encoding: gz+b64\n  content: " + b64(packed.Bytes())), "1.yaml: domain: a.org\n", ""},
		{"no content", at(""), "1.yaml: ", ""},
		{"elsewhere", "write_files:\n- {path: /etc/shadow, content: x}\n- {path: /etc/prose-firstboot.d/../shadow.yaml, content: x}\n- {path: /etc/prose-firstboot.d/.x.yaml}\n- {path: 7}\n- text\n", "", ""},
		{"not a list", "write_files: 7\n", "", ""},
		{"another encoding", at("  encoding: rot13\n"), "", "encoding"},
		{"no base64", at("  encoding: b64\n  content: '???secret'\n"), "", "no base64"},
		{"no gzip", at("  encoding: gz\n  content: secret\n"), "", "no gzip"},
		{"no YAML", "a: [\n", "", "no YAML"},
	} {
		files, err := WrittenFiles([]byte(c.config))
		var got []string
		for _, f := range files {
			got = append(got, f.Name+": "+string(f.Text))
		}
		if strings.Join(got, "|") != c.want || (err == nil) != (c.err == "") || err != nil && (!strings.Contains(err.Error(), c.err) || strings.Contains(err.Error(), "secret")) {
			t.Errorf("%s: %q, %v; want %q, %q", c.name, got, err, c.want, c.err)
		}
	}
}

func FuzzWrittenFiles(f *testing.F) {
	f.Add([]byte("write_files:\n- path: /etc/prose-firstboot.d/1.yaml\n  encoding: gz+b64\n  content: x\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		files, _ := WrittenFiles(text)
		for _, w := range files {
			if strings.ContainsRune(w.Name, '/') || !strings.HasSuffix(w.Name, ".yaml") && !strings.HasSuffix(w.Name, ".json") {
				t.Errorf("a file named %q", w.Name)
			}
		}
	})
}
