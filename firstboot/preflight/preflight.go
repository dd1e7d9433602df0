// Package preflight tells, before a certificate is ordered, whether an
// authority that looks at a name from outside will end up at this machine:
// every address in DNS, a file fetched through each of them, and CAA. It costs
// nothing at the authority.
package preflight

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/prose-im/prose-image/firstboot/dns"
)

// Kind is what is wrong, as one word for programs.
type Kind string

const (
	NoAddress   Kind = "no-address"  // DNS has no A and no AAAA record
	Foreign     Kind = "foreign"     // an address where somebody else answers
	Silent      Kind = "silent"      // an address where nobody answers
	Special     Kind = "special"     // an address that the world cannot reach
	Unproven    Kind = "unproven"    // our address before translation: it may not be reachable from here
	Resolver    Kind = "resolver"    // DNS does not answer, or SERVFAIL
	Forbidden   Kind = "caa"         // a CAA record forbids the order
	Authority   Kind = "authority"   // the directory does not answer
	Unpersisted Kind = "unpersisted" // no TXT record lets the authority sign for our account
	Unoffered   Kind = "unoffered"   // the authority does not offer the way to prove a name that is asked for
)

// Finding is one thing that keeps a certificate from being ordered.
type Finding struct {
	Name   string   `json:"name"` // where it was found; for CAA it may be a parent
	Kind   Kind     `json:"kind"`
	Type   string   `json:"type,omitempty"`   // of the records: A, AAAA, CAA, TXT
	Found  []string `json:"found,omitempty"`  // what is in DNS: addresses, CAA data, texts
	Wanted string   `json:"wanted,omitempty"` // a line for the zone; empty if the record should go, or nothing is known
	Why    string   `json:"why"`              // a sentence without capital and full stop
}

func (f Finding) String() string {
	s := f.Name + ": " + f.Why
	if f.Wanted != "" {
		s += "; wanted: " + f.Wanted
	}
	return s
}

// Result is what one look at one name found.
type Result struct {
	At       time.Time `json:"at"`
	Findings []Finding `json:"findings,omitempty"`
	// Delegated says that the name leads to another machine, which sends
	// authorities on to us.
	Delegated bool `json:"delegated,omitempty"`
}

// Ready says that nothing keeps a certificate from being ordered.
func (r Result) Ready() bool { return len(r.Findings) == 0 }

// Soft says that all that is missing is a proof which may be impossible from
// where we are: behind address translation, a machine often cannot reach its
// own public address.
func (r Result) Soft() bool {
	return len(r.Findings) > 0 && !slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.Kind != Unproven })
}

// Elsewhere says that the name leads to somebody else's machines and to nothing
// else: a website, most often.
func (r Result) Elsewhere() bool {
	return len(r.Findings) > 0 && !slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.Kind != Foreign && f.Kind != Silent })
}

// Settings is what a look needs to know.
type Settings struct {
	DNS dns.Client
	// Webroot is the directory that NGINX serves below /.well-known/acme-challenge/.
	Webroot string
	// Addresses are this machine's in the world, as metadata or interfaces show
	// them. They make the records to paste, and never prove anything alone.
	Addresses []netip.Addr
	// Allow are special-purpose networks to accept all the same, for a private
	// authority or a test.
	Allow []netip.Prefix
	// HTTPPort and HTTPSPort stand for 80 and 443 where they are not free.
	HTTPPort, HTTPSPort uint16
}

func (s Settings) http() uint16  { return or(s.HTTPPort, 80) }
func (s Settings) https() uint16 { return or(s.HTTPSPort, 443) }

func or(port, standard uint16) uint16 {
	if port == 0 {
		return standard
	}
	return port
}

// Check looks at the A and AAAA records of a name and fetches a nonce
// through NGINX at each. It takes a minute at most.
func (s Settings) Check(ctx context.Context, name string) (findings []Finding, delegated bool) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	var all []netip.Addr
	for _, t := range []struct {
		name  string
		query func() (dns.Answer, error)
	}{
		{"A", func() (dns.Answer, error) { return s.DNS.Lookup(ctx, name, dns.A) }},
		{"AAAA", func() (dns.Answer, error) { return s.DNS.Lookup(ctx, name, dns.AAAA) }},
	} {
		answer, err := t.query()
		if err != nil {
			// One of two silent types may be a server that knows no AAAA; the
			// authority would fail there all the same.
			findings = append(findings, Finding{Name: name, Kind: Resolver, Type: t.name, Why: err.Error()})
			continue
		}
		all = append(all, answer.Addresses...)
	}
	if len(all) == 0 {
		if len(findings) == 0 {
			findings = append(findings, s.nothing(name))
		}
		return findings, false
	}
	local, err := interfaces()
	if err != nil {
		return append(findings, Finding{Name: name, Kind: Unproven, Why: err.Error()}), false
	}
	nonce, err := s.serve()
	if err != nil {
		return append(findings, Finding{Name: name, Kind: Unproven, Why: err.Error()}), false
	}
	defer nonce.remove()
	for _, a := range all {
		f := Finding{Name: name, Type: typeOf(a), Found: []string{a.String()}, Wanted: s.record(name, a.Is6())}
		switch {
		case !s.reachable(a, local):
			f.Kind, f.Why = Special, fmt.Sprintf("%v is a special-purpose address that no authority can reach", a)
		default:
			redirected, err := s.fetch(ctx, name, a, nonce, local)
			if err == nil {
				delegated = delegated || redirected
				continue
			}
			var wrong *otherAnswer
			// What no interface holds but metadata calls ours is translated on its
			// way, and that often works from outside only.
			switch translated := slices.Contains(s.Addresses, a) && !slices.Contains(local, a); {
			case errors.As(err, &wrong):
				f.Kind, f.Why = Foreign, fmt.Sprintf("another machine answers at %v: %v", a, wrong)
			case translated:
				f.Kind, f.Wanted, f.Why = Unproven, "", fmt.Sprintf("%v is ours but port 80 cannot be reached from here: %v", a, err)
			default:
				f.Kind, f.Why = Silent, fmt.Sprintf("port 80 of %v does not lead here: %v", a, err)
			}
		}
		if f.Wanted == "" && f.Kind != Unproven {
			f.Why += fmt.Sprintf("; remove this %s record", f.Type)
		}
		findings = append(findings, f)
	}
	return findings, delegated
}

// nothing is the finding of a name without addresses, with the records to make.
func (s Settings) nothing(name string) Finding {
	f := Finding{Name: name, Kind: NoAddress, Type: "A", Wanted: s.record(name, false), Why: "DNS has no A and no AAAA record"}
	if six := s.record(name, true); f.Wanted == "" && six != "" {
		f.Type, f.Wanted = "AAAA", six
	}
	return f
}

// record is a zone's line that leads a name to us, or "" if we have no address
// of that family.
func (s Settings) record(name string, six bool) string {
	for _, a := range s.Addresses {
		if a.Unmap().Is6() == six {
			return fmt.Sprintf("%s. 3600 IN %s %s", name, typeOf(a.Unmap()), a.Unmap())
		}
	}
	return ""
}

func typeOf(a netip.Addr) string {
	if a.Is6() {
		return "AAAA"
	}
	return "A"
}

// Issuer is who shall sign: the names by which CAA records may call it, and our
// account there.
type Issuer struct {
	Names   []string
	Account string // URL; "" if there is none yet
	Method  string // how we prove names, as CAA records call it; "" is http-01
}

// CAA climbs from the name to the root until a CAA record set is found, and
// says whether it forbids the order (RFC 8659 section 3, RFC 8657). An
// issuer without names is not looked for.
func (s Settings) CAA(ctx context.Context, name string, issuer Issuer) []Finding {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for at := name; at != ""; {
		answer, err := s.DNS.Lookup(ctx, at, dns.CAA)
		if err != nil {
			return []Finding{{Name: at, Kind: Resolver, Type: "CAA", Why: err.Error()}}
		}
		if len(answer.Properties) > 0 {
			why := judge(answer.Properties, issuer)
			if why == "" {
				return nil
			}
			f := Finding{Name: at, Kind: Forbidden, Type: "CAA", Why: why}
			for _, p := range answer.Properties {
				f.Found = append(f.Found, fmt.Sprintf("%s %q", p.Tag, p.Value))
			}
			if len(issuer.Names) > 0 {
				f.Wanted = fmt.Sprintf("%s. 3600 IN CAA 0 issue %q", at, issuer.Names[0])
			}
			return []Finding{f}
		}
		_, at, _ = strings.Cut(at, ".")
	}
	return nil
}

// judge returns why a CAA record set forbids the order, or "".
func judge(set []dns.Property, issuer Issuer) string {
	var why string
	restricted := false
	for _, p := range set {
		switch p.Tag {
		case "issue":
			restricted = true
			reason := permits(p.Value, issuer)
			if reason == "" {
				return critical(set)
			}
			why = reason
		}
	}
	if bad := critical(set); bad != "" {
		return bad
	}
	if !restricted || len(issuer.Names) == 0 {
		return ""
	}
	return why
}

func critical(set []dns.Property) string {
	known := []string{"issue", "issuewild", "iodef", "issuemail", "issuevmc", "contactemail", "contactphone"}
	for _, p := range set {
		if p.Critical && !slices.Contains(known, p.Tag) {
			return fmt.Sprintf("the CAA property %q is critical and unknown", p.Tag)
		}
	}
	return ""
}

// permits returns why one issue property does not let the issuer sign, or "".
func permits(value string, issuer Issuer) string {
	domain, parameters, _ := strings.Cut(value, ";")
	domain = strings.ToLower(strings.TrimSpace(domain))
	if !slices.ContainsFunc(issuer.Names, func(n string) bool { return strings.EqualFold(n, domain) }) {
		return fmt.Sprintf("the CAA records do not allow %s", strings.Join(issuer.Names, " or "))
	}
	for p := range strings.SplitSeq(parameters, ";") {
		key, v, _ := strings.Cut(p, "=")
		v = strings.TrimSpace(v)
		switch strings.ToLower(strings.TrimSpace(key)) {
		case "accounturi":
			if v != issuer.Account {
				return fmt.Sprintf("the CAA record is for the account %s, ours is %s", v, issuer.Account)
			}
		case "validationmethods":
			method := issuer.Method
			if method == "" {
				method = "http-01"
			}
			if !slices.Contains(strings.Split(strings.ReplaceAll(v, " ", ""), ","), method) {
				return "the CAA record does not allow the method " + method
			}
		}
	}
	return ""
}
