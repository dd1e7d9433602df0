package status_test

import (
	"bytes"
	"io"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/html"

	"github.com/prose-im/prose-image/firstboot/status"
	"github.com/prose-im/prose-image/firstboot/status/statustest"
)

// Elements and attributes that a page may have. Script is none of them, and
// nothing makes a browser fetch something.
var (
	elements = strings.Fields("html head meta title style body header main nav footer section h1 h2 h3 p ul li a strong span div pre code table caption thead tbody tr th td")
	void     = []string{"meta"}
	attrs    = strings.Fields("lang charset name content http-equiv class scope href role tabindex aria-label")
)

// wellFormed reads a page token by token: every element known and closed in
// order, and all text by the way.
func wellFormed(t *testing.T, page []byte) string {
	t.Helper()
	var open []string
	var text strings.Builder
	z := html.NewTokenizer(bytes.NewReader(page))
	for {
		switch z.Next() {
		case html.ErrorToken:
			if z.Err() != io.EOF {
				t.Error(z.Err())
			}
			if len(open) > 0 {
				t.Errorf("not closed: %v", open)
			}
			return text.String()
		case html.TextToken:
			text.WriteString(z.Token().Data)
		case html.StartTagToken:
			tag := z.Token()
			if !slices.Contains(elements, tag.Data) {
				t.Errorf("<%s>", tag.Data)
			}
			for _, a := range tag.Attr {
				if !slices.Contains(attrs, a.Key) {
					t.Errorf("<%s %s=%q>", tag.Data, a.Key, a.Val)
				}
				if a.Key == "href" && a.Val != "/" && !strings.HasPrefix(a.Val, "https://") && !strings.HasPrefix(a.Val, "xmpp:") {
					t.Errorf("<a href=%q>", a.Val)
				}
			}
			if !slices.Contains(void, tag.Data) {
				open = append(open, tag.Data)
			}
		case html.EndTagToken:
			tag := z.Token()
			if len(open) == 0 || open[len(open)-1] != tag.Data {
				t.Fatalf("</%s> within %v", tag.Data, open)
			}
			open = open[:len(open)-1]
		case html.CommentToken, html.SelfClosingTagToken:
			t.Errorf("%s", z.Token())
		}
	}
}

func TestPageIsWellFormed(t *testing.T) {
	for _, e := range statustest.Examples() {
		t.Run(e.Name, func(t *testing.T) {
			text := wellFormed(t, status.Page(e.Status))
			for _, it := range e.Status.Items {
				for _, want := range append([]string{it.What, it.Why, it.Do}, it.Type...) {
					if e.Name != "hostile" && !strings.Contains(text, want) {
						t.Errorf("the page does not say %q", want)
					}
				}
			}
			if strings.Count(string(status.Page(e.Status)), "<h1") != 1 {
				t.Error("not one h1")
			}
		})
	}
}

func TestPageOffersAnotherLookOnTheWay(t *testing.T) {
	for _, e := range statustest.Examples() {
		want := e.Status.State == status.Working || e.Status.State == status.Waiting
		if got := bytes.Contains(status.Page(e.Status), []byte(`<a href="/">`)); got != want {
			t.Errorf("%s: %v", e.Name, got)
		}
		if bytes.Contains(status.Page(e.Status), []byte("http-equiv")) {
			t.Errorf("%s renews itself", e.Name)
		}
	}
}

// Whoever comes may read the page.
func TestPageTellsNoVersions(t *testing.T) {
	for _, e := range statustest.Examples() {
		e.Status.Agent = "v98.7.6"
		e.Status.Pod = &status.Versions{API: "96.5.4", Server: "95.4.3"}
		text := string(status.Page(e.Status))
		for _, version := range []string{"98.7.6", "96.5.4", "95.4.3"} {
			if strings.Contains(text, version) {
				t.Errorf("%s tells %s", e.Name, version)
			}
		}
	}
}

// The rows for the forms of DNS providers.
func TestPageHasHostsRelativeToTheDomain(t *testing.T) {
	doc, err := html.Parse(bytes.NewReader(status.Page(example(t, "dns").Status)))
	if err != nil {
		t.Fatal(err)
	}
	var rows []string
	for n := range doc.Descendants() {
		if n.Data != "tr" || n.Parent.Data != "tbody" || n.Parent.Parent.Attr[0].Val != "records" {
			continue
		}
		var cells []string
		for cell := n.FirstChild; cell != nil; cell = cell.NextSibling {
			first := cell.FirstChild
			if first.Data == "code" {
				first = first.FirstChild
			}
			cells = append(cells, first.Data)
		}
		rows = append(rows, strings.Join(cells, "|"))
	}
	want := []string{
		"@|AAAA|2001:db8::10|3600",
		"prose|A|192.0.2.10|3600",
		"prose|AAAA|2001:db8::10|3600",
		"admin.prose|CNAME|prose.example.org.|3600",
		`@|CAA|0 issue "letsencrypt.org"|3600`,
		"_xmpp-client._tcp|SRV|0 5 5222 prose.example.org.|3600",
	}
	if !slices.Equal(rows, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(rows, "\n"), strings.Join(want, "\n"))
	}
}

// Forms that ask field by field get each field, relative to the zone.
func TestPageHasTheFieldsOfForms(t *testing.T) {
	s := example(t, "dns").Status
	s.Records = []status.Record{{Name: "_xmpp-server._tcp.groups.example.org", Type: "SRV", TTL: 3600, Data: "0 5 5269 prose.example.org.", State: status.Missing}}
	page := string(status.Page(s))
	const want = `<tr><th scope="row">_xmpp-server</th><td class="protocol">_tcp</td><td class="name">groups</td><td class="priority">0</td><td class="weight">5</td><td class="port">5269</td><td class="target">prose.example.org</td></tr>`
	if !strings.Contains(page, want) || !strings.Contains(page, "OVHcloud") {
		t.Errorf("no %s in\n%s", want, page)
	}
	if strings.Contains(page, "as one zone") {
		t.Error("a domain of two labels is told of a zone above it")
	}
	s.Domain = "chat.example.org"
	if page := string(status.Page(s)); !strings.Contains(page, "has example.org as one zone") || !strings.Contains(page, "prose.chat for") {
		t.Errorf("nothing about the zone above:\n%s", page)
	}
	s.Records[0].State = status.Present
	if page := string(status.Page(s)); strings.Contains(page, "OVHcloud") {
		t.Error("forms are explained though no record is missing")
	}
}
