// Package certificate gets, installs and renews the certificates of a Pod: one
// per name, from any ACME authority (RFC 8555), for NGINX and for Prosody.
//
// It is level-triggered: Observe looks at what is on disk and what the servers
// show, Next decides on one step without looking at anything else, and
// Keeper.Do does that step. A run that dies at any instant is made good by the
// next one.
package certificate

import (
	"net/netip"
	"time"

	"github.com/prose-im/prose-image/firstboot/preflight"
)

// XMPP is where Prosody shows a name's certificate.
type XMPP string

const (
	NoXMPP XMPP = ""
	Client XMPP = "client" // port 5222
	Server XMPP = "server" // port 5269
)

// A Method is how a name comes to its certificate. The zero value is HTTP01.
type Method string

// The methods, named as in the settings.
const (
	HTTP01       Method = "http-01"        // a file that the authority fetches (RFC 8555 section 8.3)
	DNSPersist01 Method = "dns-persist-01" // a TXT record that stays (draft-ietf-acme-dns-persist)
	Owned        Method = "own"            // the owner brings it; no authority is asked
)

// Name is one host name with a certificate of its own.
type Name struct {
	Host   string
	HTTPS  bool // NGINX serves it on port 443
	XMPP   XMPP // Prosody has it
	Apex   bool // the domain itself, which a website may have too
	Method Method
}

// Names are those of a Pod with this domain, in the order in which they are
// ordered. Prosody needs the one of its rooms only to talk to other servers.
func Names(domain string, federated bool) []Name {
	groups := Name{Host: "groups." + domain, Method: HTTP01}
	if federated {
		groups.XMPP = Server
	}
	return []Name{
		{domain, true, Client, true, HTTP01},
		groups,
		{"prose." + domain, true, NoXMPP, false, HTTP01},
		{"admin.prose." + domain, true, NoXMPP, false, HTTP01},
	}
}

// EAB binds the account to one that the owner has at the authority (RFC 8555
// section 7.3.4).
type EAB struct{ KeyID, MACKey string }

// String keeps the secret out of logs.
func (EAB) String() string { return "***" }

// GoString likewise.
func (EAB) GoString() string { return "***" }

// An OwnPair is what the owner brings for names whose method is Owned, as PEM.
type OwnPair struct{ Chain, Key []byte }

// String keeps the secret out of logs.
func (OwnPair) String() string { return "***" }

// GoString likewise.
func (OwnPair) GoString() string { return "***" }

// LetsEncrypt is the directory that is used when the settings name none.
const LetsEncrypt = "https://acme-v02.api.letsencrypt.org/directory"

// Settings is what the owner wants.
type Settings struct {
	Names     []Name
	Directory string // URL of the ACME directory
	Roots     []byte // PEM; who signs the directory's own certificate. Empty: the system's list
	Contact   string // mail address; empty: none
	EAB       *EAB
	Profile   string // empty, or unknown to the directory: its default
	Own       OwnPair
	Preflight preflight.Settings
}

// way is how a name comes to its certificate, and where from.
func (s Settings) way(n Name) string {
	if n.Method == "" {
		n.Method = HTTP01
	}
	return string(n.Method) + " " + s.Directory
}

// Paths are the places on disk.
type Paths struct {
	Live    string // certbot's tree: holds live/ and archive/
	State   string // accounts and records, root's alone
	Prosody string // Prosody's certificates, in a directory of uid 1001
}

// StandardPaths are those of the image. The webroot is in preflight.Settings.
var StandardPaths = Paths{
	Live:    "/etc/letsencrypt",
	State:   "/var/lib/prose-firstboot/acme",
	Prosody: "/etc/prosody/certs",
}

// Webroot is the directory that NGINX serves below /.well-known/acme-challenge/.
const Webroot = "/var/lib/prose-firstboot/www/challenge"

// Ports are where the servers of this machine listen.
type Ports struct{ HTTPS, Client, Server netip.AddrPort }

// StandardPorts are those of the image.
var StandardPorts = Ports{
	HTTPS:  netip.MustParseAddrPort("127.0.0.1:443"),
	Client: netip.MustParseAddrPort("127.0.0.1:5222"),
	Server: netip.MustParseAddrPort("127.0.0.1:5269"),
}

// Pair is what is known of a certificate chain and its key.
type Pair struct {
	Usable    bool // it can be read, the key fits, and it names the host
	Serial    string
	NotBefore time.Time
	NotAfter  time.Time
	Signed    bool   // by an authority, not by ourselves
	Only      bool   // it names the host and nothing else
	Own       bool   // it is one that the owner brought
	Digest    string // SHA-256 of chain and key, as they are on disk

	print string // SHA-256 of the leaf: serials of other people's authorities may repeat
}

// Valid says whether a client would accept the pair's dates now.
func (p Pair) Valid(now time.Time) bool {
	return p.Usable && !now.Before(p.NotBefore) && now.Before(p.NotAfter)
}

// Served is what a server showed for a name. Neither means that it was not
// asked.
type Served struct {
	Down   bool // nobody listens
	Serial string
	Error  string

	print string
}

// Shows says whether a server shows what is in the files.
func (s Served) Shows(p Pair) bool { return s.Serial == p.Serial && s.print == p.print }

// State is what was observed of one name.
type State struct {
	Live    Pair   // what NGINX reads
	Archive Pair   // the best signed pair that is on disk but not live
	Prosody Pair   // what Prosody reads
	Own     Pair   // what the owner brings, when the name's method is Owned
	OwnWhy  string // why that cannot be used, if it cannot
	HTTPS   Served // what NGINX shows
	XMPP    Served // what Prosody shows
	Record  Record
	// Hold is why no certificate may be ordered yet; the caller fills it in
	// after Observe. The authority makes each name public within seconds.
	Hold string
}

// Observed is the world, by host name.
type Observed map[string]State
