package firstboot

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/prose-im/prose-image/firstboot/alert"
	"github.com/prose-im/prose-image/firstboot/certificate"
	"github.com/prose-im/prose-image/firstboot/preflight"
	"github.com/prose-im/prose-image/firstboot/settings"
	"github.com/prose-im/prose-image/firstboot/status"
)

const domain = "example.org"

var t0 = time.Date(2026, 3, 14, 9, 26, 53, 0, time.UTC)

// settled is a machine with nothing left to do.
func settled() *world {
	w := &world{now: t0, asked: domain, doorKey: true, siteIs: true, wallsAre: true, site: []byte("site"), walls: []byte("walls")}
	w.settings = settings.Defaults()
	w.settings.Domain = domain
	w.state = state{Schema: 1, Domain: domain, Account: true, Site: digest(w.site), Walls: digest(w.walls), Ready: t0.Add(-time.Hour)}
	yes := true
	w.pod = podSeen{ready: true, account: &yes, started: t0.Add(-time.Minute)}
	w.keeper = &certificate.Keeper{Settings: certificate.Settings{Names: certificate.Names(domain, false), Directory: certificate.LetsEncrypt}, Clock: func() time.Time { return w.now }}
	w.certs = certificate.Observed{}
	for _, n := range w.keeper.Settings.Names {
		pair := certificate.Pair{Usable: true, Serial: "1", Signed: true, Only: true, NotBefore: t0.Add(-24 * time.Hour), NotAfter: t0.Add(60 * 24 * time.Hour)}
		st := certificate.State{Live: pair, Record: certificate.Record{Host: n.Host, Renewal: certificate.Renewal{Serial: "1", Again: t0.Add(time.Hour)}}}
		if n.HTTPS {
			st.HTTPS = certificate.Served{Serial: "1"}
		}
		if n.XMPP != certificate.NoXMPP {
			st.Prosody, st.XMPP = pair, certificate.Served{Serial: "1"}
		}
		w.certs[n.Host] = st
	}
	return w
}

func cert(w *world, host string, change func(*certificate.State)) {
	st := w.certs[host]
	change(&st)
	w.certs[host] = st
}

func unsigned(st *certificate.State) {
	st.Live.Signed, st.Record.Preflight = false, preflight.Result{}
}

// foreign is a domain that leads to a website.
func foreign(st *certificate.State) {
	st.Live.Signed = false
	st.Record.Preflight = preflight.Result{At: t0, Findings: []preflight.Finding{{Name: domain, Kind: preflight.Foreign, Type: "A", Found: []string{"5.6.7.8"}, Why: "another machine answers"}}}
}

// persist has a TXT record vouch for the machine, with what is wrong about it.
func persist(w *world, kind preflight.Kind) {
	w.keeper.Settings.Names[0].Method = certificate.DNSPersist01
	cert(w, domain, func(st *certificate.State) {
		st.Record.Issuer = &preflight.Issuer{Names: []string{"ca.example"}, Account: "https://ca.example/1"}
		if kind != "" {
			unsigned(st)
			st.Record.Preflight = preflight.Result{At: t0, Findings: []preflight.Finding{{Kind: kind, Why: "x", Wanted: "y"}}}
		}
	})
}

// own has the owner bring a certificate that ends in so many days.
func own(w *world, days int) {
	w.keeper.Settings.Names[0].Method = certificate.Owned
	cert(w, domain, func(st *certificate.State) {
		st.Own = st.Live
		st.Own.Own, st.Own.NotAfter = true, t0.Add(time.Duration(days)*24*time.Hour)
	})
}

func TestNext(t *testing.T) {
	no := false
	for _, c := range []struct {
		name   string
		change func(*world)
		failed []action
		want   string
	}{
		{"nothing to do", func(w *world) {}, nil, "idle"},
		{"no domain", func(w *world) { w.settings.Domain, w.asked, w.state.Domain = "", "", "" }, nil, "idle"},
		{"first time", func(w *world) { w.state = state{} }, nil, "remember the domain"},
		{"first time, wrong settings", func(w *world) { w.state = state{}; w.report.Problems = make([]settings.Problem, 1) }, nil, "idle"},
		{"no key", func(w *world) { w.doorKey = false; w.wrong = []file{{path: "/x"}} }, nil, "make the door's key"},
		{"no key, and none to be had", func(w *world) { w.doorKey = false; w.wrong = []file{{path: "/x"}} }, []action{makeDoorKey}, "write a file"},
		{"a door that takes no link", func(w *world) { w.doorErr, w.pod = errors.New("x"), podSeen{} }, nil, "mend the door"},
		{"a door that takes no link, whatever the settings", func(w *world) {
			w.doorErr, w.report.Problems = errors.New("x"), make([]settings.Problem, 1)
		}, nil, "mend the door"},
		{"a door that cannot be mended", func(w *world) { w.doorErr, w.pod = errors.New("x"), podSeen{} }, []action{mendDoor}, "bring the Pod up"},
		{"other resolvers", func(w *world) { w.resolvers = []byte("DNS"); w.wrong = []file{{path: "/x"}} }, nil, "name the resolvers"},
		{"other resolvers, not taken", func(w *world) { w.resolvers, w.resolversAre = []byte("DNS"), true }, nil, "name the resolvers"},
		{"other resolvers, not to be had", func(w *world) { w.resolvers = []byte("DNS") }, []action{writeResolvers}, "idle"},
		{"a wrong file", func(w *world) { w.wrong = []file{{path: "/x"}}; w.pod = podSeen{} }, nil, "write a file"},
		{"a file that cannot be written", func(w *world) {
			w.wrong, w.pod, w.state.Ready = []file{{path: "/x"}}, podSeen{}, time.Time{}
		}, []action{writeFile}, "idle"},
		{"a file that cannot be written, later", func(w *world) { w.wrong = []file{{path: "/x"}}; w.pod = podSeen{} }, []action{writeFile}, "bring the Pod up"},
		{"wrong settings: the Pod is looked after", func(w *world) {
			w.wrong, w.pod = []file{{path: "/x"}}, podSeen{}
			w.report.Problems = make([]settings.Problem, 1)
		}, nil, "bring the Pod up"},
		{"no certificate", func(w *world) {
			w.pod = podSeen{}
			cert(w, "prose."+domain, func(st *certificate.State) { st.Live = certificate.Pair{} })
		}, nil, "keep certificates: interim prose.example.org"},
		{"Prosody has none", func(w *world) {
			cert(w, domain, func(st *certificate.State) { st.Prosody = certificate.Pair{} })
		}, nil, "keep certificates: copy example.org"},
		{"the Pod is not up", func(w *world) { w.pod = podSeen{} }, nil, "bring the Pod up"},
		{"the Pod comes up", func(w *world) { w.pod = podSeen{busy: true} }, nil, "idle"},
		{"the Pod did not come up", func(w *world) { w.pod = podSeen{err: errors.New("x")} }, nil, "idle"},
		{"the owner has stopped it", func(w *world) { w.pod, w.off = podSeen{}, true }, nil, "idle"},
		{"another site", func(w *world) { w.siteIs = false }, nil, "give NGINX its sites"},
		{"a site that NGINX has not read", func(w *world) { w.state.Site = "" }, nil, "give NGINX its sites"},
		{"never a site without a door", func(w *world) { w.state.Site, w.doorKey = "", false }, []action{makeDoorKey}, "idle"},
		{"other walls", func(w *world) { w.wallsAre = false }, nil, "set the walls"},
		{"a newer configuration", func(w *world) { w.state.ConfigAt = t0 }, nil, "have the Pod read its configuration"},
		{"a Pod that waits for its configuration", func(w *world) {
			w.pod, w.state.ConfigAt = podSeen{busy: true, waiting: true, started: t0.Add(-time.Minute)}, t0
		}, nil, "have the Pod begin again"},
		{"a Pod that comes up with its configuration", func(w *world) {
			w.pod, w.state.ConfigAt = podSeen{busy: true, waiting: true, started: t0}, t0.Add(-time.Minute)
		}, nil, "idle"},
		{"an account", func(w *world) { w.state.Account = false }, nil, "open the dashboard"},
		{"a factory reset", func(w *world) { w.pod.account = &no }, nil, "close the dashboard"},
		{"nobody knows whether an account exists", func(w *world) { w.pod.account = nil }, nil, "idle"},
		{"an account to make", func(w *world) {
			w.pod.account, w.state.Account, w.settings.Admin.Username = &no, false, "alice"
		}, nil, "create the first account"},
		{"an account to make, but wrong settings", func(w *world) {
			w.pod.account, w.state.Account, w.settings.Admin.Username = &no, false, "alice"
			w.report.Problems = make([]settings.Problem, 1)
		}, nil, "idle"},
		{"nothing signed", func(w *world) { cert(w, "prose."+domain, unsigned) }, nil, "keep certificates: check prose.example.org"},
		{"held back", func(w *world) {
			cert(w, "admin.prose."+domain, func(st *certificate.State) {
				unsigned(st)
				st.Record.Preflight.At, st.Hold = t0, "open"
			})
		}, nil, "idle"},
		{"the owner's certificate", func(w *world) {
			own(w, 60)
			cert(w, domain, func(st *certificate.State) { st.Own.Digest = "another" })
		}, nil, "keep certificates: bring example.org"},
		{"let go", func(w *world) {
			cert(w, "admin.prose."+domain, func(st *certificate.State) { unsigned(st); st.Record.Preflight.At = t0 })
		}, nil, "keep certificates: order admin.prose.example.org"},
	} {
		w := settled()
		c.change(w)
		failed := map[action]bool{}
		for _, a := range c.failed {
			failed[a] = true
		}
		s := next(w, failed)
		got := string(s.do)
		if s.do == keep {
			got += fmt.Sprintf(": %s %s", s.cert.Action, s.cert.Host)
		}
		if got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
		if s.do == idle && (!s.until.After(w.now) || s.until.Sub(w.now) > longest) {
			t.Errorf("%s: idle until %v", c.name, s.until)
		}
	}
}

func TestListedNetworksAreSaid(t *testing.T) {
	w := settled()
	if it := settingsItem(seen{world: w}); len(it.Points) > 0 {
		t.Errorf("%v", it.Points)
	}
	w.settings.Allow.SSH = []string{"192.0.2.0/24", "2001:db8::/32"}
	w.settings.Allow.Dashboard = []string{"192.0.2.7"}
	want := []string{"SSH is open to these networks only: 192.0.2.0/24, 2001:db8::/32.", "The dashboard is open to these networks only: 192.0.2.7."}
	if it := settingsItem(seen{world: w}); !slices.Equal(it.Points, want) || it.Progress != status.Done {
		t.Errorf("%+v", it)
	}
}

// A situation is a machine that is settled but for one thing.
type situation struct {
	name    string
	change  func(*world)
	errs    map[string]string
	records []status.Record
	want    status.State
}

func situations() []situation {
	no := false
	return []situation{
		{"ready", func(w *world) {}, nil, nil, status.Ready},
		{"Prosody has not read its certificate yet", func(w *world) {
			w.state.Ready = time.Time{}
			cert(w, domain, func(st *certificate.State) { st.XMPP = certificate.Served{Serial: "0"} })
		}, nil, nil, status.Working},
		{"NGINX does not read its certificate", func(w *world) {
			cert(w, domain, func(st *certificate.State) { st.HTTPS = certificate.Served{Serial: "0"} })
		}, map[string]string{itemCertificates: "reload-nginx: x"}, nil, status.Degraded},
		{"no account yet", func(w *world) { w.state.Account = false; w.pod.account = &no }, nil, nil, status.Ready},
		{"no domain", func(w *world) { w.settings.Domain, w.asked, w.state = "", "", state{} }, nil, nil, status.Waiting},
		{"a domain that cannot be written down", func(w *world) { w.state = state{} }, map[string]string{itemSettings: "no space left"}, nil, status.Working},
		{"a domain at last", func(w *world) { w.state = state{} }, nil, nil, status.Working},
		{"wrong settings at first", func(w *world) { w.state = state{}; w.report.Problems = make([]settings.Problem, 1) }, nil, nil, status.Waiting},
		{"wrong settings later", func(w *world) { w.report.Problems = make([]settings.Problem, 1) }, nil, nil, status.Degraded},
		{"another domain", func(w *world) { w.asked = "example.net" }, nil, nil, status.Degraded},
		{"the Pod starts", func(w *world) { w.pod = podSeen{busy: true}; w.state.Ready = time.Time{} }, nil, nil, status.Working},
		{"the Pod fails", func(w *world) { w.pod = podSeen{err: errors.New("x")} }, nil, nil, status.Broken},
		{"the Pod is off", func(w *world) { w.pod, w.off = podSeen{}, true }, nil, nil, status.Waiting},
		{"NGINX is down", func(w *world) { cert(w, domain, func(st *certificate.State) { st.HTTPS.Down = true }) }, nil, nil, status.Degraded},
		{"NGINX refuses the sites", func(w *world) { w.state.Ready, w.pod = time.Time{}, podSeen{} }, map[string]string{itemNGINX: "x"}, nil, status.Broken},
		{"a record is missing", func(w *world) { w.state.Ready = time.Time{}; cert(w, domain, unsigned) }, nil,
			[]status.Record{{Name: domain, Type: "A", State: status.Missing}}, status.Waiting},
		{"a record goes missing", func(w *world) {}, nil, []status.Record{{Name: domain, Type: "A", State: status.Missing}}, status.Degraded},
		{"an optional record is missing", func(w *world) {}, nil, []status.Record{{Name: domain, Type: "SRV", State: status.Missing, Optional: true}}, status.Ready},
		{"certificates are on their way", func(w *world) { w.state.Ready = time.Time{}; cert(w, domain, unsigned) }, nil, nil, status.Working},
		{"rooms without a certificate", func(w *world) { cert(w, "groups."+domain, unsigned) }, nil, nil, status.Ready},
		{"renewal fails", func(w *world) {
			cert(w, domain, func(st *certificate.State) { st.Record.Failures = []certificate.Failure{{At: t0, Why: "x"}} })
		}, nil, nil, status.Degraded},
		{"the domain is elsewhere", func(w *world) { w.state.Ready = time.Time{}; cert(w, domain, foreign) }, nil,
			[]status.Record{{Name: domain, Type: "A", State: status.Wrong, Optional: true}}, status.Waiting},
		{"the domain goes elsewhere", func(w *world) {
			cert(w, domain, func(st *certificate.State) { foreign(st); st.Live.Signed = true })
		}, nil, nil, status.Degraded},
		{"the domain is elsewhere, with our address among its own", func(w *world) {
			w.state.Ready, w.addresses = time.Time{}, addrs("5.6.7.8")
			cert(w, domain, foreign)
		}, nil, []status.Record{{Name: domain, Type: "A", State: status.Wrong}}, status.Waiting},
		{"a website sends authorities on", func(w *world) {
			cert(w, domain, func(st *certificate.State) { st.Record.Preflight.Delegated = true })
		}, nil, nil, status.Ready},
		{"no TXT record yet", func(w *world) { w.state.Ready = time.Time{}; persist(w, preflight.Unpersisted) }, nil, nil, status.Waiting},
		{"TXT records are not offered", func(w *world) { w.state.Ready = time.Time{}; persist(w, preflight.Unoffered) }, nil, nil, status.Waiting},
		{"a TXT record", func(w *world) { persist(w, "") }, nil, nil, status.Ready},
		{"the owner's certificate is good", func(w *world) { own(w, 22) }, nil, nil, status.Ready},
		{"the owner's certificate ends soon", func(w *world) { own(w, 20) }, nil, nil, status.Degraded},
		{"the owner's certificate is over", func(w *world) { own(w, -1) }, nil, nil, status.Degraded},
		{"the owner's certificate was never good", func(w *world) {
			w.state.Ready = time.Time{}
			own(w, 20)
			cert(w, domain, func(st *certificate.State) { st.Own, st.OwnWhy = certificate.Pair{}, "x" })
		}, nil, nil, status.Waiting},
		{"the clock is wrong", func(w *world) {
			cert(w, domain, func(st *certificate.State) { st.Live.NotBefore = t0.Add(time.Hour) })
		}, nil, nil, status.Degraded},
		{"no certificate to be had", func(w *world) {
			w.state.Ready = time.Time{}
			cert(w, domain, func(st *certificate.State) {
				unsigned(st)
				st.Record.Failures = []certificate.Failure{{At: t0, Why: "x"}}
			})
		}, nil, nil, status.Degraded},
		{"the first account fails", func(w *world) { w.state.Account = false; w.pod.account = &no }, map[string]string{itemAccount: "x"}, nil, status.Degraded},
		{"the disk is full", func(w *world) { w.disk = disk{Size: 100, Free: 10} }, nil, nil, status.Degraded},
		{"a restart is due", func(w *world) { w.reboot = true }, nil, nil, status.Ready},
		{"alerts do not arrive", func(w *world) { w.untold = map[string]alert.Channel{"mail": {Error: "x"}} }, nil, nil, status.Degraded},
		{"wrong settings at first, with places", func(w *world) {
			w.state = state{}
			w.report.Problems = []settings.Problem{{At: settings.Place{Source: settings.Files, Path: "/etc/prose-firstboot.d/10-settings.yaml", Line: 3}, Key: "smtp.prot", Message: "is no setting", Hint: "did you mean smtp.port?"}}
		}, nil, nil, status.Waiting},
		{"DNS says nothing", func(w *world) { w.state.Ready = time.Time{}; cert(w, domain, unsigned) }, nil,
			[]status.Record{{Name: domain, Type: "A", State: status.Unknown}}, status.Working},
		{"one record is missing and two are wrong", func(w *world) { w.state.Ready = time.Time{}; cert(w, domain, unsigned) }, nil,
			[]status.Record{{Name: domain, Type: "A", State: status.Missing}, {Name: "a." + domain, Type: "A", State: status.Wrong}, {Name: "b." + domain, Type: "A", State: status.Wrong}}, status.Waiting},
		{"the dashboard's door is open", func(w *world) {
			w.state.Ready = time.Time{}
			cert(w, "admin.prose."+domain, func(st *certificate.State) {
				unsigned(st)
				st.Hold = "the dashboard's door is not seen to be closed: GET / is answered with status 200"
			})
		}, nil, nil, status.Working},
		{"an account is to be made", func(w *world) {
			w.state.Account, w.pod.account, w.settings.Admin.Username = false, &no, "alice"
		}, nil, nil, status.Ready},
		{"a certificate ends soon", func(w *world) {
			cert(w, domain, func(st *certificate.State) {
				st.Live.NotBefore, st.Live.NotAfter = t0.Add(-80*24*time.Hour), t0.Add(5*24*time.Hour)
			})
		}, nil, nil, status.Degraded},
		{"files cannot be written", func(w *world) {}, map[string]string{itemSetup: "no space left"}, nil, status.Degraded},
	}
}

// What every state is, and why.
func TestOverall(t *testing.T) {
	for _, c := range situations() {
		w := settled()
		c.change(w)
		list := items(seen{w, next(w, nil), c.errs, c.records})
		if got := overall(w, list); got != c.want {
			t.Errorf("%s: %s, want %s: %+v", c.name, got, c.want, list)
		}
		for _, it := range list {
			if it.Key == "" || it.Title == "" || it.What == "" {
				t.Errorf("%s: an item without words: %+v", c.name, it)
			}
		}
	}
}
