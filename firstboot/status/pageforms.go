package status

import (
	"slices"
	"strings"
)

// forms are how providers' forms want what is the same in every zone file: the
// name of the domain itself, and names that records lead to.
var forms = []struct{ providers, apex, target string }{
	{"AWS Route 53", "leave it empty", "with or without the last dot"},
	{"Cloudflare", "@", "with or without the last dot"},
	{"Gandi, Hetzner", "@", "with the last dot"},
	{"GoDaddy, IONOS, Namecheap", "@", "without the last dot"},
	{"OVHcloud", "leave it empty", "with the last dot"},
}

// forms shows how to enter records where there is no zone file.
func (h *sheet) forms(s Status, some []Record) {
	var services []Record
	for _, r := range some {
		if len(strings.Fields(r.Data)) == 4 && r.Type == "SRV" {
			services = append(services, r)
		}
	}
	if len(services) > 0 {
		h.put(`<h3>SRV records, for forms that ask field by field</h3>
<table class="fields">
<caption>Where a form wants service and protocol without the underscore, leave it out</caption>
<thead>
<tr><th scope="col">Service</th><th scope="col">Protocol</th><th scope="col">Name</th><th scope="col">Priority</th><th scope="col">Weight</th><th scope="col">Port</th><th scope="col">Target</th></tr>
</thead>
<tbody>
`)
		for _, r := range services {
			f := strings.Fields(r.Data)
			service, rest, _ := strings.Cut(r.Name, ".")
			protocol, name, _ := strings.Cut(rest, ".")
			h.put("<tr><th scope=\"row\">{}</th><td class=\"protocol\">{}</td><td class=\"name\">{}</td><td class=\"priority\">{}</td><td class=\"weight\">{}</td><td class=\"port\">{}</td><td class=\"target\">{}</td></tr>\n",
				service, protocol, host(name, s.Domain), f[0], f[1], f[2], strings.TrimSuffix(f[3], "."))
		}
		h.put("</tbody>\n</table>\n")
	}
	leads := slices.ContainsFunc(some, func(r Record) bool { return r.Type == "CNAME" || r.Type == "SRV" })
	apex := slices.ContainsFunc(some, func(r Record) bool { return host(r.Name, s.Domain) == "@" })
	if !leads && !apex {
		return
	}
	h.put(`<h3>What differs between providers</h3>
<table class="fields">
<caption>If yours is not here, its own help says how it wants these two</caption>
<thead>
<tr><th scope="col">Provider</th><th scope="col">Name where the list has @</th><th scope="col">Names that CNAME and SRV lead to</th></tr>
</thead>
<tbody>
`)
	for _, f := range forms {
		h.put("<tr><th scope=\"row\">{}</th><td class=\"apex\">{}</td><td class=\"leads\">{}</td></tr>\n", f.providers, f.apex, f.target)
	}
	h.put("</tbody>\n</table>\n<p>At Cloudflare, set every one of these records to \"DNS only\": a proxy lets no chat through, and shows the world its own address instead of this machine's.</p>\n")
	if zone := parentZone(s.Domain); zone != "" {
		h.put("<p>If your provider has {} as one zone, names there need what {} has before it too: {} for this machine's web app.</p>\n", zone, s.Domain, host("prose."+s.Domain, zone))
	}
}

// parentZone is the domain above one that may be a part of another's zone.
func parentZone(domain string) string {
	_, parent, _ := strings.Cut(domain, ".")
	if !strings.Contains(parent, ".") {
		return ""
	}
	return parent
}
