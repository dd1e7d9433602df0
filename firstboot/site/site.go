// Package site renders what NGINX serves for a domain: one file of
// configuration, and the host-meta files of RFC 7395 discovery. It is pure: the
// agent writes the files, tests them and reloads NGINX.
//
// The door. Upstream lets the first visitor become administrator. Until the
// first account exists everything under admin.prose.DOMAIN asks the door; in
// every state the routes that make one, name the workspace or reload the API do
// so for every method that is not GET, HEAD or OPTIONS. Locations match NGINX's
// normalised path, and what is passed on is that path, so a spelling that gets
// past a location does not mean the route behind it.
package site

import (
	"fmt"
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
	Locked       bool            // no account exists yet: the dashboard asks the door for everything
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
	bodies := []string{discovery() + nothing, nothing, discovery() + web(c.Domain), admin(c.Locked)}
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

// guarded are the routes of upstream's API that answer without credentials and
// change who owns the Pod, each also below v1.
var guarded = []string{"init", "workspace", "reload"}

func admin(locked bool) string {
	all, write := "", "\t\tauth_request /-/door-write;\n"
	if locked {
		all, write = "\t\tauth_request /-/door;\n", "\t\tauth_request /-/door;\n"
	}
	var b strings.Builder
	b.WriteString("\tadd_header Strict-Transport-Security max-age=31536000 always;\n\terror_page 401 403 = @locked;\n")
	// proxy_pass with a path sends NGINX's normalised one, escaped again.
	pass := func(location, guard string) {
		fmt.Fprintf(&b, `	location ^~ %[1]s {
%[2]s		include /etc/nginx/snippets/prose-proxy.conf;
		proxy_set_header Host $host;
		proxy_pass http://%[3]s%[1]s;
	}
`, location, guard, dashboard)
	}
	pass("/", all)
	for _, version := range []string{"", "v1/"} {
		for _, route := range guarded {
			pass("/api/"+version+route, write)
		}
	}
	fmt.Fprintf(&b, `	location ^~ /claim/ {
		limit_req zone=prose_claim burst=5 nodelay;
		proxy_set_header Host $host;
		proxy_pass http://%[1]s;
	}
	location = /-/door {
		internal;
		proxy_pass_request_body off;
		proxy_set_header Content-Length "";
		proxy_pass http://%[1]s:/check;
	}
	location = /-/door-write {
		internal;
		if ($request_method ~ ^(GET|HEAD|OPTIONS)$) {
			return 204;
		}
		proxy_pass_request_body off;
		proxy_set_header Content-Length "";
		proxy_pass http://%[1]s:/check;
	}
	location @locked {
		default_type text/plain;
		return 403 "This Pod is locked. Open the one-time link that its console shows, or ask for a new one there: prose-firstboot link\\n";
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
