look prose.service docker.service
mkdir -p /run/systemd/system/prose.service.d
printf '[Unit]\nDefaultDependencies=no\n' > /run/systemd/system/prose.service.d/test.conf
cat > /run/systemd/system/images.service <<'EOF'
[Unit]
DefaultDependencies=no
Requires=docker.service
After=docker.service
Before=prose.service
[Service]
Type=oneshot
ExecStart=/bin/sh /run/images.sh
EOF
mkdir /run/systemd/system/look.service.wants
ln -s ../images.service /run/systemd/system/look.service.wants/
cat > /run/images.sh <<'EOF'
tar --create --directory /usr/local/bin peer | docker import --change 'ENTRYPOINT ["/peer"]' --change 'CMD ["listen","5222","5269","5280","8080"]' - peer
for i in prose-pod-server:0.4.3 prose-pod-api:0.20.0 prose-pod-dashboard:0.3.2 prose-app-web:0.14.1; do
	docker tag peer proseim/$i
done
EOF
cat > /run/look.sh <<'EOF'
state() { echo "$1 $(systemctl show --property ActiveState --value $2) $(systemctl show --property Result --value $2)"; }
running() { echo "running $(docker ps --quiet | wc -l)"; }
switch() { if [ -d /run/prose ]; then echo switched on; else echo switched off; fi; }
# In the place of the agent.
up() { cd /usr/lib/prose/pod && docker compose --project-directory . --env-file compose.env -f compose.yaml -f compose.override.yaml -f compose.images.yaml up --detach --quiet-pull 2>/dev/null; cd /; }
for u in prose-walls containerd docker prose; do state unit:$u $u.service; done
switch
up
running
/usr/local/bin/peer get http://127.0.0.1:8080/
systemctl stop prose.service
state stopped:prose prose.service
running
switch
systemctl start prose.service
switch
up
running
# Debian's package starts the engine again after an upgrade: the Pod stays.
systemctl restart docker.service
state restarted:prose prose.service
running
# Without the walls, no containers.
systemctl stop prose-walls.service
state walled:docker docker.service
systemctl start docker.service
state walled:walls prose-walls.service
nft list table inet prose >/dev/null && echo walls stand
systemctl kill --signal KILL docker.service containerd.service
for i in $(seq 100); do sleep 0.2; docker ps >/dev/null 2>&1 && break; done
state killed:docker docker.service
docker rm --force $(docker ps --all --quiet) >/dev/null
EOF
echo 'services: {}' > /usr/lib/prose/pod/compose.images.yaml

