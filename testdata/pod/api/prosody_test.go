package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestProsodyConfigFollowsProseToml(t *testing.T) {
	path := filepath.Join(t.TempDir(), "prose.toml")
	render := func(text string) string {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := loadConfig(path, nil)
		if err != nil {
			t.Fatal(err)
		}
		return prosodyConfig(c)
	}
	plain := render("[server]\ndomain = \"Example.org\"\n")
	for _, want := range []string{
		`VirtualHost "example.org"`, `Component "groups.example.org" "muc"`, `Component "upload.prose.local" "http_file_share"`,
		`http_external_url = "https://prose.example.org/"`, `modules_disabled = { "s2s" }`, `c2s_require_encryption = true`, `log = { info =`,
	} {
		if !strings.Contains(plain, want) {
			t.Errorf("no %s in\n%s", want, plain)
		}
	}
	tests := []struct{ toml, want, not string }{
		{"[server.defaults]\nfederation_enabled = true\n", "modules_disabled = {  }", ""},
		{"[server.defaults]\nfile_upload_allowed = false\n", "", "http_file_share"},
		{"[server.defaults]\nmessage_archive_enabled = false\n", "default_archive_policy = false", ""},
		{"[prosody_ext]\nadditional_modules_enabled = [\"motd\"]\n", `"mam", "motd"`, ""},
		{"[prosody.global.overrides]\ntrusted_proxies = [\"172.18.0.1\"]\nmotd_text = \"a\\\"\\n\"\n", `motd_text = "a\034\010"` + "\n" + `trusted_proxies = { "172.18.0.1" }`, ""},
		{"[prosody.\"example.org\".overrides]\nx = {a = 1, b = [true, 1.5]}\n", `  x = { ["a"] = 1, ["b"] = { true, 1.5 } }`, ""},
	}
	for _, test := range tests {
		got := render("[server]\ndomain = \"example.org\"\n" + test.toml)
		if !strings.Contains(got, test.want) || test.not != "" && strings.Contains(got, test.not) {
			t.Errorf("%q: want %q and not %q in\n%s", test.toml, test.want, test.not, got)
		}
	}
}

// Lua reads decimal escapes of up to three digits, so three it must be.
func TestLuaString(t *testing.T) {
	for s, want := range map[string]string{
		"": `""`, `a"b\c`: `"a\034b\092c"`, "\n1\x00\x7f": `"\0101\000\127"`, "grüße": `"grüße"`, "]]--": `"]]--"`,
	} {
		if got := luaString(s); got != want {
			t.Errorf("%q became %s, want %s", s, got, want)
		}
	}
}
