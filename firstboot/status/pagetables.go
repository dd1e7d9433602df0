package status

import (
	"strconv"
	"strings"
)

// records shows those that are not there, as a table for the forms of DNS
// providers and as lines for zone files.
func (h *sheet) records(s Status) {
	some := open(s.Records)
	if len(some) == 0 {
		return
	}
	h.put("<section>\n<h2>{}</h2>\n", recordsTitle(s))
	h.put(`<table class="records">
<caption>One line for each record, as DNS providers ask for them</caption>
<thead>
<tr><th scope="col">Name</th><th scope="col">Type</th><th scope="col">Value</th><th scope="col">TTL</th></tr>
</thead>
<tbody>
`)
	for _, r := range some {
		h.put("<tr><th scope=\"row\">{}</th><td class=\"type\">{}</td><td class=\"value\">", host(r.Name, s.Domain), r.Type)
		if r.Data != "" {
			h.put("<code>{}</code>", r.Data)
		} else {
			h.put("{}", r.Hint)
		}
		h.put("<span class=\"note\">{}</span>", recordNote(r))
		h.put("</td><td class=\"ttl\">{}</td></tr>\n", strconv.Itoa(r.TTL))
	}
	h.put("</tbody>\n</table>\n")
	for _, r := range some {
		if short := host(r.Name, s.Domain); short != "@" && short != r.Name {
			h.put("<p>Some providers want names in full: {} instead of {}.</p>\n", r.Name, short)
			break
		}
	}
	h.forms(s, some)
	h.put("<h3>The same, as lines for a zone file</h3>\n")
	h.copy("DNS records, to copy", strings.Split(strings.TrimSuffix(zone(some), "\n"), "\n"))
	h.put("</section>\n")
}

// recordNote says how a record was found and what it is for.
func recordNote(r Record) string {
	var note string
	switch r.State {
	case Missing:
		note = "Missing"
	case Wrong:
		note = "Wrong"
		if len(r.Found) > 0 {
			note += ": now " + strings.Join(r.Found, " and ")
		}
	default:
		note = "Not looked up yet"
	}
	if r.Optional {
		note += "; nothing waits for it"
	}
	if r.For != "" {
		note += ". For " + r.For
	}
	if f := strings.Fields(r.Data); r.Type == "SRV" && len(f) == 4 {
		note += ". Priority " + f[0] + ", weight " + f[1] + ", port " + f[2] + ", target " + f[3]
		return note
	}
	return note + "."
}

func (h *sheet) certificates(all []Certificate) {
	if len(all) == 0 {
		return
	}
	h.put(`<section>
<h2>Certificates</h2>
<table class="certificates">
<caption>What browsers and apps trust this machine by</caption>
<thead>
<tr><th scope="col">Name</th><th scope="col">Signed by</th><th scope="col">Until</th></tr>
</thead>
<tbody>
`)
	for _, c := range all {
		by, until := "nobody yet", ""
		if c.Signed {
			if by = c.Issuer; by == "" {
				by = "an authority"
			}
			if !c.NotAfter.IsZero() {
				until = day(c.NotAfter)
			}
		}
		h.put("<tr><th scope=\"row\">{}</th><td class=\"by\">{}</td><td class=\"until\">{}</td></tr>\n", c.Name, by, until)
	}
	h.put("</tbody>\n</table>\n</section>\n")
}
