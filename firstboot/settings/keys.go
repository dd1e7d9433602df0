package settings

import (
	"slices"
	"strings"
)

// A Kind is the form of a key's value.
type Kind string

// The forms of values.
const (
	Text   Kind = "text"
	Number Kind = "number"
	Bool   Kind = "true or false"
	PEM    Kind = "PEM text"
	List   Kind = "list"
)

// A Sources is a set of places where settings may come from.
type Sources uint8

// The places, in the order in which they count: the first that sets a key wins.
const (
	Files       Sources = 1 << iota // /etc/prose-firstboot.d
	CloudConfig                     // prose: in cloud-config or vendor-data
	Metadata                        // prose-domain in the platform's metadata
	CommandLine                     // prose.domain= on the kernel's command line
)

const own, anywhere = Files | CloudConfig, Files | CloudConfig | Metadata | CommandLine

// sourceNames is for people, in the order of the bits.
var sourceNames = []string{"files", "cloud-config", "metadata", "kernel command line"}

func (s Sources) String() string {
	var names []string
	for i, name := range sourceNames {
		if s&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return strings.Join(names, ", ")
}

// A Key is one setting.
type Key struct {
	Name    string // dotted
	Kind    Kind
	Default string // as in YAML; empty: none
	Doc     string // fragment that begins small and has no full stop
	Sources Sources
	Fixed   bool   // counts once; later changes are refused or without effect
	Secret  bool   // never shown
	Needs   string // another key that must be set too; empty: none
	Ask     string // configure's question on a terminal; empty: not asked

	field func(*Settings) any // *string, *int, *bool, *Secret or *[]string
	check func(string) *fault // of each one in a list
	tidy  func(string) string // to the form that is kept; nil: as it is
}

// letsEncrypt is the directory of the authority that is asked by default.
const letsEncrypt = "https://acme-v02.api.letsencrypt.org/directory"

// Keys are all settings, in the order of docs and questions.
var Keys = []Key{
	{Name: "domain", Kind: Text, Sources: anywhere, Fixed: true, Ask: "Domain of your addresses (you@DOMAIN)",
		Doc:   "where the Pod lives: the part of people's addresses after the @, as people write it or as DNS has it",
		field: func(s *Settings) any { return &s.Domain }, tidy: aLabels, check: checkDomain},
	{Name: "company", Kind: Text, Sources: own, Ask: "Name of your company or group",
		Doc:   "name shown in the Pod, at most 48 characters",
		field: func(s *Settings) any { return &s.Company }, check: atMost(48)},
	{Name: "federation", Kind: Bool, Default: "false", Sources: own, Ask: "Talk to other XMPP servers",
		Doc:   "whether people here can talk to people on other XMPP servers; opens port 5269",
		field: func(s *Settings) any { return &s.Federation }},
	{Name: "analytics", Kind: Bool, Default: "false", Sources: own,
		Doc:   "whether the Pod may send figures about its use to its makers; off unless you say so",
		field: func(s *Settings) any { return &s.Analytics }},

	{Name: "smtp.host", Kind: Text, Sources: own, Ask: "Mail server for invitations (SMTP)",
		Doc:   "mail server that invitations are sent through; without it none are",
		field: func(s *Settings) any { return &s.SMTP.Host }, check: checkHost},
	{Name: "smtp.port", Kind: Number, Default: "587", Sources: own, Needs: "smtp.host", Ask: "Port of the mail server",
		Doc:   "its port for submission with STARTTLS",
		field: func(s *Settings) any { return &s.SMTP.Port }, check: checkSMTPPort},
	{Name: "smtp.username", Kind: Text, Sources: own, Needs: "smtp.password", Ask: "User name for the mail server",
		Doc:   "name to log in with",
		field: func(s *Settings) any { return &s.SMTP.Username }, check: atMost(1024)},
	{Name: "smtp.password", Kind: Text, Sources: own, Needs: "smtp.username", Secret: true, Ask: "Password for the mail server",
		Doc:   "password to log in with",
		field: func(s *Settings) any { return &s.SMTP.Password }, check: atMost(1024)},
	{Name: "smtp.encrypt", Kind: Bool, Default: "true", Sources: own, Needs: "smtp.host",
		Doc:   "whether to send nothing when the server offers no STARTTLS",
		field: func(s *Settings) any { return &s.SMTP.Encrypt }},

	{Name: "admin.username", Kind: Text, Sources: own, Fixed: true, Needs: "admin.password",
		Doc:   "name of the first account, the part before the @; without it, the one-time link on the console lets you make it",
		field: func(s *Settings) any { return &s.Admin.Username }, check: checkUsername},
	{Name: "admin.password", Kind: Text, Sources: own, Fixed: true, Needs: "admin.username", Secret: true,
		Doc:   "its password, 15 characters or more; used once and forgotten",
		field: func(s *Settings) any { return &s.Admin.Password }, check: checkPassword},
	{Name: "admin.nickname", Kind: Text, Sources: own, Fixed: true, Needs: "admin.username",
		Doc:   "name that others see, at most 48 characters; without it the user name",
		field: func(s *Settings) any { return &s.Admin.Nickname }, check: atMost(48)},

	{Name: "acme.directory", Kind: Text, Default: letsEncrypt, Sources: own,
		Doc:   "address of the certificate authority's ACME directory",
		field: func(s *Settings) any { return &s.ACME.Directory }, check: checkDirectory},
	{Name: "acme.ca", Kind: PEM, Sources: own, Needs: "acme.directory",
		Doc:   "certificates to trust when talking to that authority, instead of the system's",
		field: func(s *Settings) any { return &s.ACME.CA }, check: checkCertificates},
	{Name: "acme.contact", Kind: Text, Sources: own,
		Doc:   "mail address that the authority may write to",
		field: func(s *Settings) any { return &s.ACME.Contact }, check: checkMail},
	{Name: "acme.profile", Kind: Text, Sources: own,
		Doc:   "certificate profile to ask the authority for",
		field: func(s *Settings) any { return &s.ACME.Profile }, check: checkWord},
	{Name: "acme.eab.kid", Kind: Text, Sources: own, Needs: "acme.eab.hmac",
		Doc:   "key identifier of an external account, from authorities that want one",
		field: func(s *Settings) any { return &s.ACME.EAB.KID }, check: atMost(1024)},
	{Name: "acme.eab.hmac", Kind: Text, Sources: own, Needs: "acme.eab.kid", Secret: true,
		Doc:   "its key in base64url",
		field: func(s *Settings) any { return &s.ACME.EAB.HMAC }, check: checkBase64},

	{Name: "apex.method", Kind: Text, Default: HTTP01, Sources: own,
		Doc: "how the certificate of the domain itself comes: `" + HTTP01 + "` when the domain leads here, or its website redirects challenges here; `" +
			DNSPersist01 + "` by a TXT record that stays; `" + OwnPair + "` when you bring it",
		field: func(s *Settings) any { return &s.Apex.Method }, check: oneOf(HTTP01, DNSPersist01, OwnPair)},
	{Name: "apex.chain", Kind: PEM, Sources: own, Needs: "apex.key",
		Doc:   "your own certificate of the domain, with those between it and a root",
		field: func(s *Settings) any { return &s.Apex.Chain }, check: checkCertificates},
	{Name: "apex.key", Kind: PEM, Sources: own, Needs: "apex.chain", Secret: true,
		Doc:   "its private key",
		field: func(s *Settings) any { return &s.Apex.Key }, check: checkPrivateKey},

	{Name: "network.ipv6", Kind: Bool, Default: "true", Sources: own,
		Doc:   "whether people reach this machine by IPv6 too, when it has such an address",
		field: func(s *Settings) any { return &s.Network.IPv6 }},
	{Name: "network.resolvers", Kind: List, Sources: own,
		Doc:   "addresses of name servers to ask instead of those that the network names",
		field: func(s *Settings) any { return &s.Network.Resolvers }, check: checkAddress},
	{Name: "allow.ssh", Kind: List, Sources: own,
		Doc:   "networks that SSH is open to, such as `192.0.2.0/24`; without it everybody",
		field: func(s *Settings) any { return &s.Allow.SSH }, check: checkNetwork},
	{Name: "allow.dashboard", Kind: List, Sources: own,
		Doc:   "networks that the dashboard is open to; without it everybody",
		field: func(s *Settings) any { return &s.Allow.Dashboard }, check: checkNetwork},

	{Name: "alerts.mail", Kind: Text, Sources: own, Needs: "smtp.host", Ask: "Mail address for alerts",
		Doc:   "mail address that is told when something needs a look after the machine was ready once",
		field: func(s *Settings) any { return &s.Alerts.Mail }, check: checkMail},
	{Name: "alerts.webhook", Kind: Text, Sources: own, Secret: true,
		Doc:   "https address that gets the same as JSON, by POST",
		field: func(s *Settings) any { return &s.Alerts.Webhook }, check: checkWebhook},
}

// Find is the key with a dotted name, or nil.
func Find(name string) *Key {
	i := slices.IndexFunc(Keys, func(k Key) bool { return k.Name == name })
	if i < 0 {
		return nil
	}
	return &Keys[i]
}

// isTable reports whether keys lie below name.
func isTable(name string) bool {
	return slices.ContainsFunc(Keys, func(k Key) bool { return strings.HasPrefix(k.Name, name+".") })
}

// Defaults are the settings when nobody says anything.
func Defaults() Settings {
	var s Settings
	for i := range Keys {
		if k := &Keys[i]; k.Default != "" {
			if f := k.set(&s, k.Default); f != nil {
				panic("BUG: default of " + k.Name + ": " + f.message)
			}
		}
	}
	return s
}
