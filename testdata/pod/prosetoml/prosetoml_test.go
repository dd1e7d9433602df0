package prosetoml

import (
	"reflect"
	"strings"
	"testing"
)

func TestEnvironment(t *testing.T) {
	tests := []struct {
		raw  string
		want any
	}{
		{"", ""}, {"text", "text"}, {" text ", "text"}, {"true", true}, {"12345", int64(12345)}, {"1.5", 1.5},
		{`"12345"`, "12345"}, {"'a b'", "a b"}, {`["a", "b"]`, []any{"a", "b"}}, {"{a = 1}", map[string]any{"a": int64(1)}},
		{"1.2.3", "1.2.3"}, {"2026-01-01", "2026-01-01"}, {"a # b", "a # b"}, {"1 # b", int64(1)}, {"a\nW = 1", "a\nW = 1"}, {"[", "["},
	}
	for _, test := range tests {
		d, err := parse("file", nil, []string{"OTHER=1", "PROSE_A__B_C=" + test.raw})
		if err != nil {
			t.Errorf("%q: %v", test.raw, err)
			continue
		}
		if got, _ := d.get("a.b_c"); !reflect.DeepEqual(got, test.want) {
			t.Errorf("%q: got %#v, want %#v", test.raw, got, test.want)
		}
	}
}

func TestEnvironmentWins(t *testing.T) {
	d, err := parse("file", []byte("[server]\ndomain = \"a.test\"\nhttp_port = 1\n"), []string{"PROSE_SERVER__DOMAIN=b.test", "prose_log__level=warn", "OTHER_SERVER__DOMAIN=c.test"})
	if err != nil {
		t.Fatal(err)
	}
	if got := d.String("server.domain", ""); got != "b.test" {
		t.Errorf("domain %q", got)
	}
	if got := d.Int("server.http_port", 0); got != 1 {
		t.Errorf("port %d", got)
	}
	if got := d.String("log.level", ""); got != "warn" {
		t.Errorf("level %q", got)
	}
}

var schema = []Key{
	{Path: "server.domain", Kind: Domain},
	{Path: "server.port", Kind: Port},
	{Path: "server.name", Kind: Text, Min: 1, Max: 3},
	{Path: "pod.ipv4", Kind: Addr4},
	{Path: "pod.ipv6", Kind: Addr6},
	{Path: "api.url", Kind: URL},
	{Path: "api.ttl", Kind: Duration},
	{Path: "api.on", Kind: Flag},
	{Path: "api.level", Kind: Enum, OneOf: []string{"a", "b"}},
	{Path: "api.list", Kind: List},
	{Path: "api.min", Kind: Count, Min: 8},
	{Path: "any.*.settings", Kind: Any},
	{Path: "none", Kind: Empty},
}

func TestCheck(t *testing.T) {
	tests := []struct{ text, want string }{
		{"", ""},
		{"[server]\ndomain = \"a.test\"\nport = 65535\nname = \"äöü\"", ""},
		{"[server]\ndomain = \"a..test\"", "invalid value"},
		{"[server]\ndomain = \"-a.test\"", "invalid value"},
		{"[server]\nport = 65536", "invalid value 65536 for key \"default.server.port\" in file TOML file"},
		{"[server]\nport = \"1\"", "found string \"1\", expected an integer"},
		{"[server]\nname = \"abcd\"", "invalid value"},
		{"[server]\nname = \"\"", "invalid value"},
		{"[server]\nname = \"\\n\"", "invalid value"},
		{"[server]\nnam = 1", "unknown field: found `nam`, expected one of `domain`, `name`, `port` for key"},
		{"server = 1", "expected a table"},
		{"srv = 1", "unknown field: found `srv`, expected one of `any`, `api`"},
		{"[pod]\nipv4 = \"::1\"", "invalid value"},
		{"[pod]\nipv4 = \"192.0.2.1\"\nipv6 = \"2001:db8::1\"", ""},
		{"[pod]\nipv6 = \"192.0.2.1\"", "invalid value"},
		{"[api]\nurl = \"https://a.test/\"\nttl = \"PT3H\"\non = true\nlevel = \"a\"\nlist = [\"x\"]\nmin = 8", ""},
		{"[api]\nurl = \"https://a.test/?q\"", "invalid value"},
		{"[api]\nttl = \"3 hours\"", "invalid value"},
		{"[api]\nttl = \"infinite\"", ""},
		{"[api]\nttl = \"P1DT2H\"", ""},
		{"[api]\nttl = \"PT\"", "invalid value"},
		{"[api]\non = 1", "expected a boolean"},
		{"[api]\nlevel = \"c\"", "unknown variant: found `c`"},
		{"[api]\nlist = [1]", "expected a string"},
		{"[api]\nmin = 7", "invalid value 7"},
		{"[any.\"a.test\".settings]\nx = {y = [1, 2]}", ""},
		{"[any.\"a.test\"]\nx = 1", "unknown field: found `x`, expected `settings`"},
		{"[none]", ""},
		{"[none]\nx = 1", "unknown field: found `x`, expected no fields"},
	}
	for _, test := range tests {
		d, err := parse("file", []byte(test.text), nil)
		if err != nil {
			t.Errorf("%q: %v", test.text, err)
			continue
		}
		err = d.Check(schema, "")
		switch {
		case test.want == "" && err != nil:
			t.Errorf("%q: %v", test.text, err)
		case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
			t.Errorf("%q: got %v, want %q", test.text, err, test.want)
		}
	}
}

func TestCheckIgnoresWhatIsNotStrict(t *testing.T) {
	d, err := parse("file", []byte("x = 1\n[server]\nx = 1\n"), []string{"PROSE_API__X=1"})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Check(schema, "pod"); err != nil {
		t.Error(err)
	}
	err = d.Check(schema, "api")
	if err == nil || !strings.Contains(err.Error(), "for key \"default.api.x\" in `PROSE_` environment variable(s)") {
		t.Errorf("got %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("[server]\ndomain = \"a.test\"\n", "PROSE_SERVER__DOMAIN=b.test")
	f.Add("a.b = 1\n", "PROSE_A=[1, {b = 2}]")
	f.Add("a = 1\n", "PROSE_A__B__C=x")
	f.Add("[any.x]\nsettings = 1\n", "PROSE_=")
	f.Add("", "PROSE___=\"")
	f.Fuzz(func(t *testing.T, text, variable string) {
		d, err := parse("file", []byte(text), []string{variable})
		if err != nil {
			return
		}
		first, second := d.Check(schema, ""), d.Check(schema, "")
		if (first == nil) != (second == nil) {
			t.Errorf("two checks differ: %v, %v", first, second)
		}
		d.Table("server")
		d.Strings("api.list")
	})
}
