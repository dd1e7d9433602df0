package certificate

import (
	"fmt"
	"time"
)

// Action is what a step does.
type Action string

const (
	Idle          Action = "idle"           // nothing until Step.Until
	Interim       Action = "interim"        // make a self-signed pair and put it in front of NGINX
	Bring         Action = "bring"          // put the owner's pair in front of NGINX
	Restore       Action = "restore"        // put an archived pair back
	CopyProsody   Action = "copy"           // give Prosody the pair it should have
	ReloadNGINX   Action = "reload-nginx"   // it shows another certificate than it should
	ReloadProsody Action = "reload-prosody" // likewise
	CheckDNS      Action = "check"          // preflight: costs nothing
	GetOne        Action = "order"          // order a certificate, or go on with an order
	AskRenewal    Action = "ask"            // ask the authority when to renew
)

// Step is one thing to do.
type Step struct {
	Action Action
	Host   string
	Until  time.Time // of Idle: when to look again at the latest
	Why    string    // a sentence without capital and full stop
}

const (
	checkEvery  = 30 * time.Second // DNS is looked at again
	checkFresh  = 2 * time.Minute  // how long a good look lets an order begin
	reloadEvery = 20 * time.Second
	askEvery    = 6 * time.Hour
	longest     = 12 * time.Hour // an Idle step is no longer
	softWait    = 10 * time.Minute
	softEvery   = 30 * time.Minute
	softPerDay  = 24
	doubt       = 2 * day // five certificates of one name in seven days are the most
)

// Next decides what to do: the first thing that is wrong, in the order in which
// they hurt. It looks at its arguments only. reloaded is when a server was last
// told to read its certificates again.
func Next(s Settings, o Observed, reloaded map[Action]time.Time, now time.Time) Step {
	for _, n := range s.Names {
		st := o[n.Host]
		if n.Method == Owned && st.Own.Valid(now) {
			if st.Live.Digest != st.Own.Digest {
				return Step{Action: Bring, Host: n.Host, Why: "the settings have one"}
			}
			continue
		}
		if st.Live.Signed && (st.Live.Valid(now) || st.Doubtful(now)) {
			continue
		}
		if st.Archive.Signed && st.Archive.Valid(now) {
			return Step{Action: Restore, Host: n.Host, Why: "a signed certificate lies in the archive"}
		}
		switch {
		case !st.Live.Usable:
			return Step{Action: Interim, Host: n.Host, Why: "there is no certificate"}
		// A signed one is kept: to visitors an expired one is no worse than one of
		// our own, and the clock may be what is wrong.
		case !st.Live.Signed && !st.Live.Valid(now):
			return Step{Action: Interim, Host: n.Host, Why: "the clock is outside the certificate's dates"}
		}
	}
	for _, n := range s.Names {
		if n.XMPP != NoXMPP {
			if why := prosodyLacks(o[n.Host], now); why != "" {
				return Step{Action: CopyProsody, Host: n.Host, Why: why}
			}
		}
	}
	until := now.Add(longest)
	later := func(t time.Time) {
		if t.After(now) && t.Before(until) {
			until = t
		}
	}
	for _, n := range s.Names {
		for _, server := range []struct {
			action Action
			wanted bool
			shown  Served
			file   Pair
		}{
			{ReloadNGINX, n.HTTPS, o[n.Host].HTTPS, o[n.Host].Live},
			{ReloadProsody, n.XMPP != NoXMPP, o[n.Host].XMPP, o[n.Host].Prosody},
		} {
			// A server that is not up reads its files when it comes.
			if !server.wanted || server.shown.Down || server.shown == (Served{}) || server.shown.Shows(server.file) {
				continue
			}
			if at := reloaded[server.action].Add(reloadEvery); at.After(now) {
				later(at)
				continue
			}
			why := fmt.Sprintf("it shows %s instead of %s", server.shown.Serial, server.file.Serial)
			if server.shown.Error != "" {
				why = server.shown.Error
			}
			return Step{Action: server.action, Host: n.Host, Why: why}
		}
	}
	for _, n := range s.Names {
		step, at := order(s, n, o[n.Host], now)
		if step.Action != "" {
			return step
		}
		later(at)
	}
	for _, n := range s.Names {
		st := o[n.Host]
		if !st.Live.Signed || st.Live.Own {
			continue
		}
		at := st.Record.Renewal.Again
		if st.Record.Renewal.Serial != st.Live.Serial || !at.After(now) {
			return Step{Action: AskRenewal, Host: n.Host, Why: "the authority may want an earlier or later renewal"}
		}
		later(at)
	}
	return Step{Action: Idle, Until: until}
}

// prosodyLacks says why Prosody's pair must be written, or "".
func prosodyLacks(st State, now time.Time) string {
	switch p := st.Prosody; {
	case !p.Usable:
		return "Prosody has no certificate"
	case st.Live.Signed && (p.Serial != st.Live.Serial || p.Digest != st.Live.Digest):
		return "Prosody has another certificate"
	case st.Live.Signed:
		return ""
	// A self-signed one must name nothing else: Prosody takes any certificate
	// that names a host, and a signed one for its rooms may lie beside it.
	case p.Signed || !p.Only || !p.Valid(now):
		return "Prosody's interim certificate does not fit"
	}
	return ""
}

// order decides about one name's next certificate. Without a step, it returns
// when to look again; the zero time if only an event can change anything.
func order(s Settings, n Name, st State, now time.Time) (Step, time.Time) {
	host, r := n.Host, st.Record
	if n.Method == Owned {
		// Only to notice the day on which it begins or ends.
		if st.Own.NotBefore.After(now) {
			return Step{}, st.Own.NotBefore
		}
		return Step{}, st.Own.NotAfter
	}
	begun := r.Order != nil && r.Order.Directory == s.Directory && r.Order.URL != ""
	why, at := due(s, st, now)
	if why == "" && !begun {
		return Step{}, at
	}
	if t := r.patience(); t.After(now) {
		return Step{}, t
	}
	if begun {
		return Step{Action: GetOne, Host: host, Why: "an order is begun"}, time.Time{}
	}
	if age := now.Sub(r.Preflight.At); r.Preflight.At.IsZero() || r.For != "" && r.For != s.way(n) || age < 0 || age >= checkFresh || !r.Preflight.Ready() && age >= checkEvery {
		return Step{Action: CheckDNS, Host: host, Why: why}, time.Time{}
	}
	again := r.Preflight.At.Add(checkEvery)
	if st.Hold != "" {
		return Step{}, again
	}
	if r.Preflight.Ready() {
		return Step{Action: GetOne, Host: host, Why: why}, time.Time{}
	}
	if r.Preflight.Soft() && softAllowed(r, now) {
		return Step{Action: GetOne, Host: host, Why: why + "; nothing is missing but the proof"}, time.Time{}
	}
	return Step{}, again
}

// softAllowed says whether an order may be tried without the proof that only a
// machine outside could have.
func softAllowed(r Record, now time.Time) bool {
	if r.SoftSince.IsZero() || now.Sub(r.SoftSince) < softWait {
		return false
	}
	today := 0
	for _, t := range r.Tries {
		if now.Sub(t) < softEvery {
			return false
		}
		if now.Sub(t) < day {
			today++
		}
	}
	return today < softPerDay
}

// due says why a name needs a new certificate now, or when it will.
func due(s Settings, st State, now time.Time) (string, time.Time) {
	r := st.Record
	switch {
	case !st.Live.Signed:
		return "the certificate is self-signed", time.Time{}
	case r.Renew:
		return "the owner asks for a new certificate", time.Time{}
	case st.Doubtful(now):
		// Another one would be as wrong, for now.
		if until := st.doubtUntil(); until.After(now) {
			return "", until
		}
		return "the clock is behind, and nobody knows how long the certificate lasts", time.Time{}
	case !st.Live.Valid(now):
		return "the certificate is not valid now", time.Time{}
	case st.Live.Own:
		return "the owner's own certificate is no longer in the settings", time.Time{}
	case r.Issued != nil && r.Issued.Serial == st.Live.Serial && r.Issued.Directory != s.Directory:
		return "another authority is to sign", time.Time{}
	}
	at := RenewAt(st.Live, r.Renewal)
	if !at.After(now) {
		// An authority whose window is always over must not have us order for ever.
		if t := r.earliest(st.Live); t.After(now) {
			at = t
		}
	}
	if at.After(now) {
		return "", at
	}
	return "the certificate is due for renewal", time.Time{}
}

// Doubtful says that the clock is to be doubted rather than the live pair: an
// authority has signed it for a time that has not begun by our clock, or an
// order of ours has led to it just now.
func (st State) Doubtful(now time.Time) bool {
	p := st.Live
	if !p.Usable || !p.Signed || p.Own || p.Valid(now) {
		return false
	}
	return now.Before(p.NotBefore) || st.doubtUntil().After(now)
}

// doubtUntil is until when a pair that an order led to is taken for good. That
// bounds orders to what authorities allow for the same name. A clock that is
// behind still goes: a third of the life is what a pair has left at renewal.
func (st State) doubtUntil() time.Time {
	p, i := st.Live, st.Record.Issued
	switch {
	case i == nil || i.Serial != p.Serial:
		return time.Time{}
	case i.At.Before(p.NotBefore):
		return i.At.Add(p.NotAfter.Sub(p.NotBefore) / 3)
	}
	return i.At.Add(doubt)
}

// RenewAt is when a signed pair is to be replaced: when the authority says,
// else with a third of its life left (a half if that is short), and never in
// its last tenth.
func RenewAt(p Pair, r Renewal) time.Time {
	life := p.NotAfter.Sub(p.NotBefore)
	left := life / 3
	if life < 10*day {
		left = life / 2
	}
	if r.Serial != p.Serial || r.Chosen.IsZero() {
		return p.NotAfter.Add(-left)
	}
	if last := p.NotAfter.Add(-life / 10); r.Chosen.After(last) {
		return last
	}
	return r.Chosen
}
