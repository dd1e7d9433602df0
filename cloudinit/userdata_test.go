package cloudinit

import (
	"strings"
	"testing"
)

const testKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGPKSUTyz1HwHReFVvD5obVsALAgJRNarH4TRpNePnAS"

func TestUserData(t *testing.T) {
	tests := []struct {
		name string
		in   FirstBoot
		want string
	}{
		{"domain alone", FirstBoot{Domain: "example.org"}, `#cloud-config
write_files:
  - path: /etc/prose-firstboot.d/10-domain.yaml
    owner: root:root
    permissions: "0600"
    content: |
      domain: example.org
`},
		{"with a key", FirstBoot{Domain: "chat.example.org", AuthorizedKeys: []string{testKey + " me@\"home\": é\n"}}, `#cloud-config
ssh_authorized_keys:
  - "` + testKey + ` me@\"home\": é"
write_files:
  - path: /etc/prose-firstboot.d/10-domain.yaml
    owner: root:root
    permissions: "0600"
    content: |
      domain: chat.example.org
`},
	}
	for _, tt := range tests {
		got, err := tt.in.UserData()
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
		} else if string(got) != tt.want {
			t.Errorf("%s: got\n%s\nwant\n%s", tt.name, got, tt.want)
		}
	}
}

func TestMetaData(t *testing.T) {
	got, err := FirstBoot{Domain: "example.org"}.MetaData()
	want := "instance-id: prose-example.org\nlocal-hostname: prose.example.org\n"
	if err != nil || string(got) != want {
		t.Errorf("MetaData = %q, %v; want %q", got, err, want)
	}
}

func TestUserDataRefuses(t *testing.T) {
	short := "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGPK"
	tests := []struct {
		name string
		in   FirstBoot
		want string
	}{
		{"bad domain", FirstBoot{Domain: "x"}, "has no dot"},
		{"no domain", FirstBoot{}, "is empty"},
		{"two keys in one", FirstBoot{"a.org", []string{testKey + "\n" + testKey}}, "more than one line"},
		{"private key", FirstBoot{"a.org", []string{"-----BEGIN OPENSSH PRIVATE KEY-----\nabc"}}, "private key"},
		{"a word", FirstBoot{"a.org", []string{"hello"}}, "TYPE BASE64"},
		{"empty", FirstBoot{"a.org", []string{""}}, "TYPE BASE64"},
		{"not base64", FirstBoot{"a.org", []string{"ssh-ed25519 ???"}}, "base64"},
		{"cut short", FirstBoot{"a.org", []string{short}}, "cut short"},
		{"no length", FirstBoot{"a.org", []string{"ssh-ed25519 AAAA"}}, "cut short"},
		{"wrong length", FirstBoot{"a.org", []string{"ssh-ed25519 /////3NzaC1lZDI1NTE5"}}, "cut short"},
		{"wrong type", FirstBoot{"a.org", []string{strings.Replace(testKey, "ssh-ed25519", "ssh-rsa", 1)}}, `says "ssh-rsa" but is "ssh-ed25519"`},
	}
	for _, tt := range tests {
		_, err := tt.in.UserData()
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v, want %q", tt.name, err, tt.want)
		}
		if err != nil && strings.Contains(err.Error(), "PRIVATE") {
			t.Errorf("%s: the error shows the key: %v", tt.name, err)
		}
	}
}

func FuzzCheckAuthorizedKey(f *testing.F) {
	f.Add(testKey)
	f.Add("ssh-ed25519 AAAA")
	f.Add("a b c")
	f.Fuzz(func(t *testing.T, s string) {
		if CheckAuthorizedKey(s) == nil && strings.ContainsAny(s, "\n\r\x00") {
			t.Errorf("CheckAuthorizedKey(%q) = nil", s)
		}
	})
}
