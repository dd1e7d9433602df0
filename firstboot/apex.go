package firstboot

import (
	"net/netip"
	"slices"

	"github.com/prose-im/prose-image/firstboot/certificate"
	"github.com/prose-im/prose-image/firstboot/preflight"
)

// The domain itself, the apex, often leads to a website on another machine.
// There are three ways to its certificate then: the website sends authorities on
// to us, a TXT record vouches for our account, or the owner brings it.

// An apex is where the domain leads, as far as the records depend on it.
type apex struct {
	away      bool // to another machine, and that is as it should be
	elsewhere bool // to another machine, and the owner has not said how to go on
	persist   bool // a TXT record vouches for our account
	issuer    preflight.Issuer
}

// apexOf says where the domain leads by what was observed and what DNS said.
func apexOf(w *world, answers map[string]answer) apex {
	st := w.certs[w.settings.Domain]
	at := apex{elsewhere: elsewhere(w)}
	if st.Record.Issuer != nil {
		at.issuer = *st.Record.Issuer
	}
	switch apexMethod(w) {
	case certificate.HTTP01:
		at.away = st.Record.Preflight.Delegated
		return at
	case certificate.DNSPersist01:
		at.persist = true
	}
	at.away = !slices.ContainsFunc(answers[w.settings.Domain].Addresses, func(a netip.Addr) bool { return slices.Contains(w.addresses, a) })
	return at
}

// apexMethod is the domain's way to its certificate.
func apexMethod(w *world) certificate.Method {
	for _, n := range w.keeper.Settings.Names {
		if n.Apex && n.Method != "" {
			return n.Method
		}
	}
	return certificate.HTTP01
}

// elsewhere says that the domain leads to somebody else's machine, though the
// authority is to find this one there. Where the web app's name leads to the same
// addresses, it is no website, but wrong DNS or a way that is closed.
func elsewhere(w *world) bool {
	look := w.certs[w.settings.Domain].Record.Preflight
	if apexMethod(w) != certificate.HTTP01 || !look.Elsewhere() {
		return false
	}
	var others []string
	for _, f := range w.certs["prose."+w.settings.Domain].Record.Preflight.Findings {
		others = append(others, f.Found...)
	}
	for _, a := range w.addresses {
		others = append(others, a.String())
	}
	for _, f := range look.Findings {
		if !slices.ContainsFunc(f.Found, func(a string) bool { return slices.Contains(others, a) }) {
			return true
		}
	}
	return false
}
