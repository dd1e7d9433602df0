package firstboot

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/prose-im/prose-image/firstboot/certificate"
	"github.com/prose-im/prose-image/firstboot/status"
)

// The titles of the items, as people read them.
var titles = map[string]string{
	itemSettings:     "Settings",
	itemCopy:         "Copy",
	itemClock:        "Clock",
	itemDisk:         "Disk",
	itemSetup:        "Files",
	itemNGINX:        "Web server",
	itemWalls:        "Packet filter",
	itemPod:          "Prose Pod",
	itemDNS:          "DNS records",
	itemCertificates: "Certificates",
	itemAccount:      "First account",
	itemReboot:       "Restart",
	itemAlerts:       "Alerts",
	itemApex:         "Domain",
}

func item(key string, p status.Progress, what string) status.Item {
	return status.Item{Key: key, Title: titles[key], Progress: p, What: what}
}

// items is the list, in the order in which things come about. errs is what went
// wrong in this run, by item.
func items(w *world, s step, errs map[string]string, records []status.Record) []status.Item {
	list := []status.Item{settingsItem(w)}
	if len(w.readOnly) > 0 {
		list = append(list, readOnlyItem(w))
	}
	if w.clock.early() {
		list = append(list, clockItem(w))
	}
	if w.state.Domain == "" {
		if e := errs[itemSettings]; e != "" {
			it := item(itemSetup, status.Failed, "The machine cannot be set up.")
			it.Why = sentence(e)
			list = append(list, it)
		}
		return list
	}
	if w.copied() || !w.state.Copied.IsZero() {
		list = append(list, copyItem(w, errs))
	}
	list = append(list, nginxItem(w, errs), podItem(w, errs), dnsItem(w, records))
	apex, ok := apexItem(w)
	if ok {
		list = append(list, apex)
	}
	list = append(list, certificatesItem(w, s, errs, apex.Progress == status.Owner), accountItem(w, errs))
	for _, key := range []string{itemSetup, itemWalls} {
		if e := errs[key]; e != "" {
			it := item(key, status.Failed, "The machine cannot be set up as it should be.")
			it.Why = sentence(e)
			it.Do, it.Type = "If the disk is full, make room, or make it larger at your provider. See what the machine tried:", []string{"df -h /", "sudo journalctl -u prose-firstboot -n 30"}
			list = append(list, it)
		}
	}
	if w.disk.percent() > full && len(w.readOnly) == 0 {
		list = append(list, diskItem(w.disk))
	}
	if w.reboot {
		list = append(list, rebootItem())
	}
	if len(w.untold) > 0 {
		list = append(list, alertsItem(w))
	}
	for i := range list {
		if it := &list[i]; it.Progress == status.Failed && it.Again.IsZero() {
			it.Again = w.now.Add(timerEvery).UTC().Truncate(time.Second)
		}
	}
	return list
}

func diskItem(d disk) status.Item {
	it := item(itemDisk, status.Warning, fmt.Sprintf("The disk is %d %% full.", d.percent()))
	it.Why = "When it is full, nobody can send messages or files, and certificates cannot be renewed."
	it.Do = "Make the disk larger at your provider and restart the machine, which then uses all of it; or see what takes the room:"
	it.Type = []string{"sudo du -xh --max-depth=3 / | sort -h | tail -n 20"}
	return it
}

func rebootItem() status.Item {
	it := item(itemReboot, status.Warning, "Security upgrades are installed and wait for a restart.")
	it.Why = "The machine does not restart by itself, because that cuts off everybody for a minute or two."
	it.Do, it.Type = "Restart it when nobody minds:", []string{"sudo reboot"}
	return it
}

func alertsItem(w *world) status.Item {
	it := item(itemAlerts, status.Warning, "The machine cannot tell you of troubles: "+count(len(w.untold), "way")+" to you did not work.")
	for _, name := range slices.Sorted(maps.Keys(w.untold)) {
		c := w.untold[name]
		it.Points = append(it.Points, "By "+name+": "+sentence(c.Error))
		if it.Again.IsZero() || c.Again.Before(it.Again) {
			it.Again = c.Again.UTC().Truncate(time.Second)
		}
	}
	it.Do = "Correct smtp.* for mail, or alerts.webhook, in the settings."
	return it
}

// sentence makes an error message one: a capital letter and a full stop.
func sentence(s string) string {
	s = strings.TrimSpace(strings.ReplaceAll(s, "\n", "; "))
	if s == "" {
		return ""
	}
	return strings.ToUpper(s[:1]) + strings.TrimSuffix(s[1:], ".") + "."
}

func settingsItem(w *world) status.Item {
	switch {
	case w.state.Reset:
		return item(itemSettings, status.Doing, "The machine goes back to its beginning, and forgets "+w.state.Domain+".")
	case len(w.report.Problems) > 0:
		it := item(itemSettings, status.Owner, fmt.Sprintf("The settings have %s. None of the settings is used until all are right.", count(len(w.report.Problems), "mistake")))
		if w.state.Domain != "" {
			it.What = fmt.Sprintf("The settings have %s. What was set up before goes on.", count(len(w.report.Problems), "mistake"))
		}
		for _, p := range w.report.Problems {
			text := p.String() + "."
			if p.Hint != "" {
				text += " Hint: " + p.Hint
				if !strings.HasSuffix(text, "?") {
					text += "."
				}
			}
			it.Points = append(it.Points, text)
		}
		it.Do = "Correct them where they stand, or answer the questions of this command:"
		it.Type = []string{"sudo prose-firstboot configure"}
		return it
	case w.conflict():
		it := item(itemSettings, status.Warning, fmt.Sprintf("The settings name %s, but this machine was set up for %s.", w.asked, w.settings.Domain))
		it.Why = "The domain of a machine cannot change, because everybody's address ends in it. The machine stays with " + w.settings.Domain + "."
		it.Do = fmt.Sprintf("Name %s in the settings again. For %s start another machine, or let this one forget everything and begin anew:", w.settings.Domain, w.asked)
		it.Type = []string{"sudo prose-firstboot reset"}
		return it
	case !w.configured():
		return status.Unconfigured().Items[0]
	}
	it := item(itemSettings, status.Done, "The machine is set up for "+w.settings.Domain+".")
	if w.settings.Analytics {
		it.Points = append(it.Points, "The Pod sends figures about its use to its makers: analytics is true.")
	}
	for _, c := range w.report.Conflicts {
		it.Points = append(it.Points, c.String()+".")
	}
	// Who is shut out by these wonders why.
	for _, a := range []struct {
		what     string
		networks []string
	}{{"SSH", w.settings.Allow.SSH}, {"The dashboard", w.settings.Allow.Dashboard}} {
		if len(a.networks) > 0 {
			it.Points = append(it.Points, a.what+" is open to these networks only: "+strings.Join(a.networks, ", ")+".")
		}
	}
	return it
}

// copyItem is of a machine whose disk was another's.
func copyItem(w *world, errs map[string]string) status.Item {
	d := w.settings.Domain
	if w.copied() {
		it := item(itemCopy, status.Doing, "The disk of this machine is a copy of another's that was set up for "+d+". It becomes a machine of its own.")
		if e := errs[itemCopy]; e != "" {
			it.Progress, it.Why = status.Failed, sentence(e)
		}
		return it
	}
	it := item(itemCopy, status.Owner, "The disk of this machine is a copy of another's that was set up for "+d+". Until DNS leads here it orders no certificates.")
	if away := w.reach.away(d); len(away) > 0 {
		it.Why = "DNS leads " + d + " to " + strings.Join(away, " and ") + "."
	}
	it.Do = "If it shall take over, change the DNS records below and switch the other one off. If not, let it forget everything and begin anew:"
	it.Type = []string{"sudo prose-firstboot reset"}
	it.Again = w.now.Add(lookSoon).UTC().Truncate(time.Second)
	return it
}

// clockItem is of a machine whose clock is before its own making.
func clockItem(w *world) status.Item {
	it := item(itemClock, status.Doing, fmt.Sprintf("The clock says %s, and this machine's software is from %s.", day(w.now), day(w.clock.made)))
	it.Why = "It waits for the time from the network. Until then no certificates are ordered."
	if !w.clock.holds() {
		it.Progress, it.Why = status.Warning, "No time came from the network. The machine goes on as well as it can; certificates need the right time."
		it.Do, it.Type = "See who gives the time, or set it:", []string{"timedatectl", "sudo timedatectl set-time \"YYYY-MM-DD hh:mm:ss\""}
	}
	return it
}

func day(t time.Time) string { return t.UTC().Format("2 January 2006") }

func nginxItem(w *world, errs map[string]string) status.Item {
	if e := errs[itemNGINX]; e != "" {
		it := item(itemNGINX, status.Failed, "NGINX does not serve the sites of "+w.settings.Domain+".")
		it.Why, it.Do, it.Type = sentence(e), "The machine tries again by itself. See what NGINX says:", []string{"systemctl status nginx", "sudo journalctl -u nginx -n 20"}
		return it
	}
	if !w.siteTaken() {
		return item(itemNGINX, status.Doing, "NGINX gets the sites of "+w.settings.Domain+".")
	}
	for _, host := range sortedHosts(w.certs) {
		if w.certs[host].HTTPS.Down {
			it := item(itemNGINX, status.Failed, "NGINX does not answer on port 443.")
			it.Why = "Until it does, nobody reaches the web app and the dashboard."
			it.Do, it.Type = "See why it does not run:", []string{"systemctl status nginx"}
			return it
		}
	}
	return item(itemNGINX, status.Done, "NGINX answers on ports 80 and 443.")
}

// engineLimit is how long the engine may take to answer before that is a failure.
const engineLimit = 2 * time.Minute

func podItem(w *world, errs map[string]string) status.Item {
	switch {
	case w.off:
		it := item(itemPod, status.Owner, "The Pod is switched off.")
		it.Why, it.Do, it.Type = "Somebody stopped prose.service.", "Switch it on again:", []string{"sudo systemctl start prose"}
		return it
	case w.pod.ready:
		it := item(itemPod, status.Done, "The server, the API, the dashboard and the web app answer.")
		if w.pod.complaints > 0 {
			it.Points = []string{fmt.Sprintf("The ends of their logs have %s with the word \"error\".", count(w.pod.complaints, "line"))}
		}
		return it
	case w.pod.trouble != "" && w.pod.err == nil:
		// An engine starts slowly on a small machine.
		it := item(itemPod, status.Doing, "Docker does not answer. The Pod starts when it does.")
		if time.Since(w.pod.since) > engineLimit {
			it.Progress = status.Failed
		}
		it.Why, it.Do, it.Type = sentence(w.pod.trouble), "See what it says:", []string{"systemctl status docker", "sudo journalctl -u docker -n 20"}
		return it
	case w.pod.err != nil || errs[itemPod] != "":
		it := item(itemPod, status.Failed, "The Pod does not answer.")
		it.Why = sentence(errs[itemPod])
		if w.pod.err != nil {
			it.Why = sentence(w.pod.err.Error())
		}
		it.Do, it.Type = "The machine tries again by itself. See what the containers said last:", []string{"sudo docker ps -a", "sudo docker logs --tail 50 prose-api-1"}
		return it
	}
	it := item(itemPod, status.Doing, "The containers of the Pod are started.")
	if w.pod.doing != "" {
		it.Why = sentence("now: " + w.pod.doing)
	}
	return it
}

func dnsItem(w *world, records []status.Record) status.Item {
	missing, wrong, unknown, optional := 0, 0, 0, 0
	for _, r := range records {
		switch {
		case r.State == status.Present:
		case r.Name == w.settings.Domain && r.Type != "CAA" && elsewhere(w):
			// The domain's own item says what to do about it.
		case r.Optional:
			optional++
		case r.State == status.Missing:
			missing++
		case r.State == status.Wrong:
			wrong++
		default:
			unknown++
		}
	}
	if missing+wrong > 0 {
		var parts []string
		if missing > 0 {
			parts = append(parts, isOrAre(missing)+" missing")
		}
		if wrong > 0 {
			parts = append(parts, isOrAre(wrong)+" wrong")
		}
		it := item(itemDNS, status.Owner, fmt.Sprintf("Of the records that %s needs, %s.", w.settings.Domain, strings.Join(parts, " and ")))
		it.Why = "Without them nobody finds this machine, and no authority signs certificates for it."
		it.Do = "Log in at the provider of the domain " + w.settings.Domain + ", open its DNS settings, and add the records below. "
		if wrong > 0 {
			it.Do += "Remove what is there instead, such as addresses of another machine. "
		}
		it.Do += "It can take an hour until the world sees a change."
		it.Again = w.now.Add(lookSoon).UTC().Truncate(time.Second)
		return it
	}
	if unknown > 0 {
		it := item(itemDNS, status.Doing, "DNS does not answer yet.")
		it.Why = "The machine asks the name servers that its network gave it."
		it.Again = w.now.Add(lookSoon).UTC().Truncate(time.Second)
		return it
	}
	it := item(itemDNS, status.Done, "All records that are needed are there.")
	if optional > 0 {
		it.Points = []string{fmt.Sprintf("%s would make it better; see below.", count(optional, "more record"))}
	}
	return it
}

func isOrAre(n int) string {
	if n == 1 {
		return "1 is"
	}
	return fmt.Sprintf("%d are", n)
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

// needed says whether the machine is not ready without a certificate for host.
// Rooms have one for other servers only.
func needed(w *world, host string) bool {
	return w.settings.Federation || host != "groups."+w.settings.Domain
}

// lookAt is what mostly stands between a machine and its certificates.
const lookAt = "look whether the DNS records are right, and whether your provider's firewall lets everybody to the ports 80 and 443."

// certificatesItem is about the names that an authority certifies; apexWaits
// says that the domain's own waits for the owner, which has an item of its own.
func certificatesItem(w *world, s step, errs map[string]string, apexWaits bool) status.Item {
	var lacking, failing, late, doubtful []string
	var again time.Time
	why, held := "", ""
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
		case needed(w, n.Host):
			lacking = append(lacking, n.Host)
			if st.Hold != "" {
				held = st.Hold
			}
		}
	}
	stale := staleServers(w)
	switch {
	case len(stale) > 0 && len(lacking) == 0 && (w.state.Ready.IsZero() || errs[itemCertificates] != ""):
		it := item(itemCertificates, status.Doing, strings.Join(stale, " and ")+" still shows another certificate than it should.")
		it.Why = sentence(errs[itemCertificates])
		return it
	case len(doubtful) > 0:
		it := item(itemCertificates, status.Warning, "By this machine's clock, certificates that were just signed are not valid.")
		it.Why = "The clock must be wrong: the authority has signed them by its own. Until it is set, no others are ordered."
		it.Do, it.Type = "Look at the clock:", []string{"timedatectl"}
		return it
	case len(lacking) == 0 && len(late) == 0 && len(failing) == 0 && apexWaits:
		return item(itemCertificates, status.Done, "All other names have a certificate that browsers trust.")
	case len(lacking) == 0 && len(late) == 0 && len(failing) == 0:
		return item(itemCertificates, status.Done, "All names have a certificate that browsers trust.")
	case len(lacking) == 0:
		it := item(itemCertificates, status.Warning, "The renewal for "+strings.Join(failing, ", ")+" does not work yet. The certificates of before are still good.")
		it.Why, it.Again = sentence(why), again
		if len(failing) == 0 {
			it.What = "The certificate of " + strings.Join(late, ", ") + " ends soon and is not renewed yet. It is still good."
		}
		it.Do = "Nothing for now: the machine goes on by itself. If it lasts for days, " + lookAt
		return it
	case len(failing) > 0:
		it := item(itemCertificates, status.Failed, "No certificate could be had for "+strings.Join(failing, ", ")+".")
		it.Why, it.Again = sentence(why), again
		it.Do = strings.ToUpper(lookAt[:1]) + lookAt[1:] + " The machine tries again by itself. When you have mended something, have it try now:"
		it.Type = []string{"sudo prose-firstboot renew"}
		return it
	}
	it := item(itemCertificates, status.Doing, "They are ordered when the DNS records are there. Until then browsers warn.")
	if s.do == keep && (s.cert.Action == certificate.GetOne || s.cert.Action == certificate.CheckDNS) {
		it.What = "The machine is getting them now."
	}
	switch {
	case errs[itemCertificates] != "":
		it.Why = sentence(errs[itemCertificates])
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

func accountItem(w *world, errs map[string]string) status.Item {
	switch {
	case errs[itemAccount] != "":
		it := item(itemAccount, status.Failed, "The first account could not be made.")
		it.Why = sentence(errs[itemAccount])
		it.Do, it.Type = "Make it yourself, with the one-time link of this command:", []string{"sudo prose-firstboot link"}
		return it
	case w.state.Account:
		return item(itemAccount, status.Done, "An account exists; the dashboard is open to its owner.")
	case w.settings.Admin.Username != "":
		return item(itemAccount, status.Doing, "The account "+w.settings.Admin.Username+"@"+w.settings.Domain+" is made when the Pod answers.")
	}
	it := item(itemAccount, status.Owner, "Nobody has made the first account yet. Until then the dashboard is locked.")
	it.Why = "Whoever makes the first account becomes administrator, so only the owner may."
	it.Do, it.Type = "Open the one-time link that the machine's console shows, or log in over SSH and ask for one:", []string{"sudo prose-firstboot link"}
	return it
}

// overall is the state that the items make. The first account is the owner's
// business and keeps nobody from chatting that it lets in: it does not count. A
// restart that is due is a note.
func overall(w *world, list []status.Item) status.State {
	has := func(p status.Progress) bool {
		return slices.ContainsFunc(list, func(it status.Item) bool { return it.Progress == p && it.Key != itemAccount && it.Key != itemReboot })
	}
	accountFailed := slices.ContainsFunc(list, func(it status.Item) bool { return it.Key == itemAccount && it.Progress == status.Failed })
	serving := w.configured() && w.pod.ready
	if w.configured() && w.state.Domain == "" && !has(status.Owner) {
		return status.Working // it has only just heard
	}
	// Once it was ready, a machine that serves is never less than degraded.
	was := !w.state.Ready.IsZero() && serving
	switch {
	case has(status.Failed) && !serving:
		return status.Broken
	case was && (has(status.Failed) || has(status.Owner) || has(status.Doing)):
		return status.Degraded
	case has(status.Owner):
		return status.Waiting
	case has(status.Failed):
		return status.Degraded
	case has(status.Doing):
		return status.Working
	case has(status.Warning), accountFailed:
		return status.Degraded
	}
	return status.Ready
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
