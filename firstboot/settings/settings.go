// Package settings is what the owner of a machine asked for: where it was said,
// what is wrong with it, and what of it the Pod is told.
//
// One table, [Keys], feeds parsing, validation, the questions and flags of
// configure, and the reference in docs.
package settings

// Settings are the checked settings. A key that nobody set, or that was set
// wrong, has its default.
type Settings struct {
	Domain     string // the part of people's addresses after the @; empty: unconfigured
	Company    string // name shown in the Pod
	Federation bool   // talk to other XMPP servers
	Analytics  bool   // the Pod's server sends figures about its use

	Admin   Account
	SMTP    SMTP
	ACME    ACME
	Apex    Apex
	Network Network
	Allow   Allow
	Alerts  Alerts
}

// An Account is the first one of the Pod, an administrator.
type Account struct {
	Username string // the part before the @; empty: made by the owner in the dashboard
	Password Secret
	Nickname string // shown to others; empty: the user name
}

// SMTP is the mail server that invitations are sent through.
type SMTP struct {
	Host     string // empty: no mail
	Port     int
	Username string // empty: without a login
	Password Secret
	Encrypt  bool // STARTTLS or nothing
}

// ACME is the authority that certificates come from.
type ACME struct {
	Directory string // URL of the authority's directory
	CA        string // PEM bundle that vouches for Directory; empty: the system's
	Contact   string // mail address that the authority gets; may be empty
	Profile   string // of certificate; empty: the authority's default
	EAB       EAB
}

// EAB is an external account binding (RFC 8555 section 7.3.4).
type EAB struct {
	KID  string // empty: none
	HMAC Secret // base64url
}

// Ways to the certificate of the domain itself, the apex: websites have it too.
const (
	HTTP01       = "http-01"        // the challenge of RFC 8555, section 8.3
	DNSPersist01 = "dns-persist-01" // draft-ietf-acme-dns-persist
	OwnPair      = "own"            // the owner's PEM files
)

// Apex is how the domain itself gets its certificate.
type Apex struct {
	Method string
	Chain  string // PEM, of OwnPair; the leaf first
	Key    Secret // PEM
}

// Network is how the machine meets the world.
type Network struct {
	IPv6      bool
	Resolvers []string // IP addresses; empty: the network's
}

// Allow are networks in the form of RFC 4632 and RFC 4291 (192.0.2.0/24), or
// single addresses. An empty list allows everybody.
type Allow struct{ SSH, Dashboard []string }

// Alerts are who is told when a machine that was ready needs a look.
type Alerts struct {
	Mail    string // address; empty: nobody
	Webhook Secret // URL; often it has a token in it
}

// Configured reports whether there is a domain: without one there is nothing
// to set up.
func (s *Settings) Configured() bool { return s.Domain != "" }
