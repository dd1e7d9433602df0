#!/bin/bash
# The guide's commands in the guide's order, as a careful person would let
# cloud-init run them on a server that has the packages already:
#
#   guide DOMAIN DIRECTORY
#
# DIRECTORY is the authority's. What the guide fetches with curl lies in
# /opt/prose, so that no network is measured. The steps are logged for the
# timeline.
set -euo pipefail
YOUR_DOMAIN=$1 ACME=$2
PROSE_FILES=file:///opt/prose
export REQUESTS_CA_BUNDLE=/etc/ssl/certs/ca-certificates.crt
step() { logger -t guide "$*"; }

step "begins"
# The test's authority, as a public one would be trusted.
update-ca-certificates

# Step 2: the user.
addgroup --gid 1001 prose
adduser --uid 1001 --gid 1001 --disabled-password --no-create-home --gecos Prose prose

# Step 3: files and directories. /var/lib/prose-pod-server is from the guide's
# later edition: without it the server does not start.
install -o prose -g prose -m 750 -d /var/lib/{prose-pod-api,prose-pod-server,prosody} /etc/{prose,prosody} /etc/prosody/certs
install -o prose -g prose -m 640 -T /dev/null /var/lib/prose-pod-api/database.sqlite
install -o prose -g prose -m 600 -T /dev/null /etc/prose/prose.env
curl -sSL "$PROSE_FILES"/templates/prose.toml | sed s/'{your_domain}'/"$YOUR_DOMAIN"/g >/etc/prose/prose.toml
chown prose:prose /etc/prose/prose.toml

# Certificates for XMPP. NGINX has port 80 already, so certbot answers through
# it where the guide, which installs NGINX later, says --standalone.
step "asks for the first certificate"
certbot=(certbot --nginx --non-interactive --agree-tos --register-unsafely-without-email --server "$ACME")
"${certbot[@]}" certonly -d "$YOUR_DOMAIN" -d "groups.$YOUR_DOMAIN"
rsync -aL --chown=prose:prose /etc/{letsencrypt/live,prosody/certs}/
sed -i "/^\[renewalparams\]/a post_hook = /bin/bash -c 'rsync -aL --chown=prose:prose /etc/{letsencrypt/live,prosody/certs}/'" "/etc/letsencrypt/renewal/$YOUR_DOMAIN.conf"

# Run the Pod. The images come from an archive, where the guide pulls them.
step "loads the images"
usermod -aG docker prose
docker load --quiet --input /opt/prose/images.tar
step "starts the Pod"
curl -sSL "$PROSE_FILES"/compose.yaml -o /etc/prose/compose.yaml
chown prose:prose /etc/prose/compose.yaml
curl -sSL "$PROSE_FILES"/templates/prose.service -o /etc/systemd/system/prose.service
systemctl daemon-reload
systemctl enable prose
systemctl start prose

# Step 4: the reverse proxy, while the containers start.
step "asks for the second certificate"
"${certbot[@]}" certonly -d "prose.$YOUR_DOMAIN" -d "admin.prose.$YOUR_DOMAIN"
step "sets up NGINX"
curl -sSL "$PROSE_FILES"/templates/nginx.conf | sed s/'{your_domain}'/"$YOUR_DOMAIN"/g >"/etc/nginx/sites-available/prose.$YOUR_DOMAIN"
ln -s "/etc/nginx/sites-available/prose.$YOUR_DOMAIN" /etc/nginx/sites-enabled/

# Step 5: discovery.
WWW_ROOT=/var/www/default
mkdir -p "$WWW_ROOT"/.well-known
for file in host-meta host-meta.json; do
	curl -sSL "$PROSE_FILES/templates/$file" | sed s/'{your_domain}'/"$YOUR_DOMAIN"/g >"$WWW_ROOT/.well-known/$file"
done
curl -sSL "$PROSE_FILES"/templates/nginx-well-known.conf | sed s/'{your_domain}'/"$YOUR_DOMAIN"/g >"/etc/nginx/sites-available/$YOUR_DOMAIN"
ln -s "/etc/nginx/sites-available/$YOUR_DOMAIN" /etc/nginx/sites-enabled/
systemctl reload nginx

# Step 6: look, and start again what gave up. The API waits ten seconds for the
# server and no longer; the guide has people look at the logs then.
step "looks at the Pod"
looked=$SECONDS
until curl -sS --fail --max-time 10 http://localhost:8081/api/pod/version; do
	if [ $((SECONDS - looked)) -gt 10 ] && [ -n "$(docker compose -f /etc/prose/compose.yaml ps --quiet --status=exited)" ]; then
		step "starts what has exited"
		docker compose -f /etc/prose/compose.yaml up -d
		looked=$SECONDS
	fi
	if [ $SECONDS -gt 1500 ]; then
		step "gives up"
		exit 1
	fi
	sleep 2
done
step "the Pod answers"
