package firstboot

import (
	"slices"
	"strings"
	"time"

	"github.com/prose-im/prose-image/firstboot/certificate"
	"github.com/prose-im/prose-image/firstboot/status"
)

// lookAt is what mostly stands between a machine and its certificates.
const lookAt = "look whether the DNS records are right, and whether your provider's firewall lets everybody to the ports 80 and 443."

// certificatesItem is about the names that an authority certifies. The
// domain's own has an item of its own while it waits for the owner.
func certificatesItem(w seen) status.Item {
	var lacking, failing, late, doubtful []string
	var again time.Time
	why, held := "", ""
	apexWaits := apexItem(w).Progress == status.Owner
	for _, n := range w.keeper.Settings.Names {
		st := w.certs[n.Host]
		if n.Method == certificate.Owned || n.Apex && apexWaits {
			continue
		}
		if f := st.Record.Failures; len(f) > 0 {
			at := f[len(f)-1].At.Add(f[len(f)-1].Wait)
			if again.IsZero() || at.Before(again) {
				again = at
			}
			why = f[len(f)-1].Why
			failing = append(failing, n.Host)
		}
		switch {
		case st.Live.Signed && st.Live.Valid(w.now):
			if left := st.Live.NotAfter.Sub(w.now); left < st.Live.NotAfter.Sub(st.Live.NotBefore)/5 {
				late = append(late, n.Host)
			}
		case st.Doubtful(w.now):
			doubtful = append(doubtful, n.Host)
		case needed(w.world, n.Host):
			lacking = append(lacking, n.Host)
			if st.Hold != "" {
				held = st.Hold
			}
		}
	}
	stale := staleServers(w.world)
	switch {
	case len(stale) > 0 && len(lacking) == 0 && (w.state.Ready.IsZero() || w.errs[itemCertificates] != ""):
		it := item(status.Doing, strings.Join(stale, " and ")+" still shows another certificate than it should.")
		it.Why = sentence(w.errs[itemCertificates])
		return it
	case len(doubtful) > 0:
		it := item(status.Warning, "By this machine's clock, certificates that were just signed are not valid.")
		it.Why = "The clock must be wrong: the authority has signed them by its own. Until it is set, no others are ordered."
		it.Do, it.Type = "Look at the clock:", []string{"timedatectl"}
		return it
	case len(lacking) == 0 && len(late) == 0 && len(failing) == 0 && apexWaits:
		return item(status.Done, "All other names have a certificate that browsers trust.")
	case len(lacking) == 0 && len(late) == 0 && len(failing) == 0:
		return item(status.Done, "All names have a certificate that browsers trust.")
	case len(lacking) == 0:
		it := item(status.Warning, "The renewal for "+strings.Join(failing, ", ")+" does not work yet. The certificates of before are still good.")
		it.Why, it.Again = sentence(why), again
		if len(failing) == 0 {
			it.What = "The certificate of " + strings.Join(late, ", ") + " ends soon and is not renewed yet. It is still good."
		}
		it.Do = "Nothing for now: the machine goes on by itself. If it lasts for days, " + lookAt
		return it
	case len(failing) > 0:
		it := item(status.Failed, "No certificate could be had for "+strings.Join(failing, ", ")+".")
		it.Why, it.Again = sentence(why), again
		it.Do = strings.ToUpper(lookAt[:1]) + lookAt[1:] + " The machine tries again by itself. When you have mended something, have it try now:"
		it.Type = []string{"sudo prose-firstboot renew"}
		return it
	}
	it := item(status.Doing, "They are ordered when the DNS records are there. Until then browsers warn.")
	if w.step.do == keep && (w.step.cert.Action == certificate.GetOne || w.step.cert.Action == certificate.CheckDNS) {
		it.What = "The machine is getting them now."
	}
	switch {
	case w.errs[itemCertificates] != "":
		it.Why = sentence(w.errs[itemCertificates])
	case held != "":
		it.Why = sentence(held)
	}
	// What is in the way besides the records.
	for _, host := range lacking {
		for _, f := range w.certs[host].Record.Preflight.Findings {
			if text := host + ": " + strings.TrimSuffix(f.Why, ".") + "."; !slices.Contains(it.Points, text) {
				it.Points = append(it.Points, text)
			}
		}
	}
	return it
}

// needed says whether the machine is not ready without a certificate for host.
// Rooms have one for other servers only.
func needed(w *world, host string) bool {
	return w.settings.Federation || host != "groups."+w.settings.Domain
}

// staleServers are those that answer with another certificate than their files
// have: they have not read them yet.
func staleServers(w *world) []string {
	var out []string
	for _, n := range w.keeper.Settings.Names {
		st := w.certs[n.Host]
		for _, server := range []struct {
			name  string
			has   bool
			shown certificate.Served
			file  certificate.Pair
		}{{"NGINX", n.HTTPS, st.HTTPS, st.Live}, {"Prosody", n.XMPP != certificate.NoXMPP, st.XMPP, st.Prosody}} {
			if server.has && !server.shown.Down && server.shown != (certificate.Served{}) && !server.shown.Shows(server.file) && !slices.Contains(out, server.name) {
				out = append(out, server.name)
			}
		}
	}
	return out
}
