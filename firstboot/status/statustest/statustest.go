// Package statustest holds one status of each kind that a machine can have.
// Goldens, screenshots and the seeds of fuzzing use the same table.
package statustest

import (
	"time"

	"github.com/prose-im/prose-image/firstboot/status"
)

// An Example is a status, and what else a view needs.
type Example struct {
	Name   string // a word for file names
	Status status.Status
	Link   string // one-time link; empty: none
}

// At is when the machines of all examples looked.
var At = time.Date(2026, 3, 14, 9, 26, 53, 0, time.UTC)

const (
	domain = "example.org"
	four   = "192.0.2.10"
	six    = "2001:db8::10"
)

// Examples are made anew for each caller, who may change them.
func Examples() []Example {
	list := []Example{
		{Name: "unconfigured", Status: status.Unconfigured()},
		{Name: "invalid", Status: invalid()},
		{Name: "working", Status: working()},
		{Name: "dns", Status: dns()},
		{Name: "apex", Status: apex()},
		{Name: "locked", Status: locked(), Link: "https://admin.prose.example.org/claim/AAAAAGmFZ40x9QZk2n8T0cJm3bVYq1oWpEo5rS7uHdLfGyXa6NvKtRiCjBPzMwQeDlUhOg"},
		{Name: "ready", Status: ready()},
		{Name: "degraded", Status: degraded()},
		{Name: "conflict", Status: conflict()},
		{Name: "broken", Status: broken()},
		{Name: "hostile", Status: hostile(), Link: `https://admin.prose.example.org/claim/\e[2J<b>`},
	}
	for i := range list {
		if s := &list[i].Status; list[i].Name != "unconfigured" {
			s.Schema, s.Agent, s.At, s.Again = status.Schema, "v0.1.0", At, At.Add(20*time.Second)
		}
	}
	return list
}

func done(key, title, what string) status.Item {
	return status.Item{Key: key, Title: title, Progress: status.Done, What: what}
}

// first are the items that are done before anything else can be.
func first() []status.Item {
	return []status.Item{
		done("settings", "Settings", "The machine is set up for example.org."),
		done("network", "Network", "The machine has the addresses 192.0.2.10 and 2001:db8::10."),
		done("nginx", "Web server", "NGINX answers on ports 80 and 443."),
	}
}

func pod() status.Item {
	return done("pod", "Prose Pod", "The server, the API, the dashboard and the web app run.")
}

func records(state status.RecordState) []status.Record {
	all := []status.Record{
		{Name: domain, Type: "A", Data: four, For: "addresses such as you@example.org"},
		{Name: domain, Type: "AAAA", Data: six, For: "addresses such as you@example.org"},
		{Name: "prose.example.org", Type: "A", Data: four, For: "the web app"},
		{Name: "prose.example.org", Type: "AAAA", Data: six, For: "the web app"},
		{Name: "admin.prose.example.org", Type: "CNAME", Data: "prose.example.org.", For: "the dashboard"},
		{Name: "groups.example.org", Type: "CNAME", Data: "prose.example.org.", For: "group chats"},
		{Name: "_xmpp-client._tcp.example.org", Type: "SRV", Data: "0 5 5222 prose.example.org.", For: "XMPP apps", Optional: true},
	}
	for i := range all {
		all[i].TTL, all[i].State = 3600, state
	}
	return all
}

func certificates(signed bool) []status.Certificate {
	var all []status.Certificate
	for i, name := range []string{domain, "groups.example.org", "prose.example.org", "admin.prose.example.org"} {
		c := status.Certificate{Name: name, Signed: signed, Serial: "3" + string(rune('a'+i)) + "9c01",
			Fingerprint: "5f2d8c" + string(rune('0'+i)) + "a1b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f708192a3b4c5d6"}
		if signed {
			c.Issuer, c.Orders = "Let's Encrypt", 1
			c.NotAfter, c.Renew = At.AddDate(0, 0, 90), At.AddDate(0, 0, 60)
		}
		all = append(all, c)
	}
	return all
}

func links() []status.Link {
	return []status.Link{
		{Title: "Web app", URL: "https://prose.example.org/"},
		{Title: "Dashboard", URL: "https://admin.prose.example.org/"},
		{Title: "Discovery", URL: "https://example.org/.well-known/host-meta"},
		{Title: "Chat apps", URL: "xmpp:example.org"},
	}
}

func invalid() status.Status {
	return status.Status{State: status.Waiting, Items: []status.Item{
		{Key: "settings", Title: "Settings", Progress: status.Owner,
			What: "The settings have 3 mistakes. None of the settings is used until all are right.",
			Points: []string{
				`/etc/prose-firstboot.d/10-settings.yaml:1: domain "example" is no domain name: it has no dot.`,
				"/etc/prose-firstboot.d/10-settings.yaml:4: smtp.prot is no setting. Write smtp.port.",
				"/etc/prose-firstboot.d/10-settings.yaml:6: admin.password is too short. Take 15 characters or more.",
			},
			Do:   "Correct the file, or answer the questions of this command:",
			Type: []string{"sudo prose-firstboot configure"}, Again: At.Add(20 * time.Second)},
		done("network", "Network", "The machine has the addresses 192.0.2.10 and 2001:db8::10."),
	}}
}

func working() status.Status {
	return status.Status{State: status.Working, Domain: domain, Addresses: []string{four, six}, Locked: true,
		Items: append(first(),
			status.Item{Key: "pod", Title: "Prose Pod", Progress: status.Doing, What: "The server runs. The API has not answered yet.",
				Why: "It makes its database at the first start.", Again: At.Add(20 * time.Second)},
			status.Item{Key: "dns", Title: "DNS records", Progress: status.Doing, What: "The machine asks DNS for example.org."},
			status.Item{Key: "certificates", Title: "Certificates", Progress: status.Doing, What: "They are ordered when the DNS records are there."}),
		Records: records(status.Unknown), Certificates: certificates(false)}
}

func dns() status.Status {
	all := records(status.Missing)
	all[0].State = status.Present
	all[2].State, all[2].Found = status.Wrong, []string{"203.0.113.7", "203.0.113.8"}
	all[5].State = status.Present
	all = append(all, status.Record{Name: domain, Type: "CAA", TTL: 3600, Data: `0 issue "letsencrypt.org"`, For: "certificates",
		State: status.Wrong, Found: []string{`0 issue "ca.example.net"`}})
	return status.Status{State: status.Waiting, Domain: domain, Addresses: []string{four, six}, Locked: true,
		Items: append(first(), pod(),
			status.Item{Key: "dns", Title: "DNS records", Progress: status.Owner,
				What:  "3 records are missing and 2 are wrong.",
				Why:   "Without them nobody finds this machine, and no authority signs certificates for it.",
				Do:    "Log in at the provider of the domain example.org, open its DNS settings, and add the records below. Remove what is there instead, such as addresses of another machine. It can take an hour until the world sees a change.",
				Again: At.Add(time.Minute)},
			status.Item{Key: "certificates", Title: "Certificates", Progress: status.Doing,
				What: "They are ordered when the DNS records are there. Until then browsers warn."}),
		Records: all, Certificates: certificates(false)}
}

// apex is a domain that leads to a website.
func apex() status.Status {
	all := records(status.Present)
	all[0].State, all[0].Found, all[0].Optional = status.Wrong, []string{"203.0.113.7"}, true
	all = append(all, status.Record{Name: "_validation-persist.example.org", Type: "TXT", TTL: 3600,
		Data: `"letsencrypt.org; accounturi=https://acme-v02.api.letsencrypt.org/acme/acct/1"`, For: "the certificate of example.org", State: status.Missing})
	return status.Status{State: status.Waiting, Domain: domain, Addresses: []string{four, six}, Locked: true,
		Items: append(first(), pod(),
			status.Item{Key: "apex", Title: "Domain", Progress: status.Owner,
				What: "example.org leads to another machine, so no authority finds this one there.",
				Why:  "Another machine answers at 203.0.113.7: it answers with status 404.",
				Do:   "Take one of these ways:",
				Ways: []status.Way{
					{Title: "On the website, send authorities on to this machine. For NGINX:", Type: []string{"location ^~ /.well-known/acme-challenge/ {", "    return 302 http://prose.example.org$request_uri;", "}"}},
					{Title: "Or have the certificate vouched for by a DNS record that stays:", Type: []string{"sudo prose-firstboot configure --apex-method dns-persist-01"}},
				}, Again: At.Add(30 * time.Second)}),
		Records: all, Certificates: certificates(false)}
}

func locked() status.Status {
	return status.Status{State: status.Ready, Domain: domain, Addresses: []string{four, six}, Locked: true,
		Links: links(), Pod: &status.Versions{API: "0.6.2", Server: "0.4.1"},
		Items: append(first(), pod(),
			done("dns", "DNS records", "All records are there."),
			done("certificates", "Certificates", "All names have a certificate that browsers trust."),
			status.Item{Key: "account", Title: "First account", Progress: status.Owner,
				What: "Nobody has made the first account yet. Until then the dashboard is locked.",
				Why:  "Whoever makes the first account becomes administrator, so only the owner may.",
				Do:   "Open the one-time link that the machine's console shows, or log in over SSH and ask for a new one:",
				Type: []string{"sudo prose-firstboot link"}}),
		Records: records(status.Present), Certificates: certificates(true)}
}

func ready() status.Status {
	return status.Status{State: status.Ready, Domain: domain, Addresses: []string{four, six},
		Links: links(), Pod: &status.Versions{API: "0.6.2", Server: "0.4.1"},
		Items: append(first(), pod(),
			done("dns", "DNS records", "All records are there."),
			done("certificates", "Certificates", "All names have a certificate that browsers trust."),
			done("account", "First account", "An account exists.")),
		Records: records(status.Present), Certificates: certificates(true)}
}

func degraded() status.Status {
	s := ready()
	s.State = status.Degraded
	s.Items = append(s.Items,
		status.Item{Key: "disk", Title: "Disk", Progress: status.Warning, What: "The disk is 91 % full.",
			Why:  "When it is full, nobody can send messages.",
			Do:   "Make the disk larger at your provider and restart the machine, or look what takes the room:",
			Type: []string{"sudo du -xh --max-depth=2 / | sort -h | tail"}},
		status.Item{Key: "reboot", Title: "Restart", Progress: status.Warning, What: "Upgrades that are installed wait for a restart.",
			Do: "Restart the machine when nobody minds; it takes a minute:", Type: []string{"sudo reboot"}})
	s.Records[6].State = status.Missing
	return s
}

func conflict() status.Status {
	s := ready()
	s.State = status.Degraded
	s.Items[0] = status.Item{Key: "settings", Title: "Settings", Progress: status.Warning,
		What: "The settings name example.net, but this machine was set up for example.org.",
		Why:  "The domain of a machine cannot change, because everybody's address ends in it. The machine stays with example.org.",
		Do:   "Name example.org in /etc/prose-firstboot.d/10-settings.yaml again. For example.net, start another machine."}
	return s
}

func broken() status.Status {
	s := ready()
	s.State = status.Broken
	s.Items[3] = status.Item{Key: "pod", Title: "Prose Pod", Progress: status.Failed, What: "The API does not answer.",
		Why:  "Its container ended 4 times in 10 minutes: no space left on device.",
		Do:   "See what it said last:",
		Type: []string{"sudo docker logs --tail 50 prose-pod-api"}, Again: At.Add(2 * time.Minute)}
	return s
}

// hostile is what must not get out of its place in any view: data from DNS and
// from an authority is anybody's.
func hostile() status.Status {
	const evil = `</code><script>alert("1")</script><a href='x' onclick="y">` + "\x1b[2J\r\n\u202e\\e &amp; {} \x00" + `'"`
	s := dns()
	s.State = status.Degraded // links are shown
	s.Items = append(s.Items, status.Item{Key: evil, Title: evil, Progress: status.Failed, What: evil, Why: evil, Do: evil,
		Points: []string{evil}, Type: []string{evil}, Ways: []status.Way{{Title: evil, Type: []string{evil}}}})
	s.Records[0].State, s.Records[0].Found = status.Wrong, []string{evil}
	s.Records[1].Name, s.Records[1].For, s.Records[1].Data, s.Records[1].Hint = "\\\"<i>;.example.org", evil, "", evil
	s.Certificates = append(s.Certificates, status.Certificate{Name: evil, Signed: true, Issuer: evil}, status.Certificate{Name: evil, Fingerprint: evil})
	s.Links = []status.Link{{Title: evil, URL: "javascript:alert(1)"}, {Title: evil, URL: "https://example.org/\"><script>"}}
	s.Pod = &status.Versions{API: evil, Server: evil}
	return s
}
