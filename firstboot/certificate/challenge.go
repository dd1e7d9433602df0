package certificate

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/mholt/acmez/v3/acme"

	"github.com/prose-im/prose-image/firstboot/preflight"
)

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

// reason is why the authority did not believe us.
func reason(authz acme.Authorization) error {
	for _, c := range authz.Challenges {
		if c.Error != nil {
			return *c.Error
		}
	}
	return errors.New("no reason is given")
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
