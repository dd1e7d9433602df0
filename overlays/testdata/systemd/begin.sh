# What a real systemd needs to start some units with all that they require, and
# nothing else: no basic system, no devices, and the machine's own kernel settings
# out of reach. What look.service looks at is in /looked.
set -e
mkdir -p /var/lib/docker /var/lib/containerd /run/look
mount -t tmpfs tmpfs /var/lib/docker
mount -t tmpfs tmpfs /var/lib/containerd

mount -t tmpfs tmpfs /dev
for d in null:3 zero:5 full:7 random:8 urandom:9; do mknod -m 666 /dev/${d%:*} c 1 ${d#*:}; done
mkdir /dev/pts /dev/shm
mount -t devpts -o newinstance,ptmxmode=0666 devpts /dev/pts
ln -s pts/ptmx /dev/ptmx
: > /dev/console
ln -s /proc/self/fd /dev/fd

mount --bind /proc/sys/net /proc/sys/net
mount --bind /proc/sys /run/look
mount --bind /proc/sys/net /run/look/net
mount -o remount,bind,ro /run/look
mount --rbind /run/look /proc/sys

mkdir -p /run/systemd/system
# look UNIT...: what is looked at, by /run/look.sh.
look() {
	cat > /run/systemd/system/look.service <<EOF
[Unit]
DefaultDependencies=no
Wants=$*
After=$*
SuccessAction=exit-force
FailureAction=exit-force
[Service]
Type=oneshot
TimeoutStartSec=3min
StandardOutput=file:/looked
StandardError=inherit
ExecStart=/bin/sh /run/look.sh
EOF
}

