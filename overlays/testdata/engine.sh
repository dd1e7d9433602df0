# The engine of the image with its configuration, the walls and the default
# bundle, in a machine that has a neighbour. $STOP is the command of
# prose.service, $UP the same with another end. Prints one "WORD RESULT" line for each thing looked at.
set -e
peer=/usr/local/bin/peer
outside="ip netns exec outside"

mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir -p /var/lib/docker /var/lib/containerd
mount -t tmpfs tmpfs /var/lib/docker
mount -t tmpfs tmpfs /var/lib/containerd
mkdir -p /run/containerd /run/docker.test

ip netns add outside
ip link add eth0 type veth peer name eth0 netns outside
ip addr add 198.51.100.1/24 dev eth0
ip addr add 2001:db8::1/64 dev eth0 nodad
ip link set eth0 up
$outside ip link set lo up
$outside ip addr add 198.51.100.2/24 dev eth0
$outside ip addr add 2001:db8::2/64 dev eth0 nodad
$outside ip link set eth0 up
$outside ip addr add 169.254.169.254/32 dev lo
ip route add 169.254.169.254 via 198.51.100.2
$outside $peer listen 80 25 &

wait_for() { # what, command; half a minute
	what=$1
	shift
	for i in $(seq 150); do
		if "$@" >/dev/null 2>&1; then return; fi
		sleep 0.2
	done
	echo "waited in vain for $what"
	cat /run/*.log
	exit 1
}
try() { # name, command
	name=$1
	shift
	if "$@" >/dev/null 2>&1; then echo "$name open"; else echo "$name closed"; fi
}
engine() {
	dockerd --containerd=/run/containerd/containerd.sock --cgroup-parent="$CGROUP" >>/run/dockerd.log 2>&1 &
	engine=$!
	wait_for dockerd docker version
}

nft -f /etc/nftables.d/prose.nft
containerd --config /etc/containerd/prose.toml >/run/containerd.log 2>&1 &
wait_for containerd test -S /run/containerd/containerd.sock
engine

tar --create --directory /usr/local/bin peer | docker import \
	--change 'ENTRYPOINT ["/peer"]' --change 'CMD ["listen","5222","5269","5280","8080"]' \
	--change 'VOLUME /usr/share/prose/' --change 'VOLUME /etc/prosody/' - peer >/dev/null
for i in prose-pod-server:0.4.3 prose-pod-api:0.20.0 prose-pod-dashboard:0.3.2 prose-app-web:0.14.1; do
	docker tag peer proseim/$i
done
echo 'services: {}' > /usr/lib/prose/pod/compose.images.yaml

look() {
	stage=$1
	for s in server api dashboard app; do
		echo "$stage:$s $(docker inspect --format '{{.State.Status}}' prose-$s-1)"
	done
	for u in 127.0.0.1:8080 127.0.0.1:8081 127.0.0.1:5280 127.0.0.1:5222 '[::1]:5222'; do
		try "$stage:machine:$u" $peer get "http://$u/"
	done
	for u in 198.51.100.1:5222 '[2001:db8::1]:5222' 198.51.100.1:8080 198.51.100.1:8081 198.51.100.1:5280 198.51.100.1:5281 198.51.100.1:5269 '[2001:db8::1]:8080'; do
		try "$stage:outside:$u" $outside $peer get "http://$u/"
	done
	for u in 198.51.100.2:25 '[2001:db8::2]:25' 169.254.169.254:80; do
		try "$stage:container:$u" docker exec prose-server-1 /peer get "http://$u/"
	done
	try "$stage:container:peer" docker exec prose-server-1 /peer get http://prose-pod-api:8080/
}

$UP >/run/compose.log 2>&1 || { cat /run/compose.log /run/dockerd.log; exit 1; }
look up
docker network inspect --format '{{range .IPAM.Config}}{{.Subnet}} {{end}}' prose_prose-network prose_default | sed 's/^/subnet /'
docker inspect --format '{{.Name}} log {{.HostConfig.LogConfig.Type}} {{index .HostConfig.LogConfig.Config "max-size"}} {{index .HostConfig.LogConfig.Config "max-file"}}' prose-server-1
docker inspect --format 'caps {{.Name}} {{.HostConfig.CapDrop}} {{.HostConfig.SecurityOpt}} {{.HostConfig.RestartPolicy.Name}}' prose-server-1 prose-app-1

# A new daemon finds the Pod as it was.
before=$(docker inspect --format '{{.State.StartedAt}}' prose-server-1 prose-api-1 prose-dashboard-1 prose-app-1)
kill $engine
wait $engine || true
try away:outside:198.51.100.1:5222 $outside $peer get http://198.51.100.1:5222/
engine
[ "$before" = "$(docker inspect --format '{{.State.StartedAt}}' prose-server-1 prose-api-1 prose-dashboard-1 prose-app-1)" ] && echo "restarted none"
look again

# A container that dies comes back by itself.
docker exec prose-api-1 /peer get http://127.0.0.1:8080/ >/dev/null
kill -9 "$(docker inspect --format '{{.State.Pid}}' prose-api-1)"
wait_for "api to come back" docker exec prose-api-1 /peer get http://127.0.0.1:8080/
echo "killed back"

# Down for a reboot, up again, and again from nothing: no volume is left behind.
$STOP >/run/compose.log 2>&1
echo "stopped $(docker ps --quiet | wc -l)"
$UP >/run/compose.log 2>&1
echo "up $(docker ps --quiet | wc -l)"
for i in 1 2; do
	docker rm --force prose-server-1 prose-api-1 prose-dashboard-1 prose-app-1 >/dev/null
	$UP >/run/compose.log 2>&1
done
docker inspect --format '{{range .Mounts}}{{if eq .Type "volume"}}volume {{.Name}}{{"\n"}}{{end}}{{end}}' prose-server-1 | grep volume | sed 's/[0-9a-f]\{64\}/anonymous/'
docker rm --force prose-server-1 prose-api-1 prose-dashboard-1 prose-app-1 >/dev/null
