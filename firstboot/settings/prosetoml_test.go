package settings

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/pelletier/go-toml/v2"
)

const template = "# All keys\n\n[server]\n# Fixed.\ndomain = \"{your_domain}\"\n\n[api]\naddress = \"::\"\n"

func TestProseTOML(t *testing.T) {
	least := Defaults()
	least.Domain = "example.org"
	mail := least
	mail.SMTP.Host = "smtp.example.org"
	all := mail
	all.Company = "Bücher & \"Co\" \\ ]] # '''\u2028{your_domain}"
	all.Federation = true
	all.SMTP = SMTP{"smtp.example.org", 2525, "prose@example.org", NewSecret("\"\"\"\\u0041'''\t# = [x]\U0001f511"), false}
	all.Admin = Account{"alice", NewSecret("correct horse battery"), "Alice"}
	all.ACME.EAB = EAB{"kid", NewSecret("hmac")}
	nobody := mail
	nobody.SMTP.Host = ""
	nobody.SMTP.Username, nobody.SMTP.Password = "who", NewSecret("cares")

	for name, s := range map[string]Settings{"least": least, "mail": mail, "all": all, "no server": nobody} {
		t.Run(name, func(t *testing.T) {
			got, err := s.ProseTOML([]byte(template))
			if err != nil {
				t.Fatal(err)
			}
			golden(t, "testdata/prose-toml/"+strings.ReplaceAll(name, " ", "-")+".toml", string(got))
			again, err := s.ProseTOML([]byte(template))
			if err != nil || string(again) != string(got) {
				t.Errorf("a second time it differs: %v\n%s", err, again)
			}
			for _, secret := range []Secret{s.Admin.Password, s.ACME.EAB.HMAC} {
				if secret.IsSet() && strings.Contains(string(got), secret.Reveal()) {
					t.Errorf("a secret of ours is in it:\n%s", got)
				}
			}
			var back map[string]any
			if err := toml.Unmarshal(got, &back); err != nil {
				t.Fatal(err)
			}
			server := map[string]any{"domain": "example.org"}
			want := map[string]any{"server": server, "api": map[string]any{"address": "::"}}
			if s.Federation {
				server["defaults"] = map[string]any{"federation_enabled": true}
			}
			if s.Company != "" {
				want["branding"] = map[string]any{"company_name": s.Company}
			}
			if s.SMTP.Host != "" {
				email := map[string]any{"smtp_host": s.SMTP.Host, "smtp_port": int64(s.SMTP.Port), "smtp_encrypt": s.SMTP.Encrypt}
				if s.SMTP.Username != "" {
					email["smtp_username"], email["smtp_password"] = s.SMTP.Username, s.SMTP.Password.Reveal()
				}
				want["notifiers"] = map[string]any{"email": email}
			}
			if !reflect.DeepEqual(back, want) {
				t.Errorf("reads as %v\nwant %v", back, want)
			}
		})
	}
}

func TestProseTOMLOfOtherTemplates(t *testing.T) {
	s := Defaults()
	s.Domain, s.Company = "example.org", "Prose"
	tests := []struct{ template, has, err string }{
		{"", "domain = 'example.org'", ""},
		{"[branding]\ncompany_name = 'x'\napi_app_name = 'Pod of {your_domain}'", "api_app_name = 'Pod of example.org'\ncompany_name = 'Prose'", ""},
		{"server.domain = 'other.org'", "domain = 'example.org'", ""},
		{"[dashboard]\nurl = 'https://{your_company}/'", "", "url: there is a placeholder"},
		{"[server", "", "reading the template"},
		{"[public_contacts]\nadmin = ['xmpp:a@{your_domain}']\n[api]\nport = 1", "admin = ['xmpp:a@example.org']", ""},
		{"[public_contacts]\nadmin = ['{your_name}']", "", "admin: there is a placeholder"},
		{"[server.defaults]\nfederation_enabled = true", "federation_enabled = false", ""},
	}
	for _, tt := range tests {
		got, err := s.ProseTOML([]byte(tt.template))
		if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) || !strings.Contains(string(got), tt.has) {
			t.Errorf("%q: %v\n%s", tt.template, err, got)
		}
	}
	if _, err := (&Settings{}).ProseTOML([]byte(template)); err == nil {
		t.Error("rendered without a domain")
	}
}

// The templates of our own bundles have nothing that is left unfilled.
func TestProseTOMLOfOurBundles(t *testing.T) {
	files, err := filepath.Glob("../../overlays/pod*/prose.toml.tmpl")
	if err != nil || len(files) < 2 {
		t.Fatal("no templates", err)
	}
	s := Defaults()
	s.Domain = "example.org"
	for _, file := range files {
		src, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := s.ProseTOML(src); err != nil || !strings.Contains(string(got), "example.org") {
			t.Errorf("%s: %v\n%s", file, err, got)
		}
	}
}
