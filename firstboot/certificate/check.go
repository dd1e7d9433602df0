package certificate

import (
	"context"
	"strings"
	"time"

	"github.com/prose-im/prose-image/firstboot/preflight"
)

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
