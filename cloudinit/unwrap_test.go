package cloudinit

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"strings"
	"testing"
)

func zip(data []byte) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	w.Write(data)
	w.Close()
	return b.Bytes()
}

func TestCloudConfigs(t *testing.T) {
	mime := "Content-Type: multipart/mixed; boundary=\"==\"\nMIME-Version: 1.0\n\n--==\nContent-Type: text/x-shellscript\n\n#!/bin/sh\n--==\nContent-Type: text/cloud-config\n\na: 1\n--==\n" +
		"Content-Type: text/plain\nContent-Transfer-Encoding: base64\n\n" + base64.StdEncoding.EncodeToString([]byte(config)) + "\n--==--\n"
	for _, c := range []struct {
		name string
		data []byte
		want []string
		err  string
	}{
		{name: "nothing"},
		{name: "plain", data: []byte(config), want: []string{config}},
		{name: "a script", data: []byte("#!/bin/sh\n")},
		{name: "an include", data: []byte("#include\nhttp://a/\n")},
		{name: "a template of cloud-init's", data: []byte("## template: jinja\n#cloud-config\n")},
		{name: "gzip", data: zip([]byte(config)), want: []string{config}},
		{name: "base64", data: []byte(base64.StdEncoding.EncodeToString([]byte(config)) + "\n"), want: []string{config}},
		{name: "gzip in base64", data: []byte(base64.StdEncoding.EncodeToString(zip([]byte(config)))), want: []string{config}},
		{name: "MIME", data: []byte(mime), want: []string{"a: 1", config}},
		{name: "MIME in gzip", data: zip([]byte(mime)), want: []string{"a: 1", config}},
		{name: "MIME without an end", data: []byte(mime[:len(mime)-8]), err: "ends too early"},
		{name: "some text", data: []byte("hello, world")},
		{name: "half a gzip", data: zip([]byte(config))[:20], err: "broken gzip"},
		{name: "a small gzip of much", data: zip(make([]byte, MaxInput+1)), err: "larger than"},
		{name: "gzip in gzip in gzip", data: zip(zip(zip(zip(zip(zip([]byte(config))))))), err: "wrapped more than"},
	} {
		got, err := CloudConfigs(c.data)
		if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %v, want %q", c.name, err, c.err)
		}
		if string(bytes.Join(got, []byte("|"))) != strings.Join(c.want, "|") {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func FuzzCloudConfigs(f *testing.F) {
	f.Add([]byte(config))
	f.Add(zip([]byte(config)))
	f.Add([]byte("MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\nx\n--b--\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		configs, err := CloudConfigs(data)
		if err != nil && len(configs) > 0 {
			t.Errorf("an error and %d configs", len(configs))
		}
		flat(data)
		_, _ = novaMetaData(data)
		novaVendorData(data)
	})
}
