package certificate

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/mholt/acmez/v3/acme"
)

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

// begin makes an order, and keeps it with its key before anything else can
// happen to it.
func (k *Keeper) begin(ctx context.Context, a *authority, r *Record, now time.Time) (acme.Order, error) {
	order := acme.Order{Identifiers: []acme.Identifier{{Type: "dns", Value: r.Host}}}
	r.Note = ""
	if p := k.Settings.Profile; p != "" {
		if a.directory.Meta != nil && a.directory.Meta.Profiles[p] != "" {
			order.Profile = p
		} else {
			r.Note = fmt.Sprintf("the authority has no profile %q; its default is used", p)
		}
	}
	if a.directory.RenewalInfo != "" && (r.Issued == nil || r.Issued.Directory == k.Settings.Directory) {
		if leaf, err := k.Paths.liveLeaf(r.Host); err == nil && len(leaf.AuthorityKeyId) > 0 {
			if id, err := acme.ARIUniqueIdentifier(leaf); err == nil {
				order.Replaces = id
			}
		}
	}
	_, key, err := newKey()
	if err != nil {
		return order, err
	}
	r.try(now)
	// Whoever goes on after a kill knows that the authority may have an order.
	r.Order = &Order{Directory: k.Settings.Directory, Key: string(key), Begun: now, Replaces: order.Replaces}
	if err := k.Paths.saveRecord(*r); err != nil {
		return order, err
	}
	asked, renewed := order, false
	for range 5 {
		order, err = a.client.NewOrder(ctx, a.account, asked)
		switch {
		case err == nil:
		case asked.Replaces != "" && is(err, acme.ProblemTypeAlreadyReplaced, acme.ProblemTypeMalformed, acme.ProblemTypeUnauthorized, acme.ProblemTypeServerInternal, problemPrefix+"notFound"):
			// Another order has replaced it, the authority has not signed it, or it
			// stumbles over the field (Pebble 2.10 over serials that begin with zero).
			asked.Replaces = ""
			continue
		case asked.Profile != "" && is(err, problemPrefix+"invalidProfile"):
			r.Note = fmt.Sprintf("the authority refuses the profile %q; its default is used", asked.Profile)
			asked.Profile = ""
			continue
		case !renewed && is(err, acme.ProblemTypeAccountDoesNotExist, acme.ProblemTypeUnauthorized):
			renewed = true
			if again := a.again(ctx, k.Settings); again != nil {
				return order, fmt.Errorf("ordering: %w; making an account anew: %w", err, again)
			}
			continue
		}
		break
	}
	if err != nil {
		var p acme.Problem
		if errors.As(err, &p) && p.Status/100 == 4 {
			r.Order = nil // there is none
		}
		return order, fmt.Errorf("ordering: %w", err)
	}
	r.Order.URL, r.Order.Replaces = order.Location, asked.Replaces
	return order, k.Paths.saveRecord(*r)
}

// finish brings an order to its certificate: chain and key as PEM.
func (k *Keeper) finish(ctx context.Context, a *authority, n Name, r *Record, order acme.Order) (chain []byte, err error) {
	key, err := parseKey([]byte(r.Order.Key))
	if err != nil {
		return nil, spent{fmt.Errorf("reading the order's key: %w", err)}
	}
	if order.Status == acme.StatusPending {
		for _, at := range order.Authorizations {
			if err := k.authorize(ctx, a, n, at); err != nil {
				return nil, err
			}
		}
		// A server may need a moment between an authorization and its order.
		for begin := time.Now(); order.Status == acme.StatusPending; {
			if order, err = a.client.GetOrder(ctx, a.account, order); err != nil {
				return nil, fmt.Errorf("waiting until the order is ready: %w", err)
			}
			if order.Status != acme.StatusPending {
				break
			}
			if time.Since(begin) > time.Minute {
				return nil, errors.New("waiting until the order is ready: a minute has passed")
			}
			if err := sleep(ctx, time.Second); err != nil {
				return nil, err
			}
		}
	}
	location := order.Location
	if order.Status == acme.StatusReady {
		csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: []string{r.Host}}, key)
		if err != nil {
			return nil, spent{err}
		}
		if order, err = a.client.FinalizeOrder(ctx, a.account, order, csr); err != nil {
			if order.Status == acme.StatusInvalid || is(err, acme.ProblemTypeBadCSR, acme.ProblemTypeCAA, acme.ProblemTypeUnauthorized, acme.ProblemTypeRejectedIdentifier) {
				return nil, spent{fmt.Errorf("finalizing the order: %w", err)}
			}
			return nil, fmt.Errorf("finalizing the order: %w", err)
		}
	}
	for begin := time.Now(); order.Status == acme.StatusProcessing; {
		order.Location = location
		if order, err = a.client.GetOrder(ctx, a.account, order); err != nil {
			return nil, fmt.Errorf("waiting for the certificate: %w", err)
		}
		if time.Since(begin) > 2*time.Minute {
			return nil, errors.New("waiting for the certificate: two minutes have passed")
		}
		if order.Status == acme.StatusProcessing {
			if err := sleep(ctx, 2*time.Second); err != nil {
				return nil, err
			}
		}
	}
	if order.Status != acme.StatusValid {
		why := fmt.Errorf("the order is %s", order.Status)
		if order.Error != nil {
			why = fmt.Errorf("%w: %w", why, *order.Error)
		}
		return nil, spent{why}
	}
	if k.finalized != nil {
		k.finalized()
	}
	sweep(k.Settings.Preflight.Webroot)
	certs, err := a.client.GetCertificateChain(ctx, a.account, order.Certificate)
	if err != nil {
		return nil, fmt.Errorf("fetching the certificate: %w", err)
	}
	// The first chain is the authority's choice.
	if len(certs) == 0 {
		return nil, errors.New("fetching the certificate: there is none")
	}
	return certs[0].ChainPEM, nil
}
