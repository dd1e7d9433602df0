package certificate

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"time"

	"github.com/mholt/acmez/v3/acme"

	"github.com/prose-im/prose-image/firstboot/preflight"
)

// Keeper looks and acts. Only one may work on the same paths at a time: the
// caller holds the agent's lock.
type Keeper struct {
	Settings Settings
	Paths    Paths
	Ports    Ports
	Clock    func() time.Time

	// WriteProsody replaces a file below Paths.Prosody, with missing directories,
	// atomically, owned by Prosody and readable by nobody else. Until it has its
	// name, the file must not be called *.crt or hold "fullchain" in its name.
	WriteProsody func(name string, data []byte) error
	// ReloadNGINX and ReloadProsody make a server read its certificates again.
	ReloadNGINX, ReloadProsody func(context.Context) error

	reloaded  map[Action]time.Time
	shown     map[string]showing
	finalized func() // a test's: the authority has signed, we have nothing yet
}

// Observe looks at the disk and at what the servers of this machine show. It
// asks nobody outside.
func (k *Keeper) Observe(ctx context.Context) (Observed, error) {
	now := k.Clock()
	o := Observed{}
	for _, n := range k.Settings.Names {
		var st State
		var err error
		if st.Record, err = k.Paths.loadRecord(n.Host, now); err != nil {
			return nil, err
		}
		st.Live = k.Paths.live(n.Host)
		if n.Method == Owned {
			st.Own, st.OwnWhy = k.Settings.Own.read(n.Host)
		}
		if !st.Live.Signed || !st.Live.Valid(now) {
			st.Archive = k.Paths.archived(n.Host, now)
		}
		if n.HTTPS {
			st.HTTPS = k.shows("https "+n.Host, st.Live, func() Served { return ServedHTTPS(ctx, k.Ports.HTTPS, n.Host) })
		}
		if n.XMPP != NoXMPP {
			st.Prosody, _, _, _ = readPair(filepath.Join(k.Paths.Prosody, n.Host), n.Host)
			st.XMPP = k.shows("xmpp "+n.Host, st.Prosody, func() Served { return k.xmpp(ctx, n) })
		}
		o[n.Host] = st
	}
	return o, ctx.Err()
}

// A showing is what a server showed, and when.
type showing struct {
	at time.Time
	Served
}

// showsFor is how long a server is taken to show what it should have shown. A
// look follows each step, and handshakes are most of what it costs.
const showsFor = 10 * time.Second

// shows asks a server what it shows, unless it has just shown what it should.
func (k *Keeper) shows(what string, file Pair, ask func() Served) Served {
	now := k.Clock()
	last, asked := k.shown[what]
	if age := now.Sub(last.at); asked && age >= 0 && age < showsFor && last.Shows(file) {
		return last.Served
	}
	s := ask()
	if k.shown == nil {
		k.shown = map[string]showing{}
	}
	k.shown[what] = showing{now, s}
	return s
}

func (k *Keeper) xmpp(ctx context.Context, n Name) Served {
	port := map[XMPP]netip.AddrPort{Client: k.Ports.Client, Server: k.Ports.Server}[n.XMPP]
	return ServedXMPP(ctx, port, n.Host, n.XMPP)
}

// Next decides on a step. See the function of the same name.
func (k *Keeper) Next(o Observed) Step { return Next(k.Settings, o, k.reloaded, k.Clock()) }

// Do does one step. An error is for people: what must be remembered of it is
// on disk, and the next look decides anew.
func (k *Keeper) Do(ctx context.Context, s Step) error {
	var name Name
	for _, n := range k.Settings.Names {
		if n.Host == s.Host {
			name = n
		}
	}
	if name.Host == "" && s.Action != Idle {
		return fmt.Errorf("the name %q is none of ours", s.Host)
	}
	switch s.Action {
	case Idle:
		return nil
	case Interim:
		return k.interim(name.Host)
	case Bring:
		return k.bring(name.Host)
	case Restore:
		best := k.Paths.archived(name.Host, k.Clock())
		if !best.Usable {
			return fmt.Errorf("restoring the certificate of %s: it is gone", name.Host)
		}
		return k.Paths.point(name.Host, best.Serial)
	case CopyProsody:
		return k.copy(name.Host)
	case ReloadNGINX:
		return k.reload(ctx, s.Action, k.ReloadNGINX, func() bool {
			return ServedHTTPS(ctx, k.Ports.HTTPS, name.Host).Shows(k.Paths.live(name.Host))
		})
	case ReloadProsody:
		return k.reload(ctx, s.Action, k.ReloadProsody, func() bool {
			file, _, _, _ := readPair(filepath.Join(k.Paths.Prosody, name.Host), name.Host)
			return k.xmpp(ctx, name).Shows(file)
		})
	case CheckDNS:
		return k.check(ctx, name)
	case GetOne:
		return k.order(ctx, name)
	case AskRenewal:
		return k.ask(ctx, name.Host)
	}
	return fmt.Errorf("there is no step %q", s.Action)
}

// interim makes one self-signed pair with all names and puts it in front of
// NGINX for this one.
func (k *Keeper) interim(host string) error {
	now := k.Clock()
	var all []string
	for _, n := range k.Settings.Names {
		all = append(all, n.Host)
	}
	// The names share one, so that a person has one fingerprint to compare.
	for _, n := range all {
		pair, chain, key, err := readPair(k.Paths.liveDir(n), host)
		if err != nil || pair.Signed || !pair.Valid(now) || n == host {
			continue
		}
		return k.install(host, chain, key)
	}
	chain, key, err := SelfSigned(all, now)
	if err != nil {
		return err
	}
	return k.install(host, chain, key)
}

func (k *Keeper) install(host string, chain, key []byte) error {
	serial, err := k.Paths.store(host, chain, key, false)
	if err != nil {
		return err
	}
	return k.Paths.point(host, serial)
}

// copy gives Prosody the pair it should have: the key first, because Prosody
// looks for one once it sees a chain.
func (k *Keeper) copy(host string) error {
	live, chain, key, err := readPair(k.Paths.liveDir(host), host)
	if err != nil {
		return fmt.Errorf("reading the certificate of %s: %w", host, err)
	}
	if !live.Signed {
		if chain, key, err = SelfSigned([]string{host}, k.Clock()); err != nil {
			return err
		}
	}
	for _, f := range []struct {
		name string
		data []byte
	}{{"privkey.pem", key}, {"fullchain.pem", chain}} {
		if err := k.WriteProsody(filepath.Join(host, f.name), f.data); err != nil {
			return fmt.Errorf("giving Prosody the certificate of %s: %w", host, err)
		}
	}
	return nil
}

// reload tells a server and waits until it shows the right certificate.
func (k *Keeper) reload(ctx context.Context, a Action, tell func(context.Context) error, good func() bool) error {
	if k.reloaded == nil {
		k.reloaded = map[Action]time.Time{}
	}
	k.reloaded[a] = k.Clock()
	if err := tell(ctx); err != nil {
		return fmt.Errorf("%s: %w", a, err)
	}
	for begin := time.Now(); !good(); {
		if time.Since(begin) > 10*time.Second {
			return fmt.Errorf("%s: the server still shows another certificate", a)
		}
		if err := sleep(ctx, 200*time.Millisecond); err != nil {
			return err
		}
	}
	delete(k.reloaded, a) // only one that did not help must wait
	return nil
}

// check looks whether an order would succeed. Of the authority it asks the
// directory, and an account once the addresses are right.
func (k *Keeper) check(ctx context.Context, n Name) error {
	r, err := k.Paths.loadRecord(n.Host, k.Clock())
	if err != nil {
		return err
	}
	look := preflight.Result{}
	if n.Method != DNSPersist01 {
		look.Findings, look.Delegated = k.Settings.Preflight.Check(ctx, n.Host)
	}
	// Where the domain's address is somebody else's, the owner is shown the TXT
	// record too, and that names our account.
	only := n.Apex && look.Elsewhere() && (r.Issuer == nil || r.Directory != k.Settings.Directory)
	if look.Ready() || look.Soft() || only {
		issuer, more, wait, err := k.checkAuthority(ctx, n, only)
		if err != nil {
			more = []preflight.Finding{{Name: n.Host, Kind: preflight.Authority, Why: brief(err)}}
			if !only {
				r.rest(k.Clock(), wait)
			}
		} else {
			r.Rest = Failure{}
			if n.Apex {
				r.Issuer, r.Directory = &issuer, k.Settings.Directory
			}
		}
		if !only {
			look.Findings = append(look.Findings, more...)
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	look.At, r.For = k.Clock(), k.Settings.way(n)
	r.looked(look)
	return k.Paths.saveRecord(r)
}

// checkAuthority says who would sign and, unless only that is asked, what keeps
// it from doing so; with an error, what it asked us to wait.
func (k *Keeper) checkAuthority(ctx context.Context, n Name, only bool) (issuer preflight.Issuer, findings []preflight.Finding, wait time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	a, err := open(ctx, k.Settings, k.Paths)
	if err != nil {
		return issuer, nil, a.wait(err), err
	}
	defer a.close()
	if err := a.register(ctx, k.Settings); err != nil {
		return issuer, nil, a.wait(err), err
	}
	issuer = preflight.Issuer{Account: a.account.Location, Method: string(n.Method)}
	if a.directory.Meta != nil {
		issuer.Names = a.directory.Meta.CAAIdentities
	}
	offered := a.offered()
	persist := issuer
	if len(offered.Issuers) > 0 {
		persist.Names = offered.Issuers
	}
	switch {
	case only:
	case n.Method == DNSPersist01 && offered.lacks(string(DNSPersist01), k.Clock()):
		findings = []preflight.Finding{{Name: n.Host, Kind: preflight.Unoffered, Why: "the authority does not offer " + string(DNSPersist01) + " yet, only " + strings.Join(offered.Types, ", ")}}
	default:
		findings = k.Settings.Preflight.CAA(ctx, n.Host, issuer)
		if n.Method == DNSPersist01 {
			findings = append(findings, k.Settings.Preflight.Persist(ctx, n.Host, persist, k.Clock())...)
		}
	}
	return persist, findings, 0, nil
}

// order gets a certificate and installs it for NGINX. What fails is remembered
// with the time of the next try.
func (k *Keeper) order(ctx context.Context, n Name) error {
	host, now := n.Host, k.Clock()
	r, err := k.Paths.loadRecord(host, now)
	if err != nil {
		return err
	}
	chain, wait, err := k.obtain(ctx, n, &r, now)
	if err == nil {
		err = k.install(host, chain, []byte(r.Order.Key))
	}
	if err != nil {
		if errors.Is(err, context.Canceled) {
			return err // we are told to stop: the order is kept
		}
		r.lose(k.Clock(), fmt.Errorf("getting a certificate for %s: %w", host, err), wait)
		return errors.Join(err, k.Paths.saveRecord(r))
	}
	pair, _, err := parsePair(host, chain, []byte(r.Order.Key))
	if err != nil {
		return err
	}
	r.win(k.Clock(), pair.Serial)
	return k.Paths.saveRecord(r)
}

// obtain begins an order or goes on with one. Besides the chain it returns what
// the authority asked us to wait, if it did.
func (k *Keeper) obtain(ctx context.Context, n Name, r *Record, now time.Time) (chain []byte, wait time.Duration, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, orderLimit, errors.New("five minutes have passed"))
	defer cancel()
	a, err := open(ctx, k.Settings, k.Paths)
	if err != nil {
		return nil, a.wait(err), err
	}
	defer a.close()
	defer func() { wait = a.wait(err) }()
	if err := a.register(ctx, k.Settings); err != nil {
		return nil, 0, err
	}
	if r.Order != nil && r.Order.Directory != k.Settings.Directory {
		r.Order = nil
	}
	var order acme.Order
	switch {
	case r.Order == nil:
	case r.Order.URL == "":
		// Killed while the authority answered: it may have the order.
		if order, err = a.pending(ctx, r.Host); err != nil && !refused(err) {
			return nil, 0, fmt.Errorf("looking for an order that was begun: %w", err)
		}
		if r.Order.URL = order.Location; r.Order.URL == "" {
			r.Order = nil
		} else if err := k.Paths.saveRecord(*r); err != nil {
			return nil, 0, err
		}
	default:
		order, err = a.client.GetOrder(ctx, a.account, acme.Order{Location: r.Order.URL})
		switch {
		case refused(err):
			r.Order = nil // the authority does not know it any more
		case err != nil:
			return nil, 0, fmt.Errorf("going on with an order: %w", err)
		case order.Status == acme.StatusInvalid:
			r.Order = nil
		}
	}
	if r.Order == nil {
		if order, err = k.begin(ctx, a, r, now); err != nil {
			if refused(err) {
				err = spent{err}
			}
			return nil, 0, err
		}
	}
	chain, err = k.finish(ctx, a, n, r, order)
	return chain, 0, err
}

// refused says that the authority has understood us and says no, and would say
// so again.
func refused(err error) bool {
	var p acme.Problem
	return errors.As(err, &p) && p.Status/100 == 4 && !is(err, acme.ProblemTypeRateLimited, acme.ProblemTypeBadNonce)
}

// ask asks the authority when to renew (RFC 9773). Without an answer, our own
// rule holds.
func (k *Keeper) ask(ctx context.Context, host string) error {
	now := k.Clock()
	r, err := k.Paths.loadRecord(host, now)
	if err != nil {
		return err
	}
	leaf, err := k.Paths.liveLeaf(host)
	if err != nil {
		return err
	}
	next := Renewal{Serial: serial(leaf), Asked: now, Again: now.Add(askEvery)}
	if r.Renewal.Serial == next.Serial {
		next.Start, next.End, next.Chosen, next.Explanation = r.Renewal.Start, r.Renewal.End, r.Renewal.Chosen, r.Renewal.Explanation
	}
	ari, err := k.renewalInfo(ctx, leaf)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		next.Error = brief(err)
	} else {
		next.Chosen = choose(next, ari)
		next.Start, next.End, next.Explanation = ari.SuggestedWindow.Start, ari.SuggestedWindow.End, ari.ExplanationURL
		if ari.RetryAfter != nil {
			next.Again = now.Add(min(max(ari.RetryAfter.Sub(now), time.Minute), day/2))
		}
	}
	r.Renewal = next
	return k.Paths.saveRecord(r)
}

// Renew asks for a new certificate of a name at the next step, whatever its
// dates. Limits on failures still hold.
func (k *Keeper) Renew(host string) error {
	r, err := k.Paths.loadRecord(host, k.Clock())
	if err != nil {
		return err
	}
	r.Renew = true
	for i := range r.Failures {
		r.Failures[i].Wait = 0
	}
	return k.Paths.saveRecord(r)
}
