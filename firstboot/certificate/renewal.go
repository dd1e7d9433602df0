package certificate

import (
	"context"
	"crypto/x509"
	mathrand "math/rand/v2"
	"time"

	"github.com/mholt/acmez/v3/acme"
)

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

// renewalInfo asks the authority about one certificate.
func (k *Keeper) renewalInfo(ctx context.Context, leaf *x509.Certificate) (acme.RenewalInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	a, err := open(ctx, k.Settings, k.Paths)
	if err != nil {
		return acme.RenewalInfo{}, err
	}
	defer a.close()
	return a.client.GetRenewalInfo(ctx, leaf)
}

// choose keeps the time that was chosen in the authority's window, or chooses
// one when the window has moved.
func choose(old Renewal, ari acme.RenewalInfo) time.Time {
	w := ari.SuggestedWindow
	if old.Start.Equal(w.Start) && old.End.Equal(w.End) && !old.Chosen.IsZero() {
		return old.Chosen
	}
	return w.Start.Add(mathrand.N(max(w.End.Sub(w.Start), 1))).UTC().Truncate(time.Second)
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
