package firstboot

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/prose-im/prose-image/cloudinit"
	"github.com/prose-im/prose-image/firstboot/alert"
	"github.com/prose-im/prose-image/firstboot/beneath"
	"github.com/prose-im/prose-image/firstboot/certificate"
	"github.com/prose-im/prose-image/firstboot/dns"
	"github.com/prose-im/prose-image/firstboot/door"
	"github.com/prose-im/prose-image/firstboot/preflight"
	"github.com/prose-im/prose-image/firstboot/settings"
	"github.com/prose-im/prose-image/firstboot/site"
)

// A world is everything that was observed at one moment. Deciding looks at
// nothing else.
type world struct {
	now       time.Time
	state     state
	settings  settings.Settings // with the domain that the machine was set up for
	report    settings.Report
	asked     string // domain that the settings ask for; may differ from the settings'
	addresses []netip.Addr
	is        identity // of the machine that looks
	clock     clock
	readOnly  []string // directories of ours that cannot be written
	reach     reach

	doorKey      bool     // the door has its key
	doorErr      error    // why it would not take a link; nil: it would, or has no key
	wrong        []file   // files that are not as they should be
	allow        []string // networks that the dashboard is open to; empty: all
	site         []byte   // what NGINX should have
	siteIs       bool     // and its file has it
	walls        []byte   // what the packet filter should have besides the walls
	wallsAre     bool
	resolvers    []byte // what resolved should have; nil: nothing of ours
	resolversAre bool
	off          bool // the owner has switched the Pod off
	certs        certificate.Observed
	keeper       *certificate.Keeper
	checked      map[string]bool // names that an authority's way was looked at for in this run
	pod          podSeen

	disk   disk                     // that the Pod's data is on
	reboot bool                     // upgrades wait for one
	untold map[string]alert.Channel // ways to people that did not work last, by name
}

// configured says whether there is a domain to work for.
func (w *world) configured() bool { return w.settings.Domain != "" }

// held says whether settings are wrong: then nothing new is begun with them.
func (w *world) held() bool { return len(w.report.Problems) > 0 }

// conflict says whether the settings ask for another domain than the machine's.
func (w *world) conflict() bool { return w.asked != "" && w.asked != w.settings.Domain }

// siteTaken says whether NGINX serves the sites that it should.
func (w *world) siteTaken() bool { return w.siteIs && w.state.Site == digest(w.site) }

// A file is one that the agent keeps as it should be.
type file struct {
	path  string
	data  []byte
	mode  fs.FileMode
	owner beneath.Owner
}

// A directory likewise, with what is in it left alone.
type directory struct {
	path  string
	mode  fs.FileMode
	owner beneath.Owner
}

// directories are the guide's, and those that NGINX reads.
var directories = []directory{
	{"/etc/prose", 0o750, prose},
	{"/etc/prosody", 0o750, prose},
	{"/etc/prosody/certs", 0o750, prose},
	{"/var/lib/prosody", 0o750, prose},
	{"/var/lib/prose-pod-api", 0o750, prose},
	{"/var/lib/prose-pod-server", 0o750, prose},
	{certificate.Webroot, 0o755, root},
	{site.WellKnown, 0o755, root},
}

const (
	configPath   = "/etc/prose/prose.toml"
	templatePath = podDir + "/prose.toml.tmpl"
	databasePath = "/var/lib/prose-pod-api/database.sqlite"
	sitePath     = stateDir + "/nginx/prose.conf"
	wallsPath    = wallsDir + "/00-settings.nft"
	doorKeyPath  = stateDir + "/door.key"
)

// files are what the settings make of the machine, besides NGINX's site.
func files(s settings.Settings, template []byte) ([]file, error) {
	config, err := s.ProseTOML(template)
	if err != nil {
		return nil, err
	}
	xml, json := site.HostMeta(s.Domain)
	return []file{
		// It holds the mail password.
		{configPath, config, 0o600, prose},
		{site.WellKnown + "/host-meta", xml, 0o644, root},
		{site.WellKnown + "/host-meta.json", json, 0o644, root},
	}, nil
}

func digest(b []byte) string { return fmt.Sprintf("%x", sha256.Sum256(b)) }

// resolvers names the owner's to systemd-resolved, for every name
// (resolved.conf(5): "~." sends there what the network's would be asked). Once
// that was so, a file without any brings the network's back.
func resolvers(servers []string, before bool) []byte {
	switch {
	case len(servers) > 0:
		return fmt.Appendf(nil, "# Written by prose-firstboot: the setting network.resolvers.\n[Resolve]\nDNS=%s\nDomains=~.\n", strings.Join(servers, " "))
	case before:
		return []byte("# Written by prose-firstboot: the network's own resolvers.\n")
	}
	return nil
}

// look observes everything. Only what must be known to decide anything at all
// is an error.
func (a *agent) look(ctx context.Context) (*world, error) {
	m := a.machine
	w := &world{now: m.clock()}
	var err error
	if w.state, err = m.loadState(); err != nil {
		return nil, err
	}
	// What a clock that was ahead has dated must not be newer than every Pod.
	if w.state.ConfigAt.After(w.now) {
		w.state.ConfigAt = w.now
	}
	w.settings, w.report = settings.Load(or(m.at, "/"))
	w.asked = w.settings.Domain
	if w.state.Domain != "" {
		w.settings.Domain = w.state.Domain
	}
	instance, err := cloudinit.ReadInstance(or(m.at, "/"))
	if err != nil {
		a.logf("reading what cloud-init left: %v", err)
	}
	w.addresses = addresses(instance.PublicAddresses)
	if !w.settings.Network.IPv6 {
		w.addresses = slices.DeleteFunc(w.addresses, netip.Addr.Is6)
	}
	w.is = identity{m.machineID(), instance.ID}
	w.clock = m.lookAtClock(w.now)
	w.readOnly = m.readOnly()
	if w.state.Copied.After(w.now) {
		w.state.Copied = w.now
	}
	if _, err := os.Stat(m.path(switchedOn)); err != nil {
		w.off = true
	}
	if !w.configured() {
		return w, nil
	}
	w.disk, w.reboot = m.disk(), m.rebootDue()
	w.untold = a.alerts.troubles()

	key, err := m.read(doorKeyPath, root)
	if err != nil {
		a.logf("reading the door's key: %v", err)
	}
	if w.doorKey = len(key) == door.KeySize; w.doorKey {
		w.doorErr = door.Works(ctx, m.path(door.Socket), key, m.path(doorState), w.now)
	}
	template, err := os.ReadFile(m.path(templatePath))
	if err != nil {
		return nil, fmt.Errorf("reading the Pod's template: %w", err)
	}
	wanted, err := files(w.settings, template)
	if err != nil {
		return nil, err
	}
	for _, f := range wanted {
		if !m.is(f) {
			w.wrong = append(w.wrong, f)
		}
	}
	if w.allow = w.settings.Allow.Dashboard; w.held() {
		w.allow = w.state.Allow // a mistake opens nothing
	}
	allow, err := networks(w.allow)
	if err != nil {
		return nil, fmt.Errorf("reading the setting allow.dashboard: %w", err)
	}
	if w.site, err = site.Render(site.Config{Domain: w.settings.Domain, Certificates: m.pairs(w.settings.Domain), Allow: allow}); err != nil {
		return nil, err
	}
	w.siteIs = m.is(file{sitePath, w.site, 0o600, root})
	if w.walls, err = walls(w.settings); err != nil {
		return nil, err
	}
	w.wallsAre = m.is(file{wallsPath, w.walls, 0o644, root})
	w.resolvers = resolvers(w.settings.Network.Resolvers, w.state.Resolvers != "")
	w.resolversAre = m.is(file{resolversPath, w.resolvers, 0o644, root})

	w.pod = a.pod.seen()
	if w.pod.waiting {
		if _, w.pod.started, err = a.pod.container(ctx, "api"); err != nil {
			a.logf("looking since when the API runs: %v", err)
		}
	}
	if w.keeper, err = a.keeperFor(w); err != nil {
		return nil, err
	}
	if w.certs, err = w.keeper.Observe(ctx); err != nil {
		return nil, err
	}
	w.checked = a.checked
	a.holdBack(ctx, w)
	if w.state.Domain != "" && !w.copied() {
		w.reach = a.lookAround(ctx, w)
	}
	return w, nil
}

// is says whether a file is as it should be.
func (m *machine) is(f file) bool {
	d, err := beneath.Open(m.path(parent(f.path)))
	if err != nil {
		return false
	}
	defer d.Close()
	return d.Is(f.path[strings.LastIndexByte(f.path, '/')+1:], f.data, f.mode, f.owner)
}

func parent(path string) string { return path[:strings.LastIndexByte(path, '/')] }

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// keeperFor is the keeper of certificates for what was observed so far. The one
// of the look before goes on, because it remembers when it told servers.
func (a *agent) keeperFor(w *world) (*certificate.Keeper, error) {
	m, s := a.machine, w.settings
	servers, err := m.servers(s)
	if err != nil {
		a.logf("%v", err) // preflight says it to the owner
	}
	c := certificate.Settings{
		Names:     certificate.Names(s.Domain, s.Federation),
		Directory: s.ACME.Directory, Roots: []byte(s.ACME.CA), Contact: s.ACME.Contact, Profile: s.ACME.Profile,
		Preflight: preflight.Settings{
			DNS: dns.Client{Servers: servers}, Webroot: m.path(certificate.Webroot), Addresses: w.addresses,
			Allow: m.allow, HTTPPort: m.http, HTTPSPort: m.https,
		},
	}
	c.Names[0].Method = certificate.Method(s.Apex.Method)
	if s.Apex.Method == settings.OwnPair {
		c.Own = certificate.OwnPair{Chain: []byte(s.Apex.Chain), Key: []byte(s.Apex.Key.Reveal())}
		if c.Own.Covers(c.Names[1].Host) { // the rooms'
			c.Names[1].Method = certificate.Owned
		}
	}
	if s.ACME.EAB.KID != "" {
		c.EAB = &certificate.EAB{KeyID: s.ACME.EAB.KID, MACKey: s.ACME.EAB.HMAC.Reveal()}
	}
	if a.keeper == nil {
		a.keeper = &certificate.Keeper{
			Paths: m.paths, Ports: m.ports, Clock: m.clock,
			WriteProsody:  certificate.ForProsody(m.paths.Prosody, prose),
			ReloadNGINX:   m.reloadNGINX,
			ReloadProsody: a.pod.hangUp,
		}
	}
	a.keeper.Settings = c
	return a.keeper, nil
}

// holdBack says why certificates may not be ordered yet.
func (a *agent) holdBack(ctx context.Context, w *world) {
	for host, st := range w.certs {
		// Prosody is told to read its files only once it is up: the signal would
		// end a server that is still starting.
		if !w.pod.ready {
			st.XMPP = certificate.Served{}
		}
		// What could not be given to Prosody waits for the next run. It lies where
		// the Pod may put things in our way: nothing else waits for it.
		if a.tried[string(certificate.CopyProsody)+" "+host] {
			st.Prosody, st.XMPP = st.Live, certificate.Served{}
			st.Prosody.Only = true
		}
		// And NGINX only once it has the sites that name them.
		if !w.siteTaken() {
			st.HTTPS = certificate.Served{}
		}
		switch {
		case w.held():
			st.Hold = "the settings are wrong"
		case w.clock.holds():
			st.Hold = "the clock is wrong"
		case host == "admin.prose."+w.settings.Domain && !st.Live.Signed:
			if err := a.machine.locked(ctx, host, w.state.Account); err != nil {
				st.Hold = "the dashboard's door is not seen to be closed: " + err.Error()
			}
		}
		w.certs[host] = st
	}
}
