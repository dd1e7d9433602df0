package overlays

import (
	"strings"
	"testing"
)

// NGINX as baked, started, before the agent has written anything and after.
func TestNginx(t *testing.T) {
	out := mustRun(t, `set -e
nginx -t
nginx
get() { curl --silent --show-error --max-time 5 --output /run/body --write-out "$1 %{http_code} %{content_type} %{redirect_url}\n" "$2" 2>&1 || true; }
get page http://127.0.0.1/
grep -q 'waiting for its domain' /run/body && echo page begins
get page6 'http://[::1]/'
get other http://127.0.0.1/etc/passwd
get claim http://127.0.0.1/claim/s3cret
get query 'http://127.0.0.1/x?token=s3cret'
get none http://127.0.0.1/.well-known/acme-challenge/absent
get list http://127.0.0.1/.well-known/acme-challenge/
cd /var/lib/prose-firstboot
echo proof > www/challenge/token
get token http://127.0.0.1/.well-known/acme-challenge/token
cat /run/body
get dots http://127.0.0.1/.well-known/acme-challenge/..%2f..%2fstate.json
echo 'agent says' > www/status/index.html
get status http://127.0.0.1/
cat /run/body
get tls https://127.0.0.1/
curl --silent --head http://127.0.0.1/ | grep -i -e content-security -e cache-control
# The agent's sites are read.
echo 'server { listen 80; server_name admin.example; access_log /var/log/nginx/access.log prose; include snippets/prose-challenge.conf; location / { include snippets/prose-proxy.conf; proxy_pass http://127.0.0.1:1; } }' > nginx/site.conf
nginx -s reload; sleep 1
curl --silent --output /dev/null --write-out 'site %{http_code}\n' --header 'Host: admin.example' http://127.0.0.1/
curl --silent --header 'Host: admin.example' http://127.0.0.1/.well-known/acme-challenge/token
# No worker of NGINX reads what is root's.
install -m 600 /dev/null state.json
setpriv --reuid 33 --regid 33 --clear-groups sh -c 'cat www/challenge/token >/dev/null && echo www reads; ls . nginx state.json 2>&1' || true
setpriv --reuid 1001 --regid 1001 --clear-groups sh -c 'ls www 2>&1' || true
nginx -s quit
echo secrets in the log: $(grep -c s3cret /var/log/nginx/access.log)
rm -r www/challenge/token www/status/index.html nginx/site.conf state.json /var/log/nginx/*.log`)
	for _, want := range []string{
		"page 200 text/html", "page begins", "page6 200 text/html",
		"other 302", "claim 302", "query 302",
		"none 404", "token 200 text/plain", "\nproof\n",
		"status 200 text/html", "\nagent says\n",
		"tlsv1 unrecognized name", "tls 000",
		"Content-Security-Policy: default-src 'none'", "Cache-Control: no-store",
		"site 502\nproof\n",
		"www reads\n", "cannot open directory '.'", "cannot open directory 'nginx'",
		"cannot access 'www'",
		"secrets in the log: 0",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("missing: %q", want)
		}
	}
	for _, bad := range []string{"list 200", "dots 200"} {
		if strings.Contains(out, bad) {
			t.Errorf("there is: %q", bad)
		}
	}
	if t.Failed() {
		t.Log(out)
	}
}
