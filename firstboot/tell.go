package firstboot

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/prose-im/prose-image/firstboot/certificate"
	"github.com/prose-im/prose-image/firstboot/dns"
	"github.com/prose-im/prose-image/firstboot/door"
	"github.com/prose-im/prose-image/firstboot/status"
)

// Where people and programs find the status.
const (
	statusPath = runDir + "/status.json"
	pagePath   = stateDir + "/www/status/index.html"
	motdPath   = "/run/motd.d/60-prose"
	issuePath  = "/run/issue.d/60-prose.issue"
	// Its change makes agetty draw the console again (agetty(8), --reload).
	agettyPath = "/run/agetty.reload"
	linkPath   = stateDir + "/link.json"
)

// A teller makes the status of what was observed and shows it everywhere.
type teller struct {
	machine *machine
	logf    func(format string, args ...any)
	answers map[string]answer // of DNS, by name
	looked  time.Time         // when it was asked
	servers []netip.AddrPort  // and who
	last    status.State
}

// status is the list for what was observed, with the step that follows.
func (t *teller) status(ctx context.Context, w *world, s step, errs map[string]string) status.Status {
	out := status.Status{Schema: status.Schema, At: w.now.UTC().Truncate(time.Second), Agent: version(), Domain: w.state.Domain}
	for _, a := range w.addresses {
		out.Addresses = append(out.Addresses, a.String())
	}
	if w.state.Domain != "" {
		out.Records = t.look(ctx, w)
		out.Certificates = certificates(w)
		out.Locked = !w.state.Account
		d := w.state.Domain
		out.Links = []status.Link{
			{Title: "Web app", URL: "https://prose." + d + "/"},
			{Title: "Dashboard", URL: "https://admin.prose." + d + "/"},
			{Title: "Discovery", URL: "https://" + d + "/.well-known/host-meta"},
			{Title: "Chat apps", URL: "xmpp:" + d},
		}
		if w.pod.ready {
			out.Pod = &status.Versions{API: w.pod.versions.API, Server: w.pod.versions.Server}
		}
	}
	if w.disk.Size > 0 {
		out.Disk = &status.Disk{Size: w.disk.Size, Free: w.disk.Free}
	}
	out.Items = items(seen{w, s, errs, out.Records})
	out.State = overall(w, out.Items)
	out.Again = out.At.Add(timerEvery)
	return out
}

// timerEvery is how long after a run the unit's timer starts the next.
const timerEvery = 20 * time.Second

// look judges the records, by what DNS says and by what was found since at the
// addresses. DNS is asked again when it is time.
func (t *teller) look(ctx context.Context, w *world) []status.Record {
	if t.answers == nil {
		t.remembered()
	}
	certs := w.reach.over(w.certs)
	judge := func() []status.Record {
		wanted := wantedRecords(w.state.Domain, w.settings.Federation, w.addresses, apexOf(w, t.answers))
		return judgeRecords(wanted, t.answers, w.addresses, certs, w.now)
	}
	records := judge()
	// Where the domain leads is looked up also when no record is wanted for it.
	wanted := append(slices.Clone(records), status.Record{Name: w.state.Domain, Type: "A"})
	every := lookLate
	for _, r := range records {
		if r.State != status.Present && !r.Optional {
			every = lookSoon
		}
	}
	// What we remember may be right for another day than what a look found.
	for _, st := range certs {
		if look := st.Record.Preflight; !look.Ready() && !look.Soft() {
			every = lookSoon
		}
	}
	servers, err := t.machine.servers(w.settings)
	if err != nil {
		t.logf("%v", err)
	}
	if age := w.now.Sub(t.looked); t.answers != nil && covers(t.answers, wanted) && age >= 0 && age < every && slices.Equal(servers, t.servers) {
		return records
	}
	t.answers, t.looked, t.servers = lookUp(ctx, dns.Client{Servers: servers}, wanted), w.now, servers
	t.remember()
	return judge()
}

// covers says whether DNS was asked about every record.
func covers(answers map[string]answer, records []status.Record) bool {
	for _, r := range records {
		if _, ok := answers[r.Name]; !ok {
			return false
		}
	}
	return true
}

// answersPath keeps what DNS said between runs: asking at each would be a burden
// for others.
const answersPath = runDir + "/dns.json"

type rememberedAnswers struct {
	At      time.Time
	Servers []netip.AddrPort
	Answers map[string]answer
}

func (t *teller) remember() {
	b, err := json.Marshal(rememberedAnswers{t.looked, t.servers, t.answers})
	if err == nil {
		_, err = t.machine.write(answersPath, b, 0o600, root)
	}
	if err != nil {
		t.logf("remembering what DNS said: %v", err)
	}
}

// remembered takes over what an earlier run has kept.
func (t *teller) remembered() {
	b, err := t.machine.read(answersPath, root)
	var r rememberedAnswers
	if err == nil && b != nil && json.Unmarshal(b, &r) == nil {
		t.answers, t.looked, t.servers = r.Answers, r.At, r.Servers
	}
}

func certificates(w *world) []status.Certificate {
	var out []status.Certificate
	for _, n := range w.keeper.Settings.Names {
		st := w.certs[n.Host]
		c := status.Certificate{Name: n.Host, Signed: st.Live.Signed, Serial: st.Live.Serial, NotAfter: st.Live.NotAfter, Orders: len(st.Record.Tries)}
		if st.Live.Signed && !st.Live.Own {
			c.Renew = certificate.RenewAt(st.Live, st.Record.Renewal)
		}
		if leaf := readLeaf(filepath.Join(w.keeper.Paths.Live, "live", n.Host, "fullchain.pem")); leaf != nil {
			c.Fingerprint = fmt.Sprintf("%x", sha256.Sum256(leaf.Raw))
			if st.Live.Signed {
				c.Issuer = leaf.Issuer.CommonName
				if len(leaf.Issuer.Organization) > 0 {
					c.Issuer = leaf.Issuer.Organization[0]
				}
			}
		}
		out = append(out, c)
	}
	return out
}

func readLeaf(path string) *x509.Certificate {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	block, _ := pem.Decode(b)
	if block == nil {
		return nil
	}
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil
	}
	return leaf
}

// publish writes every view that has changed.
func (t *teller) publish(s status.Status, w *world) error {
	if s.State != t.last {
		t.logf("state: %s", s.State)
		t.last = s.State
	}
	link := ""
	if w.doorKey && s.Locked {
		l, err := t.machine.link(w.state.Domain, false)
		if err != nil {
			t.logf("%v", err)
		}
		link = l
	}
	return t.show(s, link)
}

func (t *teller) show(s status.Status, link string) error {
	m := t.machine
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	errs := []error{}
	put := func(path string, data []byte, mode os.FileMode) bool {
		// Whatever our umask: those who log in read it.
		if err := m.mkdir(filepath.Dir(path), 0o755, root); err != nil {
			errs = append(errs, err)
			return false
		}
		changed, err := m.write(path, data, mode, root)
		errs = append(errs, err)
		return changed
	}
	put(statusPath, append(b, '\n'), 0o644)
	// The page is on the disk: times that change with each look stay out of it
	// once nothing else does.
	paged := s
	if s.State == status.Ready || s.State == status.Degraded {
		paged.At, paged.Again = time.Time{}, time.Time{}
	}
	put(pagePath, status.Page(paged), 0o644)
	put(motdPath, []byte(status.MOTD(s)), 0o644)
	if put(issuePath, []byte(status.Console(s, link)), 0o600) {
		now := m.clock()
		if err := os.WriteFile(m.path(agettyPath), nil, 0o644); err == nil {
			_ = os.Chtimes(m.path(agettyPath), now, now) // agetty sees the write as well
		}
	}
	return errors.Join(errs...)
}

// trouble is the status of a machine that cannot even be looked at.
func (t *teller) trouble(cause error) error {
	now := t.machine.clock().UTC().Truncate(time.Second)
	it := item(status.Failed, "The machine cannot look at itself.")
	it.Key, it.Title = itemSetup, title(itemSetup)
	it.Why = sentence(cause.Error())
	it.Again = now.Add(timerEvery)
	return t.show(status.Status{Schema: status.Schema, State: status.Broken, At: now, Again: it.Again, Agent: version(), Items: []status.Item{it}}, "")
}

// A rememberedLink is the one-time link that the console shows. Only root reads
// it.
type rememberedLink struct {
	Path string    `json:"path"`
	Made time.Time `json:"made"`
}

// link is the address to open for the first account: the one that was given out
// before while it can be used for an hour more, else or when fresh a new one.
func (m *machine) link(domain string, fresh bool) (string, error) {
	key, err := m.read(doorKeyPath, root)
	if err != nil || len(key) != door.KeySize {
		return "", errors.Join(errors.New("making the one-time link: the door has no key yet"), err)
	}
	now := m.clock()
	var l rememberedLink
	b, err := m.read(linkPath, root)
	state := m.path(doorState)
	if err == nil && b != nil && !fresh && json.NewDecoder(bytes.NewReader(b)).Decode(&l) == nil &&
		door.Usable(key, state, l.Path, now) == nil && door.Usable(key, state, l.Path, now.Add(time.Hour)) == nil {
		return "https://admin.prose." + domain + l.Path, nil
	}
	path, err := door.Path(key, state, now)
	if err != nil {
		return "", fmt.Errorf("making the one-time link: %w", err)
	}
	l = rememberedLink{path, now.UTC()}
	if b, err = json.Marshal(l); err != nil {
		return "", err
	}
	if _, err := m.write(linkPath, b, 0o600, root); err != nil {
		return "", fmt.Errorf("keeping the one-time link: %w", err)
	}
	return "https://admin.prose." + domain + l.Path, nil
}
