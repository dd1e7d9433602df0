# A machine, a container on its bridge, and the world outside, as network
# namespaces. Prints "open NAME" or "closed NAME" for each connection tried.
set -e
outside="ip netns exec outside"
container="ip netns exec container"
ip netns add outside
ip netns add container

ip link add eth0 type veth peer name eth0 netns outside
ip addr add 198.51.100.1/24 dev eth0
ip addr add 2001:db8::1/64 dev eth0 nodad
ip link set eth0 up
$outside ip addr add 198.51.100.2/24 dev eth0
$outside ip addr add 2001:db8::2/64 dev eth0 nodad
$outside ip link set eth0 up
$outside ip link set lo up

# Metadata services answer on the link, as in clouds.
for a in 169.254.169.254 169.254.42.42 168.63.129.16; do
	$outside ip addr add $a/32 dev lo
	ip route add $a via 198.51.100.2
done
for a in fd00:ec2::254 fd00:42::42 fd00:a9fe:a9fe::1 fd00:c1::a9fe:a9fe fd20:ce::254; do
	$outside ip addr add $a/128 dev lo nodad
	ip route add $a via 2001:db8::2
done

ip link add br-0123456789ab type bridge
ip addr add 172.24.0.1/24 dev br-0123456789ab
ip addr add fd6c:9d1e:5a2b:7000::1/64 dev br-0123456789ab nodad
ip link set br-0123456789ab up
ip link add veth1 type veth peer name eth0 netns container
ip link set veth1 master br-0123456789ab up
$container ip addr add 172.24.0.2/24 dev eth0
$container ip addr add fd6c:9d1e:5a2b:7000::2/64 dev eth0 nodad
$container ip link set eth0 up
$container ip link set lo up
$container ip route add default via 172.24.0.1
$container ip route add default via fd6c:9d1e:5a2b:7000::1
echo 1 > /proc/sys/net/ipv4/ip_forward
echo 1 > /proc/sys/net/ipv6/conf/all/forwarding
# A neighbour on the link may route straight to the container. For IPv6 such a
# route is only there at first: later an answer needs the masquerade.
$outside ip route add 172.24.0.0/24 via 198.51.100.1
$outside ip route add fd6c:9d1e:5a2b:7000::/64 via 2001:db8::1

# As Docker publishes: some on the same port, one on another.
nft -f - <<'EOF'
table ip docker {
	chain prerouting {
		type nat hook prerouting priority dstnat;
		iifname "eth0" tcp dport { 5222, 5269, 9000 } dnat to 172.24.0.2
		iifname "eth0" tcp dport 8448 dnat to 172.24.0.2:9000
	}
	chain postrouting {
		type nat hook postrouting priority srcnat;
		ip saddr 172.24.0.0/24 oifname "eth0" masquerade
	}
}
EOF

for p in 22 80 443 8080 5222; do
	nc -lk 0.0.0.0 $p </dev/null >/dev/null 2>&1 &
	nc -6 -lk :: $p </dev/null >/dev/null 2>&1 &
done
for p in 5222 5269 9000; do $container nc -lk 0.0.0.0 $p </dev/null >/dev/null 2>&1 & done
for p in 25 80; do
	$outside nc -lk 0.0.0.0 $p </dev/null >/dev/null 2>&1 &
	$outside nc -6 -lk :: $p </dev/null >/dev/null 2>&1 &
done
sleep 1

connect() { # name, command that connects
	name=$1
	shift
	if "$@" >/dev/null 2>&1; then echo "open $stage $name"; else echo "closed $stage $name"; fi
}
try() {
	connect "$@" &
	tries="$tries $!"
}
look() { # all at once: what is closed answers by not answering
	stage=$1
	tries=
	for p in 22 80 443 5222 5269 8080 8448 9000; do
		try "outside4:$p" $outside nc -z -w 2 198.51.100.1 $p
	done
	for p in 22 80 443 5222 8080; do
		try "outside6:$p" $outside nc -z -w 2 2001:db8::1 $p
	done
	try outside4:direct $outside nc -z -w 2 172.24.0.2 9000
	try outside4:ping $outside ping -c 1 -W 2 198.51.100.1
	try outside6:ping $outside ping -c 1 -W 2 2001:db8::1
	try machine4:metadata nc -z -w 2 169.254.169.254 80
	try machine4:25 nc -z -w 2 198.51.100.2 25
	try container4:25 $container nc -z -w 2 198.51.100.2 25
	try container6:25 $container nc -z -w 2 2001:db8::2 25
	try container4:machine22 $container nc -z -w 2 172.24.0.1 22
	try container4:machine443 $container nc -z -w 2 198.51.100.1 443
	for a in 169.254.169.254 169.254.42.42 168.63.129.16 fd00:ec2::254 fd00:42::42 fd00:a9fe:a9fe::1 fd00:c1::a9fe:a9fe fd20:ce::254; do
		try "container:$a" $container nc -z -w 2 $a 80
	done
	wait $tries
}

look before
$outside ip route del fd6c:9d1e:5a2b:7000::/64
nft -f /etc/nftables.d/prose.nft
look walls
echo 'add element inet prose federation { 5269 }' > /etc/nftables.d/prose.d/federation.nft
echo 'add element inet prose open_tcp { 8448 }' > /etc/nftables.d/prose.d/own.nft
nft -f /etc/nftables.d/prose.nft
rm /etc/nftables.d/prose.d/*.nft
look federated
# As the agent writes it, with networks that overlap.
cat > /etc/nftables.d/prose.d/00-settings.nft <<'EOF'
add element inet prose ssh_listed { 22 }
add element inet prose ssh4 { 203.0.113.0/24 }
add element inet prose ssh6 { 2001:db8::/32 }
add element inet prose ssh6 { 2001:db8::2/128 }
EOF
nft -f /etc/nftables.d/prose.nft
look listed
cat > /etc/nftables.d/prose.d/00-settings.nft <<'EOF'
add element inet prose ssh_listed { 22 }
add element inet prose ssh4 { 198.51.100.2/32 }
add element inet prose ssh4 { 0.0.0.0/0 }
EOF
nft -f /etc/nftables.d/prose.nft
look other
rm /etc/nftables.d/prose.d/*.nft
nft list table ip docker | grep -q masquerade && echo open docker table
