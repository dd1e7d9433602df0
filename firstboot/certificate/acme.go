package certificate

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	mathrand "math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/mholt/acmez/v3/acme"

	"github.com/prose-im/prose-image/firstboot/preflight"
)

const (
	orderLimit    = 5 * time.Minute // one order, from beginning to end
	answerLimit   = 1 << 20         // bytes of one answer
	rateLimited   = time.Hour       // wait when the authority names none
	problemPrefix = acme.ProblemTypeNamespace
)

// authority is a directory, with our account there.
type authority struct {
	client    *acme.Client
	transport *transport
	directory acme.Directory
	dir       string // the account's place on disk
	account   acme.Account
}

// transport bounds answers and remembers what the authority asked us to wait.
type transport struct {
	base http.RoundTripper
	wait time.Duration
	// list is the last answer with a list of orders, and where it goes on.
	list orderList
}

func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := t.base.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode >= 400 {
		t.wait = retryAfter(resp.Header.Get("Retry-After"), time.Now())
	}
	if kind := resp.Header.Get("Content-Type"); strings.HasPrefix(kind, "text/html") {
		resp.Body.Close()
		return nil, fmt.Errorf("a web page answers with status %d, not an ACME authority", resp.StatusCode)
	}
	resp.Body = struct {
		io.Reader
		io.Closer
	}{io.LimitReader(resp.Body, answerLimit), resp.Body}
	if req.Context().Value(wantList{}) == req.URL.String() && resp.StatusCode == http.StatusOK {
		if err := t.list.read(resp); err != nil {
			return nil, err
		}
	}
	return resp, nil
}

// wait is what the authority asked for with its last error.
func (a *authority) wait(err error) time.Duration {
	if err == nil || a == nil {
		return 0
	}
	if is(err, acme.ProblemTypeRateLimited) && a.transport.wait == 0 {
		return rateLimited
	}
	return a.transport.wait
}

// retryAfter reads the header's two forms (RFC 9110 section 10.2.3); 0 is none.
func retryAfter(value string, now time.Time) time.Duration {
	if n, err := strconv.Atoi(value); err == nil {
		return time.Duration(min(max(n, 0), 31*24*3600)) * time.Second
	}
	if t, err := http.ParseTime(value); err == nil {
		return min(max(t.Sub(now), 0), 31*day)
	}
	return 0
}

// open asks for the directory. It does not register. With an error, the authority
// is good for nothing but wait.
func open(ctx context.Context, s Settings, p Paths) (*authority, error) {
	roots, err := pool(s.Roots)
	if err != nil {
		return nil, err
	}
	t := &transport{base: &http.Transport{
		TLSClientConfig:        &tls.Config{RootCAs: roots},
		TLSHandshakeTimeout:    10 * time.Second,
		ResponseHeaderTimeout:  30 * time.Second,
		MaxResponseHeaderBytes: 64 << 10,
		IdleConnTimeout:        30 * time.Second,
		ForceAttemptHTTP2:      true,
	}}
	a := &authority{transport: t, client: &acme.Client{
		Directory:    s.Directory,
		HTTPClient:   &http.Client{Transport: t, Timeout: time.Minute},
		UserAgent:    "prose-firstboot",
		PollInterval: time.Second,
		PollTimeout:  2 * time.Minute,
	}}
	if a.directory, err = a.client.GetDirectory(ctx); err != nil {
		return a, fmt.Errorf("reading the directory %s: %w", s.Directory, err)
	}
	sum := sha256.Sum256([]byte(s.Directory))
	a.dir = filepath.Join(p.State, hex.EncodeToString(sum[:8]))
	return a, nil
}

func pool(roots []byte) (*x509.CertPool, error) {
	if len(roots) == 0 {
		return nil, nil
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(roots) {
		return nil, errors.New("reading the authority's own certificates: there is none in the PEM")
	}
	return pool, nil
}

// close lets go of connections.
func (a *authority) close() { a.client.HTTPClient.CloseIdleConnections() }

// register loads our account or makes one. The key is on disk before the
// authority hears of it: it finds a known key's account again (RFC 8555 section
// 7.3.1).
func (a *authority) register(ctx context.Context, s Settings) error {
	err := func() error {
		if err := os.MkdirAll(a.dir, 0o700); err != nil {
			return err
		}
		keyPath, accountPath := filepath.Join(a.dir, "account.key"), filepath.Join(a.dir, "account.json")
		data, err := os.ReadFile(keyPath)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		key, err := parseKey(data)
		if err != nil {
			if len(data) > 0 {
				if err := os.Rename(keyPath, keyPath+".bad"); err != nil {
					return err
				}
			}
			if key, data, err = newKey(); err != nil {
				return err
			}
			if err := writeFile(keyPath, data, 0o600); err != nil {
				return err
			}
			if err := os.Remove(accountPath); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
		if data, err := os.ReadFile(accountPath); err == nil && json.Unmarshal(data, &a.account) == nil && a.account.Location != "" {
			a.account.PrivateKey = key
			return nil
		}
		a.account = acme.Account{TermsOfServiceAgreed: true, PrivateKey: key}
		if s.Contact != "" {
			a.account.Contact = []string{"mailto:" + s.Contact}
		}
		if s.EAB != nil {
			if err := a.account.SetExternalAccountBinding(ctx, a.client, acme.EAB{KeyID: s.EAB.KeyID, MACKey: s.EAB.MACKey}); err != nil {
				return err
			}
		}
		if a.account, err = a.client.NewAccount(ctx, a.account); err != nil {
			return err
		}
		a.account.PrivateKey, a.account.ExternalAccountBinding = key, nil
		if data, err = json.MarshalIndent(a.account, "", "  "); err != nil {
			return err
		}
		return writeFile(accountPath, data, 0o600)
	}()
	if err != nil {
		return fmt.Errorf("registering at %s: %w", s.Directory, err)
	}
	return nil
}

// again makes an account anew, for a directory that does not know ours any more.
// The key stays, unless the authority says that its account is closed.
func (a *authority) again(ctx context.Context, s Settings) error {
	account := acme.Account{PrivateKey: a.account.PrivateKey, TermsOfServiceAgreed: true}
	known, err := a.client.GetAccount(ctx, account)
	switch {
	case is(err, acme.ProblemTypeAccountDoesNotExist):
	case is(err, acme.ProblemTypeUnauthorized), err == nil && known.Status != "" && known.Status != acme.StatusValid:
		key := filepath.Join(a.dir, "account.key")
		if err := os.Rename(key, key+".closed"); err != nil {
			return err
		}
	case err != nil:
		return fmt.Errorf("asking for our account: %w", err)
	case known.Location == a.account.Location:
		return errors.New("the authority refuses an account that it calls valid")
	}
	a.account = acme.Account{}
	if err := os.Remove(filepath.Join(a.dir, "account.json")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return a.register(ctx, s)
}

// is says whether an error is a problem of this type, as the authority tells it.
func is(err error, types ...string) bool {
	var p acme.Problem
	if !errors.As(err, &p) {
		return false
	}
	for _, t := range types {
		if p.Type == t {
			return true
		}
	}
	return false
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

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// authorize proves that a name is ours, by its method.
func (k *Keeper) authorize(ctx context.Context, a *authority, n Name, at string) error {
	authz, err := a.client.GetAuthorization(ctx, a.account, at)
	if err != nil {
		return fmt.Errorf("reading an authorization: %w", err)
	}
	switch authz.Status {
	case acme.StatusValid:
		return nil
	case acme.StatusPending:
	case acme.StatusInvalid:
		return spent{fmt.Errorf("the authorization is %s: %w", authz.Status, reason(authz))}
	default:
		return stale{fmt.Errorf("the authorization is %s", authz.Status)}
	}
	if err := a.note(authz, k.Clock()); err != nil {
		return err
	}
	method := HTTP01
	if n.Method == DNSPersist01 {
		method = DNSPersist01
	}
	var challenge acme.Challenge
	for _, c := range authz.Challenges {
		if c.Type == string(method) {
			challenge = c
		}
	}
	switch {
	case challenge.URL == "":
		return stale{fmt.Errorf("the authority does not offer %s", method)}
	case method == DNSPersist01:
		issuer := preflight.Issuer{Account: a.account.Location, Names: challenge.IssuerDomainNames}
		// What it says now counts, and a record that does not fit costs no try.
		if wrong := k.Settings.Preflight.Persist(ctx, n.Host, issuer, k.Clock()); len(wrong) > 0 {
			return stale{fmt.Errorf("proving that the name is ours: %s", wrong[0].Why)}
		}
	default:
		// The token becomes a file's name: only the alphabet of RFC 8555 section 8.1.
		if challenge.Token == "" || strings.Trim(challenge.Token, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			return spent{errors.New("the authority's http-01 challenge has no proper token")}
		}
		file := filepath.Join(k.Settings.Preflight.Webroot, challenge.Token)
		if err := writeFile(file, []byte(challenge.KeyAuthorization), 0o644); err != nil {
			return fmt.Errorf("serving the challenge: %w", err)
		}
		defer os.Remove(file)
	}
	if challenge.Status == acme.StatusPending {
		if _, err := a.client.InitiateChallenge(ctx, a.account, challenge); err != nil {
			return fmt.Errorf("beginning the challenge: %w", err)
		}
	}
	authz, err = a.client.PollAuthorization(ctx, a.account, authz)
	var p acme.Problem
	if errors.As(err, &p) && !is(err, acme.ProblemTypeRateLimited, acme.ProblemTypeServerInternal) {
		return spent{fmt.Errorf("proving that the name is ours: %w", err)}
	}
	if err != nil {
		return fmt.Errorf("proving that the name is ours: %w", err)
	}
	return nil
}

// sweep takes away challenges that killed runs have left: files that begin with
// their own name and a dot (RFC 8555 section 8.1), and what was to become one.
func sweep(webroot string) {
	entries, _ := os.ReadDir(webroot)
	for _, e := range entries {
		path, name := filepath.Join(webroot, e.Name()), e.Name()
		data, err := os.ReadFile(path)
		if err != nil || !e.Type().IsRegular() {
			continue
		}
		if strings.HasPrefix(string(data), name+".") || strings.HasPrefix(name, ".") && strings.HasSuffix(name, ".new") {
			_ = os.Remove(path) // whoever reads it learns nothing
		}
	}
}

// reason is why the authority did not believe us.
func reason(authz acme.Authorization) error {
	for _, c := range authz.Challenges {
		if c.Error != nil {
			return *c.Error
		}
	}
	return errors.New("no reason is given")
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
