package settings

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/prose-im/prose-image/cloudinit"
)

func configured(t *testing.T, root string) string {
	t.Helper()
	b, err := os.ReadFile(root + configureFile)
	if os.IsNotExist(err) {
		return ""
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestConfigure(t *testing.T) {
	const head = "# Written by prose-firstboot configure.\n"
	secret := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(secret, []byte(canary+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name  string
		files map[string]string
		args  string // fields
		stdin string
		known string
		code  int
		file  string // what configure's file has then
		err   string
	}{
		{name: "a domain", args: "--domain example.org", file: head + "domain: \"example.org\"\n"},
		{name: "one dash", args: "-domain=example.org", file: head + "domain: \"example.org\"\n"},
		{name: "everything", args: "--domain example.org --company Prose --federation --smtp-host smtp.example.org --smtp-port 25 --smtp-username a@b.org --smtp-password-file " + secret +
			" --smtp-encrypt=false --acme-directory https://ca.org/dir --acme-profile x --acme-contact a@b.org --acme-eab-kid k --acme-eab-hmac-file - --admin-username alice --admin-nickname A --admin-password-file " + secret,
			stdin: "YWJj\r\n", code: 2, err: "admin.password must have 15"},
		{name: "nearly everything", args: "--domain example.org --company Prose --federation --smtp-host smtp.example.org --smtp-port 25 --smtp-username a@b.org --smtp-password-file " + secret +
			" --smtp-encrypt=false --acme-directory https://ca.org/dir --acme-eab-kid k --acme-eab-hmac-file -",
			stdin: "YWJj\r\n", file: head + `domain: "example.org"
company: "Prose"
federation: true
smtp:
  host: "smtp.example.org"
  port: 25
  username: "a@b.org"
  password: "` + canary + `"
  encrypt: false
acme:
  directory: "https://ca.org/dir"
  eab:
    kid: "k"
    hmac: "YWJj"
`},
		{name: "more than before", files: map[string]string{configureFile: "domain: a.org\nsmtp: {host: b.org, port: 25}\n"}, args: "--smtp-host c.org",
			file: head + "domain: \"a.org\"\nsmtp:\n  host: \"c.org\"\n  port: 25\n"},
		{name: "taken back", files: map[string]string{configureFile: "domain: a.org\ncompany: x\n"}, args: "--company=", file: head + "domain: \"a.org\"\n"},
		{name: "half taken back", files: map[string]string{configureFile: "smtp: {host: b.org, port: 25}\n"}, args: "--smtp-host=", code: 2,
			file: "smtp: {host: b.org, port: 25}\n", err: "smtp.port is set, but smtp.host is not"},
		{name: "other half in another file", files: map[string]string{dir + "/60-x.yaml": "smtp: {host: b.org}\n"}, args: "--smtp-port 25", file: head + "smtp:\n  port: 25\n"},
		{name: "wrong", args: "--domain localhost --company x", code: 2, err: "error: configure: domain \"localhost\" has no dot\nhint: write the whole domain, for example localhost.org\nnothing was changed\n"},
		{name: "two wrong", args: "--domain a --smtp-port 465 --federation=maybe", code: 2, err: "smtp.port 465"},
		{name: "no number", args: "--smtp-port abc --smtp-host a.org", code: 2, err: "smtp.port must be a number"},
		{name: "known domain again", known: "a.org", args: "--domain a.org", file: head + "domain: \"a.org\"\n"},
		{name: "another domain", known: "a.org", args: "--domain b.org", code: 2, err: "domain cannot change: this machine has been set up for a.org"},
		{name: "domain taken back", files: map[string]string{configureFile: "domain: a.org\n"}, known: "a.org", args: "--domain=", file: "domain: a.org\n", code: 2, err: "domain cannot change"},
		{name: "something else with a known domain", known: "a.org", args: "--company x", file: head + "company: \"x\"\n"},
		{name: "set in an earlier file", files: map[string]string{dir + "/10-a.yaml": "\ndomain: a.org\n"}, args: "--domain b.org", code: 2,
			err: "error: " + dir + "/10-a.yaml:2: domain is set here already, and this counts first\nhint: change it here\n"},
		{name: "the same in an earlier file", files: map[string]string{dir + "/10-a.yaml": "domain: a.org\n"}, args: "--domain a.org", file: head + "domain: \"a.org\"\n"},
		{name: "over a later file", files: map[string]string{dir + "/60-a.yaml": "domain: a.org\n"}, args: "--domain b.org", file: head + "domain: \"b.org\"\n"},
		{name: "over cloud-config", files: map[string]string{cloudinit.CombinedFile: `{"prose": {"domain": "localhost"}}`}, args: "--domain b.org", file: head + "domain: \"b.org\"\n"},
		{name: "beside what is wrong elsewhere", files: map[string]string{dir + "/60-a.yaml": "domian: a.org\n"}, args: "--domain b.org", file: head + "domain: \"b.org\"\n",
			err: "what follows stands elsewhere and is still wrong:\nerror: " + dir + "/60-a.yaml:1: domian is no setting\n"},
		{name: "own file spoilt", files: map[string]string{configureFile: "domain: [\n"}, args: "--domain b.org", file: "domain: [\n", code: 2, err: "reading " + configureFile},
		{name: "no such flag", args: "--domian a.org", code: 2, err: "not defined: -domian\nhint: prose-firstboot configure --help"},
		{name: "a secret as a flag", args: "--smtp-password=" + canary, code: 2, err: "not defined: -smtp-password\n"},
		{name: "arguments", args: "a.org " + canary, code: 2, err: "2 arguments that are no flags"},
		{name: "no such file", args: "--smtp-password-file /nonexistent", code: 2, err: "/nonexistent: no such file"},
		{name: "empty secret", args: "--smtp-password-file -", stdin: "\n", code: 2, err: "it is empty"},
		{name: "stdin twice", args: "--smtp-password-file - --admin-password-file -", stdin: canary, code: 2, err: "smtp.password reads standard input already"},
		{name: "nothing", code: 2, err: "no terminal"},
		{name: "help", args: "--help", err: "--smtp-password-file FILE"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			root := plant(t, tt.files)
			var stdout, stderr bytes.Buffer
			code := Configure(strings.Fields(tt.args), strings.NewReader(tt.stdin), &stdout, &stderr, root, tt.known)
			if code != tt.code || !strings.Contains(stderr.String(), tt.err) || tt.err == "" && stderr.Len() > 0 {
				t.Errorf("code %d, want %d; stderr %q, want %q", code, tt.code, stderr.String(), tt.err)
			}
			if got := configured(t, root); got != tt.file {
				t.Errorf("the file has\n%s\nwant\n%s", got, tt.file)
			}
			if wrote := strings.Contains(stdout.String(), "settings written"); wrote != (code == 0 && tt.file != "") {
				t.Errorf("stdout %q with code %d", stdout.String(), code)
			}
			if strings.Contains(stdout.String()+stderr.String(), canary) && !strings.Contains(tt.args, "a.org "+canary) {
				t.Errorf("the secret shows: %s%s", stdout.String(), stderr.String())
			}
			if entries, err := os.ReadDir(root + dir); err == nil {
				for _, e := range entries {
					if st, err := e.Info(); err != nil || st.Mode() != 0o600 || strings.HasPrefix(e.Name(), ".") {
						t.Errorf("%s %v %v", e.Name(), st.Mode(), err)
					}
				}
				if st, err := os.Stat(root + dir); err != nil || st.Mode().Perm() != 0o700 {
					t.Errorf("directory: %v %v", st.Mode(), err)
				}
			}
		})
	}
}

func TestConfigureFlagsAreTheTable(t *testing.T) {
	var out bytes.Buffer
	Configure([]string{"-h"}, strings.NewReader(""), io.Discard, &out, t.TempDir(), "")
	for _, k := range Keys {
		if !strings.Contains(out.String(), "  --"+k.flagName()) {
			t.Errorf("help has no --%s", k.flagName())
		}
		if k.Secret != strings.HasSuffix(k.flagName(), "-file") && k.Kind != PEM {
			t.Errorf("%s is --%s", k.Name, k.flagName())
		}
	}
}

// What is written is read as what was said, whatever is in it.
func TestWrittenIsRead(t *testing.T) {
	for _, v := range []string{`back\slash`, `quo"te`, `both\"`, "*a", "&a", "a: b", "a #b", "- a", "true", "12", "~", "null", "2026-01-01", "!x y", "{a}", "%a", "@a",
		"ü\u0085x", "a\u2028b", "\ufeffa", "\U0001f511", " a ", "'", "`", "|", ">", "<<", "\\U00000041"} {
		root := plant(t, nil)
		var stderr bytes.Buffer
		args := []string{"--smtp-host", "a.org", "--smtp-username", "u", "--smtp-password-file", "-"}
		code := Configure(args, strings.NewReader(v), io.Discard, &stderr, root, "")
		s, r := Load(root)
		if strings.ContainsRune(v, '\u0085') { // a control character
			if code != 2 {
				t.Errorf("%q was taken", v)
			}
			continue
		}
		if code != 0 || r.Problems != nil || s.SMTP.Password.Reveal() != v {
			t.Errorf("%q: code %d, %s, became %q, %s", v, code, stderr.String(), s.SMTP.Password.Reveal(), r.Draw())
		}
	}
}

func TestConfigurePEM(t *testing.T) {
	root, ca := plant(t, nil), certificate(t)
	var stderr bytes.Buffer
	if code := Configure([]string{"--acme-directory", "https://ca.org/dir", "--acme-ca-file", "testdata/ca.pem"}, strings.NewReader(""), io.Discard, &stderr, root, ""); code != 0 {
		t.Fatal(code, stderr.String())
	}
	if s, r := Load(root); s.ACME.CA != ca || r.Problems != nil {
		t.Errorf("%q %v", s.ACME.CA, r.Problems)
	}
}

func TestConfigureCannotWrite(t *testing.T) {
	root := plant(t, map[string]string{"/etc/prose-firstboot.d": "a file"})
	var stderr bytes.Buffer
	code := Configure([]string{"--domain", "a.org"}, strings.NewReader(""), io.Discard, &stderr, root, "")
	if code == 0 || !strings.Contains(stderr.String(), "error: ") {
		t.Errorf("code %d, %q", code, stderr.String())
	}
	if b, _ := os.ReadFile(root + "/etc/prose-firstboot.d"); string(b) != "a file" {
		t.Errorf("it is %q now", b)
	}
}

// pty is a terminal: what is written to the first is typed on the second.
func pty(t *testing.T) (person, program *os.File) {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal("this test needs /dev/ptmx: ", err)
	}
	t.Cleanup(func() { person.Close() })
	if err := unix.IoctlSetPointerInt(int(person.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(person.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	program, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { program.Close() })
	return person, program
}

func TestConfigureAsks(t *testing.T) {
	tests := []struct {
		name    string
		files   map[string]string
		known   string
		answers []string // question, answer, question, ...
		shown   []string
		file    string
		code    int
	}{
		{name: "all that it asks", answers: []string{
			"(you@DOMAIN): ", "", "(you@DOMAIN): ", "localhost", "(you@DOMAIN): ", "example.org",
			"group [none]: ", "Prose & Co", "servers [no]: ", "perhaps", "servers [no]: ", "y",
			"(SMTP) [none]: ", "smtp.example.org", "Port of the mail server [587]: ", "465", "[587]: ", "",
			"User name for the mail server [none]: ", "me", "Password for the mail server [none]: ", "", "[none]: ", canary, "for alerts [none]: ", "me@example.org"},
			shown: []string{"This one is needed.", "domain \"localhost\" has no dot", "Please write the whole domain", "neither true nor false", "465 is for TLS"},
			file:  "domain: \"example.org\"\ncompany: \"Prose & Co\"\nfederation: true\nsmtp:\n  host: \"smtp.example.org\"\n  username: \"me\"\n  password: \"" + canary + "\"\nalerts:\n  mail: \"me@example.org\"\n"},
		{name: "no mail", answers: []string{"(you@DOMAIN): ", "example.org", "group [none]: ", "", "[no]: ", "", "(SMTP) [none]: ", ""},
			file: "domain: \"example.org\"\n"},
		{name: "what is there stays", known: "a.org", files: map[string]string{configureFile: "domain: a.org\ncompany: Old\nsmtp: {host: b.org, username: u, password: " + canary + "}\n"},
			answers: []string{"group [Old]: ", "New", "[no]: ", "no", "(SMTP) [b.org]: ", "", "[587]: ", "", "[u]: ", "", "Password for the mail server [***]: ", "", "for alerts [none]: ", ""},
			file:    "domain: \"a.org\"\ncompany: \"New\"\nfederation: false\nsmtp:\n  host: \"b.org\"\n  username: \"u\"\n  password: \"" + canary + "\"\n"},
		{name: "the person leaves", answers: []string{"(you@DOMAIN): ", "\x04"}, code: 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			root := plant(t, tt.files)
			person, program := pty(t)
			done := make(chan int, 1)
			go func() { done <- Configure(nil, program, program, program, root, tt.known) }()
			screen := make(chan string, 100)
			go func() {
				buf := make([]byte, 4096)
				for {
					n, err := person.Read(buf)
					if n > 0 {
						screen <- string(buf[:n])
					}
					if err != nil {
						return
					}
				}
			}()
			deadline := time.After(20 * time.Second)
			seen, all := "", ""
			for i := 0; i < len(tt.answers); i += 2 {
				for !strings.Contains(seen, tt.answers[i]) {
					select {
					case s := <-screen:
						seen, all = seen+s, all+s
					case code := <-done:
						t.Fatalf("it ended with %d before asking %q:\n%s", code, tt.answers[i], all)
					case <-deadline:
						t.Fatalf("it never asked %q:\n%s", tt.answers[i], all)
					}
				}
				seen = ""
				// A secret is asked with echo off, which follows the question.
				time.Sleep(50 * time.Millisecond)
				answer := tt.answers[i+1] + "\n"
				if tt.answers[i+1] == "\x04" {
					answer = "\x04"
				}
				if _, err := person.WriteString(answer); err != nil {
					t.Fatal(err)
				}
			}
			code := -1
			for code < 0 {
				select {
				case s := <-screen:
					all += s
				case code = <-done:
				case <-deadline:
					t.Fatalf("it never ended:\n%s", all)
				}
			}
			if code != tt.code {
				t.Errorf("code %d:\n%s", code, all)
			}
			for _, want := range tt.shown {
				if !strings.Contains(all, want) {
					t.Errorf("%q was not shown:\n%s", want, all)
				}
			}
			if strings.Contains(all, canary) {
				t.Errorf("the secret shows:\n%s", all)
			}
			if got := strings.TrimPrefix(configured(t, root), "# Written by prose-firstboot configure.\n"); got != tt.file {
				t.Errorf("the file has\n%s\nwant\n%s", got, tt.file)
			}
		})
	}
}
