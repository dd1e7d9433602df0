package firstboot

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/prose-im/prose-image/firstboot/certificate"
	"github.com/prose-im/prose-image/firstboot/dns"
	"github.com/prose-im/prose-image/firstboot/preflight"
	"github.com/prose-im/prose-image/firstboot/status"
)

const (
	lookSoon  = 30 * time.Second // records are looked up again while any is missing
	lookLate  = time.Hour        // and when none is
	lookLimit = 15 * time.Second
	ttl       = 3600
)

// wantedRecords are the records of a domain on a machine with these addresses.
func wantedRecords(domain string, federated bool, addresses []netip.Addr, at apex) []status.Record {
	var out []status.Record
	address := func(name, what string) {
		known := false
		for _, six := range []bool{false, true} {
			for _, a := range addresses {
				if a.Is6() == six && !private(a) {
					out = append(out, status.Record{Name: name, Type: addressType(a), TTL: ttl, Data: a.String(), For: what})
					known = true
					break
				}
			}
		}
		if !known {
			hint := "the machine's public address"
			if len(addresses) > 0 {
				hint += "; its own network knows it as " + addresses[0].String()
			}
			out = append(out, status.Record{Name: name, Type: "A", TTL: ttl, Hint: hint, For: what})
		}
	}
	alias := func(name, what string, optional bool) {
		out = append(out, status.Record{Name: name, Type: "CNAME", TTL: ttl, Data: "prose." + domain + ".", For: what, Optional: optional})
	}
	service := func(name string, port int, what string, optional bool) {
		out = append(out, status.Record{Name: name, Type: "SRV", TTL: ttl, Data: fmt.Sprintf("0 5 %d prose.%s.", port, domain), For: what, Optional: optional})
	}
	address("prose."+domain, "web app")
	alias("admin.prose."+domain, "dashboard", false)
	if !at.away {
		n := len(out)
		address(domain, "sign-in and discovery")
		for i := range out[n:] {
			out[n+i].Optional = at.elsewhere
		}
	}
	if at.persist {
		r := status.Record{Name: preflight.PersistLabel + domain, Type: "TXT", TTL: ttl, For: "the certificate of " + domain,
			Hint: "known once the machine has an account at the authority"}
		if value := preflight.PersistValue(at.issuer); value != "" {
			r.Data, r.Hint = preflight.TXTData(value), ""
		}
		out = append(out, r)
	}
	alias("groups."+domain, "group chats with other servers", !federated)
	// Apps try the domain's address where no record leads them.
	here := !at.away && !at.elsewhere
	service("_xmpp-client._tcp."+domain, 5222, "chat apps", here)
	if federated {
		service("_xmpp-server._tcp."+domain, 5269, "other servers", here)
		service("_xmpp-server._tcp.groups."+domain, 5269, "group chats with other servers", true)
	}
	return out
}

func addressType(a netip.Addr) string {
	if a.Is6() {
		return "AAAA"
	}
	return "A"
}

// An answer is what DNS says about one record's name.
type answer struct {
	Addresses []netip.Addr  `json:",omitempty"`
	Services  []dns.Service `json:",omitempty"`
	Texts     []string      `json:",omitempty"`
	Failed    bool          `json:",omitempty"` // it said nothing about some type
}

// lookUp asks DNS for what the records are about.
func lookUp(ctx context.Context, c dns.Client, records []status.Record) map[string]answer {
	ctx, cancel := context.WithTimeout(ctx, lookLimit)
	defer cancel()
	out := map[string]answer{}
	for _, r := range records {
		if _, ok := out[r.Name]; ok {
			continue
		}
		var a answer
		switch r.Type {
		case "SRV":
			got, err := c.Lookup(ctx, r.Name, dns.SRV)
			a.Services, a.Failed = got.Services, err != nil
		case "TXT":
			got, err := c.Lookup(ctx, r.Name, dns.TXT)
			a.Texts, a.Failed = got.Texts, err != nil
		default:
			for _, t := range dns.AddressTypes {
				got, err := c.Lookup(ctx, r.Name, t)
				a.Failed = a.Failed || err != nil
				a.Addresses = append(a.Addresses, got.Addresses...)
			}
		}
		out[r.Name] = a
	}
	return out
}

// judgeRecords fills in how the records were found: by what DNS answers, and by
// what a fetch through their addresses has shown.
func judgeRecords(records []status.Record, answers map[string]answer, ours []netip.Addr, certs certificate.Observed, now time.Time) []status.Record {
	var out []status.Record
	for _, r := range records {
		a := answers[r.Name]
		switch {
		case r.Type == "SRV":
			r.State, r.Found = judgeService(r, a)
		case r.Type == "TXT":
			r.State, r.Found = judgeText(a, certs[strings.TrimPrefix(r.Name, preflight.PersistLabel)].Record.Issuer, now)
		default:
			r.State, r.Found = judgeAddress(r, a, ours, certs[r.Name].Record.Preflight)
		}
		out = append(out, r)
	}
	// What stands in a certificate's way and is no address.
	seen := map[string]bool{}
	for _, host := range sortedHosts(certs) {
		for _, f := range certs[host].Record.Preflight.Findings {
			if f.Kind != preflight.Forbidden || seen[f.Name] || certs[host].Live.Signed {
				continue
			}
			seen[f.Name] = true
			_, data, _ := strings.Cut(f.Wanted, " CAA ")
			out = append(out, status.Record{Name: f.Name, Type: "CAA", TTL: ttl, Data: data, Hint: "a record for the authority", For: "certificates", State: status.Wrong, Found: f.Found})
		}
	}
	return out
}

func judgeAddress(r status.Record, a answer, ours []netip.Addr, look preflight.Result) (status.RecordState, []string) {
	var mine, all []string
	for _, addr := range a.Addresses {
		// An address of the other family is another record's matter.
		if r.Type != "CNAME" && addressType(addr) != r.Type {
			continue
		}
		all = append(all, addr.String())
		if slices.Contains(ours, addr) {
			mine = append(mine, addr.String())
		}
	}
	var bad []string
	for _, f := range look.Findings {
		if f.Kind == preflight.Foreign || f.Kind == preflight.Silent || f.Kind == preflight.Special {
			if r.Type == "CNAME" || f.Type == r.Type {
				bad = append(bad, f.Found...)
			}
		}
	}
	switch {
	case len(bad) > 0 && len(all) > 0:
		return status.Wrong, bad
	case len(all) > 0 && len(mine) < len(all) && len(mine) > 0:
		// One that is ours, and one that leads elsewhere half of the time.
		return status.Wrong, all
	case len(all) > 0:
		return status.Present, nil
	case a.Failed:
		return status.Unknown, nil
	}
	return status.Missing, nil
}

func judgeService(r status.Record, a answer) (status.RecordState, []string) {
	var found []string
	for _, s := range a.Services {
		data := fmt.Sprintf("%d %d %d %s.", s.Priority, s.Weight, s.Port, s.Target)
		_, want, _ := strings.Cut(r.Data, " ")
		_, want, _ = strings.Cut(want, " ") // port and target; the rest is taste
		if data[strings.LastIndex(data, fmt.Sprintf(" %d ", s.Port))+1:] == want {
			return status.Present, nil
		}
		found = append(found, data)
	}
	switch {
	case len(found) > 0:
		return status.Wrong, found
	case a.Failed:
		return status.Unknown, nil
	}
	return status.Missing, nil
}

func judgeText(a answer, issuer *preflight.Issuer, now time.Time) (status.RecordState, []string) {
	switch {
	case a.Failed || issuer == nil:
		return status.Unknown, nil
	case preflight.Persisted(a.Texts, *issuer, now) == "":
		return status.Present, nil
	case len(a.Texts) == 0:
		return status.Missing, nil
	}
	// Others' records may stand there too.
	var found []string
	for _, text := range a.Texts {
		found = append(found, preflight.TXTData(text))
	}
	return status.Wrong, found[:min(len(found), 5)]
}

func sortedHosts(certs certificate.Observed) []string {
	var hosts []string
	for h := range certs {
		hosts = append(hosts, h)
	}
	slices.Sort(hosts)
	return hosts
}
