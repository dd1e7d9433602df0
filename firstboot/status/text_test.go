package status_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/miekg/dns"

	"github.com/prose-im/prose-image/firstboot/status"
	"github.com/prose-im/prose-image/firstboot/status/statustest"
)

func example(t *testing.T, name string) statustest.Example {
	t.Helper()
	for _, e := range statustest.Examples() {
		if e.Name == name {
			return e
		}
	}
	t.Fatalf("no example %q", name)
	return statustest.Example{}
}

// Only lines to copy, and the tables, may be wider than the terminal.
func TestTextKeepsToTheWidth(t *testing.T) {
	for _, e := range statustest.Examples() {
		for _, width := range []int{40, 80} {
			list, _, _ := strings.Cut(status.Text(e.Status, status.Layout{Width: width}), "\nDNS records")
			list, _, _ = strings.Cut(list, "\nLinks")
			list, _, _ = strings.Cut(list, "\nLooked")
			for _, line := range strings.Split(list, "\n")[1:] {
				// The mark, or what stands in its place, is ten columns at most.
				if utf8.RuneCountInString(line) > width && !strings.HasPrefix(line, "            ") && strings.Contains(line[10:], " ") {
					t.Errorf("%s, %d columns: %q", e.Name, width, line)
				}
			}
		}
	}
}

// Colour adds nothing but colour.
func TestColour(t *testing.T) {
	escape := regexp.MustCompile(`\x1b\[[0-9;]*m`)
	for _, e := range statustest.Examples() {
		plain, coloured := status.Text(e.Status, status.Layout{}), status.Text(e.Status, status.Layout{Colour: true})
		if plain == coloured {
			t.Errorf("%s has no colour", e.Name)
		}
		if escape.ReplaceAllString(coloured, "") != plain {
			t.Errorf("%s: colour changes more than colour", e.Name)
		}
	}
}

// What came from outside cannot steer a terminal.
func TestViewsArePrintable(t *testing.T) {
	e := example(t, "hostile")
	for name, text := range map[string]string{
		"text": status.Text(e.Status, status.Layout{}), "motd": status.MOTD(e.Status), "console": status.Console(e.Status, e.Link),
		"zone": status.WholeZone(e.Status), "metrics": status.Metrics(e.Status), "page": string(status.Page(e.Status)),
	} {
		for _, r := range text {
			if r != '\n' && !unicode.IsPrint(r) {
				t.Errorf("%s has %U", name, r)
			}
		}
	}
}

func TestMOTDIsShort(t *testing.T) {
	for _, e := range statustest.Examples() {
		motd := status.MOTD(e.Status)
		if n := strings.Count(motd, "\n"); n > 11 {
			t.Errorf("%s has %d lines", e.Name, n)
		}
		if !strings.HasPrefix(motd, strings.ToUpper(motd[:1])) && !strings.HasPrefix(motd, e.Status.Domain) {
			t.Errorf("%s begins with %q", e.Name, motd)
		}
	}
	// More things than fit.
	s := example(t, "dns").Status
	for range 20 {
		s.Items = append(s.Items, status.Item{Key: "x", Title: "X", Progress: status.Warning, What: strings.Repeat("long ", 50)})
	}
	motd := status.MOTD(s)
	if n := strings.Count(motd, "\n"); n > 11 {
		t.Errorf("it has %d lines:\n%s", n, motd)
	}
	if !strings.Contains(motd, "and 17 more things") {
		t.Errorf("it does not say how much is left out:\n%s", motd)
	}
	if lines := strings.Split(motd, "\n"); !strings.HasPrefix(lines[1], "   you  DNS records") {
		t.Errorf("the owner's part is not first:\n%s", motd)
	}
}

func TestConsoleShowsTheLinkOnlyWhileLocked(t *testing.T) {
	e := example(t, "locked")
	if got := status.Console(e.Status, e.Link); !strings.Contains(got, "\n"+e.Link+"\n") {
		t.Errorf("no link on a line of its own:\n%s", got)
	}
	if got := status.Console(e.Status, ""); strings.Contains(got, "link. It works once") {
		t.Errorf("it announces a link that there is not:\n%s", got)
	}
	e.Status.Locked = false
	if got := status.Console(e.Status, e.Link); strings.Contains(got, "claim") {
		t.Errorf("the link is shown though an account exists:\n%s", got)
	}
}

func TestConsoleShowsTheFingerprintUntilSigned(t *testing.T) {
	s := example(t, "dns").Status
	const want = "  5F:2D:8C:3A:1B:3C:4D:5E:6F:70:81:92:A3:B4:C5:D6\n  E7:F8:09:1A:2B:3C:4D:5E:6F:70:81:92:A3:B4:C5:D6\n"
	if got := status.Console(s, ""); !strings.Contains(got, want) {
		t.Errorf("got:\n%s\nwant the dashboard's:\n%s", got, want)
	}
	for i := range s.Certificates {
		s.Certificates[i].Signed = true
	}
	if got := status.Console(s, ""); strings.Contains(got, "SHA-256") {
		t.Errorf("signed, and still:\n%s", got)
	}
}

// agetty itself shows what Console meant.
func TestAgettyShowsTheConsole(t *testing.T) {
	for _, e := range statustest.Examples() {
		text := status.Console(e.Status, e.Link)
		path := filepath.Join(t.TempDir(), "prose.issue")
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		// script gives it the terminal that it wants.
		out, err := exec.Command("script", "--quiet", "--return", "--command", "agetty --show-issue --issue-file "+path, "/dev/null").CombinedOutput()
		if err != nil {
			t.Fatalf("agetty: %v\n%s", err, out)
		}
		want := strings.ReplaceAll(text, `\\`, `\`)
		if got := strings.ReplaceAll(string(out), "\r\n", "\n"); !strings.Contains(got, want) {
			t.Errorf("%s: agetty shows\n%q\nwant\n%q", e.Name, got, want)
		}
		for _, line := range strings.Split(want, "\n") {
			if len(line) > 80 && !strings.HasPrefix(line, "https://") {
				t.Errorf("%s: %d columns: %s", e.Name, len(line), line)
			}
		}
	}
}

// parseZone reads a fragment as a name server would.
func parseZone(t *testing.T, text string) []dns.RR {
	t.Helper()
	var all []dns.RR
	p := dns.NewZoneParser(strings.NewReader(text), "wrong.invalid.", "")
	for rr, ok := p.Next(); ok; rr, ok = p.Next() {
		all = append(all, rr)
	}
	if err := p.Err(); err != nil {
		t.Errorf("%v in\n%s", err, text)
	}
	return all
}

// A name server reads each record as it was meant.
func TestZoneIsAZone(t *testing.T) {
	for _, e := range statustest.Examples() {
		var open, all []status.Record
		for _, r := range e.Status.Records {
			if r.Data == "" {
				continue
			}
			all = append(all, r)
			if r.State != status.Present {
				open = append(open, r)
			}
		}
		for _, test := range []struct {
			text string
			want []status.Record
		}{{status.Zone(e.Status), open}, {status.WholeZone(e.Status), all}} {
			got := parseZone(t, test.text)
			if len(got) != len(test.want) {
				t.Errorf("%s: %d records, want %d:\n%s", e.Name, len(got), len(test.want), test.text)
				continue
			}
			for _, want := range test.want {
				found := false
				for _, rr := range got {
					h := rr.Header()
					data := strings.TrimPrefix(rr.String(), h.String())
					found = found || h.Name == want.Name+"." && dns.TypeToString[h.Rrtype] == want.Type && int(h.Ttl) == want.TTL && data == want.Data
				}
				if !found {
					t.Errorf("%s: no %+v in\n%s", e.Name, want, test.text)
				}
			}
		}
	}
}
