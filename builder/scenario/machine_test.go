package scenario

import (
	"strings"
	"testing"

	"gopkg.in/yaml.v3"

	"github.com/prose-im/prose-image/builder/host"
)

const testKey = "ssh-ed25519 AAAA test"

func TestSeed(t *testing.T) {
	const ca = "-----BEGIN CERTIFICATE-----\nQUJD\n-----END CERTIFICATE-----\n"
	tests := []struct {
		name, source string
		want         map[string]any // settings
		user         string
	}{
		{"nothing", "steps = ['settled']", nil, "#cloud-config\n{}\n"},
		{"settings", "steps = ['settled']\ndomain = 'example.org'\n[settings]\ncompany = 'for {domain}'", map[string]any{
			"domain": "example.org", "company": "for example.org", "acme": map[string]any{"directory": acmeDirectory, "ca": ca}}, ""},
		{"own authority", "steps = ['settled']\n[settings]\ndomain = 'other.example'\nacme = {directory = 'https://x/', contact = 'a@b'}", map[string]any{
			"domain": "other.example", "acme": map[string]any{"directory": "https://x/", "contact": "a@b"}}, ""},
		{"contact only", "steps = ['settled']\n[settings.acme]\ncontact = 'a@b'", map[string]any{
			"domain": "chat.example", "acme": map[string]any{"directory": acmeDirectory, "ca": ca, "contact": "a@b"}}, ""},
		{"user-data", "steps = ['settled']\nuser-data = 'd: {domain} ca: {acme.ca.quoted} {other}'", nil,
			`d: chat.example ca: "-----BEGIN CERTIFICATE-----\nQUJD\n-----END CERTIFICATE-----\n" {other}`},
	}
	for _, tt := range tests {
		s, problems := Parse([]byte(tt.source))
		if problems != nil {
			t.Fatal(tt.name, problems)
		}
		got, err := seedOf(s, testKey, replacer(s, ca))
		if err != nil {
			t.Fatal(tt.name, err)
		}
		if !strings.Contains(string(got.MetaData), `"public-keys":["`+testKey+`"]`) || !strings.Contains(string(got.MetaData), `"public-ipv4":"1.2.3.4"`) || !strings.Contains(string(got.NetworkConfig), "10.0.2.2") {
			t.Errorf("%s: %s\n%s", tt.name, got.MetaData, got.NetworkConfig)
		}
		if tt.user != "" && string(got.UserData) != tt.user {
			t.Errorf("%s: user-data %s", tt.name, got.UserData)
		}
		if tt.want == nil {
			continue
		}
		var config struct {
			WriteFiles []struct{ Path, Permissions, Owner, Content string } `yaml:"write_files"`
		}
		if err := yaml.Unmarshal(got.UserData, &config); err != nil || len(config.WriteFiles) != 1 || !strings.HasPrefix(string(got.UserData), "#cloud-config\n") {
			t.Fatalf("%s: %v\n%s", tt.name, err, got.UserData)
		}
		f := config.WriteFiles[0]
		if f.Path != "/etc/prose-firstboot.d/10-settings.yaml" || f.Permissions != "0600" || f.Owner != "root:root" {
			t.Errorf("%s: %+v", tt.name, f)
		}
		var settings map[string]any
		if err := yaml.Unmarshal([]byte(f.Content), &settings); err != nil {
			t.Fatal(tt.name, err)
		}
		have, _ := yaml.Marshal(settings)
		want, _ := yaml.Marshal(tt.want)
		if string(have) != string(want) {
			t.Errorf("%s: settings\n%s\nwant\n%s", tt.name, have, want)
		}
		if acme, ok := s.Settings["acme"].(map[string]any); ok && tt.name == "contact only" && len(acme) != 1 {
			t.Errorf("%s: the scenario itself was changed: %v", tt.name, acme)
		}
	}
}

func TestExpand(t *testing.T) {
	s := defaults()
	r := &run{Scenario: s, replace: replacer(s, "CA"), saved: map[string]string{"before": "a\nb", "serial.x:443": "no"}}
	const in = "{domain} {address} ${domain} {before} {unknown} {{.Names}} {serial.x:443}"
	if got, want := r.expand(in), "chat.example 1.2.3.4 $chat.example a\nb {unknown} {{.Names}} {serial.x:443}"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestOutcome(t *testing.T) {
	for script, want := range map[string]string{
		"true": "exit=0", "false": "exit=1", "exit 3": "exit=3", "false; echo on": "exit=1", "echo said; no-such-command 2>/dev/null": "exit=127",
	} {
		out, err := host.Output(t.Context(), host.Command{Args: []string{"sh", "-euc", outcome(script)}})
		if lines := strings.Split(strings.TrimSpace(string(out)), "\n"); err != nil || lines[len(lines)-1] != want || strings.Contains(string(out), "on\n") {
			t.Errorf("%s: %v, %q", script, err, out)
		}
	}
}

func TestObscured(t *testing.T) {
	const s = "Canary-0123456789_xyzABC"
	if got := obscured(s); got == s || obscured(got) != s || strings.Contains(got, "anary") {
		t.Errorf("%q", got)
	}
}
