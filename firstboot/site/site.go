// Package site renders what NGINX serves for a domain: one file of
// configuration, and the host-meta files of RFC 7395 discovery. It is pure: the
// agent writes the files, tests them and reloads NGINX.
//
// The door. Upstream lets the first visitor become administrator. Everything
// under admin.prose.DOMAIN asks the door, at each request: while no account exists
// it lets in the claim alone, and once one does everybody, for the API to check.
// The routes on which the API checks nobody, which make an account and begin the
// workspace, are for the claim in every state: a body that comes slowly would else
// arrive when the account that the door has seen is gone. Locations match NGINX's
// normalised path, and what is passed on is that path, so a spelling that gets
// past a location does not mean the route behind it.
package site

import (
	"fmt"
	"net/netip"
	"strings"
)

// Paths on the machine, as overlays has them.
const (
	Challenges = "/var/lib/prose-firstboot/www/challenge"  // ACME http-01 tokens
	WellKnown  = "/var/lib/prose-firstboot/www/well-known" // host-meta files
	doorSocket = "unix:/run/prose-door.sock"
	webApp     = "127.0.0.1:8080"
	dashboard  = "127.0.0.1:8081"
	prosody    = "127.0.0.1:5280"
)

// A Pair is a certificate chain and its key, as PEM files.
type Pair struct{ Chain, Key string }

// A Config is what the sites depend on.
type Config struct {
	Domain       string          // A-label, checked
	Certificates map[string]Pair // by name; each of [Names] has one
	Allow        []netip.Prefix  // networks that the dashboard is open to; empty: everybody
}

// Names are the host names of a domain, each with a certificate of its own.
func Names(domain string) []string {
	return []string{domain, "groups." + domain, "prose." + domain, "admin.prose." + domain}
}

// Render gives the configuration.
func Render(c Config) ([]byte, error) {
	var b strings.Builder
	b.WriteString("# Written by prose-firstboot; changes are lost.\n")
	names := Names(c.Domain)
	fmt.Fprintf(&b, `
server {
	listen 80;
	listen [::]:80;
	server_name %s;
	access_log /var/log/nginx/access.log prose;
	include /etc/nginx/snippets/prose-challenge.conf;
	location / {
		return 301 https://$host$request_uri;
	}
}
`, strings.Join(names, " "))
	bodies := []string{discovery() + nothing, nothing, discovery() + web(c.Domain), admin(c.Allow)}
	for i, name := range names {
		pair, ok := c.Certificates[name]
		if !ok {
			return nil, fmt.Errorf("rendering sites: %s has no certificate", name)
		}
		fmt.Fprintf(&b, `
server {
	listen 443 ssl;
	listen [::]:443 ssl;
	http2 on;
	server_name %s;
	access_log /var/log/nginx/access.log prose;
	ssl_certificate %s;
	ssl_certificate_key %s;
	include /etc/nginx/snippets/prose-tls.conf;
%s}
`, name, pair.Chain, pair.Key, bodies[i])
	}
	return []byte(b.String()), nil
}

// nothing answers for a name that only XMPP needs.
const nothing = `	location / {
		return 404;
	}
`

// discovery answers any web page: XEP-0156, section 4. A website that has the
// domain's own name may send them on to the web app's.
func discovery() string {
	return fmt.Sprintf(`	location = /.well-known/host-meta {
		root %[1]s;
		try_files /host-meta =404;
		default_type application/xrd+xml;
		add_header Access-Control-Allow-Origin * always;
	}
	location = /.well-known/host-meta.json {
		root %[1]s;
		try_files /host-meta.json =404;
		default_type application/json;
		types {}
		add_header Access-Control-Allow-Origin * always;
	}
`, WellKnown)
}

func web(domain string) string {
	return fmt.Sprintf(`	add_header Strict-Transport-Security max-age=31536000 always;
	location / {
		include /etc/nginx/snippets/prose-proxy.conf;
		proxy_set_header Host %[1]s;
		proxy_pass http://%[2]s;
	}
	location /websocket {
		include /etc/nginx/snippets/prose-proxy.conf;
		proxy_set_header Host %[1]s;
		proxy_set_header Upgrade $http_upgrade;
		proxy_set_header Connection $prose_connection;
		proxy_connect_timeout 5s;
		proxy_read_timeout 900s;
		proxy_send_timeout 900s;
		proxy_hide_header X-Powered-By;
		client_max_body_size 2m;
		proxy_pass http://%[3]s/xmpp-websocket;
	}
	location /upload/ {
		include /etc/nginx/snippets/prose-proxy.conf;
		# The component's name in Prosody, the same on every machine.
		proxy_set_header Host upload.prose.local;
		proxy_buffering off;
		proxy_request_buffering off;
		proxy_read_timeout 60s;
		proxy_send_timeout 300s;
		client_max_body_size 20m;
		proxy_pass http://%[3]s;
	}
`, domain, webApp, prosody)
}

// A route of upstream's API that answers without credentials and changes who owns
// the Pod; below /api/, also below v1. With methods that are not in open it needs
// the claim.
type route struct{ name, open string }

var guarded = []route{
	{"init", "GET|HEAD|OPTIONS"},
	{"workspace", "GET|HEAD|OPTIONS|PATCH"}, // PATCH is for administrators
}

// governed are routes below guarded ones on which the API wants an administrator.
var governed = []string{"workspace/name", "workspace/icon", "workspace/accent-color"}

// admin is the dashboard. The machine itself always gets to the door.
func admin(allow []netip.Prefix) string {
	var b strings.Builder
	for _, p := range allow {
		fmt.Fprintf(&b, "\tallow %s;\n", p)
	}
	if len(allow) > 0 {
		b.WriteString("\tallow 127.0.0.1;\n\tallow ::1;\n\tdeny all;\n")
	}
	b.WriteString(`	add_header Strict-Transport-Security max-age=31536000 always;
	error_page 401 = @locked;
	error_page 403 = @elsewhere;
	error_page 500 = @away;
`)
	// proxy_pass with a path sends NGINX's normalised one, escaped again.
	pass := func(match, path, asks string) {
		fmt.Fprintf(&b, `	location %[1]s %[2]s {
		auth_request /-/%[3]s;
		include /etc/nginx/snippets/prose-proxy.conf;
		proxy_set_header Host $host;
		proxy_pass http://%[4]s%[2]s;
	}
`, match, path, asks, dashboard)
	}
	pass("^~", "/", "account")
	for _, version := range []string{"", "v1/"} {
		for _, r := range guarded {
			pass("^~", "/api/"+version+r.name, r.name)
		}
		for _, name := range governed {
			pass("=", "/api/"+version+name, "account")
		}
	}
	for _, r := range guarded {
		fmt.Fprintf(&b, `	location = /-/%s {
		internal;
		if ($request_method ~ ^(%s)$) {
			rewrite ^ /-/account last;
		}
		rewrite ^ /-/claim last;
	}
`, r.name, r.open)
	}
	for _, asks := range []string{"account", "claim"} {
		fmt.Fprintf(&b, `	location = /-/%[1]s {
		internal;
		proxy_pass_request_body off;
		proxy_set_header Content-Length "";
		proxy_set_header Authorization "";
		proxy_read_timeout 20s;
		proxy_pass http://%[2]s:/check/%[1]s;
	}
`, asks, doorSocket)
	}
	fmt.Fprintf(&b, `	location ^~ /claim/ {
		limit_req zone=prose_claim burst=5 nodelay;
		proxy_set_header Host $host;
		proxy_read_timeout 20s;
		proxy_pass http://%s;
	}
	location @locked {
		default_type text/plain;
		return 403 "This Pod is locked. Open the one-time link that its console shows, or ask for a new one there: prose-firstboot link\n";
	}
	location @elsewhere {
		default_type text/plain;
		return 403 "This dashboard is open to some networks only, and yours is none of them.\\n";
	}
	location @away {
		default_type text/plain;
		return 503 "This Pod does not answer now, so its dashboard is closed. Try again in a minute.\n";
	}
`, doorSocket)
	return b.String()
}

// HostMeta are the discovery files: where browsers find the XMPP server.
// XEP-0156, sections 3.1 and 3.2.
func HostMeta(domain string) (xml, json []byte) {
	url := "wss://prose." + domain + "/websocket/"
	xml = fmt.Appendf(nil, `<?xml version="1.0" encoding="utf-8"?>
<XRD xmlns="http://docs.oasis-open.org/ns/xri/xrd-1.0">
  <Link rel="urn:xmpp:alt-connections:websocket" href="%s"/>
</XRD>
`, url)
	json = fmt.Appendf(nil, `{"links":[{"rel":"urn:xmpp:alt-connections:websocket","href":"%s"}]}`+"\n", url)
	return xml, json
}
