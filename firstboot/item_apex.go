package firstboot

import (
	"fmt"
	"time"

	"github.com/prose-im/prose-image/firstboot/certificate"
	"github.com/prose-im/prose-image/firstboot/preflight"
	"github.com/prose-im/prose-image/firstboot/status"
)

// ownLate is how long before its end the owner's certificate needs a look.
const ownLate = 21 * 24 * time.Hour

// apexItem says how the domain comes to its certificate, when that is not by an
// address that leads here.
func apexItem(w seen) status.Item {
	d, st := w.settings.Domain, w.certs[w.settings.Domain]
	switch method := apexMethod(w.world); {
	case method == certificate.Owned:
		return ownItem(w.world, st)
	case method == certificate.DNSPersist01:
		return persistItem(w.world, st)
	case elsewhere(w.world):
		it := item(status.Owner, d+" leads to another machine, so the authority does not find this one there.")
		it.Why = sentence(st.Record.Preflight.Findings[0].Why)
		it.Do = fmt.Sprintf("If it has no website, replace its address records by those below. Else take one of these ways; people's addresses end in %s all the same:", d)
		it.Ways = ways(d, st.Record.Issuer)
		it.Again = w.now.Add(lookSoon).UTC().Truncate(time.Second)
		return it
	case st.Record.Preflight.Delegated:
		return item(status.Done, d+" leads to a website, which sends authorities on to this machine.")
	}
	return status.Item{}
}

// ways are the three, ready to paste.
func ways(d string, issuer *preflight.Issuer) []status.Way {
	const challenge, meta = "/.well-known/acme-challenge/", "/.well-known/host-meta"
	to := "http://prose." + d
	list := []status.Way{
		{Title: "The website sends authorities on to this machine. In NGINX, in the server of " + d + " for port 80 (and host-meta, by which web pages find the chat, for port 443 too):", Type: []string{
			"location ^~ " + challenge + " { return 302 " + to + "$request_uri; }",
			"location ^~ " + meta + " { add_header Access-Control-Allow-Origin * always; return 302 https://prose." + d + "$request_uri; }",
		}},
		{Title: "The same in Apache:", Type: []string{
			`RedirectMatch 302 "^(/\.well-known/acme-challenge/.*)$" "` + to + `$1"`,
			`RedirectMatch 302 "^(/\.well-known/host-meta(\.json)?)$" "https://prose.` + d + `$1"`,
		}},
		{Title: "The same wherever else redirects are set; the path goes on behind both:", Type: []string{
			"http://" + d + challenge + "*  ->  " + to + challenge + "*  (302)",
		}},
	}
	persist := status.Way{Title: "Or a DNS record that stays vouches for this machine. Add it, then say so:", Type: []string{"sudo prose-firstboot configure --apex-method " + string(certificate.DNSPersist01)}}
	if issuer != nil && preflight.PersistValue(*issuer) != "" {
		persist.Type = append([]string{txtLine(d, *issuer)}, persist.Type...)
	} else {
		persist.Title = "Or a DNS record that stays vouches for this machine. Say so, and it is shown here:"
	}
	return append(list, persist, bringIt(d))
}

func txtLine(d string, issuer preflight.Issuer) string {
	return fmt.Sprintf("%s%s. %d IN TXT %s", preflight.PersistLabel, d, ttl, preflight.TXTData(preflight.PersistValue(issuer)))
}

func bringIt(d string) status.Way {
	return status.Way{Title: "Or you bring the certificate of " + d + " yourself, and a new one before it ends:", Type: []string{
		"sudo prose-firstboot configure --apex-method own --apex-chain-file fullchain.pem --apex-key-file privkey.pem",
	}}
}

func persistItem(w *world, st certificate.State) status.Item {
	d := w.settings.Domain
	for _, f := range st.Record.Preflight.Findings {
		switch f.Kind {
		case preflight.Unoffered:
			it := item(status.Owner, "The authority cannot certify "+d+" by a DNS record that stays.")
			it.Why, it.Do = sentence(f.Why), "Take another way:"
			it.Ways = append(ways(d, nil)[:3:3], status.Way{Title: "With the website sending authorities on, say so:", Type: []string{"sudo prose-firstboot configure --apex-method " + string(certificate.HTTP01)}}, bringIt(d))
			return it
		case preflight.Unpersisted:
			it := item(status.Owner, "The DNS record that vouches for this machine's account is not there as it should be.")
			it.Why = sentence(f.Why)
			it.Do = "Add it where you manage the DNS of " + d + ". It stays, for renewals too."
			if f.Wanted != "" {
				it.Type = []string{f.Wanted}
			}
			it.Again = w.now.Add(lookSoon).UTC().Truncate(time.Second)
			return it
		}
	}
	if !st.Live.Signed || !st.Live.Valid(w.now) {
		return item(status.Doing, d+" is certified once the DNS record that vouches for this machine is there.")
	}
	it := item(status.Done, d+" is certified by a DNS record that stays.")
	if i := st.Record.Issuer; i != nil && preflight.PersistValue(*i) != "" {
		// Others who certify the domain's website would be shut out by it.
		it.Points = []string{fmt.Sprintf("Whoever steals this machine's account key could have certificates of %s. A record %s. %d IN CAA 0 issue %s, with one more such record for each other account that certifies %s or a name below it, lets nobody else.",
			d, d, ttl, preflight.TXTData(preflight.PersistValue(*i)), d)}
	}
	return it
}

func ownItem(w *world, st certificate.State) status.Item {
	d := w.settings.Domain
	it := item(status.Owner, "")
	it.Do, it.Type = "Put another one into the settings:", bringIt(d).Type
	switch left := st.Own.NotAfter.Sub(w.now); {
	case st.OwnWhy != "":
		it.What, it.Why = "The certificate that you brought cannot stand for "+d+".", sentence(st.OwnWhy)
	case w.now.Before(st.Own.NotBefore):
		it.What = fmt.Sprintf("The certificate of %s that you brought begins on %s.", d, day(st.Own.NotBefore))
	case left <= 0:
		it.What = fmt.Sprintf("The certificate of %s that you brought ended on %s.", d, day(st.Own.NotAfter))
	case left < ownLate:
		it.Progress, it.What = status.Warning, fmt.Sprintf("The certificate of %s that you brought ends on %s.", d, day(st.Own.NotAfter))
	default:
		return item(status.Done, fmt.Sprintf("You brought the certificate of %s. It ends on %s.", d, day(st.Own.NotAfter)))
	}
	return it
}
