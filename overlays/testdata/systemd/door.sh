look prose-door.socket pod.service
# Or credentials do not get from where they are mounted to the service.
mount --make-rshared /
# The Pod, as far as the door asks it: an account exists.
cat > /run/systemd/system/pod.service <<'EOF'
[Unit]
DefaultDependencies=no
[Service]
Type=exec
ExecStart=/usr/local/bin/peer listen 8081
EOF
for u in socket service; do
	mkdir -p /run/systemd/system/prose-door.$u.d
	printf '[Unit]\nDefaultDependencies=no\n' > /run/systemd/system/prose-door.$u.d/test.conf
done
head -c 32 /dev/urandom > /var/lib/prose-firstboot/door.key
chmod 600 /var/lib/prose-firstboot/door.key
cat > /run/look.sh <<'EOF'
ask() { echo "$1 $(curl --silent --max-time 10 --output /dev/null --write-out '%{http_code}' --unix-socket /run/prose-door.sock http://door/check/${2:-account})"; }
ask begins
ask stranger claim
# Killed again and again it is there for the next request.
for i in $(seq 8); do systemctl kill --signal KILL prose-door.service; ask killed; done | sort -u
systemctl stop pod.service
ask away
systemctl start pod.service
ask back
ls /var/lib/prose-door
# As the agent mends it.
rm /run/prose-door.sock
ask gone
systemctl stop prose-door.socket prose-door.service && systemctl start prose-door.socket
ask mended
# Without its key it does not start, and comes back with it.
systemctl kill --signal KILL prose-door.service
mv /var/lib/prose-firstboot/door.key /run/
for i in $(seq 2); do ask keyless; done | sort -u
mv /run/door.key /var/lib/prose-firstboot/
ask keyed
# Nobody but NGINX asks it.
setpriv --reuid 1001 --regid 1001 --clear-groups curl --silent --unix-socket /run/prose-door.sock http://door/check/account || echo uid 1001 is refused
setpriv --reuid 33 --regid 33 --clear-groups curl --silent --unix-socket /run/prose-door.sock http://door/check/account && echo NGINX is not
EOF

