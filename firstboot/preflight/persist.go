package preflight

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prose-im/prose-image/firstboot/dns"
)

// PersistLabel is what a dns-persist-01 record's name begins with
// (draft-ietf-acme-dns-persist section 4.1).
const PersistLabel = "_validation-persist."

// PersistValue is what a TXT record must say so that an issuer may sign for
// this account for as long as the record stays, or "" while one of the two is
// not known.
func PersistValue(issuer Issuer) string {
	if len(issuer.Names) == 0 || issuer.Account == "" {
		return ""
	}
	return issuer.Names[0] + "; accounturi=" + issuer.Account
}

// TXTData writes a text as zone files have it: quoted strings of at most 255
// bytes (RFC 1035 sections 3.3.14 and 5.1).
func TXTData(text string) string {
	var parts []string
	for ; len(text) > 255; text = text[255:] {
		parts = append(parts, quote(text[:255]))
	}
	return strings.Join(append(parts, quote(text)), " ")
}

func quote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

// Persist asks DNS whether the TXT record of dns-persist-01 is there, as the
// authority will: a record that is missing or wrong costs no order.
func (s Settings) Persist(ctx context.Context, name string, issuer Issuer, now time.Time) []Finding {
	at := PersistLabel + name
	f := Finding{Name: at, Kind: Unpersisted, Type: "TXT"}
	value := PersistValue(issuer)
	if value == "" {
		f.Why = "the authority does not say by which name a record may call it"
		return []Finding{f}
	}
	f.Wanted = fmt.Sprintf("%s. 3600 IN TXT %s", at, TXTData(value))
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	answer, err := s.DNS.Lookup(ctx, at, dns.TXT)
	if err != nil {
		return []Finding{{Name: at, Kind: Resolver, Type: "TXT", Why: err.Error()}}
	}
	if f.Why = Persisted(answer.Texts, issuer, now); f.Why == "" {
		return nil
	}
	f.Found = answer.Texts
	return []Finding{f}
}

// Persisted returns why TXT records do not let the issuer sign for our account,
// or "": one record that does is enough, whatever stands beside it.
func Persisted(texts []string, issuer Issuer, now time.Time) string {
	why := "DNS has no such TXT record"
	for _, text := range texts {
		reason, ours := persists(text, issuer, now)
		switch {
		case ours && reason == "":
			return ""
		case ours:
			why = reason
		case why == "DNS has no such TXT record":
			why = reason
		}
	}
	return why
}

// persists reads one record (RFC 8659 section 4.2, as the draft uses it). It
// returns why it does not serve, and whether it is for this issuer at all.
func persists(text string, issuer Issuer, now time.Time) (why string, ours bool) {
	parts := strings.Split(text, ";")
	domain := strings.Trim(parts[0], " \t")
	if !slices.Contains(issuer.Names, domain) {
		if bare := strings.Trim(domain, `"' `+"\t“”\\"); slices.ContainsFunc(issuer.Names, func(n string) bool { return strings.EqualFold(n, bare) }) {
			if strings.ContainsAny(text, `"'“”`) {
				return "the TXT record has quotation marks in its text; enter it without them", true
			}
			return fmt.Sprintf("the TXT record names %q instead of %q", domain, strings.ToLower(bare)), true
		}
		return fmt.Sprintf("the TXT record is for %.60q, not for %s", domain, strings.Join(issuer.Names, " or ")), false
	}
	account, until := "", ""
	seen := map[string]bool{}
	for _, p := range parts[1:] {
		tag, value, ok := strings.Cut(strings.Trim(p, " \t"), "=")
		tag, value = strings.ToLower(strings.Trim(tag, " \t")), strings.Trim(value, " \t")
		switch {
		case strings.Trim(p, " \t") == "":
			return "the TXT record has a semicolon too many", true
		case !ok || tag == "":
			return fmt.Sprintf("the TXT record has %.60q in it, which is no tag with a value", strings.Trim(p, " \t")), true
		case seen[tag]:
			return fmt.Sprintf("the TXT record has %.60s twice", tag), true
		case strings.ContainsAny(value, `"'“”`):
			return "the TXT record has quotation marks in its text; enter it without them", true
		case strings.ContainsFunc(value, func(r rune) bool { return r < 0x21 || r > 0x7e }):
			return fmt.Sprintf("the TXT record has a space or another character in %.60s that may not stand there", tag), true
		}
		seen[tag] = true
		switch tag {
		case "accounturi":
			account = value
		case "persistuntil":
			until = value
		}
	}
	switch {
	case account == "":
		return "the TXT record names no account", true
	case account != issuer.Account:
		return fmt.Sprintf("the TXT record is for the account %.200s, ours is %s", account, issuer.Account), true
	case seen["persistuntil"]:
		n, err := strconv.ParseInt(until, 10, 64)
		if err != nil {
			return fmt.Sprintf("the TXT record's persistUntil is %.60q, and not seconds since 1970", until), true
		}
		if end := time.Unix(n, 0).UTC(); !end.After(now) {
			return "the TXT record has ended on " + end.Format("2 January 2006"), true
		}
	}
	return "", true
}
