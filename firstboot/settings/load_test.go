package settings

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"flag"
	"fmt"
	"io/fs"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"

	"github.com/prose-im/prose-image/cloudinit"
)

var update = flag.Bool("update", false, "rewrite goldens")

const dir = cloudinit.SettingsDir

// plant writes files below a new root, as cloud-init and the owner would.
func plant(t *testing.T, files map[string]string) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Fatal("this test must run as root: settings belong to root")
	}
	root := t.TempDir()
	for path, text := range files {
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
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

const full = `
domain: example.org
company: "Bücher & \"Co\""
federation: true
admin: {username: alice, password: correct horse battery, nickname: Alice}
smtp:
  host: smtp.example.org
  port: 2525
  username: prose@example.org
  password: "hunter2"
  encrypt: false
acme:
  directory: https://ca.example.org/dir
  contact: me@example.org
  profile: shortlived
  ca: |
%s
  eab:
    kid: kid-1
    hmac: c2VjcmV0LWhtYWM
analytics: true
apex:
  method: own
  chain: |
%s
  key: |
%s
network:
  ipv6: false
  resolvers: [192.0.2.53, "2001:db8::53"]
allow:
  ssh:
    - 192.0.2.0/24
  dashboard: 192.0.2.7, 2001:db8::/32
alerts:
  mail: ops@example.org
  webhook: https://hooks.example.org/t0ken
`

func indented(text string) string {
	return "    " + strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n    ")
}

func certificate(t testing.TB) string {
	t.Helper()
	b, err := os.ReadFile("testdata/ca.pem")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// ownPair is a certificate of an owner's and its key.
func ownPair(t testing.TB) (chain, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(7), DNSNames: []string{"example.org"}}
	der, err := x509.CreateCertificate(rand.Reader, c, c, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}))
}

func TestEveryKeyIsSet(t *testing.T) {
	ca := certificate(t)
	chain, key := ownPair(t)
	s, r := Load(plant(t, map[string]string{dir + "/a.yaml": fmt.Sprintf(full, indented(ca), indented(chain), indented(key))}))
	if r.Problems != nil || r.Conflicts != nil {
		t.Fatal(r.Draw(), r.Conflicts)
	}
	want := Settings{Domain: "example.org", Company: `Bücher & "Co"`, Federation: true,
		Admin:     Account{"alice", NewSecret("correct horse battery"), "Alice"},
		SMTP:      SMTP{"smtp.example.org", 2525, "prose@example.org", NewSecret("hunter2"), false},
		ACME:      ACME{"https://ca.example.org/dir", strings.TrimSpace(ca) + "\n", "me@example.org", "shortlived", EAB{"kid-1", NewSecret("c2VjcmV0LWhtYWM")}},
		Analytics: true,
		Apex:      Apex{OwnPair, chain, NewSecret(key)},
		Network:   Network{false, []string{"192.0.2.53", "2001:db8::53"}},
		Allow:     Allow{[]string{"192.0.2.0/24"}, []string{"192.0.2.7", "2001:db8::/32"}},
		Alerts:    Alerts{"ops@example.org", NewSecret("https://hooks.example.org/t0ken")}}
	if !reflect.DeepEqual(s, want) {
		t.Errorf("got  %+v\nwant %+v", s, want)
	}
	def := Defaults()
	for i := range Keys {
		k := &Keys[i]
		if k.get(&s) == k.get(&def) {
			t.Errorf("this test does not set %s", k.Name)
		}
		if at := r.From[k.Name]; at.Path != dir+"/a.yaml" || at.Line == 0 || at.Source != Files {
			t.Errorf("%s is from %+v", k.Name, at)
		}
	}
	// Every field of the struct is some key's.
	fields := 0
	var count func(reflect.Type)
	count = func(v reflect.Type) {
		for i := range v.NumField() {
			if f := v.Field(i).Type; f.Kind() == reflect.Struct && f != reflect.TypeFor[Secret]() {
				count(f)
			} else {
				fields++
			}
		}
	}
	count(reflect.TypeFor[Settings]())
	if fields != len(Keys) {
		t.Errorf("%d fields, %d keys", fields, len(Keys))
	}
}

func TestTable(t *testing.T) {
	s := Defaults()
	seen := map[any]string{}
	for i := range Keys {
		k := &Keys[i]
		field := k.field(&s)
		if other := seen[field]; other != "" {
			t.Errorf("%s and %s set the same", k.Name, other)
		}
		seen[field] = k.Name
		if k.Needs != "" && Find(k.Needs) == nil {
			t.Errorf("%s needs %q, which is no key", k.Name, k.Needs)
		}
		if k.Sources&Files == 0 {
			t.Errorf("%s cannot come from files", k.Name)
		}
		if beyond := k.Sources & (Metadata | CommandLine); beyond != 0 && k.Name != "domain" {
			t.Errorf("%s may come from %v", k.Name, beyond)
		}
		if _, secret := field.(*Secret); secret != k.Secret {
			t.Errorf("%s: secret %v, field %T", k.Name, k.Secret, field)
		}
		want := map[string]Kind{"*string": Text, "*int": Number, "*bool": Bool, "*settings.Secret": Text, "*[]string": List}[fmt.Sprintf("%T", field)]
		if k.Kind != want && !(k.Kind == PEM && want == Text) {
			t.Errorf("%s: kind %s, field %T", k.Name, k.Kind, field)
		}
		if k.Doc == "" || strings.HasSuffix(k.Doc, ".") {
			t.Errorf("%s: doc %q", k.Name, k.Doc)
		}
	}
}

// Each of the sources, and which of them counts.
func TestSources(t *testing.T) {
	const (
		combined = `{"prose": {"domain": "cloud.org", "company": "C"}, "users": [1]}`
		meta     = `{"ds": {"meta_data": {"prose-domain": "meta.org"}}}`
		cmdline  = "ro prose.domain=kernel.org"
		instance = "/var/lib/cloud/instances/i"
	)
	tests := []struct {
		name      string
		files     map[string]string
		domain    string
		from      string
		conflicts []string
	}{
		{name: "none"},
		{name: "an empty directory", files: map[string]string{dir + "/.keep": ""}},
		{name: "an empty file", files: map[string]string{dir + "/a.yaml": "# nothing\n"}},
		{name: "kernel", files: map[string]string{cloudinit.CommandLineFile: cmdline}, domain: "kernel.org", from: "prose.domain on the kernel's command line"},
		{name: "metadata over kernel", files: map[string]string{cloudinit.CommandLineFile: cmdline, cloudinit.InstanceDataFile: meta},
			domain: "meta.org", from: "prose-domain in the platform's metadata",
			conflicts: []string{"domain: prose-domain in the platform's metadata counts, prose.domain on the kernel's command line says something else"}},
		{name: "cloud-config over both", files: map[string]string{cloudinit.CommandLineFile: cmdline, cloudinit.InstanceDataFile: meta, cloudinit.CombinedFile: combined},
			domain: "cloud.org", from: "prose: in cloud-config",
			conflicts: []string{
				"domain: prose: in cloud-config counts, prose-domain in the platform's metadata says something else",
				"domain: prose: in cloud-config counts, prose.domain on the kernel's command line says something else"}},
		{name: "files over all", files: map[string]string{cloudinit.CombinedFile: combined, dir + "/b.json": "{\n\"domain\": \"b.org\"}", dir + "/a.yaml": "\n\ndomain: a.org"},
			domain: "a.org", from: dir + "/a.yaml:3",
			conflicts: []string{
				"domain: " + dir + "/a.yaml:3 counts, " + dir + "/b.json:2 says something else",
				"domain: " + dir + "/a.yaml:3 counts, prose: in cloud-config says something else"}},
		{name: "two that agree", files: map[string]string{cloudinit.CombinedFile: combined, dir + "/a.yaml": "domain: cloud.org"}, domain: "cloud.org", from: dir + "/a.yaml:1"},
		{name: "an older cloud-init", files: map[string]string{
			"/var/lib/cloud/instance":             "-> " + instance,
			instance + "/cloud-config.txt":        "#cloud-config\nssh: &id001 [a]\nx: *id001\nprose:\n  domain: user.org\n",
			instance + "/vendor-cloud-config.txt": "prose: {domain: vendor.org, company: V}\n"},
			domain: "user.org", from: "prose: in cloud-config",
			conflicts: []string{"domain: prose: in cloud-config counts, prose: in cloud-config says something else"}},
		{name: "a cloud-config without us", files: map[string]string{cloudinit.CombinedFile: `{"a": 1}`}},
		{name: "dotted names", files: map[string]string{dir + "/a.yaml": "domain: a.org\nsmtp.host: smtp.a.org"}, domain: "a.org", from: dir + "/a.yaml:1"},
		{name: "an editor's leftovers", files: map[string]string{dir + "/a.yaml~": "domain: x.org", dir + "/.a.yaml": "domain: y.org", dir + "/README": "hello"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, r := Load(plant(t, tt.files))
			if r.Problems != nil {
				t.Fatal(r.Draw())
			}
			from := ""
			if at, ok := r.From["domain"]; ok {
				from = at.String()
			}
			var conflicts []string
			for _, c := range r.Conflicts {
				conflicts = append(conflicts, c.String())
			}
			if s.Domain != tt.domain || s.Configured() != (tt.domain != "") || from != tt.from || !reflect.DeepEqual(conflicts, tt.conflicts) {
				t.Errorf("%q from %q, conflicts %q", s.Domain, from, conflicts)
			}
		})
	}
}

func TestFilesCountInTheOrderOfTheirNames(t *testing.T) {
	files := map[string]string{}
	for _, c := range "qwertyuiopasdfghjkl" {
		files[fmt.Sprintf("%s/%c.yaml", dir, c)] = fmt.Sprintf("company: %c", c)
	}
	s, r := Load(plant(t, files))
	if s.Company != "a" || len(r.Conflicts) != len(files)-1 {
		t.Errorf("%q, %d conflicts", s.Company, len(r.Conflicts))
	}
	for i := 1; i < len(r.Conflicts); i++ {
		if r.Conflicts[i-1].Ignored.Path >= r.Conflicts[i].Ignored.Path {
			t.Errorf("%v before %v", r.Conflicts[i-1], r.Conflicts[i])
		}
	}
}

func TestKeysStayInTheirSources(t *testing.T) {
	for _, source := range []Sources{Files, CloudConfig, Metadata, CommandLine} {
		for i := range Keys {
			k := &Keys[i]
			var c collector
			c.table(Place{Source: source}, node{form: table, members: []member{{name: k.Name, value: node{form: string(k.Kind)}}}}, "")
			if allowed := k.Sources&source != 0; allowed != (len(c.entries) == 1) || allowed != (c.report.Problems == nil) {
				t.Errorf("%s from %v: %v %v", k.Name, source, c.entries, c.report.Problems)
			}
		}
	}
}

func TestDeepDocuments(t *testing.T) {
	for _, depth := range []int{deepest - 1, deepest + 1, 100_000} {
		for _, path := range []string{"a.json", "a.yaml"} {
			_, err := parse(path, []byte(strings.Repeat(`{"a":`, depth)+"1"+strings.Repeat("}", depth)))
			if (err == nil) != (depth < deepest) {
				t.Errorf("%s of %d levels: %v", path, depth, err)
			}
		}
	}
}

// Each file under testdata/bad is a file of settings with mistakes; beside it
// stands what the owner is shown.
func TestProblemsAreShown(t *testing.T) {
	files, err := filepath.Glob("testdata/bad/*")
	if err != nil || len(files) == 0 {
		t.Fatal("no bad files", err)
	}
	for _, file := range files {
		if strings.HasSuffix(file, ".txt") {
			continue
		}
		t.Run(filepath.Base(file), func(t *testing.T) {
			src, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			_, r := Load(plant(t, map[string]string{dir + "/10-" + filepath.Base(file): string(src)}))
			got := r.Draw()
			if got == "" {
				t.Fatal("no problem found")
			}
			golden(t, file+".txt", got)
		})
	}
}

func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s: got:\n%s\nwant:\n%s", file, got, want)
	}
}

// A problem outside our own files has a place that the owner knows.
func TestProblemsElsewhere(t *testing.T) {
	tests := []struct{ path, text, want string }{
		{cloudinit.CombinedFile, `{"prose": "example.org"}`, "prose: in cloud-config: is text, not a table of keys"},
		{cloudinit.CombinedFile, `{"prose": {"domain": "localhost"}}`, `prose: in cloud-config: domain "localhost" has no dot`},
		{cloudinit.CombinedFile, `{"prose": {"domian": "a.org"}}`, "prose: in cloud-config: domian is no setting"},
		{cloudinit.CombinedFile, `{"prose": `, "no JSON after byte"},
		{cloudinit.CombinedFile, `{"prose": null}`, "prose: in cloud-config: is nothing, not a table"},
		{cloudinit.InstanceDataFile, `{"ds": {"meta_data": {"prose-domain": "A.org"}}}`, `prose-domain in the platform's metadata: domain "A.org" has capital letters`},
		{cloudinit.InstanceDataFile, `{`, "reading " + cloudinit.InstanceDataFile},
		{cloudinit.CommandLineFile, `prose.domain=1.2.3.4`, `prose.domain on the kernel's command line: domain "1.2.3.4" is an IP address`},
		{dir + "/a.yml", "domain: a.org", "a.yml: is not read: its name ends in .yml"},
		{dir + "/a.yaml", "-> /etc/hostname", "a.yaml: is a symbolic link"},
		{dir + "/a.yaml/b", "", "a.yaml: is a directory"},
		{dir, "-> /etc", "cannot be read"},
	}
	for _, tt := range tests {
		s, r := Load(plant(t, map[string]string{tt.path: tt.text}))
		if len(r.Problems) != 1 || !strings.Contains(r.Problems[0].String(), tt.want) || s.Configured() {
			t.Errorf("%s %s: %v, want %q", tt.path, tt.text, r.Problems, tt.want)
		}
	}
}

func TestOwnersAndModes(t *testing.T) {
	path, inner := filepath.Join(dir, "a.yaml"), "domain: a.org"
	tests := []struct {
		name      string
		change    func(root string) error
		domain    string
		tightened []string
		problem   string
	}{
		{"right", func(string) error { return nil }, "a.org", nil, ""},
		{"file for all", func(root string) error { return os.Chmod(root+path, 0o644) }, "a.org", []string{path}, ""},
		{"file of setuid", func(root string) error { return os.Chmod(root+path, 0o600|fs.ModeSetuid) }, "a.org", []string{path}, ""},
		{"read only", func(root string) error { return os.Chmod(root+path, 0o400) }, "a.org", nil, ""},
		{"directory for all", func(root string) error { return os.Chmod(root+dir, 0o755) }, "a.org", []string{dir}, ""},
		{"file of another", func(root string) error { return os.Chown(root+path, 1001, 0) }, "", nil, path + ": belongs to user 1001, not to root"},
		{"directory of another", func(root string) error { return os.Chown(root+dir, 1001, 1001) }, "", nil, dir + ": belongs to user 1001, not to root"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			root := plant(t, map[string]string{path: inner})
			if err := tt.change(root); err != nil {
				t.Fatal(err)
			}
			s, r := Load(root)
			var got string
			for _, p := range r.Problems {
				got += p.String()
			}
			if s.Domain != tt.domain || !reflect.DeepEqual(r.Tightened, tt.tightened) || got != tt.problem {
				t.Errorf("domain %q, tightened %q, problems %q", s.Domain, r.Tightened, got)
			}
			for _, p := range tt.tightened {
				if st, err := os.Stat(root + p); err != nil || st.Mode()&0o7077 != 0 || st.Mode()&fs.ModeSetuid != 0 {
					t.Errorf("%s is %v still", p, st.Mode())
				}
			}
		})
	}
}

// canary is in every secret, right and wrong; nothing may show it.
const canary = "c4n4ry-s3cr3t"

func TestSecretsAreNeverShown(t *testing.T) {
	for name, text := range map[string]string{
		"right":          "domain: a.org\nadmin: {username: a, password: " + canary + "-and-more}\nsmtp: {host: a.org, username: b, password: " + canary + "}\nacme: {eab: {kid: k, hmac: " + canary + "}}\nalerts: {webhook: 'https://a.org/" + canary + "'}",
		"no webhook":     "alerts: {webhook: 'ftp://a.org/" + canary + "'}",
		"no key":         "apex: {chain: x, key: '" + canary + "'}",
		"broken key":     "apex: {chain: x, key: '-----BEGIN PRIVATE KEY-----\n\n" + canary + "\n\n-----END PRIVATE KEY-----'}",
		"too short":      "admin: {username: a, password: c4n4ry-s3cr3t}",
		"no base64":      "acme: {eab: {kid: k, hmac: '" + canary + " !'}}",
		"control":        `smtp: {host: a.org, username: b, password: "` + canary + `\x01"}`,
		"alias":          "smtp:\n  password: *" + canary,
		"anchor":         "smtp:\n  password: &" + canary,
		"tag":            "smtp:\n  password: !" + canary + " x",
		"list":           "smtp:\n  password: [" + canary + "]",
		"table":          "smtp:\n  password: {" + canary + ": 1}",
		"no space":       "smtp: {'password:" + canary + "': 1}",
		"no colon":       "smtp:\n  password " + canary,
		"bad quotes":     "smtp:\n  password: '" + canary,
		"bad escape":     "smtp:\n  password: \"\\q" + canary + "\"",
		"at sign":        "smtp:\n  password: @" + canary,
		"colon":          "smtp:\n  password: a: " + canary,
		"twice":          "smtp: {host: a.org, username: b, password: " + canary + ", password: x" + canary + "}",
		"a JSON of one":  `{"smtp": {"password": "` + canary + `" "x"}}`,
		"without a name": "smtp: {host: a.org, password: " + canary + "}",
	} {
		for _, ext := range []string{".yaml", ".json"} {
			root := plant(t, map[string]string{
				dir + "/a" + ext: text, dir + "/b.yaml": "smtp: {password: other-" + canary + "}",
				cloudinit.CombinedFile: `{"prose": {"smtp": {"password": "` + canary + `-2"}}}`})
			s, r := Load(root)
			j, err := json.Marshal(s)
			if err != nil {
				t.Fatal(err)
			}
			y, err := yaml.Marshal(s)
			if err != nil {
				t.Fatal(err)
			}
			var log strings.Builder
			slog.New(slog.NewTextHandler(&log, nil)).Info("x", "s", s, "p", s.SMTP.Password, "r", r)
			slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "s", s, "p", s.SMTP.Password, "r", r)
			unexported := struct{ s Settings }{s}
			all := fmt.Sprintln(r.Draw(), string(j), string(y), log.String(), r)
			for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
				all += fmt.Sprintf(verb+verb+verb, s, unexported, s.SMTP.Password)
			}
			if strings.Contains(all, canary) || strings.Contains(all, fmt.Sprintf("%x", canary)) {
				t.Errorf("%s%s: the secret shows:\n%s", name, ext, all)
			}
			if name == "right" && ext == ".yaml" && (s.SMTP.Password.Reveal() != canary || !strings.Contains(all, hidden) || !s.SMTP.Password.IsSet()) {
				t.Errorf("password %q", s.SMTP.Password.Reveal())
			}
		}
	}
}

// A domain may be written as people write theirs; kept is what DNS has.
func TestDomainWithOtherLetters(t *testing.T) {
	for text, want := range map[string]string{
		"bücher.example":       "xn--bcher-kva.example",
		"BÜCHER.example":       "xn--bcher-kva.example",
		"例え.テスト":               "xn--r8jz45g.xn--zckzah",
		"straße.example":       "xn--strae-oqa.example",
		"bu\u0308cher.example": "xn--bcher-kva.example",
		"a\u200db.example":     "", // a joiner where none belongs
		"ü_.example":           "",
	} {
		s, r := Load(plant(t, map[string]string{dir + "/a.yaml": "domain: \"" + text + "\""}))
		if s.Domain != want || (want == "") != (len(r.Problems) == 1) {
			t.Errorf("%q became %q, %v", text, s.Domain, r.Problems)
		}
	}
}

// Of a chain and a key that do not belong together neither is used.
func TestPairThatIsNone(t *testing.T) {
	chain, _ := ownPair(t)
	_, key := ownPair(t)
	text := "domain: a.org\napex:\n  method: own\n  chain: |\n" + indented(chain) + "\n  key: |\n" + indented(key)
	s, r := Load(plant(t, map[string]string{dir + "/a.yaml": text}))
	if len(r.Problems) != 1 || r.Problems[0].Key != "apex.chain" || s.Apex.Chain != "" || s.Apex.Key.IsSet() {
		t.Errorf("%+v, %v", s.Apex, r.Problems)
	}
	_, r = Load(plant(t, map[string]string{dir + "/a.yaml": "domain: a.org\napex: {method: own}"}))
	if len(r.Problems) != 1 || r.Problems[0].Key != "apex.method" {
		t.Errorf("own, but nothing there: %v", r.Problems)
	}
}

func TestChecks(t *testing.T) {
	long := strings.Repeat("a", 49)
	tests := []struct{ key, value, want string }{ // want: empty when good
		{"company", "Prose", ""}, {"company", long[:48], ""}, {"company", long, "49 characters, and 48"},
		{"company", strings.Repeat("ü", 48), ""}, {"company", "a\nb", "line break"}, {"company", "  ", "empty"}, {"company", "a\xff", "UTF-8"},
		{"federation", "true", ""}, {"federation", "yes", "neither"},
		{"smtp.host", "smtp.example.org", ""}, {"smtp.host", "192.0.2.1", ""}, {"smtp.host", "2001:db8::1", ""}, {"smtp.host", "mail", ""},
		{"smtp.host", "smtp.example.org:587", "no host name"}, {"smtp.host", "smtp://a.org", "no host name"}, {"smtp.host", "a..org", "no host name"},
		{"smtp.host", "-a.org", "no host name"}, {"smtp.host", "a!.org", "no host name"}, {"smtp.host", strings.Repeat("a.", 130), "longer"},
		{"smtp.port", "587", ""}, {"smtp.port", "65535", ""}, {"smtp.port", "0", "no port"}, {"smtp.port", "65536", "no port"}, {"smtp.port", "-1", "no port"},
		{"smtp.port", "0587", "no port"}, {"smtp.port", "5.87", "no port"}, {"smtp.port", "465", "TLS from the first byte"},
		{"smtp.username", "prose@example.org", ""}, {"smtp.username", strings.Repeat("a", 1025), "1025 characters"},
		{"smtp.password", "x", ""}, {"smtp.password", "a\x7fb", "control"},
		{"admin.username", "alice", ""}, {"admin.username", "a.b_c-9", ""}, {"admin.username", "Alice", "capital"}, {"admin.username", "a@b.org", "whole address"},
		{"admin.username", "a b", "other characters"}, {"admin.username", "a/b", "other characters"}, {"admin.username", "prose-workspace", "own account"},
		{"admin.username", strings.Repeat("a", 65), "65 characters"},
		{"admin.password", "15 characters!!", ""}, {"admin.password", "14 characters!", "15 to 1024"}, {"admin.password", strings.Repeat("a", 1025), "15 to 1024"},
		{"admin.nickname", "Al", ""}, {"admin.nickname", long, "48 are the most"},
		{"acme.directory", "https://ca.example.org:14000/dir", ""}, {"acme.directory", "http://ca.example.org/dir", "no address"},
		{"acme.directory", "ca.example.org", "no address"}, {"acme.directory", "https:///dir", "no address"}, {"acme.directory", "https://u:p@ca.org/", "no address"},
		{"acme.contact", "me@example.org", ""}, {"acme.contact", "mailto:me@example.org", "no mail address"}, {"acme.contact", "me", "no mail address"},
		{"acme.contact", "me@localhost", "no mail address"}, {"acme.contact", "a b@c.org", "no mail address"}, {"acme.contact", "@a.org", "no mail address"},
		{"acme.contact", strings.Repeat("a", 250) + "@a.org", "no mail address"}, {"acme.contact", "a@b@c.org", "no mail address"},
		{"acme.profile", "tlsserver", ""}, {"acme.profile", "a b", "other characters"},
		{"acme.eab.kid", "kid", ""}, {"acme.eab.hmac", "YWJj", ""}, {"acme.eab.hmac", "YWI=", ""}, {"acme.eab.hmac", "a+b/", "base64url"}, {"acme.eab.hmac", "==", "base64url"},
		{"acme.ca", "hello", "no certificate"}, {"acme.ca", certificate(t), ""}, {"acme.ca", certificate(t) + certificate(t), ""},
		{"acme.ca", certificate(t) + "x", "after certificate number 1"},
		{"acme.ca", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "cannot be read, number 1"},
		{"acme.ca", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "no certificate"},
	}
	tested := map[string]bool{}
	chain, key := ownPair(t)
	for _, more := range [][3]string{
		{"apex.chain", chain}, {"apex.chain", key, "no certificate"},
		{"apex.key", key}, {"apex.key", chain, "no private key"}, {"apex.key", key + chain, "after the key"},
		{"apex.key", strings.ReplaceAll(key, "PRIVATE", "ENCRYPTED PRIVATE"), "password"},
		{"apex.method", HTTP01}, {"apex.method", DNSPersist01}, {"apex.method", OwnPair}, {"apex.method", "dns-01", "none of its values"},
		{"analytics", "false"}, {"analytics", "on", "neither"}, {"network.ipv6", "false"}, {"network.ipv6", "4", "neither"},
		{"network.resolvers", "192.0.2.53"}, {"network.resolvers", "192.0.2.53, 2001:db8::53"}, {"network.resolvers", "192.0.2.53, dns.example.org", "no IP address"},
		{"network.resolvers", "fe80::1%eth0", "no IP address"}, {"network.resolvers", "0.0.0.0", "no IP address"},
		{"allow.ssh", "192.0.2.0/24, 2001:db8::1"}, {"allow.ssh", "192.0.2.1/24", "beyond its length"}, {"allow.ssh", "192.0.2.0/33", "no network"},
		{"allow.dashboard", "10.0.0.0/8"}, {"allow.dashboard", "everybody", "no network"}, {"allow.dashboard", "1.2.3.4;drop", "no network"},
		{"alerts.mail", "ops@example.org"}, {"alerts.mail", "ops", "no mail address"},
		{"alerts.webhook", "https://hooks.example.org/x?y=z"}, {"alerts.webhook", "http://hooks.example.org/", "no https"}, {"alerts.webhook", "https://u:p@a.org/", "no https"},
	} {
		tests = append(tests, struct{ key, value, want string }{more[0], more[1], more[2]})
	}
	for _, tt := range tests {
		s := Defaults()
		k := Find(tt.key)
		tested[tt.key] = true
		switch f := k.set(&s, tt.value); {
		case tt.want == "" && f != nil:
			t.Errorf("%s = %q: %s", tt.key, tt.value, f.message)
		case tt.want == "" && k.get(&s) != tt.value:
			t.Errorf("%s = %q became %q", tt.key, tt.value, k.get(&s))
		case tt.want != "" && (f == nil || !strings.Contains(f.message, tt.want)):
			t.Errorf("%s = %q: %v, want %q", tt.key, tt.value, f, tt.want)
		case tt.want != "" && !reflect.DeepEqual(s, Defaults()):
			t.Errorf("%s = %q was set though it is wrong", tt.key, tt.value)
		}
	}
	for _, k := range Keys {
		if !tested[k.Name] && k.Name != "domain" && k.Name != "smtp.encrypt" {
			t.Errorf("%s is not tested", k.Name)
		}
	}
}

func FuzzDocument(f *testing.F) {
	files, _ := filepath.Glob("testdata/bad/*.[jy]*")
	for _, file := range files {
		src, _ := os.ReadFile(file)
		f.Add(src, strings.HasSuffix(file, ".json"))
	}
	chain, key := ownPair(f)
	f.Add(fmt.Appendf(nil, full, indented(certificate(f)), indented(chain), indented(key)), false)
	f.Add([]byte("#cloud-config\nprose: {domain: a.org}"), false)
	f.Add([]byte("a: &a [*a]\n<<: *a\n? [b]\n: !!binary x\n---\n"), false)
	f.Fuzz(func(t *testing.T, src []byte, isJSON bool) {
		path := "f.yaml"
		if isJSON {
			path = "f.json"
		}
		var c collector
		c.document(path, src)
		_, _, _ = proseOf(src)
		s, r := c.merge()
		r.Draw()
		lines := 1 + strings.Count(string(src), "\n") + strings.Count(string(src), "\r") + strings.Count(string(src), "\u0085") + strings.Count(string(src), "\u2028") + strings.Count(string(src), "\u2029")
		for _, p := range r.Problems {
			if p.Message == "" || p.At.Line < 0 || p.At.Line > lines+1 {
				t.Errorf("%+v in %d lines", p, lines)
			}
		}
		if s.Domain != "" && cloudinit.CheckDomain(s.Domain) != nil {
			t.Errorf("domain %q passed", s.Domain)
		}
		if s.Configured() {
			if _, err := s.ProseTOML([]byte("[server]\ndomain = \"{your_domain}\"")); err != nil {
				t.Error(err)
			}
		}
		// What was accepted survives being written by configure.
		values := map[string]string{}
		for i := range Keys {
			if k := &Keys[i]; r.From[k.Name] != (Place{}) {
				values[k.Name] = k.get(&s)
			}
		}
		var again collector
		again.document("f.yaml", document(values))
		s2, r2 := again.merge()
		for _, p := range r2.Problems {
			if !strings.Contains(p.Message, "is set, but") {
				t.Errorf("after writing:\n%s\n%s", document(values), r2.Draw())
			}
		}
		if !reflect.DeepEqual(s, s2) {
			t.Errorf("wrote\n%s", document(values))
		}
	})
}

// docs/settings.md is made from the table; make golden rewrites it.
func TestReference(t *testing.T) { golden(t, "../../docs/settings.md", Reference()) }
