package certificate

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/mholt/acmez/v3/acme"
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

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// refused says that the authority has understood us and says no, and would say
// so again.
func refused(err error) bool {
	var p acme.Problem
	return errors.As(err, &p) && p.Status/100 == 4 && !is(err, acme.ProblemTypeRateLimited, acme.ProblemTypeBadNonce)
}
